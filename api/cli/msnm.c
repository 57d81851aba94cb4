/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet msnm calibrate: normal rows become a model.
 * linnet msnm observe: rows are judged against it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/detect/lapack.h"
#include "agent/detect/modelfile.h"
#include "api/cli/cli.h"
#include "common/json_out.h"
#include "common/util.h"

#define LONG_CELLS   (1 << 20) /* a calibration that may take a second */
#define TIMED_ROWS   4096
#define TIMED_MIN_NS 200000000

/* ---- calibrate ---- */

static struct detect_options calibrate_options(const struct msnm_options *o)
{
	struct detect_options d = detect_options_default;

	d.lv = o->lv;
	if (o->has_prep)
		d.prep = o->prep;
	if (o->alpha > 0)
		d.alpha_q = d.alpha_d = o->alpha;
	if (o->phase)
		d.phase = o->phase;
	d.active = o->limits;
	d.clean = o->clean;
	d.first_row = o->first;
	return d;
}

static void put_summary(struct buf *b, const struct detect_model *model,
			const struct detect_report *report, uint64_t ns)
{
	struct json_out o;
	char hash[17];

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	modelfile_put_whole(&o, "n", model->n);
	json_put_u64(&o, "m", model->m);
	json_put_u64(&o, "rank", model->rank);
	json_put_u64(&o, "lv", model->lv);
	json_put_real(&o, "explained", report->explained);
	json_put_real(&o, "ucl_q", model->limits.ucl_q);
	json_put_real(&o, "ucl_d", model->limits.ucl_d);
	json_open(&o, "ckf", '[');
	for (size_t i = 0; i < report->n_ckf; i++)
		json_put_real(&o, NULL, report->ckf[i]);
	json_close(&o, ']');
	modelfile_put_quality(&o, model->quality);
	hex_u64(model->schema.hash, hash);
	json_put_str(&o, "schema", hash);
	json_put_u64(&o, "elapsed_us", ns / 1000);
	json_close(&o, '}');
	buf_text(b, "\n");
}

static int save(const char *path, const struct detect_model *model)
{
	int ret = modelfile_save(path, model);

	if (ret)
		complain("%s: %s", path,
			 ret > 0 ? "the model is too large" : strerror(-ret));
	if (ret > 0)
		return CLI_CONFIG;
	return ret == -ENOMEM ? CLI_FAILED : ret ? CLI_OUTPUT : 0;
}

static int calibrate(struct msnm_input *in, struct buf *summary)
{
	const struct msnm_options *o = &in->c->opt.msnm;
	struct detect_options options = calibrate_options(o);
	bool tell = !in->c->opt.quiet && isatty(STDERR_FILENO) &&
		    in->n * in->csv.n_columns > LONG_CELLS;
	struct detect_model *model = NULL;
	struct detect_report report;
	struct detect_reason why = { 0 };
	uint64_t began_ns;
	int ret;

	if (tell)
		fprintf(stderr, "\rlinnet: calibrating with %zu rows", in->n);
	lapack_load();
	began_ns = clock_mono_ns();
	ret = detect_calibrate(in->x, in->n, in->csv.n_columns, &options,
			       &model, &report, &why);
	began_ns = clock_mono_ns() - began_ns;
	if (tell)
		fprintf(stderr, "\r\033[K");
	if (!ret)
		ret = detect_model_set_schema(model, in->csv.semantics,
					      in->csv.window_s, in->csv.names);
	if (ret)
		return msnm_refuse(in->name, ret, &why);
	model->created_ms = clock_wall_ms();
	ret = save(o->output, model);
	if (!ret)
		put_summary(summary, model, &report, began_ns);
	detect_model_free(model);
	return ret;
}

int verb_msnm_calibrate(struct cli *c)
{
	const struct msnm_options *o = &c->opt.msnm;
	struct buf summary = BUF_INIT;
	struct msnm_input in;
	int ret;

	if (msnm_need(o->input, "--input") || msnm_need(o->has_lv, "--lv") ||
	    msnm_need(o->output, "--output"))
		return CLI_USAGE;
	signal(SIGPIPE, SIG_IGN);
	ret = msnm_open(&in, c, CSV_COMPLETE);
	if (!ret)
		ret = msnm_load(&in, true);
	if (!ret)
		ret = calibrate(&in, &summary);
	if (!ret)
		ret = msnm_print(&summary, true);
	buf_fini(&summary);
	msnm_close(&in);
	return ret;
}

/* ---- observe ---- */

/* Rows as they were judged, to judge them again against the clock. */
struct timed {
	double *x;
	size_t n, total;
};

static void timed_add(struct timed *t, const double *x, size_t m)
{
	if (t->x && t->n < TIMED_ROWS)
		memcpy(t->x + t->n++ * m, x, m * sizeof(*x));
	t->total++;
}

static void timed_print(const struct timed *t, const struct msnm_judge *j,
			const struct detect_model *model)
{
	uint64_t began_ns = clock_mono_ns(), ns;
	struct detect_stats stats;
	uint64_t n = 0;

	do {
		for (size_t i = 0; i < t->n; i++)
			(void)detect_judge(model, t->x + i * j->m, j->z, j->e,
					   &stats);
		n += t->n;
		ns = clock_mono_ns() - began_ns;
	} while (ns < TIMED_MIN_NS && t->n);
	fprintf(stderr, "{\"rows\": %zu, \"judge_ns_per_row\": %.1f}\n",
		t->total, n ? (double)ns / (double)n : 0.0);
}

static int observe_rows(struct msnm_input *in, struct msnm_judge *j,
			const struct detect_model *model, struct timed *t)
{
	struct msnm_row row;
	int ret;

	while (!(ret = msnm_next(in, &row))) {
		ret = msnm_judge_row(j, model, false, &row);
		if (ret)
			break;
		timed_add(t, row.x, j->m);
		msnm_print_row(j, model, &row, false);
		ret = msnm_print(&j->text, in->stream);
		if (ret)
			break;
		msnm_progress(in, in->at, true);
	}
	msnm_progress_end(in);
	return ret == MSNM_END ? 0 : ret;
}

static int observe(struct msnm_input *in, const struct detect_model *model)
{
	struct msnm_judge j = { .text = BUF_INIT };
	struct timed t = { 0 };
	int ret = msnm_check_columns(in, model);

	if (!ret)
		ret = msnm_load(in, false);
	if (!ret)
		ret = msnm_judge_init(&j, in->c, model->m);
	if (!ret && in->c->opt.msnm.timing)
		t.x = calloc(TIMED_ROWS * model->m, sizeof(*t.x));
	if (!ret)
		ret = observe_rows(in, &j, model, &t);
	if (!ret)
		ret = msnm_finish(0);
	if (!ret && t.x)
		timed_print(&t, &j, model);
	free(t.x);
	msnm_judge_fini(&j);
	return ret;
}

int verb_msnm_observe(struct cli *c)
{
	const struct msnm_options *o = &c->opt.msnm;
	struct detect_model *model = NULL;
	struct msnm_input in;
	int ret;

	if (msnm_need(o->model, "--model") || msnm_need(o->input, "--input"))
		return CLI_USAGE;
	signal(SIGPIPE, SIG_IGN);
	ret = msnm_model_load(o->model, &model);
	if (ret)
		return ret;
	ret = msnm_open(&in, c,
			o->missing == DETECT_REFUSE ? CSV_COMPLETE
						    : CSV_MISSING);
	if (!ret)
		ret = observe(&in, model);
	msnm_close(&in);
	detect_model_free(model);
	return ret;
}
