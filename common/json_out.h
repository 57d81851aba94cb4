/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing JSON; commas are put by the writer. */
#ifndef LINNET_JSON_OUT_H
#define LINNET_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct json_out {
	struct buf *b;
	bool first; /* nothing yet at this level */
};
void json_out_init(struct json_out *o, struct buf *b);
/* name NULL: array element or top value. */
void json_open(struct json_out *o, const char *name, char bracket); /* { [ */
void json_close(struct json_out *o, char bracket);                  /* } ] */
void json_put_u64(struct json_out *o, const char *name, uint64_t v);
/* 16 digits. */
void json_put_hex(struct json_out *o, const char *name, uint64_t v);
/* Above 2^53 also as text in NAME_str. */
void json_put_count(struct json_out *o, const char *name, uint64_t v);
/* The shortest text that reads back as v; null if v is not finite. */
void json_put_real(struct json_out *o, const char *name, double v);
/* An array of n of them. */
void json_put_reals(struct json_out *o, const char *name, const double *v,
		    size_t n);
void json_put_fixed(struct json_out *o, const char *name, double v, int digits);
void json_put_bool(struct json_out *o, const char *name, bool v);
void json_put_null(struct json_out *o, const char *name);
/* Everything but printable ASCII is escaped; invalid UTF-8 becomes U+FFFD. */
void json_put_str(struct json_out *o, const char *name, const char *s);
void json_put_bytes64(struct json_out *o, const char *name, const void *p,
		      size_t n); /* base64 */

#endif
