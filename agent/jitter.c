/* SPDX-License-Identifier: GPL-2.0-or-later */
/* J += (|D| - J) / 16, D the change of transit time between two arrivals. */
#include "agent/jitter.h"

#include <math.h>

void jitter_add(struct jitter *j, uint32_t seq, uint64_t sent_ns,
		uint64_t arrived_ns)
{
	if (j->received) {
		double between =
			(double)(int64_t)(arrived_ns - j->last_arrived_ns);
		double meant = (double)(int64_t)(sent_ns - j->last_sent_ns);

		j->ns += (fabs(between - meant) - j->ns) / 16;
	}
	if (seq < j->next_seq)
		j->reordered++;
	else
		j->next_seq = seq + 1;
	j->received++;
	j->last_sent_ns = sent_ns;
	j->last_arrived_ns = arrived_ns;
}
