/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F1p: any bytes as a packet: parser, keys, filters, protection, estimate of
 * segments, and the text form of keys.
 *
 * Input: 4 bytes length, 2 bytes capture length (little endian), 1 byte flags
 * (1: out, 2: super-packet), 1 byte prefix length, the packet.
 */
#include <stdlib.h>
#include <string.h>

#include "common/filter.h"
#include "common/key.h"
#include "common/segment.h"
#include "common/util.h"

#define HEAD       8
#define AGENT_PORT 8000
#define SSH_PORT   22
#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint32_t len_bytes;
	size_t caplen, size; /* caplen <= size */
	uint8_t dir, gso, prefix_len;
	const uint8_t *bytes;
};

/* Parses from a block of exactly caplen bytes. */
static void parse(struct packet *p, const struct input *in, size_t caplen)
{
	uint8_t *block = malloc(caplen ? caplen : 1);

	MUST(block);
	memcpy(block, in->bytes, caplen);
	p->dir = in->dir;
	p->flags = in->gso | (uint8_t)(p->flags & ~PACKET_GSO);
	packet_parse(p, block, caplen, in->len_bytes);
	MUST(!p->payload || (p->payload >= block && p->payload_len <= caplen &&
			     p->payload + p->payload_len <= block + caplen));
	MUST(p->payload || !p->payload_len);
	free(block);
}

static void check_fields(const struct packet *p, const struct input *in)
{
	bool ports = p->flags & PACKET_PORTS;

	MUST(p->dir == in->dir && (p->flags & PACKET_GSO) == in->gso);
	MUST(p->len_bytes == in->len_bytes && p->segments == 1);
	MUST(p->family == 0 || p->family == 4 || p->family == 6);
	MUST(p->family || p->flags & PACKET_MALFORMED);
	MUST(ports || (!p->sport && !p->dport));
	MUST(!(p->flags & PACKET_TCP) || (ports && p->proto == IPPROTO_TCP));
	if (p->flags & PACKET_MALFORMED)
		return;
	MUST(p->hdr_bytes >= (p->family == 4 ? 20 : 40));
	MUST(addr_is_v4(&p->src) == (p->family == 4));
	MUST(addr_is_v4(&p->dst) == (p->family == 4));
}

static void check_keys(const struct packet *p)
{
	bool malformed = p->flags & PACKET_MALFORMED;

	for (int i = 0; i < KEY_TYPES; i++) {
		enum key_type t = (enum key_type)i;
		struct flow_key a, b;
		char text[KEY_TEXT_LEN];

		if (!key_build(t, p, &a)) {
			MUST(t != KEY_NONE);
			MUST(malformed || !(p->flags & PACKET_PORTS));
			continue;
		}
		MUST(!malformed || t == KEY_NONE);
		key_format(t, &a, text);
		MUST(!key_parse(t, text, strlen(text), &b));
		MUST(!memcmp(&a, &b, sizeof(a)));
		MUST(!key_compare(t, &a, &b));
	}
}

/* Text that anybody may have sent. */
static void check_key_text(const struct input *in)
{
	for (int i = 0; i < KEY_TYPES; i++) {
		enum key_type t = (enum key_type)i;
		struct flow_key a, b;
		char text[KEY_TEXT_LEN];

		if (key_parse(t, (const char *)in->bytes, in->size, &a))
			continue;
		key_format(t, &a, text);
		MUST(!key_parse(t, text, strlen(text), &b));
		MUST(!memcmp(&a, &b, sizeof(a)));
	}
}

static void prefix_of(struct ip_prefix *p, const struct ip_addr *a, uint8_t len)
{
	p->addr = *a;
	p->len = len;
	for (unsigned int i = len; i < 128; i++)
		p->addr.b[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

/* A filter made from a packet matches it, and what covers it does too. */
static void check_filters(const struct packet *p, const struct input *in)
{
	struct filter any = { .dir = p->dir };
	struct filter f = { .dir = p->dir,
			    .family = p->family,
			    .proto = p->proto,
			    .has_src = 1,
			    .has_dst = 1 };
	uint8_t len = in->prefix_len % 129, least = p->family == 4 ? 96 : 0;
	struct filter raw;

	MUST(filter_match(&any, p) && filter_covers(&any, &any));
	if (p->family && !(p->flags & PACKET_MALFORMED)) {
		prefix_of(&f.src, &p->src, MAX(len, least));
		prefix_of(&f.dst, &p->dst, MAX((uint8_t)(128 - len), least));
		if (!filter_normalize(&f)) {
			MUST(filter_valid(&f) && filter_match(&f, p));
			MUST(filter_covers(&any, &f));
		} else { /* ICMP in the other family */
			MUST(p->proto == IPPROTO_ICMP ||
			     p->proto == IPPROTO_ICMPV6);
		}
		f.dir ^= 1;
		MUST(!filter_match(&f, p));
	}

	if (in->size < sizeof(raw))
		return;
	memcpy(&raw, in->bytes, sizeof(raw));
	if (!filter_valid(&raw))
		return;
	f = raw;
	MUST(!filter_normalize(&f) && filter_equal(&f, &raw));
	MUST(filter_covers(&raw, &raw));
	any.dir = raw.dir;
	MUST(filter_covers(&any, &raw));
	MUST(!filter_match(&raw, p) || filter_match(&any, p));
}

static void check_segments(struct packet p)
{
	static const struct hash_key local = { .b = { 7 } };
	struct segment_table *t = malloc(sizeof(*t));

	MUST(t);
	segment_init(t, &local, 1500);
	for (int i = 0; i < 3; i++) {
		segment_estimate(t, &p);
		MUST(p.segments >= 1);
		MUST(p.flags & PACKET_GSO || p.segments == 1);
		MUST(segment_hidden_bytes(&p) <= UINT64_MAX / 2);
		p.flags ^= PACKET_GSO;
	}
	free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet whole, cut;
	struct flow_key a, b;
	struct input in;

	if (size < HEAD)
		return 0;
	in = (struct input){
		.len_bytes = (uint32_t)data[0] | (uint32_t)data[1] << 8 |
			     (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24,
		.caplen = MIN(size - HEAD, data[4] | (size_t)data[5] << 8),
		.size = size - HEAD,
		.dir = data[6] & 1,
		.gso = data[6] & 2 ? PACKET_GSO : 0,
		.prefix_len = data[7],
		.bytes = data + HEAD,
	};

	/* what the structs held before makes no difference */
	memset(&cut, 0, sizeof(cut));
	memset(&whole, 0xff, sizeof(whole));
	parse(&cut, &in, in.caplen);
	parse(&whole, &in, in.size);
	check_fields(&cut, &in);
	check_fields(&whole, &in);
	/* more captured bytes never change a key */
	if (key_build(KEY_FLOW, &cut, &a)) {
		MUST(key_build(KEY_FLOW, &whole, &b));
		MUST(!memcmp(&a, &b, sizeof(a)));
		MUST(packet_protected(&cut, AGENT_PORT, SSH_PORT) ||
		     !packet_protected(&whole, AGENT_PORT, SSH_PORT));
	}
	check_keys(&cut);
	check_keys(&whole);
	check_key_text(&in);
	check_filters(&cut, &in);
	check_segments(whole);
	return 0;
}
