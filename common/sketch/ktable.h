/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table of keys in caller's memory: a dense pool of entries in insertion
 * order, and behind it, private, a Robin Hood index.  The pool is a function of
 * the stream alone; the index is laid out by a local secret.
 */
#ifndef LINNET_SKETCH_KTABLE_H
#define LINNET_SKETCH_KTABLE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"
#include "common/key.h"

/*
 * Embedded in the head of a sketch, the pool at its end.  An entry is
 * key_words words of key, then value_words of the owner's.
 */
struct ktable {
	uint32_t n, cap;
	uint32_t key_words, entry_words;
	uint32_t index_bits;
	uint32_t wide;      /* index slots of 4 bytes instead of 2 */
	uint64_t index_off; /* from this struct; so are the next two */
	uint64_t hash_off;
	uint64_t secret_off;
	uint64_t reserved[2]; /* a cache line */
};
static_assert(sizeof(struct ktable) == 64, "pools start on a line");

/* Bytes of struct, pool and index together, a multiple of 64. */
size_t ktable_size(uint32_t cap, uint32_t key_words, uint32_t value_words);
/* t lies in zeroed memory; only the struct and the secret are written. */
void ktable_init(struct ktable *t, uint32_t cap, uint32_t key_words,
		 uint32_t value_words, const struct hash_key *local);
/* Bytes of struct and used entries: what an image holds. */
size_t ktable_image_len(const struct ktable *t);
/* An image: shaped as these numbers say, and len bytes from t on. */
bool ktable_image_valid(const struct ktable *t, size_t len, uint32_t cap,
			uint32_t key_words, uint32_t value_words);

/* Entry number i < n; its values start at word key_words. */
static inline uint64_t *ktable_entry(struct ktable *t, uint32_t i)
{
	return (uint64_t *)(void *)(t + 1) + (size_t)i * t->entry_words;
}

static inline const uint64_t *ktable_read(const struct ktable *t, uint32_t i)
{
	return (const uint64_t *)(const void *)(t + 1) +
	       (size_t)i * t->entry_words;
}

/* The entry's key in the form of the other modules. */
void ktable_key(const struct ktable *t, const uint64_t *entry,
		struct flow_key *out);
/* Values of the key, NULL if absent.  hash: of the key, 64 bits. */
uint64_t *ktable_find(struct ktable *t, const struct flow_key *key,
		      uint64_t hash);
/* Adds an absent key at the end of a pool with room; values are not set. */
uint64_t *ktable_insert(struct ktable *t, const struct flow_key *key,
			uint64_t hash);
/* Gives entry i to another, absent key; values are not set. */
uint64_t *ktable_replace(struct ktable *t, uint32_t i,
			 const struct flow_key *key, uint64_t hash);
/* Drops every entry whose first value is <= limit and closes up the pool. */
void ktable_purge(struct ktable *t, uint64_t limit);
/* Longest way from home of any key, in index slots. */
uint32_t ktable_longest_probe(const struct ktable *t);

#endif
