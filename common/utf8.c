/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UTF-8, strictly: one sequence of bytes for each character.  Pure functions. */
#include "common/utf8.h"

size_t utf8_decode(const char *s, size_t left, uint32_t *code)
{
	const uint8_t *b = (const uint8_t *)s;
	size_t n = b[0] < 0x80 ? 1 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
	uint32_t c;

	if (n == 1) {
		*code = b[0];
		return 1;
	}
	if (b[0] < 0xc2 || b[0] > 0xf4 || left < n)
		return 0;
	c = b[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (b[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) ||
	    (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	*code = c;
	return n;
}

bool utf8_is_text(const char *s, size_t len)
{
	while (len > 0) {
		uint32_t code;
		size_t n = utf8_decode(s, len, &code);

		if (n == 0 || code < 0x20 || code == 0x7f)
			return false;
		s += n;
		len -= n;
	}
	return true;
}
