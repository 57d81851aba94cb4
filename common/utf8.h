/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UTF-8 as RFC 3629 has it. */
#ifndef LINNET_UTF8_H
#define LINNET_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes (1..4) of the character at s, of which left > 0 bytes are there, and
 * *code set; 0 if there is none: overlong, a surrogate, beyond U+10FFFF, cut.
 */
size_t utf8_decode(const char *s, size_t left, uint32_t *code);
/* Only whole characters, none of them a control (below U+0020, U+007F). */
bool utf8_is_text(const char *s, size_t len);

#endif
