/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interarrival jitter as RFC 3550 section 6.4.1 defines it. */
#ifndef LINNET_JITTER_H
#define LINNET_JITTER_H

#include <stdint.h>

struct jitter {
	uint32_t received, reordered;
	uint32_t next_seq;
	uint64_t last_sent_ns, last_arrived_ns;
	double ns; /* J, smoothed by 1/16 */
};

/*
 * One datagram: when it was sent by the sender's clock and when it arrived by
 * ours; the clocks need not agree.
 */
void jitter_add(struct jitter *j, uint32_t seq, uint64_t sent_ns,
		uint64_t arrived_ns);

#endif
