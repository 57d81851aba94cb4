/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F7: model files from anybody.  What is taken passed every check, is saved
 * and loaded as the same text, and judges a row.
 *
 * Input: the file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/judge.h"
#include "agent/detect/modelfile.h"
#include "common/util.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_row(const struct detect_model *model)
{
	double *x = calloc(3 * model->m, sizeof(*x));
	struct detect_stats stats;

	MUST(x);
	for (size_t i = 0; i < model->m; i++)
		x[i] = i % 2 ? 1e150 : -3;
	MUST(!detect_judge(model, x, x + model->m, x + 2 * model->m, &stats));
	MUST(isfinite(stats.q) && isfinite(stats.d) && stats.q >= 0);
	free(x);
}

static void try_model(const struct detect_model *model)
{
	struct buf once = BUF_INIT, again = BUF_INIT;
	struct detect_model *back = NULL;
	char why[MODELFILE_WHY_LEN];

	MUST(!detect_model_check(model));
	MUST(!modelfile_format(model, &once));
	MUST(!modelfile_parse(once.data, once.len, &back, why));
	MUST(!modelfile_format(back, &again));
	MUST(once.len == again.len &&
	     memcmp(once.data, again.data, once.len) == 0);
	try_row(back);
	detect_model_free(back);
	buf_fini(&once);
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct detect_model *model = NULL;
	char why[MODELFILE_WHY_LEN] = "";
	int ret = modelfile_parse((const char *)data, size, &model, why);

	MUST(ret == 0 || (ret == MODELFILE_BAD && why[0] && !model));
	if (!ret)
		try_model(model);
	detect_model_free(model);
	return 0;
}
