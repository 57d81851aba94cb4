/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What detection refuses and what it says then; the rules of alarm and
 * diagnosis; checks of a model from outside.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/diagnose.h"
#include "agent/detect/ewma.h"
#include "common/util.h"
#include "detect_samples.h"

#define N 40
#define M 6

/* --- refusals ------------------------------------------------------------ */

static int try_lv(const double *rows, size_t n, size_t m, size_t lv,
		  struct detect_reason *why)
{
	struct detect_options o = detect_options_default;
	struct detect_model *d = (struct detect_model *)&o;
	int r;

	o.lv = lv;
	*why = (struct detect_reason){ 0 };
	r = detect_calibrate(rows, n, m, &o, &d, NULL, why);
	if (r) /* untouched */
		assert_ptr_equal(d, &o);
	else
		detect_model_free(d);
	return r;
}

static void test_lv_refused(void **state)
{
	struct detect_reason why;
	double x[N * M];
	char text[120];

	(void)state;
	fill_mixed(x, N, M);
	assert_int_equal(try_lv(x, N, M, 7, &why), DETECT_LV);
	assert_int_equal(why.usable, 6);
	detect_error_format(DETECT_LV, &why, text, sizeof(text));
	assert_string_equal(text, "too many latent variables: 7; the largest "
				  "usable number is 6");
	assert_int_equal(try_lv(x, N, M, 6, &why), 0);
	assert_int_equal(try_lv(x, N, M, SIZE_MAX, &why), DETECT_LV);
	/* N - A < 2 */
	assert_int_equal(try_lv(x, 5, M, 4, &why), DETECT_LV);
	assert_int_equal(why.usable, 3);
	assert_int_equal(try_lv(x, 5, M, 3, &why), 0);
	assert_int_equal(try_lv(x, 3, M, 1, &why), 0);
	assert_int_equal(try_lv(x, 2, M, 1, &why), DETECT_FEW_ROWS);
	assert_int_equal(try_lv(x, 1, M, DETECT_LV_AUTO, &why),
			 DETECT_FEW_ROWS);
	for (size_t n = 3; n < 10; n++)
		assert_int_equal(try_lv(x, n, M, DETECT_LV_AUTO, &why), 0);
	/* rank 1; then a second one that is too small beside it */
	for (size_t i = 0; i < N * M; i++)
		x[i] = (double)(i / M * (i % M + 1));
	assert_int_equal(try_lv(x, N, M, 2, &why), DETECT_LV);
	assert_int_equal(why.usable, 1);
	assert_int_equal(try_lv(x, N, M, DETECT_LV_AUTO, &why), 0);
	for (size_t i = 0; i < N; i++)
		x[i * M + 2] += 1e-10 * walsh(i, 3);
	assert_int_equal(try_lv(x, N, M, 2, &why), DETECT_LV);
	assert_int_equal(why.usable, 1);
}

/* Three pairs of columns ask for two components, three rows allow one. */
static void test_auto_usable(void **state)
{
	const double x[3 * M] = { 3, 3, 0, 0, 0, 0, 0, 0, 2,
				  2, 0, 0, 0, 0, 0, 0, 1, 1 };
	struct detect_options o = detect_options_default;
	struct detect_report report;
	struct detect_model *d = NULL;

	(void)state;
	o.prep = 0;
	assert_int_equal(detect_calibrate(x, 3, M, &o, &d, &report, NULL), 0);
	assert_int_equal(report.n_ckf, 3);
	assert_true(report.ckf[2] < report.ckf[1]);
	assert_int_equal(d->lv, 1);
	detect_model_free(d);
}

static void test_rows_refused(void **state)
{
	struct detect_reason why;
	double x[N * M] = { 0 };
	char text[120];

	(void)state;
	assert_int_equal(try_lv(x, 0, M, 1, &why), DETECT_SIZE);
	assert_int_equal(try_lv(x, N, 0, 1, &why), DETECT_SIZE);
	assert_int_equal(try_lv(x, DETECT_MAX_CELLS, 2, 1, &why), DETECT_SIZE);
	assert_int_equal(try_lv(x, 1, DETECT_MAX_COLUMNS + 1, 1, &why),
			 DETECT_SIZE);
	for (size_t i = 0; i < N * M; i++)
		x[i] = 0.1 * (double)(1 + i % M);
	assert_int_equal(try_lv(x, N, M, 1, &why), DETECT_CONSTANT);
	fill_mixed(x, N, M);
	x[3 * M + 2] = NAN;
	assert_int_equal(try_lv(x, N, M, 1, &why), DETECT_MISSING);
	x[3 * M + 2] = -INFINITY;
	assert_int_equal(try_lv(x, N, M, 1, &why), DETECT_VALUE);
	assert_int_equal(why.row, 3);
	assert_int_equal(why.column, 2);
	detect_error_format(DETECT_VALUE, &why, text, sizeof(text));
	assert_string_equal(text, "row 3, column 2: value is not a number or "
				  "too large");
	x[3 * M + 2] = 1.1e150;
	assert_int_equal(try_lv(x, N, M, 1, &why), DETECT_VALUE);
	x[3 * M + 2] = 1e150;
	assert_int_equal(try_lv(x, N, M, 1, &why), 0);
}

/* Huge and tiny units have an answer or a refusal, and no NAN. */
static void test_extremes(void **state)
{
	static const double unit[] = { 1e-300, 1e-160, 1e-100, 1e-60,
				       1e-20,  1e60,   1e100,  1e149 };
	double base[N * M], x[N * M], z[M], e[M];

	(void)state;
	fill_mixed(base, N, M);
	for (size_t k = 0; k < ARRAY_SIZE(unit) * 3; k++) {
		struct detect_options o = detect_options_default;
		struct detect_model *d = NULL;
		struct detect_stats s;
		int r;

		for (size_t i = 0; i < N * M; i++)
			x[i] = base[i] / 20 * unit[k / 3];
		o.prep = (unsigned)(k % 3);
		o.lv = 2;
		r = detect_calibrate(x, N, M, &o, &d, NULL, NULL);
		if (o.prep == 2)
			assert_int_equal(r, unit[k / 3] < DETECT_MIN_VALUE
						    ? DETECT_CONSTANT
						    : 0);
		else
			assert_true(!r || r == DETECT_RANGE ||
				    r == DETECT_CONSTANT);
		if (r)
			continue;
		assert_int_equal(detect_model_check(d), 0);
		for (size_t j = 0; j < M; j++)
			x[j] = j % 2 ? -DBL_MAX : DBL_MAX;
		assert_int_equal(detect_judge(d, x, z, e, &s), 0);
		assert_true(isfinite(s.q) && isfinite(s.d) && s.q > 0);
		assert_int_equal(s.over, DETECT_OVER_Q | DETECT_OVER_D);
		detect_model_free(d);
	}
}

static void test_options_refused(void **state)
{
	const struct detect_options bad[] = {
		{ .prep = 3, .alpha_q = 0.01, .alpha_d = 0.01, .phase = 2 },
		{ .prep = 2, .alpha_q = 0, .alpha_d = 0.01, .phase = 2 },
		{ .prep = 2, .alpha_q = 0.01, .alpha_d = 0.51, .phase = 2 },
		{ .prep = 2, .alpha_q = NAN, .alpha_d = 0.01, .phase = 2 },
		{ .prep = 2, .alpha_q = 0.01, .alpha_d = 0.01, .phase = 3 },
		{ .alpha_q = 0.01, .alpha_d = 0.01, .phase = 2, .clean = 0.6 },
		{ .alpha_q = 0.01, .alpha_d = 0.01, .phase = 2, .clean = NAN },
	};
	struct detect_model *d = NULL;
	double x[N * M];

	(void)state;
	fill_mixed(x, N, M);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(detect_calibrate(x, N, M, bad + i, &d, NULL,
						  NULL),
				 DETECT_OPTION);
	assert_null(d);
	assert_null(detect_model_new(0, 1, 0));
	assert_null(detect_model_new(4, 5, 0));
	assert_null(detect_model_new(4, 0, 0));
	assert_null(detect_ewma_new(0));
	for (int i = 0; i < DETECT_ERRORS; i++)
		assert_true(strlen(detect_error_text(i)) > 3);
	assert_true(strlen(detect_error_text(-12)) > 3);
	assert_true(strlen(detect_error_text(DETECT_ERRORS)) > 3);
}

static void test_batches_refused(void **state)
{
	struct detect_ewma_options o = { 2, 2, 0.01, 0.01, 2, 0.9 }, bad;
	struct detect_ewma *w = detect_ewma_new(M);
	struct detect_model *d = NULL;
	struct detect_reason why = { 0 };
	double x[N * M] = { 0 };

	(void)state;
	bad = o;
	bad.prep = 0;
	assert_int_equal(detect_ewma_learn(w, x, N, &bad, &d, &why),
			 DETECT_OPTION);
	bad = o;
	bad.lambda = 1.01;
	assert_int_equal(detect_ewma_learn(w, x, N, &bad, &d, &why),
			 DETECT_OPTION);
	bad = o;
	bad.lv = 0;
	assert_int_equal(detect_ewma_learn(w, x, N, &bad, &d, &why),
			 DETECT_OPTION);
	assert_int_equal(detect_ewma_learn(w, x, 3, &o, &d, &why),
			 DETECT_BATCH);
	assert_int_equal(why.usable, 1);
	x[M + 1] = NAN;
	assert_int_equal(detect_ewma_learn(w, x, N, &o, &d, &why),
			 DETECT_MISSING);
	assert_true(detect_ewma_n(w) == 0);
	/* nothing varies, then too little: learned, but no model */
	x[M + 1] = 0;
	assert_int_equal(detect_ewma_learn(w, x, N, &o, &d, &why),
			 DETECT_CONSTANT);
	assert_true(detect_ewma_n(w) == N);
	for (size_t i = 0; i < N; i++)
		x[i * M] = walsh(i, 1);
	assert_int_equal(detect_ewma_learn(w, x, N, &o, &d, &why), DETECT_LV);
	assert_int_equal(why.usable, 1);
	assert_null(d);
	fill_mixed(x, N, M);
	assert_int_equal(detect_ewma_learn(w, x, N, &o, &d, &why), 0);
	assert_true(fabs(d->n - N * (1 + 0.9 + 0.81)) < 1e-9);
	detect_model_free(d);
	detect_ewma_free(w);
}

/* --- alarm and diagnosis ------------------------------------------------- */

/* A model of one component: x = (t, t, e, c) with limits put in by hand. */
static struct detect_model *hand_model(void)
{
	struct detect_model *d = detect_model_new(4, 2, 0);

	assert_non_null(d);
	d->lv = 1;
	for (size_t j = 0; j < 4; j++)
		d->scale[j] = 1;
	d->constant[3] = true;
	d->eigenvalues[0] = 2;
	d->eigenvalues[1] = 1;
	d->loadings[0] = d->loadings[1] = sqrt(0.5);
	d->loadings[4 + 2] = 1;
	d->limits.ucl_q = 4;
	d->limits.ucl_d = 9;
	return d;
}

static struct detect_stats judge(const struct detect_model *d, double t,
				 double e, double c)
{
	const double x[] = { t, t, e, c };
	double z[4], r[4];
	struct detect_stats s = { 0 };

	assert_int_equal(detect_judge(d, x, z, r, &s), 0);
	return s;
}

static void test_over(void **state)
{
	struct detect_model *d = hand_model();
	const double bad[] = { 1, NAN, 0, 0 };
	struct detect_stats s = judge(d, 3, 1, 2);
	double z[4], e[4];

	(void)state;
	near("D", s.d, 9, 1e-15);
	near("Q", s.q, 5, 1e-15);
	near("novelty", s.novelty, 4, 1e-15);
	assert_string_equal(detect_over_text(judge(d, 1, 1, 1).over), "none");
	assert_string_equal(detect_over_text(judge(d, 1, 3, 0).over), "q");
	assert_string_equal(detect_over_text(judge(d, 4, 1, 0).over), "d");
	assert_string_equal(detect_over_text(judge(d, 4, 3, 0).over), "qd");
	/* at the limit is not over it */
	assert_int_equal(judge(d, 0, 2, 0).over, DETECT_OVER_NONE);
	assert_int_equal(detect_judge(d, bad, z, e, &s), DETECT_VALUE);
	near("unchanged", s.q, 5, 1e-15);
	s = judge(d, 0, 0, 5);
	assert_true(detect_beyond(d, &s, 6));
	assert_false(detect_beyond(d, &s, 7));
	assert_false(detect_beyond(d, &s, 0));
	d->limits.ucl_q = NAN;
	assert_int_equal(judge(d, 0, 1e9, 0).over, DETECT_OVER_NONE);
	detect_model_free(d);
}

static void test_alarm(void **state)
{
	/* per row: q / ucl_q, '-' for none; then whether it is an alarm */
	static const char rows[] = "0"
				   "2"
				   "0"
				   "2"
				   "0"
				   "0"
				   "2"
				   "2"
				   "-"
				   "2"
				   "0"
				   "0"
				   "0"
				   "4"
				   "0"
				   "3";
	static const char want[] = "n"
				   "n"
				   "n"
				   "y"
				   "n"
				   "n"
				   "n"
				   "y"
				   "n"
				   "y"
				   "n"
				   "n"
				   "n"
				   "y"
				   "n"
				   "y";
	struct detect_rule rule = DETECT_RULE_DEFAULT;
	struct detect_history h = { 0 };
	struct detect_model *d = hand_model();

	(void)state;
	for (size_t i = 0; rows[i]; i++) {
		const double e = sqrt(4.0 * (rows[i] - '0'));
		const struct detect_stats s =
			judge(d, 0, rows[i] == '-' ? 0 : e, 0);
		bool alarm = detect_rule_step(&rule, &h, d,
					      rows[i] == '-' ? NULL : &s);

		if (alarm != (want[i] == 'y'))
			fail_msg("row %zu", i);
	}
	detect_model_free(d);
}

static void test_rule_text(void **state)
{
	static const char *const good[] = { "2:3:3", "1:1:1", "64:64:1.5",
					    "3:10:1e+06", "2:3:3.3333" };
	static const char *const bad[] = {
		"",        "2:3",     "2:3:",    "0:3:3",  "4:3:3",  "2:65:3",
		"2:3:0.5", "2:3:nan", "2:3:3:3", "-2:3:3", " 2:3:3", "2:3:x"
	};
	struct detect_rule rule;
	char text[DETECT_RULE_LEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(detect_rule_parse(good[i], &rule), 0);
		assert_string_equal(detect_rule_format(&rule, text), good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(detect_rule_parse(bad[i], &rule),
				 DETECT_OPTION);
}

static void test_diagnosis(void **state)
{
	struct detect_model *d = hand_model();
	const double x[] = { 5, 3, -3, 0.5 };
	double z[4], e[4], work[4];
	struct detect_stats s;
	struct detect_top top;

	(void)state;
	assert_int_equal(detect_judge(d, x, z, e, &s), 0);
	/* u = (4, 4, 0, 0); q = 11.25 of 4, d = 16 of 9 */
	near("Q", s.q, 11.25L, 1e-14);
	near("D", s.d, 16, 1e-14);
	detect_diagnose(d, &s, z, e, work, &top);
	assert_string_equal(detect_by_text(top.by), "residual");
	assert_int_equal(top.n, 4);
	assert_int_equal(top.top[0].column, 2);
	near("residual", top.top[0].value, -9, 1e-14);
	assert_int_equal(top.top[3].column, 3);
	d->limits.ucl_d = 1;
	detect_diagnose(d, &s, z, e, work, &top);
	assert_string_equal(detect_by_text(top.by), "omeda");
	assert_int_equal(top.top[0].column, 0);
	near("omeda", top.top[0].value, 24, 1e-14);
	near("omeda", top.top[1].value, 8, 1e-14);
	assert_true(work[3] == 0); /* was constant */
	d->limits.ucl_d = NAN;
	assert_int_equal(detect_choose(d, &s), DETECT_BY_RESIDUAL);
	d->limits.ucl_q = NAN;
	assert_int_equal(detect_choose(d, &s), DETECT_BY_OMEDA);
	/* equal shares: residual */
	d->limits.ucl_q = 11.25;
	d->limits.ucl_d = s.d * (11.25 / s.q);
	assert_int_equal(detect_choose(d, &s), DETECT_BY_RESIDUAL);
	detect_model_free(d);
}

static void test_largest(void **state)
{
	static const double v[] = { 1, -5, 5, 0, 2, -7, 2, 3, 9, 0, 1 };
	static const size_t want[] = { 8, 5, 1, 2, 7, 4, 6, 0 };
	struct detect_contribution top[DETECT_TOP];

	(void)state;
	assert_int_equal(detect_largest(v, 11, top, DETECT_TOP), DETECT_TOP);
	for (size_t i = 0; i < DETECT_TOP; i++) {
		assert_int_equal(top[i].column, want[i]);
		assert_true(top[i].value == v[want[i]]);
	}
	assert_int_equal(detect_largest(v, 3, top, DETECT_TOP), 3);
	assert_int_equal(top[0].column, 1);
	assert_int_equal(detect_largest(v, 3, top, 0), 0);
}

/* --- a model from outside ------------------------------------------------ */

static struct detect_model *good_model(void)
{
	struct detect_options o = detect_options_default;
	struct detect_model *d = NULL;
	double x[N * M];

	fill_mixed(x, N, M);
	for (size_t i = 0; i < N; i++)
		x[i * M + 4] = 2;
	o.lv = 2;
	assert_int_equal(detect_calibrate(x, N, M, &o, &d, NULL, NULL), 0);
	return d;
}

#define CHECK(change, outcome)                                      \
	do {                                                        \
		struct detect_model *d = good_model();              \
                                                                    \
		assert_int_equal(detect_model_check(d), DETECT_OK); \
		change;                                             \
		assert_int_equal(detect_model_check(d), outcome);   \
		detect_model_free(d);                               \
	} while (0)

static void test_check(void **state)
{
	(void)state;
	CHECK(d->lv = 0, DETECT_MODEL_SIZE);
	CHECK(d->lv = 6, DETECT_MODEL_SIZE);
	CHECK(d->n = 3.9, DETECT_MODEL_SIZE);
	CHECK(d->n = NAN, DETECT_MODEL_SIZE);
	CHECK(d->prep = 3, DETECT_MODEL_SIZE);
	CHECK(d->phase = 0, DETECT_MODEL_SIZE);
	CHECK(d->n = INFINITY, DETECT_MODEL_NUMBER);
	CHECK(d->alpha_q = 0.6, DETECT_MODEL_NUMBER);
	CHECK(d->alpha_d = NAN, DETECT_MODEL_NUMBER);
	CHECK(d->mean[3] = NAN, DETECT_MODEL_NUMBER);
	CHECK(d->scale[3] = INFINITY, DETECT_MODEL_NUMBER);
	CHECK(d->loadings[9] = NAN, DETECT_MODEL_NUMBER);
	CHECK(d->scale[3] = 0, DETECT_MODEL_SCALE);
	CHECK(d->scale[3] = -1, DETECT_MODEL_SCALE);
	CHECK(d->eigenvalues[4] = 0, DETECT_MODEL_ORDER);
	CHECK(d->eigenvalues[1] = 99, DETECT_MODEL_ORDER);
	CHECK(d->loadings[0] += 1e-7, DETECT_MODEL_LOADINGS);
	CHECK(d->loadings[4] = 1e-12, DETECT_MODEL_LOADINGS);
	CHECK(memcpy(d->loadings, d->loadings + M, M * sizeof(double)),
	      DETECT_MODEL_LOADINGS);
	CHECK(d->limits.ucl_q *= 1 + 2e-6, DETECT_MODEL_LIMITS);
	CHECK(d->limits.ucl_q *= 1 + 2e-7, DETECT_OK);
	CHECK(d->limits.ucl_d *= 1.01, DETECT_MODEL_LIMITS);
	CHECK(d->limits.ucl_q = NAN, DETECT_MODEL_LIMITS);
	CHECK(d->limits.q_method = DETECT_Q_BOX, DETECT_MODEL_LIMITS);
	CHECK(d->limits.d_phase1 += 1, DETECT_MODEL_LIMITS);
	CHECK(d->limits.theta[2] *= 1.1, DETECT_MODEL_LIMITS);
	CHECK(d->limits.q_empirical = INFINITY, DETECT_MODEL_LIMITS);
	CHECK(d->limits.active = DETECT_MAX, DETECT_OK);
	CHECK(d->alpha_q = 0.02, DETECT_MODEL_LIMITS);
	CHECK(d->phase = 1, DETECT_MODEL_LIMITS);
	CHECK(d->n = 41, DETECT_MODEL_LIMITS);
}

static void test_names(void **state)
{
	char a[] = "a", b[] = "bc", c[] = "", e[] = "e";
	char *names[] = { a, b, c, e };
	struct detect_model *d = hand_model();

	(void)state;
	d->n = 40;
	d->prep = 2;
	/* FNV-1a of the bytes, by another program */
	assert_true(detect_schema_hash("csv", 0, names, 4) ==
		    UINT64_C(0xb58bb55ca71eb4c4));
	assert_true(detect_model_id(d) == UINT64_C(0x4e3b116b73337e14));
	assert_int_equal(detect_model_set_schema(d, "csv", 60, names), 0);
	assert_string_equal(d->schema.names[1], "bc");
	assert_true(d->schema.hash == detect_schema_hash("csv", 60, names, 4));
	assert_int_equal(detect_model_set_schema(d, "packets/1", 10, names), 0);
	assert_int_equal(detect_model_set_schema(d,
						 "a semantics of no sensible "
						 "length",
						 10, names),
			 DETECT_SIZE);
	assert_string_equal(d->schema.semantics, "packets/1");
	detect_model_free(d);
	detect_model_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lv_refused),
		cmocka_unit_test(test_auto_usable),
		cmocka_unit_test(test_rows_refused),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_options_refused),
		cmocka_unit_test(test_batches_refused),
		cmocka_unit_test(test_over),
		cmocka_unit_test(test_alarm),
		cmocka_unit_test(test_rule_text),
		cmocka_unit_test(test_diagnosis),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
