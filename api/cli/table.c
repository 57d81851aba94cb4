/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cells are kept until the last is known, then each column is as wide as its
 * widest cell.  Texts come from an agent, so control bytes stay out.
 */
#include "api/cli/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define GAP "  "

void table_init(struct table *t, unsigned n_columns)
{
	assert(n_columns > 0 && n_columns <= TABLE_COLUMNS);
	*t = (struct table){ .n_columns = n_columns };
}

void table_fini(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cell[i]);
	free(t->cell);
}

void table_add(struct table *t, const char *text)
{
	char **longer = t->cell, *copy = strdup(text);

	if (t->n % 64 == 0)
		longer = reallocarray(t->cell, t->n + 64, sizeof(*longer));
	if (longer)
		t->cell = longer;
	if (!copy || !longer || t->failed) {
		t->failed = true;
		free(copy);
		return;
	}
	for (char *s = copy; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
	t->cell[t->n++] = copy;
}

static void line_print(const struct table *t, FILE *f, const int *width,
		       const char *const *cell)
{
	for (unsigned i = 0; i < t->n_columns; i++) {
		const char *gap = i ? GAP : "";

		if (t->right[i])
			fprintf(f, "%s%*s", gap, width[i], cell[i]);
		else if (i + 1 < t->n_columns)
			fprintf(f, "%s%-*s", gap, width[i], cell[i]);
		else
			fprintf(f, "%s%s", gap, cell[i]);
	}
}

int table_print(const struct table *t, FILE *f, bool bold)
{
	int width[TABLE_COLUMNS] = { 0 };
	unsigned n = t->n_columns;

	if (t->failed || n == 0)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++)
		width[i] = t->title[i] ? (int)strlen(t->title[i]) : 0;
	for (size_t i = 0; i < t->n; i++)
		width[i % n] = MAX(width[i % n], (int)strlen(t->cell[i]));
	if (t->title[0]) {
		fputs(bold ? "\033[1m" : "", f);
		line_print(t, f, width, t->title);
		fputs(bold ? "\033[0m\n" : "\n", f);
	}
	for (size_t i = 0; i + n <= t->n; i += n) {
		line_print(t, f, width, (const char *const *)&t->cell[i]);
		fputc('\n', f);
	}
	return 0;
}
