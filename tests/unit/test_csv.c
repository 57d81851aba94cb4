/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of numbers: what is read, and where what is wrong stands. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/detect/csv.h"
#include "common/util.h"

#define TEXT(s) s, sizeof(s) - 1

static int text_fd(const char *text, size_t len)
{
	int fd = memfd_create("csv", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* All rows; the last outcome. */
static int read_all(struct csv *c)
{
	int ret = csv_header(c);

	while (!ret)
		ret = csv_next(c);
	return ret;
}

static void test_rows(void **state)
{
	static const char text[] = "\xef\xbb\xbf# a comment\r\n"
				   "# linnet-features packets/1 60\n"
				   "ts,a,\xc3\xa4 b,a\r\n"
				   "x1,1,-2.5,+3e2\n"
				   ",.5,007,1.E-1\r\n"
				   "z,,1e150,-0";
	static const double want[][3] = { { 1, -2.5, 300 }, { 0.5, 7, 0.1 } };
	int fd = text_fd(TEXT(text));
	struct csv c;

	(void)state;
	csv_init(&c, fd, CSV_MISSING);
	assert_int_equal(csv_header(&c), 0);
	assert_int_equal(c.n_columns, 3);
	assert_true(c.has_id);
	assert_string_equal(c.semantics, "packets/1");
	assert_int_equal(c.window_s, 60);
	assert_string_equal(c.names[1], "\xc3\xa4 b");
	assert_string_equal(c.names[0], c.names[2]);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(csv_next(&c), 0);
		assert_string_equal(c.id, i ? "" : "x1");
		assert_memory_equal(c.x, want[i], sizeof(want[i]));
		assert_int_equal(c.n_missing, 0);
	}
	assert_int_equal(csv_next(&c), 0);
	assert_true(isnan(c.x[0]) && signbit(c.x[2]));
	assert_int_equal(c.n_missing, 1);
	assert_int_equal(c.n_rows, 3);
	assert_int_equal(csv_next(&c), CSV_END);
	csv_fini(&c);
	close(fd);
}

static void test_defaults(void **state)
{
	int fd = text_fd(TEXT("a,id\n1,2\n\n\n"));
	struct csv c;

	(void)state;
	csv_init(&c, fd, CSV_COMPLETE);
	assert_int_equal(csv_header(&c), 0);
	assert_false(c.has_id);
	assert_int_equal(c.n_columns, 2);
	assert_string_equal(c.semantics, "csv");
	assert_int_equal(c.window_s, 0);
	assert_int_equal(csv_next(&c), 0);
	assert_null(c.id);
	/* what is blank at the end is not inside */
	assert_int_equal(csv_next(&c), CSV_END);
	csv_fini(&c);
	close(fd);
}

static void test_index_names(void **state)
{
	static const char *const names[] = { "",         "id",  "ts",
					     "time",     "row", "index",
					     "interval", "Id",  "n" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char text[64];
		int len = snprintf(text, sizeof(text), "%s,a\n1,2\n", names[i]);
		int fd = text_fd(text, (size_t)len);
		struct csv c;

		csv_init(&c, fd, CSV_COMPLETE);
		assert_int_equal(read_all(&c), CSV_END);
		assert_int_equal(c.has_id, i < 7);
		csv_fini(&c);
		close(fd);
	}
}

static void test_text(void **state)
{
	int fd = text_fd(TEXT("ts,a\nx y,\n"));
	struct csv c;

	(void)state;
	csv_init(&c, fd, CSV_TEXT);
	assert_int_equal(csv_header(&c), 0);
	assert_int_equal(c.n_columns, 2);
	assert_int_equal(csv_next(&c), 0);
	assert_string_equal(c.cells[0], "x y");
	assert_string_equal(c.cells[1], "");
	assert_int_equal(csv_next(&c), CSV_END);
	csv_fini(&c);
	close(fd);
}

static const struct bad_case {
	const char *text;
	size_t len;
	unsigned line, column;
	enum csv_mode mode;
} bad_cases[] = {
	/* header */
	{ TEXT(""), 1, 1, CSV_COMPLETE },
	{ TEXT("\xef\xbb\xbf"), 1, 1, CSV_COMPLETE },
	{ TEXT("# only a comment\n"), 1, 1, CSV_COMPLETE },
	{ TEXT("\na,b\n1,2\n"), 1, 1, CSV_COMPLETE },
	{ TEXT("1,2\n3,4\n"), 1, 1, CSV_COMPLETE },
	{ TEXT("0.5\n1\n"), 1, 1, CSV_COMPLETE },
	{ TEXT("a,,b\n1,2,3\n"), 1, 2, CSV_COMPLETE },
	{ TEXT("a,b,\n1,2,3\n"), 1, 3, CSV_COMPLETE },
	{ TEXT("id\n1\n"), 1, 2, CSV_COMPLETE },
	{ TEXT("a,\"b\"\n1,2\n"), 1, 2, CSV_COMPLETE },
	{ TEXT("a,b\0\n1,2\n"), 1, 2, CSV_COMPLETE },
	{ TEXT("a,b,\xff\n1,2,3\n"), 1, 3, CSV_COMPLETE },
	{ TEXT("\xff\xfe"
	       "a\0\n\0"),
	  1, 1, CSV_COMPLETE },
	{ TEXT("#\n# linnet-features packets/1\na\n1\n"), 2, 1, CSV_COMPLETE },
	{ TEXT("# linnet-features packets/1 x\na\n1\n"), 1, 1, CSV_COMPLETE },
	{ TEXT("#\0\na\n1\n"), 1, 1, CSV_COMPLETE },
	{ TEXT(",a\n1,2\n"), 1, 1, CSV_TEXT },
	/* rows */
	{ TEXT("a,b\n"), 2, 1, CSV_COMPLETE },
	{ TEXT("a,b"), 2, 1, CSV_COMPLETE },
	{ TEXT("# x\na,b\n\n"), 3, 1, CSV_COMPLETE },
	{ TEXT("a,b\n1,2\n\n3,4\n"), 3, 1, CSV_COMPLETE },
	{ TEXT("a,b\n1,2\n\r\n\n3,4\n"), 3, 1, CSV_COMPLETE },
	{ TEXT("a,b\n1\n"), 2, 2, CSV_COMPLETE },
	{ TEXT("a,b\n1,2,3\n"), 2, 3, CSV_COMPLETE },
	{ TEXT("id,a,b\nx\n"), 2, 2, CSV_COMPLETE },
	{ TEXT("id,a,b\nx,1\n"), 2, 3, CSV_COMPLETE },
	{ TEXT("id,a,b\nx,1,2,\n"), 2, 4, CSV_COMPLETE },
	{ TEXT("a,b\n1,2\n1,x\n"), 3, 2, CSV_COMPLETE },
	{ TEXT("a,b\nx\n"), 2, 1, CSV_COMPLETE },
	{ TEXT("a,b\n1,\n"), 2, 2, CSV_COMPLETE },
	{ TEXT("a,b\n1,nan\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,-inf\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,0x10\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,1.5.2\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,1e\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,.\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,-\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1, 2\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,2 \n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1;2,3\n"), 2, 1, CSV_MISSING },
	{ TEXT("a,b\n1,1_000\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,\"2\"\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,2\0\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,\0\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,1.1e150\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1,-1e999\n"), 2, 2, CSV_MISSING },
	{ TEXT("a,b\n1\r,2\n"), 2, 1, CSV_MISSING },
	{ TEXT("id,a\n\xc3,2\n"), 2, 1, CSV_MISSING },
	{ TEXT("id,a\n\"x\",2\n"), 2, 1, CSV_MISSING },
	{ TEXT("a,b\nx,\xff\n"), 2, 2, CSV_TEXT },
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_cases); i++) {
		const struct bad_case *b = &bad_cases[i];
		int fd = text_fd(b->text, b->len);
		struct csv c;

		csv_init(&c, fd, b->mode);
		if (read_all(&c) != CSV_BAD || c.error.line != b->line ||
		    c.error.column != b->column || !c.error.what)
			fail_msg("case %zu: %s", i, b->text);
		csv_fini(&c);
		close(fd);
	}
}

/* Rows are there as soon as they are written. */
static void test_stream(void **state)
{
	static const char *const parts[] = { "a,b\n1,", "2\n3", ",4\n" };
	struct csv c;
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	csv_init(&c, fd[0], CSV_COMPLETE);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		assert_true(write(fd[1], parts[i], strlen(parts[i])) > 0);
		if (i == 0)
			assert_int_equal(csv_header(&c), 0);
		else
			assert_int_equal(csv_next(&c), 0);
		if (i > 0)
			assert_true(!islessgreater(c.x[1], i == 1 ? 2 : 4));
	}
	close(fd[1]);
	assert_int_equal(csv_next(&c), CSV_END);
	csv_fini(&c);
	close(fd[0]);
}

/* Lines of all lengths around the size of what is read at once. */
static void test_long_lines(void **state)
{
	(void)state;
	for (size_t len = 65520; len < 65560; len++) {
		char *text = malloc(len + 32);
		struct csv c;
		int fd;

		assert_non_null(text);
		memset(text, 'n', len);
		memcpy(text + len, ",b\n12,34\n5,6", 12);
		fd = text_fd(text, len + 12);
		csv_init(&c, fd, CSV_COMPLETE);
		assert_int_equal(csv_header(&c), 0);
		assert_int_equal(strlen(c.names[0]), len);
		assert_int_equal(csv_next(&c), 0);
		assert_int_equal((int)c.x[0] * 100 + (int)c.x[1], 1234);
		assert_int_equal(csv_next(&c), 0);
		assert_int_equal(csv_next(&c), CSV_END);
		csv_fini(&c);
		close(fd);
		free(text);
	}
}

/* One cell more than 2^25: its line and column. */
static void test_too_many_cells(void **state)
{
	enum {
		COLUMNS = 3 << 17
	};
	const size_t rows = CSV_CELLS_MAX / COLUMNS, line = 2 * COLUMNS;
	char *text = malloc(line * (rows + 2));
	struct csv c;
	int fd;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < line * (rows + 2); i += 2) {
		text[i] = i < line ? 'n' : '1';
		text[i + 1] = (i + 2) % line ? ',' : '\n';
	}
	fd = text_fd(text, line * (rows + 2));
	csv_init(&c, fd, CSV_COMPLETE);
	assert_int_equal(read_all(&c), CSV_BAD);
	assert_int_equal(c.error.line, rows + 2);
	assert_int_equal(c.error.column, CSV_CELLS_MAX % COLUMNS + 1);
	csv_fini(&c);
	close(fd);
	free(text);
}

static void test_unreadable(void **state)
{
	struct csv c;

	(void)state;
	csv_init(&c, -1, CSV_COMPLETE);
	assert_int_equal(csv_header(&c), -EBADF);
	csv_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_index_names),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_too_many_cells),
		cmocka_unit_test(test_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
