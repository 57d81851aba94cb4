// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Heavy keys: weighted Misra-Gries in its Space-Saving form.  A row {u, err}
 * says that the truth lies in [u - err, u]; a key without a row has at most
 * "floor".  A full table is purged at the median of all u: half of the rows go,
 * the floor rises to the median, nothing is subtracted.  The median is exact
 * and found without scratch memory, so that the state is a function of the
 * stream alone.  A purge visits the whole pool (some 0.1 ms); it comes at most
 * once in c/2 new keys.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/ktable.h"
#include "common/sketch/ops.h"
#include "common/util.h"

struct topk {
	struct sketch_head head;
	uint64_t floor;
	struct ktable t;
};
static_assert(sizeof(struct topk) == 128, "the pool starts on a line");

/* Values of an entry; ktable_purge() wants u first. */
struct counter {
	uint64_t u, err;
};
#define COUNTER_WORDS (sizeof(struct counter) / 8)

static uint32_t key_words(uint32_t key)
{
	return (uint32_t)(key_stored_len((enum key_type)key) / 8);
}

static uint32_t entries(uint32_t slots)
{
	return slots / 8 * 7;
}

static size_t topk_size(const struct sketch_params *p)
{
	assert(p->topk_slots >= 8 && p->topk_slots <= 1u << 20);
	return offsetof(struct topk, t) + ktable_size(entries(p->topk_slots),
						      key_words(p->key),
						      COUNTER_WORDS);
}

static void topk_init(void *mem, const struct hash_key *local)
{
	struct topk *s = mem;

	ktable_init(&s->t, entries(s->head.shape.topk_slots),
		    key_words(s->head.shape.key), COUNTER_WORDS, local);
}

/* The u of rank n/2, ascending from 0: radix selection, one byte a pass. */
static uint64_t median(const struct ktable *t)
{
	uint64_t all = 0, prefix = 0, mask = 0;
	uint32_t rank = t->n / 2;
	int shift = 56;

	for (uint32_t i = 0; i < t->n; i++)
		all |= ktable_read(t, i)[t->key_words];
	while (shift > 0 && all >> shift == 0)
		shift -= 8;
	for (; shift >= 0; shift -= 8) {
		uint32_t count[256] = { 0 }, b = 0;

		for (uint32_t i = 0; i < t->n; i++) {
			uint64_t u = ktable_read(t, i)[t->key_words];

			if ((u & mask) == prefix)
				count[u >> shift & 0xff]++;
		}
		while (rank >= count[b])
			rank -= count[b++];
		prefix |= (uint64_t)b << shift;
		/* bytes above the first shift are zero in all */
		mask |= (uint64_t)0xff << shift;
	}
	return prefix;
}

static void topk_update(void *mem, const struct sketch_item *it)
{
	struct topk *s = mem;
	struct counter *c = (void *)ktable_find(&s->t, &it->key, it->hash);
	bool saturated = false;

	if (!c) {
		if (s->t.n == s->t.cap) {
			s->floor = median(&s->t);
			ktable_purge(&s->t, s->floor);
			s->head.epoch++;
		}
		c = (void *)ktable_insert(&s->t, &it->key, it->hash);
		c->u = s->floor;
		c->err = s->floor;
	}
	c->u = u64_add_sat(c->u, it->weight, &saturated);
	if (saturated)
		s->head.saturated = 1;
}

static size_t topk_image_len(const void *mem)
{
	const struct topk *s = mem;

	return offsetof(struct topk, t) + ktable_image_len(&s->t);
}

/* Keys that came meanwhile are in the copy, too: they may be above the floor. */
static void topk_image_moves(const void *mem, struct sketch_moves *out)
{
	(void)mem;
	out->head_len = sizeof(struct topk);
}

static bool topk_image_valid(const void *img, size_t len)
{
	const struct topk *s = img;

	if (len < sizeof(*s) ||
	    !ktable_image_valid(&s->t, len - offsetof(struct topk, t),
				entries(s->head.shape.topk_slots),
				key_words(s->head.shape.key), COUNTER_WORDS))
		return false;
	for (uint32_t i = 0; i < s->t.n; i++) {
		const struct counter *c =
			(const void *)(ktable_read(&s->t, i) + s->t.key_words);

		if (c->err > c->u || c->err > s->floor)
			return false;
	}
	return true;
}

const struct sketch_ops topk_ops = {
	.name = "topk",
	.size = topk_size,
	.init = topk_init,
	.update = topk_update,
	.image_len = topk_image_len,
	.image_moves = topk_image_moves,
	.image_valid = topk_image_valid,
};

static int compare_row(const void *a, const void *b)
{
	const struct topk_row *x = a, *y = b;

	return sketch_key_compare(&x->key, &y->key);
}

/* What is kept first: own, then large, then by key. */
static int compare_rank(const void *a, const void *b)
{
	const struct topk_row *x = a, *y = b;

	if (x->own != y->own)
		return x->own ? -1 : 1;
	if (x->upper != y->upper)
		return x->upper < y->upper ? 1 : -1;
	return compare_row(a, b);
}

struct topk_row *topk_rows(const void *img, uint64_t t_cut, uint32_t *n,
			   uint64_t *floor)
{
	const struct topk *s = img;
	struct topk_row *row = calloc(MAX(s->t.n, 1), sizeof(*row));
	uint64_t f = s->floor;
	uint32_t kept = 0;

	if (!row)
		return NULL;
	for (uint32_t i = 0; i < s->t.n; i++) {
		const uint64_t *e = ktable_read(&s->t, i);
		const struct counter *c = (const void *)(e + s->t.key_words);

		if (c->u < t_cut) {
			f = MAX(f, c->u);
			continue;
		}
		ktable_key(&s->t, e, &row[kept].key);
		row[kept].upper = c->u;
		row[kept].err = c->err;
		kept++;
	}
	qsort(row, kept, sizeof(*row), compare_row);
	*n = kept;
	*floor = f;
	return row;
}

int part_topk(const struct task_spec *t, const void *topk, uint64_t t_cut,
	      uint64_t t_own, struct part **out)
{
	const struct topk *s = topk;
	struct part *p = part_new(PART_TOPK, t);

	if (!p)
		return -ENOMEM;
	p->topk.row = topk_rows(topk, t_cut, &p->topk.n, &p->topk.floor);
	if (!p->topk.row) {
		part_free(p);
		return -ENOMEM;
	}
	p->topk.cap = MAX(s->t.n, 1);
	for (uint32_t i = 0; i < p->topk.n; i++)
		p->topk.row[i].own = p->topk.row[i].upper > t_own;
	p->saturated = s->head.saturated;
	*out = p;
	return 0;
}

void topk_truncate(struct part *p, uint64_t t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < p->topk.n; i++) {
		const struct topk_row *r = &p->topk.row[i];

		if (r->upper < t)
			p->topk.floor = MAX(p->topk.floor, r->upper);
		else
			p->topk.row[kept++] = *r;
	}
	p->topk.n = kept;
}

void topk_cap(struct part *p, uint32_t cap)
{
	if (p->topk.n <= cap)
		return;
	qsort(p->topk.row, p->topk.n, sizeof(*p->topk.row), compare_rank);
	for (uint32_t i = cap; i < p->topk.n; i++)
		p->topk.floor = MAX(p->topk.floor, p->topk.row[i].upper);
	p->topk.n = cap;
	qsort(p->topk.row, cap, sizeof(*p->topk.row), compare_row);
}
