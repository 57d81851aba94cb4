/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables for the verbs of "linnet msnm".  A file is kept as a whole, row after
 * row; of standard input only the row at hand.  What is wrong is said once,
 * here: "linnet: FILE:LINE:COLUMN: what".
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define ROOM         256
#define QUIET_MS     1000 /* before a line of progress */
#define PROGRESS_MS  200
#define PROGRESS_ROW 64 /* rows between two looks at the clock */

static int out_of_memory(void)
{
	complain("out of memory");
	return CLI_FAILED;
}

/* What csv_header() or csv_next() found -> exit status. */
static int fault(struct msnm_input *in, int ret)
{
	msnm_progress_end(in);
	if (ret == -ENOMEM)
		return out_of_memory();
	if (ret == CSV_BAD)
		complain("%s:%ju:%zu: %s", in->name,
			 (uintmax_t)in->csv.error.line, in->csv.error.column,
			 in->csv.error.what);
	else
		complain("%s: %s", in->name, strerror(-ret));
	return CLI_CONFIG;
}

int msnm_open(struct msnm_input *in, const struct cli *c, enum csv_mode mode)
{
	int ret;

	*in = (struct msnm_input){
		.c = c,
		.name = c->opt.msnm.input,
		.stream = strcmp(c->opt.msnm.input, "-") == 0,
		.fd = STDIN_FILENO,
		.began_ms = clock_mono_ms(),
	};
	if (!in->stream)
		in->fd = open(in->name, O_RDONLY | O_CLOEXEC);
	csv_init(&in->csv, in->fd, mode);
	if (in->fd < 0)
		return fault(in, -errno);
	ret = csv_header(&in->csv);
	if (ret)
		return fault(in, ret);
	in->row = calloc(in->csv.n_columns, sizeof(*in->row));
	return in->row ? 0 : out_of_memory();
}

void msnm_close(struct msnm_input *in)
{
	for (size_t i = 0; in->id && i < in->n; i++)
		free(in->id[i]);
	free(in->id);
	free(in->x);
	free(in->row);
	csv_fini(&in->csv);
	if (!in->stream && in->fd >= 0)
		close(in->fd);
}

int msnm_check_columns(const struct msnm_input *in,
		       const struct detect_model *model)
{
	const struct detect_schema *s = &model->schema;
	const struct csv *csv = &in->csv;
	size_t i = 0;

	while (i < csv->n_columns && i < model->m &&
	       strcmp(csv->names[i], s->names[i]) == 0)
		i++;
	if (i < csv->n_columns || i < model->m) {
		complain("%s:%ju:%zu: the column is %s, the model's is %s",
			 in->name, (uintmax_t)csv->header_line,
			 i + 1 + csv->has_id,
			 i < csv->n_columns ? csv->names[i] : "missing",
			 i < model->m ? s->names[i] : "missing");
		return CLI_CONFIG;
	}
	if (s->hash != detect_schema_hash(csv->semantics, csv->window_s,
					  csv->names, csv->n_columns)) {
		complain("%s:%ju:1: the rows are %s of %u s, the model is for "
			 "%s of %u s",
			 in->name, (uintmax_t)csv->header_line, csv->semantics,
			 csv->window_s, s->semantics, s->window_s);
		return CLI_CONFIG;
	}
	return 0;
}

/* Whether row i, counted from 0, is asked for. */
static bool is_wanted(const struct msnm_input *in, uint64_t i)
{
	const struct msnm_options *o = &in->c->opt.msnm;

	return !o->has_rows || (i >= o->first && i < o->end);
}

/* All rows are read: there are those that were asked for. */
static int check_end(const struct msnm_input *in)
{
	const struct msnm_options *o = &in->c->opt.msnm;

	if (!o->has_rows || in->csv.n_rows >= o->end)
		return 0;
	complain("%s: there are no rows %ju:%ju, only %ju rows", in->name,
		 (uintmax_t)o->first, (uintmax_t)o->end,
		 (uintmax_t)in->csv.n_rows);
	return CLI_CONFIG;
}

/* The row that was just read, behind those that are kept. */
static int keep(struct msnm_input *in)
{
	const size_t m = in->csv.n_columns;

	if (in->n == in->room) {
		size_t room = 2 * in->room + ROOM;
		double *x = reallocarray(in->x, room * m, sizeof(*x));
		char **id = NULL;

		if (x)
			in->x = x;
		if (in->csv.has_id)
			id = reallocarray(in->id, room, sizeof(*id));
		if (id)
			in->id = id;
		if (!x || (in->csv.has_id && !id))
			return out_of_memory();
		in->room = room;
	}
	memcpy(in->x + in->n * m, in->csv.x, m * sizeof(*in->x));
	if (in->csv.has_id) {
		in->id[in->n] = strdup(in->csv.id);
		if (!in->id[in->n])
			return out_of_memory();
	}
	in->n++;
	return 0;
}

int msnm_load(struct msnm_input *in, bool all)
{
	int ret;

	if (in->stream && !all)
		return 0;
	while (!(ret = csv_next(&in->csv))) {
		if (is_wanted(in, in->csv.n_rows - 1))
			ret = keep(in);
		if (ret)
			return ret;
		msnm_progress(in, in->csv.n_rows, false);
	}
	msnm_progress_end(in);
	return ret == CSV_END ? check_end(in) : fault(in, ret);
}

static size_t count_missing(const double *x, size_t m)
{
	size_t n = 0;

	for (size_t i = 0; i < m; i++)
		n += isnan(x[i]) != 0;
	return n;
}

/* The next one of standard input that is asked for. */
static int next_of_stream(struct msnm_input *in, struct msnm_row *out)
{
	int ret;

	do {
		ret = csv_next(&in->csv);
		if (ret == CSV_END) {
			ret = check_end(in);
			return ret ? ret : MSNM_END;
		}
		if (ret)
			return fault(in, ret);
	} while (!is_wanted(in, in->csv.n_rows - 1));
	*out = (struct msnm_row){ in->csv.n_rows - 1, in->csv.id, in->csv.x,
				  in->csv.n_missing };
	return 0;
}

int msnm_next(struct msnm_input *in, struct msnm_row *out)
{
	const size_t m = in->csv.n_columns;

	if (in->stream)
		return next_of_stream(in, out);
	if (in->at == in->n)
		return MSNM_END;
	memcpy(in->row, in->x + in->at * m, m * sizeof(*in->row));
	*out = (struct msnm_row){
		.row = in->c->opt.msnm.first + in->at,
		.id = in->id ? in->id[in->at] : NULL,
		.x = in->row,
		.n_missing = count_missing(in->row, m),
	};
	in->at++;
	return 0;
}

int msnm_next_text(struct msnm_input *in)
{
	int ret = csv_next(&in->csv);

	msnm_progress(in, in->csv.n_rows, false);
	if (ret)
		msnm_progress_end(in);
	if (ret == CSV_END)
		return MSNM_END;
	return ret ? fault(in, ret) : 0;
}

void msnm_rewind(struct msnm_input *in)
{
	in->at = 0;
}

void msnm_progress(struct msnm_input *in, uint64_t rows, bool printing)
{
	uint64_t now_ms;

	if (rows % PROGRESS_ROW || in->c->opt.quiet || !isatty(STDERR_FILENO) ||
	    (printing && (in->stream || isatty(STDOUT_FILENO))))
		return;
	now_ms = clock_mono_ms();
	if (now_ms - in->began_ms < QUIET_MS ||
	    now_ms - in->told_ms < PROGRESS_MS)
		return;
	in->told_ms = now_ms;
	fprintf(stderr, "\rlinnet: %ju rows", (uintmax_t)rows);
}

void msnm_progress_end(struct msnm_input *in)
{
	if (in->told_ms)
		fprintf(stderr, "\r\033[K");
	in->told_ms = 0;
}
