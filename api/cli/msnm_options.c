/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of "linnet msnm": what they allow is checked here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define OPTIONS(ctx) (&((struct cli *)(ctx))->opt.msnm)

#define FILE_OPTION(member)                                          \
	static int set_##member(void *ctx, const char *value,        \
				char error[ARGS_ERROR_LEN])          \
	{                                                            \
		snprintf(error, ARGS_ERROR_LEN, "must name a file"); \
		OPTIONS(ctx)->member = value;                        \
		return *value ? 0 : -EINVAL;                         \
	}
#define FLAG_OPTION(member)                                   \
	static int set_##member(void *ctx, const char *value, \
				char error[ARGS_ERROR_LEN])   \
	{                                                     \
		(void)value;                                  \
		(void)error;                                  \
		OPTIONS(ctx)->member = true;                  \
		return 0;                                     \
	}

FILE_OPTION(input)
FILE_OPTION(output)
FILE_OPTION(model)
FILE_OPTION(warm)
FLAG_OPTION(diagnose)
FLAG_OPTION(timing)
FLAG_OPTION(models)
FLAG_OPTION(per_record)

int msnm_need(bool given, const char *option)
{
	if (!given)
		complain("%s: must be given (see --help)", option);
	return given ? 0 : CLI_USAGE;
}

static int whole_take(const char *value, uint64_t max, const char *allowed,
		      uint64_t *out, char error[ARGS_ERROR_LEN])
{
	snprintf(error, ARGS_ERROR_LEN, "must be %s", allowed);
	return parse_u64(value, strlen(value), 1, max, out) ? -EINVAL : 0;
}

/* In [0, max]; 0 itself only where it is allowed. */
static int real_take(const char *value, bool zero, double max,
		     const char *allowed, double *out,
		     char error[ARGS_ERROR_LEN])
{
	double v;

	snprintf(error, ARGS_ERROR_LEN, "must be %s", allowed);
	if (parse_real(value, strlen(value), 0, max, &v) || (!zero && !(v > 0)))
		return -EINVAL;
	*out = v;
	return 0;
}

static int set_lv(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);
	uint64_t lv;

	o->has_lv = true;
	if (whole_take(value, UINT32_MAX, "1 or more", &lv, error))
		return -EINVAL;
	o->lv = lv;
	return 0;
}

static int set_lv_or_auto(void *ctx, const char *value,
			  char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);

	if (strcmp(value, "auto") != 0 && set_lv(ctx, value, error)) {
		snprintf(error, ARGS_ERROR_LEN, "must be 1 or more, or auto");
		return -EINVAL;
	}
	if (strcmp(value, "auto") == 0)
		o->lv = DETECT_LV_AUTO;
	o->has_lv = true;
	return 0;
}

static int set_prep(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);

	snprintf(error, ARGS_ERROR_LEN, "must be 0, 1 or 2");
	if (strlen(value) != 1 || !strchr("012", *value))
		return -EINVAL;
	o->has_prep = true;
	o->prep = (unsigned)(*value - '0');
	return 0;
}

/* Where the scale is always the data's. */
static int set_prep_dynamic(void *ctx, const char *value,
			    char error[ARGS_ERROR_LEN])
{
	if (strcmp(value, "0") != 0 && !set_prep(ctx, value, error))
		return 0;
	snprintf(error, ARGS_ERROR_LEN, "must be 1 or 2");
	return -EINVAL;
}

static int set_phase(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	uint64_t phase;

	if (whole_take(value, 2, "1 or 2", &phase, error))
		return -EINVAL;
	OPTIONS(ctx)->phase = (unsigned)phase;
	return 0;
}

static int set_alpha(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	return real_take(value, false, 0.5, "above 0, at most 0.5",
			 &OPTIONS(ctx)->alpha, error);
}

static int set_lambda(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	return real_take(value, false, 1, "above 0, at most 1",
			 &OPTIONS(ctx)->lambda, error);
}

static int set_clean(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	return real_take(value, true, 0.5, "0..0.5", &OPTIONS(ctx)->clean,
			 error);
}

static int set_quarantine(void *ctx, const char *value,
			  char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);

	o->has_quarantine = true;
	return real_take(value, true, 1e150, "0 or more", &o->quarantine,
			 error);
}

static int set_batch(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	return whole_take(value, CSV_CELLS_MAX, "1 or more",
			  &OPTIONS(ctx)->batch, error);
}

static int set_limits(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	static const char *const words[] = {
		[DETECT_THEORY] = "theory",
		[DETECT_EMPIRICAL] = "empirical",
		[DETECT_MAX] = "max",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(value, words[i]) == 0) {
			OPTIONS(ctx)->limits = (enum detect_active)i;
			return 0;
		}
	}
	snprintf(error, ARGS_ERROR_LEN, "must be theory, empirical or max");
	return -EINVAL;
}

static int set_missing(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	snprintf(error, ARGS_ERROR_LEN, "must be tsr, average, zero or refuse");
	return detect_missing_parse(value, &OPTIONS(ctx)->missing) ? -EINVAL
								   : 0;
}

static int set_alarm(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);

	snprintf(error, ARGS_ERROR_LEN,
		 "must be K:N:FACTOR, 1 <= K <= N <= 64, FACTOR 1 or more");
	o->has_rule = true;
	return detect_rule_parse(value, &o->rule) ? -EINVAL : 0;
}

static int set_rows(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct msnm_options *o = OPTIONS(ctx);
	const char *colon = strchr(value, ':');

	snprintf(error, ARGS_ERROR_LEN, "must be FIRST:END, FIRST below END");
	o->has_rows = true;
	if (!colon ||
	    parse_u64(value, (size_t)(colon - value), 0, CSV_CELLS_MAX,
		      &o->first) ||
	    parse_u64(colon + 1, strlen(colon + 1), 1, UINT32_MAX, &o->end) ||
	    o->first >= o->end)
		return -EINVAL;
	return 0;
}

static int set_format(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	(void)ctx;
	snprintf(error, ARGS_ERROR_LEN, "must be jsonl");
	return strcmp(value, "jsonl") == 0 ? 0 : -EINVAL;
}

const struct arg_row msnm_calibrate_options[] = {
	{ "input", 0, "FILE", "counters as CSV; -: standard input", set_input },
	{ "lv", 0, "A|auto", "latent variables", set_lv_or_auto },
	{ "prep", 0, "0|1|2", "2: centre and scale, 1: centre, 0: neither (2)",
	  set_prep },
	{ "alpha", 0, "SHARE", "significance of the limits (0.01)", set_alpha },
	{ "phase", 0, "1|2", "limit of D for old or for new rows (2)",
	  set_phase },
	{ "limits", 0, "WORD", "theory, empirical or max (theory)",
	  set_limits },
	{ "clean", 0, "SHARE", "drop outliers, at most this share (0)",
	  set_clean },
	{ "rows", 0, "FIRST:END", "only rows FIRST to END - 1, from 0 (all)",
	  set_rows },
	{ "output", 'o', "FILE", "the model", set_output },
	{ 0 },
};

const struct arg_row msnm_observe_options[] = {
	{ "model", 0, "FILE", "the model", set_model },
	{ "input", 0, "FILE", "counters as CSV; -: standard input", set_input },
	{ "diagnose", 0, NULL, "what each column adds", set_diagnose },
	{ "missing", 0, "WORD",
	  "empty cells: tsr, average, zero or refuse (tsr)", set_missing },
	{ "alarm", 0, "K:N:FACTOR",
	  "K of N rows over a limit, or one by FACTOR (2:3:3)", set_alarm },
	{ "rows", 0, "FIRST:END", "only rows FIRST to END - 1, from 0 (all)",
	  set_rows },
	{ "timing", 0, NULL, "at the end the time per row, on standard error",
	  set_timing },
	{ "format", 0, "jsonl", "one object a line (jsonl)", set_format },
	{ 0 },
};

const struct arg_row msnm_replay_options[] = {
	{ "input", 0, "FILE", "counters as CSV; -: standard input", set_input },
	{ "batch", 0, "B", "rows between two calibrations", set_batch },
	{ "lambda", 0, "L", "weight of the past per batch", set_lambda },
	{ "lv", 0, "A", "latent variables (those of --warm)", set_lv },
	{ "warm", 0, "FILE", "begin with this model", set_warm },
	{ "prep", 0, "1|2", "2: centre and scale, 1: centre (2)",
	  set_prep_dynamic },
	{ "alpha", 0, "SHARE", "significance of the limits (0.01)", set_alpha },
	{ "quarantine", 0, "FACTOR",
	  "rows so far over a limit are not learned; 0: all (10)",
	  set_quarantine },
	{ "alarm", 0, "K:N:FACTOR",
	  "K of N rows over a limit, or one by FACTOR (2:3:3)", set_alarm },
	{ "models", 0, NULL, "also the model after each batch", set_models },
	{ "diagnose", 0, NULL, "what each column adds", set_diagnose },
	{ "rows", 0, "FIRST:END", "only rows FIRST to END - 1, from 0 (all)",
	  set_rows },
	{ "format", 0, "jsonl", "one object a line (jsonl)", set_format },
	{ 0 },
};

const struct arg_row msnm_count_options[] = {
	{ "input", 0, "FILE", "counters as CSV; -: standard input", set_input },
	{ "per-record", 0, NULL, "also the counters of each record",
	  set_per_record },
	{ 0 },
};
