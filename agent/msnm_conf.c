/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parameters of MSNM: one table row each, with its kind, place and bounds;
 * all ways in and out go through the rows.  Plain values, nothing owned.  What
 * a parameter allows in words stands with the fields of requests.
 */
#include "agent/msnm_conf.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/json.h"
#include "common/features.h"
#include "common/util.h"

enum kind {
	KIND_BOOL,
	KIND_UINT,
	KIND_REAL,
	KIND_WORD,
	KIND_BLOCKS,
	KIND_LV,
	KIND_WINDOW,
	KIND_RULE
};

struct param {
	const char *name;
	enum kind kind;
	size_t at;
	double min, max;
	const char *word[4]; /* of KIND_WORD, by value */
};

#define AT(member) offsetof(struct msnm_conf, member)
static const struct param params[] = {
	[MSNM_ENABLED] = { "enabled", KIND_BOOL, AT(enabled), 0, 1, { 0 } },
	[MSNM_WINDOW] = { "window_s",
			  KIND_WINDOW,
			  AT(window_s),
			  TASK_WINDOW_MIN_S,
			  TASK_WINDOW_MAX_S,
			  { 0 } },
	[MSNM_BLOCKS] = { "blocks", KIND_BLOCKS, AT(blocks), 0, 0, { 0 } },
	[MSNM_SEMANTICS] = { "semantics",
			     KIND_WORD,
			     AT(semantics),
			     0,
			     0,
			     { [FEATURES_PACKETS] = "packets/1",
			       [FEATURES_NETFLOW] = "netflow/1" } },
	[MSNM_ROWS] = { "rows", KIND_UINT, AT(rows), 13, MSNM_ROWS_MAX, { 0 } },
	[MSNM_LV] = { "lv", KIND_LV, AT(lv), 1, 100, { 0 } },
	[MSNM_PREP] = { "prep", KIND_UINT, AT(prep), 0, 2, { 0 } },
	[MSNM_ALPHA_Q] = { "alpha_q", KIND_REAL, AT(alpha_q), 1e-9, 0.5, { 0 } },
	[MSNM_ALPHA_D] = { "alpha_d", KIND_REAL, AT(alpha_d), 1e-9, 0.5, { 0 } },
	[MSNM_LIMITS] = { "limits",
			  KIND_WORD,
			  AT(limits),
			  0,
			  0,
			  { [DETECT_THEORY] = "theory",
			    [DETECT_EMPIRICAL] = "empirical",
			    [DETECT_MAX] = "max" } },
	[MSNM_CLEAN] = { "clean", KIND_REAL, AT(clean), 0, 0.5, { 0 } },
	[MSNM_ALARM] = { "alarm", KIND_RULE, AT(alarm), 0, 0, { 0 } },
	[MSNM_MISSING] = { "missing",
			   KIND_WORD,
			   AT(missing),
			   0,
			   0,
			   { [DETECT_TSR] = "tsr",
			     [DETECT_AVERAGE] = "average",
			     [DETECT_ZERO] = "zero",
			     [DETECT_REFUSE] = "refuse" } },
	[MSNM_MAX_IMPUTED] = { "max_imputed",
			       KIND_REAL,
			       AT(max_imputed),
			       0,
			       1,
			       { 0 } },
	[MSNM_DYNAMIC] = { "dynamic", KIND_BOOL, AT(dynamic), 0, 1, { 0 } },
	[MSNM_BATCH] = { "batch", KIND_UINT, AT(batch), 3, 1440, { 0 } },
	[MSNM_HALF_LIFE] = { "half_life_s",
			     KIND_UINT,
			     AT(half_life_s),
			     60,
			     31622400,
			     { 0 } },
	[MSNM_QUARANTINE] = { "quarantine",
			      KIND_REAL,
			      AT(quarantine),
			      0,
			      1e6,
			      { 0 } },
	[MSNM_CHILDREN] = { "children", KIND_BOOL, AT(children), 0, 1, { 0 } },
};
static_assert(ARRAY_SIZE(params) == MSNM_PARAMS, "a row for each parameter");

void msnm_conf_default(struct msnm_conf *c)
{
	*c = (struct msnm_conf){ .enabled = true,
				 .children = true,
				 .window_s = 60,
				 .blocks = FEATURE_BLOCKS,
				 .semantics = FEATURES_PACKETS,
				 .rows = 1440,
				 .lv = DETECT_LV_AUTO,
				 .prep = 2,
				 .batch = 60,
				 .half_life_s = 7 * 86400,
				 .alpha_q = 0.01,
				 .alpha_d = 0.01,
				 .clean = 0.02,
				 .max_imputed = 0.2,
				 .quarantine = 10,
				 .limits = DETECT_MAX,
				 .missing = DETECT_TSR,
				 .alarm = DETECT_RULE_DEFAULT };
}

const char *msnm_param_name(enum msnm_param p)
{
	return params[p].name;
}

static uint32_t *number_at(struct msnm_conf *c, const struct param *p)
{
	return (uint32_t *)((char *)c + p->at);
}

static double real_at(const struct msnm_conf *c, const struct param *p)
{
	double v;

	memcpy(&v, (const char *)c + p->at, sizeof(v));
	return v;
}

static int set_uint(const struct param *p, const char *s, size_t len,
		    uint32_t *out)
{
	uint64_t v;
	int ret = parse_u64(s, len, (uint64_t)p->min, (uint64_t)p->max, &v);

	if (!ret)
		*out = (uint32_t)v;
	return ret ? -EINVAL : 0;
}

static int set_word(const struct param *p, const char *s, size_t len,
		    uint32_t *out)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(p->word); i++) {
		if (!p->word[i] || strlen(p->word[i]) != len ||
		    memcmp(p->word[i], s, len) != 0)
			continue;
		*out = i;
		return 0;
	}
	return -EINVAL;
}

/* "k:n:factor" */
static int set_rule(const char *s, size_t len, struct detect_rule *out)
{
	const char *first = memchr(s, ':', len), *second = NULL;
	const char *end = s + len;
	uint64_t k, n;
	double factor;

	if (first)
		second = memchr(first + 1, ':', (size_t)(end - first - 1));
	if (!second ||
	    parse_u64(first + 1, (size_t)(second - first - 1), 1, 64, &n) ||
	    parse_u64(s, (size_t)(first - s), 1, n, &k) ||
	    parse_real(second + 1, (size_t)(end - second - 1), 1, 1e6, &factor))
		return -EINVAL;
	*out = (struct detect_rule){ (unsigned)k, (unsigned)n, factor };
	return 0;
}

int msnm_conf_set(struct msnm_conf *c, enum msnm_param p, const char *s,
		  size_t len)
{
	const struct param *row = &params[p];
	char *at = (char *)c + row->at;
	uint32_t v;
	double real;

	switch (row->kind) {
	case KIND_BOOL:
		if (len != 1 || (s[0] != '0' && s[0] != '1'))
			return -EINVAL;
		*(bool *)at = s[0] == '1';
		return 0;
	case KIND_WINDOW:
		if (set_uint(row, s, len, &v) || TASK_DAY_S % v)
			return -EINVAL;
		c->window_s = v;
		return 0;
	case KIND_LV:
		if (len == 4 && memcmp(s, "auto", 4) == 0) {
			c->lv = DETECT_LV_AUTO;
			return 0;
		}
		return set_uint(row, s, len, &c->lv);
	case KIND_UINT:
		return set_uint(row, s, len, number_at(c, row));
	case KIND_REAL:
		if (parse_real(s, len, row->min, row->max, &real))
			return -EINVAL;
		memcpy(at, &real, sizeof(real));
		return 0;
	case KIND_WORD:
		return set_word(row, s, len, number_at(c, row));
	case KIND_BLOCKS:
		return features_blocks_parse(s, len, &c->blocks);
	case KIND_RULE:
		return set_rule(s, len, &c->alarm);
	}
	return -EINVAL;
}

void msnm_conf_take(struct msnm_conf *c, const struct msnm_conf *from,
		    uint32_t which)
{
	static const size_t size[] = {
		[KIND_BOOL] = sizeof(bool),
		[KIND_UINT] = sizeof(uint32_t),
		[KIND_REAL] = sizeof(double),
		[KIND_WORD] = sizeof(uint32_t),
		[KIND_BLOCKS] = sizeof(uint32_t),
		[KIND_LV] = sizeof(uint32_t),
		[KIND_WINDOW] = sizeof(uint32_t),
		[KIND_RULE] = sizeof(struct detect_rule),
	};

	for (unsigned i = 0; i < MSNM_PARAMS; i++)
		if (which & 1u << i)
			memcpy((char *)c + params[i].at,
			       (const char *)from + params[i].at,
			       size[params[i].kind]);
}

int msnm_conf_check(const struct msnm_conf *c, struct error *e)
{
	uint32_t least = 3 * c->lv + 10;
	char text[64];

	if (c->rows < least) {
		snprintf(text, sizeof(text), "at least 3 lv + 10 = %u", least);
		error_set(e, ERR_VALUE, "rows", text);
		return -EINVAL;
	}
	if (c->dynamic && c->batch < c->lv + 2) {
		snprintf(text, sizeof(text), "at least lv + 2 = %u", c->lv + 2);
		error_set(e, ERR_VALUE, "batch", text);
		return -EINVAL;
	}
	if (c->dynamic && !c->prep) {
		error_set(e, ERR_VALUE, "prep", "1 or 2 where dynamic is 1");
		return -EINVAL;
	}
	error_set(e, ERR_NONE, "", "");
	return 0;
}

/* The value as text that msnm_conf_set() reads. */
static void value_text(const struct msnm_conf *c, const struct param *p,
		       char *out, size_t size)
{
	const char *at = (const char *)c + p->at;
	uint32_t v = 0;

	if (p->kind != KIND_BOOL && p->kind != KIND_REAL &&
	    p->kind != KIND_RULE)
		memcpy(&v, at, sizeof(v));
	if (p->kind == KIND_BOOL)
		snprintf(out, size, "%d", *(const bool *)at);
	else if (p->kind == KIND_REAL)
		snprintf(out, size, "%.17g", real_at(c, p));
	else if (p->kind == KIND_RULE)
		snprintf(out, size, "%u:%u:%.17g", c->alarm.k, c->alarm.n,
			 c->alarm.factor);
	else if (p->kind == KIND_WORD)
		snprintf(out, size, "%s", p->word[v]);
	else if (p->kind == KIND_BLOCKS)
		snprintf(out, size, "%s", features_blocks_name(v));
	else if (p->kind == KIND_LV && v == DETECT_LV_AUTO)
		snprintf(out, size, "auto");
	else
		snprintf(out, size, "%u", v);
}

void msnm_conf_text(const struct msnm_conf *c, char out[MSNM_TEXT_LEN])
{
	size_t n = 0;
	char value[64];

	out[0] = '\0';
	for (unsigned i = MSNM_ENABLED + 1; i < MSNM_PARAMS; i++) {
		value_text(c, &params[i], value, sizeof(value));
		n += (size_t)snprintf(out + n, MSNM_TEXT_LEN - n, "%s%s=%s",
				      n ? " " : "", params[i].name, value);
		assert(n < MSNM_TEXT_LEN);
	}
}

static int pair_parse(struct msnm_conf *c, const char *s, size_t len)
{
	const char *eq = memchr(s, '=', len);
	size_t name = eq ? (size_t)(eq - s) : 0;

	for (unsigned i = MSNM_ENABLED + 1; eq && i < MSNM_PARAMS; i++)
		if (strlen(params[i].name) == name &&
		    memcmp(params[i].name, s, name) == 0)
			return msnm_conf_set(c, (enum msnm_param)i, eq + 1,
					     len - name - 1);
	return -EINVAL;
}

int msnm_conf_parse(struct msnm_conf *c, const char *text)
{
	struct msnm_conf in;
	struct error e;

	msnm_conf_default(&in);
	while (*text) {
		size_t len = strcspn(text, " ");

		if (pair_parse(&in, text, len))
			return -EINVAL;
		text += len;
		text += strspn(text, " ");
	}
	if (msnm_conf_check(&in, &e))
		return -EINVAL;
	*c = in;
	return 0;
}

void msnm_conf_put(struct json_out *o, const struct msnm_conf *c, bool legacy)
{
	for (unsigned i = 0; i < MSNM_PARAMS; i++) {
		const struct param *p = &params[i];
		const char *at = (const char *)c + p->at;
		char text[64];

		value_text(c, p, text, sizeof(text));
		if (p->kind == KIND_REAL)
			json_put_real(o, p->name, real_at(c, p));
		else if (p->kind == KIND_BOOL && !legacy)
			json_put_bool(o, p->name, *(const bool *)at);
		else if (p->kind == KIND_BOOL)
			json_put_u64(o, p->name, *(const bool *)at);
		else if (p->kind == KIND_UINT || p->kind == KIND_WINDOW ||
			 (p->kind == KIND_LV && c->lv))
			json_put_u64(o, p->name, *(const uint32_t *)at);
		else
			json_put_str(o, p->name, text);
	}
}

int msnm_member_text(enum msnm_param p, const struct json *v, char *out,
		     size_t size)
{
	enum kind kind = params[p].kind;
	bool word = kind == KIND_WORD || kind == KIND_BLOCKS ||
		    kind == KIND_RULE;
	bool yes;

	if (kind == KIND_BOOL) {
		if (json_bool(v, &yes))
			return -EINVAL;
		snprintf(out, size, "%d", yes);
		return 0;
	}
	if (json_type(v) != (word ? JSON_STRING : JSON_NUMBER) &&
	    !(kind == KIND_LV && json_type(v) == JSON_STRING))
		return -EINVAL;
	return json_scalar_text(v, out, size);
}

bool msnm_param_is_bool(enum msnm_param p)
{
	return params[p].kind == KIND_BOOL;
}

void msnm_conf_task(const struct msnm_conf *c, const struct filter *f,
		    bool both, struct task_spec *out)
{
	memset(out, 0, sizeof(*out));
	out->filter = *f;
	out->key = KEY_NONE;
	out->increment = INC_SEGMENT;
	out->both = both;
	out->semantics = (uint8_t)c->semantics;
	out->kinds = TASK_FEATURES;
	out->window_ms = c->window_s * 1000;
}

bool msnm_conf_same_rows(const struct msnm_conf *a, const struct msnm_conf *b)
{
	return a->window_s == b->window_s && a->blocks == b->blocks &&
	       a->semantics == b->semantics;
}
