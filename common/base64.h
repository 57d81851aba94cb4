/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Base64 of RFC 4648 section 4 (padded), and base64url without padding. */
#ifndef LINNET_BASE64_H
#define LINNET_BASE64_H

#include <stddef.h>
#include <stdint.h>

#define BASE64_LEN(n) (((n) + 2) / 3 * 4) /* text bytes, without NUL */

/* Writes BASE64_LEN(n) bytes and NUL. */
void base64_encode(const void *in, size_t n, char *out);
/*
 * Decodes padded text; set trailing bits, blanks and missing padding are
 * refused.  out holds len / 4 * 3 bytes; *n is what was written.  0, -EINVAL.
 */
int base64_decode(const char *s, size_t len, uint8_t *out, size_t *n);
/* base64url, no padding; out holds BASE64_LEN(n) + 1. */
void base64url_encode(const void *in, size_t n, char *out);

#endif
