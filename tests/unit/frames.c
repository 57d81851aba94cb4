/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames for the tests of the packet parser.  A family adds its frames
 * together with the expectation; the rules are written here once more, per
 * family, from the RFCs and not from the parser.
 */
#include "tests/unit/frames.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

/* ---- builders ---- */

static void put(struct frame *f, uint32_t v, unsigned int bytes)
{
	assert(f->len + bytes <= sizeof(f->b));
	while (bytes--)
		f->b[f->len++] = (uint8_t)(v >> 8 * bytes);
}

static void put_zeros(struct frame *f, uint32_t n)
{
	for (; n; n--)
		put(f, 0, 1);
}

/* ihl: the field; the header is 20 bytes and options. */
void put_ipv4(struct frame *f, uint8_t ihl, uint8_t proto, uint16_t fragment,
	      uint32_t options)
{
	put(f, 0x40u | ihl, 1);
	put(f, 0, 1);
	put(f, 0, 2); /* total length: set_length() */
	put(f, 0x1234, 2);
	put(f, fragment, 2);
	put(f, 64, 1);
	put(f, proto, 1);
	put(f, 0, 2);
	put(f, 0x0a010203, 4);
	put(f, 0x0a040506, 4);
	put_zeros(f, options);
}

void put_ipv6(struct frame *f, uint8_t next)
{
	put(f, 0x60000000, 4);
	put(f, 0, 2); /* payload length: set_length() */
	put(f, next, 1);
	put(f, 64, 1);
	put(f, 0x20010db8, 4);
	put_zeros(f, 11);
	put(f, 1, 1);
	put(f, 0x20010db8, 4);
	put_zeros(f, 11);
	put(f, 2, 1);
}

static void set_be16(struct frame *f, uint32_t at, uint32_t v)
{
	f->b[at] = (uint8_t)(v >> 8);
	f->b[at + 1] = (uint8_t)v;
}

/* The right total or payload length for the frame as it is. */
void set_length(struct frame *f)
{
	if (f->b[0] >> 4 == 4)
		set_be16(f, 2, f->len);
	else
		set_be16(f, 4, f->len - 40);
}

/* Options-like extension header (hop-by-hop, routing, destination). */
void put_extension(struct frame *f, uint8_t next, uint32_t bytes)
{
	put(f, next, 1);
	put(f, bytes / 8 - 1, 1);
	put_zeros(f, bytes - 2);
}

void put_ah(struct frame *f, uint8_t next, uint32_t bytes)
{
	put(f, next, 1);
	put(f, bytes / 4 - 2, 1);
	put_zeros(f, bytes - 2);
}

void put_fragment(struct frame *f, uint8_t next, uint16_t offset_flags)
{
	put(f, next, 1);
	put(f, 0, 1);
	put(f, offset_flags, 2);
	put(f, 0xdeadbeef, 4);
}

/* 40 bytes that begin with the ports; data offset as TCP has it. */
void put_payload(struct frame *f, uint8_t data_offset)
{
	put(f, SPORT, 2);
	put(f, DPORT, 2);
	put_zeros(f, 8);
	put(f, (uint32_t)data_offset << 4, 1);
	put(f, 0x18, 1);
	put_zeros(f, 26);
}

/* ---- the table ---- */

static struct row *add(struct table *t, uint8_t family, uint8_t proto,
		       uint32_t need, const char *name, int n)
{
	struct row *r = &t->row[t->n++];

	assert(t->n <= ROWS_MAX);
	*r = (struct row){ .family = family, .proto = proto, .need = need };
	snprintf(r->name, sizeof(r->name), "%s %d, IPv%d, protocol %d", name, n,
		 family, proto);
	return r;
}

static const struct {
	uint8_t number;
	bool ports;
} protos[] = {
	{ 6, true },    /* TCP */
	{ 17, true },   /* UDP */
	{ 136, true },  /* UDP-Lite */
	{ 132, true },  /* SCTP */
	{ 33, true },   /* DCCP */
	{ 1, false },   /* ICMP */
	{ 2, false },   /* IGMP */
	{ 4, false },   /* IPIP */
	{ 41, false },  /* IPv6 inside */
	{ 47, false },  /* GRE */
	{ 50, false },  /* ESP */
	{ 58, false },  /* ICMPv6 */
	{ 59, false },  /* no next header */
	{ 89, false },  /* OSPF */
	{ 112, false }, /* VRRP */
	{ 135, false }, /* mobility */
	{ 255, false },
};

static void add_protocols(struct table *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		uint32_t ports = protos[i].ports ? 4 : 0;
		struct row *r;

		r = add(t, 4, protos[i].number, 20 + ports, "plain", 0);
		put_ipv4(&r->f, 5, r->proto, 0x4000, 0);
		put_payload(&r->f, 5);
		set_length(&r->f);
		r->ports = protos[i].ports;

		r = add(t, 6, protos[i].number, 40 + ports, "plain", 0);
		put_ipv6(&r->f, r->proto);
		put_payload(&r->f, 5);
		set_length(&r->f);
		r->ports = protos[i].ports;
	}
	/* extensions of IPv6 are protocols like others in IPv4 */
	for (int i = 0; i < 5; i++) {
		static const uint8_t ext[] = { 0, 43, 44, 51, 60 };
		struct row *r = add(t, 4, ext[i], 20, "extension", 0);

		put_ipv4(&r->f, 5, r->proto, 0, 0);
		put_payload(&r->f, 5);
		set_length(&r->f);
	}
}

/* offset in units of 8 bytes; later: not the first */
static const struct {
	uint16_t offset;
	bool more, flag, later;
} fragments[] = {
	{ 0, true, true, false },   /* first */
	{ 185, true, true, true },  /* middle */
	{ 370, false, true, true }, /* last */
	{ 1, false, true, true },   /* overlaps the transport header */
	{ 0x1fff, true, true, true }, { 0x1000, false, true, true },
	{ 0, false, false, false }, /* unfragmented; IPv6: atomic */
};

static void add_fragments(struct table *t, size_t i, size_t j)
{
	bool ports = protos[i].ports && !fragments[j].later;
	uint16_t offset = fragments[j].offset, more = fragments[j].more;
	struct row *r;

	r = add(t, 4, protos[i].number, ports ? 24 : 20, "fragment", (int)j);
	put_ipv4(&r->f, 5, r->proto, (uint16_t)(more << 13 | offset), 0);
	put_payload(&r->f, 5);
	set_length(&r->f);
	r->ports = ports;
	r->fragment = fragments[j].flag;

	r = add(t, 6, protos[i].number, ports ? 52 : 48, "fragment", (int)j);
	put_ipv6(&r->f, 44);
	put_fragment(&r->f, r->proto, (uint16_t)(offset << 3 | more | 6));
	put_payload(&r->f, 5);
	set_length(&r->f);
	r->ports = ports;
	r->fragment = fragments[j].flag;
}

/* First fragments with n bytes behind the IP header. */
static void add_tiny_fragments(struct table *t)
{
	for (uint32_t n = 0; n <= 16; n += 2) {
		struct row *r;

		r = add(t, 4, 6, n < 4 ? NEVER : 24, "tiny", (int)n);
		put_ipv4(&r->f, 5, 6, 0x2000, 0);
		put_payload(&r->f, 5);
		r->f.len = 20 + n;
		set_length(&r->f);
		r->ports = r->fragment = true;

		r = add(t, 6, 17, n < 4 ? NEVER : 52, "tiny", (int)n);
		put_ipv6(&r->f, 44);
		put_fragment(&r->f, 17, 1);
		put_payload(&r->f, 5);
		r->f.len = 48 + n;
		set_length(&r->f);
		r->ports = r->fragment = true;
	}
}

/* Header length fields 0 to 15. */
static void add_header_lengths(struct table *t)
{
	for (uint8_t i = 0; i < 16; i++) {
		uint32_t options = i > 5 ? (i - 5) * 4u : 0;
		struct row *r;

		r = add(t, 4, 6, i < 5 ? NEVER : i * 4u + 4, "ihl", i);
		put_ipv4(&r->f, i, 6, 0, options);
		put_payload(&r->f, 5);
		set_length(&r->f);
		r->ports = true;

		r = add(t, 4, 1, i < 5 ? NEVER : i * 4u, "ihl", i);
		put_ipv4(&r->f, i, 1, 0, options);
		put_payload(&r->f, 0);
		set_length(&r->f);

		/* says more than there is: 28 bytes are all */
		r = add(t, 4, 1, i < 5 || i > 7 ? NEVER : i * 4u, "ihl long",
			i);
		put_ipv4(&r->f, i, 1, 0, 8);
		set_length(&r->f);

		r = add(t, 4, 6, 24, "data offset", i);
		put_ipv4(&r->f, 5, 6, 0, 0);
		put_payload(&r->f, i);
		set_length(&r->f);
		r->ports = true;

		r = add(t, 6, 6, 44, "data offset", i);
		put_ipv6(&r->f, 6);
		put_payload(&r->f, i);
		set_length(&r->f);
		r->ports = true;
	}
}

/* Frames of 60 and 80 bytes whose length field says something else. */
static void add_total_lengths(struct table *t)
{
	static const uint16_t total[] = { 0,  1,  8,  19, 20, 21,  23,   24,
					  25, 40, 59, 60, 61, 100, 65535 };
	static const uint16_t payload[] = { 0,  1,  2,  3,  4,   5,
					    20, 39, 40, 41, 100, 65535 };
	struct row *r;

	for (size_t i = 0; i < ARRAY_SIZE(total); i++) {
		uint32_t n = total[i];

		r = add(t, 4, 17, n < 24 || n > 60 ? NEVER : 24, "total",
			(int)n);
		put_ipv4(&r->f, 5, 17, 0, 0);
		put_payload(&r->f, 0);
		set_be16(&r->f, 2, n);
		r->ports = true;

		r = add(t, 4, 1, n < 20 || n > 60 ? NEVER : 20, "total",
			(int)n);
		put_ipv4(&r->f, 5, 1, 0, 0);
		put_payload(&r->f, 0);
		set_be16(&r->f, 2, n);
	}
	for (size_t i = 0; i < ARRAY_SIZE(payload); i++) {
		uint32_t n = payload[i];

		r = add(t, 6, 17, n < 4 || n > 40 ? NEVER : 44, "payload",
			(int)n);
		put_ipv6(&r->f, 17);
		put_payload(&r->f, 0);
		set_be16(&r->f, 4, n);
		r->ports = true;

		r = add(t, 6, 58, n > 40 ? NEVER : 40, "payload", (int)n);
		put_ipv6(&r->f, 58);
		put_payload(&r->f, 0);
		set_be16(&r->f, 4, n);
	}
}

/* Chains of n extension headers of one kind, TCP behind. */
static void add_chains(struct table *t)
{
	static const struct {
		uint8_t type, bytes;
	} kind[] = { { 60, 8 }, { 43, 24 }, { 51, 24 }, { 44, 8 }, { 0, 16 } };

	for (size_t k = 0; k < ARRAY_SIZE(kind); k++) {
		for (uint32_t n = 0; n <= 22; n++) {
			uint32_t need = 40 + n * kind[k].bytes + 4;
			struct row *r = add(t, 6, 6, n > 20 ? NEVER : need,
					    "chain", (int)(k * 100 + n));

			put_ipv6(&r->f, n ? kind[k].type : 6);
			for (uint32_t i = 0; i < n; i++) {
				uint8_t next = i + 1 < n ? kind[k].type : 6;

				if (kind[k].type == 51)
					put_ah(&r->f, next, kind[k].bytes);
				else if (kind[k].type == 44)
					put_fragment(&r->f, next, 0);
				else
					put_extension(&r->f, next,
						      kind[k].bytes);
			}
			put_payload(&r->f, 5);
			set_length(&r->f);
			r->ports = true;
		}
	}
}

static void add_odd_extensions(struct table *t)
{
	struct row *r;

	r = add(t, 6, 17, 40 + 2048 + 4, "longest extension", 0);
	put_ipv6(&r->f, 60);
	put_extension(&r->f, 17, 2048);
	put_payload(&r->f, 0);
	set_length(&r->f);
	r->ports = true;

	r = add(t, 6, 17, NEVER, "extension beyond the end", 0);
	put_ipv6(&r->f, 60);
	put(&r->f, 17, 1);
	put(&r->f, 255, 1);
	put_zeros(&r->f, 60);
	set_length(&r->f);

	r = add(t, 6, 50, 48, "ESP behind options", 0);
	put_ipv6(&r->f, 60);
	put_extension(&r->f, 50, 8);
	put_payload(&r->f, 0);
	set_length(&r->f);

	r = add(t, 6, 60, 56, "later fragment that goes on", 0);
	put_ipv6(&r->f, 0);
	put_extension(&r->f, 44, 8);
	put_fragment(&r->f, 60, 8);
	put_payload(&r->f, 0);
	set_length(&r->f);
	r->fragment = true;

	r = add(t, 6, 6, 64 + 4, "mixed", 0);
	put_ipv6(&r->f, 0);
	put_extension(&r->f, 43, 8);
	put_extension(&r->f, 44, 8);
	put_fragment(&r->f, 6, 1);
	put_payload(&r->f, 5);
	set_length(&r->f);
	r->ports = r->fragment = true;

	r = add(t, 6, 17, 44 + 8, "smallest AH", 0);
	put_ipv6(&r->f, 51);
	put(&r->f, 17, 1);
	put_zeros(&r->f, 7);
	put_payload(&r->f, 0);
	set_length(&r->f);
	r->ports = true;
}

/* Longer than a length field can say: only its value 0 is possible. */
static void add_giants(struct table *t)
{
	struct row *r;

	for (int i = 0; i < 2; i++) {
		r = add(t, 4, 6, 24, "giant", i);
		put_ipv4(&r->f, 5, 6, 0x4000, 0);
		put_payload(&r->f, 5);
		r->kernel_len = i ? 65536 : 9000;
		r->gso = !i; /* or labelled as a super-packet */
		r->ports = true;

		r = add(t, 6, 6, 44, "giant", i);
		put_ipv6(&r->f, 6);
		put_payload(&r->f, 5);
		r->kernel_len = i ? 65576 : 9000;
		r->gso = !i;
		r->ports = true;
	}
	r = add(t, 4, 6, NEVER, "no giant", 0);
	put_ipv4(&r->f, 5, 6, 0x4000, 0);
	put_payload(&r->f, 5);
	r->kernel_len = 65535;
	r = add(t, 6, 6, NEVER, "no giant", 0);
	put_ipv6(&r->f, 6);
	put_payload(&r->f, 5);
	r->kernel_len = 65575;

	r = add(t, 6, 17, 52, "jumbogram", 0);
	put_ipv6(&r->f, 0);
	put(&r->f, 17, 1);
	put(&r->f, 0, 1);
	put(&r->f, 0xc204, 2);
	put(&r->f, 70000 - 40, 4);
	put_payload(&r->f, 0);
	r->kernel_len = 70000;
	r->ports = true;

	/* shorter than its own header says */
	r = add(t, 4, 6, NEVER, "kernel says less", 0);
	put_ipv4(&r->f, 5, 6, 0, 0);
	put_payload(&r->f, 5);
	set_length(&r->f);
	r->kernel_len = 59;
	r = add(t, 6, 6, NEVER, "kernel says less", 0);
	put_ipv6(&r->f, 6);
	put_payload(&r->f, 5);
	set_length(&r->f);
	r->kernel_len = 79;
}

static void add_versions_and_addresses(struct table *t)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct row *r;

	for (uint8_t v = 0; v < 16; v++) {
		if (v == 4 || v == 6)
			continue;
		r = add(t, 0, 0, NEVER, "version", v);
		put_ipv6(&r->f, 6);
		put_payload(&r->f, 5);
		set_length(&r->f);
		r->f.b[0] = (uint8_t)(v << 4 | 5);
	}
	for (int i = 0; i < 3; i++) {
		r = add(t, 6, 6, NEVER, "mapped", i);
		put_ipv6(&r->f, 6);
		put_payload(&r->f, 5);
		set_length(&r->f);
		if (i != 1)
			memcpy(r->f.b + 8, mapped, sizeof(mapped));
		if (i != 0)
			memcpy(r->f.b + 24, mapped, sizeof(mapped));
	}
	r = add(t, 0, 0, NEVER, "empty", 0);
}

void table_fill(struct table *t)
{
	add_protocols(t);
	for (size_t i = 0; i < 6; i++) {
		for (size_t j = 0; j < ARRAY_SIZE(fragments); j++)
			add_fragments(t, i, j);
	}
	add_tiny_fragments(t);
	add_header_lengths(t);
	add_total_lengths(t);
	add_chains(t);
	add_odd_extensions(t);
	add_giants(t);
	add_versions_and_addresses(t);
	for (size_t i = 0; i < t->n; i++) {
		if (!t->row[i].kernel_len)
			t->row[i].kernel_len = t->row[i].f.len;
	}
}
