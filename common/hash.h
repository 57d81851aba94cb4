/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keyed hashing: SipHash-1-3 and SipHash-2-4 with 64-bit results (Aumasson,
 * Bernstein, "SipHash: a fast short-input PRF", 2012).
 */
#ifndef LINNET_HASH_H
#define LINNET_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint8_t b[16];
};

uint64_t siphash13(const struct hash_key *k, const void *m, size_t len);
uint64_t siphash24(const struct hash_key *k, const void *m, size_t len);

/* Domain bytes: H_D(m) = SipHash-1-3(K, m || D). */
enum hash_domain {
	HASH_KEY = 0,
	HASH_PAIR = 1,
	HASH_LEVELS = 2,
	HASH_ABSENT = 3,
	HASH_SAMPLE = 4,
};
/* len <= 63 bytes. */
uint64_t hash_domain(const struct hash_key *k, const void *m, size_t len,
		     enum hash_domain d);

/* What a part says of its seed: SipHash-1-3(K, "linnet-fp"). */
uint64_t hash_fingerprint(const struct hash_key *k);

#endif
