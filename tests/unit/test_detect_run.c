/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A recorded day of three routers with 20 minutes of attacks: each of them is
 * an alarm, and normal minutes hardly are.  Three ways to the model: the whole
 * day, its first hours only, and batch by batch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/ewma.h"
#include "agent/detect/judge.h"
#include "common/util.h"
#include "golden.h"

#define M          144
#define START_UP   180 /* rows at the beginning that are not normal */
#define LAST       91  /* and at the end */
#define FIRST      60  /* row to calibrate on */
#define FALSE_GOAL 0.025

/* Minutes of attack as rows, first and last. */
static const struct run {
	const char *file;
	struct {
		size_t first, last;
	} attack[2];
	size_t minutes;
} runs[] = {
	{ "run_routerR1.csv.gz", { { 1471, 1477 }, { 1, 0 } }, 7 },
	{ "run_routerR2.csv.gz", { { 1466, 1466 }, { 1, 0 } }, 1 },
	{ "run_routerR3.csv.gz", { { 1418, 1423 }, { 1433, 1438 } }, 12 },
};

struct tally {
	size_t attacks, found, normal, alarms;
	struct detect_history history;
};

static void count(struct tally *t, const struct run *run, size_t i, size_t n,
		  bool alarm)
{
	bool attack = false;

	for (size_t k = 0; k < 2; k++)
		attack |= i >= run->attack[k].first && i <= run->attack[k].last;
	if (attack) {
		t->attacks++;
		t->found += alarm;
	} else if (i >= START_UP && i < n - LAST) {
		t->normal++;
		t->alarms += alarm;
	}
}

static struct detect_stats judge(struct tally *t, const struct run *run,
				 const struct detect_model *model,
				 const struct matrix *a, size_t i)
{
	const struct detect_rule rule = DETECT_RULE_DEFAULT;
	double z[M], e[M];
	struct detect_stats s;

	assert_int_equal(detect_judge(model, a->v + i * M, z, e, &s), 0);
	count(t, run, i, a->n, detect_rule_step(&rule, &t->history, model, &s));
	return s;
}

static void check(const struct tally *t, const struct run *run)
{
	const double share = (double)t->alarms / (double)t->normal;

	print_message("%s: %zu of %zu attack minutes, %.2f %% false alarms\n",
		      run->file, t->found, t->attacks, 100 * share);
	assert_int_equal(t->attacks, run->minutes);
	assert_int_equal(t->found, run->minutes);
	assert_true(share <= FALSE_GOAL);
}

/* A model of rows FIRST .. end-1 judges the rows from `from`. */
static void judge_static(const struct run *run, const struct matrix *a,
			 size_t end, size_t from)
{
	struct detect_options o = detect_options_default;
	struct detect_model *model = NULL;
	struct tally t = { 0 };

	o.lv = 3;
	o.active = DETECT_MAX;
	assert_int_equal(detect_calibrate(a->v + FIRST * M, end - FIRST, M, &o,
					  &model, NULL, NULL),
			 0);
	for (size_t i = from; i < a->n; i++)
		judge(&t, run, model, a, i);
	check(&t, run);
	detect_model_free(model);
}

#define BATCH 60

static void judge_dynamic(const struct run *run, const struct matrix *a)
{
	const struct detect_ewma_options o = { 2, 3, 0.01, 0.01, 2, 0.9 };
	struct detect_ewma *ewma = detect_ewma_new(M);
	static double batch[BATCH * M];
	struct detect_model *model = NULL;
	struct tally t = { 0 };
	size_t have = 0;

	for (size_t i = 0; i < a->n; i++) {
		struct detect_model *next = NULL;

		if (model) {
			struct detect_stats s = judge(&t, run, model, a, i);

			if (detect_beyond(model, &s, 10)) /* quarantine */
				continue;
		}
		memcpy(batch + have++ * M, a->v + i * M, M * sizeof(*batch));
		if (have < BATCH)
			continue;
		have = 0;
		assert_int_equal(detect_ewma_learn(ewma, batch, BATCH, &o,
						   &next, NULL),
				 0);
		detect_model_free(model);
		model = next;
	}
	check(&t, run);
	detect_model_free(model);
	detect_ewma_free(ewma);
}

static void test_run(void **state)
{
	/* says whether the data are there */
	struct json_object *o = golden_open("recorded_routerR1.json");

	(void)state;
	if (!o)
		skip();
	golden_close(o);
	for (size_t r = 0; r < ARRAY_SIZE(runs); r++) {
		struct matrix a = golden_data(runs[r].file);

		assert_int_equal(a.m, M);
		judge_static(runs + r, &a, a.n - 181, 0);
		judge_static(runs + r, &a, 740, 740);
		judge_dynamic(runs + r, &a);
		free(a.v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
