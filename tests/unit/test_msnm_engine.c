/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The detector of the agent with rows made up: parameters, when what is
 * calibrated, states, the alarm rule with given sequences, children by id and
 * generation, late values, windows with a clock that jumps.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/json.h"
#include "agent/msnm_private.h"
#include "agent/msnm_worker.h"
#include "common/sketch/features.h"
#include "common/util.h"
#include "tests/unit/seed.h"

static uint64_t rnd;

/* ---- rows ---- */

#define COLUMNS FEATURES
#define ROWS    40

struct bench {
	struct msnm_engine e;
	uint64_t k;
	struct msnm_child child[3];
	unsigned n;
};

static double noise(void)
{
	double s = 0;

	for (unsigned i = 0; i < 12; i++)
		s += seed_below(&rnd, 1000) / 1000.0;
	return s - 6;
}

/* Three counters that move together, three that do not; nothing else. */
static void row_make(double x[COLUMNS], double extra)
{
	double load = 100 + 10 * noise();

	memset(x, 0, COLUMNS * sizeof(*x));
	for (unsigned i = 0; i < 3; i++)
		x[i] = load * (i + 1) + noise();
	for (unsigned i = 3; i < 6; i++)
		x[i] = 50 + 5 * noise();
	x[4] += extra;
}

static void bench_open(struct bench *b, const char *params)
{
	struct msnm_conf c;
	char text[MSNM_TEXT_LEN];

	memset(b, 0, sizeof(*b));
	b->k = 1000;
	snprintf(text, sizeof(text), "window_s=10 rows=%d lv=1 clean=0%s%s",
		 ROWS, params[0] ? " " : "", params);
	assert_int_equal(msnm_conf_parse(&c, text), 0);
	assert_int_equal(msnm_engine_init(&b->e, &c, "10.0.0.1"), 0);
}

static const struct msnm_entry *feed(struct bench *b, uint32_t quality,
				     double extra)
{
	double x[COLUMNS];
	const struct msnm_entry *en;

	row_make(x, extra);
	en = msnm_engine_row(&b->e, b->k++, quality, 0, 0, x, b->child, b->n);
	assert_non_null(en);
	return en;
}

/* Does the job in place; false: it made no model. */
static bool work(struct bench *b, bool asked)
{
	struct msnm_job *j = msnm_engine_job(&b->e, asked);
	struct detect_model *m;
	char why[160] = "";

	if (!j)
		return false;
	m = msnm_job_run(j, why, sizeof(why));
	if (!m)
		fail_msg("%s", why);
	msnm_engine_swap(&b->e, msnm_model_new(m, &j->set));
	msnm_job_free(j);
	return true;
}

static void calibrated(struct bench *b, const char *params)
{
	bench_open(b, params);
	for (unsigned i = 0; i < ROWS; i++) {
		assert_false(work(b, false));
		assert_int_equal(feed(b, 0, 0)->state, MSNM_LEARNING);
	}
	assert_true(work(b, false));
	assert_false(work(b, false));
}

static struct node_id id_of(uint8_t n)
{
	struct node_id id = { { n } };

	return id;
}

static void child_make(struct msnm_child *c, uint8_t n, uint64_t generation)
{
	*c = (struct msnm_child){ .id = id_of(n),
				  .has = true,
				  .settled = true,
				  .generation = generation,
				  .q = 1 + fabs(noise()),
				  .ucl_q = 5,
				  .d = 2 + fabs(noise()),
				  .ucl_d = 8 };
	snprintf(c->host, sizeof(c->host), "10.0.0.%u", n);
}

static const struct msnm_entry *feed_children(struct bench *b)
{
	for (unsigned i = 0; i < b->n; i++)
		child_make(&b->child[i], (uint8_t)(2 + i), 7 + i);
	return feed(b, 0, 0);
}

/* Rows as many as the history has, and now and then a child is silent. */
static void test_incomplete_history(void **state)
{
	struct bench b;
	unsigned i = 0;

	(void)state;
	bench_open(&b, "rows=1440");
	while (i++ < 1440)
		feed(&b, 0, 0);
	assert_true(work(&b, false));
	b.n = 1;
	for (i = 0; !msnm_model_full(b.e.model) && i < 1600; i++) {
		child_make(&b.child[0], 2, 7);
		b.child[0].has = i % 100 != 50;
		feed(&b, 0, 0);
		(void)work(&b, false);
	}
	assert_true(msnm_model_full(b.e.model));
	assert_in_range(b.e.n, 1440, 2 * 1440);
	msnm_engine_fini(&b.e);
}

/* Rows too old to be asked for are those of a calibration as before. */
static void test_old(void **state)
{
	struct msnm_set set = { .n = 2 };
	struct msnm_model shape = { .n_own = COLUMNS };
	double before[10][COLUMNS + 4], x[COLUMNS + 4];
	struct bench b;

	(void)state;
	bench_open(&b, "rows=2000");
	for (unsigned i = 0; i < 2; i++)
		set.child[i] =
			(typeof(set.child[0])){ .id = id_of((uint8_t)(2 + i)),
						.generation = 7 + i };
	shape.set = set;
	b.n = 2;
	for (unsigned i = 0; i < 10; i++) {
		feed_children(&b);
		b.e.entry[i]->child[0].has = i != 3;
		b.e.entry[i]->child[1].late = i == 4;
		b.e.entry[i]->child[1].generation += i == 5;
		b.e.entry[i]->child[1].state = i == 6 ? MSNM_SUPPRESSED
						      : MSNM_OK;
		msnm_entry_cells(b.e.entry[i], &shape, before[i]);
	}
	for (unsigned i = 0; i < MSNM_HISTORY; i++)
		feed_children(&b);
	for (unsigned i = 0; i < 10; i++) {
		assert_null(b.e.entry[i]->child);
		assert_null(msnm_engine_find(&b.e, 1000 + i));
		msnm_entry_cells(b.e.entry[i], &shape, x);
		for (unsigned k = 0; k < COLUMNS + 4; k++)
			assert_true(
				(isnan(x[k]) && isnan(before[i][k])) ||
				(x[k] >= before[i][k] && x[k] <= before[i][k]));
		assert_int_equal(msnm_entry_good(b.e.entry[i], &set),
				 i < 3 || i > 6);
	}
	assert_non_null(msnm_engine_find(&b.e, 1010));
	assert_int_equal(msnm_engine_have(&b.e, true), MSNM_HISTORY + 6);
	msnm_engine_fini(&b.e);
}

/* With two children as columns. */
static void calibrated_full(struct bench *b, const char *params)
{
	calibrated(b, params);
	b->n = 2;
	for (unsigned i = 0; i < ROWS; i++) {
		assert_false(work(b, false));
		feed_children(b);
	}
	assert_true(msnm_engine_collects_full(&b->e));
	assert_true(work(b, false));
	assert_false(msnm_engine_collects_full(&b->e));
	assert_true(msnm_model_full(b->e.model));
	assert_int_equal(b->e.model->m->generation, 2);
}

/* ---- parameters ---- */

static void test_conf(void **state)
{
	static const struct {
		enum msnm_param p;
		const char *bad[6], *good[3];
	} rows[] = {
		{ MSNM_ENABLED, { "2", "", "yes", "01" }, { "0", "1" } },
		{ MSNM_WINDOW,
		  { "0", "11", "7200", "x", "-10" },
		  { "10", "3600" } },
		{ MSNM_BLOCKS,
		  { "all", "host+compat", "" },
		  { "compat", "host", "compat+host" } },
		{ MSNM_SEMANTICS,
		  { "csv", "packets/2", "packets" },
		  { "packets/1", "netflow/1" } },
		{ MSNM_ROWS, { "12", "10081", "1e2" }, { "13", "10080" } },
		{ MSNM_LV, { "0", "101", "Auto", "autox" }, { "auto", "3" } },
		{ MSNM_PREP, { "3", "-1" }, { "0", "2" } },
		{ MSNM_ALPHA_Q,
		  { "0", "0.6", "nan", "inf", "1e-10" },
		  { "0.5", "0.001" } },
		{ MSNM_LIMITS, { "min", "MAX", "" }, { "theory", "max" } },
		{ MSNM_CLEAN, { "-0.1", "0.51" }, { "0", "0.5" } },
		{ MSNM_ALARM,
		  { "3:2:3", "0:3:3", "2:3", "2:65:3", "2:3:0.5", "2:3:3:4" },
		  { "2:3:3", "1:1:1", "64:64:1000000" } },
		{ MSNM_MISSING, { "mean", "" }, { "tsr", "refuse" } },
		{ MSNM_BATCH, { "2", "1441" }, { "3", "1440" } },
	};
	struct msnm_conf c, before, again;
	char text[MSNM_TEXT_LEN], once[MSNM_TEXT_LEN];
	struct error e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		msnm_conf_default(&c);
		before = c;
		for (unsigned k = 0; k < 6 && rows[i].bad[k]; k++) {
			const char *s = rows[i].bad[k];

			if (!msnm_conf_set(&c, rows[i].p, s, strlen(s)))
				fail_msg("%s=%s", msnm_param_name(rows[i].p),
					 s);
			assert_memory_equal(&c, &before, sizeof(c));
		}
		for (unsigned k = 0; k < 3 && rows[i].good[k]; k++) {
			const char *s = rows[i].good[k];

			assert_int_equal(
				msnm_conf_set(&c, rows[i].p, s, strlen(s)), 0);
		}
		msnm_conf_text(&c, text);
		if (!msnm_conf_check(&c, &e)) {
			assert_int_equal(msnm_conf_parse(&again, text), 0);
			msnm_conf_text(&again, once);
			assert_string_equal(text, once);
		}
	}
	msnm_conf_default(&c);
	c.lv = 3;
	c.rows = 18;
	assert_int_not_equal(msnm_conf_check(&c, &e), 0);
	assert_string_equal(e.field, "rows");
	c.rows = 19;
	assert_int_equal(msnm_conf_check(&c, &e), 0);
	assert_int_not_equal(msnm_conf_parse(&c, "rows=13 lv=9"), 0);
	assert_int_not_equal(msnm_conf_parse(&c, "nothing=1"), 0);
}

/* ---- windows ---- */

static void test_windows(void **state)
{
	uint64_t next = 100;

	(void)state;
	assert_false(msnm_due(&next, 100)); /* it is open */
	assert_true(msnm_due(&next, 101));
	assert_int_equal(next, 100);
	/* a pause: those the monitor keeps, one after the other */
	assert_true(msnm_due(&next, 105));
	assert_int_equal(next, 100);
	assert_true(msnm_due(&next, 106));
	assert_int_equal(next, 105);
	/* set back by a moment: what was judged is not judged again */
	next = 100;
	assert_false(msnm_due(&next, 99));
	assert_true(msnm_due(&next, 100));
	assert_int_equal(next, 99);
	/* set back by a day, and on by one */
	next = 10000;
	assert_false(msnm_due(&next, 1360));
	assert_true(msnm_due(&next, 1361));
	assert_int_equal(next, 1360);
	assert_true(msnm_due(&next, 10000));
	assert_int_equal(next, 9999);
}

/* ---- states ---- */

static void test_collects(void **state)
{
	struct bench b;
	struct msnm_job *j;

	(void)state;
	bench_open(&b, "");
	/* flagged rows are no rows, asked before there are enough */
	for (unsigned i = 0; i < ROWS; i++) {
		feed(&b, FEATURES_PARTIAL, 0);
		feed(&b, FEATURES_MISSED, 0);
		assert_false(work(&b, false));
	}
	assert_int_equal(msnm_engine_have(&b.e, false), 0);
	for (unsigned i = 0; i < 20; i++)
		feed(&b, 0, 0);
	assert_false(work(&b, false));
	j = msnm_engine_job(&b.e, true);
	assert_non_null(j);
	assert_int_equal(j->n, 20);
	assert_int_equal(j->m, FEATURES);
	assert_string_equal(j->names[0], "src_ip_private");
	msnm_job_free(j);
	assert_true(work(&b, true));
	assert_int_equal(b.e.model->m->generation, 1);
	assert_int_equal(feed(&b, 0, 0)->state, MSNM_OK);
	msnm_engine_fini(&b.e);
}

static void test_states(void **state)
{
	const struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated(&b, "");
	en = feed(&b, 0, 0);
	assert_int_equal(en->state, MSNM_OK);
	assert_true(isfinite(en->q) && en->ucl_q > 0 && en->ucl_d > 0);
	/* a flood that is partly missed is an alarm, half a window is none */
	en = feed(&b, FEATURES_MISSED | FEATURES_OVERFLOW, 1e4);
	assert_int_equal(en->state, MSNM_OK);
	assert_true(en->alarm);
	en = feed(&b, FEATURES_PARTIAL, 1e4);
	assert_int_equal(en->state, MSNM_SUPPRESSED);
	assert_false(en->alarm);
	assert_int_not_equal(en->over, 0);
	en = feed(&b, FEATURES_CLOCK, 1e4);
	assert_int_equal(en->state, MSNM_SUPPRESSED);
	assert_false(en->alarm);
	msnm_engine_fini(&b.e);
}

/* Few rows: as many latent variables as they can tell from noise. */
static void test_latent(void **state)
{
	struct detect_model *m;
	struct msnm_job *j;
	double x[COLUMNS];
	struct bench b;
	char why[160];

	(void)state;
	bench_open(&b, "");
	assert_int_equal(msnm_conf_set(&b.e.conf, MSNM_LV, "auto", 4), 0);
	for (unsigned i = 0; i < ROWS; i++) {
		for (unsigned k = 0; k < COLUMNS; k++)
			x[k] = noise();
		msnm_engine_row(&b.e, b.k++, 0, 0, 0, x, NULL, 0);
	}
	j = msnm_engine_job(&b.e, false);
	assert_non_null(j);
	m = msnm_job_run(j, why, sizeof(why));
	assert_non_null(m);
	assert_in_range(m->lv, 1, ROWS / 20);
	detect_model_free(m);
	/* which by itself would be more */
	j->options.lv_most = 0;
	m = msnm_job_run(j, why, sizeof(why));
	assert_non_null(m);
	assert_in_range(m->lv, ROWS / 20 + 1, 10);
	detect_model_free(m);
	msnm_job_free(j);
	msnm_engine_fini(&b.e);
}

static void test_history(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, "");
	for (unsigned i = 0; i < MSNM_HISTORY + 100; i++)
		feed(&b, i % 2 ? FEATURES_MISSED : 0, 0);
	assert_true(b.e.n >= MSNM_HISTORY && b.e.n <= 2 * MSNM_HISTORY);
	assert_int_equal(msnm_engine_last(&b.e)->interval, b.k - 1);
	assert_null(msnm_engine_find(&b.e, 1000));
	assert_non_null(msnm_engine_find(&b.e, b.k - MSNM_HISTORY));
	/* another window: rows and model mean nothing any more */
	b.e.conf.rows = 20;
	assert_true(work(&b, false));
	struct msnm_conf c = b.e.conf;
	c.window_s = 20;
	msnm_engine_configure(&b.e, &c, false);
	assert_int_equal(b.e.n, 0);
	assert_null(b.e.model);
	msnm_engine_fini(&b.e);
}

/* ---- alarms ---- */

/* Rows that are over (1), not (0), or are missing (-), far over (2). */
static void sequence(struct bench *b, const char *rows, const char *alarms)
{
	for (unsigned i = 0; rows[i]; i++) {
		const struct msnm_entry *en;
		double limit = b->e.model->m->limits.ucl_q;

		if (rows[i] == '-') {
			b->k++;
			continue;
		}
		do {
			/* as many as it takes to hit the range */
			double extra = rows[i] == '0'   ? 0
				       : rows[i] == '1' ? 20 + noise() * 2
							: 1e4;
			struct detect_history h = b->e.history;
			uint64_t last = b->e.last;
			struct msnm_alarms none = { 0 }, keep = b->e.alarms;

			b->e.alarms = none;
			en = feed(b, 0, extra);
			msnm_alarms_fini(&b->e.alarms);
			b->e.alarms = keep;
			b->e.history = h;
			b->e.last = last;
			if ((rows[i] == '0' && !en->over) ||
			    (rows[i] == '1' && en->over == DETECT_OVER_Q &&
			     en->q < 3 * limit) ||
			    rows[i] == '2')
				break;
			b->k--;
			msnm_entry_free(b->e.entry[--b->e.n]);
		} while (true);
		/* once more, for good */
		struct msnm_entry *mine = b->e.entry[--b->e.n];

		b->k--;
		en = msnm_engine_row(&b->e, b->k++, 0, 0, 0, mine->x, NULL, 0);
		msnm_entry_free(mine);
		if (en->alarm != (alarms[i] == 'A'))
			fail_msg("%s: alarm of row %u", rows, i);
	}
}

static void test_rule(void **state)
{
	static const char *const rows[][2] = {
		{ "0010000", "......." }, { "0110000", "..A...." },
		{ "01010", "...A." },     { "010010", "......" },
		{ "02000", ".A..." },     { "1-1000", "..A..." },
		{ "1--1000", "......." },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bench b;

		calibrated(&b, "");
		sequence(&b, rows[i][0], rows[i][1]);
		msnm_engine_fini(&b.e);
	}
}

/* What could not alarm is no half of an alarm later. */
static void test_suppressed_half(void **state)
{
	struct bench b;

	(void)state;
	calibrated(&b, "");
	assert_int_not_equal(feed(&b, FEATURES_PARTIAL, 1e4)->over, 0);
	sequence(&b, "10100", "..A..");
	msnm_engine_fini(&b.e);
}

static void test_alarm_object(void **state)
{
	const struct msnm_alarm *al;
	struct msnm_conf c;
	struct bench b;
	uint64_t first;

	(void)state;
	calibrated(&b, "");
	sequence(&b, "000", "...");
	first = b.k + 1;
	sequence(&b, "1121", ".AAA");
	al = msnm_alarms_firing(&b.e.alarms, ALARM_Q, "");
	assert_non_null(al);
	assert_int_equal(al->first, first);
	assert_int_equal(al->last, first + 2);
	assert_int_equal(al->intervals, 3);
	assert_true(al->value > 3 * al->limit); /* the largest seen */
	assert_string_equal(al->top[0].name, feature_get(4)->name);
	/* two that are not over are not enough, one in between begins anew */
	sequence(&b, "00", "..");
	assert_non_null(msnm_alarms_firing(&b.e.alarms, ALARM_Q, ""));
	sequence(&b, "2", "A");
	sequence(&b, "00", "..");
	assert_non_null(msnm_alarms_firing(&b.e.alarms, ALARM_Q, ""));
	assert_int_equal(b.e.alarms.row[0].intervals, 4);
	sequence(&b, "0", ".");
	assert_null(msnm_alarms_firing(&b.e.alarms, ALARM_Q, ""));
	sequence(&b, "2", "A");
	al = msnm_alarms_firing(&b.e.alarms, ALARM_Q, "");
	assert_non_null(al);
	assert_int_not_equal(al->id, b.e.alarms.row[0].id);
	/* intervals are numbered by the window that they were of */
	c = b.e.conf;
	c.window_s = 20;
	msnm_engine_configure(&b.e, &c, true);
	al = msnm_alarms_raise(&b.e.alarms, ALARM_Q, "10.0.0.1", "", 7);
	assert_int_equal(al->window_s, 20);
	assert_int_equal(b.e.alarms.row[0].window_s, 10);
	msnm_engine_fini(&b.e);
}

/* ---- children ---- */

static void test_full(void **state)
{
	const struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated_full(&b, "");
	assert_int_equal(b.e.model->m->m, FEATURES + 4);
	assert_string_equal(b.e.model->m->schema.names[FEATURES], "q:10.0.0.2");
	assert_string_equal(b.e.model->m->schema.names[FEATURES + 3],
			    "d:10.0.0.3");
	en = feed_children(&b);
	assert_int_equal(en->state, MSNM_OK);
	assert_int_equal(en->n_missing, 0);
	/* a child far off is the first contributor, by name */
	for (unsigned i = 0; i < 2; i++)
		child_make(&b.child[i], (uint8_t)(2 + i), 7 + i);
	b.child[1].q = 1e22;
	en = feed(&b, 0, 0);
	assert_true(en->alarm);
	assert_int_equal(en->top[0].child, 1);
	assert_false(en->top[0].d);
	assert_string_equal(msnm_alarms_firing(&b.e.alarms, ALARM_Q, "")->path,
			    "10.0.0.1 10.0.0.3");
	msnm_engine_fini(&b.e);
}

/* Incomplete rows are not collected, whatever is missing. */
static void test_incomplete(void **state)
{
	struct bench b;

	(void)state;
	calibrated(&b, "");
	b.n = 2;
	for (unsigned i = 0; i < 5 * ROWS; i++) {
		for (unsigned k = 0; k < 2; k++)
			child_make(&b.child[k], (uint8_t)(2 + k), 7 + k);
		switch (i % 5) {
		case 0:
			b.child[0].has = false;
			break;
		case 1:
			b.child[1].ucl_q = NAN;
			break;
		case 2:
			b.child[1].state = MSNM_SUPPRESSED;
			break;
		case 3:
			b.child[1].generation = 0;
			b.child[1].state = MSNM_LEARNING;
			break;
		default:
			b.child[0].settled = false;
		}
		if (i % 5 != 4)
			feed(&b, 0, 0);
	}
	feed_children(&b);
	assert_true(msnm_engine_collects_full(&b.e));
	assert_int_equal(msnm_engine_have(&b.e, true), 1);
	assert_int_equal(msnm_engine_have(&b.e, false), ROWS);
	msnm_engine_fini(&b.e);
}

/* What children said of an interval counts without a row of this host. */
static void test_no_row(void **state)
{
	const struct msnm_entry *en;
	struct bench b;
	size_t n;

	(void)state;
	calibrated_full(&b, "");
	feed_children(&b);
	n = msnm_engine_have(&b.e, true);
	b.e.conf.rows = 1000;
	for (unsigned i = 0; i < 2; i++)
		child_make(&b.child[i], (uint8_t)(2 + i), 7 + i);
	en = msnm_engine_row(&b.e, b.k++, 0, 0, 0, NULL, b.child, b.n);
	assert_non_null(en);
	assert_int_equal(en->state, MSNM_SUPPRESSED);
	assert_false(en->has_stats || en->alarm);
	assert_int_equal(en->n_child, 2);
	b.child[1].beyond = (struct msnm_beyond){ true, false, 100, 5 };
	en = msnm_engine_row(&b.e, b.k++, 0, 0, 0, NULL, b.child, b.n);
	assert_true(en->alarm && en->beyond.is && en->via == 1);
	assert_int_equal(en->top[0].child, 1);
	/* it has no row itself, and passes on what is below it */
	b.child[1].q = b.child[1].d = NAN;
	en = msnm_engine_row(&b.e, b.k++, 0, 0, 0, NULL, b.child, b.n);
	assert_true(en->alarm && en->via == 1 && !en->top[0].d);
	/* and it is no row to learn from */
	b.e.conf.rows = ROWS;
	assert_int_equal(msnm_engine_have(&b.e, true), n);
	b.e.conf.rows = 1000;
	n = msnm_engine_have(&b.e, false);
	msnm_engine_row(&b.e, b.k++, 0, 0, 0, NULL, b.child, b.n);
	assert_int_equal(msnm_engine_have(&b.e, false), n);
	msnm_engine_fini(&b.e);
}

/* ---- alarms of children ---- */

static void test_passed(void **state)
{
	const struct msnm_alarm *al;
	const struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated_full(&b, "");
	en = feed_children(&b);
	assert_false(en->alarm || en->beyond.is || en->via >= 0);
	/* far over there, nothing of it in the row here */
	for (unsigned i = 0; i < 2; i++)
		child_make(&b.child[i], (uint8_t)(2 + i), 7 + i);
	b.child[0].beyond = (struct msnm_beyond){ true, true, 40, 10 };
	b.child[1].beyond = (struct msnm_beyond){ true, false, 95, 5 };
	en = feed(&b, 0, 0);
	assert_int_equal(en->state, MSNM_OK);
	assert_true(en->alarm);
	assert_int_equal(en->via, 1);
	assert_true(en->beyond.value > 94 && !en->beyond.d);
	assert_int_equal(en->top[0].child, 1);
	for (unsigned i = 1; i < en->n_top; i++)
		assert_false(en->top[i].child == 1 &&
			     en->top[i].d == en->top[0].d);
	al = msnm_alarms_firing(&b.e.alarms, ALARM_Q, "");
	assert_non_null(al);
	assert_null(msnm_alarms_firing(&b.e.alarms, ALARM_D, ""));
	assert_true(al->value > 94 && al->limit < 6);
	assert_string_equal(al->path, "10.0.0.1 10.0.0.3");
	/* half of an alarm here it is not, and it ends like any */
	b.child[0].beyond.is = b.child[1].beyond.is = false;
	sequence(&b, "10", "..");
	/* one in a hundred rows is over by chance */
	for (unsigned i = 0; i < 30 && al->firing; i++)
		feed_children(&b);
	assert_null(msnm_alarms_firing(&b.e.alarms, ALARM_Q, ""));
	/* late, or of no interval: not heard */
	b.child[0].beyond = (struct msnm_beyond){ true, true, 40, 10 };
	b.child[0].has = false;
	assert_false(feed(&b, 0, 0)->alarm);
	/* what is farther here is what is passed on */
	b.child[0].has = true;
	en = feed(&b, 0, 1e6);
	assert_true(en->alarm && en->via == -1 && en->beyond.is);
	assert_true(en->beyond.value >= en->q && en->beyond.value <= en->q);
	/* a window that was not whole here hides nothing that is below */
	en = feed(&b, FEATURES_PARTIAL, 1e6);
	assert_int_equal(en->state, MSNM_SUPPRESSED);
	assert_true(en->alarm && en->via == 0);
	msnm_engine_fini(&b.e);
}

static void test_generations(void **state)
{
	const struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated_full(&b, "max_imputed=1");
	for (unsigned i = 0; i < 2; i++)
		child_make(&b.child[i], (uint8_t)(2 + i), 7 + i);
	b.child[0].generation = 8; /* calibrated anew */
	b.child[0].q = 1e22;
	en = feed(&b, 0, 0);
	assert_true(en->child[0].model);
	assert_false(en->child[1].model);
	assert_int_equal(en->n_missing, 2);
	assert_true(en->share > 0);
	assert_false(en->alarm); /* what it says means something else now */
	/* and the parent collects for the new one */
	assert_true(msnm_engine_collects_full(&b.e));
	for (unsigned i = 2; i < ROWS; i++) {
		for (unsigned k = 0; k < 2; k++)
			child_make(&b.child[k], (uint8_t)(2 + k), 8);
		b.child[1].generation = 8;
		feed(&b, 0, 0);
		assert_false(work(&b, false));
	}
	b.child[0].q = 2;
	feed(&b, 0, 0);
	assert_true(work(&b, false));
	assert_int_equal(b.e.model->set.child[0].generation, 8);
	assert_int_equal(b.e.model->m->generation, 3);
	msnm_engine_fini(&b.e);
}

/* More of the row missing than may be: no alarm, and not learned. */
static void test_suppressed(void **state)
{
	const struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated_full(&b, "max_imputed=0");
	feed_children(&b);
	b.child[0].has = false;
	b.child[0].why = MISSING_TIMEOUT;
	en = feed(&b, 0, 1e4);
	assert_int_equal(en->n_missing, 2);
	assert_int_equal(en->state, MSNM_SUPPRESSED);
	assert_false(en->alarm);
	assert_true(en->has_stats);
	/* what may not alarm at a child is no alarm of its parent's either */
	b.e.conf.max_imputed = 1;
	for (unsigned i = 0; i < 2; i++) {
		feed_children(&b);
		b.child[1].state = i ? MSNM_WARMING : MSNM_SUPPRESSED;
		b.child[1].q = b.child[1].d = 1e9;
		en = feed(&b, 0, 0);
		assert_int_equal(en->n_missing, 2);
		assert_true(en->q < 10 * en->ucl_q);
	}
	msnm_engine_fini(&b.e);
}

/* Columns are found by id, not by where a child stands in the answer. */
static void test_swapped(void **state)
{
	double x[FEATURES + 4], y[FEATURES + 4];
	struct msnm_child both[2];
	struct msnm_entry *en;
	struct bench b;

	(void)state;
	calibrated_full(&b, "");
	en = (struct msnm_entry *)feed_children(&b);
	msnm_entry_cells(en, b.e.model, x);
	both[0] = en->child[1];
	both[1] = en->child[0];
	memcpy(en->child, both, sizeof(both));
	msnm_entry_cells(en, b.e.model, y);
	assert_memory_equal(x, y, sizeof(x));
	msnm_engine_fini(&b.e);
}

static void test_late(void **state)
{
	struct msnm_entry *en;
	struct msnm_child c;
	struct bench b;
	size_t complete;
	uint64_t k;
	double q;

	(void)state;
	calibrated_full(&b, "max_imputed=1");
	feed_children(&b);
	b.child[0].has = false;
	k = b.k;
	en = (struct msnm_entry *)feed(&b, 0, 0);
	q = en->q;
	b.e.conf.rows = 1000;
	complete = msnm_engine_have(&b.e, true);
	child_make(&c, 2, 7);
	c.q = 1e9;
	msnm_engine_late(&b.e, k, &c);
	assert_true(en->child[0].has && en->child[0].late);
	assert_true(en->q >= q && en->q <= q);
	assert_int_equal(en->n_missing, 2);
	/* what came in time is not overwritten */
	child_make(&c, 3, 7);
	c.q = 1e9;
	msnm_engine_late(&b.e, k, &c);
	assert_false(en->child[1].late);
	assert_true(en->child[1].q < 1e9);
	/* and it does not count as a complete row */
	assert_int_equal(msnm_engine_have(&b.e, true), complete);
	msnm_engine_fini(&b.e);
}

static void test_children_gone(void **state)
{
	struct bench b;

	(void)state;
	calibrated_full(&b, "");
	/* away for a moment, they are waited for */
	b.n = 0;
	feed(&b, 0, 0);
	feed(&b, 0, 0);
	assert_false(work(&b, false));
	b.n = 2;
	feed_children(&b);
	b.n = 0;
	feed(&b, 0, 0);
	feed(&b, 0, 0);
	assert_false(work(&b, false));
	feed(&b, 0, 0);
	assert_true(work(&b, false));
	assert_false(msnm_model_full(b.e.model));
	msnm_engine_fini(&b.e);
}

/* ---- dynamic ---- */

static void test_dynamic(void **state)
{
	struct bench b;
	uint64_t id;

	(void)state;
	calibrated(&b, "dynamic=1 batch=10");
	id = b.e.model->id;
	for (unsigned i = 0; i < 10; i++) {
		assert_false(work(&b, false));
		feed(&b, 0, 0);
		/* flagged, and far off: not learned */
		feed(&b, FEATURES_MISSED, 0);
		feed(&b, 0, 1e6);
	}
	assert_true(work(&b, false));
	assert_int_equal(b.e.model->m->generation, 1);
	assert_int_equal(b.e.model->m->revision, 1);
	assert_true(b.e.model->id != id);
	assert_true(b.e.model->m->mean[4] < 100);
	assert_false(work(&b, false));
	/* the clock is set back by a day: what comes is learned like before */
	b.k = 100;
	for (unsigned i = 0; i < 10; i++) {
		assert_false(work(&b, false));
		feed(&b, 0, 0);
	}
	assert_true(work(&b, false));
	assert_int_equal(b.e.model->m->revision, 2);
	b.e.conf.batch = 2; /* but with 1 latent variable it takes 3 */
	for (unsigned i = 0; i < 3; i++)
		assert_false(work(&b, false) || !feed(&b, 0, 0));
	assert_true(work(&b, false));
	msnm_engine_fini(&b.e);
}

/* No model could be made; then the clock is set back. */
static void test_failed_before(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, "");
	for (unsigned i = 0; i < ROWS; i++)
		feed(&b, 0, 0);
	b.e.failed_at = b.e.rows;
	assert_false(work(&b, false));
	b.k = 100;
	for (unsigned i = 0; i < 10; i++) {
		assert_false(work(&b, false));
		feed(&b, 0, 0);
	}
	assert_true(work(&b, false));
	msnm_engine_fini(&b.e);
}

/* ---- models from outside ---- */

static void test_fits(void **state)
{
	char why[160];
	struct bench b;
	struct detect_model *m;
	char *name;

	(void)state;
	calibrated_full(&b, "");
	m = b.e.model->m;
	assert_true(msnm_engine_fits(&b.e, m, why, sizeof(why)));
	b.e.conf.window_s = 20;
	assert_false(msnm_engine_fits(&b.e, m, why, sizeof(why)));
	assert_non_null(strstr(why, "window"));
	b.e.conf.window_s = 10;
	b.e.conf.semantics = FEATURES_NETFLOW;
	assert_false(msnm_engine_fits(&b.e, m, why, sizeof(why)));
	b.e.conf.semantics = FEATURES_PACKETS;
	/* two children swapped: names say so */
	name = m->schema.names[FEATURES];
	m->schema.names[FEATURES] = m->schema.names[FEATURES + 2];
	m->schema.names[FEATURES + 2] = name;
	assert_false(msnm_engine_fits(&b.e, m, why, sizeof(why)));
	assert_non_null(strstr(why, "column 176"));
	msnm_engine_refuse(&b.e, why);
	assert_true(b.e.schema);
	assert_non_null(msnm_alarms_firing(&b.e.alarms, ALARM_SCHEMA, ""));
	msnm_engine_fini(&b.e);
}

/* ---- figures ---- */

static void test_ratio(void **state)
{
	(void)state;
	assert_true(isnan(msnm_ratio(1, NAN)));
	assert_true(isnan(msnm_ratio(NAN, 1)));
	assert_true(isnan(msnm_ratio(1, 0)));
	assert_true(isnan(msnm_ratio(INFINITY, 1)));
	assert_true(isnan(msnm_ratio(-1, 1)));
	assert_true(isfinite(msnm_ratio(DBL_MAX, DBL_MIN)));
	assert_true(fabs(msnm_ratio(3, 3) - log(2)) < 1e-15);
	assert_true(msnm_ratio(0, 3) <= 0);
}

static int setup(void **state)
{
	(void)state;
	rnd = seed_start();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_collects),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_suppressed_half),
		cmocka_unit_test(test_latent),
		cmocka_unit_test(test_rule),
		cmocka_unit_test(test_alarm_object),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_no_row),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_incomplete_history),
		cmocka_unit_test(test_old),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_suppressed),
		cmocka_unit_test(test_swapped),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_children_gone),
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_failed_before),
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_ratio),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
