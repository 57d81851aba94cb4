/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Quantiles, which limits are in force, what cleaning drops. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/judge.h"
#include "agent/detect/limits.h"
#include "agent/detect/quantile.h"
#include "common/util.h"
#include "detect_reference.h"
#include "detect_samples.h"
#include "tests/unit/seed.h"

#define N 300
#define M 8

static struct detect_model *calibrate(const double *rows, size_t n, size_t m,
				      const struct detect_options *o)
{
	struct detect_model *d = NULL;

	assert_int_equal(detect_calibrate(rows, n, m, o, &d, NULL, NULL), 0);
	assert_int_equal(detect_model_check(d), 0);
	return d;
}

static void test_active(void **state)
{
	struct detect_options o = detect_options_default;
	double rows[200 * 8];
	struct detect_model *d;

	(void)state;
	fill_mixed(rows, 200, 8);
	o.lv = 2;
	o.active = DETECT_EMPIRICAL;
	d = calibrate(rows, 200, 8, &o);
	assert_int_equal(d->quality, DETECT_FEW);
	assert_true(isnan(d->limits.q_empirical));
	assert_true(d->limits.ucl_q == d->limits.q_jm);
	detect_model_free(d);

	o.alpha_q = 0.05; /* exactly 10 / alpha rows */
	o.alpha_d = 0.1;
	d = calibrate(rows, 200, 8, &o);
	assert_int_equal(d->quality, 0);
	assert_true(d->limits.ucl_q == d->limits.q_empirical);
	assert_true(d->limits.ucl_d == d->limits.d_empirical);
	/* (n-1) alpha = 9.95 and 19.9: so many are above */
	assert_int_equal(d->exceed.q, 10);
	assert_int_equal(d->exceed.d, 20);
	detect_model_free(d);

	o.active = DETECT_MAX;
	o.phase = 1;
	d = calibrate(rows, 200, 8, &o);
	assert_true(d->limits.ucl_q ==
		    fmax(d->limits.q_jm, d->limits.q_empirical));
	assert_true(d->limits.ucl_d ==
		    fmax(d->limits.d_phase1, d->limits.d_empirical));
	detect_model_free(d);

	double sorted[] = { 4, 1, 3, 2 };

	near("percentile", detect_percentile(sorted, 4, 0.1), 3.7L, 1e-15);
	assert_true(detect_percentile(sorted, 1, 0.5) == 1);
}

/* Counters of every row, and some that have an event in one row of fifty. */
static void fill_events(double *x, size_t n, size_t m, uint64_t *rnd)
{
	for (size_t i = 0; i < n * m; i++) {
		double sum = 0;

		for (unsigned k = 0; k < 12; k++)
			sum += (double)seed_below(rnd, 1000) / 1000;
		x[i] = i % m < m / 2 ? sum : seed_below(rnd, 50) == 0;
	}
}

/* New rows over a limit, in 1,000. */
static unsigned over_of(const struct detect_model *d, uint64_t seed)
{
	double x[60], work[120];
	struct detect_stats s;
	unsigned over = 0;

	for (unsigned i = 0; i < 1000; i++) {
		fill_events(x, 1, 60, &seed);
		assert_int_equal(detect_judge(d, x, work, work + 60, &s), 0);
		over += s.over != 0;
	}
	return over;
}

static void test_folds(void **state)
{
	struct detect_options o = detect_options_default;
	unsigned plain = 0, cross = 0;
	struct detect_model *d;
	double rows[60 * 60], q;
	uint64_t seed = 1;

	(void)state;
	o.lv = 3;
	o.active = DETECT_MAX;
	/*
	 * What happens now and then happened in few of few rows: limits of
	 * theory do not expect the next, those of rows left out do.
	 */
	for (unsigned i = 0; i < 10; i++) {
		fill_events(rows, 60, 60, &seed);
		o.cross = false;
		d = calibrate(rows, 60, 60, &o);
		assert_true(isnan(d->limits.q_empirical));
		plain += over_of(d, seed);
		detect_model_free(d);
		o.cross = true;
		d = calibrate(rows, 60, 60, &o);
		assert_int_equal(d->quality, DETECT_FEW);
		assert_true(d->limits.ucl_q >= d->limits.q_empirical &&
			    d->limits.ucl_d >= d->limits.d_empirical);
		cross += over_of(d, seed);
		detect_model_free(d);
	}
	print_message("over: %u of 10000 by theory, %u by rows left out\n",
		      plain, cross);
	assert_in_range(plain, 700, 10000);
	assert_in_range(cross, 0, 400);
	/* a row that is far off makes no limit, though it is not dropped */
	rows[0] += 1e4;
	o.clean = 0.02;
	d = calibrate(rows, 60, 60, &o);
	assert_true(d->dropped[0] != 0 && d->limits.ucl_q < 500);
	detect_model_free(d);
	o.clean = 0;
	/* theory alone is asked for: it is what it was */
	o.active = DETECT_THEORY;
	d = calibrate(rows, 60, 60, &o);
	assert_true(isnan(d->limits.q_empirical));
	detect_model_free(d);
	/* rows enough: their own */
	o.active = DETECT_MAX;
	o.alpha_q = o.alpha_d = 0.2;
	o.cross = false;
	d = calibrate(rows, 60, 60, &o);
	q = d->limits.q_empirical;
	detect_model_free(d);
	o.cross = true;
	d = calibrate(rows, 60, 60, &o);
	assert_true(d->limits.q_empirical >= q && d->limits.q_empirical <= q);
	detect_model_free(d);
}

/* lv = rank: no limit of Q, whatever the rows are. */
static void test_undefined(void **state)
{
	struct detect_options o = detect_options_default;
	double rows[N * M];
	struct detect_model *d;

	(void)state;
	fill_mixed(rows, N, M);
	o.lv = M;
	o.alpha_q = o.alpha_d = 0.1;
	o.active = DETECT_EMPIRICAL;
	d = calibrate(rows, N, M, &o);
	assert_true(isnan(d->limits.q_empirical) && isnan(d->limits.ucl_q));
	assert_true(d->limits.ucl_d == d->limits.d_empirical);
	assert_int_equal(d->quality, 0);
	assert_int_equal(d->exceed.q, 0);
	detect_model_free(d);
}

static void test_powers(void **state)
{
	struct detect_limits l = { .q_empirical = 0, .active = DETECT_MAX };
	const double tiny[] = { 1e-120, 1e-121 }, huge[] = { 1e110, 1 };
	double tail[401] = { 1 };

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(tail); i++)
		tail[i] = 0.01;
	/* no power of the sum of these is normal */
	assert_int_equal(detect_limits_q(tail, ARRAY_SIZE(tail), 0.01, &l), 0);
	assert_int_equal(l.q_method, DETECT_Q_BOX);
	assert_true(isnan(l.q_jm) && l.h0 < -2);
	/* an empirical limit of 0 is none */
	l.active = DETECT_EMPIRICAL;
	detect_limits_choose(&l, 2);
	assert_true(l.ucl_q == l.q_box);
	assert_int_equal(detect_limits_q(tiny, 2, 0.01, &l), DETECT_RANGE);
	assert_int_equal(detect_limits_q(huge, 2, 0.01, &l), DETECT_RANGE);
	assert_int_equal(detect_limits_d(2, 1, 0.01, &l), DETECT_RANGE);
}

static double excess(const struct detect_model *d, const double *x)
{
	struct detect_stats s;
	double z[M], e[M];

	assert_int_equal(detect_judge(d, x, z, e, &s), 0);
	return fmax(s.q / d->limits.ucl_q, s.d / d->limits.d_phase1);
}

static void test_cleaning(void **state)
{
	struct detect_options o = detect_options_default;
	double rows[N * M], worst[2] = { 0 };
	struct detect_model *d;

	(void)state;
	fill_mixed(rows, N, M);
	for (size_t k = 0; k < 4; k++)
		rows[(17 + 60 * k) * M + k] += 70.0 - 10.0 * (double)k;
	o.lv = 3;
	o.alpha_q = o.alpha_d = 0.2; /* many are above, few at three times */
	d = calibrate(rows, N, M, &o);
	assert_int_equal(d->n_dropped, 0);
	assert_int_equal(d->rows_used, N);
	for (size_t i = 0; i < N; i++) {
		const double x = excess(d, rows + i * M);

		worst[1] = fmax(worst[1], fmin(x, worst[0]));
		worst[0] = fmax(worst[0], x);
	}
	o.clean = 0.0067; /* two rows: the worst */
	struct detect_model *two = calibrate(rows, N, M, &o);

	assert_int_equal(two->n_dropped, 2);
	for (size_t k = 0; k < 2; k++)
		assert_true(excess(d, rows + two->dropped[k] * M) >= worst[1]);
	detect_model_free(two);
	detect_model_free(d);

	o.clean = 0.02;
	o.first_row = 1000;
	d = calibrate(rows, N, M, &o);
	assert_int_equal(d->quality, DETECT_CLEANED);
	assert_int_equal(d->rows_read, N);
	assert_int_equal(d->rows_used, N - 4);
	assert_true(d->n == N - 4);
	assert_true(d->exceed.q > 10 && d->exceed.d > 10);
	assert_int_equal(d->n_dropped, 4);
	for (size_t k = 0; k < 4; k++)
		assert_int_equal(d->dropped[k], 1017 + 60 * k);
	detect_model_free(d);
}

/* What a huge row hides is found after it is gone. */
static void test_rounds(void **state)
{
	struct detect_options o = detect_options_default;
	double rows[N * M];
	struct detect_model *d;

	(void)state;
	fill_mixed(rows, N, M);
	rows[5 * M + 6] += 1e6;
	rows[9 * M + 6] += 80;
	o.lv = 3;
	o.clean = 0.02;
	d = calibrate(rows, N, M, &o);
	assert_int_equal(d->n_dropped, 2);
	assert_int_equal(d->dropped[0], 5);
	assert_int_equal(d->dropped[1], 9);
	detect_model_free(d);
}

/* The limit for the rows of the model themselves, not the one for new rows. */
static void test_phase(void **state)
{
	struct detect_options o = detect_options_default;
	double x[60];
	struct detect_model *d;
	const struct detect_limits *l;

	(void)state;
	for (size_t i = 0; i < 60; i++)
		x[i] = i % 2 ? -1 : 1;
	x[7] = 5.62;
	o.lv = 1;
	d = calibrate(x, 60, 1, &o);
	l = &d->limits;
	const double z = (x[7] - d->mean[0]) / d->scale[0];

	assert_true(z * z > 3 * l->d_phase1 && z * z < 3 * l->d_phase2);
	detect_model_free(d);
	o.clean = 0.1;
	d = calibrate(x, 60, 1, &o);
	assert_int_equal(d->n_dropped, 1);
	detect_model_free(d);
}

/* Without its outlier there is no second component: then it stays. */
static void test_needed(void **state)
{
	struct detect_options o = detect_options_default;
	struct detect_report report;
	struct detect_model *d = NULL;
	double x[100 * 3];

	(void)state;
	for (size_t i = 0; i < 300; i++)
		x[i] = (double)(i / 3 % 10 * (1 + i % 3));
	x[50 * 3] += 5;
	o.lv = 2;
	o.clean = 0.1;
	o.alpha_d = 0.1; /* an empirical limit from 100 rows */
	assert_int_equal(detect_calibrate(x, 100, 3, &o, &d, &report, NULL), 0);
	assert_int_equal(d->n_dropped, 0);
	assert_int_equal(d->rank, 2);
	assert_int_equal(d->quality, 0);
	assert_false(isnan(d->limits.d_empirical));
	assert_int_equal(report.n_ckf, 2);
	detect_model_free(d);
}

/* --- quantiles ----------------------------------------------------------- */

/* 1e-10: what long double leaves of the largest of these distributions. */
static void check_quantiles(double alpha, double a, double n)
{
	const double f = quantile_f(alpha, a, n - a);
	const double b = quantile_beta(alpha, a / 2, (n - a - 1) / 2);
	const double x = quantile_chi2(alpha, n / a);
	/* what a last bit of the quantile changes, for steep ones */
	const double slack = 1e-10 + 4 * DBL_EPSILON * n;

	near("f", (double)ref_beta(a * f / (a * f + n - a), a / 2, (n - a) / 2),
	     alpha, slack);
	if (b < 1 - 1e-5)
		near("beta", (double)ref_beta(b, a / 2, (n - a - 1) / 2), alpha,
		     slack);
	near("chi2", (double)ref_chi2(x, n / a), alpha, slack);
}

static void test_quantiles(void **state)
{
	static const double alpha[] = { 0.5, 0.1, 0.05, 0.01, 0.001, 1e-6 };
	static const double rows[] = { 4.5, 12, 59.3, 597.1, 1440, 86400.5 };
	char path[] = "/tmp/linnet-quantiles-XXXXXX";
	int keep = dup(STDOUT_FILENO), fd = mkstemp(path);
	off_t said;

	(void)state;
	sample_name = "quantiles";
	/* the library prints what it doubts: it must have no doubts */
	assert_true(fd >= 0);
	unlink(path);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	for (size_t i = 0; i < ARRAY_SIZE(alpha); i++) {
		near("normal", (double)ref_normal(quantile_normal(alpha[i])),
		     alpha[i], 1e-13);
		for (size_t j = 0; j < ARRAY_SIZE(rows); j++) {
			for (double a = 1; a <= 40 && a + 2 <= rows[j]; a *= 2)
				check_quantiles(alpha[i], a, rows[j]);
		}
	}
	assert_true(isnan(quantile_normal(0)) && isnan(quantile_normal(1)));
	assert_true(isnan(quantile_normal(NAN)));
	assert_true(isnan(quantile_chi2(0.01, 0)));
	assert_true(isnan(quantile_chi2(0.01, INFINITY)));
	assert_true(isnan(quantile_f(0.01, 1, -1)));
	assert_true(isnan(quantile_f(0.01, NAN, 1)));
	assert_true(isnan(quantile_beta(0.01, 1, 0)));
	fflush(stdout);
	said = lseek(fd, 0, SEEK_CUR);
	dup2(keep, STDOUT_FILENO);
	close(keep);
	close(fd);
	assert_int_equal(said, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_active),    cmocka_unit_test(test_folds),
		cmocka_unit_test(test_undefined), cmocka_unit_test(test_powers),
		cmocka_unit_test(test_cleaning),  cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_phase),     cmocka_unit_test(test_needed),
		cmocka_unit_test(test_quantiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
