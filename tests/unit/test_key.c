/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flow keys: bytes, text and back, order, names; protocol names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/key.h"
#include "common/util.h"
#include "tests/unit/seed.h"

static int parse(enum key_type t, const char *s, struct flow_key *k)
{
	size_t len = strlen(s);
	char *block = malloc(len ? len : 1); /* without NUL, exactly */
	int r;

	assert_non_null(block);
	memcpy(block, s, len);
	r = key_parse(t, block, len, k);
	free(block);
	return r;
}

static void test_names(void **state)
{
	static const struct {
		const char *text, *name;
		enum key_type type;
		size_t len, stored;
	} cases[] = {
		{ "src", "src", KEY_SRC, 16, 16 },
		{ "dst", "dst", KEY_DST, 16, 16 },
		{ "src_dst", "src_dst", KEY_SRC_DST, 32, 32 },
		{ "sport", "sport", KEY_SPORT, 2, 8 },
		{ "dport", "dport", KEY_DPORT, 2, 8 },
		{ "src_dport", "src_dport", KEY_SRC_DPORT, 18, 24 },
		{ "dst_dport", "dst_dport", KEY_DST_DPORT, 18, 24 },
		{ "5-tuple", "5-tuple", KEY_FLOW, 37, 40 },
		{ "flow", "5-tuple", KEY_FLOW, 37, 40 },
		{ "none", "none", KEY_NONE, 0, 0 },
	};
	static const char *const bad[] = { "",      "sr",       "srcx",
					   "SRC",   "src dst",  "5-tuple ",
					   "flows", "dst_sport" };
	enum key_type t = KEY_SRC;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *s = cases[i].text;

		assert_int_equal(key_type_parse(s, strlen(s), &t), 0);
		assert_int_equal(t, cases[i].type);
		assert_string_equal(key_type_name(t), cases[i].name);
		assert_int_equal(key_len(t), cases[i].len);
		assert_int_equal(key_stored_len(t), cases[i].stored);
	}
	t = KEY_DPORT;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(key_type_parse(bad[i], strlen(bad[i]), &t),
				 -22);
	assert_int_equal(t, KEY_DPORT);
}

/* The list names every type but "none", in the order of the table. */
static void test_list(void **state)
{
	char want[200] = "";
	size_t n = 0;

	(void)state;
	for (int t = KEY_SRC; t < KEY_TYPES; t++)
		n += (size_t)snprintf(want + n, sizeof(want) - n, "%s%s",
				      n ? " " : "",
				      key_type_name((enum key_type)t));
	assert_string_equal(key_type_list(), want);
}

static void test_bytes(void **state)
{
	static const uint8_t want[40] = {
		0,    0,    0,    0,    0,    0,    0,    0, 0,  0,
		0xff, 0xff, 10,   0,    0,    6,    0x20, 1, 13, 0xb8,
		0,    0,    0,    0,    0,    0,    0,    0, 0,  0,
		0,    5,    0x9c, 0x40, 0x1f, 0x48, 132,  0, 0,  0,
	};
	struct packet p = { .sport = 40000,
			    .dport = 8008,
			    .proto = 132,
			    .family = 4,
			    .flags = PACKET_PORTS };
	struct flow_key k;
	const uint8_t *b = (const uint8_t *)k.w;

	(void)state;
	assert_int_equal(addr_parse("10.0.0.6", 8, &p.src), 0);
	assert_int_equal(addr_parse("2001:db8::5", 11, &p.dst), 0);
	assert_true(key_build(KEY_FLOW, &p, &k));
	assert_memory_equal(k.w, want, 40);
	assert_true(key_build(KEY_SRC_DPORT, &p, &k));
	assert_memory_equal(b, want, 16);
	assert_memory_equal(b + 16, "\x1f\x48\0\0\0\0\0\0", 8);
	assert_true(key_build(KEY_SPORT, &p, &k));
	assert_memory_equal(b, "\x9c\x40\0\0\0\0\0\0", 8);

	memset(&k, 0xee, sizeof(k));
	p.flags = 0;
	assert_false(key_build(KEY_SPORT, &p, &k));
	p.flags = PACKET_PORTS | PACKET_MALFORMED;
	assert_false(key_build(KEY_SRC, &p, &k));
	assert_int_equal(b[0], 0xee); /* untouched */
	assert_true(key_build(KEY_NONE, &p, &k));
	assert_int_equal(k.w[0], 0);
}

static void test_text(void **state)
{
	static const struct {
		enum key_type type;
		const char *in, *out; /* out NULL: the same */
	} cases[] = {
		{ KEY_NONE, "", NULL },
		{ KEY_SRC, "10.0.0.6", NULL },
		{ KEY_SRC, "::ffff:10.0.0.6", "10.0.0.6" },
		{ KEY_SRC, "::ffff:a00:6", "10.0.0.6" },
		{ KEY_DST, "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
		{ KEY_DST, "::", NULL },
		{ KEY_DST, "::1", NULL },
		{ KEY_DST, "fe80::1:0:0:1", "fe80::1:0:0:1" },
		{ KEY_SRC_DST, "10.0.0.6,10.0.0.5", NULL },
		{ KEY_SRC_DST, "2001:db8::6,2001:db8::5", NULL },
		{ KEY_SPORT, "0", NULL },
		{ KEY_DPORT, "65535", NULL },
		{ KEY_SRC_DPORT, "10.0.0.6,8008", NULL },
		{ KEY_DST_DPORT, "2001:db8::5,8008", NULL },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008,tcp", NULL },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,0,0,icmp", NULL },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,0,0,1",
		  "10.0.0.6,10.0.0.5,0,0,icmp" },
		{ KEY_FLOW, "::1,::2,1,2,58", "::1,::2,1,2,icmpv6" },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,0,0,0", NULL },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,0,0,255", NULL },
	};
	char text[KEY_TEXT_LEN];
	struct flow_key k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *want = cases[i].out ? cases[i].out : cases[i].in;

		if (parse(cases[i].type, cases[i].in, &k))
			fail_msg("%s", cases[i].in);
		key_format(cases[i].type, &k, text);
		assert_string_equal(text, want);
	}
}

static void test_text_refused(void **state)
{
	static const struct {
		enum key_type type;
		const char *in;
	} cases[] = {
		{ KEY_NONE, "x" },
		{ KEY_NONE, "," },
		{ KEY_SRC, "" },
		{ KEY_SRC, "," },
		{ KEY_SRC, "10.0.0.6," },
		{ KEY_SRC, ",10.0.0.6" },
		{ KEY_SRC, " 10.0.0.6" },
		{ KEY_SRC, "10.0.0" },
		{ KEY_SRC, "10.0.0.06" },
		{ KEY_SRC, "10.0.0.6/24" },
		{ KEY_SRC, "fe80::1%eth0" },
		{ KEY_SRC, "10.0.0.6,10.0.0.5" },
		{ KEY_SRC_DST, "10.0.0.6" },
		{ KEY_SRC_DST, "10.0.0.6,,10.0.0.5" },
		{ KEY_SRC_DST, "10.0.0.6, 10.0.0.5" },
		{ KEY_DPORT, "" },
		{ KEY_DPORT, "65536" },
		{ KEY_DPORT, "-1" },
		{ KEY_DPORT, "080" },
		{ KEY_DPORT, "80," },
		{ KEY_DPORT, "http" },
		{ KEY_SRC_DPORT, "10.0.0.6,65536" },
		{ KEY_SRC_DPORT, "8008,10.0.0.6" },
		{ KEY_SRC_DST, "10.0.0.6,fd77::1" },
		{ KEY_SRC_DST, "fd77::1,10.0.0.6" },
		{ KEY_FLOW, "10.0.0.6,fd77::1,40000,8008,tcp" },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008" },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008," },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008,TCP" },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008,256" },
		{ KEY_FLOW, "10.0.0.6,10.0.0.5,40000,8008,tcp,x" },
	};
	struct flow_key k;

	(void)state;
	memset(&k, 0xee, sizeof(k));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (parse(cases[i].type, cases[i].in, &k) != -22)
			fail_msg("%s", cases[i].in);
	}
	assert_int_equal(k.w[0], 0xeeeeeeeeeeeeeeee);
	/* a NUL is a character like others */
	assert_int_equal(key_parse(KEY_DPORT, "80\0", 3, &k), -22);
}

static void random_packet(uint64_t *s, struct packet *p)
{
	*p = (struct packet){ .flags = PACKET_PORTS,
			      .sport = (uint16_t)seed_next(s),
			      .dport = (uint16_t)seed_next(s),
			      .proto = (uint8_t)seed_next(s) };
	for (int i = 0; i < 16; i++) {
		/* many zeros, for the "::" of IPv6 */
		p->src.b[i] = (uint8_t)(seed_next(s) & seed_next(s) &
					(seed_below(s, 2) ? 0xff : 0));
		p->dst.b[i] = (uint8_t)seed_next(s);
	}
	if (seed_below(s, 2)) {
		addr_from_v4(&p->src, p->dst.b);
		addr_from_v4(&p->dst, p->dst.b + 4);
	}
}

static void test_round_trip(void **state)
{
	uint64_t seed = seed_start();

	(void)state;
	for (int n = 0; n < 10000; n++) {
		enum key_type t = (enum key_type)seed_below(&seed, KEY_TYPES);
		char text[KEY_TEXT_LEN];
		struct flow_key a, b;
		struct packet p;

		random_packet(&seed, &p);
		assert_true(key_build(t, &p, &a));
		key_format(t, &a, text);
		if (parse(t, text, &b))
			fail_msg("%s", text);
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

static void test_longest_text(void **state)
{
	struct packet p = { .flags = PACKET_PORTS,
			    .sport = 65535,
			    .dport = 65535,
			    .proto = IPPROTO_ICMPV6 };
	char text[KEY_TEXT_LEN];
	struct flow_key k;

	(void)state;
	memset(&p.src, 0xff, sizeof(p.src));
	memset(&p.dst, 0xff, sizeof(p.dst));
	assert_true(key_build(KEY_FLOW, &p, &k));
	key_format(KEY_FLOW, &k, text);
	assert_int_equal(strlen(text), 2 * 39 + 2 * 5 + 6 + 4);
}

/* Each line is below the next. */
static void test_order(void **state)
{
	static const char *const sorted[] = {
		"0.0.0.0,80",     "10.0.0.9,80",
		"10.0.0.9,443",   "10.0.0.9,8008",
		"10.0.0.10,1",    "192.168.0.1,1",
		"::,1",           "::1,1",
		"2001:db8::9,80", "2001:db8::10,80",
		"2001:db8:1::,1", "fe80::1,65535",
	};
	struct flow_key a, b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		assert_int_equal(parse(KEY_SRC_DPORT, sorted[i], &a), 0);
		for (size_t j = 0; j < ARRAY_SIZE(sorted); j++) {
			int c;

			assert_int_equal(parse(KEY_SRC_DPORT, sorted[j], &b),
					 0);
			c = key_compare(KEY_SRC_DPORT, &a, &b);
			assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
		}
	}
}

static void test_protocols(void **state)
{
	static const struct {
		const char *in, *out;
		uint8_t number;
	} cases[] = {
		{ "tcp", "tcp", 6 },        { "6", "tcp", 6 },
		{ "udp", "udp", 17 },       { "icmp", "icmp", 1 },
		{ "icmpv6", "icmpv6", 58 }, { "sctp", "sctp", 132 },
		{ "47", "47", 47 },         { "255", "255", 255 },
		{ "1", "icmp", 1 },
	};
	static const char *const bad[] = { "",    "0",  "256", "TCP", "tcpx",
					   "all", "-1", "06",  " 6",  "tc" };
	uint8_t proto = 99;
	char text[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(proto_parse(bad[i], strlen(bad[i]), &proto),
				 -22);
	assert_int_equal(proto, 99);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *s = cases[i].in;

		assert_int_equal(proto_parse(s, strlen(s), &proto), 0);
		assert_int_equal(proto, cases[i].number);
		proto_format(proto, text);
		assert_string_equal(text, cases[i].out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_refused),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_longest_text),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
