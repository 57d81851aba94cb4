// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bounded table of exact real-time counters.  Every key has a ring of 16 cells
 * of 100 ms; ten closed ones make "the last second", one is open, five are
 * slack for queries under way.  Nothing is cleared by reading: a cell is valid
 * by its number.  When all entries are taken, keys silent for a ring are
 * replaced first, then the smallest of the eight under the clock hand; what the
 * evicted had goes to 16 cells of "spilled", so that the sum stays exact.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/ktable.h"
#include "common/sketch/ops.h"
#include "common/util.h"

#define RING   16
#define WINDOW 10 /* closed slots of a value */
#define HAND   8  /* entries a clock hand looks at */

struct exact {
	struct sketch_head head;
	uint64_t slot;        /* newest seen */
	uint64_t hand, looks; /* under the clock hand: now, so far */
	uint64_t spilled_last;
	uint64_t spilled[RING];
	uint32_t evicted[RING]; /* entries, by their newest slot */
	uint64_t reserved[5];
	struct ktable t;
};
static_assert(sizeof(struct exact) == 384, "the pool starts on a line");

/* Values of an entry. */
struct counter {
	uint64_t last; /* newest slot in the ring */
	uint32_t cell[RING];
};
#define COUNTER_WORDS (sizeof(struct counter) / 8)

static uint32_t key_words(uint32_t key)
{
	return (uint32_t)(key_stored_len((enum key_type)key) / 8);
}

static size_t exact_size(const struct sketch_params *p)
{
	assert(p->exact_cap >= 1 && p->exact_cap <= 1u << 20);
	return offsetof(struct exact, t) +
	       ktable_size(p->exact_cap, key_words(p->key), COUNTER_WORDS);
}

static void exact_init(void *mem, const struct hash_key *local)
{
	struct exact *s = mem;

	ktable_init(&s->t, s->head.shape.exact_cap,
		    key_words(s->head.shape.key), COUNTER_WORDS, local);
}

/* What the entry still has in the ring that ends with slot g >= its last. */
static uint64_t counter_sum(const struct counter *c, uint64_t g)
{
	uint64_t age = g - c->last, sum = 0;

	if (age >= RING)
		return 0;
	/* all without a branch: eight are summed for every eviction */
	for (int i = 0; i < RING; i++)
		sum += c->cell[i];
	for (uint64_t k = RING - age; k < RING; k++)
		sum -= c->cell[(c->last - k) % RING];
	return sum;
}

static void counter_advance(struct counter *c, uint64_t g)
{
	if (g - c->last >= RING)
		memset(c->cell, 0, sizeof(c->cell));
	else
		for (uint64_t s = c->last + 1; s <= g; s++)
			c->cell[s % RING] = 0;
	c->last = g;
}

static void spill(struct exact *s, const struct counter *c)
{
	uint64_t g = s->slot, age = g - c->last;

	if (g - s->spilled_last >= RING) {
		memset(s->spilled, 0, sizeof(s->spilled));
		memset(s->evicted, 0, sizeof(s->evicted));
	} else {
		for (uint64_t i = s->spilled_last + 1; i <= g; i++)
			s->spilled[i % RING] = s->evicted[i % RING] = 0;
	}
	s->spilled_last = g;
	/* 2^32 evictions of full cells in 1.6 s do not happen: no overflow */
	for (uint64_t k = 0; age + k < RING; k++)
		s->spilled[(c->last - k) % RING] +=
			c->cell[(c->last - k) % RING];
	s->evicted[c->last % RING]++;
}

/* The entry that a new key takes over in a full pool. */
static uint32_t make_room(struct exact *s)
{
	uint64_t least = UINT64_MAX;
	uint32_t victim = 0, looks = MIN(HAND, s->t.n);

	for (uint32_t k = 0; k < looks; k++) {
		uint32_t i = (uint32_t)s->hand;
		const struct counter *c =
			(const void *)(ktable_entry(&s->t, i) + s->t.key_words);
		uint64_t sum = counter_sum(c, s->slot);

		s->hand = i + 1 < s->t.n ? i + 1 : 0;
		s->looks++;
		if (s->slot - c->last >= RING)
			return i;
		if (sum < least) {
			least = sum;
			victim = i;
		}
	}
	spill(s, (const void *)(ktable_entry(&s->t, victim) + s->t.key_words));
	return victim;
}

static struct counter *admit(struct exact *s, const struct sketch_item *it)
{
	struct counter *c;

	if (s->t.n < s->t.cap)
		c = (void *)ktable_insert(&s->t, &it->key, it->hash);
	else
		c = (void *)ktable_replace(&s->t, make_room(s), &it->key,
					   it->hash);
	*c = (struct counter){ .last = s->slot };
	return c;
}

static void exact_update(void *mem, const struct sketch_item *it)
{
	struct exact *s = mem;
	struct counter *c;
	uint32_t *cell;

	if (it->slot > s->slot)
		s->slot = it->slot;
	c = (void *)ktable_find(&s->t, &it->key, it->hash);
	if (!c)
		c = admit(s, it);
	else if (c->last != s->slot)
		counter_advance(c, s->slot);
	cell = &c->cell[s->slot % RING];
	if (it->weight > UINT32_MAX - *cell) {
		*cell = UINT32_MAX;
		s->head.saturated = 1;
	} else {
		*cell += (uint32_t)it->weight;
	}
}

static size_t exact_image_len(const void *mem)
{
	const struct exact *s = mem;

	return offsetof(struct exact, t) + ktable_image_len(&s->t);
}

/* Who is evicted was looked at, in a full pool: a look counts as a move. */
static void exact_image_moves(const void *mem, struct sketch_moves *out)
{
	const struct exact *s = mem;

	*out = (struct sketch_moves){
		.n = s->looks,
		.places = s->t.cap,
		.first = sizeof(*s),
		.step = s->t.entry_words * sizeof(uint64_t),
		.head_len = sizeof(*s),
	};
}

static bool exact_image_valid(const void *img, size_t len)
{
	const struct exact *s = img;

	return len >= sizeof(*s) &&
	       ktable_image_valid(&s->t, len - offsetof(struct exact, t),
				  s->head.shape.exact_cap,
				  key_words(s->head.shape.key), COUNTER_WORDS);
}

const struct sketch_ops exact_ops = {
	.name = "exact",
	.size = exact_size,
	.init = exact_init,
	.update = exact_update,
	.image_len = exact_image_len,
	.image_moves = exact_image_moves,
	.image_valid = exact_image_valid,
};

/* A ring may end before the window does, never more than a ring later. */
static uint64_t counter_value(const struct counter *c, uint64_t end)
{
	uint64_t sum = 0;

	for (uint64_t k = 0; k < WINDOW && k <= end; k++)
		if (end - k <= c->last)
			sum += c->cell[(end - k) % RING];
	return sum;
}

static int compare_row(const void *a, const void *b)
{
	const struct exact_row *x = a, *y = b;

	return sketch_key_compare(&x->key, &y->key);
}

/* Largest value first. */
static int compare_rank(const void *a, const void *b)
{
	const struct exact_row *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return compare_row(a, b);
}

/* Entries that were copied after the head may be ahead of it. */
static uint64_t newest_slot(const struct exact *s)
{
	uint64_t newest = s->slot;

	for (uint32_t i = 0; i < s->t.n; i++) {
		const struct counter *c =
			(const void *)(ktable_read(&s->t, i) + s->t.key_words);

		newest = MAX(newest, c->last);
	}
	return newest;
}

int part_exact(const struct task_spec *t, const void *exact, uint64_t end_slot,
	       struct part **out)
{
	const struct exact *s = exact;
	uint64_t newest = newest_slot(s);
	struct part *p;

	/* slots end - 9 … end must be among the last 16 */
	if (end_slot < newest && newest - end_slot > RING - WINDOW)
		return EXACT_TOO_OLD;
	p = part_new(PART_EXACT, t);
	if (!p)
		return -ENOMEM;
	p->exact.row = calloc(MAX(s->t.n, 1), sizeof(*p->exact.row));
	if (!p->exact.row) {
		part_free(p);
		return -ENOMEM;
	}
	p->exact.cap = MAX(s->t.n, 1);
	p->end_slot = end_slot;
	p->n_slots = WINDOW;
	for (uint32_t i = 0; i < s->t.n; i++) {
		const uint64_t *e = ktable_read(&s->t, i);
		struct exact_row *row = &p->exact.row[p->exact.n];

		row->value = counter_value((const void *)(e + s->t.key_words),
					   end_slot);
		if (row->value == 0)
			continue;
		ktable_key(&s->t, e, &row->key);
		p->exact.n++;
	}
	qsort(p->exact.row, p->exact.n, sizeof(*p->exact.row), compare_row);
	for (uint64_t k = 0; k < WINDOW && k <= end_slot; k++)
		if (end_slot - k <= s->spilled_last)
			p->exact.spilled += s->spilled[(end_slot - k) % RING];
	/* what was seen after the window may have been in it, too */
	for (uint64_t i = end_slot - MIN(end_slot, WINDOW - 1);
	     i <= s->spilled_last; i++)
		p->exact.evicted += s->evicted[i % RING];
	p->saturated = s->head.saturated;
	*out = p;
	return 0;
}

void exact_cap(struct part *p, uint32_t cap)
{
	if (p->exact.n <= cap)
		return;
	qsort(p->exact.row, p->exact.n, sizeof(*p->exact.row), compare_rank);
	for (uint32_t i = cap; i < p->exact.n; i++) {
		p->exact.spilled = u64_add_sat(
			p->exact.spilled, p->exact.row[i].value, &p->saturated);
		p->exact.evicted++;
	}
	p->exact.n = cap;
	qsort(p->exact.row, cap, sizeof(*p->exact.row), compare_row);
}
