/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing JSON into a buffer, value by value, as Python's json.dumps would:
 * ", " and ": ", ASCII.  Nothing is kept but whether a comma comes next; what
 * does not fit into memory is the buffer's to tell.  The programs never call
 * setlocale(): the point of a number is always ".".
 */
#include "common/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/utf8.h"
#include "common/util.h"

void json_out_init(struct json_out *o, struct buf *b)
{
	o->b = b;
	o->first = true;
}

/* The letter of a two-byte escape, 0 if c has none. */
static char escape_letter(uint32_t c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *at = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;

	return at ? to[at - from] : '\0';
}

/* Stands for itself between quotes. */
static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The first character of s, which is not plain; how many bytes it has. */
static size_t put_escaped(struct buf *b, const char *s, size_t left)
{
	uint32_t c;
	size_t n = utf8_decode(s, left, &c);

	if (n == 0) {
		n = 1;
		c = 0xfffd;
	}
	if (escape_letter(c))
		buf_printf(b, "\\%c", escape_letter(c));
	else if (c >= 0x10000)
		buf_printf(b, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
			   0xdc00 + ((c - 0x10000) & 0x3ff));
	else
		buf_printf(b, "\\u%04x", c);
	return n;
}

static void put_text(struct buf *b, const char *s)
{
	size_t left = strlen(s);

	buf_text(b, "\"");
	while (left > 0) {
		size_t n = 0;

		while (n < left && is_plain(s[n]))
			n++;
		if (n > 0)
			buf_add(b, s, n);
		else
			n = put_escaped(b, s, left);
		s += n;
		left -= n;
	}
	buf_text(b, "\"");
}

/* printf() takes ten times as long, and answers are mostly numbers. */
static void put_digits(struct buf *b, uint64_t v)
{
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_add(b, text + at, sizeof(text) - at);
}

/* What comes before a value: a comma, its name. */
static void put_start(struct json_out *o, const char *name)
{
	if (!o->first)
		buf_text(o->b, ", ");
	o->first = false;
	if (name) {
		put_text(o->b, name);
		buf_text(o->b, ": ");
	}
}

void json_open(struct json_out *o, const char *name, char bracket)
{
	put_start(o, name);
	buf_add(o->b, &bracket, 1);
	o->first = true;
}

void json_close(struct json_out *o, char bracket)
{
	buf_add(o->b, &bracket, 1);
	o->first = false;
}

void json_put_u64(struct json_out *o, const char *name, uint64_t v)
{
	put_start(o, name);
	put_digits(o->b, v);
}

void json_put_hex(struct json_out *o, const char *name, uint64_t v)
{
	char text[17];

	hex_u64(v, text);
	json_put_str(o, name, text);
}

void json_put_count(struct json_out *o, const char *name, uint64_t v)
{
	char text[160]; /* the text of a flow key has room, too */

	json_put_u64(o, name, v);
	if (!name || v <= (uint64_t)1 << 53)
		return;
	snprintf(text, sizeof(text), "%s_str", name);
	put_start(o, text);
	buf_text(o->b, "\"");
	put_digits(o->b, v);
	buf_text(o->b, "\"");
}

void json_put_real(struct json_out *o, const char *name, double v)
{
	char text[32] = "null";

	for (int digits = 15; isfinite(v) && digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (!islessgreater(strtod(text, NULL), v))
			break;
	}
	put_start(o, name);
	buf_text(o->b, text);
	if (isfinite(v) && !strpbrk(text, ".e"))
		buf_text(o->b, ".0");
}

void json_put_reals(struct json_out *o, const char *name, const double *v,
		    size_t n)
{
	json_open(o, name, '[');
	for (size_t i = 0; i < n; i++)
		json_put_real(o, NULL, v[i]);
	json_close(o, ']');
}

void json_put_fixed(struct json_out *o, const char *name, double v, int digits)
{
	put_start(o, name);
	if (isfinite(v))
		buf_printf(o->b, "%.*f", digits, v);
	else
		buf_text(o->b, "null");
}

void json_put_bool(struct json_out *o, const char *name, bool v)
{
	put_start(o, name);
	buf_text(o->b, v ? "true" : "false");
}

void json_put_null(struct json_out *o, const char *name)
{
	put_start(o, name);
	buf_text(o->b, "null");
}

void json_put_str(struct json_out *o, const char *name, const char *s)
{
	put_start(o, name);
	put_text(o->b, s);
}

void json_put_bytes64(struct json_out *o, const char *name, const void *p,
		      size_t n)
{
	enum {
		CHUNK = 768
	}; /* a multiple of 3: no padding in between */
	char text[BASE64_LEN(CHUNK) + 1];
	const uint8_t *bytes = p;

	put_start(o, name);
	buf_text(o->b, "\"");
	while (n > 0) {
		size_t take = MIN(n, CHUNK);

		base64_encode(bytes, take, text);
		buf_text(o->b, text);
		bytes += take;
		n -= take;
	}
	buf_text(o->b, "\"");
}
