/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters: which packets a task counts.
 *
 * A filter is canonical when what its parts imply is written out: addresses
 * and the ICMPs fix the family.  Then matching is a comparison per part, and
 * equal filters are equal bytes.  Plain values, nothing owned.
 *
 * Limits: one protocol, one prefix at each end; no ports.
 */
#include "common/filter.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* memcmp() and the wire need a struct without holes */
static_assert(sizeof(struct filter) == 8 + 2 * 17, "padding in struct filter");

static uint8_t prefix_family(const struct ip_prefix *p)
{
	return addr_is_v4(&p->addr) ? 4 : 6;
}

static uint8_t proto_family(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_ICMP:
		return 4;
	case IPPROTO_ICMPV6:
		return 6;
	default:
		return 0;
	}
}

/* Takes over a family that one more part implies; false: contradiction. */
static bool family_join(uint8_t *family, uint8_t implied)
{
	if (implied && *family && *family != implied)
		return false;
	if (implied)
		*family = implied;
	return true;
}

int filter_normalize(struct filter *f)
{
	uint8_t family = f->family;

	if (!family_join(&family, proto_family(f->proto)))
		return -EINVAL;
	if (f->has_src && !family_join(&family, prefix_family(&f->src)))
		return -EINVAL;
	if (f->has_dst && !family_join(&family, prefix_family(&f->dst)))
		return -EINVAL;

	f->family = family;
	memset(f->reserved, 0, sizeof(f->reserved));
	if (!f->has_src)
		f->src = (struct ip_prefix){ 0 };
	if (!f->has_dst)
		f->dst = (struct ip_prefix){ 0 };
	return 0;
}

bool filter_match(const struct filter *f, const struct packet *p)
{
	if (f->dir != p->dir)
		return false;
	if (f->family && f->family != p->family)
		return false;
	if (f->proto && f->proto != p->proto)
		return false;
	if (f->has_src && !prefix_contains(&f->src, &p->src))
		return false;
	return !f->has_dst || prefix_contains(&f->dst, &p->dst);
}

bool filter_equal(const struct filter *a, const struct filter *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool filter_covers(const struct filter *outer, const struct filter *inner)
{
	if (outer->dir != inner->dir)
		return false;
	if (outer->family && outer->family != inner->family)
		return false;
	if (outer->proto && outer->proto != inner->proto)
		return false;
	if (outer->has_src &&
	    !(inner->has_src && prefix_covers(&outer->src, &inner->src)))
		return false;
	return !outer->has_dst ||
	       (inner->has_dst && prefix_covers(&outer->dst, &inner->dst));
}

/* Length in range, IPv4 prefixes within IPv4, host bits zero. */
static bool prefix_valid(const struct ip_prefix *p)
{
	unsigned int bit = p->len;

	if (p->len > 128 || (addr_is_v4(&p->addr) && p->len < 96))
		return false;
	for (; bit < 128; bit++) {
		if (p->addr.b[bit / 8] & (0x80 >> bit % 8))
			return false;
	}
	return true;
}

bool filter_valid(const struct filter *f)
{
	struct filter canonical = *f;

	if (f->dir >= PACKET_DIRS || f->has_src > 1 || f->has_dst > 1)
		return false;
	if (f->family != 0 && f->family != 4 && f->family != 6)
		return false;
	if (!prefix_valid(&f->src) || !prefix_valid(&f->dst))
		return false;
	return !filter_normalize(&canonical) && filter_equal(&canonical, f);
}
