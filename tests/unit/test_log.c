/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines as they arrive on standard error.  Each case runs in a child, as
 * the log keeps its level and its rates for the life of a process.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/util.h"

#define DEADLINE_S 20

struct capture {
	char text[1 << 16];
	size_t len;
};

/* What body() and the end of its process write to standard error. */
static void run(struct capture *c, void (*body)(void))
{
	int fd[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(DEADLINE_S);
		dup2(fd[1], STDERR_FILENO);
		body();
		exit(0);
	}
	close(fd[1]);
	c->len = 0;
	while ((n = read(fd[0], c->text + c->len,
			 sizeof(c->text) - 1 - c->len)) > 0)
		c->len += (size_t)n;
	c->text[c->len] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

static void write_levels(void)
{
	log_init("prog", LOG_LEVEL_INFO);
	errno = ENOENT;
	log_err("opening %s", "x");
	log_warnx("two");
	log_info("three");
	log_debug("four");
	log_write(LOG_LEVEL_WARN, -EACCES, "five");
}

static void test_levels(void **state)
{
	struct capture c;

	(void)state;
	run(&c, write_levels);
	assert_string_equal(c.text,
			    "prog: opening x: No such file or directory\n"
			    "prog: two\n"
			    "prog: three\n"
			    "prog: five: Permission denied\n");
}

static void write_closed(void)
{
	log_init("prog", LOG_LEVEL_ERR);
	close(STDERR_FILENO);
	errno = ENOENT;
	log_err("unheard");
	_exit(errno == ENOENT ? 0 : 1);
}

/* A line that cannot be written costs the caller nothing, nor its errno. */
static void test_closed(void **state)
{
	struct capture c;

	(void)state;
	run(&c, write_closed);
	assert_string_equal(c.text, "");
}

static void write_odd(void)
{
	log_init("prog", LOG_LEVEL_ERR);
	log_errx("a\nb\tc\x1b[31m\x7f");
	log_errx("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa6");
	log_errx("\xff \xc3 \xc0\x80 \xed\xa0\x80 \xc2\x85");
}

static void test_escapes(void **state)
{
	struct capture c;

	(void)state;
	run(&c, write_odd);
	assert_string_equal(
		c.text,
		"prog: a\\x0ab\\x09c\\x1b[31m\\x7f\n"
		"prog: caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa6\n"
		"prog: \\xff \\xc3 \\xc0\\x80 \\xed\\xa0\\x80 \\xc2\\x85\n");
}

static void write_long(void)
{
	char text[2000];

	log_init("prog", LOG_LEVEL_ERR);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_write(LOG_LEVEL_ERR, EACCES, "%s", text);
	memset(text, '\n', sizeof(text) - 1);
	log_errx("%s", text);
}

/* 512 bytes at most; the reason and the newline survive, escapes are whole. */
static void test_long(void **state)
{
	static const char reason[] = ": Permission denied\n";
	struct capture c;
	char *second;

	(void)state;
	run(&c, write_long);
	second = strchr(c.text, '\n') + 1;
	assert_int_equal(second - c.text, 512);
	assert_memory_equal(second - strlen(reason), reason, strlen(reason));
	assert_in_range(strlen(second), 505, 512);
	assert_string_equal(second + strlen(second) - 5, "\\x0a\n");
}

static void write_many(void)
{
	log_init("prog", LOG_LEVEL_INFO);
	for (int i = 0; i < 200; i++)
		log_warnx("flood");
	log_info("other");
}

static void test_rate(void **state)
{
	struct capture c;
	unsigned int said = 0;
	const char *at;
	size_t lines;

	(void)state;
	run(&c, write_many);
	lines = count(c.text, "prog: flood\n");
	/* On a very slow machine the flood may last into a second period. */
	assert_in_range(lines, 20, 60);
	/* One level's flood is not another's. */
	assert_int_equal(count(c.text, "prog: other\n"), 1);
	for (at = c.text; (at = strstr(at, " warning lines supp")); at++) {
		const char *start = at;
		uint64_t n = 0;

		while (start[-1] >= '0' && start[-1] <= '9')
			start--;
		assert_int_equal(
			parse_u64(start, (size_t)(at - start), 1, 200, &n), 0);
		said += (unsigned int)n;
	}
	assert_int_equal(lines + said, 200);
}

/* Logs on, in another level, until the first period is surely over. */
static void write_into_next_period(void)
{
	uint64_t end_ms = clock_mono_ms() + 1050;

	log_init("prog", LOG_LEVEL_INFO);
	for (int i = 0; i < 25; i++)
		log_warnx("flood");
	while (clock_mono_ms() < end_ms) {
		log_info("other");
		usleep(20000);
	}
	log_info("other");
	/* Not exit(): what is said there must have been said before. */
	_exit(0);
}

static void test_rate_next_period(void **state)
{
	struct capture c;

	(void)state;
	run(&c, write_into_next_period);
	assert_int_equal(count(c.text, "prog: flood\n"), 20);
	assert_int_equal(count(c.text, "prog: 5 warning lines suppressed\n"),
			 1);
}

static void write_journal(void)
{
	char text[64];
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0)
		abort();
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", text, 1);
	log_init("prog", LOG_LEVEL_DEBUG);
	log_errx("a");
	log_warnx("b");
	log_info("c");
	log_debug("d");
	/* Of somebody else's stream. */
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_init("prog", LOG_LEVEL_DEBUG);
	log_errx("e");
}

static void test_journal(void **state)
{
	struct capture c;

	(void)state;
	run(&c, write_journal);
	assert_string_equal(c.text, "<3>prog: a\n<4>prog: b\n<6>prog: c\n"
				    "<7>prog: d\nprog: e\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_rate_next_period),
		cmocka_unit_test(test_journal),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
