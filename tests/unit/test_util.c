/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, hex, time, random bytes: limits and what is refused. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/util.h"

static void test_parse_u64(void **state)
{
	static const struct {
		const char *text;
		uint64_t min, max;
		int err;
		uint64_t value;
	} rows[] = {
		{ "0", 0, 9, 0, 0 },
		{ "7", 0, 9, 0, 7 },
		{ "9", 0, 9, 0, 9 },
		{ "10", 0, 9, -ERANGE, 0 },
		{ "4", 5, 9, -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX },
		{ "18446744073709551616", 0, UINT64_MAX, -ERANGE, 0 },
		{ "18446744073709551620", 0, UINT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999", 0, UINT64_MAX, -ERANGE, 0 },
		/* The wrapped value would be in range again. */
		{ "184467440737095516170", 0, UINT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999x", 0, UINT64_MAX, -EINVAL, 0 },
		{ "", 0, 9, -EINVAL, 0 },
		{ "00", 0, 9, -EINVAL, 0 },
		{ "01", 0, 9, -EINVAL, 0 },
		{ "+1", 0, 9, -EINVAL, 0 },
		{ "-1", 0, 9, -EINVAL, 0 },
		{ " 1", 0, 9, -EINVAL, 0 },
		{ "1 ", 0, 9, -EINVAL, 0 },
		{ "1.0", 0, 9, -EINVAL, 0 },
		{ "0x1", 0, 9, -EINVAL, 0 },
		{ "a", 0, 9, -EINVAL, 0 },
		{ "1:", 0, 99, -EINVAL, 0 },
		{ "1/", 0, 99, -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t v = 4711;
		int err = parse_u64(rows[i].text, strlen(rows[i].text),
				    rows[i].min, rows[i].max, &v);

		if (err != rows[i].err)
			fail_msg("\"%s\": %d", rows[i].text, err);
		assert_int_equal(v, err ? 4711 : rows[i].value);
	}
}

static void test_parse_real(void **state)
{
	static const struct {
		const char *text;
		double min, max;
		int err;
		double value;
	} rows[] = {
		{ "0", 0, 1, 0, 0 },
		{ "0.25", 0, 1, 0, 0.25 },
		{ "1e-3", 0, 1, 0, 0.001 },
		{ "1E+2", 0, 100, 0, 100 },
		{ "12.5e1", 0, 125, 0, 125 },
		{ "-0.5", -1, 1, 0, -0.5 },
		{ "1", 0, 1, 0, 1 },
		{ "1.0000001", 0, 1, -ERANGE, 0 },
		{ "-0.1", 0, 1, -ERANGE, 0 },
		{ "1e999", 0, HUGE_VAL, -ERANGE, 0 },
		{ "", 0, 1, -EINVAL, 0 },
		{ ".5", 0, 1, -EINVAL, 0 },
		{ "5.", 0, 9, -EINVAL, 0 },
		{ "1.e1", 0, 99, -EINVAL, 0 },
		{ "1e", 0, 9, -EINVAL, 0 },
		{ "1e+", 0, 9, -EINVAL, 0 },
		{ "-", 0, 9, -EINVAL, 0 },
		{ "+1", 0, 9, -EINVAL, 0 },
		{ "00.5", 0, 9, -EINVAL, 0 },
		{ "01", 0, 9, -EINVAL, 0 },
		{ " 1", 0, 9, -EINVAL, 0 },
		{ "1 ", 0, 9, -EINVAL, 0 },
		{ "1,5", 0, 9, -EINVAL, 0 },
		{ "0x1p3", 0, 9, -EINVAL, 0 },
		{ "inf", 0, HUGE_VAL, -EINVAL, 0 },
		{ "nan", 0, 9, -EINVAL, 0 },
		{ "1.5.2", 0, 9, -EINVAL, 0 },
	};
	char longest[66];
	double v = -7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int err;

		v = -7;
		err = parse_real(rows[i].text, strlen(rows[i].text),
				 rows[i].min, rows[i].max, &v);
		if (err != rows[i].err)
			fail_msg("\"%s\": %d", rows[i].text, err);
		assert_true(v == (err ? -7 : rows[i].value));
	}
	/* The length ends the text: what follows is not read. */
	assert_int_equal(parse_real("0.259", 4, 0, 1, &v), 0);
	assert_true(v == 0.25);
	assert_int_equal(parse_real("1\0002", 3, 0, 1, &v), -EINVAL);
	memset(longest, '0', sizeof(longest));
	longest[1] = '.';
	assert_int_equal(parse_real(longest, 64, 0, 1, &v), 0);
	assert_int_equal(parse_real(longest, 65, 0, 1, &v), -EINVAL);
}

static void test_add_sat(void **state)
{
	bool saturated = false;

	(void)state;
	assert_int_equal(u64_add_sat(2, 3, &saturated), 5);
	assert_int_equal(u64_add_sat(UINT64_MAX - 1, 1, &saturated),
			 UINT64_MAX);
	assert_false(saturated);
	assert_int_equal(u64_add_sat(UINT64_MAX, 1, &saturated), UINT64_MAX);
	assert_true(saturated);
	assert_int_equal(u64_add_sat(1, 1, &saturated), 2);
	assert_true(saturated);
}

static void test_hex(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x0f, 0xa5, 0xff };
	uint8_t out[4] = { 1, 2, 3, 4 };
	char text[17];
	uint64_t v = 5;

	(void)state;
	hex_encode(bytes, sizeof(bytes), text);
	assert_string_equal(text, "000fa5ff");
	assert_int_equal(hex_decode("000fA5Ff", 8, out, 4), 0);
	assert_memory_equal(out, bytes, 4);
	assert_int_equal(hex_decode("00112g44", 8, out, 4), -EINVAL);
	assert_int_equal(hex_decode("0011223", 7, out, 4), -EINVAL);
	assert_int_equal(hex_decode("001122334", 9, out, 4), -EINVAL);
	assert_int_equal(hex_decode("0011223344", 10, out, 4), -EINVAL);
	assert_memory_equal(out, bytes, 4);

	hex_u64(0x0123456789abcdef, text);
	assert_string_equal(text, "0123456789abcdef");
	assert_int_equal(hex_parse_u64(text, 16, &v), 0);
	assert_int_equal(v, 0x0123456789abcdef);
	assert_int_equal(hex_parse_u64("123456789abcdef", 15, &v), -EINVAL);
	assert_int_equal(hex_parse_u64("0x23456789abcdef", 16, &v), -EINVAL);
	assert_int_equal(v, 0x0123456789abcdef);
}

static void test_time_format(void **state)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 951782399999, "2000-02-28T23:59:59.999Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 1795222800007, "2026-11-21T01:00:00.007Z" },
		{ 253402300799999, "9999-12-31T23:59:59.999Z" },
		{ UINT64_MAX, "9999-12-31T23:59:59.999Z" },
	};
	char text[TIME_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		time_format(rows[i].ms, text);
		assert_string_equal(text, rows[i].text);
	}
}

static void test_time_parse(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} rows[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2000-02-29T00:00:00Z", 951782400000 },
		{ "2026-11-21T01:00:00.007Z", 1795222800007 },
		{ "2026-11-21T01:00:00.5Z", 1795222800500 },
	};
	static const char *const bad[] = {
		"",
		"last",
		"2026-11-21",
		"2026-11-21T01:00:00",
		"2026-11-21T01:00:00+01:00",
		"2026-11-21T01:00:00.Z",
		"2026-11-21T01:00:00.0007Z",
		"2026-13-21T01:00:00Z",
		"2026-11-21 01:00:00Z",
		"2026-11-21T01:00:00Zx",
		"1969-12-31T23:59:59Z",
		" 2026-11-21T01:00:00Z",
		"2026-11-21T1:00:00Z",
		"99999-11-21T01:00:00Z",
	};
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(
			time_parse(rows[i].text, strlen(rows[i].text), &ms), 0);
		assert_int_equal(ms, rows[i].ms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(time_parse(bad[i], strlen(bad[i]), &ms),
				 -EINVAL);
}

static void test_clocks(void **state)
{
	uint64_t ns = clock_mono_ns(), ms = clock_mono_ms();
	uint64_t wall_ms = clock_wall_ms();
	uint64_t now_s = (uint64_t)time(NULL);

	(void)state;
	assert_true(clock_mono_ns() >= ns);
	assert_true(ms >= ns / 1000000 && ms - ns / 1000000 < 10000);
	assert_in_range(wall_ms / 1000, now_s - 10, now_s + 1);
}

static void test_random(void **state)
{
	uint8_t a[600] = { 0 };
	size_t ones = 0;

	(void)state;
	random_bytes(a, sizeof(a));
	for (size_t i = 0; i < sizeof(a); i++)
		ones += (size_t)__builtin_popcount(a[i]);
	/* 2400 expected, sigma 35: ten sigmas never fail by chance. */
	assert_in_range(ones, 2050, 2750);
	assert_int_not_equal(random_u64(), random_u64());
	random_bytes(a, 0);
}

static void test_equal_const_time(void **state)
{
	uint8_t a[32], b[32];

	(void)state;
	memset(a, 0x5a, sizeof(a));
	for (size_t i = 0; i < 8 * sizeof(a); i++) {
		memcpy(b, a, sizeof(a));
		assert_true(equal_const_time(a, b, sizeof(a)));
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_false(equal_const_time(a, b, sizeof(a)));
	}
	assert_true(equal_const_time(a, b, 0));
}

/* A file to its end; of a longer one not all, but more than was allowed. */
static void test_buf_read(void **state)
{
	static char text[100000];
	int fd = memfd_create("text", MFD_CLOEXEC);
	struct buf b = BUF_INIT;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(buf_read(&b, fd, sizeof(text)), 0);
	assert_int_equal(b.len, sizeof(text));
	assert_memory_equal(b.data, text, sizeof(text));
	buf_reset(&b);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(buf_read(&b, fd, 5000), 0);
	assert_in_range(b.len, 5001, sizeof(text) - 1);
	close(fd);
	assert_int_equal(buf_read(&b, fd, sizeof(text)), -EBADF);
	buf_fini(&b);
}

static void test_parse_duration(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} rows[] = {
		{ "500ms", 500 },  { "10s", 10000 }, { "5m", 300000 },
		{ "1h", 3600000 }, { "2", 2000 },    { "0.05s", 50 },
		{ "0", 0 },
	};
	static const char *const bad[] = { "", "s", "ms", "5 s", "-1s", "5d" };
	uint64_t ms = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(parse_duration(rows[i].text,
						strlen(rows[i].text), &ms),
				 0);
		assert_int_equal(ms, rows[i].ms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_not_equal(
			parse_duration(bad[i], strlen(bad[i]), &ms), 0);
	assert_int_equal(ms, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_parse_real),
		cmocka_unit_test(test_parse_duration),
		cmocka_unit_test(test_add_sat),
		cmocka_unit_test(test_buf_read),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_time_format),
		cmocka_unit_test(test_time_parse),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_equal_const_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
