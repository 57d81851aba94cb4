/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields of a request.  One pass over the bytes, each escape decoded once,
 * into slots of fixed size: at most 32 pairs, whatever is sent.  Pure
 * functions.
 *
 * Empty values are kept until the end, so that a name that comes twice is seen
 * even if one of the two has no value.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/form.h"
#include "agent/json.h"
#include "common/utf8.h"
#include "common/util.h"

/* Decodes len bytes into out (max bytes and NUL); -EINVAL. */
static int decode_text(const char *s, size_t len, char *out, size_t max,
		       size_t *out_len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c == '+') {
			c = ' ';
		} else if (c == '%') {
			if (len - i < 3 || hex_decode(s + i + 1, 2, &c, 1) != 0)
				return -EINVAL;
			i += 2;
		}
		if (n == max)
			return -EINVAL;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	*out_len = n;
	return utf8_is_text(out, n) ? 0 : -EINVAL;
}

/* The pair in slot f->n is complete. */
static enum error_code add_pair(struct form *f, const char *repeat)
{
	const char *name = f->pair[f->n].name;

	if (name[0] == '\0')
		return ERR_MALFORMED;
	if (!repeat || strcmp(name, repeat) != 0) {
		for (unsigned i = 0; i < f->n; i++) {
			if (strcmp(f->pair[i].name, name) == 0)
				return ERR_REPEATED;
		}
	}
	f->n++;
	return ERR_NONE;
}

static enum error_code decode_pair(const char *s, size_t len, size_t value_max,
				   const char *repeat, struct form *f)
{
	const char *eq = memchr(s, '=', len);
	size_t name_len = eq ? (size_t)(eq - s) : len;
	const char *value = eq ? eq + 1 : s + len;
	size_t value_len = len - (size_t)(value - s), n;

	if (f->n == (repeat ? FORM_SLOTS : FORM_PAIRS) ||
	    decode_text(s, name_len, f->pair[f->n].name, FORM_NAME_MAX, &n) ||
	    decode_text(value, value_len, f->pair[f->n].value, value_max,
			&f->pair[f->n].len))
		return ERR_MALFORMED;
	return add_pair(f, repeat);
}

/* An empty value is an absent field. */
static void drop_empty(struct form *f)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < f->n; i++) {
		if (f->pair[i].len == 0)
			continue;
		if (kept != i)
			f->pair[kept] = f->pair[i];
		kept++;
	}
	f->n = kept;
}

enum error_code form_decode(const char *body, size_t len, size_t value_max,
			    const char *repeat, struct form *out)
{
	const char *end = body + len;

	out->n = 0;
	while (body < end) {
		const char *amp = memchr(body, '&', (size_t)(end - body));
		const char *stop = amp ? amp : end;
		enum error_code e = ERR_NONE;

		if (stop > body)
			e = decode_pair(body, (size_t)(stop - body), value_max,
					repeat, out);
		if (e != ERR_NONE)
			return e;
		body = amp ? amp + 1 : end;
	}
	drop_empty(out);
	return ERR_NONE;
}

static enum error_code decode_object(const struct json *root, struct form *f)
{
	const struct json *value;
	const char *name;

	f->n = 0;
	if (json_type(root) != JSON_OBJECT || json_len(root) > FORM_PAIRS)
		return ERR_MALFORMED;
	while ((name = json_member(root, f->n, &value)) != NULL) {
		size_t len = strlen(name);

		if (len > FORM_NAME_MAX || !utf8_is_text(name, len) ||
		    json_scalar_text(value, f->pair[f->n].value,
				     FORM_VALUE_OLD + 1) != 0)
			return ERR_MALFORMED;
		memcpy(f->pair[f->n].name, name, len + 1);
		f->pair[f->n].len = strlen(f->pair[f->n].value);
		if (add_pair(f, NULL) != ERR_NONE)
			return ERR_MALFORMED;
	}
	drop_empty(f);
	return ERR_NONE;
}

enum error_code form_decode_json(const char *body, size_t len, struct form *out)
{
	struct json *root = NULL;
	enum error_code e;
	int err = json_parse(body, len, &root);

	if (err == -ENOMEM)
		return ERR_INTERNAL;
	if (err)
		return err == -EEXIST ? ERR_REPEATED : ERR_MALFORMED;
	e = decode_object(root, out);
	json_free(root);
	return e;
}

const char *form_get(const struct form *f, const char *name, size_t *len)
{
	for (unsigned i = 0; i < f->n; i++) {
		if (strcmp(f->pair[i].name, name) != 0)
			continue;
		if (len)
			*len = f->pair[i].len;
		return f->pair[i].value;
	}
	return NULL;
}
