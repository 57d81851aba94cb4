/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coverage: sums, their ends, the wire form, what of it is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/coverage.h"
#include "tests/unit/seed.h"

static struct node_id id_of(unsigned n)
{
	struct node_id id = { { (uint8_t)(n >> 8), (uint8_t)n, 7 } };

	return id;
}

static struct coverage one(unsigned n, uint64_t matched, uint64_t received)
{
	struct ctl_loss loss = { { matched, 100 * matched },
				 { received, 100 * received } };
	struct node_id id = id_of(n);
	struct coverage c;

	coverage_answered(&c, "linnet", &id, &loss, 1000 + n, 2000 - n);
	return c;
}

static int decode_text(const char *text, struct coverage *out)
{
	struct json *v = NULL;
	int ret = json_parse(text, strlen(text), &v);

	if (!ret)
		ret = coverage_decode(v, out);
	json_free(v);
	return ret;
}

static int decode_buf(const struct buf *b, struct coverage *out)
{
	struct json *v = NULL;
	int ret = json_parse(b->data, b->len, &v);

	if (!ret)
		ret = coverage_decode(json_get(v, "coverage"), out);
	json_free(v);
	return ret;
}

static void encode(struct buf *b, const struct coverage *c)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
	assert_false(b->failed);
}

static void test_merge(void **state)
{
	struct coverage acc = { 0 }, a = one(1, 10, 8), b = one(2, 5, 5);
	struct node_id id = id_of(3);

	(void)state;
	a.epoch_max = (struct epoch){ 2, 9, 4 };
	b.epoch_max = (struct epoch){ 2, 8, 5 };
	a.clock_err_ms = 7;
	b.clock_err_ms = 9;
	b.clock_id = id_of(2);
	coverage_merge(&acc, &a, false);
	coverage_merge(&acc, &b, true);
	assert_int_equal(epoch_compare(&acc.epoch_max, &a.epoch_max), 0);
	coverage_missing(&acc, &id, MISSING_TIMEOUT, false);
	assert_int_equal(acc.answered, 2);
	assert_int_equal(acc.digest, a.digest + b.digest);
	assert_int_equal(acc.loss.matched.packets, 15);
	assert_int_equal(acc.loss.received.bytes, 1300);
	assert_int_equal(acc.hosts_missed, 1);
	assert_int_equal(acc.start_min_ms, 1001);
	assert_int_equal(acc.start_max_ms, 1002);
	assert_int_equal(acc.end_min_ms, 1998);
	assert_int_equal(acc.end_max_ms, 1999);
	assert_int_equal(acc.hops, 1);
	assert_int_equal(acc.clock_err_ms, 9);
	assert_true(node_id_equal(&acc.clock_id, &b.clock_id));
	assert_int_equal(acc.reasons[MISSING_TIMEOUT], 1);
	assert_int_equal(acc.n_missing, 1);
	assert_false(acc.saturated);
}

/* What one has received too much does not make up for what another missed. */
static void test_missed(void **state)
{
	struct coverage acc = { 0 }, a = one(1, 10, 8), b = one(2, 5, 7);

	(void)state;
	coverage_merge(&acc, &a, false);
	coverage_merge(&acc, &b, true);
	assert_int_equal(acc.loss.matched.packets, 15);
	assert_int_equal(acc.loss.received.packets, 13);
	assert_int_equal(acc.hosts_missed, 1);
}

/* The same host twice shows in the digest; the order of hosts does not. */
static void test_digest(void **state)
{
	struct coverage a = one(1, 0, 0), b = one(2, 0, 0), ab = { 0 },
			ba = { 0 }, aa = { 0 };
	struct node_id id = id_of(1);

	(void)state;
	coverage_merge(&ab, &a, false);
	coverage_merge(&ab, &b, false);
	coverage_merge(&ba, &b, false);
	coverage_merge(&ba, &a, false);
	coverage_merge(&aa, &a, false);
	coverage_merge(&aa, &a, false);
	assert_int_equal(ab.digest, ba.digest);
	assert_int_not_equal(ab.digest, aa.digest);
	assert_int_not_equal(aa.digest, 0);
	assert_int_not_equal(coverage_digest("linnet", &id),
			     coverage_digest("other", &id));
}

static void test_saturation(void **state)
{
	struct coverage acc = one(1, UINT64_MAX, 1), b = one(2, 2, 2);

	(void)state;
	acc.answered = UINT32_MAX;
	coverage_merge(&acc, &b, true);
	assert_true(acc.saturated);
	assert_int_equal(acc.answered, UINT32_MAX);
	assert_int_equal(acc.loss.matched.packets, UINT64_MAX);
	assert_int_equal(acc.loss.received.packets, 3);
}

/* 32 tops are listed, the others counted. */
static void test_many_missing(void **state)
{
	struct coverage acc = { 0 }, out;
	struct buf b = BUF_INIT;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct coverage c = { 0 };
		struct node_id id = id_of(i);

		coverage_missing(&c, &id,
				 i % 2 ? MISSING_TIMEOUT : MISSING_BUSY, i % 3);
		coverage_merge(&acc, &c, true);
	}
	assert_int_equal(acc.n_missing, COVERAGE_TOPS);
	assert_int_equal(acc.reasons[MISSING_TIMEOUT], 50);
	assert_int_equal(acc.reasons[MISSING_BUSY], 50);
	encode(&b, &acc);
	assert_int_equal(decode_buf(&b, &out), 0);
	assert_int_equal(out.n_missing, COVERAGE_TOPS);
	assert_int_equal(out.reasons[MISSING_BUSY], 50);
	buf_fini(&b);
}

static void test_codec(void **state)
{
	uint64_t seed = seed_start();

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct coverage acc = { 0 }, out;
		unsigned n = seed_below(&seed, 40);
		struct buf a = BUF_INIT, b = BUF_INIT;

		for (unsigned k = 0; k < n; k++) {
			struct coverage c = one(k, seed_next(&seed) >> 18,
						seed_next(&seed) >> 18);
			struct node_id id = id_of(k);

			c.epoch_max.term = seed_below(&seed, 3);
			c.epoch_max.root = seed_next(&seed);
			c.epoch_max.n = seed_next(&seed) % EPOCH_MAX;

			if (seed_below(&seed, 3) == 0) {
				c = (struct coverage){ 0 };
				coverage_missing(
					&c, &id,
					1 + seed_below(&seed,
						       MISSING_REASONS - 1),
					seed_below(&seed, 2));
			}
			coverage_merge(&acc, &c, seed_below(&seed, 2));
		}
		encode(&a, &acc);
		assert_int_equal(decode_buf(&a, &out), 0);
		encode(&b, &out);
		assert_string_equal(a.data, b.data);
		buf_fini(&a);
		buf_fini(&b);
	}
}

#define GOOD                                                    \
	"\"answered\": 2, \"digest\": \"00000000000000aa\", "   \
	"\"missing\": [[\"000102030405060708090a0b0c0d0e0f\", " \
	"\"timeout\"]], \"reasons\": {\"timeout\": 1}, "        \
	"\"matched\": [5, 500], \"received\": [4, 400], "       \
	"\"missed\": [1, 100], \"hosts_missed\": 1, "           \
	"\"window\": [1, 2, 3, 4], \"clock_err_ms\": 3, \"hops\": 1"

/* One member of the good text replaced, or everything else wrong with it. */
static void test_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "\"answered\": 2", "\"answered\": -2" },
		{ "\"answered\": 2", "\"answered\": 2.0e0" },
		{ "\"answered\": 2", "\"answered\": 1048577" },
		{ "\"answered\": 2", "\"answered\": \"2\"" },
		{ "\"answered\": 2", "\"answered\": 0" },
		{ "\"answered\": 2, ", "" },
		{ "00000000000000aa", "aa" },
		{ "00000000000000aa", "0000000000000 aa" },
		{ "\"timeout\"]]", "\"nonsense\"]]" },
		{ "\"timeout\"]]", "\"none\"]]" },
		{ "\"timeout\"]]", "\"busy\"]]" },
		{ "\"timeout\"]]", "\"timeout\", 1]]" },
		{ "[[\"0001", "[[\"01" },
		{ "{\"timeout\": 1}", "{\"timeout\": 0}" },
		{ "{\"timeout\": 1}", "{\"other\": 1, \"timeout\": 1}" },
		{ "{\"timeout\": 1}", "[]" },
		{ "[5, 500]", "[5]" },
		{ "[5, 500]", "[5, -1]" },
		{ "[5, 500]", "[5, 9223372036854775809]" },
		{ "[5, 500]", "{\"a\": 5, \"b\": 500}" },
		{ "[4, 400]", "[6, 400]" },
		{ "[4, 400]", "[4, 501]" },
		{ "\"hosts_missed\": 1", "\"hosts_missed\": 3" },
		{ "[1, 2, 3, 4]", "[2, 1, 3, 4]" },
		{ "[1, 2, 3, 4]", "[1, 2, 4, 3]" },
		{ "[1, 2, 3, 4]", "[1, 2, 3]" },
		{ "\"hops\": 1", "\"hops\": 17" },
		{ "\"hops\": 1", "\"hops\": 1, \"clock_of\": \"00\"" },
		{ "\"hops\": 1", "\"hops\": 1, \"saturated\": 1" },
		{ "\"hops\": 1", "\"hops\": 1, \"epoch_max\": \"1.2\"" },
		{ "\"hops\": 1", "\"hops\": 1, \"epoch_max\": 7" },
	};
	static const char good[] = "{" GOOD "}";
	struct coverage out;
	char text[1024];

	(void)state;
	assert_int_equal(decode_text(good, &out), 0);
	assert_int_equal(out.answered, 2);
	assert_int_equal(
		decode_text("{" GOOD ", \"of_later\": {\"a\": []}}", &out), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *at = strstr(good, bad[i][0]);

		assert_non_null(at);
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good,
			 bad[i][1], at + strlen(bad[i][0]));
		if (decode_text(text, &out) != -EINVAL)
			fail_msg("taken: %s", text);
	}
	assert_int_equal(decode_text("[]", &out), -EINVAL);
	assert_int_equal(decode_text("null", &out), -EINVAL);
}

/* A child may say the most there can be: what its parent makes of it and of
 * its own must not be refused further up. */
static void test_most_is_taken_above(void **state)
{
	static const char most[] =
		"{\"answered\": 2, \"digest\": \"00000000000000aa\", "
		"\"missing\": [], \"reasons\": {\"timeout\": 1048576}, "
		"\"matched\": [9223372036854775808, 9223372036854775808], "
		"\"received\": [9223372036854775808, 9223372036854775807], "
		"\"missed\": [0, 1], \"hosts_missed\": 2, "
		"\"window\": [1, 281474976710656, 3, 281474976710656], "
		"\"clock_err_ms\": 4294967295, \"hops\": 16}";
	const struct ctl_loss loss = { { 5, 500 }, { 4, 400 } };
	struct node_id id = { { 1 } };
	struct coverage acc, in, out;
	struct buf b = BUF_INIT;

	(void)state;
	coverage_answered(&acc, "linnet", &id, &loss, 10, 20);
	coverage_missing(&acc, &id, MISSING_TIMEOUT, false);
	assert_int_equal(decode_text(most, &in), 0);
	coverage_merge(&acc, &in, true);
	coverage_missing(&acc, &id, MISSING_TIMEOUT, false);
	encode(&b, &acc);
	assert_int_equal(decode_buf(&b, &out), 0);
	assert_int_equal(out.answered, 3);
	assert_true(out.saturated);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_missed),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_saturation),
		cmocka_unit_test(test_many_missing),
		cmocka_unit_test(test_codec),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_most_is_taken_above),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
