/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which packets a task counts. */
#ifndef LINNET_FILTER_H
#define LINNET_FILTER_H

#include <stdbool.h>

#include "common/packet.h"

/* Plain data without padding that matters: compared, hashed, sent as it is. */
struct filter {
	uint8_t dir;               /* enum packet_dir */
	uint8_t family;            /* 0 both, 4, 6 */
	uint8_t proto;             /* 0 any */
	uint8_t has_src, has_dst;  /* 0 or 1 */
	uint8_t reserved[3];       /* 0 */
	struct ip_prefix src, dst; /* all zero when not set */
};

/*
 * Makes a filter canonical: family from proto (icmp 4, icmpv6 6) and
 * addresses.  -EINVAL when they contradict each other (src of another family
 * than dst, icmp with an IPv6 address); f unchanged then.
 */
int filter_normalize(struct filter *f);
bool filter_match(const struct filter *f, const struct packet *p);
bool filter_equal(const struct filter *a, const struct filter *b);
/* Every packet that inner matches, outer matches (may say no when unsure). */
bool filter_covers(const struct filter *outer, const struct filter *inner);
/* True if all members are in range and canonical: for bytes from outside. */
bool filter_valid(const struct filter *f);

#endif
