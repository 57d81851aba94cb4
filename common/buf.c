/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing buffer.  It doubles, so that adding is cheap on average; one byte
 * is always kept for the NUL.  After a failed allocation what is there stays,
 * what follows is dropped, and buf_steal() gives nothing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/util.h"

#define BUF_MIN_BYTES 256

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = BUF_INIT;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

/* Room for len more bytes and NUL. */
static bool buf_reserve(struct buf *b, size_t len)
{
	size_t need, size;
	char *data;

	if (b->failed)
		return false;
	if (len < b->size - b->len)
		return true;
	if (__builtin_add_overflow(b->len, len, &need) || need > SIZE_MAX / 4)
		goto fail;
	size = MAX(BUF_MIN_BYTES, b->size);
	while (size <= need)
		size *= 2;
	data = realloc(b->data, size);
	if (!data)
		goto fail;
	b->data = data;
	b->size = size;
	b->data[b->len] = '\0';
	return true;
fail:
	b->failed = true;
	return false;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (len == 0 || !buf_reserve(b, len))
		return;
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_text(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	size_t room = b->size - b->len;
	va_list ap;
	int n;

	if (b->failed)
		return;
	va_start(ap, fmt);
	n = vsnprintf(b->data ? b->data + b->len : NULL, room, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n >= room && buf_reserve(b, (size_t)n)) {
		va_start(ap, fmt);
		n = vsnprintf(b->data + b->len, b->size - b->len, fmt, ap);
		va_end(ap);
	}
	if (n < 0)
		b->failed = true;
	if (!b->failed)
		b->len += (size_t)n;
	else if (b->data)
		b->data[b->len] = '\0';
}

int buf_read(struct buf *b, int fd, size_t max)
{
	char chunk[16384];
	ssize_t n;

	while (b->len <= max && (n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf_add(b, chunk, (size_t)n);
		if (b->failed)
			return -ENOMEM;
	}
	return 0;
}

char *buf_steal(struct buf *b, size_t *len)
{
	char *data = NULL;

	/* Never NULL for an empty text: NULL says that it failed. */
	if (buf_reserve(b, 0)) {
		data = b->data;
		if (len)
			*len = b->len;
		b->data = NULL;
	}
	buf_fini(b);
	return data;
}
