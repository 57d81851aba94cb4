/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Option tables on top of getopt_long().  The long options are made from the
 * table, an option's number in them is its row.  getopt's own messages are off:
 * they name abbreviations, which scripts must not begin to rely on.
 */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "common/args.h"
#include "common/util.h"

#define HELP_COLUMN 26
#define ROW_BASE    256 /* val of row 0: above every letter */

struct arg_spec {
	struct option longs[ARGS_ROWS_MAX + 1];
	char shorts[3 * ARGS_ROWS_MAX + 3];
};

/* "[=VALUE]": the value may be left out. */
static bool args_is_optional(const struct arg_row *row)
{
	return row->value && row->value[0] == '[';
}

static void args_make(const struct arg_row *rows, size_t n, struct arg_spec *sp)
{
	char *s = sp->shorts;

	/* "+": stop at the first operand; ":": tell a missing value apart. */
	*s++ = '+';
	*s++ = ':';
	for (size_t i = 0; i < n; i++) {
		sp->longs[i] = (struct option){
			.name = rows[i].name,
			.has_arg = args_is_optional(&rows[i])
					   ? optional_argument
				   : rows[i].value ? required_argument
						   : no_argument,
			.val = ROW_BASE + (int)i,
		};
		if (rows[i].letter) {
			*s++ = rows[i].letter;
			if (rows[i].value)
				*s++ = ':';
			if (args_is_optional(&rows[i]))
				*s++ = ':';
		}
	}
	*s = '\0';
	sp->longs[n] = (struct option){ 0 };
}

/* The row that getopt_long() answered with; n if none. */
static size_t args_row(const struct arg_row *rows, size_t n, int val)
{
	if (val >= ROW_BASE)
		return (size_t)(val - ROW_BASE);
	for (size_t i = 0; i < n; i++) {
		if (rows[i].letter && rows[i].letter == val)
			return i;
	}
	return n;
}

/* True if arg is "--name" or "--name=…" with the whole name. */
static bool args_is_whole(const char *arg, const char *name)
{
	size_t len = strlen(name);

	return strncmp(arg, "--", 2) == 0 && strncmp(arg + 2, name, len) == 0 &&
	       (arg[len + 2] == '\0' || arg[len + 2] == '=');
}

static int args_complain(const char *program, const char *option,
			 const char *reason)
{
	fprintf(stderr, "%s: %s: %s (see --help)\n", program, option, reason);
	return -EINVAL;
}

int args_parse(const struct arg_row *rows, size_t n, int argc, char **argv,
	       void *ctx)
{
	const char *program = argc > 0 ? argv[0] : "linnet";
	struct arg_spec spec;

	assert(n <= ARGS_ROWS_MAX);
	args_make(rows, n, &spec);
	optind = 0; /* begin anew, whoever used getopt before */
	opterr = 0;
	for (;;) {
		char error[ARGS_ERROR_LEN] = "";
		int at = optind > 0 ? optind : 1;
		const char *arg = at < argc ? argv[at] : "";
		int val =
			getopt_long(argc, argv, spec.shorts, spec.longs, NULL);
		size_t row = args_row(rows, n, val);

		if (val == -1)
			return optind;
		if (val == ':')
			return args_complain(program, arg, "needs a value");
		if (val == '?' && optopt >= ROW_BASE)
			return args_complain(program, arg, "takes no value");
		if (row == n ||
		    (val >= ROW_BASE && !args_is_whole(arg, rows[row].name)))
			return args_complain(program, arg, "unknown option");
		if (rows[row].set(ctx, optarg, error))
			return args_complain(program, arg,
					     *error ? error : "bad value");
	}
}

static void args_print_row(const struct arg_row *row, FILE *f)
{
	const char *help = row->help;
	int column = 0;

	if (row->letter)
		column = fprintf(f, "  -%c, --%s", row->letter, row->name);
	else
		column = fprintf(f, "      --%s", row->name);
	if (row->value)
		column += fprintf(f, "%s%s", args_is_optional(row) ? "" : " ",
				  row->value);
	if (column + 2 > HELP_COLUMN) {
		fputc('\n', f);
		column = 0;
	}
	while (*help) {
		int len = (int)strcspn(help, "\n");

		fprintf(f, "%*s%.*s\n", HELP_COLUMN - column, "", len, help);
		help += len + (help[len] == '\n');
		column = 0;
	}
}

void args_print(const struct arg_row *rows, size_t n, FILE *f)
{
	for (size_t i = 0; i < n; i++)
		args_print_row(&rows[i], f);
}
