/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the verbs of "linnet msnm" share: options, tables as input, answers. */
#ifndef LINNET_CLI_MSNM_H
#define LINNET_CLI_MSNM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/csv.h"
#include "agent/detect/ewma.h"
#include "agent/detect/impute.h"
#include "agent/detect/judge.h"
#include "common/args.h"
#include "common/buf.h"

struct cli;

/* As given; NULL, 0 and false: not given, where has_… does not say it. */
struct msnm_options {
	const char *input, *output, *model, *warm;
	bool has_lv, has_prep, has_rule, has_quarantine, has_rows;
	size_t lv; /* DETECT_LV_AUTO */
	unsigned prep, phase;
	double alpha, clean, lambda, quarantine;
	enum detect_active limits;
	enum detect_missing missing;
	struct detect_rule rule;
	uint64_t first, end, batch;
	bool diagnose, timing, models, per_record;
};

/* ---- msnm_options.c ---- */
extern const struct arg_row msnm_calibrate_options[];
extern const struct arg_row msnm_observe_options[];
extern const struct arg_row msnm_replay_options[];
extern const struct arg_row msnm_count_options[];
/* The option was given, or 2 after a line. */
int msnm_need(bool given, const char *option);

/* ---- msnm_input.c ---- */
#define MSNM_END (-1) /* no row any more */

struct msnm_row {
	uint64_t row; /* of the file, from 0 */
	const char *id;
	double *x; /* the caller may change it */
	size_t n_missing;
};

/*
 * A file is read as a whole before its first row is given out, so that what is
 * wrong with it is known before anything is printed; rows of standard input are
 * given out as they come.
 */
struct msnm_input {
	const struct cli *c;
	const char *name;
	bool stream;
	int fd;
	struct csv csv;
	double *x;        /* the wanted rows of a file */
	char **id;        /* their indices; NULL: there are none */
	size_t n, at;     /* of them; the next */
	size_t room;      /* for so many */
	double *row;      /* the one that was given out */
	uint64_t told_ms; /* of progress; 0: nothing is on the terminal */
	uint64_t began_ms;
};

/*
 * Opens --input and reads its header.  Outcomes of these are 0, MSNM_END, or
 * an exit status after a line that says what is wrong and where.
 */
int msnm_open(struct msnm_input *in, const struct cli *c, enum csv_mode mode);
void msnm_close(struct msnm_input *in);
/* The columns are those of the model, by name, position and schema. */
int msnm_check_columns(const struct msnm_input *in,
		       const struct detect_model *model);
/* Reads what is wanted to the end; nothing for a stream, unless all is set. */
int msnm_load(struct msnm_input *in, bool all);
int msnm_next(struct msnm_input *in, struct msnm_row *out);
/* The next row of the file, in text (CSV_TEXT). */
int msnm_next_text(struct msnm_input *in);
/* From the first row again; not for a stream. */
void msnm_rewind(struct msnm_input *in);
/*
 * A line on a terminal that waits for long, and its end; printing: there would
 * be no line of its own for it where rows are printed on the terminal.
 */
void msnm_progress(struct msnm_input *in, uint64_t rows, bool printing);
void msnm_progress_end(struct msnm_input *in);

/* ---- msnm_print.c ---- */
/* A row against a model, and what is told about it. */
struct msnm_judge {
	const struct cli *c;
	struct detect_rule rule;
	struct detect_history history;
	double *z, *e, *work;
	size_t m;
	size_t *missing; /* positions of the row's empty cells */
	struct buf text;
	/* of the last row */
	struct detect_stats stats;
	struct detect_imputed imputed;
	bool alarm;
	const char *state;
};

int msnm_judge_init(struct msnm_judge *j, const struct cli *c, size_t m);
void msnm_judge_fini(struct msnm_judge *j);
/* Model NULL: there is none yet.  0, or 1 after a line. */
int msnm_judge_row(struct msnm_judge *j, const struct detect_model *model,
		   bool dynamic, struct msnm_row *row);
/* The row's object; n: with the effective N of the model. */
void msnm_print_row(struct msnm_judge *j, const struct detect_model *model,
		    const struct msnm_row *row, bool n);
/* Prints the text, flushed if now is set, and empties it.  0 or 74. */
int msnm_print(struct buf *text, bool now);
/* Flushes standard output: ret, or 74 after a line. */
int msnm_finish(int ret);
/* Loads a model; 0 or an exit status after a line. */
int msnm_model_load(const char *path, struct detect_model **model);
/* The outcome of the library as an exit status, after a line. */
int msnm_refuse(const char *name, int outcome, const struct detect_reason *why);

/* ---- verbs ---- */
int verb_msnm_calibrate(struct cli *c);
int verb_msnm_observe(struct cli *c);
int verb_msnm_replay(struct cli *c);
int verb_msnm_count(struct cli *c);

#endif
