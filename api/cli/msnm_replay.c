/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet msnm replay: recorded rows as the agent would have met them, judged
 * by the model of the batches before them and then learned.
 *
 * Learning may fail in the midst of a file (nothing varies, too few latent
 * variables).  A file is therefore replayed twice, at first without printing.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/modelfile.h"
#include "api/cli/cli.h"
#include "common/json_out.h"
#include "common/util.h"

#define ALPHA      0.01
#define PREP       2
#define PHASE      2 /* rows are judged before they are learned */
#define QUARANTINE 10
#define ROOM       64

struct replay {
	struct msnm_input *in;
	const struct detect_model *warm; /* NULL: cold */
	struct detect_ewma_options options;
	double quarantine;
	bool print;
	struct msnm_judge judge;
	struct detect_ewma *state;
	struct detect_model *own; /* after the first batch */
	double *batch;
	size_t n, room;   /* rows of the batch; there is room for so many */
	uint64_t number;  /* of the batch */
	uint64_t skipped; /* rows since the last batch that were not learned */
	uint64_t first;   /* row after the last batch */
};

static const struct detect_model *judging(const struct replay *r)
{
	return r->own ? r->own : r->warm;
}

/* ---- one batch ---- */

static void put_model(struct replay *r, uint64_t end)
{
	static const char *const methods[] = {
		[DETECT_Q_JM] = "jm",
		[DETECT_Q_BOX] = "box",
	};
	const struct detect_model *model = r->own;
	struct json_out o;

	json_out_init(&o, &r->judge.text);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "model", r->number);
	json_open(&o, "rows", '[');
	json_put_u64(&o, NULL, r->first);
	json_put_u64(&o, NULL, end);
	json_close(&o, ']');
	json_put_u64(&o, "learned", r->n);
	json_put_u64(&o, "skipped", r->skipped);
	modelfile_put_whole(&o, "n", model->n);
	json_put_u64(&o, "rank", model->rank);
	json_put_reals(&o, "eigenvalues", model->eigenvalues, model->rank);
	json_put_real(&o, "ucl_q", model->limits.ucl_q);
	json_put_real(&o, "ucl_d", model->limits.ucl_d);
	json_put_real(&o, "ucl_d_phase1", model->limits.d_phase1);
	if (model->limits.q_method == DETECT_Q_UNDEFINED)
		json_put_null(&o, "q_method");
	else
		json_put_str(&o, "q_method", methods[model->limits.q_method]);
	json_put_reals(&o, "mean", model->mean, model->m);
	json_put_reals(&o, "scale", model->scale, model->m);
	json_close(&o, '}');
	buf_text(&r->judge.text, "\n");
}

/* The batch is complete with the row before end. */
static int learn(struct replay *r, uint64_t end)
{
	const struct csv *csv = &r->in->csv;
	struct detect_reason why = { 0 };
	struct detect_model *model;
	char name[64], text[160];
	int ret = detect_ewma_learn(r->state, r->batch, r->n, &r->options,
				    &model, &why);

	if (!ret)
		ret = detect_model_set_schema(model, csv->semantics,
					      csv->window_s, csv->names);
	if (ret) {
		msnm_progress_end(r->in);
		snprintf(name, sizeof(name), "batch of rows %ju:%ju",
			 (uintmax_t)r->first, (uintmax_t)end);
		complain("%s: %s: %s", r->in->name, name,
			 detect_error_format(ret, &why, text, sizeof(text)));
		return ret == -ENOMEM ? CLI_FAILED : CLI_CONFIG;
	}
	detect_model_free(r->own);
	r->own = model;
	if (r->print && r->in->c->opt.msnm.models)
		put_model(r, end);
	r->number++;
	r->n = r->skipped = 0;
	r->first = end;
	return 0;
}

/* Into the batch, unless the row is imputed or far outside. */
static int collect(struct replay *r, const struct msnm_row *row)
{
	const struct detect_model *model = judging(r);
	const size_t m = r->judge.m;

	if (row->n_missing ||
	    (model && detect_beyond(model, &r->judge.stats, r->quarantine))) {
		r->skipped++;
		return 0;
	}
	if (r->n == r->room) {
		size_t room = 2 * r->room + ROOM;
		double *more = reallocarray(r->batch, room * m, sizeof(*more));

		if (!more) {
			complain("out of memory");
			return CLI_FAILED;
		}
		r->batch = more;
		r->room = room;
	}
	memcpy(r->batch + r->n++ * m, row->x, m * sizeof(*row->x));
	return r->n == r->in->c->opt.msnm.batch ? learn(r, row->row + 1) : 0;
}

/* ---- the run ---- */

static int replay_rows(struct replay *r)
{
	struct msnm_row row;
	int ret;

	while (!(ret = msnm_next(r->in, &row))) {
		ret = msnm_judge_row(&r->judge, judging(r), true, &row);
		if (ret)
			return ret;
		if (r->print)
			msnm_print_row(&r->judge, judging(r), &row, true);
		ret = msnm_print(&r->judge.text, r->in->stream);
		if (!ret)
			ret = collect(r, &row);
		if (!ret)
			ret = msnm_print(&r->judge.text, r->in->stream);
		if (ret)
			return ret;
		msnm_progress(r->in, r->in->at, r->print);
	}
	msnm_progress_end(r->in);
	return ret == MSNM_END ? 0 : ret;
}

static int replay_run(struct msnm_input *in, const struct detect_model *warm,
		      const struct detect_ewma_options *options, bool print)
{
	const struct msnm_options *o = &in->c->opt.msnm;
	struct replay r = {
		.in = in,
		.warm = warm,
		.options = *options,
		.quarantine = o->has_quarantine ? o->quarantine : QUARANTINE,
		.print = print,
		.first = o->first,
	};
	int ret = msnm_judge_init(&r.judge, in->c, in->csv.n_columns);

	if (!ret) {
		r.state = warm ? detect_ewma_from_model(warm)
			       : detect_ewma_new(in->csv.n_columns);
		if (!r.state)
			ret = msnm_refuse(in->name, DETECT_SIZE, NULL);
	}
	if (!ret)
		ret = replay_rows(&r);
	msnm_judge_fini(&r.judge);
	detect_ewma_free(r.state);
	detect_model_free(r.own);
	free(r.batch);
	return ret;
}

static int replay(struct msnm_input *in, const struct detect_model *warm,
		  const struct detect_ewma_options *options)
{
	int ret = warm ? msnm_check_columns(in, warm) : 0;

	if (!ret)
		ret = msnm_load(in, false);
	if (!ret && !in->stream) {
		ret = replay_run(in, warm, options, false);
		msnm_rewind(in);
	}
	if (!ret)
		ret = replay_run(in, warm, options, true);
	return ret ? ret : msnm_finish(0);
}

/* What was asked for and the warm model, which must agree. */
static int options_make(const struct msnm_options *o,
			const struct detect_model *warm,
			struct detect_ewma_options *out)
{
	*out = (struct detect_ewma_options){
		.prep = o->has_prep ? o->prep
			: warm      ? warm->prep
				    : PREP,
		.lv = o->has_lv || !warm ? o->lv : warm->lv,
		.alpha_q = o->alpha > 0 ? o->alpha : ALPHA,
		.alpha_d = o->alpha > 0 ? o->alpha : ALPHA,
		.phase = PHASE,
		.lambda = o->lambda,
	};
	if (warm && (out->lv != warm->lv || out->prep != warm->prep)) {
		complain("%s: the model has --lv %zu --prep %u", o->warm,
			 warm->lv, warm->prep);
		return CLI_CONFIG;
	}
	if (warm && warm->prep == 0) {
		complain("%s: a model with --prep 0 cannot go on", o->warm);
		return CLI_CONFIG;
	}
	if (o->batch < out->lv + 2) {
		complain("--batch %ju: must be %zu or more with --lv %zu",
			 (uintmax_t)o->batch, out->lv + 2, out->lv);
		return CLI_CONFIG;
	}
	return 0;
}

int verb_msnm_replay(struct cli *c)
{
	const struct msnm_options *o = &c->opt.msnm;
	struct detect_ewma_options options;
	struct detect_model *warm = NULL;
	struct msnm_input in;
	int ret = 0;

	if (msnm_need(o->input, "--input") || msnm_need(o->batch, "--batch") ||
	    msnm_need(o->lambda > 0, "--lambda") ||
	    msnm_need(o->has_lv || o->warm, "--lv"))
		return CLI_USAGE;
	signal(SIGPIPE, SIG_IGN);
	if (o->warm)
		ret = msnm_model_load(o->warm, &warm);
	if (!ret)
		ret = options_make(o, warm, &options);
	if (!ret) {
		ret = msnm_open(&in, c, CSV_MISSING);
		if (!ret)
			ret = replay(&in, warm, &options);
		msnm_close(&in);
	}
	detect_model_free(warm);
	return ret;
}
