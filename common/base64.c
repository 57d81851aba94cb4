/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Base64, strict in decoding: every byte string has exactly one text, so that
 * texts can be compared instead of what they stand for.  Pure functions.
 */
#include <errno.h>
#include <stdbool.h>

#include "common/base64.h"

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const uint8_t *in, size_t n, const char *digits, bool pad,
		   char *out)
{
	while (n > 0) {
		size_t take = n < 3 ? n : 3;
		uint32_t v = (uint32_t)in[0] << 16;

		if (take > 1)
			v |= (uint32_t)in[1] << 8;
		if (take > 2)
			v |= in[2];
		for (size_t i = 0; i <= take; i++)
			*out++ = digits[v >> (18 - 6 * i) & 63];
		for (size_t i = take; pad && i < 3; i++)
			*out++ = '=';
		in += take;
		n -= take;
	}
	*out = '\0';
}

void base64_encode(const void *in, size_t n, char *out)
{
	encode(in, n, base64_digits, true, out);
}

void base64url_encode(const void *in, size_t n, char *out)
{
	encode(in, n, base64url_digits, false, out);
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters, digits of them before padding -> digits - 1 bytes. */
static int decode_group(const char *s, size_t digits, uint8_t out[3])
{
	uint32_t v = 0;

	for (size_t i = 0; i < digits; i++) {
		int d = digit_value(s[i]);

		if (d < 0)
			return -EINVAL;
		v |= (uint32_t)d << (18 - 6 * i);
	}
	/* Bits that no byte takes must be zero. */
	if (digits < 4 && (v & (0xffffff >> (8 * (digits - 1)))))
		return -EINVAL;
	for (size_t i = 0; i + 1 < digits; i++)
		out[i] = (uint8_t)(v >> (16 - 8 * i));
	return 0;
}

int base64_decode(const char *s, size_t len, uint8_t *out, size_t *n)
{
	size_t pad = 0;

	if (len % 4 != 0)
		return -EINVAL;
	while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < len; i += 4) {
		size_t digits = i + 4 == len ? 4 - pad : 4;

		if (decode_group(s + i, digits, out + i / 4 * 3))
			return -EINVAL;
	}
	*n = len / 4 * 3 - pad;
	return 0;
}
