/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines.  Each line is made in a buffer of the caller's stack and leaves
 * with one write(), so that lines of several processes never mix.  What a peer
 * can put into a line is made harmless: control bytes and invalid UTF-8 become
 * \xNN.  A level that writes more than LOG_BURST lines a second is cut; how
 * many lines that cost is said with the first line after that second, or at
 * exit.  The state below is the only mutable state of the library.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/utf8.h"
#include "common/util.h"

#define LOG_LINE_MAX  512
#define LOG_BURST     20
#define LOG_PERIOD_MS 1000

static const struct {
	int priority; /* of syslog */
	const char *name;
} levels[] = {
	[LOG_LEVEL_ERR] = { 3, "error" },
	[LOG_LEVEL_WARN] = { 4, "warning" },
	[LOG_LEVEL_INFO] = { 6, "info" },
	[LOG_LEVEL_DEBUG] = { 7, "debug" },
};

struct log_rate {
	uint64_t since_ms;
	unsigned int lines;
	uint64_t suppressed;
};

static struct {
	pthread_mutex_t lock; /* of rate */
	const char *program;
	enum log_level level;
	bool journal;
	struct log_rate rate[ARRAY_SIZE(levels)];
} logger = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.program = "linnet",
	.level = LOG_LEVEL_INFO,
};

struct log_line {
	char text[LOG_LINE_MAX];
	size_t len;
};

/* Bytes of the character at s, 0 if there is none worth printing. */
static size_t printable_len(const char *s, size_t left)
{
	uint32_t code = 0;
	size_t n = utf8_decode(s, left, &code);

	/* The controls of ASCII and those behind it, U+0080 to U+009F. */
	return code < 0x20 || (code >= 0x7f && code < 0xa0) ? 0 : n;
}

/* Appends s, escaped, never beyond max bytes of line, never half a character. */
static void line_put(struct log_line *line, const char *s, size_t max)
{
	size_t left = strlen(s);

	while (left > 0) {
		size_t n = printable_len(s, left);
		size_t room = max - line->len;

		if (room < (n ? n : 4))
			return;
		if (n > 0) {
			memcpy(line->text + line->len, s, n);
			line->len += n;
		} else {
			n = 1;
			memcpy(line->text + line->len, "\\x", 2);
			hex_encode((const uint8_t *)s, 1,
				   line->text + line->len + 2);
			line->len += 4;
		}
		s += n;
		left -= n;
	}
}

static void line_write(enum log_level level, const char *text, int err)
{
	struct log_line line = { .len = 0 };
	char prefix[8], reason[128] = "";
	size_t max = sizeof(line.text) - 1;

	if (err != 0) {
		const char *why = strerrordesc_np(abs(err));

		snprintf(reason, sizeof(reason), ": %s", why ? why : "?");
	}
	if (logger.journal) {
		snprintf(prefix, sizeof(prefix), "<%d>",
			 levels[level].priority);
		line_put(&line, prefix, max);
	}
	line_put(&line, logger.program, max / 2);
	line_put(&line, ": ", max);
	/* A long text must not push the reason out. */
	line_put(&line, text, max - strlen(reason));
	line_put(&line, reason, max);
	line.text[line.len++] = '\n';
	/* Nothing can be done, or said, when standard error fails. */
	if (write(STDERR_FILENO, line.text, line.len) < 0)
		return;
}

/* Says what the limit cost, if the period is over (or all). */
static void rate_report(uint64_t now_ms, bool all)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		struct log_rate *r = &logger.rate[i];
		char text[64];

		if (!all && now_ms - r->since_ms < LOG_PERIOD_MS)
			continue;
		if (r->suppressed > 0) {
			snprintf(text, sizeof(text), "%ju %s lines suppressed",
				 (uintmax_t)r->suppressed, levels[i].name);
			line_write((enum log_level)i, text, 0);
		}
		*r = (struct log_rate){ .since_ms = now_ms };
	}
}

static bool rate_allow(enum log_level level)
{
	struct log_rate *r = &logger.rate[level];
	bool allowed;

	pthread_mutex_lock(&logger.lock);
	rate_report(clock_mono_ms(), false);
	allowed = r->lines < LOG_BURST;
	if (allowed)
		r->lines++;
	else
		r->suppressed++;
	pthread_mutex_unlock(&logger.lock);
	return allowed;
}

static void log_exit(void)
{
	pthread_mutex_lock(&logger.lock);
	rate_report(clock_mono_ms(), true);
	pthread_mutex_unlock(&logger.lock);
}

/* JOURNAL_STREAM names the pipe; a redirected standard error is not it. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino);
	return strcmp(own, stream) == 0;
}

int log_level_parse(const char *s, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(levels[i].name, s) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_init(const char *program, enum log_level level)
{
	logger.program = program;
	logger.level = level;
	logger.journal = stderr_is_journal();
	/* A count that is not said at exit is no reason to fail. */
	(void)atexit(log_exit);
}

void log_write(enum log_level level, int err, const char *fmt, ...)
{
	int saved = errno;
	char text[LOG_LINE_MAX];
	va_list ap;

	if (level > logger.level || !rate_allow(level))
		goto out;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	line_write(level, text, err);
out:
	errno = saved;
}
