/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment sizes of flows.
 *
 * A table of 4,096 slots, direct-mapped by a hash keyed with a local secret:
 * nobody outside can choose flows that share a slot.  A flow that shares one
 * by chance takes it over, and the other falls back to the device's MTU until
 * its next full packets: an error of the estimate, never of packets or bytes.
 * The caller owns the table.  No allocation, no failure.
 */
#include "common/segment.h"

#include <string.h>

#include "common/key.h"
#include "common/util.h"

void segment_init(struct segment_table *t, const struct hash_key *local,
		  uint32_t mtu)
{
	memset(t, 0, sizeof(*t));
	t->local = *local;
	t->mtu = mtu ? mtu : SEGMENT_MTU_DEFAULT;
}

static struct segment_slot *segment_find(struct segment_table *t,
					 const struct packet *p, uint32_t *tag)
{
	struct flow_key key;
	uint8_t m[sizeof(key.w)];
	size_t len = key_len(KEY_FLOW);
	uint64_t h;

	if (!key_build(KEY_FLOW, p, &key))
		return NULL;
	memcpy(m, key.w, len);
	m[len] = p->dir;
	h = siphash13(&t->local, m, len + 1);
	*tag = (uint32_t)(h >> 32);
	return &t->slot[h % SEGMENT_SLOTS];
}

void segment_estimate(struct segment_table *t, struct packet *p)
{
	uint32_t payload = 0, mss = 0, tag;
	struct segment_slot *s;

	p->segments = 1;
	if (p->len_bytes > p->hdr_bytes)
		payload = p->len_bytes - p->hdr_bytes;
	/* fragments say nothing about the segments of a stream */
	if (payload < SEGMENT_PAYLOAD_MIN || p->flags & PACKET_FRAGMENT)
		return;
	s = segment_find(t, p, &tag);
	if (!s)
		return;

	if (!(p->flags & PACKET_GSO)) {
		if (s->tag != tag)
			*s = (struct segment_slot){ .tag = tag };
		/* full ones come again; what a sender had just then does not */
		if (payload == s->last)
			s->mss = MAX(s->mss, payload);
		s->last = payload;
		return;
	}
	if (s->tag == tag)
		mss = s->mss;
	if (!mss && t->mtu > p->hdr_bytes)
		mss = t->mtu - p->hdr_bytes;
	if (mss)
		p->segments = (payload - 1) / mss + 1;
}
