/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Models, judged rows, filled rows and dynamic models against the definitions
 * computed a second time in long double, on matrices made here.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/diagnose.h"
#include "agent/detect/ewma.h"
#include "agent/detect/impute.h"
#include "agent/detect/limits.h"
#include "agent/detect/quantile.h"
#include "common/util.h"
#include "detect_reference.h"
#include "detect_samples.h"

static double *make_rows(const struct sample *s)
{
	double *x = calloc(s->n * s->m, sizeof(*x));

	assert_non_null(x);
	sample_name = s->name;
	s->fill(x, s->n, s->m);
	return x;
}

/* --- models -------------------------------------------------------------- */

static void compare_planes(const struct sample *s, const struct detect_model *d,
			   const struct reference *r)
{
	const size_t m = s->m;

	for (size_t i = 0; i < m; i++) {
		for (size_t j = 0; j < m; j++) {
			long double want = 0, have = 0;

			for (size_t a = 0; a < s->lv; a++) {
				want += r->p[a][i] * r->p[a][j];
				have += d->loadings[a * m + i] *
					(long double)d->loadings[a * m + j];
			}
			near_abs("plane", (double)have, want, s->bound);
		}
	}
	for (size_t a = 0; s->is_unique && a < s->lv; a++) {
		for (size_t j = 0; j < m; j++)
			near_abs("loading", d->loadings[a * m + j], r->p[a][j],
				 s->bound);
	}
}

static void compare_limits(const struct sample *s, const struct detect_model *d,
			   const struct reference *r)
{
	const struct detect_limits *l = &d->limits;
	const long double a = s->lv, n = s->n;
	struct ref_limits want;

	ref_limits(r, 0, 0, &want);
	ref_limits(r, quantile_normal(0.01),
		   quantile_chi2(0.01, (double)want.df), &want);
	assert_int_equal(l->q_method, s->method);
	if (s->method == DETECT_Q_UNDEFINED) {
		assert_true(isnan(l->ucl_q) && isnan(l->q_jm) &&
			    isnan(l->q_box) && isnan(l->h0) &&
			    isnan(l->q_empirical));
	} else {
		near("theta", l->theta[0], want.theta[0], s->tail);
		near_abs("h0", l->h0, want.h0, s->tail);
		near("box", l->q_box, want.box, s->tail);
		near("jm", l->q_jm, want.jm, s->tail);
		near("ucl_q", l->ucl_q,
		     s->method == DETECT_Q_BOX ? want.box : want.jm, s->tail);
	}
	/* their shares of the distributions are those that were asked */
	const long double f = l->d_phase2 * n * (n - a) / (a * (n * n - 1));
	const long double b = l->d_phase1 * n / ((n - 1) * (n - 1));

	near("phase 2",
	     (double)ref_beta(a * f / (a * f + n - a), a / 2, (n - a) / 2),
	     0.01L, 1e-9);
	near("phase 1", (double)ref_beta(b, a / 2, (n - a - 1) / 2), 0.01L,
	     1e-9);
}

static void compare_row(const struct sample *s, const struct detect_model *d,
			const struct reference *r, const double *x)
{
	double z[REF_COLUMNS], e[REF_COLUMNS], u[REF_COLUMNS], most = 0;
	struct detect_stats have;
	struct ref_stats want;

	ref_judge(r, x, &want);
	assert_int_equal(detect_judge(d, x, z, e, &have), 0);
	near_abs("Q", have.q, want.q,
		 (double)(s->bound * want.q + 1e-12L * want.square));
	near("D", have.d, want.d, 10 * s->bound);
	near_abs("novelty", have.novelty, want.novelty,
		 (double)(1e-9L * want.novelty + 1e-12L * want.square));
	assert_int_equal(have.over & DETECT_OVER_Q ? 1 : 0,
			 have.q > d->limits.ucl_q);
	assert_int_equal(have.over & DETECT_OVER_D ? 1 : 0,
			 have.d > d->limits.ucl_d);
	detect_omeda(d, z, u);
	for (size_t j = 0; j < s->m; j++)
		most = fmax(most, fabs(u[j]));
	for (size_t j = 0; j < s->m; j++)
		near_abs("omeda", u[j],
			 (2 * want.z[j] - want.u[j]) * fabsl(want.u[j]),
			 s->bound * most +
				 1e-9 * (double)fabsl(want.z[j] * want.u[j]));
}

static void compare_rows(const struct sample *s, const struct detect_model *d,
			 const struct reference *r, const double *rows)
{
	double x[REF_COLUMNS];

	for (size_t i = 0; i < s->n; i++)
		compare_row(s, d, r, rows + i * s->m);
	for (size_t j = 0; j < s->m; j++) {
		memcpy(x, rows + j % s->n * s->m, s->m * sizeof(*x));
		x[j] += 1000 * (double)r->scale[j];
		compare_row(s, d, r, x);
	}
}

static void test_models(void **state)
{
	static struct reference r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = samples + i;
		double *rows = make_rows(s);
		struct detect_options o = detect_options_default;
		struct detect_model *d = NULL;

		o.prep = s->prep;
		o.lv = s->lv;
		ref_fit(&r, rows, NULL, s->n, s->m, s->prep, s->lv);
		assert_int_equal(detect_calibrate(rows, s->n, s->m, &o, &d,
						  NULL, NULL),
				 0);
		assert_int_equal(detect_model_check(d), 0);
		assert_int_equal(d->rank, s->rank);
		for (size_t j = 0; j < s->m; j++) {
			near_abs("mean", d->mean[j], r.mean[j],
				 1e-12 * (double)(fabsl(r.mean[j]) +
						  r.scale[j]));
			near("scale", d->scale[j], r.scale[j], 1e-12);
			assert_int_equal(d->constant[j], r.constant[j]);
			/* nothing new is nothing at all */
			if (s->prep && rows[j] == 0.1)
				assert_true(d->mean[j] == 0.1);
			for (size_t a = 0; r.constant[j] && a < d->rank; a++)
				assert_true(d->loadings[a * s->m + j] == 0);
		}
		for (size_t a = 0; a < d->rank; a++)
			near("eigenvalue", d->eigenvalues[a], r.l[a],
			     a < s->lv ? s->bound : s->tail);
		compare_planes(s, d, &r);
		compare_limits(s, d, &r);
		compare_rows(s, d, &r, rows);
		detect_model_free(d);
		free(rows);
	}
}

/* Σ(z g + e)² / Σz² by its definition. */
static void test_ckf(void **state)
{
	static struct reference r;
	const struct sample *s = samples;
	double *rows = make_rows(s);
	struct detect_report report;
	struct detect_model *d = NULL;
	size_t best = 1;

	(void)state;
	assert_int_equal(detect_calibrate(rows, s->n, s->m,
					  &detect_options_default, &d, &report,
					  NULL),
			 0);
	assert_int_equal(report.n_ckf, 8);
	for (size_t a = 0; a < report.n_ckf; a++) {
		long double sum = 0, all = 0;

		ref_fit(&r, rows, NULL, s->n, s->m, 2, a);
		for (size_t i = 0; i < s->n; i++) {
			struct ref_stats st;

			ref_judge(&r, rows + i * s->m, &st);
			all += st.square;
			for (size_t j = 0; j < s->m; j++) {
				long double g = 0;

				for (size_t k = 0; k < a; k++)
					g += r.p[k][j] * r.p[k][j];
				sum += powl(st.z[j] * g + st.z[j] - st.u[j], 2);
			}
		}
		near("ckf", report.ckf[a], sum / all, 1e-10);
		best = a && report.ckf[a] < report.ckf[best] ? a : best;
	}
	assert_int_equal(d->lv, best);
	assert_true(best > 1);
	detect_model_free(d);
	free(rows);
}

static struct detect_model *calibrate(const double *rows, size_t n, size_t m,
				      const struct detect_options *o)
{
	struct detect_model *d = NULL;

	assert_int_equal(detect_calibrate(rows, n, m, o, &d, NULL, NULL), 0);
	assert_int_equal(detect_model_check(d), 0);
	return d;
}

/* --- missing values ------------------------------------------------------ */

static void compare_filled(const struct sample *s, const struct detect_model *d,
			   const struct reference *r, const double *row,
			   uint64_t missing)
{
	double x[REF_COLUMNS], share = 0, all = 0;
	long double want[REF_COLUMNS];
	struct detect_imputed done;

	for (size_t j = 0; j < s->m; j++) {
		x[j] = missing >> j & 1 ? NAN : row[j];
		for (size_t a = 0; a < r->rank; a++) {
			const double v =
				(double)(r->l[a] * r->p[a][j] * r->p[a][j]);

			all += v;
			share += missing >> j & 1 ? v : 0;
		}
	}
	ref_impute(r, x, want);
	assert_int_equal(detect_impute(d, DETECT_TSR, x, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_TSR);
	assert_int_equal(done.n, __builtin_popcountll(missing));
	near("share", done.share, share / all, 1e-9);
	for (size_t j = 0; j < s->m; j++)
		near("filled", x[j], want[j], 1e-8);
}

static void test_missing(void **state)
{
	static const size_t which[] = { 0, 1, 3, 4 };
	static struct reference r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(which); i++) {
		const struct sample *s = samples + which[i];
		double *rows = make_rows(s);
		struct detect_options o = detect_options_default;
		struct detect_model *d;

		o.prep = s->prep;
		o.lv = s->lv;
		d = calibrate(rows, s->n, s->m, &o);
		ref_fit(&r, rows, NULL, s->n, s->m, s->prep, s->lv);
		compare_filled(s, d, &r, rows, 1);
		compare_filled(s, d, &r, rows + s->m, 0x12);
		compare_filled(s, d, &r, rows + 2 * s->m, 0x24);
		detect_model_free(d);
		free(rows);
	}
}

static void test_nothing_known(void **state)
{
	static const size_t wave[] = { 1, 1, 1, 2, 2 };
	struct detect_options o = detect_options_default;
	struct detect_reason why = { .column = 9 };
	struct detect_imputed done;
	struct detect_model *d;
	double rows[64 * 5], x[5];

	(void)state;
	for (size_t i = 0; i < 64 * 5; i++)
		rows[i] = 3 + walsh(i / 5, wave[i % 5]);
	o.lv = 2;
	d = calibrate(rows, 64, 5, &o);
	/* all columns of one component */
	memcpy(x, rows, sizeof(x));
	x[0] = x[1] = x[2] = NAN;
	assert_int_equal(detect_impute(d, DETECT_TSR, x, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_AVERAGE);
	near("share", done.share, 0.6L, 1e-12);
	near("mean", x[1], 3, 1e-12);
	/* all columns */
	for (size_t j = 0; j < 5; j++)
		x[j] = NAN;
	assert_int_equal(detect_impute(d, DETECT_TSR, x, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_AVERAGE);
	near("share", done.share, 1, 1e-12);
	/* two of the three tell the third */
	memcpy(x, rows, sizeof(x));
	x[2] = NAN;
	assert_int_equal(detect_impute(d, DETECT_TSR, x, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_TSR);
	near("filled", x[2], rows[2], 1e-12);
	/* refused, untouched */
	x[3] = NAN;
	assert_int_equal(detect_impute(d, DETECT_REFUSE, x, &done, &why),
			 DETECT_MISSING);
	assert_int_equal(why.column, 3);
	assert_true(isnan(x[3]));
	assert_int_equal(detect_impute(d, DETECT_ZERO, x, &done, NULL), 0);
	assert_true(x[3] == 0);
	assert_int_equal(detect_impute(d, DETECT_REFUSE, x, &done, NULL), 0);
	assert_int_equal(done.n, 0);
	assert_true(done.share == 0);
	detect_model_free(d);
}

/* Too little known of a component; two that the known cells cannot part. */
static void test_singular(void **state)
{
	struct detect_model *d = detect_model_new(3, 2, 0);
	double x[] = { NAN, 1, 1 }, y[] = { 1, NAN, 1 };
	const double t = 6e-4; /* a pivot of 8e-14 */
	struct detect_imputed done;

	(void)state;
	assert_non_null(d);
	d->lv = 1;
	d->eigenvalues[0] = 2;
	d->eigenvalues[1] = 1;
	for (size_t j = 0; j < 3; j++)
		d->scale[j] = 1;
	d->loadings[0] = d->loadings[3 + 1] = 1;
	d->loadings[1] = 1e-9;
	assert_int_equal(detect_impute(d, DETECT_TSR, x, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_AVERAGE);
	assert_true(x[0] == 0);
	d->lv = 2;
	d->loadings[0] = 0.6;
	d->loadings[1] = 0.8;
	d->loadings[3] = 0.8 * cos(t);
	d->loadings[4] = -0.6 * cos(t);
	d->loadings[5] = sin(t);
	assert_int_equal(detect_impute(d, DETECT_TSR, y, &done, NULL), 0);
	assert_int_equal(done.by, DETECT_AVERAGE);
	assert_true(y[1] == 0);
	detect_model_free(d);
}

/* --- dynamic models ------------------------------------------------------ */

#define BATCH   20
#define BATCHES 5
#define COLUMNS 7

static const struct detect_ewma_options ewma_options = {
	.prep = 2,
	.lv = 2,
	.alpha_q = 0.01,
	.alpha_d = 0.01,
	.phase = 2,
	.lambda = 0.8,
};

/* Column 3 never moves; column 5 begins to in the fourth batch. */
static void fill_batches(double *x)
{
	fill_mixed(x, (size_t)BATCH * BATCHES, COLUMNS);
	for (size_t i = 0; i < (size_t)BATCH * BATCHES; i++) {
		x[i * COLUMNS + 3] = 0.1;
		if (i < (size_t)3 * BATCH)
			x[i * COLUMNS + 5] = 0;
	}
}

static void compare_dynamic(const struct detect_model *d, const double *rows,
			    size_t batches, unsigned prep)
{
	const struct sample s = { .name = "dynamic",
				  .n = batches * BATCH,
				  .m = COLUMNS,
				  .lv = 2,
				  .bound = 1e-9,
				  .is_unique = true };
	static struct reference r;
	double weight[BATCH * BATCHES];

	for (size_t i = 0; i < s.n; i++)
		weight[i] = pow(0.8, (double)(batches - 1 - i / BATCH));
	ref_fit(&r, rows, weight, s.n, COLUMNS, prep, 2);
	near("n", d->n, r.n, 1e-14);
	assert_int_equal(d->rank, r.rank);
	for (size_t j = 0; j < COLUMNS; j++) {
		near("mean", d->mean[j], r.mean[j], 1e-12);
		near("scale", d->scale[j], r.scale[j], 1e-12);
		assert_int_equal(d->constant[j], r.constant[j]);
	}
	for (size_t a = 0; a < r.rank; a++)
		near("eigenvalue", d->eigenvalues[a], r.l[a], 1e-9);
	compare_planes(&s, d, &r);
	compare_rows(&s, d, &r, rows);
}

static void test_dynamic(void **state)
{
	double rows[BATCH * BATCHES * COLUMNS];
	struct detect_ewma_options o = ewma_options;

	(void)state;
	sample_name = "dynamic";
	fill_batches(rows);
	for (o.prep = 1; o.prep <= 2; o.prep++) {
		struct detect_ewma *ewma = detect_ewma_new(COLUMNS);

		for (size_t b = 0; b < BATCHES; b++) {
			const double *x = rows + b * BATCH * COLUMNS;
			struct detect_model *d = NULL;

			assert_int_equal(detect_ewma_learn(ewma, x, BATCH, &o,
							   &d, NULL),
					 0);
			assert_int_equal(detect_model_check(d), 0);
			compare_dynamic(d, rows, b + 1, o.prep);
			assert_true(detect_ewma_n(ewma) == d->n);
			assert_false(detect_warming(d));
			detect_model_free(d);
		}
		detect_ewma_free(ewma);
	}
}

/* A start from a model of the first batch is the same as to have learned it. */
static void test_warm(void **state)
{
	double rows[BATCH * BATCHES * COLUMNS];
	struct detect_options o = detect_options_default;
	struct detect_ewma *cold = detect_ewma_new(COLUMNS), *warm;
	struct detect_model *first, *a = NULL, *b = NULL;

	(void)state;
	sample_name = "warm";
	fill_batches(rows);
	o.lv = 2;
	first = calibrate(rows, BATCH, COLUMNS, &o);
	warm = detect_ewma_from_model(first);
	assert_true(detect_ewma_n(warm) == BATCH);
	assert_int_equal(detect_ewma_learn(cold, rows, BATCH, &ewma_options, &a,
					   NULL),
			 0);
	detect_model_free(a);
	for (size_t k = 1; k < BATCHES; k++) {
		const double *x = rows + k * BATCH * COLUMNS;

		assert_int_equal(detect_ewma_learn(cold, x, BATCH,
						   &ewma_options, &a, NULL),
				 0);
		assert_int_equal(detect_ewma_learn(warm, x, BATCH,
						   &ewma_options, &b, NULL),
				 0);
		assert_int_equal(a->rank, b->rank);
		for (size_t j = 0; j < COLUMNS; j++)
			near("scale", a->scale[j], b->scale[j], 1e-12);
		for (size_t l = 0; l < a->rank; l++)
			near("eigenvalue", a->eigenvalues[l], b->eigenvalues[l],
			     1e-10);
		near("ucl_q", a->limits.ucl_q, b->limits.ucl_q, 1e-9);
		detect_model_free(a);
		detect_model_free(b);
	}
	detect_ewma_free(cold);
	detect_ewma_free(warm);
	detect_model_free(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_models),
		cmocka_unit_test(test_ckf),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_nothing_known),
		cmocka_unit_test(test_singular),
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_warm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
