/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command lines from a table: one row an option, which reads it, prints
 * --help, and is what the manual page is checked against.
 */
#ifndef LINNET_ARGS_H
#define LINNET_ARGS_H

#include <stddef.h>
#include <stdio.h>

#define ARGS_ROWS_MAX  64
#define ARGS_ERROR_LEN 128

struct arg_row {
	const char *name; /* long name, without dashes */
	char letter;      /* short name, 0: none */
	/* What the help calls the argument; NULL: a flag; "[=X]": optional. */
	const char *value;
	const char *help; /* one sentence; "\n" where the help breaks it */
	/*
	 * Stores the value (NULL: none was given) in ctx.  0, or -EINVAL with a
	 * reason in error; an empty reason reads "bad value".
	 */
	int (*set)(void *ctx, const char *value, char error[ARGS_ERROR_LEN]);
};

/*
 * Calls the row's set() for each option in the order given.  Returns the index
 * of the first operand (argc: none), or -EINVAL after one line on standard
 * error (the caller exits with EXIT_USAGE).  Options end at the first operand.
 * Names are not abbreviated.  At most ARGS_ROWS_MAX rows.
 */
int args_parse(const struct arg_row *rows, size_t n, int argc, char **argv,
	       void *ctx);

/* Prints the options as --help does, one or two lines a row. */
void args_print(const struct arg_row *rows, size_t n, FILE *f);

#endif
