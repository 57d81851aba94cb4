/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line per event on standard error: "<N>program: text" when the service
 * manager reads it (JOURNAL_STREAM), "program: text" otherwise.  Lines are at
 * most 512 bytes, control bytes and invalid UTF-8 escaped; 20 lines a second
 * per level, then "n suppressed".  Never payload, keys or secrets.
 */
#ifndef LINNET_LOG_H
#define LINNET_LOG_H

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

#define LOG_LEVELS "error, warning, info or debug"
/* One of these names.  0 or -EINVAL. */
int log_level_parse(const char *s, enum log_level *out);

/* program must live as long as the process. */
void log_init(const char *program, enum log_level level);

void log_write(enum log_level level, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* With strerror(errno) appended. */
#define log_err(...)   log_write(LOG_LEVEL_ERR, errno, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, errno, __VA_ARGS__)
/* Text alone. */
#define log_errx(...)  log_write(LOG_LEVEL_ERR, 0, __VA_ARGS__)
#define log_warnx(...) log_write(LOG_LEVEL_WARN, 0, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, 0, __VA_ARGS__)

#endif
