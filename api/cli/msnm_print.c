/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Judging rows, and what is said about them: one object a line. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/diagnose.h"
#include "agent/detect/modelfile.h"
#include "api/cli/cli.h"
#include "common/json_out.h"
#include "common/util.h"

#define MAX_IMPUTED 0.2 /* above this share the row cannot alarm */

int msnm_judge_init(struct msnm_judge *j, const struct cli *c, size_t m)
{
	static const struct detect_rule usual = DETECT_RULE_DEFAULT;

	*j = (struct msnm_judge){
		.c = c,
		.rule = c->opt.msnm.has_rule ? c->opt.msnm.rule : usual,
		.z = calloc(3 * m, sizeof(*j->z)),
		.m = m,
		.missing = calloc(m, sizeof(*j->missing)),
		.text = BUF_INIT,
	};
	j->e = j->z + m;
	j->work = j->e + m;
	if (j->z && j->missing)
		return 0;
	complain("out of memory");
	return CLI_FAILED;
}

void msnm_judge_fini(struct msnm_judge *j)
{
	free(j->z);
	free(j->missing);
	buf_fini(&j->text);
}

int msnm_judge_row(struct msnm_judge *j, const struct detect_model *model,
		   bool dynamic, struct msnm_row *row)
{
	size_t n = 0;
	int ret = 0;

	for (size_t i = 0; row->n_missing && i < j->m; i++)
		if (isnan(row->x[i]))
			j->missing[n++] = i;
	j->imputed = (struct detect_imputed){ 0 };
	j->stats = (struct detect_stats){ 0 };
	if (model && n)
		ret = detect_impute(model, j->c->opt.msnm.missing, row->x,
				    &j->imputed, NULL);
	if (model && !ret)
		ret = detect_judge(model, row->x, j->z, j->e, &j->stats);
	if (ret)
		return msnm_refuse(j->c->opt.msnm.input, ret, NULL);
	j->state = !model                             ? "learning"
		   : dynamic && detect_warming(model) ? "warming"
		   : j->imputed.share > MAX_IMPUTED   ? "suppressed"
						      : "ok";
	j->alarm = detect_rule_step(&j->rule, &j->history, model,
				    model ? &j->stats : NULL) &&
		   strcmp(j->state, "ok") == 0;
	return 0;
}

static void put_missing(struct json_out *o, const struct msnm_judge *j,
			const struct detect_model *model,
			const struct msnm_row *row)
{
	json_open(o, "missing", '[');
	for (size_t i = 0; i < row->n_missing; i++)
		json_put_u64(o, NULL, j->missing[i]);
	json_close(o, ']');
	if (!model)
		return;
	json_put_str(o, "imputed_by", detect_missing_text(j->imputed.by));
	json_put_real(o, "imputed_share", j->imputed.share);
	json_open(o, "filled", '[');
	for (size_t i = 0; i < row->n_missing; i++)
		json_put_real(o, NULL, row->x[j->missing[i]]);
	json_close(o, ']');
}

static void put_diagnosis(struct json_out *o, struct msnm_judge *j,
			  const struct detect_model *model)
{
	struct detect_top top;

	detect_omeda(model, j->z, j->work);
	json_put_reals(o, "omeda", j->work, j->m);
	detect_signed_squares(j->e, j->m, j->work);
	json_put_reals(o, "residual", j->work, j->m);
	detect_signed_squares(j->z, j->m, j->work);
	json_put_reals(o, "univariate", j->work, j->m);
	detect_diagnose(model, &j->stats, j->z, j->e, j->work, &top);
	json_open(o, "top", '[');
	for (size_t i = 0; i < top.n; i++) {
		json_open(o, NULL, '{');
		json_put_u64(o, "index", top.top[i].column);
		json_put_str(o, "name", model->schema.names[top.top[i].column]);
		json_put_str(o, "by", detect_by_text(top.by));
		json_put_real(o, "value", top.top[i].value);
		json_close(o, '}');
	}
	json_close(o, ']');
}

void msnm_print_row(struct msnm_judge *j, const struct detect_model *model,
		    const struct msnm_row *row, bool n)
{
	struct json_out o;

	json_out_init(&o, &j->text);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "row", row->row);
	if (row->id)
		json_put_str(&o, "id", row->id);
	/* what is not there is NAN, which is written as null */
	json_put_real(&o, "q", model ? j->stats.q : NAN);
	json_put_real(&o, "d", model ? j->stats.d : NAN);
	json_put_real(&o, "ucl_q", model ? model->limits.ucl_q : NAN);
	json_put_real(&o, "ucl_d", model ? model->limits.ucl_d : NAN);
	json_put_str(&o, "over", detect_over_text(j->stats.over));
	json_put_bool(&o, "alarm", j->alarm);
	json_put_str(&o, "state", j->state);
	json_put_real(&o, "novelty", model ? j->stats.novelty : NAN);
	if (n)
		modelfile_put_whole(&o, "n", model ? model->n : 0);
	if (row->n_missing)
		put_missing(&o, j, model, row);
	if (model && j->c->opt.msnm.diagnose)
		put_diagnosis(&o, j, model);
	json_close(&o, '}');
	buf_text(&j->text, "\n");
}

int msnm_print(struct buf *text, bool now)
{
	if (text->failed) {
		complain("out of memory");
		return CLI_FAILED;
	}
	if (text->len)
		fwrite(text->data, 1, text->len, stdout);
	buf_reset(text);
	return now || ferror(stdout) ? msnm_finish(0) : 0;
}

int msnm_finish(int ret)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return ret;
	/* who reads no further knows that there is more */
	if (errno != EPIPE)
		complain("cannot write the output: %s", strerror(errno));
	return CLI_OUTPUT;
}

int msnm_model_load(const char *path, struct detect_model **model)
{
	char why[MODELFILE_WHY_LEN];
	int ret = modelfile_load(path, model, why);

	if (ret == -ENOMEM) {
		complain("out of memory");
		return CLI_FAILED;
	}
	if (ret)
		complain("%s: %s", path, ret < 0 ? strerror(-ret) : why);
	return ret ? CLI_CONFIG : 0;
}

int msnm_refuse(const char *name, int outcome, const struct detect_reason *why)
{
	char text[160];

	complain("%s: %s", name,
		 detect_error_format(outcome, why, text, sizeof(text)));
	return outcome == -ENOMEM ? CLI_FAILED : CLI_CONFIG;
}
