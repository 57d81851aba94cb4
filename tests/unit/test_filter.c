/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters against a naive oracle that knows no prefix arithmetic but
 * comparing bit by bit, and no canonical form.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/filter.h"
#include "common/util.h"
#include "tests/unit/seed.h"

#define CASES 10000

static struct ip_prefix prefix(const char *s)
{
	struct ip_prefix p;

	assert_int_equal(prefix_parse(s, strlen(s), &p), 0);
	return p;
}

/* ---- random filters and packets from a small world that often meets ---- */

static void random_addr(uint64_t *s, uint8_t family, struct ip_addr *a)
{
	static const uint8_t byte[] = { 0, 1, 2, 0x80, 0xff };
	uint8_t v4[4];

	for (int i = 0; i < 16; i++)
		a->b[i] = 0;
	a->b[0] = 0x20;
	a->b[7] = byte[seed_below(s, 5)];
	a->b[15] = byte[seed_below(s, 5)];
	if (family == 4) {
		v4[0] = 10;
		v4[1] = byte[seed_below(s, 5)];
		v4[2] = 0;
		v4[3] = byte[seed_below(s, 5)];
		addr_from_v4(a, v4);
	}
}

static uint8_t random_proto(uint64_t *s)
{
	static const uint8_t proto[] = { 0, 1, 6, 6, 17, 58, 132 };

	return proto[seed_below(s, ARRAY_SIZE(proto))];
}

static void random_packet(uint64_t *s, struct packet *p)
{
	*p = (struct packet){ .dir = (uint8_t)seed_below(s, 2),
			      .family = seed_below(s, 2) ? 4 : 6,
			      .proto = random_proto(s) };
	random_addr(s, p->family, &p->src);
	random_addr(s, p->family, &p->dst);
	if (!seed_below(s, 10))
		*p = (struct packet){ .dir = p->dir,
				      .flags = PACKET_MALFORMED };
}

static void random_prefix(uint64_t *s, struct ip_prefix *p)
{
	uint8_t family = seed_below(s, 2) ? 4 : 6;
	static const uint8_t len[2][6] = { { 96, 97, 104, 112, 120, 128 },
					   { 0, 3, 60, 64, 127, 128 } };

	random_addr(s, family, &p->addr);
	p->len = len[family == 6][seed_below(s, 6)];
	for (unsigned int i = p->len; i < 128; i++)
		p->addr.b[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

/* Not canonical, perhaps a contradiction. */
static void random_filter(uint64_t *s, struct filter *f)
{
	static const uint8_t family[] = { 0, 0, 4, 6 };

	memset(f, 0, sizeof(*f));
	f->dir = (uint8_t)seed_below(s, 2);
	f->family = family[seed_below(s, 4)];
	f->proto = seed_below(s, 2) ? random_proto(s) : 0;
	f->has_src = (uint8_t)seed_below(s, 2);
	f->has_dst = (uint8_t)seed_below(s, 2);
	random_prefix(s, &f->src); /* left there when not set */
	random_prefix(s, &f->dst);
}

/* ---- the oracle ---- */

static bool oracle_is_v4(const struct ip_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(a->b, mapped, 12);
}

static bool oracle_inside(const struct ip_prefix *p, const struct ip_addr *a)
{
	if (oracle_is_v4(&p->addr) != oracle_is_v4(a))
		return false;
	for (unsigned int i = 0; i < p->len; i++) {
		unsigned int bit = 7 - i % 8;

		if ((p->addr.b[i / 8] >> bit & 1) != (a->b[i / 8] >> bit & 1))
			return false;
	}
	return true;
}

static bool oracle_match(const struct filter *f, const struct packet *p)
{
	bool ok = f->dir == p->dir;

	if (f->family == 4)
		ok = ok && p->family == 4;
	if (f->family == 6)
		ok = ok && p->family == 6;
	if (f->proto != 0)
		ok = ok && p->proto == f->proto;
	if (f->proto == 1) /* icmp is IPv4, whatever the header says */
		ok = ok && p->family == 4;
	if (f->proto == 58)
		ok = ok && p->family == 6;
	if (f->has_src)
		ok = ok && p->family && oracle_inside(&f->src, &p->src);
	if (f->has_dst)
		ok = ok && p->family && oracle_inside(&f->dst, &p->dst);
	return ok;
}

/* No packet can ever match. */
static bool oracle_contradiction(const struct filter *f)
{
	bool v4 = f->family == 4 || f->proto == 1, v6 = f->family == 6;

	v6 = v6 || f->proto == 58;
	v4 = v4 || (f->has_src && oracle_is_v4(&f->src.addr));
	v4 = v4 || (f->has_dst && oracle_is_v4(&f->dst.addr));
	v6 = v6 || (f->has_src && !oracle_is_v4(&f->src.addr));
	v6 = v6 || (f->has_dst && !oracle_is_v4(&f->dst.addr));
	return v4 && v6;
}

static void test_match_oracle(void **state)
{
	uint64_t seed = seed_start();
	unsigned int matches = 0, refused = 0;

	(void)state;
	for (int n = 0; n < CASES; n++) {
		struct filter f, raw;
		struct packet p;

		random_filter(&seed, &raw);
		f = raw;
		if (filter_normalize(&f)) {
			assert_true(oracle_contradiction(&raw));
			assert_memory_equal(&f, &raw, sizeof(f));
			refused++;
			continue;
		}
		assert_false(oracle_contradiction(&raw));
		assert_true(filter_valid(&f));
		for (int i = 0; i < 20; i++) {
			random_packet(&seed, &p);
			assert_int_equal(filter_match(&f, &p),
					 oracle_match(&raw, &p));
			matches += filter_match(&f, &p);
		}
	}
	print_message("%u matches, %u refused\n", matches, refused);
	assert_true(matches > CASES / 10 && refused > CASES / 10);
}

/* What covers says is true of every packet tried. */
static void test_covers_is_sound(void **state)
{
	uint64_t seed = seed_start();
	unsigned int covered = 0;

	(void)state;
	for (int n = 0; n < CASES; n++) {
		struct filter a, b;
		struct packet p;

		random_filter(&seed, &a);
		random_filter(&seed, &b);
		if (!seed_below(&seed, 4))
			b.src = a.src;
		if (filter_normalize(&a) || filter_normalize(&b))
			continue;
		assert_true(filter_covers(&a, &a));
		if (!filter_covers(&a, &b))
			continue;
		covered++;
		for (int i = 0; i < 200; i++) {
			random_packet(&seed, &p);
			assert_true(!filter_match(&b, &p) ||
				    filter_match(&a, &p));
		}
	}
	print_message("%u pairs covered\n", covered);
	assert_true(covered > CASES / 200);
}

static void test_covers(void **state)
{
	struct filter any = { 0 }, tcp = { .proto = 6 }, out = { .dir = 1 };
	struct filter net = { .family = 4, .has_src = 1 }, host = net;
	struct filter host_tcp, other = net;

	(void)state;
	net.src = prefix("10.0.0.0/8");
	host.src = prefix("10.1.2.3");
	other.src = prefix("192.0.2.0/24");
	host_tcp = host;
	host_tcp.proto = 6;

	assert_true(filter_covers(&any, &tcp));
	assert_false(filter_covers(&tcp, &any));
	assert_false(filter_covers(&any, &out));
	assert_true(filter_covers(&any, &host));
	assert_true(filter_covers(&net, &host));
	assert_false(filter_covers(&host, &net));
	assert_false(filter_covers(&net, &any));
	assert_false(filter_covers(&net, &other));
	assert_true(filter_covers(&net, &host_tcp));
	assert_true(filter_covers(&tcp, &host_tcp));
	assert_false(filter_covers(&host_tcp, &host));
	host_tcp.has_dst = 1;
	host_tcp.dst = prefix("10.9.0.0/16");
	assert_true(filter_covers(&host, &host_tcp));
	assert_false(filter_covers(&host_tcp, &host));
}

static void test_normalize(void **state)
{
	struct filter f = { .proto = IPPROTO_ICMP };
	struct filter g = { .has_dst = 1, .dst = prefix("2001:db8::/32") };
	struct filter h = g, want;

	(void)state;
	assert_int_equal(filter_normalize(&f), 0);
	assert_int_equal(f.family, 4);
	assert_int_equal(filter_normalize(&g), 0);
	assert_int_equal(g.family, 6);

	h.proto = IPPROTO_ICMP;
	want = h;
	assert_int_equal(filter_normalize(&h), -22);
	assert_memory_equal(&h, &want, sizeof(h));

	h = g;
	h.has_src = 1;
	h.src = prefix("10.0.0.1");
	assert_int_equal(filter_normalize(&h), -22);

	h = (struct filter){ .reserved = { 1, 2, 3 }, .src = g.dst };
	assert_int_equal(filter_normalize(&h), 0);
	want = (struct filter){ 0 };
	assert_memory_equal(&h, &want, sizeof(h));
}

static void test_valid(void **state)
{
	const struct filter good = { .dir = PACKET_OUT,
				     .family = 4,
				     .proto = 6,
				     .has_src = 1,
				     .src = prefix("10.0.0.0/8") };
	struct filter f = good;

	(void)state;
	assert_true(filter_valid(&f));
#define REFUSED(change)                         \
	do {                                    \
		f = good;                       \
		f.change;                       \
		assert_false(filter_valid(&f)); \
	} while (0)
	REFUSED(dir = PACKET_DIRS);
	REFUSED(family = 5);
	REFUSED(family = 0); /* not canonical */
	REFUSED(family = 6);
	REFUSED(proto = IPPROTO_ICMPV6);
	REFUSED(has_src = 2);
	REFUSED(has_src = 0); /* prefix left behind */
	REFUSED(has_dst = 2);
	REFUSED(has_dst = 1); /* ::/0 is IPv6 */
	REFUSED(reserved[2] = 1);
	REFUSED(src.len = 129);
	REFUSED(src.len = 95);
	REFUSED(src.addr.b[15] = 1); /* host bits */
	REFUSED(src.addr.b[13] = 1);
	REFUSED(dst.len = 3);
#undef REFUSED
	f = (struct filter){ 0 };
	assert_true(filter_valid(&f));
}

/* Any bytes: what is valid is in range and canonical. */
static void test_valid_random(void **state)
{
	uint64_t seed = seed_start();
	unsigned int valid = 0;

	(void)state;
	for (int n = 0; n < CASES; n++) {
		struct filter f, g;
		uint32_t at = seed_below(&seed, sizeof(f));

		random_filter(&seed, &f);
		if (filter_normalize(&f))
			continue;
		((uint8_t *)&f)[at] ^= (uint8_t)(1 << seed_below(&seed, 8));
		if (!filter_valid(&f))
			continue;
		valid++;
		g = f;
		assert_int_equal(filter_normalize(&g), 0);
		assert_true(filter_equal(&f, &g));
		assert_true(f.dir <= 1 && f.src.len <= 128 && f.dst.len <= 128);
		assert_false(oracle_contradiction(&f));
	}
	print_message("%u of %d changed filters are valid\n", valid, CASES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match_oracle),
		cmocka_unit_test(test_covers_is_sound),
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_normalize),
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_valid_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
