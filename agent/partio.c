/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parts as JSON: a head that says what the part belongs to, the totals, and
 * the columns of its kind, rendered without knowing the kind.  A part that
 * comes in is compared with the task before any of its data is looked at.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/query.h"
#include "common/base64.h"
#include "common/util.h"

#define PART_VERSION 1
#define HASH_ID      1 /* SipHash-1-3 */
#define VALUE_MAX    ((uint64_t)1 << 63)
#define TEXT_MAX     ((size_t)4 << 20) /* of one column */

static const struct {
	const char *name;
	size_t offset;
} totals_fields[] = {
	{ "items", offsetof(struct totals, items) },
	{ "weight", offsetof(struct totals, weight) },
	{ "pkt", offsetof(struct totals, pkt) },
	{ "segment", offsetof(struct totals, segment) },
	{ "byte", offsetof(struct totals, byte) },
	{ "hidden_byte", offsetof(struct totals, hidden_byte) },
	{ "super", offsetof(struct totals, super) },
	{ "fragment", offsetof(struct totals, fragment) },
	{ "unkeyed_pkt", offsetof(struct totals, unkeyed_pkt) },
	{ "unkeyed_byte", offsetof(struct totals, unkeyed_byte) },
};

/* The one number that shapes a kind of part; NULL: none. */
static const uint32_t *shape_of(const struct part *p, const char **name)
{
	switch (p->kind) {
	case PART_TOPK:
		*name = "cap";
		return &p->params.topk_slots;
	case PART_EXACT:
		*name = "cap";
		return &p->params.exact_cap;
	case PART_HLL:
		*name = "p";
		return &p->params.hll_p;
	case PART_TOTALS:
	case PART_POINTS:
	case PART_KINDS:
		break;
	}
	return NULL;
}

static void put_columns(struct json_out *o, const struct columns *c)
{
	json_open(o, "data", '{');
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->col[i].type == COLUMN_U64)
			json_put_u64(o, c->col[i].name, c->col[i].u64);
		else
			json_put_bytes64(o, c->col[i].name, c->col[i].bytes,
					 c->col[i].len);
	}
	json_close(o, '}');
}

void part_write(struct json_out *o, const char *name, const struct part *p)
{
	struct columns c = { 0 };
	const char *shape_name;
	const uint32_t *shape = shape_of(p, &shape_name);

	if (part_encode(p, &c)) {
		o->b->failed = true; /* the caller looks once, at the end */
		return;
	}
	json_open(o, name, '{');
	json_put_str(o, "kind", part_kind_name(p->kind));
	json_put_u64(o, "v", PART_VERSION);
	json_put_hex(o, "task", p->task);
	json_put_u64(o, "gen", p->generation);
	json_put_u64(o, "hash", HASH_ID);
	json_put_hex(o, "fp", p->fp);
	json_put_str(o, "key", key_type_name(p->params.key));
	json_put_str(o, "inc", increment_name(p->params.increment));
	json_open(o, "par", '{');
	if (shape)
		json_put_u64(o, shape_name, *shape);
	json_close(o, '}');
	json_open(o, "win", '{');
	json_put_u64(o, "id", p->window);
	json_put_u64(o, "len_ms", p->params.window_ms);
	json_put_u64(o, "end", p->end_slot);
	json_put_u64(o, "n", p->n_slots);
	json_close(o, '}');
	json_open(o, "tot", '{');
	for (size_t i = 0; i < ARRAY_SIZE(totals_fields); i++)
		json_put_u64(o, totals_fields[i].name,
			     *(const uint64_t *)((const char *)&p->totals +
						 totals_fields[i].offset));
	json_close(o, '}');
	put_columns(o, &c);
	json_close(o, '}');
	columns_free(&c);
}

/* Kind, task, seed: 0, -EINVAL, or a refusal. */
static int check_head(const struct json *v, const struct part *mine)
{
	uint64_t version, task, gen, hash, fp;

	if (json_u64(json_get(v, "v"), 0, UINT32_MAX, &version) ||
	    json_u64(json_get(v, "hash"), 0, UINT32_MAX, &hash) ||
	    json_u64(json_get(v, "gen"), 0, UINT64_MAX, &gen) ||
	    json_hex(json_get(v, "task"), &task) ||
	    json_hex(json_get(v, "fp"), &fp))
		return -EINVAL;
	if (version != PART_VERSION || hash != HASH_ID)
		return MERGE_PARAMS;
	if (task != mine->task)
		return MERGE_TASK;
	if (gen != mine->generation)
		return MERGE_GENERATION;
	return fp == mine->fp ? 0 : MERGE_SEED;
}

/* Key, increment, shape, window. */
static int check_shape(const struct json *v, struct part *p)
{
	const struct json *win = json_get(v, "win");
	const char *s, *shape_name = "";
	const uint32_t *shape = shape_of(p, &shape_name);
	enum increment inc;
	enum key_type key;
	uint64_t n, end, slots;
	size_t len;

	if (json_str(json_get(v, "key"), 32, &s, &len) ||
	    key_type_parse(s, len, &key))
		return -EINVAL;
	if (key != p->params.key)
		return MERGE_KEY;
	if (json_str(json_get(v, "inc"), 32, &s, &len) ||
	    increment_parse(s, len, &inc))
		return -EINVAL;
	if (inc != p->params.increment)
		return MERGE_INCREMENT;
	if (shape) {
		if (json_u64(json_get(json_get(v, "par"), shape_name), 0,
			     UINT32_MAX, &n))
			return -EINVAL;
		if (n != *shape)
			return MERGE_PARAMS;
	}
	/* one of before windows says no id */
	if (json_get(win, "id") &&
	    json_u64(json_get(win, "id"), 0, VALUE_MAX, &p->window))
		return -EINVAL;
	if (json_u64(json_get(win, "len_ms"), 0, UINT32_MAX, &n) ||
	    json_u64(json_get(win, "end"), 0, VALUE_MAX, &end) ||
	    json_u64(json_get(win, "n"), 0, UINT32_MAX, &slots))
		return -EINVAL;
	if (n != p->params.window_ms)
		return MERGE_WINDOW;
	p->end_slot = end;
	p->n_slots = (uint32_t)slots;
	return 0;
}

static int get_totals(const struct json *v, struct totals *out)
{
	const struct json *tot = json_get(v, "tot");

	for (size_t i = 0; i < ARRAY_SIZE(totals_fields); i++)
		if (json_u64(json_get(tot, totals_fields[i].name), 0, VALUE_MAX,
			     (uint64_t *)((char *)out +
					  totals_fields[i].offset)))
			return -EINVAL;
	return 0;
}

static int get_column(const struct json *v, struct columns *c, const char *name)
{
	const char *s;
	size_t len;

	c->col[c->n].name = name;
	if (json_type(v) == JSON_NUMBER) {
		c->col[c->n].type = COLUMN_U64;
		if (json_u64(v, 0, UINT64_MAX, &c->col[c->n].u64))
			return -EINVAL;
		c->n++;
		return 0;
	}
	if (json_str(v, TEXT_MAX, &s, &len))
		return -EINVAL;
	c->col[c->n].type = COLUMN_BYTES;
	c->col[c->n].bytes = malloc(len / 4 * 3 + 1);
	if (!c->col[c->n].bytes)
		return -ENOMEM;
	c->n++;
	return base64_decode(s, len, c->col[c->n - 1].bytes,
			     &c->col[c->n - 1].len);
}

static int get_data(const struct json *v, struct part *p)
{
	const struct json *data = json_get(v, "data"), *value;
	struct columns c = { 0 };
	const char *name;
	int ret = -EINVAL;

	if (json_type(data) != JSON_OBJECT || json_len(data) > COLUMNS_MAX)
		return -EINVAL;
	for (size_t i = 0; (name = json_member(data, i, &value)); i++) {
		ret = get_column(value, &c, name);
		if (ret)
			goto out;
	}
	ret = part_decode(p, &c);
out:
	columns_free(&c);
	return ret;
}

/* Amounts that no host can have counted. */
static bool impossible(const struct part *p)
{
	if (p->kind == PART_POINTS) {
		for (uint32_t i = 0; i < p->points.n; i++)
			if (!p->points.v[i].saturated &&
			    p->points.v[i].upper > VALUE_MAX)
				return true;
	} else if (p->kind == PART_TOPK) {
		for (uint32_t i = 0; i < p->topk.n; i++)
			if (p->topk.row[i].upper > VALUE_MAX)
				return true;
		return p->topk.floor > VALUE_MAX;
	} else if (p->kind == PART_EXACT) {
		return p->exact.spilled > VALUE_MAX ||
		       p->exact.evicted > VALUE_MAX;
	}
	return false;
}

int part_parse(const struct json *v, const struct task_spec *task,
	       struct part **out)
{
	enum part_kind kind;
	struct part *p;
	const char *s;
	size_t len;
	int ret;

	if (json_str(json_get(v, "kind"), 32, &s, &len) ||
	    part_kind_parse(s, len, &kind))
		return -EINVAL;
	p = part_new(kind, task);
	if (!p)
		return -ENOMEM;
	ret = check_head(v, p);
	if (!ret)
		ret = check_shape(v, p);
	if (!ret)
		ret = get_totals(v, &p->totals);
	if (!ret)
		ret = get_data(v, p);
	if (!ret && impossible(p))
		ret = -EINVAL;
	if (ret) {
		part_free(p);
		return ret;
	}
	*out = p;
	return 0;
}
