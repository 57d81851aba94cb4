/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing byte buffer for text that leaves the program.  A failed
 * allocation sets failed and drops what follows: check once at the end.
 */
#ifndef LINNET_BUF_H
#define LINNET_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NUL-terminated when not NULL */
	size_t len, size;
	bool failed;
};
#define BUF_INIT ((struct buf){ 0 })

void buf_fini(struct buf *b);
void buf_reset(struct buf *b);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_text(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Adds what fd has until it ends, or b has more than max bytes; 0 or -errno. */
int buf_read(struct buf *b, int fd, size_t max);
/* Returns the text (caller frees) and empties b; NULL if it failed. */
char *buf_steal(struct buf *b, size_t *len);

#endif
