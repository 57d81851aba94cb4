/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading JSON; the one file that knows json-c.
 *
 * Input is scanned before the library sees it: grammar, depth, UTF-8, range of
 * numbers, and how many values there are, so that a text of 4 MiB cannot become
 * 100 MiB of objects.  The library then builds the tree.  It keeps one member
 * of each name: when the tree holds fewer members than the scan counted, some
 * name came twice, however it was escaped.
 *
 * A struct json is a json-c object under another name; the root owns all.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library has types of these names. */
#define json_type json_c_type
#define json_bool json_c_bool
#include <json-c/json.h>
#undef json_type
#undef json_bool

#include "agent/json.h"
#include "common/utf8.h"
#include "common/util.h"

#define JSON_DEPTH       8
#define JSON_VALUES_MAX  (1 << 18)
#define JSON_MEMBERS_MAX 1024

struct scan {
	const char *s, *end;
	unsigned depth, values, members;
};

static int scan_value(struct scan *sc);

static void scan_blank(struct scan *sc)
{
	while (sc->s < sc->end && (*sc->s == ' ' || *sc->s == '\t' ||
				   *sc->s == '\n' || *sc->s == '\r'))
		sc->s++;
}

/* Takes c if it is next, after blanks. */
static bool scan_char(struct scan *sc, char c)
{
	scan_blank(sc);
	if (sc->s == sc->end || *sc->s != c)
		return false;
	sc->s++;
	return true;
}

/* Four digits of \uXXXX at s. */
static int scan_hex4(const struct scan *sc, const char *s, unsigned *out)
{
	uint8_t b[2];

	if (sc->end - s < 4 || hex_decode(s, 4, b, 2) != 0)
		return -EINVAL;
	*out = (unsigned)b[0] << 8 | b[1];
	return 0;
}

/* After "\u".  No NUL, and surrogates only in pairs. */
static int scan_unicode(struct scan *sc)
{
	unsigned hi, lo;

	if (scan_hex4(sc, sc->s, &hi) != 0 || hi == 0)
		return -EINVAL;
	sc->s += 4;
	if (hi < 0xd800 || hi > 0xdfff)
		return 0;
	if (hi > 0xdbff || sc->end - sc->s < 6 || sc->s[0] != '\\' ||
	    sc->s[1] != 'u' || scan_hex4(sc, sc->s + 2, &lo) != 0 ||
	    lo < 0xdc00 || lo > 0xdfff)
		return -EINVAL;
	sc->s += 6;
	return 0;
}

static int scan_escape(struct scan *sc)
{
	char c = sc->s < sc->end ? *sc->s++ : '\0';

	if (c == 'u')
		return scan_unicode(sc);
	return c != '\0' && strchr("\"\\/bfnrt", c) ? 0 : -EINVAL;
}

/* Most of a text: needs no closer look. */
static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static int scan_string(struct scan *sc)
{
	if (!scan_char(sc, '"'))
		return -EINVAL;
	while (sc->s < sc->end) {
		uint32_t code;
		size_t n;

		while (sc->s < sc->end && is_plain(*sc->s))
			sc->s++;
		if (sc->s == sc->end)
			break;
		n = utf8_decode(sc->s, (size_t)(sc->end - sc->s), &code);

		if (n == 0 || code < 0x20)
			return -EINVAL;
		sc->s += n;
		if (code == '"')
			return 0;
		if (code == '\\' && scan_escape(sc) != 0)
			return -EINVAL;
	}
	return -EINVAL;
}

static bool is_of_number(char c)
{
	return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' ||
	       c == 'e' || c == 'E';
}

/* The library would saturate what does not fit. */
static int scan_number(struct scan *sc)
{
	const char *s = sc->s;
	size_t len = 0;
	bool whole = true;
	uint64_t u;
	double d;

	while (s + len < sc->end && is_of_number(s[len])) {
		whole = whole && s[len] != '.' && s[len] != 'e' &&
			s[len] != 'E';
		len++;
	}
	sc->s += len;
	if (!whole)
		return parse_real(s, len, -DBL_MAX, DBL_MAX, &d);
	if (len > 0 && s[0] == '-')
		return parse_u64(s + 1, len - 1, 0, (uint64_t)1 << 63, &u);
	return parse_u64(s, len, 0, UINT64_MAX, &u);
}

static int scan_word(struct scan *sc, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(sc->end - sc->s) < len || memcmp(sc->s, word, len) != 0)
		return -EINVAL;
	sc->s += len;
	return 0;
}

/* After the opening bracket. */
static int scan_elements(struct scan *sc, bool object)
{
	const char close = object ? '}' : ']';
	unsigned n = 0;
	int err;

	if (scan_char(sc, close))
		return 0;
	do {
		if (object && ++n > JSON_MEMBERS_MAX)
			return -E2BIG;
		if (object && (scan_string(sc) != 0 || !scan_char(sc, ':')))
			return -EINVAL;
		err = scan_value(sc);
		if (err)
			return err;
	} while (scan_char(sc, ','));
	sc->members += n;
	return scan_char(sc, close) ? 0 : -EINVAL;
}

static int scan_nested(struct scan *sc, bool object)
{
	int err;

	sc->s++;
	if (sc->depth == JSON_DEPTH)
		return -EINVAL;
	sc->depth++;
	err = scan_elements(sc, object);
	sc->depth--;
	return err;
}

static int scan_value(struct scan *sc)
{
	scan_blank(sc);
	if (sc->s == sc->end)
		return -EINVAL;
	if (++sc->values > JSON_VALUES_MAX)
		return -E2BIG;
	switch (*sc->s) {
	case '{':
		return scan_nested(sc, true);
	case '[':
		return scan_nested(sc, false);
	case '"':
		return scan_string(sc);
	case 't':
		return scan_word(sc, "true");
	case 'f':
		return scan_word(sc, "false");
	case 'n':
		return scan_word(sc, "null");
	default:
		return scan_number(sc) == 0 ? 0 : -EINVAL;
	}
}

/* Members in the whole tree; no deeper than JSON_DEPTH. */
static unsigned count_members(struct json_object *o)
{
	unsigned n = 0;

	if (json_object_is_type(o, json_type_array)) {
		size_t len = json_object_array_length(o);

		for (size_t i = 0; i < len; i++)
			n += count_members(json_object_array_get_idx(o, i));
	} else if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, name, value)
		{
			(void)name;
			n += 1 + count_members(value);
		}
	}
	return n;
}

int json_parse(const char *text, size_t len, struct json **out)
{
	struct scan sc = { .s = text, .end = text + len };
	struct json_tokener *tok = NULL;
	struct json_object *root = NULL;
	enum json_tokener_error result;
	int err;

	if (len > INT32_MAX)
		return -E2BIG;
	err = scan_value(&sc);
	if (err)
		return err;
	scan_blank(&sc);
	if (sc.s != sc.end)
		return -EINVAL;
	tok = json_tokener_new_ex(JSON_DEPTH + 2);
	if (!tok)
		return -ENOMEM;
	/* not its check of UTF-8: that is done */
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	root = json_tokener_parse_ex(tok, text, (int)len);
	result = json_tokener_get_error(tok);
	/* A number at the end of the text could go on: say that it does not. */
	if (result == json_tokener_continue) {
		root = json_tokener_parse_ex(tok, "", 1);
		result = json_tokener_get_error(tok);
	}
	json_tokener_free(tok);
	if (result != json_tokener_success)
		return errno == ENOMEM ? -ENOMEM : -EINVAL;
	if (count_members(root) != sc.members) {
		json_object_put(root);
		return -EEXIST;
	}
	*out = (struct json *)root;
	return 0;
}

void json_free(struct json *root)
{
	json_object_put((struct json_object *)root);
}

/* The library's accessors want the object writable; they only read. */
static struct json_object *object_of(const struct json *v)
{
	return (struct json_object *)(uintptr_t)v;
}

enum json_type json_type(const struct json *v)
{
	switch (json_object_get_type(object_of(v))) {
	case json_type_boolean:
		return JSON_BOOL;
	case json_type_double:
	case json_type_int:
		return JSON_NUMBER;
	case json_type_string:
		return JSON_STRING;
	case json_type_array:
		return JSON_ARRAY;
	case json_type_object:
		return JSON_OBJECT;
	case json_type_null:
		break;
	}
	return JSON_NULL;
}

const struct json *json_get(const struct json *obj, const char *name)
{
	struct json_object *value = NULL;

	if (json_type(obj) == JSON_OBJECT)
		json_object_object_get_ex(object_of(obj), name, &value);
	return (struct json *)value;
}

const struct json *json_at(const struct json *arr, size_t i)
{
	if (json_type(arr) != JSON_ARRAY)
		return NULL;
	return (struct json *)json_object_array_get_idx(object_of(arr), i);
}

size_t json_len(const struct json *v)
{
	switch (json_type(v)) {
	case JSON_ARRAY:
		return json_object_array_length(object_of(v));
	case JSON_OBJECT:
		return (size_t)json_object_object_length(object_of(v));
	default:
		return 0;
	}
}

const char *json_member(const struct json *obj, size_t i,
			const struct json **value)
{
	if (json_type(obj) != JSON_OBJECT)
		return NULL;
	json_object_object_foreach(object_of(obj), name, member)
	{
		if (i-- == 0) {
			*value = (struct json *)member;
			return name;
		}
	}
	return NULL;
}

int json_u64(const struct json *v, uint64_t min, uint64_t max, uint64_t *out)
{
	struct json_object *o = object_of(v);
	uint64_t u;

	if (!json_object_is_type(o, json_type_int))
		return -EINVAL;
	if (json_object_get_int64(o) < 0)
		return -ERANGE;
	u = json_object_get_uint64(o);
	if (u < min || u > max)
		return -ERANGE;
	*out = u;
	return 0;
}

int json_real(const struct json *v, double min, double max, double *out)
{
	double d;

	if (json_type(v) != JSON_NUMBER)
		return -EINVAL;
	d = json_object_get_double(object_of(v));
	if (!isfinite(d) || d < min || d > max)
		return -ERANGE;
	*out = d;
	return 0;
}

int json_bool(const struct json *v, bool *out)
{
	if (json_type(v) != JSON_BOOL)
		return -EINVAL;
	*out = json_object_get_boolean(object_of(v));
	return 0;
}

int json_str(const struct json *v, size_t max, const char **out, size_t *len)
{
	const char *s;
	size_t n;

	if (json_type(v) != JSON_STRING)
		return -EINVAL;
	s = json_object_get_string(object_of(v));
	n = (size_t)json_object_get_string_len(object_of(v));
	if (n > max)
		return -ERANGE;
	if (!utf8_is_text(s, n))
		return -EINVAL;
	*out = s;
	if (len)
		*len = n;
	return 0;
}

int json_hex(const struct json *v, uint64_t *out)
{
	const char *s;
	size_t len;

	return json_str(v, 16, &s, &len) ? -EINVAL : hex_parse_u64(s, len, out);
}

int json_scalar_text(const struct json *v, char *out, size_t size)
{
	const char *s;
	size_t len;

	if (json_type(v) == JSON_STRING) {
		int err = json_str(v, size - 1, &s, &len);

		if (err)
			return err;
	} else if (json_type(v) == JSON_NUMBER) {
		/* As it was written, not as it was understood. */
		s = json_object_to_json_string_ext(object_of(v),
						   JSON_C_TO_STRING_PLAIN);
		if (!s)
			return -ENOMEM;
		len = strlen(s);
	} else {
		return -EINVAL;
	}
	if (len >= size)
		return -ERANGE;
	memcpy(out, s, len);
	out[len] = '\0';
	return 0;
}
