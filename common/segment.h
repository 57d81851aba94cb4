/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many wire packets a super-packet (GRO, GSO) stands for, estimated from
 * the plain packets of the same flow and direction.
 */
#ifndef LINNET_SEGMENT_H
#define LINNET_SEGMENT_H

#include <stdint.h>

#include "common/hash.h"
#include "common/packet.h"

#define SEGMENT_SLOTS       4096  /* direct-mapped: a newer flow evicts */
#define SEGMENT_MTU_DEFAULT 1500u /* when the device is not known */
#define SEGMENT_PAYLOAD_MIN 536u  /* less says nothing about the MSS */

/* One a reader, memory from its owner. */
struct segment_table {
	struct hash_key local; /* secret that no other process knows */
	uint32_t mtu;
	struct segment_slot {
		uint32_t tag;  /* which flow */
		uint32_t mss;  /* largest payload seen twice in a row, or 0 */
		uint32_t last; /* payload */
	} slot[SEGMENT_SLOTS];
};

/* An empty table; mtu 0 means SEGMENT_MTU_DEFAULT. */
void segment_init(struct segment_table *t, const struct hash_key *local,
		  uint32_t mtu);
/*
 * Sets p->segments: 1, or for a super-packet its payload divided by the flow's
 * segment size, rounded up.  Learns from plain packets.
 */
void segment_estimate(struct segment_table *t, struct packet *p);

/* Header bytes of the wire packets that the super-packet hides. */
static inline uint64_t segment_hidden_bytes(const struct packet *p)
{
	return (uint64_t)(p->segments - 1) * p->hdr_bytes;
}

#endif
