/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Base64 against the vectors of RFC 4648 section 10, and what it refuses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base64.h"
#include "common/util.h"

static const struct {
	const char *plain, *text, *url;
} vectors[] = {
	{ "", "", "" },
	{ "f", "Zg==", "Zg" },
	{ "fo", "Zm8=", "Zm8" },
	{ "foo", "Zm9v", "Zm9v" },
	{ "foob", "Zm9vYg==", "Zm9vYg" },
	{ "fooba", "Zm9vYmE=", "Zm9vYmE" },
	{ "foobar", "Zm9vYmFy", "Zm9vYmFy" },
	{ "\xfb\xff\xbf", "+/+/", "-_-_" },
};

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len = strlen(vectors[i].plain), n = 99;
		char text[16];
		uint8_t out[16];

		base64_encode(vectors[i].plain, len, text);
		assert_string_equal(text, vectors[i].text);
		assert_int_equal(strlen(text), BASE64_LEN(len));
		assert_int_equal(base64_decode(text, strlen(text), out, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(out, vectors[i].plain, len);
		base64url_encode(vectors[i].plain, len, text);
		assert_string_equal(text, vectors[i].url);
	}
}

static void test_every_length(void **state)
{
	uint8_t in[256], out[258];
	char text[BASE64_LEN(sizeof(in)) + 1];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 167 + 13);
	for (size_t len = 0; len <= sizeof(in); len++) {
		base64_encode(in, len, text);
		assert_int_equal(base64_decode(text, strlen(text), out, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(out, in, len);
	}
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"Z",        "Zg",       "Zg=",      "Zm8",     "=",
		"==",       "====",     "Z===",     "Zh==",    "Zm9=",
		"Zm9v ",    " Zm9v",    "Zm9v\n",   "Zm\n9",   "Zg==Zg==",
		"Zm8=Zm9v", "Zm=v",     "Z=9v",     "-_-_",    "Zm9\x80",
		"Zm9.",     "Zm9vZ===", "Zm9v====", "Zm9vZm9",
	};
	uint8_t out[16];
	size_t n = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (base64_decode(bad[i], strlen(bad[i]), out, &n) != -EINVAL)
			fail_msg("accepted: \"%s\"", bad[i]);
		assert_int_equal(n, 77);
	}
	/* The length ends the text, whatever follows. */
	assert_int_equal(base64_decode("Zm9vZm9v", 6, out, &n), -EINVAL);
	/* A NUL is no digit. */
	assert_int_equal(base64_decode("Zm\0v", 4, out, &n), -EINVAL);
}

/* Of the digits before padding, one in 16 or in 4 has no stray bit. */
static void test_trailing_bits(void **state)
{
	char two[] = "Z?==", three[] = "Zm?=";
	int of_two = 0, of_three = 0;
	uint8_t out[3];
	size_t n;

	(void)state;
	for (int c = 0; c < 256; c++) {
		two[1] = three[2] = (char)c;
		of_two += base64_decode(two, 4, out, &n) == 0;
		of_three += base64_decode(three, 4, out, &n) == 0;
	}
	assert_int_equal(of_two, 4);
	assert_int_equal(of_three, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_trailing_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
