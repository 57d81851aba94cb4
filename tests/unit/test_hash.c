/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SipHash against the published vectors of SipHash-2-4 (key 00..0f, message
 * 00 01 02 …; the paper works the one of 15 bytes through) and vectors of
 * SipHash-1-3 from an implementation of its own on big integers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/hash.h"
#include "common/util.h"

static const struct hash_key key = {
	.b = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};

static const struct {
	size_t len;
	uint64_t sip24, sip13;
} vectors[] = {
	{ 0, 0x726fdb47dd0e0e31, 0xabac0158050fc4dc },
	{ 1, 0x74f839c593dc67fd, 0xc9f49bf37d57ca93 },
	{ 7, 0xab0200f58b01d137, 0xd3927d989bb11140 },
	{ 8, 0x93f5f5799a932462, 0x369095118d299a8e },
	{ 9, 0x9e0082df0ba9e4b0, 0x25a48eb36c063de4 },
	{ 15, 0xa129ca6149be45e5, 0xd320d86d2a519956 },
	{ 16, 0x3f2acc7f57c29bdb, 0xcc4fdd1a7d908b66 },
	{ 37, 0x027990f029623981, 0xb6101c2da3c33057 },
	{ 40, 0x0e3ea96b5304a7d0, 0xc1d2363299e41531 },
	{ 63, 0x958a324ceb064572, 0x9d199062b7bbb3a8 },
	{ 64, 0xacd2c40b8502cad8, 0xf17997ec4b4a6065 },
};

static const struct {
	size_t len;
	enum hash_domain domain;
	uint64_t hash;
} domain_vectors[] = {
	{ 0, HASH_KEY, 0xc9f49bf37d57ca93 },
	{ 4, HASH_PAIR, 0x1a3db62330fb8021 },
	{ 6, HASH_LEVELS, 0x2ef2f541e364aee8 },
	{ 7, HASH_ABSENT, 0x9eb3b32367db5041 },
	{ 8, HASH_SAMPLE, 0xdfa34bc232b5a24b },
	{ 15, HASH_KEY, 0x59ead0505f9657f8 },
	{ 16, HASH_PAIR, 0x3e173a57b9e47544 },
	{ 37, HASH_LEVELS, 0x5b34d490d32abfaf },
	{ 63, HASH_SAMPLE, 0x333e748d493b9833 },
};

static void counting_bytes(uint8_t *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		m[i] = (uint8_t)i;
}

static void test_vectors(void **state)
{
	uint8_t m[65];

	(void)state;
	/* One byte off alignment: keys may lie anywhere. */
	counting_bytes(m + 1, sizeof(m) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len = vectors[i].len;

		assert_int_equal(siphash24(&key, m + 1, len), vectors[i].sip24);
		assert_int_equal(siphash13(&key, m + 1, len), vectors[i].sip13);
	}
}

static void test_domain(void **state)
{
	uint8_t m[64];

	(void)state;
	counting_bytes(m, sizeof(m));
	for (size_t i = 0; i < ARRAY_SIZE(domain_vectors); i++)
		assert_int_equal(hash_domain(&key, m, domain_vectors[i].len,
					     domain_vectors[i].domain),
				 domain_vectors[i].hash);
}

/* The domain byte is a byte of the message, at every length. */
static void test_domain_is_suffix(void **state)
{
	uint8_t m[64];

	(void)state;
	for (size_t len = 0; len <= 63; len++) {
		counting_bytes(m, len);
		m[len] = HASH_SAMPLE;
		assert_int_equal(hash_domain(&key, m, len, HASH_SAMPLE),
				 siphash13(&key, m, len + 1));
	}
}

static void test_fingerprint(void **state)
{
	struct hash_key other = key;

	(void)state;
	assert_int_equal(hash_fingerprint(&key), 0x9f6b20a9ac5dc43f);
	other.b[15] ^= 0x80;
	assert_int_not_equal(hash_fingerprint(&other), 0x9f6b20a9ac5dc43f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_domain),
		cmocka_unit_test(test_domain_is_suffix),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
