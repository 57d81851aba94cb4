/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How often something happened from one address within a window of time. */
#ifndef LINNET_LIMIT_H
#define LINNET_LIMIT_H

#include <stdint.h>

#include "common/addr.h"

/* Addresses remembered: of more, the one not seen for longest is forgotten. */
#define LIMIT_ADDRS 64

struct limit {
	uint32_t window_ms;
	struct {
		struct ip_addr addr;
		uint32_t count; /* 0: free */
		uint64_t began_ms, seen_ms;
	} row[LIMIT_ADDRS];
};

void limit_init(struct limit *l, uint32_t window_ms);
/* Counts one more; returns how many it were in the address's window. */
uint32_t limit_count(struct limit *l, const struct ip_addr *a);

#endif
