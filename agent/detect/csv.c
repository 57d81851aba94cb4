/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader of tables.  One line at a time is in memory, taken apart where it
 * lies: commas become the ends of cells.  A row is checked from left to right,
 * so that the first thing that is wrong is the one that is reported.
 *
 * struct csv owns its buffer, the names and the row; cells and id point into
 * the buffer.  A line has at most 64 MiB, the table CSV_CELLS_MAX cells.
 */
#include "agent/detect/csv.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/utf8.h"
#include "common/util.h"

#define LINE_MAX_BYTES (1u << 26)
#define READ_BYTES     65536
#define SCHEMA_WORD    "# linnet-features"
#define WINDOW_MAX_S   86400

void csv_init(struct csv *c, int fd, enum csv_mode mode)
{
	*c = (struct csv){ .fd = fd, .mode = mode, .semantics = "csv" };
}

void csv_fini(struct csv *c)
{
	free(c->buf);
	free(c->header);
	free(c->names);
	free(c->x);
	free(c->cells);
	*c = (struct csv){ .fd = -1 };
}

static int bad(struct csv *c, uint64_t line, size_t column, const char *what)
{
	c->error.line = line;
	c->error.column = column;
	c->error.what = what;
	return CSV_BAD;
}

/* ---- lines ---- */

static size_t count_commas(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += s[i] == ',';
	return n;
}

/* More bytes behind those that are there. */
static int fill(struct csv *c)
{
	ssize_t n;

	if (c->start > 0) {
		memmove(c->buf, c->buf + c->start, c->end - c->start);
		c->end -= c->start;
		c->start = 0;
	}
	if (c->end > LINE_MAX_BYTES)
		return bad(c, c->line + 1, count_commas(c->buf, c->end) + 1,
			   "the line is too long");
	if (c->size < c->end + READ_BYTES) {
		size_t size = 2 * c->size + READ_BYTES;
		char *longer = realloc(c->buf, size + 1);

		if (!longer)
			return -ENOMEM;
		c->buf = longer;
		c->size = size;
	}
	do {
		n = read(c->fd, c->buf + c->end, c->size - c->end);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c->end += (size_t)n;
	c->eof = n == 0;
	return 0;
}

/* The next line without its end, with a NUL behind it. */
static int next_line(struct csv *c, char **line, size_t *len)
{
	size_t seen = 0;
	char *nl;

	for (;;) {
		size_t have = c->end - c->start;
		int ret;

		nl = have > seen ? memchr(c->buf + c->start + seen, '\n',
					  have - seen)
				 : NULL;
		if (nl)
			break;
		if (c->eof && have == 0)
			return CSV_END;
		if (c->eof) {
			nl = c->buf + c->end;
			break;
		}
		seen = have;
		ret = fill(c);
		if (ret)
			return ret;
	}
	*line = c->buf + c->start;
	*len = (size_t)(nl - *line);
	c->start = MIN(c->start + *len + 1, c->end);
	if (*len > 0 && (*line)[*len - 1] == '\r')
		--*len;
	(*line)[*len] = '\0';
	c->line++;
	return 0;
}

/* ---- cells ---- */

static size_t digits(const char **s)
{
	const char *first = *s;

	while (**s >= '0' && **s <= '9')
		++*s;
	return (size_t)(*s - first);
}

/* Digits with a point and an exponent; strtod() would take more. */
static bool is_number(const char *s)
{
	size_t n;

	if (*s == '+' || *s == '-')
		s++;
	n = digits(&s);
	if (*s == '.') {
		s++;
		n += digits(&s);
	}
	if (n == 0)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		if (*s == '+' || *s == '-')
			s++;
		if (digits(&s) == 0)
			return false;
	}
	return *s == '\0';
}

/* NULL: the cell is text; else why not. */
static const char *text_fault(const char *s, size_t len)
{
	if (memchr(s, '\0', len))
		return "a NUL byte";
	if (memchr(s, '"', len))
		return "a quotation mark: there is no quoting";
	if (!utf8_is_text(s, len))
		return "not plain text in UTF-8";
	return NULL;
}

/* NULL and *x; else what is wrong. */
static const char *number_fault(const char *s, size_t len, bool may_miss,
				double *x)
{
	if (len == 0) {
		*x = NAN;
		return may_miss ? NULL : "an empty cell";
	}
	if (memchr(s, '\0', len))
		return "a NUL byte";
	if (!is_number(s))
		return "not a decimal number";
	/* The programs never call setlocale(): the point is always ".". */
	*x = strtod(s, NULL);
	if (!(fabs(*x) <= CSV_VALUE_MAX))
		return "beyond 1e150";
	return NULL;
}

/* Takes the first cell off *s; false: it was the last. */
static bool next_cell(char **s, char *end, char **cell, size_t *len)
{
	char *comma = memchr(*s, ',', (size_t)(end - *s));

	*cell = *s;
	*len = (size_t)((comma ? comma : end) - *s);
	if (!comma)
		return false;
	*comma = '\0';
	*s = comma + 1;
	return true;
}

/* ---- header ---- */

static bool is_index(const char *name)
{
	static const char *const names[] = { "",    "id",    "ts",      "time",
					     "row", "index", "interval" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* A comment; one of them says what the rows are. */
static int take_comment(struct csv *c, const char *line, size_t len)
{
	const size_t word = strlen(SCHEMA_WORD);
	const char *s = line + word, *blank;
	uint64_t window_s;
	size_t n;

	if (memchr(line, '\0', len))
		return bad(c, c->line, 1, "a NUL byte");
	if (len <= word || memcmp(line, SCHEMA_WORD " ", word + 1) != 0)
		return 0;
	s++;
	blank = strchr(s, ' ');
	n = blank ? (size_t)(blank - s) : 0;
	if (n == 0 || n >= CSV_SEMANTICS_LEN || !utf8_is_text(s, n) ||
	    parse_u64(blank + 1, strlen(blank + 1), 0, WINDOW_MAX_S, &window_s))
		return bad(c, c->line, 1,
			   "must be " SCHEMA_WORD " SEMANTICS WINDOW_S");
	memcpy(c->semantics, s, n);
	c->semantics[n] = '\0';
	c->window_s = (uint32_t)window_s;
	return 0;
}

/* The line of names, kept as a copy that c->names points into. */
static int take_names(struct csv *c, char *line, size_t len)
{
	size_t n_cells = count_commas(line, len) + 1, n_numbers = 0, i = 0;
	char *s, *cell;
	bool more = true;

	c->header = s = malloc(len + 1);
	c->names = calloc(n_cells, sizeof(*c->names));
	if (!c->header || !c->names)
		return -ENOMEM;
	memcpy(s, line, len + 1);
	while (more) {
		const char *fault;
		size_t n;

		more = next_cell(&s, c->header + len, &cell, &n);
		i++;
		fault = text_fault(cell, n);
		if (fault)
			return bad(c, c->line, i, fault);
		n_numbers += is_number(cell);
		if (i == 1 && c->mode != CSV_TEXT && is_index(cell)) {
			c->has_id = true;
			continue;
		}
		if (n == 0)
			return bad(c, c->line, i, "a column without a name");
		c->names[c->n_columns++] = cell;
	}
	if (n_numbers == n_cells)
		return bad(c, 1, 1, "numbers where the header should be");
	if (c->n_columns == 0)
		return bad(c, c->line, 2, "no column but the index");
	return 0;
}

int csv_header(struct csv *c)
{
	static const char mark[] = "\xef\xbb\xbf";
	char *line;
	size_t len;
	int ret;

	do {
		ret = next_line(c, &line, &len);
		if (ret == CSV_END)
			return bad(c, 1, 1, "there is no header");
		if (ret)
			return ret;
		if (c->line == 1 && len >= 3 && memcmp(line, mark, 3) == 0) {
			line += 3;
			len -= 3;
		}
		if (len > 0 && line[0] == '#')
			ret = take_comment(c, line, len);
	} while (!ret && len > 0 && line[0] == '#');
	if (ret)
		return ret;
	if (len == 0)
		return bad(c, 1, 1, "there is no header");
	c->header_line = c->line;
	ret = take_names(c, line, len);
	if (ret)
		return ret;
	if (c->mode == CSV_TEXT)
		c->cells = calloc(c->n_columns, sizeof(*c->cells));
	else
		c->x = calloc(c->n_columns, sizeof(*c->x));
	return c->cells || c->x ? 0 : -ENOMEM;
}

/* ---- rows ---- */

/* Column i of the numbers, or the text of the index. */
static const char *take_cell(struct csv *c, size_t at, char *cell, size_t len)
{
	bool is_id = c->has_id && at == 0;
	size_t i = at - c->has_id;
	const char *fault;

	if (is_id || c->mode == CSV_TEXT) {
		fault = text_fault(cell, len);
		if (is_id)
			c->id = cell;
		else
			c->cells[i] = cell;
		return fault;
	}
	fault = number_fault(cell, len, c->mode == CSV_MISSING, &c->x[i]);
	c->n_missing += !fault && len == 0;
	return fault;
}

static int take_row(struct csv *c, char *s, size_t len)
{
	const size_t want = c->n_columns + c->has_id;
	const uint64_t left = CSV_CELLS_MAX - c->n_rows * c->n_columns;
	char *end = s + len, *cell;
	bool more = true;
	size_t at;

	c->n_missing = 0;
	for (at = 0; more; at++) {
		const char *fault;
		size_t n;

		if (at == want)
			return bad(c, c->line, at + 1, "a cell too many");
		if (at >= left + c->has_id)
			return bad(c, c->line, at + 1,
				   "more than 2^25 cells in all");
		more = next_cell(&s, end, &cell, &n);
		fault = take_cell(c, at, cell, n);
		if (fault)
			return bad(c, c->line, at + 1, fault);
	}
	if (at < want)
		return bad(c, c->line, at + 1, "a cell too few");
	c->n_rows++;
	return 0;
}

int csv_next(struct csv *c)
{
	char *line;
	size_t len;
	int ret;

	assert(c->n_columns > 0);
	for (;;) {
		ret = next_line(c, &line, &len);
		if (ret == CSV_END && c->n_rows == 0)
			return bad(c, c->header_line + 1, 1,
				   "there is no row of data");
		if (ret)
			return ret;
		/* Blank lines at the end are not inside the data. */
		if (len > 0 && c->blank_line)
			return bad(c, c->blank_line, 1, "a blank line");
		if (len > 0)
			return take_row(c, line, len);
		if (!c->blank_line)
			c->blank_line = c->line;
	}
}
