/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts per address, in windows that begin with the first event.  A table of
 * fixed size searched in order: few addresses talk to an agent, and somebody
 * with many addresses only makes it forget.
 */
#include <string.h>

#include "agent/limit.h"
#include "common/util.h"

void limit_init(struct limit *l, uint32_t window_ms)
{
	memset(l, 0, sizeof(*l));
	l->window_ms = window_ms;
}

uint32_t limit_count(struct limit *l, const struct ip_addr *a)
{
	uint64_t now = clock_mono_ms();
	unsigned at = 0;

	for (unsigned i = 0; i < LIMIT_ADDRS; i++) {
		if (l->row[i].count > 0 && addr_equal(&l->row[i].addr, a)) {
			at = i;
			break;
		}
		if (l->row[i].seen_ms < l->row[at].seen_ms)
			at = i;
	}
	if (l->row[at].count == 0 || !addr_equal(&l->row[at].addr, a) ||
	    now - l->row[at].began_ms >= l->window_ms) {
		l->row[at].addr = *a;
		l->row[at].count = 0;
		l->row[at].began_ms = now;
	}
	l->row[at].seen_ms = now;
	if (l->row[at].count < UINT32_MAX)
		l->row[at].count++;
	return l->row[at].count;
}
