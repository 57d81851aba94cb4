// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Key table.  Memory: struct, pool of cap entries, secret, one 32-bit hash per
 * entry, index of at least 2 cap slots (position + 1; 0 is empty, so that fresh
 * zero pages are an empty table).  Home slots come from the hash of the key
 * mixed with the secret: who knows the seed of the fleet still does not know
 * where keys land.  The mixed hash is kept per entry because an evicted entry
 * must be found in the index without the seed, and because comparing it first
 * spares most looks into the pool.
 *
 * Robin Hood: a key may push away a resident closer to its home, hence all keys
 * are near home, and a search ends at the first resident nearer than it.
 */
#include "common/sketch/ktable.h"

#include <assert.h>
#include <string.h>

struct secret {
	uint64_t add, mul;
};

static size_t round_up(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

static struct ktable shape(uint32_t cap, uint32_t key_words,
			   uint32_t value_words)
{
	struct ktable t = {
		.cap = cap,
		.key_words = key_words,
		.entry_words = key_words + value_words,
		.wide = cap >= UINT16_MAX,
	};

	while (1ull << t.index_bits < 2ull * cap)
		t.index_bits++;
	t.secret_off = round_up(sizeof(t) + (size_t)8 * t.entry_words * cap);
	t.hash_off = t.secret_off + sizeof(struct secret);
	t.index_off = round_up(t.hash_off + sizeof(uint32_t) * (size_t)cap);
	return t;
}

static size_t index_len(const struct ktable *t)
{
	return (size_t)(t->wide ? 4 : 2) << t->index_bits;
}

size_t ktable_size(uint32_t cap, uint32_t key_words, uint32_t value_words)
{
	struct ktable t = shape(cap, key_words, value_words);

	return round_up(t.index_off + index_len(&t));
}

void ktable_init(struct ktable *t, uint32_t cap, uint32_t key_words,
		 uint32_t value_words, const struct hash_key *local)
{
	struct secret s;

	*t = shape(cap, key_words, value_words);
	memcpy(&s, local->b, sizeof(s));
	s.mul |= 1;
	memcpy((char *)t + t->secret_off, &s, sizeof(s));
}

size_t ktable_image_len(const struct ktable *t)
{
	return sizeof(*t) + (size_t)8 * t->entry_words * t->n;
}

bool ktable_image_valid(const struct ktable *t, size_t len, uint32_t cap,
			uint32_t key_words, uint32_t value_words)
{
	struct ktable want = shape(cap, key_words, value_words);

	if (len < sizeof(*t) || t->n > cap)
		return false;
	want.n = t->n;
	return memcmp(t, &want, sizeof(want)) == 0 &&
	       len == ktable_image_len(t);
}

void ktable_key(const struct ktable *t, const uint64_t *entry,
		struct flow_key *out)
{
	*out = (struct flow_key){ 0 };
	memcpy(out->w, entry, (size_t)8 * t->key_words);
}

static uint32_t *hashes(const struct ktable *t)
{
	return (uint32_t *)(void *)((char *)(uintptr_t)t + t->hash_off);
}

static uint32_t slot_get(const struct ktable *t, uint32_t s)
{
	const void *index = (const char *)t + t->index_off;

	return t->wide ? ((const uint32_t *)index)[s]
		       : ((const uint16_t *)index)[s];
}

static void slot_set(struct ktable *t, uint32_t s, uint32_t v)
{
	void *index = (char *)t + t->index_off;

	if (t->wide)
		((uint32_t *)index)[s] = v;
	else
		((uint16_t *)index)[s] = (uint16_t)v;
}

static uint32_t mix(const struct ktable *t, uint64_t hash)
{
	const struct secret *s =
		(const void *)((const char *)t + t->secret_off);

	return (uint32_t)(((hash ^ s->add) * s->mul) >> 32);
}

static uint32_t slot_mask(const struct ktable *t)
{
	return (1u << t->index_bits) - 1;
}

static uint32_t home(const struct ktable *t, uint32_t h)
{
	return h >> (32 - t->index_bits);
}

/* How far slot s is from the home of hash h. */
static uint32_t distance(const struct ktable *t, uint32_t s, uint32_t h)
{
	return (s - home(t, h)) & slot_mask(t);
}

static bool key_equal(const uint64_t *a, const uint64_t *b, uint32_t words)
{
	uint64_t diff = 0;

	for (uint32_t i = 0; i < words; i++)
		diff |= a[i] ^ b[i];
	return diff == 0;
}

uint64_t *ktable_find(struct ktable *t, const struct flow_key *key,
		      uint64_t hash)
{
	const uint32_t *hv = hashes(t);
	uint32_t h = mix(t, hash), mask = slot_mask(t), s = home(t, h);

	for (uint32_t d = 0;; d++, s = (s + 1) & mask) {
		uint32_t i = slot_get(t, s);

		if (i-- == 0)
			return NULL;
		if (hv[i] == h) {
			uint64_t *e = ktable_entry(t, i);

			if (key_equal(e, key->w, t->key_words))
				return e + t->key_words;
		}
		if (distance(t, s, hv[i]) < d)
			return NULL;
	}
}

/* Puts entry i, whose hash is in place, into the index. */
static void index_add(struct ktable *t, uint32_t i)
{
	const uint32_t *hv = hashes(t);
	uint32_t mask = slot_mask(t), s = home(t, hv[i]), d = 0;

	for (;; d++, s = (s + 1) & mask) {
		uint32_t r = slot_get(t, s);

		if (r == 0) {
			slot_set(t, s, i + 1);
			return;
		}
		if (distance(t, s, hv[r - 1]) < d) {
			d = distance(t, s, hv[r - 1]);
			slot_set(t, s, i + 1);
			i = r - 1;
		}
	}
}

static void index_remove(struct ktable *t, uint32_t i)
{
	const uint32_t *hv = hashes(t);
	uint32_t mask = slot_mask(t), s = home(t, hv[i]);

	while (slot_get(t, s) != i + 1)
		s = (s + 1) & mask;
	for (;;) {
		uint32_t next = (s + 1) & mask, r = slot_get(t, next);

		if (r == 0 || distance(t, next, hv[r - 1]) == 0)
			break;
		slot_set(t, s, r);
		s = next;
	}
	slot_set(t, s, 0);
}

static uint64_t *entry_fill(struct ktable *t, uint32_t i,
			    const struct flow_key *key, uint64_t hash)
{
	uint64_t *e = ktable_entry(t, i);

	for (uint32_t k = 0; k < t->key_words; k++)
		e[k] = key->w[k];
	hashes(t)[i] = mix(t, hash);
	index_add(t, i);
	return e + t->key_words;
}

uint64_t *ktable_insert(struct ktable *t, const struct flow_key *key,
			uint64_t hash)
{
	assert(t->n < t->cap);
	return entry_fill(t, t->n++, key, hash);
}

uint64_t *ktable_replace(struct ktable *t, uint32_t i,
			 const struct flow_key *key, uint64_t hash)
{
	index_remove(t, i);
	return entry_fill(t, i, key, hash);
}

void ktable_purge(struct ktable *t, uint64_t limit)
{
	uint32_t *hv = hashes(t), kept = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		const uint64_t *e = ktable_entry(t, i);

		if (e[t->key_words] <= limit)
			continue;
		if (kept != i) {
			memcpy(ktable_entry(t, kept), e,
			       (size_t)8 * t->entry_words);
			hv[kept] = hv[i];
		}
		kept++;
	}
	t->n = kept;
	memset((char *)t + t->index_off, 0, index_len(t));
	for (uint32_t i = 0; i < kept; i++)
		index_add(t, i);
}

uint32_t ktable_longest_probe(const struct ktable *t)
{
	const uint32_t *hv = hashes(t);
	uint32_t longest = 0;

	for (uint32_t s = 0; s <= slot_mask(t); s++) {
		uint32_t i = slot_get(t, s);
		uint32_t d = i ? distance(t, s, hv[i - 1]) : 0;

		if (d > longest)
			longest = d;
	}
	return longest;
}
