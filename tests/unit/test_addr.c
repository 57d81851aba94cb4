/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, prefixes, endpoints: texts that are right and texts that are not. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/addr.h"
#include "common/util.h"

static struct ip_addr addr(const char *s)
{
	struct ip_addr a;

	if (addr_parse(s, strlen(s), &a))
		fail_msg("refused: \"%s\"", s);
	return a;
}

static struct ip_prefix prefix(const char *s)
{
	struct ip_prefix p;

	if (prefix_parse(s, strlen(s), &p))
		fail_msg("refused: \"%s\"", s);
	return p;
}

static struct endpoint endpoint(const char *s)
{
	struct endpoint e;

	if (endpoint_parse(s, strlen(s), 8000, &e))
		fail_msg("refused: \"%s\"", s);
	return e;
}

/* Text and the text that it comes back as. */
static void test_addr_text(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "0.0.0.0", "0.0.0.0" },
		{ "10.0.0.6", "10.0.0.6" },
		{ "255.255.255.255", "255.255.255.255" },
		{ "::ffff:10.0.0.6", "10.0.0.6" },
		{ "::FFFF:a00:6", "10.0.0.6" },
		{ "0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4" },
		/* RFC 5952: 4.1 leading zeros, 4.2 "::", 4.3 lower case */
		{ "2001:0db8::0001", "2001:db8::1" },
		{ "2001:db8:0:0:0:0:2:1", "2001:db8::2:1" },
		{ "2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1" },
		{ "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1" },
		{ "2001:0:0:1:0:0:0:1", "2001:0:0:1::1" },
		{ "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1" },
		{ "2001:db8:aaaa:bbbb:cccc:dddd::1",
		  "2001:db8:aaaa:bbbb:cccc:dddd:0:1" },
		{ "2001:DB8::AbCd", "2001:db8::abcd" },
		{ "0:0:0:0:0:0:0:0", "::" },
		{ "0:0:0:0:0:0:0:1", "::1" },
		{ "1:0:0:0:0:0:0:0", "1::" },
		{ "1:2:3:4:5:6:0:0", "1:2:3:4:5:6::" },
		{ "0:0:3:4:5:6:7:8", "::3:4:5:6:7:8" },
		{ "0:2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8" },
		{ "1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0" },
		{ "::1.2.3.4", "::102:304" },
		{ "::1:0", "::1:0" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
		{ "64:ff9b::192.0.2.33", "64:ff9b::c000:221" },
	};
	char text[ADDR_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_addr a = addr(rows[i].in), again;

		addr_format(&a, text);
		assert_string_equal(text, rows[i].out);
		again = addr(text);
		assert_true(addr_equal(&a, &again));
	}
}

static void test_addr_v4(void **state)
{
	char text[ADDR_TEXT_LEN], same[INET_ADDRSTRLEN];
	uint8_t v4[4] = { 0 };
	struct ip_addr a;

	(void)state;
	for (unsigned i = 0; i < 4 * 256; i++) {
		v4[i / 256] = (uint8_t)i;
		addr_from_v4(&a, v4);
		addr_format(&a, text);
		assert_non_null(inet_ntop(AF_INET, v4, same, sizeof(same)));
		assert_string_equal(text, same);
	}
}

static void test_addr_bytes(void **state)
{
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 10,
					[13] = 1,    [14] = 2,    [15] = 3 };
	static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 5 };
	struct ip_addr a = addr("10.1.2.3"), b;

	(void)state;
	assert_memory_equal(a.b, v4, 16);
	assert_true(addr_is_v4(&a));
	addr_from_v4(&b, v4 + 12);
	assert_true(addr_equal(&a, &b));
	a = addr("2001:db8::5");
	assert_memory_equal(a.b, v6, 16);
	assert_false(addr_is_v4(&a));
	assert_false(addr_equal(&a, &b));
}

static void test_addr_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"1",
		"1.2.3",
		"1.2.3.4.5",
		"1.2.3.",
		".1.2.3",
		"1..2.3",
		"256.0.0.1",
		"1.2.3.256",
		"01.2.3.4",
		"1.2.3.04",
		"1.2.3.00",
		"0x1.2.3.4",
		"1.2.3.4 ",
		" 1.2.3.4",
		"+1.2.3.4",
		"-1.2.3.4",
		"1.2.3.4/32",
		"1.2.3.4:80",
		"1.2.3.a",
		"16909060",
		"localhost",
		":",
		":::",
		"1::2::3",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"1:2:3:4:5:6:7:8::",
		"::1:2:3:4:5:6:7:8",
		"12345::",
		"g::",
		":1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:",
		"fe80::1%lo",
		"fe80::1%1",
		"[::1]",
		"::1/128",
		"::ffff:1.2.3",
		"::ffff:01.2.3.4",
		"::1.2.3.4:5",
		"1.2.3.4::",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
	};
	const struct ip_addr before = addr("9.9.9.9");
	struct ip_addr a = before;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (addr_parse(bad[i], strlen(bad[i]), &a) != -EINVAL)
			fail_msg("accepted: \"%s\"", bad[i]);
		assert_true(addr_equal(&a, &before));
	}
	assert_int_equal(addr_parse("1.2.3.4\0", 8, &a), -EINVAL);
	/* The length counts, not the NUL. */
	assert_int_equal(addr_parse("1.2.3.45", 7, &a), 0);
	a = addr("1.2.3.4");
}

static void test_prefix_text(void **state)
{
	static const struct {
		const char *in, *out;
		uint8_t len;
	} rows[] = {
		{ "10.0.0.6", "10.0.0.6", 128 },
		{ "10.0.0.6/32", "10.0.0.6", 128 },
		{ "10.1.2.3/8", "10.0.0.0/8", 104 },
		{ "10.1.2.255/25", "10.1.2.128/25", 121 },
		{ "10.1.2.3/31", "10.1.2.2/31", 127 },
		{ "1.2.3.4/0", "0.0.0.0/0", 96 },
		{ "2001:db8::1", "2001:db8::1", 128 },
		{ "2001:db8::1/128", "2001:db8::1", 128 },
		{ "2001:db8:ffff::/33", "2001:db8:8000::/33", 33 },
		{ "::1/0", "::/0", 0 },
		{ "::ffff:10.1.2.3/104", "10.0.0.0/8", 104 },
		{ "::ffff:10.1.2.3/96", "0.0.0.0/0", 96 },
	};
	char text[PREFIX_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_prefix p = prefix(rows[i].in);

		assert_int_equal(p.len, rows[i].len);
		prefix_format(&p, text);
		assert_string_equal(text, rows[i].out);
	}
}

static void test_prefix_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		"/8",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/08",
		"10.0.0.0/-1",
		"10.0.0.0/8/8",
		"10.0.0.0/8 ",
		"10.0.0.0 /8",
		"10/8",
		"::/129",
		"::/+1",
		"::ffff:1.2.3.4/95",
		"::ffff:1.2.3.4/0",
		"10.0.0.0/255.0.0.0",
		"10.0.0.0/18446744073709551624",
	};
	struct ip_prefix p = prefix("9.0.0.0/8");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (prefix_parse(bad[i], strlen(bad[i]), &p) != -EINVAL)
			fail_msg("accepted: \"%s\"", bad[i]);
		assert_int_equal(p.len, 104);
	}
}

static void test_prefix_contains(void **state)
{
	static const struct {
		const char *prefix, *addr;
		bool in;
	} rows[] = {
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.0.0.0/9", "10.127.255.255", true },
		{ "10.0.0.0/9", "10.128.0.0", false },
		{ "10.0.0.6", "10.0.0.6", true },
		{ "10.0.0.6", "10.0.0.7", false },
		{ "10.0.0.6/31", "10.0.0.7", true },
		{ "0.0.0.0/0", "255.1.2.3", true },
		{ "0.0.0.0/0", "::1", false },
		{ "0.0.0.0/0", "2001:db8::", false },
		{ "::/0", "2001:db8::", true },
		{ "::/0", "1.2.3.4", false },
		{ "::/80", "1.2.3.4", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		{ "2001:db8::/127", "2001:db8::2", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_prefix p = prefix(rows[i].prefix);
		struct ip_addr a = addr(rows[i].addr);

		if (prefix_contains(&p, &a) != rows[i].in)
			fail_msg("%s in %s", rows[i].addr, rows[i].prefix);
	}
}

static void test_prefix_covers(void **state)
{
	static const struct {
		const char *outer, *inner;
		bool covers;
	} rows[] = {
		{ "10.0.0.0/8", "10.0.0.0/8", true },
		{ "10.0.0.0/8", "10.3.0.0/16", true },
		{ "10.3.0.0/16", "10.0.0.0/8", false },
		{ "10.0.0.0/16", "10.0.0.0/8", false },
		{ "10.0.0.0/8", "11.0.0.0/16", false },
		{ "::/0", "2001::/16", true },
		{ "::/0", "::/0", true },
		{ "::/0", "10.0.0.0/8", false },
		{ "0.0.0.0/0", "10.0.0.0/8", true },
		{ "0.0.0.0/0", "2001:db8::1", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_prefix outer = prefix(rows[i].outer);
		struct ip_prefix inner = prefix(rows[i].inner);

		if (prefix_covers(&outer, &inner) != rows[i].covers)
			fail_msg("%s in %s", rows[i].inner, rows[i].outer);
	}
}

static void test_endpoint_text(void **state)
{
	static const struct {
		const char *in, *addr, *out, *full;
		uint16_t port;
	} rows[] = {
		{ "10.0.0.5", "10.0.0.5", "10.0.0.5", "10.0.0.5:8000", 8000 },
		{ "10.0.0.5:8000", "10.0.0.5", "10.0.0.5", "10.0.0.5:8000",
		  8000 },
		{ "10.0.0.5:1", "10.0.0.5", "10.0.0.5:1", "10.0.0.5:1", 1 },
		{ "10.0.0.5:65535", "10.0.0.5", "10.0.0.5:65535",
		  "10.0.0.5:65535", 65535 },
		{ "::1", "::1", "::1", "[::1]:8000", 8000 },
		{ "[::1]", "::1", "::1", "[::1]:8000", 8000 },
		{ "[2001:DB8::5]:81", "2001:db8::5", "[2001:db8::5]:81",
		  "[2001:db8::5]:81", 81 },
		{ "2001:db8::5:81", "2001:db8::5:81", "2001:db8::5:81",
		  "[2001:db8::5:81]:8000", 8000 },
		{ "[::ffff:10.0.0.5]:80", "10.0.0.5", "10.0.0.5:80",
		  "10.0.0.5:80", 80 },
		{ "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
		  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		  "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
		  "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 65535 },
	};
	char text[ENDPOINT_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct endpoint e = endpoint(rows[i].in);
		struct ip_addr a = addr(rows[i].addr);

		assert_true(addr_equal(&e.addr, &a));
		assert_int_equal(e.port, rows[i].port);
		endpoint_format(&e, 8000, text);
		assert_string_equal(text, rows[i].out);
		endpoint_format(&e, 0, text);
		assert_string_equal(text, rows[i].full);
	}
}

static void test_endpoint_refused(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		":8000",
		"10.0.0.5:",
		"10.0.0.5:0",
		"10.0.0.5:65536",
		"10.0.0.5:080",
		"10.0.0.5:-1",
		"10.0.0.5:8x",
		"10.0.0.5:1:2",
		"[",
		"[]",
		"[]:80",
		"[::1",
		"::1]",
		"[::1]80",
		"[::1]:",
		"[::1]:0",
		"[::1]x",
		"[[::1]]",
		"[::1]]:80",
		"[10.0.0.5]",
		"[10.0.0.5]:80",
		"localhost",
		"localhost:80",
		"[::1]x80",
		"[fe80::1%lo]:80",
		"10.0.0.5 :80",
		"10.0.0.5: 80",
	};
	const struct endpoint before = endpoint("9.9.9.9:9");
	struct endpoint e = before;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (endpoint_parse(bad[i], strlen(bad[i]), 8000, &e) != -EINVAL)
			fail_msg("accepted: \"%s\"", bad[i]);
		assert_true(endpoint_equal(&e, &before));
	}
}

static void test_endpoint_sockaddr(void **state)
{
	struct endpoint e = endpoint("10.0.0.5:258"), back;
	struct sockaddr_in6 *in6;
	struct sockaddr_in *in4;
	struct sockaddr_storage ss;

	(void)state;
	assert_int_equal(endpoint_to_sockaddr(&e, &ss), sizeof(*in4));
	in4 = (struct sockaddr_in *)&ss;
	assert_int_equal(in4->sin_family, AF_INET);
	assert_int_equal(in4->sin_port, htons(258));
	assert_int_equal(in4->sin_addr.s_addr, htonl(0x0a000005));
	assert_int_equal(endpoint_from_sockaddr((struct sockaddr *)&ss, &back),
			 0);
	assert_true(endpoint_equal(&e, &back));

	e = endpoint("[2001:db8::7]:258");
	assert_int_equal(endpoint_to_sockaddr(&e, &ss), sizeof(*in6));
	in6 = (struct sockaddr_in6 *)&ss;
	assert_int_equal(in6->sin6_family, AF_INET6);
	assert_int_equal(in6->sin6_port, htons(258));
	assert_memory_equal(&in6->sin6_addr, e.addr.b, 16);
	assert_int_equal(endpoint_from_sockaddr((struct sockaddr *)&ss, &back),
			 0);
	assert_true(endpoint_equal(&e, &back));

	ss.ss_family = AF_UNIX;
	assert_int_equal(endpoint_from_sockaddr((struct sockaddr *)&ss, &back),
			 -EAFNOSUPPORT);
	assert_true(endpoint_equal(&e, &back));
}

static void test_classify(void **state)
{
	static const struct {
		const char *addr;
		enum addr_class class;
	} rows[] = {
		{ "10.0.0.1", ADDR_UNICAST },
		{ "0.0.0.0", ADDR_UNSPECIFIED },
		{ "127.0.0.1", ADDR_LOOPBACK },
		{ "127.255.0.9", ADDR_LOOPBACK },
		{ "128.0.0.1", ADDR_UNICAST },
		{ "169.254.0.1", ADDR_LINK_LOCAL },
		{ "169.253.0.1", ADDR_UNICAST },
		{ "223.255.255.255", ADDR_UNICAST },
		{ "224.0.0.1", ADDR_MULTICAST },
		{ "239.255.255.255", ADDR_MULTICAST },
		{ "240.0.0.1", ADDR_UNICAST },
		{ "255.255.255.255", ADDR_BROADCAST },
		{ "::", ADDR_UNSPECIFIED },
		{ "::1", ADDR_LOOPBACK },
		{ "::2", ADDR_UNICAST },
		{ "fe7f::1", ADDR_UNICAST },
		{ "fe80::1", ADDR_LINK_LOCAL },
		{ "febf::1", ADDR_LINK_LOCAL },
		{ "fec0::1", ADDR_UNICAST },
		{ "ff02::1", ADDR_MULTICAST },
		{ "2001:db8::1", ADDR_UNICAST },
		{ "::ffff:127.0.0.1", ADDR_LOOPBACK },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_addr a = addr(rows[i].addr);

		if (addr_classify(&a) != rows[i].class)
			fail_msg("class of %s", rows[i].addr);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_text),
		cmocka_unit_test(test_addr_v4),
		cmocka_unit_test(test_addr_bytes),
		cmocka_unit_test(test_addr_refused),
		cmocka_unit_test(test_prefix_text),
		cmocka_unit_test(test_prefix_refused),
		cmocka_unit_test(test_prefix_contains),
		cmocka_unit_test(test_prefix_covers),
		cmocka_unit_test(test_endpoint_text),
		cmocka_unit_test(test_endpoint_refused),
		cmocka_unit_test(test_endpoint_sockaddr),
		cmocka_unit_test(test_classify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
