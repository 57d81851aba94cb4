/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading JSON, in two passes over the text.  The first says whether it is JSON
 * at all: grammar, depth, UTF-8, range of numbers, and how many values there
 * are, so that a text of 4 MiB cannot become 100 MiB of values.  The second
 * builds the values and need not doubt what it reads.
 *
 * A document is one allocation that begins with its root: the values, those of
 * a container in a row; as many places again, where a container's values wait
 * until it is whole; the texts, unescaped, each with a NUL.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "common/utf8.h"
#include "common/util.h"

#define JSON_DEPTH       8
#define JSON_VALUES_MAX  (1 << 18)
#define JSON_MEMBERS_MAX 1024
#define NAMES_FEW        16 /* compared one by one */

struct json {
	enum json_type type;
	uint32_t len;     /* bytes of text; elements or members */
	const char *name; /* of a member */
	union {
		const char *text; /* a string, or a number as it was written */
		const struct json *child;
		bool yes;
	};
	bool whole, negative; /* a number: u without its sign, or real */
	union {
		uint64_t u;
		double real;
	};
};

struct scan {
	const char *s, *end;
	unsigned depth, values;
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

static bool is_of_real(char c)
{
	return c == '.' || c == 'e' || c == 'E';
}

static bool is_of_number(char c)
{
	return (c >= '0' && c <= '9') || c == '+' || c == '-' || is_of_real(c);
}

/* What does not fit is refused, not saturated. */
static int scan_number(struct scan *sc)
{
	const char *s = sc->s;
	size_t len = 0;
	bool whole = true;
	uint64_t u;
	double d;

	while (s + len < sc->end && is_of_number(s[len])) {
		whole = whole && !is_of_real(s[len]);
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

/* ---- values, from a text that was scanned ---- */

struct build {
	const char *s, *end;
	char *text;         /* place of the next text */
	struct json *place; /* of the next container's values */
	struct json *top;   /* of those that wait */
	bool twice;         /* a name in one object */
};

static void build_value(struct build *b, struct json *v);

static char build_next(struct build *b)
{
	while (*b->s == ' ' || *b->s == '\t' || *b->s == '\n' || *b->s == '\r')
		b->s++;
	return *b->s;
}

static unsigned build_hex4(struct build *b)
{
	uint8_t h[2];

	(void)hex_decode(b->s, 4, h, 2);
	b->s += 4;
	return (unsigned)h[0] << 8 | h[1];
}

static void build_code(struct build *b, unsigned c)
{
	if (c < 0x80) {
		*b->text++ = (char)c;
		return;
	}
	if (c < 0x800) {
		*b->text++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*b->text++ = (char)(0xe0 | c >> 12);
		} else {
			*b->text++ = (char)(0xf0 | c >> 18);
			*b->text++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*b->text++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*b->text++ = (char)(0x80 | (c & 0x3f));
}

/* After a backslash. */
static void build_escape(struct build *b)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	char c = *b->s++;
	const char *at = strchr(from, c);
	unsigned code;

	if (c != 'u') {
		*b->text++ = at ? to[at - from] : c;
		return;
	}
	code = build_hex4(b);
	if (code >= 0xd800 && code <= 0xdfff) {
		b->s += 2;
		code = 0x10000 + ((code - 0xd800) << 10) +
		       (build_hex4(b) - 0xdc00);
	}
	build_code(b, code);
}

static const char *build_string(struct build *b, uint32_t *len)
{
	const char *begin = b->text;

	b->s++;
	for (;;) {
		size_t n = 0;

		while (b->s[n] != '"' && b->s[n] != '\\')
			n++;
		memcpy(b->text, b->s, n);
		b->text += n;
		b->s += n;
		if (*b->s++ == '"')
			break;
		build_escape(b);
	}
	*len = (uint32_t)(b->text - begin);
	*b->text++ = '\0';
	return begin;
}

static void build_number(struct build *b, struct json *v)
{
	v->type = JSON_NUMBER;
	v->text = b->text;
	v->whole = true;
	for (; b->s < b->end && is_of_number(*b->s); b->s++) {
		v->whole = v->whole && !is_of_real(*b->s);
		*b->text++ = *b->s;
	}
	v->len = (uint32_t)(b->text - v->text);
	*b->text++ = '\0';
	v->negative = v->text[0] == '-';
	if (v->whole)
		(void)parse_u64(v->text + v->negative, v->len - v->negative, 0,
				UINT64_MAX, &v->u);
	else
		(void)parse_real(v->text, v->len, -DBL_MAX, DBL_MAX, &v->real);
}

static int name_order(const void *a, const void *b)
{
	return strcmp(((const struct json *)a)->name,
		      ((const struct json *)b)->name);
}

/* v: n members in any order. */
static bool names_twice(struct json *v, uint32_t n)
{
	if (n > NAMES_FEW)
		qsort(v, n, sizeof(*v), name_order);
	for (uint32_t i = 1; i < n; i++) {
		for (uint32_t k = n > NAMES_FEW ? i - 1 : 0; k < i; k++) {
			if (strcmp(v[i].name, v[k].name) == 0)
				return true;
		}
	}
	return false;
}

static void build_container(struct build *b, struct json *v)
{
	struct json *first = b->top;
	bool object = *b->s++ == '{';

	v->type = object ? JSON_OBJECT : JSON_ARRAY;
	v->child = b->place;
	while (build_next(b) != (object ? '}' : ']')) {
		struct json child = { 0 };
		uint32_t len;

		if (*b->s == ',') {
			b->s++;
			build_next(b);
		}
		if (object) {
			child.name = build_string(b, &len);
			build_next(b);
			b->s++;
			build_next(b);
		}
		build_value(b, &child);
		*b->top++ = child;
	}
	b->s++;
	v->len = (uint32_t)(b->top - first);
	v->child = memcpy(b->place, first, v->len * sizeof(*v));
	b->place += v->len;
	b->top = first;
	b->twice |= object && names_twice(first, v->len);
}

/* Everything but its name. */
static void build_value(struct build *b, struct json *v)
{
	switch (*b->s) {
	case '{':
	case '[':
		build_container(b, v);
		break;
	case '"':
		v->type = JSON_STRING;
		v->text = build_string(b, &v->len);
		break;
	case 't':
	case 'f':
		v->type = JSON_BOOL;
		v->yes = *b->s == 't';
		b->s += v->yes ? 4 : 5;
		break;
	case 'n':
		b->s += 4;
		break;
	default:
		build_number(b, v);
	}
}

/*
 * len bytes, a NUL after them.  Texts take no more than that: a string loses
 * its quotes, and after a number comes something else.
 */
static int document_build(const char *text, size_t len, unsigned values,
			  struct json **out)
{
	struct json *root = malloc(2 * values * sizeof(*root) + len + 1);
	struct build b = { .s = text, .end = text + len };

	if (!root)
		return -ENOMEM;
	*root = (struct json){ 0 };
	b.place = root + 1;
	b.top = root + values;
	b.text = (char *)(root + 2 * values);
	build_next(&b);
	build_value(&b, root);
	if (!b.twice && root->type != JSON_NULL) {
		*out = root;
		return 0;
	}
	free(root);
	*out = NULL;
	return b.twice ? -EEXIST : 0;
}

int json_parse(const char *text, size_t len, struct json **out)
{
	struct scan sc = { .s = text, .end = text + len };
	int err;

	if (len > INT32_MAX)
		return -E2BIG;
	err = scan_value(&sc);
	if (err)
		return err;
	scan_blank(&sc);
	if (sc.s != sc.end)
		return -EINVAL;
	return document_build(text, len, sc.values, out);
}

void json_free(struct json *root)
{
	free(root);
}

/* ---- reading them ---- */

enum json_type json_type(const struct json *v)
{
	return v ? v->type : JSON_NULL;
}

static const struct json *not_null(const struct json *v)
{
	return v->type == JSON_NULL ? NULL : v;
}

const struct json *json_get(const struct json *obj, const char *name)
{
	if (json_type(obj) != JSON_OBJECT)
		return NULL;
	for (uint32_t i = 0; i < obj->len; i++) {
		if (strcmp(obj->child[i].name, name) == 0)
			return not_null(&obj->child[i]);
	}
	return NULL;
}

const struct json *json_at(const struct json *arr, size_t i)
{
	if (json_type(arr) != JSON_ARRAY || i >= arr->len)
		return NULL;
	return not_null(&arr->child[i]);
}

size_t json_len(const struct json *v)
{
	return json_type(v) == JSON_ARRAY || json_type(v) == JSON_OBJECT
		       ? v->len
		       : 0;
}

const char *json_member(const struct json *obj, size_t i,
			const struct json **value)
{
	if (json_type(obj) != JSON_OBJECT || i >= obj->len)
		return NULL;
	*value = not_null(&obj->child[i]);
	return obj->child[i].name;
}

int json_u64(const struct json *v, uint64_t min, uint64_t max, uint64_t *out)
{
	if (json_type(v) != JSON_NUMBER || !v->whole)
		return -EINVAL;
	if ((v->negative && v->u > 0) || v->u < min || v->u > max)
		return -ERANGE;
	*out = v->u;
	return 0;
}

int json_real(const struct json *v, double min, double max, double *out)
{
	double d;

	if (json_type(v) != JSON_NUMBER)
		return -EINVAL;
	d = !v->whole ? v->real : v->negative ? -(double)v->u : (double)v->u;
	if (d < min || d > max)
		return -ERANGE;
	*out = d;
	return 0;
}

int json_bool(const struct json *v, bool *out)
{
	if (json_type(v) != JSON_BOOL)
		return -EINVAL;
	*out = v->yes;
	return 0;
}

int json_str(const struct json *v, size_t max, const char **out, size_t *len)
{
	if (json_type(v) != JSON_STRING)
		return -EINVAL;
	if (v->len > max)
		return -ERANGE;
	if (!utf8_is_text(v->text, v->len))
		return -EINVAL;
	*out = v->text;
	if (len)
		*len = v->len;
	return 0;
}

int json_scalar_text(const struct json *v, char *out, size_t size)
{
	const char *s;
	size_t len;
	int err;

	if (json_type(v) == JSON_STRING) {
		err = json_str(v, size - 1, &s, &len);
		if (err)
			return err;
	} else if (json_type(v) == JSON_NUMBER) {
		/* as it was written, not as it was understood */
		s = v->text;
		len = v->len;
	} else {
		return -EINVAL;
	}
	if (len >= size)
		return -ERANGE;
	memcpy(out, s, len);
	out[len] = '\0';
	return 0;
}
