/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * application/x-www-form-urlencoded, as bodies and as query strings, and the
 * same fields as one flat JSON object.
 */
#ifndef LINNET_FORM_H
#define LINNET_FORM_H

#include <stddef.h>

#include "agent/errors.h"

#define FORM_PAIRS     32
#define FORM_SLOTS     40 /* room for others beside one 32 times */
#define FORM_NAME_MAX  64
#define FORM_VALUE_MAX 1024 /* what a value has room for */
#define FORM_VALUE_OLD 256  /* in messages of POST / */

/* Decoded pairs; empty values are left out (an absent field). */
struct form {
	unsigned n;
	struct {
		char name[FORM_NAME_MAX + 1];
		char value[FORM_VALUE_MAX + 1];
		size_t len; /* of value */
	} pair[FORM_SLOTS];
};

/*
 * value_max: bytes of a value, at most FORM_VALUE_MAX.  repeat: name of the one
 * field that may come several times (up to 32), or NULL.  ERR_NONE,
 * ERR_MALFORMED or ERR_REPEATED.
 */
enum error_code form_decode(const char *body, size_t len, size_t value_max,
			    const char *repeat, struct form *out);
/* The same of POST / as a flat JSON object. */
enum error_code form_decode_json(const char *body, size_t len,
				 struct form *out);
/* Value or NULL; *len set if not NULL. */
const char *form_get(const struct form *f, const char *name, size_t *len);

#endif
