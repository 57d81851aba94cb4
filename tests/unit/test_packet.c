/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packet parser (T20): each frame of frames.h cut at every length from 0
 * to 64 and whole.  Frames lie in blocks of exactly their length, so that a
 * sanitizer sees one byte too many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/key.h"
#include "common/packet.h"
#include "common/util.h"
#include "tests/unit/frames.h"

static const char sport_text[] = "40000", dport_text[] = "443";
static const char src4[] = "10.1.2.3", dst4[] = "10.4.5.6";
static const char src6[] = "2001:db8::1", dst6[] = "2001:db8::2";

static const char *proto_name(uint8_t proto, char buf[8])
{
	switch (proto) {
	case 1:
		return "icmp";
	case 6:
		return "tcp";
	case 17:
		return "udp";
	case 58:
		return "icmpv6";
	case 132:
		return "sctp";
	}
	snprintf(buf, 8, "%d", proto);
	return buf;
}

/* The expected text of one key type, "" for unkeyed. */
static void expected_text(const struct row *r, enum key_type k, char out[200])
{
	const char *src = r->family == 4 ? src4 : src6;
	const char *dst = r->family == 4 ? dst4 : dst6;
	const char *sport = r->ports ? sport_text : "0";
	const char *dport = r->ports ? dport_text : "0";
	char buf[8];

	out[0] = '\0';
	if (k == KEY_SRC)
		snprintf(out, 200, "%s", src);
	else if (k == KEY_DST)
		snprintf(out, 200, "%s", dst);
	else if (k == KEY_SRC_DST)
		snprintf(out, 200, "%s,%s", src, dst);
	else if (k == KEY_FLOW)
		snprintf(out, 200, "%s,%s,%s,%s,%s", src, dst, sport, dport,
			 proto_name(r->proto, buf));
	else if (k == KEY_SPORT && r->ports)
		snprintf(out, 200, "%s", sport);
	else if (k == KEY_DPORT && r->ports)
		snprintf(out, 200, "%s", dport);
	else if (k == KEY_SRC_DPORT && r->ports)
		snprintf(out, 200, "%s,%s", src, dport);
	else if (k == KEY_DST_DPORT && r->ports)
		snprintf(out, 200, "%s,%s", dst, dport);
}

#define EXPECT(cond)                                                     \
	do {                                                             \
		if (!(cond))                                             \
			fail_msg("%s, %u of %u bytes: %s", r->name, cut, \
				 r->f.len, #cond);                       \
	} while (0)

static void check_keys(const struct row *r, uint32_t cut,
		       const struct packet *p, bool keyed)
{
	char want[200], got[KEY_TEXT_LEN];
	struct flow_key key;

	EXPECT(key_build(KEY_NONE, p, &key));
	for (int k = KEY_SRC; k < KEY_TYPES; k++) {
		expected_text(r, (enum key_type)k, want);
		EXPECT(key_build((enum key_type)k, p, &key) ==
		       (keyed && want[0]));
		if (!keyed || !want[0])
			continue;
		key_format((enum key_type)k, &key, got);
		if (strcmp(got, want))
			fail_msg("%s, %u bytes: %s is not %s", r->name, cut,
				 got, want);
	}
}

/* Returns whether the frame had a key. */
static bool check(const struct row *r, uint32_t cut)
{
	bool keyed = r->need != NEVER && cut >= r->need;
	uint8_t *block = malloc(cut ? cut : 1);
	struct packet p;

	assert_non_null(block);
	memcpy(block, r->f.b, cut);
	memset(&p, 0xa5, sizeof(p));
	p.dir = PACKET_OUT;
	p.flags = r->gso ? 0xff : 0xff & ~PACKET_GSO;
	packet_parse(&p, block, cut, r->kernel_len);
	free(block);

	EXPECT(!(p.flags & PACKET_MALFORMED) == keyed);
	EXPECT(p.dir == PACKET_OUT);
	EXPECT(!(p.flags & PACKET_GSO) == !r->gso);
	EXPECT(p.len_bytes == r->kernel_len);
	EXPECT(p.segments == 1);
	EXPECT(p.family == (cut ? r->family : 0));
	if (keyed) {
		EXPECT(p.proto == r->proto);
		EXPECT(!(p.flags & PACKET_PORTS) == !r->ports);
		EXPECT(!(p.flags & PACKET_FRAGMENT) == !r->fragment);
		EXPECT(p.sport == (r->ports ? SPORT : 0));
		EXPECT(p.dport == (r->ports ? DPORT : 0));
		EXPECT(!(p.flags & PACKET_TCP) ==
		       !(r->ports && r->proto == 6 && cut >= r->need + 10 &&
			 r->kernel_len >= r->need + 10));
		EXPECT(!(p.flags & PACKET_TCP) || p.tcp_flags == 0x18);
	}
	check_keys(r, cut, &p, keyed);
	return keyed;
}

static void test_t20_frames(void **state)
{
	struct table t = { .row = calloc(ROWS_MAX, sizeof(*t.row)) };
	size_t keyed = 0, other = 0, frames = 0;

	(void)state;
	assert_non_null(t.row);
	table_fill(&t);
	print_message("%zu frames\n", t.n);
	assert_true(t.n >= 400);
	for (size_t i = 0; i < t.n; i++) {
		const struct row *r = &t.row[i];

		for (uint32_t cut = 0; cut <= MIN(64, r->f.len); cut++) {
			*(check(r, cut) ? &keyed : &other) += 1;
			frames++;
		}
		*(check(r, r->f.len) ? &keyed : &other) += 1;
		frames++;
	}
	print_message("%zu with a key, %zu without\n", keyed, other);
	assert_true(keyed + other == frames);
	free(t.row);
}

static void test_header_bytes(void **state)
{
	static const struct {
		uint8_t family, proto, data_offset;
		uint16_t hdr;
	} cases[] = {
		{ 4, 6, 5, 40 },   { 4, 6, 8, 52 },   { 4, 6, 15, 80 },
		{ 4, 6, 0, 40 },   { 4, 17, 0, 28 },  { 4, 136, 0, 28 },
		{ 4, 132, 0, 32 }, { 4, 33, 0, 32 },  { 4, 1, 0, 20 },
		{ 4, 50, 0, 20 },  { 6, 6, 5, 60 },   { 6, 6, 8, 72 },
		{ 6, 17, 0, 48 },  { 6, 132, 0, 52 }, { 6, 58, 0, 40 },
	};
	struct packet p = { .dir = PACKET_IN };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct frame f = { .len = 0 };

		if (cases[i].family == 4)
			put_ipv4(&f, 5, cases[i].proto, 0, 0);
		else
			put_ipv6(&f, cases[i].proto);
		put_payload(&f, cases[i].data_offset);
		set_length(&f);
		packet_parse(&p, f.b, f.len, f.len);
		assert_int_equal(p.hdr_bytes, cases[i].hdr);
	}

	struct frame f = { .len = 0 };

	put_ipv6(&f, 0);
	put_extension(&f, 51, 16);
	put_ah(&f, 17, 24);
	put_payload(&f, 0);
	set_length(&f);
	packet_parse(&p, f.b, f.len, f.len);
	assert_int_equal(p.hdr_bytes, 40 + 16 + 24 + 8);
}

/* The fields of an earlier packet never shine through. */
static void test_fields_are_reset(void **state)
{
	struct frame f = { .len = 0 };
	struct packet p = { .dir = PACKET_OUT, .flags = PACKET_GSO };
	struct packet empty = { .dir = PACKET_OUT,
				.flags = PACKET_GSO | PACKET_MALFORMED,
				.len_bytes = 7,
				.segments = 1 };

	(void)state;
	put_ipv4(&f, 5, 6, 0, 0);
	put_payload(&f, 5);
	set_length(&f);
	packet_parse(&p, f.b, f.len, f.len);
	assert_int_equal(p.flags, PACKET_GSO | PACKET_PORTS | PACKET_TCP);
	packet_parse(&p, NULL, 0, 7);
	assert_memory_equal(&p, &empty, sizeof(p));
}

/* What the rules of features ask beside keys. */
static void test_details(void **state)
{
	struct frame f = { .len = 0 };
	struct packet p = { .ifindex = 7 };

	(void)state;
	put_ipv4(&f, 5, 6, 0, 0);
	put_payload(&f, 5);
	set_length(&f);
	f.b[1] = 0xb8;
	memcpy(f.b + 24, "\x89\xab\xcd\xef", 4);
	packet_parse(&p, f.b, f.len, f.len);
	assert_int_equal(p.tos, 0xb8);
	assert_int_equal(p.tcp_seq, 0x89abcdef);
	assert_int_equal(p.ifindex, 7);
	assert_null(p.payload);

	f.len = 0;
	put_ipv6(&f, 17);
	put_payload(&f, 5);
	set_length(&f);
	f.b[0] = 0x6c; /* class 0xc5 */
	f.b[1] = 0x5f;
	packet_parse(&p, f.b, f.len, f.len);
	assert_int_equal(p.tos, 0xc5);
	assert_ptr_equal(p.payload, f.b + 48);
	assert_int_equal(p.payload_len, f.len - 48);
	packet_parse(&p, f.b, 50, f.len);
	assert_int_equal(p.payload_len, 2);
	packet_parse(&p, f.b, 47, f.len); /* ports, but not all of UDP */
	assert_int_equal(p.flags, PACKET_PORTS);
	assert_null(p.payload);
	assert_int_equal(p.payload_len, 0);
}

static void test_icmp_type(void **state)
{
	static const struct {
		int family;
		uint8_t proto;
		uint16_t fragment;
		bool has;
	} cases[] = {
		{ 4, 1, 0, true },      { 6, 58, 0, true },
		{ 4, 58, 0, false },    { 6, 1, 0, false },
		{ 4, 1, 0x2000, true }, { 4, 1, 5, false },
		{ 4, 47, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct frame f = { .len = 0 };
		struct packet p = { 0 };
		uint32_t header;

		if (cases[i].family == 4)
			put_ipv4(&f, 5, cases[i].proto, cases[i].fragment, 0);
		else
			put_ipv6(&f, cases[i].proto);
		header = f.len;
		put_payload(&f, 5);
		set_length(&f);
		f.b[header] = 3;
		packet_parse(&p, f.b, f.len, f.len);
		assert_int_equal(!!(p.flags & PACKET_ICMP), cases[i].has);
		assert_int_equal(p.icmp_type, cases[i].has ? 3 : 0);
		/* cut behind the header: still a packet of its flow */
		packet_parse(&p, f.b, header, f.len);
		assert_int_equal(p.flags & (PACKET_ICMP | PACKET_MALFORMED), 0);
	}
}

static void test_protected(void **state)
{
	enum {
		FIN = 1,
		SYN = 2,
		RST = 4,
		PSH = 8,
		ACK = 16,
		ECN = 0xc0
	};
	static const struct {
		uint8_t proto;
		uint16_t sport, dport;
		uint8_t tcp_flags;
		bool want;
	} cases[] = {
		{ 6, 40000, 8000, SYN, true },
		{ 6, 8000, 40000, ACK, true },
		{ 17, 40000, 8000, 0, true },
		{ 17, 8000, 8000, 0, true },
		{ 132, 40000, 8000, 0, false },
		{ 6, 40000, 8001, ACK, false },
		{ 6, 40000, 22, SYN, false },
		{ 6, 22, 40000, SYN, false },
		{ 6, 40000, 22, SYN | ECN, false },
		{ 6, 40000, 22, SYN | PSH, false },
		{ 6, 40000, 22, SYN | ACK, true },
		{ 6, 40000, 22, SYN | FIN, true },
		{ 6, 40000, 22, SYN | RST, true },
		{ 6, 40000, 22, ACK, true },
		{ 6, 22, 40000, ACK | PSH, true },
		{ 6, 22, 40000, 0, true },
		{ 17, 40000, 22, 0, false },
		{ 6, 40000, 443, ACK, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct packet p = { .proto = cases[i].proto,
				    .sport = cases[i].sport,
				    .dport = cases[i].dport,
				    .tcp_flags = cases[i].tcp_flags,
				    .flags = PACKET_PORTS };

		assert_int_equal(packet_protected(&p, 8000, 22), cases[i].want);
		/* with other ports it is a packet like all others */
		assert_false(packet_protected(&p, 8002, 23));
		p.flags = PACKET_FRAGMENT; /* no ports to go by */
		p.sport = p.dport = 0;
		assert_false(packet_protected(&p, 8000, 22));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_t20_frames),
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_fields_are_reset),
		cmocka_unit_test(test_details),
		cmocka_unit_test(test_icmp_type),
		cmocka_unit_test(test_protected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
