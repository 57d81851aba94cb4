/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F4: columns of every kind of part, as a peer may send them: decode, merge
 * with a living part from both sides, encode, decode again, compare.
 *
 * Input: 1 byte part kind, 1 byte key type, 1 byte HyperLogLog p, then columns:
 * 1 byte number of the name (128: a number), and 8 bytes of it, or 2 bytes
 * length (little endian) and the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "common/sketch/sketch.h"
#include "common/util.h"

#define HEAD       3
#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = { "lower", "lower99", "upper",   "point",
				     "null",  "keys",    "err",     "own",
				     "floor", "value",   "spilled", "evicted",
				     "hash",  "reg",     "sat",     "other" };

static size_t read_columns(struct columns *c, const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (c->n < COLUMNS_MAX && at + 1 <= size) {
		uint8_t head = data[at++];
		size_t len = 8;

		c->col[c->n].name = names[head % 16];
		if (head & 128) {
			if (size - at < len)
				break;
			c->col[c->n].type = COLUMN_U64;
			memcpy(&c->col[c->n].u64, data + at, len);
		} else {
			if (size - at < 2)
				break;
			len = data[at] | (size_t)data[at + 1] << 8;
			at += 2;
			len = MIN(len, size - at);
			c->col[c->n].type = COLUMN_BYTES;
			c->col[c->n].len = len;
			c->col[c->n].bytes = malloc(len ? len : 1);
			MUST(c->col[c->n].bytes);
			memcpy(c->col[c->n].bytes, data + at, len);
		}
		c->n++;
		at += len;
	}
	return at;
}

static bool columns_equal(const struct columns *a, const struct columns *b)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++) {
		if (strcmp(a->col[i].name, b->col[i].name) ||
		    a->col[i].type != b->col[i].type ||
		    a->col[i].u64 != b->col[i].u64 ||
		    a->col[i].len != b->col[i].len)
			return false;
		if (a->col[i].len &&
		    memcmp(a->col[i].bytes, b->col[i].bytes, a->col[i].len))
			return false;
	}
	return true;
}

static struct part *blank(enum part_kind k, const struct task_spec *t,
			  uint32_t hll_p)
{
	struct part *p = part_new(k, t);

	MUST(p);
	p->params.hll_p = hll_p;
	p->totals.weight = 1ull << 62;
	p->end_slot = 1000;
	p->n_slots = k == PART_EXACT ? 10 : 0;
	return p;
}

/* A part with some data of its own, n points where they are asked. */
static struct part *living(enum part_kind k, const struct task_spec *t,
			   uint32_t n)
{
	struct part *p = blank(k, t, 12);

	if (k == PART_POINTS) {
		p->points.v = calloc(n + 1, sizeof(*p->points.v));
		MUST(p->points.v);
		p->points.n = n;
		for (uint32_t i = 0; i < n; i++)
			p->points.v[i] = (struct interval){ 1, 2, i + 9, 3, 0 };
	}
	if (k == PART_TOPK) {
		p->topk.row = calloc(1, sizeof(*p->topk.row));
		MUST(p->topk.row);
		p->topk.row[p->topk.n++] =
			(struct topk_row){ .upper = 77, .err = 7, .own = 1 };
		p->topk.floor = 11;
	}
	if (k == PART_EXACT) {
		p->exact.row = calloc(1, sizeof(*p->exact.row));
		MUST(p->exact.row);
		p->exact.row[p->exact.n++].value = 5;
		p->exact.spilled = 3;
	}
	if (k == PART_HLL) {
		p->hll.small = calloc(1, sizeof(*p->hll.small));
		MUST(p->hll.small);
		p->hll.small[p->hll.n_small++] = 0x123456789abcdef0;
	}
	return p;
}

/* The same part by way of its columns, which must not change. */
static struct part *round_trip(const struct part *p, const struct task_spec *t)
{
	struct part *q = blank(p->kind, t, p->params.hll_p);
	struct columns a, b;

	q->totals = p->totals;
	MUST(part_encode(p, &a) == 0);
	MUST(part_decode(q, &a) == 0);
	MUST(part_encode(q, &b) == 0);
	MUST(columns_equal(&a, &b));
	columns_free(&a);
	columns_free(&b);
	return q;
}

static void read_all(struct part *p)
{
	struct distinct d;

	if (p->kind == PART_HLL) {
		hll_read(p, &d);
		MUST(d.lower <= d.estimate && d.estimate <= d.upper);
	}
	if (p->kind == PART_TOPK) {
		topk_truncate(p, 10);
		topk_cap(p, 3);
		MUST(p->topk.n <= 3);
	}
	if (p->kind == PART_EXACT)
		exact_cap(p, 2);
}

static void check(struct part *p, const struct task_spec *t)
{
	struct part *a = round_trip(p, t), *b, *c;
	struct columns x, y;

	b = living(p->kind, t, p->kind == PART_POINTS ? p->points.n : 0);
	MUST(part_merge(a, b) == 0 && part_merge(b, p) == 0);
	MUST(part_encode(a, &x) == 0 && part_encode(b, &y) == 0);
	MUST(columns_equal(&x, &y));
	c = round_trip(a, t);
	read_all(c);
	part_free(round_trip(c, t));
	part_free(a);
	part_free(b);
	part_free(c);
	columns_free(&x);
	columns_free(&y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct task_spec t = { .id = 7, .generation = 1 };
	struct columns c = { 0 };
	struct part *p;

	if (size < HEAD)
		return 0;
	t.key = (uint8_t)(1 + data[1] % (KEY_TYPES - 1));
	p = blank((enum part_kind)(data[0] % PART_KINDS), &t, 4 + data[2] % 13);
	read_columns(&c, data + HEAD, size - HEAD);
	if (part_decode(p, &c) == 0)
		check(p, &t);
	part_free(p);
	columns_free(&c);
	return 0;
}
