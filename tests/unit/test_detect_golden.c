/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mathematics of detection against recorded reference values: quantiles,
 * limits, a static model and rows judged by it, imputation, dynamic models.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/diagnose.h"
#include "agent/detect/ewma.h"
#include "agent/detect/impute.h"
#include "agent/detect/limits.h"
#include "agent/detect/quantile.h"
#include "golden.h"

#define M  144
#define R1 "calibration_routerR1.csv"

static struct json_object *open_or_skip(const char *name)
{
	struct json_object *o = golden_open(name);

	if (!o)
		skip();
	return o;
}

static void relative(const char *what, double value, double want, double bound)
{
	golden_near(what, value, want, bound * fabs(want));
}

static double square_sum(const double *v, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += v[i] * v[i];
	return s;
}

static void test_quantiles(void **state)
{
	struct json_object *o = open_or_skip("quantiles.json"), *t;

	(void)state;
	t = golden_at(o, "normal");
	for (size_t i = 0; i < golden_length(t); i++) {
		struct json_object *c = golden_item(t, i);

		relative("normal", quantile_normal(golden_number(c, "alpha")),
			 golden_number(c, "z"), 1e-11);
	}
	t = golden_at(o, "table");
	assert_int_equal(golden_length(t), 200);
	for (size_t i = 0; i < golden_length(t); i++) {
		struct json_object *c = golden_item(t, i);
		const double alpha = golden_number(c, "alpha");
		const double a = golden_number(c, "A");
		const double n = golden_number(c, "N");
		struct detect_limits l;

		relative("F", quantile_f(alpha, a, n - a),
			 golden_number(c, "F"), 1e-11);
		relative("beta", quantile_beta(alpha, a / 2, (n - a - 1) / 2),
			 golden_number(c, "beta"), 1e-11);
		assert_int_equal(detect_limits_d(n, (size_t)a, alpha, &l), 0);
		relative("phase 1", l.d_phase1, golden_number(c, "UCLD_phase1"),
			 1e-11);
		relative("phase 2", l.d_phase2, golden_number(c, "UCLD_phase2"),
			 1e-11);
	}
	golden_close(o);
}

static void test_limits(void **state)
{
	struct json_object *o = open_or_skip("jackson_mudholkar.json");
	struct json_object *cases = golden_at(o, "cases");

	(void)state;
	for (size_t i = 0; i < golden_length(cases); i++) {
		struct json_object *c = golden_item(cases, i);
		struct json_object *e = golden_at(c, "eigenvalues");
		const char *method =
			json_object_get_string(golden_at(c, "q_method"));
		struct detect_limits l = { .q_empirical = NAN };
		double value[1024];

		assert_true(golden_length(e) <= 1024);
		for (size_t k = 0; k < golden_length(e); k++)
			value[k] = golden_element(e, k);
		assert_int_equal(detect_limits_q(value, golden_length(e),
						 golden_number(c, "alpha"), &l),
				 0);
		detect_limits_choose(&l, 2);
		relative("theta1", l.theta[0], golden_number(c, "theta1"),
			 1e-9);
		relative("theta2", l.theta[1], golden_number(c, "theta2"),
			 1e-9);
		relative("theta3", l.theta[2], golden_number(c, "theta3"),
			 1e-9);
		golden_near("h0", l.h0, golden_number(c, "h0"), 1e-9);
		relative("jm", l.q_jm, golden_number(c, "sign_correct"), 1e-9);
		relative("box", l.q_box, golden_number(c, "box"), 1e-9);
		relative("ucl_q", l.ucl_q, golden_number(c, "ucl_q"), 1e-9);
		assert_int_equal(l.q_method, strcmp(method, "jm")
						     ? DETECT_Q_BOX
						     : DETECT_Q_JM);
	}
	golden_close(o);
}

/* --- the static model ---------------------------------------------------- */

static struct detect_model *r1_model(const struct matrix *a, size_t lv,
				     struct detect_report *report)
{
	struct detect_options o = detect_options_default;
	struct detect_model *model = NULL;

	o.lv = lv;
	assert_int_equal(detect_calibrate(a->v, a->n, a->m, &o, &model, report,
					  NULL),
			 0);
	assert_int_equal(detect_model_check(model), 0);
	return model;
}

static void compare_model(const struct detect_model *model,
			  struct json_object *o)
{
	struct json_object *p = golden_at(o, "loadings_sign_fixed");
	struct json_object *l = golden_at(o, "eigenvalues");
	struct json_object *zero = golden_at(o, "zero_variance_columns");

	assert_int_equal(model->rank, 10);
	for (size_t j = 0; j < M; j++) {
		relative("mean", model->mean[j],
			 golden_element(golden_at(o, "mean"), j), 1e-12);
		relative("scale", model->scale[j],
			 golden_element(golden_at(o, "scale"), j), 1e-12);
		for (size_t a = 0; a < 2; a++)
			golden_near("loading", model->loadings[a * M + j],
				    golden_element(golden_item(p, j), a), 1e-9);
	}
	assert_int_equal(detect_model_constants(model), golden_length(zero));
	for (size_t i = 0; i < golden_length(zero); i++)
		assert_true(model->constant[(size_t)golden_element(zero, i)]);
	for (size_t a = 0; a < 10; a++)
		relative("eigenvalue", model->eigenvalues[a],
			 golden_element(l, a), a < 2 ? 1e-10 : 1e-5);
}

static void compare_limits(const struct detect_model *model,
			   struct json_object *o)
{
	struct json_object *c = golden_item(golden_at(o, "limits"), 0);
	struct json_object *exceed = golden_at(c, "calibration_exceed");
	const struct detect_limits *l = &model->limits;

	relative("UCLQ", l->ucl_q, golden_number(c, "UCLQ_h0_sign_correct"),
		 1e-9);
	relative("UCLQ", l->ucl_q, golden_number(c, "UCLQ"), 1e-9);
	relative("box", l->q_box, golden_number(c, "UCLQ_box"), 1e-9);
	relative("h0", l->h0, golden_number(c, "h0"), 1e-9);
	relative("theta1", l->theta[0], golden_number(c, "theta1"), 1e-9);
	relative("theta2", l->theta[1], golden_number(c, "theta2"), 1e-9);
	relative("theta3", l->theta[2], golden_number(c, "theta3"), 1e-9);
	relative("UCLD1", l->d_phase1, golden_number(c, "UCLD_phase1"), 1e-9);
	relative("UCLD2", l->d_phase2, golden_number(c, "UCLD_phase2"), 1e-9);
	relative("empirical Q", l->q_empirical,
		 golden_number(c, "empirical_UCLQ"), 1e-9);
	relative("empirical D", l->d_empirical,
		 golden_number(c, "empirical_UCLD"), 1e-9);
	assert_int_equal(model->exceed.q, (int)golden_number(exceed, "Q"));
	assert_int_equal(model->exceed.d,
			 (int)golden_number(exceed, "D_phase2"));
}

/* Judges the raw row and compares with the numbers beside it. */
static struct detect_stats compare_row(const struct detect_model *model,
				       struct json_object *raw, double q,
				       double d, double *z, double *e)
{
	struct detect_stats s;
	double x[M];

	for (size_t j = 0; j < M; j++)
		x[j] = golden_element(raw, j);
	assert_int_equal(detect_judge(model, x, z, e, &s), 0);
	golden_near("Q", s.q, q, 1e-9 * q + 1e-12 * square_sum(z, M));
	relative("D", s.d, d, 1e-9);
	return s;
}

static void compare_omeda(const struct detect_model *model, const double *z,
			  struct json_object *o)
{
	struct json_object *v = golden_at(o, "vector");
	struct json_object *top = golden_at(o, "top");
	struct detect_contribution largest[DETECT_TOP];
	double u[M], most;

	detect_omeda(model, z, u);
	assert_int_equal(detect_largest(u, M, largest, DETECT_TOP), DETECT_TOP);
	most = fabs(largest[0].value);
	for (size_t j = 0; j < M; j++)
		golden_near("omeda", u[j], golden_element(v, j), 1e-9 * most);
	for (size_t i = 0; i < DETECT_TOP; i++)
		golden_near("top", largest[i].value,
			    golden_element(golden_item(top, i), 2),
			    1e-9 * most);
}

static void compare_perturbed(const struct detect_model *model,
			      struct json_object *o)
{
	struct json_object *list = golden_at(o, "perturbed");
	struct json_object *omeda = golden_at(o, "omeda");

	assert_int_equal(golden_length(list), 20);
	for (size_t i = 0; i < golden_length(list); i++) {
		struct json_object *c = golden_item(list, i);
		struct json_object *edits = golden_at(c, "edits");
		const char *id = json_object_get_string(golden_at(c, "id"));
		double z[M], e[M], work[M], sum = 0;
		struct detect_stats s;
		struct detect_top top;
		bool edited = false;

		s = compare_row(model, golden_at(c, "raw"),
				golden_number(c, "Q"), golden_number(c, "D"), z,
				e);
		detect_diagnose(model, &s, z, e, work, &top);
		for (size_t k = 0; k < golden_length(edits); k++)
			edited |= top.top[0].column ==
				  (size_t)golden_element(golden_item(edits, k),
							 0);
		assert_true(edited);
		detect_signed_squares(e, M, work);
		for (size_t j = 0; j < M; j++)
			sum += fabs(work[j]);
		relative("residual", sum, s.q, 1e-12);
		for (size_t k = 0; k < golden_length(omeda); k++) {
			struct json_object *v = golden_item(omeda, k);

			if (!strcmp(json_object_get_string(
					    golden_at(v, "perturbed_id")),
				    id))
				compare_omeda(model, z, v);
		}
	}
}

static void test_static(void **state)
{
	struct json_object *o = open_or_skip("routerR1_lv2_prep2.json"), *rows;
	struct matrix a = golden_data(R1);
	struct detect_model *model = r1_model(&a, 2, NULL);
	double z[M], e[M];

	(void)state;
	assert_int_equal(a.m, M);
	compare_model(model, o);
	compare_limits(model, o);
	rows = golden_at(o, "rows");
	for (size_t i = 0; i < golden_length(golden_at(rows, "index")); i++)
		compare_row(model, golden_item(golden_at(rows, "raw"), i),
			    golden_element(golden_at(rows, "Q"), i),
			    golden_element(golden_at(rows, "D"), i), z, e);
	compare_perturbed(model, o);
	detect_model_free(model);
	free(a.v);
	golden_close(o);
}

static void test_auto(void **state)
{
	static const double ckf[] = { 1, 0.0869, 0.0589, 0.0584, 0.0806 };
	struct json_object *o = open_or_skip("routerR1_lv2_prep2.json");
	struct matrix a = golden_data(R1);
	struct detect_report report;
	struct detect_model *model = r1_model(&a, DETECT_LV_AUTO, &report);

	(void)state;
	assert_int_equal(report.n_ckf, 10);
	for (size_t i = 0; i < 5; i++)
		assert_true(fabs(report.ckf[i] - ckf[i]) < 5.1e-5);
	assert_int_equal(model->lv, 3);
	assert_true(fabs(report.explained - 0.99677819) < 5.1e-9);
	assert_true(fabs(model->limits.ucl_q - 0.51834034) < 5.1e-9);
	assert_true(fabs(model->limits.ucl_d - 11.41541645) < 5.1e-9);
	detect_model_free(model);
	free(a.v);
	golden_close(o);
}

/* --- missing values ------------------------------------------------------ */

static void compare_imputed(const struct detect_model *model,
			    const double *complete, struct json_object *c,
			    enum detect_missing by)
{
	struct json_object *missing = golden_at(c, "missing");
	struct json_object *want = golden_at(c, detect_missing_text(by));
	struct json_object *filled = golden_at(want, "filled");
	const double q = golden_number(want, "Q");
	double x[M], z[M], e[M];
	struct detect_imputed done;
	struct detect_stats s;

	memcpy(x, complete, sizeof(x));
	for (size_t i = 0; i < golden_length(missing); i++)
		x[(size_t)golden_element(missing, i)] = NAN;
	assert_int_equal(detect_impute(model, by, x, &done, NULL), 0);
	assert_int_equal(done.n, golden_length(missing));
	assert_int_equal(done.by, by);
	assert_true(done.share > 0 && done.share < 1);
	for (size_t i = 0; i < golden_length(missing); i++)
		relative("filled", x[(size_t)golden_element(missing, i)],
			 golden_element(filled, i), 1e-8);
	assert_int_equal(detect_judge(model, x, z, e, &s), 0);
	golden_near("Q", s.q, q, 1e-8 * q + 1e-11 * square_sum(z, M));
	relative("D", s.d, golden_number(want, "D"), 1e-8);
}

static void test_imputation(void **state)
{
	struct json_object *o = open_or_skip("routerR1_imputation_lv2.json");
	struct json_object *cases = golden_at(o, "cases");
	struct matrix a = golden_data(R1);
	struct detect_model *model = r1_model(&a, 2, NULL);

	(void)state;
	for (size_t i = 0; i < golden_length(cases); i++) {
		struct json_object *c = golden_item(cases, i);
		const double *x = a.v + (size_t)golden_number(c, "row") * M;

		compare_imputed(model, x, c, DETECT_TSR);
		compare_imputed(model, x, c, DETECT_AVERAGE);
		compare_imputed(model, x, c, DETECT_ZERO);
	}
	detect_model_free(model);
	free(a.v);
	golden_close(o);
}

/* --- dynamic ------------------------------------------------------------- */

static const struct detect_ewma_options dynamic = {
	.prep = 2,
	.lv = 3,
	.alpha_q = 0.01,
	.alpha_d = 0.01,
	.phase = 2,
	.lambda = 0.9,
};

static void compare_dynamic(const struct detect_model *model,
			    struct json_object *want)
{
	struct json_object *l = golden_at(want, "eig"), *v;
	double least = INFINITY;

	relative("N", model->n, golden_number(want, "N"), 1e-12);
	assert_int_equal(model->rank, (int)golden_number(want, "rank"));
	for (size_t a = 0; a < model->rank && a < golden_length(l); a++)
		relative("eigenvalue", model->eigenvalues[a],
			 golden_element(l, a), a < 3 ? 1e-7 : 1e-5);
	relative("UCLQ", model->limits.ucl_q, golden_number(want, "UCLQ"),
		 1e-7);
	relative("UCLD1", model->limits.d_phase1,
		 golden_number(want, "UCLD_phase1"), 1e-7);
	relative("UCLD2", model->limits.ucl_d,
		 golden_number(want, "UCLD_phase2"), 1e-7);
	for (size_t j = 0; j < M; j++)
		least = fmin(least, model->scale[j]);
	relative("min_scale", least, golden_number(want, "min_scale"), 1e-7);
	if (!json_object_object_get_ex(want, "mean", &v))
		return;
	for (size_t j = 0; j < M; j++) {
		relative("mean", model->mean[j], golden_element(v, j), 1e-9);
		relative("scale", model->scale[j],
			 golden_element(golden_at(want, "scale"), j), 1e-7);
	}
}

static void compare_judged(const struct detect_model *model, const double *x,
			   double q, double d, double bound)
{
	double z[M], e[M];
	struct detect_stats s;

	assert_int_equal(detect_judge(model, x, z, e, &s), 0);
	golden_near("Q", s.q, q, bound * q + 1e-11 * square_sum(z, M));
	relative("D", s.d, d, bound);
}

static void test_dynamic(void **state)
{
	struct json_object *o =
		open_or_skip("routerR1_dynamic_B60_l0.9_lv3.json");
	struct json_object *batches = golden_at(o, "batches");
	struct matrix a = golden_data(R1);
	struct detect_ewma *ewma = detect_ewma_new(M);

	(void)state;
	for (size_t b = 0; b < golden_length(batches); b++) {
		struct json_object *c = golden_item(batches, b);
		struct json_object *rows = golden_at(c, "rows");
		struct json_object *judged = golden_at(c, "monitor_rows");
		struct json_object *want = golden_at(c, "reference_exact");
		const size_t first = (size_t)golden_element(rows, 0);
		const size_t end = (size_t)golden_element(rows, 1);
		const size_t at = (size_t)golden_element(judged, 0);
		struct detect_model *model = NULL;

		assert_int_equal(detect_ewma_learn(ewma, a.v + first * M,
						   end - first, &dynamic,
						   &model, NULL),
				 0);
		assert_int_equal(detect_model_check(model), 0);
		compare_dynamic(model, want);
		for (size_t i = at; i < (size_t)golden_element(judged, 1); i++)
			compare_judged(
				model, a.v + i * M,
				golden_element(golden_at(want, "Q"), i - at),
				golden_element(golden_at(want, "D"), i - at),
				1e-7);
		detect_model_free(model);
	}
	detect_ewma_free(ewma);
	free(a.v);
	golden_close(o);
}

/* The first hour of the recorded run: there old and exact rules agree. */
static void test_recorded(void **state)
{
	struct json_object *o = open_or_skip("recorded_routerR1.json");
	struct json_object *rows = golden_at(o, "rows");
	struct json_object *first = golden_item(golden_at(o, "batches"), 0);
	struct matrix a = golden_data("run_routerR1.csv.gz");
	struct detect_ewma *ewma = detect_ewma_new(M);
	struct detect_model *model = NULL;
	size_t judged = 0;

	(void)state;
	assert_int_equal(
		detect_ewma_learn(ewma, a.v, 60, &dynamic, &model, NULL), 0);
	relative("N", model->n, golden_number(first, "N"), 1e-12);
	relative("UCLQ", model->limits.ucl_q, golden_number(first, "UCLQ"),
		 1e-8);
	for (size_t i = 0; i < golden_length(rows); i++) {
		struct json_object *c = golden_item(rows, i);
		const size_t k = (size_t)golden_number(c, "obs_index");
		const double *x = a.v + k * M;
		bool moved = false;

		for (size_t j = 0; j < M; j++)
			moved |= model->constant[j] &&
				 fabs(x[j] - model->mean[j]) > 0;
		if (k < 60 || k > 118 || moved)
			continue;
		compare_judged(model, x, golden_number(c, "Q"),
			       golden_number(c, "D"), 1e-8);
		judged++;
	}
	assert_true(judged >= 3);
	detect_model_free(model);
	detect_ewma_free(ewma);
	free(a.v);
	golden_close(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_auto),
		cmocka_unit_test(test_imputation),
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_recorded),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	print_message("largest share of a tolerance used: %.3f\n",
		      golden_worst());
	return failed;
}
