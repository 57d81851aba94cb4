/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option tables: what is read, what is refused, what --help shows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/args.h"
#include "common/util.h"

struct ctx {
	const char *name[4];
	size_t names;
	int checks;
	const char *often;
};

static int set_name(void *arg, const char *value, char error[ARGS_ERROR_LEN])
{
	struct ctx *c = arg;

	if (strcmp(value, "bad") == 0)
		return -EINVAL;
	if (strcmp(value, "worse") == 0) {
		snprintf(error, ARGS_ERROR_LEN, "\"%s\" is worse", value);
		return -EINVAL;
	}
	c->name[c->names++] = value;
	return 0;
}

static int set_check(void *arg, const char *value, char error[ARGS_ERROR_LEN])
{
	struct ctx *c = arg;

	(void)error;
	assert_null(value);
	c->checks++;
	return 0;
}

static int set_often(void *arg, const char *value, char error[ARGS_ERROR_LEN])
{
	struct ctx *c = arg;

	(void)error;
	c->often = value ? value : "always";
	return 0;
}

static const struct arg_row rows[] = {
	{ "name", 'n', "NAME", "Names it.", set_name },
	{ "check", 0, NULL, "Checks\nand ends.", set_check },
	{ "often", 'o', "[=TIME]", "Again.", set_often },
	{ "a-long-name-of-an-option", 0, "VALUE", "Long.", set_name },
};

static char *arguments[8];

/* Parses "prog" and the words of line (cut at blanks, in place). */
static int parse(struct ctx *c, char *line)
{
	int argc = 0;
	char *word;

	*c = (struct ctx){ 0 };
	arguments[argc++] = (char *)"prog";
	while ((word = strsep(&line, " ")) != NULL && *word)
		arguments[argc++] = word;
	arguments[argc] = NULL;
	return args_parse(rows, ARRAY_SIZE(rows), argc, arguments, c);
}

static void test_accepted(void **state)
{
	struct ctx c;
	char none[] = "", all[] = "--name=a -n b --check -nc",
	     operand[] = "--check file --check", dashes[] = "-- --check";

	(void)state;
	assert_int_equal(parse(&c, none), 1);
	assert_int_equal(parse(&c, all), 6);
	assert_int_equal(c.names, 3);
	assert_string_equal(c.name[0], "a");
	assert_string_equal(c.name[1], "b");
	assert_string_equal(c.name[2], "c");
	assert_int_equal(c.checks, 1);
	assert_int_equal(parse(&c, operand), 2);
	assert_int_equal(c.checks, 1);
	assert_int_equal(parse(&c, dashes), 2);
	assert_int_equal(c.checks, 0);
}

static void test_optional_value(void **state)
{
	struct ctx c;
	char without[] = "--often 2s", with[] = "--often=2s x",
	     letter[] = "-o 2s", joined[] = "-o2s";

	(void)state;
	assert_int_equal(parse(&c, without), 2);
	assert_string_equal(c.often, "always");
	assert_int_equal(parse(&c, with), 2);
	assert_string_equal(c.often, "2s");
	assert_int_equal(parse(&c, letter), 2);
	assert_string_equal(c.often, "always");
	assert_int_equal(parse(&c, joined), 2);
	assert_string_equal(c.often, "2s");
}

/* parse() with what it wrote to standard error. */
static int parse_loud(char *line, char *said, size_t size)
{
	int saved = dup(STDERR_FILENO), fd[2], result;
	struct ctx c;
	ssize_t n;

	assert_int_equal(pipe(fd), 0);
	fflush(stderr);
	dup2(fd[1], STDERR_FILENO);
	result = parse(&c, line);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd[1]);
	n = read(fd[0], said, size - 1);
	close(fd[0]);
	said[n > 0 ? n : 0] = '\0';
	return result;
}

static void test_refused(void **state)
{
	static const struct {
		const char *line, *said;
	} cases[] = {
		{ "--nosuch", "--nosuch: unknown option" },
		{ "--check --nosuch=3", "--nosuch=3: unknown option" },
		{ "-x", "-x: unknown option" },
		{ "--nam x", "--nam: unknown option" },
		{ "--chec", "--chec: unknown option" },
		{ "--name", "--name: needs a value" },
		{ "-n", "-n: needs a value" },
		{ "--check=1", "--check=1: takes no value" },
		{ "--name bad", "--name: bad value" },
		{ "--name=worse", "--name=worse: \"worse\" is worse" },
	};
	char line[64], said[256], expected[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(line, sizeof(line), "%s", cases[i].line);
		assert_int_equal(parse_loud(line, said, sizeof(said)), -EINVAL);
		snprintf(expected, sizeof(expected), "prog: %s (see --help)\n",
			 cases[i].said);
		assert_string_equal(said, expected);
	}
}

static void test_help(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	args_print(rows, ARRAY_SIZE(rows), f);
	fclose(f);
	assert_string_equal(text, "  -n, --name NAME         Names it.\n"
				  "      --check             Checks\n"
				  "                          and ends.\n"
				  "  -o, --often[=TIME]      Again.\n"
				  "      --a-long-name-of-an-option VALUE\n"
				  "                          Long.\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_optional_value),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
