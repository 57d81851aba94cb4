/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parts as JSON: there and back, every refusal, replies into an answer. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/measure.h"
#include "agent/query_private.h"
#include "tests/unit/seed.h"

static const struct task_spec task = { .id = 0xc0ffee,
				       .generation = 3,
				       .key = KEY_SPORT,
				       .kinds = SKETCH_DEFAULT_KINDS,
				       .seed = { { 1, 2, 3 } } };

static struct part *example(enum part_kind k)
{
	struct part *p = part_new(k, &task);

	assert_non_null(p);
	p->totals.weight = p->totals.pkt = p->totals.items = 100;
	p->totals.byte = 8400;
	switch (k) {
	case PART_POINTS:
		p->points.n = 2;
		p->points.v = calloc(2, sizeof(*p->points.v));
		p->points.v[0] = (struct interval){ 3, 4, 7, 5, false };
		p->points.v[1].upper = UINT64_MAX;
		p->points.v[1].saturated = true;
		break;
	case PART_TOPK:
		p->topk.n = p->topk.cap = 2;
		p->topk.row = calloc(2, sizeof(*p->topk.row));
		for (unsigned i = 0; i < 2; i++) {
			((uint8_t *)p->topk.row[i].key.w)[1] = (uint8_t)(i + 1);
			p->topk.row[i].upper = 20 + i;
			p->topk.row[i].err = i;
			p->topk.row[i].own = i;
		}
		p->topk.floor = 4;
		break;
	case PART_EXACT:
		p->end_slot = 12345;
		p->n_slots = 10;
		p->exact.n = p->exact.cap = 1;
		p->exact.row = calloc(1, sizeof(*p->exact.row));
		p->exact.row[0].value = 9;
		break;
	case PART_HLL:
		p->hll.n_small = 3;
		p->hll.small = calloc(3, sizeof(*p->hll.small));
		for (unsigned i = 0; i < 3; i++)
			p->hll.small[i] = 1000 + i;
		break;
	case PART_TOTALS:
	case PART_KINDS:
		break;
	}
	return p;
}

/* {"part": …, "coverage": …} */
static void reply_write_of(struct buf *b, const struct part *p,
			   const struct coverage *c)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	part_write(&o, "part", p);
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
	assert_false(b->failed);
}

/* The same of one host. */
static void reply_write(struct buf *b, const struct part *p, unsigned host)
{
	const struct ctl_loss loss = { { 10, 10 }, { 10, 10 } };
	struct node_id id = { { (uint8_t)host } };
	struct coverage c;

	coverage_answered(&c, "linnet", &id, &loss, 1000, 2000);
	reply_write_of(b, p, &c);
}

static void test_round_trip(void **state)
{
	(void)state;
	for (unsigned k = 0; k < PART_KINDS; k++) {
		struct part *p = example(k), *q = NULL;
		struct buf a = BUF_INIT, b = BUF_INIT;
		struct json *v = NULL;

		reply_write(&a, p, 1);
		assert_int_equal(json_parse(a.data, a.len, &v), 0);
		assert_int_equal(part_parse(json_get(v, "part"), &task, &q), 0);
		reply_write(&b, q, 1);
		assert_string_equal(a.data, b.data);
		json_free(v);
		part_free(p);
		part_free(q);
		buf_fini(&a);
		buf_fini(&b);
	}
}

static int parse_changed(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	struct part *p = NULL;
	struct json *v = NULL;
	char *changed;
	int ret;

	assert_non_null(at);
	assert_true(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, to,
			     at + strlen(from)) > 0);
	ret = json_parse(changed, strlen(changed), &v);
	if (!ret)
		ret = part_parse(json_get(v, "part"), &task, &p);
	json_free(v);
	part_free(p);
	free(changed);
	return ret;
}

static void test_refusals(void **state)
{
	static const struct {
		const char *from, *to;
		int ret;
	} rows[] = {
		{ "\"v\": 1", "\"v\": 2", MERGE_PARAMS },
		{ "\"hash\": 1", "\"hash\": 2", MERGE_PARAMS },
		{ "0000000000c0ffee", "0000000000c0ffef", MERGE_TASK },
		{ "\"gen\": 3", "\"gen\": 4", MERGE_GENERATION },
		{ "\"fp\": \"", "\"fp\": \"00", -EINVAL },
		{ "\"key\": \"sport\"", "\"key\": \"dport\"", MERGE_KEY },
		{ "\"key\": \"sport\"", "\"key\": \"what\"", -EINVAL },
		{ "\"inc\": \"pkt\"", "\"inc\": \"byte\"", MERGE_INCREMENT },
		{ "\"len_ms\": 0", "\"len_ms\": 1000", MERGE_WINDOW },
		{ "{\"cap\": ", "{\"cap\": 1", MERGE_PARAMS },
		{ "{\"cap\": ", "{\"cat\": ", -EINVAL },
		{ "\"kind\": \"topk\"", "\"kind\": \"bottomk\"", -EINVAL },
		{ "\"weight\": 100", "\"weight\": -1", -EINVAL },
		{ "\"weight\": 100", "\"weight\": 9223372036854775809",
		  -EINVAL },
		{ "\"weight\": 100", "\"weight\": 10", -EINVAL },
		{ "\"weight\": 100, ", "", -EINVAL },
		{ "\"keys\": \"AAEAAg==\"", "\"keys\": \"AAIAAQ==\"", -EINVAL },
		{ "\"keys\": \"AAEAAg==\"", "\"keys\": \"AAEAAg=\"", -EINVAL },
		{ "\"keys\": \"AAEAAg==\"", "\"keys\": 7", -EINVAL },
		{ "\"floor\": 4", "\"floor\": 18446744073709551616", -EINVAL },
		{ "\"floor\": 4", "\"floor\": 18446744073709551615", -EINVAL },
		{ "\"floor\": 4", "\"floor\": \"4\"", -EINVAL },
		{ "\"floor\": 4", "\"later\": 4", -EINVAL },
		{ "\"floor\": 4", "\"floor\": 4, \"later\": 4", 0 },
		{ "\"win\": {", "\"later\": [1], \"win\": {", 0 },
	};
	struct part *p = example(PART_TOPK);
	struct buf b = BUF_INIT;

	(void)state;
	reply_write(&b, p, 1);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (parse_changed(b.data, rows[i].from, rows[i].to) !=
		    rows[i].ret)
			fail_msg("%s -> %s", rows[i].from, rows[i].to);
	part_free(p);
	buf_fini(&b);
}

/* Every cut and 10,000 flipped bits: refused, or taken as a valid part. */
static void test_damage(void **state)
{
	uint64_t seed = seed_start();

	(void)state;
	for (unsigned k = 0; k < PART_KINDS; k++) {
		struct part *p = example(k), *q;
		struct buf b = BUF_INIT;
		struct json *v = NULL;

		reply_write(&b, p, 1);
		for (size_t n = 0; n < b.len; n++)
			assert_int_not_equal(json_parse(b.data, n, &v), 0);
		for (unsigned i = 0; i < 2000; i++) {
			size_t at = seed_below(&seed, (uint32_t)b.len);
			char bit = (char)(1 << seed_below(&seed, 7));

			b.data[at] ^= bit;
			q = NULL;
			v = NULL;
			if (!json_parse(b.data, b.len, &v))
				part_parse(json_get(v, "part"), &task, &q);
			json_free(v);
			part_free(q);
			b.data[at] ^= bit;
		}
		part_free(p);
		buf_fini(&b);
	}
}

/* Of the task, as the one who asks knows it. */
static uint64_t created_ms;

static enum missing_reason merge_text(const struct ask *ask,
				      const struct buf *b, struct part **acc,
				      struct coverage *cov)
{
	enum missing_reason r = MISSING_INCOMPATIBLE;
	struct part *p = NULL;
	struct json *v = NULL;
	struct coverage c;
	const char *why;
	int ret;

	assert_int_equal(json_parse(b->data, b->len, &v), 0);
	ret = reply_parse(v, ask, created_ms, &p, &c, &why);
	json_free(v);
	if (ret)
		return ret > 0 ? r : MISSING_REJECTED;
	r = reply_check(ask, measure_row(ask->kind), p, &c, created_ms, &why);
	if (r == MISSING_NONE)
		coverage_merge(cov, &c, true);
	if (r == MISSING_NONE && *acc)
		assert_int_equal(part_merge(*acc, p), 0);
	if (r == MISSING_NONE && !*acc)
		*acc = p;
	else
		part_free(p);
	return r;
}

static void test_replies(void **state)
{
	struct ask ask = { .kind = ASK_TOP, .round = 1, .task = task };
	struct part *p = example(PART_TOPK), *acc = NULL;
	struct coverage cov = { 0 }, before;
	struct buf b = BUF_INIT;

	(void)state;
	for (unsigned host = 1; host <= 3; host++) {
		buf_reset(&b);
		reply_write(&b, p, host);
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 MISSING_NONE);
	}
	assert_int_equal(cov.answered, 3);
	assert_int_equal(acc->totals.pkt, 300);
	assert_int_equal(acc->topk.row[1].upper, 63);
	/* what is refused changes nothing */
	before = cov;
	ask.kind = ASK_DISTINCT;
	assert_int_equal(merge_text(&ask, &b, &acc, &cov), MISSING_REJECTED);
	ask.kind = ASK_TOP;
	ask.task.generation++;
	assert_int_equal(merge_text(&ask, &b, &acc, &cov),
			 MISSING_INCOMPATIBLE);
	ask.task.generation--;
	ask.task.seed.b[0]++;
	assert_int_equal(merge_text(&ask, &b, &acc, &cov),
			 MISSING_INCOMPATIBLE);
	ask.task.seed.b[0]--;
	assert_memory_equal(&before, &cov, sizeof(cov));
	assert_int_equal(acc->totals.pkt, 300);
	part_free(p);
	part_free(acc);
	buf_fini(&b);
}

/* Nor does anybody say since when all count. */
static void test_windows_that_cannot_be(void **state)
{
	struct ask ask = { .kind = ASK_TOP, .round = 1, .task = task };
	const struct node_id self = { { 1 } };
	struct part *p = example(PART_TOPK), *acc = NULL;
	uint64_t now = clock_wall_ms();
	struct coverage cov = { 0 }, own;
	struct ctl_loss none = { 0 };
	struct buf b = BUF_INIT;
	struct json_out o;

	(void)state;
	created_ms = now - 3600000;
	for (int early = 0; early < 2; early++) {
		coverage_answered(&own, "linnet", &self, &none,
				  early ? 0 : (uint64_t)1 << 48,
				  early ? 1 : (uint64_t)1 << 48);
		buf_reset(&b);
		json_out_init(&o, &b);
		json_open(&o, NULL, '{');
		part_write(&o, "part", p);
		coverage_encode(&o, "coverage", &own);
		json_close(&o, '}');
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 MISSING_NONE);
		part_free(acc);
		acc = NULL;
	}
	assert_int_equal(cov.start_min_ms, created_ms - 60000);
	assert_int_equal(cov.end_min_ms, created_ms - 60000);
	assert_in_range(cov.start_max_ms, now + 60000, now + 90000);
	assert_in_range(cov.end_max_ms, now + 60000, now + 90000);
	created_ms = 0;
	part_free(p);
	buf_fini(&b);
}

/* Made, as its owner's clock said, in an hour: hosts are believed as before. */
static void test_task_of_the_future(void **state)
{
	struct ask ask = { .kind = ASK_TOP, .round = 1, .task = task };
	struct part *p = example(PART_TOPK), *acc = NULL;
	const struct node_id self = { { 1 } };
	uint64_t now = clock_wall_ms();
	struct coverage cov = { 0 }, own;
	struct ctl_loss none = { 0 };
	struct buf b = BUF_INIT;

	(void)state;
	created_ms = now + 3600000;
	p->totals.byte = 100000000000000;
	coverage_answered(&own, "linnet", &self, &none, now - 5000, now);
	reply_write_of(&b, p, &own);
	assert_int_equal(merge_text(&ask, &b, &acc, &cov), MISSING_NONE);
	assert_int_equal(cov.start_max_ms, now - 5000);
	assert_int_equal(cov.end_max_ms, now);
	created_ms = 0;
	part_free(acc);
	part_free(p);
	buf_fini(&b);
}

/* A child that is the first to answer decides nothing about the question. */
static void test_wrong_answers(void **state)
{
	struct ask points = { .kind = ASK_POINTS, .task = task, .n_keys = 3 };
	struct ask last = { .kind = ASK_REALTIME,
			    .task = task,
			    .end_slot = 12346 };
	struct part *p = example(PART_POINTS), *acc = NULL;
	struct coverage cov = { 0 };
	struct buf b = BUF_INIT;

	(void)state;
	reply_write(&b, p, 1);
	assert_int_equal(merge_text(&points, &b, &acc, &cov), MISSING_REJECTED);
	points.n_keys = 2;
	assert_int_equal(merge_text(&points, &b, &acc, &cov), MISSING_NONE);
	part_free(acc);
	acc = NULL;
	/* the window that was asked for, not one that the first child chose */
	p->window = 7;
	buf_reset(&b);
	reply_write(&b, p, 1);
	assert_int_equal(merge_text(&points, &b, &acc, &cov), MISSING_REJECTED);
	points.window = 8;
	assert_int_equal(merge_text(&points, &b, &acc, &cov), MISSING_REJECTED);
	points.window = 7;
	assert_int_equal(merge_text(&points, &b, &acc, &cov), MISSING_NONE);
	assert_int_equal(acc->window, 7);
	part_free(acc);
	part_free(p);
	acc = NULL;
	p = example(PART_EXACT);
	buf_reset(&b);
	reply_write(&b, p, 1);
	assert_int_equal(merge_text(&last, &b, &acc, &cov), MISSING_REJECTED);
	last.end_slot = 12345;
	assert_int_equal(merge_text(&last, &b, &acc, &cov), MISSING_NONE);
	part_free(acc);
	part_free(p);
	buf_fini(&b);
}

/* No link carries that since the task began, or in its window. */
static void test_more_than_links_carry(void **state)
{
	struct ask ask = { .kind = ASK_POINTS, .task = task, .n_keys = 2 };
	const uint64_t tb = 1000000000000;
	const struct {
		uint64_t age_ms, window, bytes;
		bool good;
	} rows[] = {
		{ 0, 0, 2 * tb, true },        { 0, 0, 4 * tb, false },
		{ 60000, 0, 4 * tb, true },    { 3600000, 7, 2 * tb, false },
		{ 3600000, 7, tb / 20, true },
	};

	(void)state;
	ask.task.window_ms = 1000;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct part *p = example(PART_POINTS), *acc = NULL;
		struct coverage cov = { 0 };
		struct buf b = BUF_INIT;

		created_ms = clock_wall_ms() - rows[i].age_ms;
		p->params.window_ms = 1000;
		p->totals.byte = rows[i].bytes;
		p->window = ask.window = rows[i].window;
		reply_write(&b, p, 1);
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 rows[i].good ? MISSING_NONE
					      : MISSING_REJECTED);
		part_free(acc);
		part_free(p);
		buf_fini(&b);
	}
}

/* A child whose amounts cannot be would have its parent's refused above. */
static void test_more_of_anything(void **state)
{
	struct part *const p[] = { example(PART_TOTALS), example(PART_TOTALS),
				   example(PART_POINTS), example(PART_TOPK),
				   example(PART_TOPK) };
	static const enum ask_kind kinds[] = { ASK_TOTALS, ASK_TOTALS,
					       ASK_POINTS, ASK_TOP, ASK_TOP };
	uint64_t *const value[] = { &p[0]->totals.pkt, &p[1]->totals.segment,
				    &p[2]->points.v[0].upper,
				    &p[3]->topk.row[1].upper,
				    &p[4]->topk.floor };

	(void)state;
	created_ms = clock_wall_ms() - 3600000;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(p); i++) {
		unsigned k = i / 2;
		struct ask ask = { .kind = kinds[k], .round = 1, .task = task };
		struct coverage cov = { 0 };
		struct part *acc = NULL;
		struct buf b = BUF_INIT;

		ask.n_keys = kinds[k] == ASK_POINTS ? 2 : 0;
		if (i % 2) /* 400 Gbit/s for two hours are less */
			*value[k] = (uint64_t)1 << 59;
		reply_write(&b, p[k], 1);
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 i % 2 ? MISSING_REJECTED : MISSING_NONE);
		part_free(acc);
		if (i % 2)
			part_free(p[k]);
		buf_fini(&b);
	}
	created_ms = 0;
}

/* Of the last second a host tells what it has counted in all, too. */
static void test_much_in_an_hour(void **state)
{
	const uint64_t tb = 1000000000000;
	struct ask ask = { .kind = ASK_REALTIME,
			   .task = task,
			   .end_slot = 12345 };
	struct part *p = example(PART_EXACT), *acc = NULL;
	struct coverage cov = { 0 };

	(void)state;
	created_ms = clock_wall_ms() - 3600000;
	p->totals.byte = p->totals.weight = 100 * tb;
	for (unsigned i = 0; i < 2; i++) {
		struct buf b = BUF_INIT;

		p->exact.row[0].value = i ? tb / 2 : tb / 20;
		reply_write(&b, p, 1);
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 i ? MISSING_REJECTED : MISSING_NONE);
		part_free(acc);
		acc = NULL;
		buf_fini(&b);
	}
	created_ms = 0;
	part_free(p);
}

/* What is sure of one key is not more than what all have together. */
static void test_more_than_all(void **state)
{
	struct ask ask = { .kind = ASK_POINTS, .task = task, .n_keys = 2 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct part *p = example(PART_POINTS), *acc = NULL;
		struct coverage cov = { 0 };
		struct buf b = BUF_INIT;

		p->points.v[0].upper = 1000; /* that may be */
		if (i < 2)
			p->points.v[0].lower = 100 + i;
		else
			p->points.v[1].lower99 = 100 + i % 2;
		reply_write(&b, p, 1);
		assert_int_equal(merge_text(&ask, &b, &acc, &cov),
				 i % 2 ? MISSING_REJECTED : MISSING_NONE);
		part_free(acc);
		part_free(p);
		buf_fini(&b);
	}
}

/* Only in a second round can there be a part that no host has given now. */
static void test_part_of_no_host(void **state)
{
	struct ask ask = {
		.kind = ASK_POINTS, .round = 1, .task = task, .n_keys = 2
	};
	const struct node_id id = { { 1 } };
	struct part *p = example(PART_POINTS), *acc = NULL;
	struct coverage lost = { 0 }, cov = { 0 };
	struct buf b = BUF_INIT;

	(void)state;
	p->totals = (struct totals){ 0 };
	p->points.v[0].lower = p->points.v[0].lower99 = 0;
	coverage_missing(&lost, &id, MISSING_PARTIAL, true);
	reply_write_of(&b, p, &lost);
	assert_int_equal(merge_text(&ask, &b, &acc, &cov), MISSING_REJECTED);
	ask.round = 2;
	assert_int_equal(merge_text(&ask, &b, &acc, &cov), MISSING_NONE);
	part_free(acc);
	part_free(p);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_windows_that_cannot_be),
		cmocka_unit_test(test_task_of_the_future),
		cmocka_unit_test(test_wrong_answers),
		cmocka_unit_test(test_more_than_links_carry),
		cmocka_unit_test(test_more_of_anything),
		cmocka_unit_test(test_much_in_an_hour),
		cmocka_unit_test(test_more_than_all),
		cmocka_unit_test(test_part_of_no_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
