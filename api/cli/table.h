/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Aligned columns of text. */
#ifndef LINNET_CLI_TABLE_H
#define LINNET_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS 12

struct table {
	unsigned n_columns;
	const char *title[TABLE_COLUMNS]; /* all NULL: no line of titles */
	bool right[TABLE_COLUMNS];        /* numbers */
	char **cell;                      /* row by row */
	size_t n;
	bool failed; /* no memory: what was added is not whole */
};

void table_init(struct table *t, unsigned n_columns);
void table_fini(struct table *t);
/* The next cell, copied; what does not belong on a terminal becomes '?'. */
void table_add(struct table *t, const char *text);
/* All rows; bold titles.  0, or -ENOMEM if a cell was lost. */
int table_print(const struct table *t, FILE *f, bool bold);

#endif
