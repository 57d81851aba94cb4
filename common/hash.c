/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SipHash-c-d with 64-bit results, written from the paper.  One inlined body
 * serves both round counts and an optional byte after the message, so that a
 * domain byte costs no copy.  All words are little-endian.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>

#include "common/hash.h"

#define HASH_DOMAIN_MAX 63

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t load_le64(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return le64toh(w);
}

static inline uint64_t rotl64(uint64_t x, unsigned int n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl64(s->v1, 13) ^ s->v0;
	s->v3 = rotl64(s->v3, 16) ^ s->v2;
	s->v0 = rotl64(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotl64(s->v1, 17) ^ s->v2;
	s->v3 = rotl64(s->v3, 21) ^ s->v0;
	s->v2 = rotl64(s->v2, 32);
}

static inline void sip_compress(struct sip *s, uint64_t word, int rounds)
{
	s->v3 ^= word;
	for (int i = 0; i < rounds; i++)
		sip_round(s);
	s->v0 ^= word;
}

/* last: a byte that follows the message, or -1. */
static inline __attribute__((always_inline)) uint64_t
siphash(const struct hash_key *k, const void *m, size_t len, int last, int c,
	int d)
{
	uint64_t k0 = load_le64(k->b), k1 = load_le64(k->b + 8), tail = 0;
	struct sip s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};
	const uint8_t *p = m;
	size_t rest = len % 8;

	for (size_t i = 0; i < len / 8; i++, p += 8)
		sip_compress(&s, load_le64(p), c);
	for (size_t i = 0; i < rest; i++)
		tail |= (uint64_t)p[i] << (8 * i);
	if (last >= 0) {
		tail |= (uint64_t)last << (8 * rest);
		len++;
		if (rest == 7) {
			sip_compress(&s, tail, c);
			tail = 0;
		}
	}
	sip_compress(&s, (uint64_t)len << 56 | tail, c);
	s.v2 ^= 0xff;
	for (int i = 0; i < d; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t siphash13(const struct hash_key *k, const void *m, size_t len)
{
	return siphash(k, m, len, -1, 1, 3);
}

uint64_t siphash24(const struct hash_key *k, const void *m, size_t len)
{
	return siphash(k, m, len, -1, 2, 4);
}

uint64_t hash_domain(const struct hash_key *k, const void *m, size_t len,
		     enum hash_domain d)
{
	assert(len <= HASH_DOMAIN_MAX);
	return siphash(k, m, len, (int)d, 1, 3);
}

uint64_t hash_fingerprint(const struct hash_key *k)
{
	static const char text[] = "linnet-fp";

	return siphash13(k, text, sizeof(text) - 1);
}
