/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F6: tables from anybody.  What is taken has as many cells in each row as the
 * header has names, each a number or missing; what is refused has a place that
 * is not behind the end.
 *
 * Input: 1 byte mode, then the file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/detect/csv.h"
#include "common/utf8.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(const struct csv *c, enum csv_mode mode)
{
	size_t missing = 0;

	MUST(c->has_id == (c->id != NULL));
	MUST(!c->id || utf8_is_text(c->id, strlen(c->id)));
	for (size_t i = 0; i < c->n_columns; i++) {
		if (mode == CSV_TEXT) {
			MUST(utf8_is_text(c->cells[i], strlen(c->cells[i])));
		} else {
			MUST(isnan(c->x[i]) || fabs(c->x[i]) <= CSV_VALUE_MAX);
			missing += isnan(c->x[i]) != 0;
		}
	}
	MUST(missing == c->n_missing);
	MUST(mode == CSV_MISSING || missing == 0);
}

static void check_error(const struct csv *c, size_t size)
{
	MUST(c->error.what && *c->error.what);
	MUST(c->error.line >= 1 && c->error.line <= size + 2);
	MUST(c->error.column >= 1 && c->error.column <= size + 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum csv_mode mode;
	struct csv c;
	int fd, ret;

	if (size < 1)
		return 0;
	mode = (enum csv_mode)(data[0] % 3);
	fd = memfd_create("csv", MFD_CLOEXEC);
	MUST(fd >= 0 && pwrite(fd, data + 1, size - 1, 0) == (ssize_t)size - 1);
	csv_init(&c, fd, mode);
	ret = csv_header(&c);
	for (size_t i = 0; !ret && i < c.n_columns; i++)
		MUST(c.names[i][0] &&
		     utf8_is_text(c.names[i], strlen(c.names[i])));
	while (!ret) {
		ret = csv_next(&c);
		if (!ret)
			check_row(&c, mode);
	}
	MUST(ret == CSV_BAD || (ret == CSV_END && c.n_rows > 0));
	if (ret == CSV_BAD)
		check_error(&c, size);
	csv_fini(&c);
	close(fd);
	return 0;
}
