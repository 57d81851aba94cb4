/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of numbers as text, row by row.  UTF-8, an optional byte order mark,
 * LF or CRLF, commas, no quoting.  Lines with "#" before the header are
 * comments; "# linnet-features SEMANTICS WINDOW_S" names the schema.  Names
 * may repeat.  A first column named "", id, ts, time, row, index or interval
 * is an index and stays text.
 */
#ifndef LINNET_CSV_H
#define LINNET_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CSV_CELLS_MAX     (1u << 25)
#define CSV_SEMANTICS_LEN 24
#define CSV_VALUE_MAX     1e150

enum csv_mode {
	CSV_COMPLETE, /* every cell is a number */
	CSV_MISSING,  /* an empty cell is a missing value, NaN */
	CSV_TEXT,     /* cells stay text, there is no index */
};

enum csv_result {
	CSV_END = 1, /* no row any more */
	CSV_BAD = 2, /* error says what and where */
};

/* Read-only but for csv.c. */
struct csv {
	/* after csv_header() */
	size_t n_columns; /* without the index */
	char **names;
	bool has_id;
	char semantics[CSV_SEMANTICS_LEN]; /* "csv" if nothing is said */
	uint32_t window_s;
	uint64_t header_line;
	/* the last row, until the next call; x or cells by the mode */
	double *x;
	char **cells;
	size_t n_missing;
	const char *id;  /* NULL: no index */
	uint64_t n_rows; /* this one included */
	struct {
		uint64_t line;
		size_t column; /* both counted from 1; of cells */
		const char *what;
	} error;
	/* private */
	int fd;
	enum csv_mode mode;
	char *buf, *header;
	size_t size, start, end;
	bool eof;
	uint64_t line, blank_line;
};

/* Borrows the descriptor. */
void csv_init(struct csv *c, int fd, enum csv_mode mode);
void csv_fini(struct csv *c);
/* Comments and header.  0, CSV_BAD, -errno of read(2), -ENOMEM. */
int csv_header(struct csv *c);
/* The next row, as soon as it is there.  0, CSV_END, CSV_BAD, -errno. */
int csv_next(struct csv *c);

#endif
