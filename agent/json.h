/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON in and out.  Reading is strict, for input from anyone: UTF-8, depth at
 * most 8, no duplicate names, all input consumed, no NaN, no numbers beyond
 * u64/i64/finite double.  Writing is as Python's json.dumps: ", " and ": ".
 */
#ifndef LINNET_JSON_H
#define LINNET_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json_out.h"

struct json; /* a parsed value; owned by the document's root */

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
};

/*
 * 0; -EINVAL; -EEXIST: a name twice in one object; -E2BIG: more than 2^18
 * values, or 1,024 members in one object; -ENOMEM.  *out is NULL for "null".
 * json_free() takes only what json_parse() gave.
 */
int json_parse(const char *text, size_t len, struct json **out);
void json_free(struct json *root);

enum json_type json_type(const struct json *v); /* NULL: JSON_NULL */
/* Member of an object, element of an array; NULL: absent or another type. */
const struct json *json_get(const struct json *obj, const char *name);
const struct json *json_at(const struct json *arr, size_t i);
size_t json_len(const struct json *v); /* elements or members; else 0 */
/* i-th member of an object: its name; *value set.  NULL past the end. */
const char *json_member(const struct json *obj, size_t i,
			const struct json **value);

/* Exact types: 0 or -EINVAL / -ERANGE; v may be NULL (-EINVAL). */
int json_u64(const struct json *v, uint64_t min, uint64_t max, uint64_t *out);
/* 16 hexadecimal digits. */
int json_hex(const struct json *v, uint64_t *out);
int json_real(const struct json *v, double min, double max, double *out);
int json_bool(const struct json *v, bool *out);
/* Text without control bytes, at most max bytes; borrowed. */
int json_str(const struct json *v, size_t max, const char **out, size_t *len);
/* Number or text as legacy requests write them -> text in out. */
int json_scalar_text(const struct json *v, char *out, size_t size);

#endif
