/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Values are sums of what is never negative, so shares of a limit that add up
 * to it make silence mean something: if all have at most theirs, all together
 * are not over.  Silence is only that of who would have spoken: whoever cannot
 * count says so, and who is not heard is not silent.  Who is over says so at
 * once, and what it has at most when it has heard all below it.
 */
#include "agent/tree/alarm.h"

#include "common/util.h"

#define SETTLE_MS 2000 /* its read, and what it says of it */
#define LEVEL_MS  1600 /* a beat, and what follows if there is none */

static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

enum alarm_verdict alarm_judge(const struct alarm_case *c,
			       struct alarm_sum *out)
{
	bool blind = !c->own_known || c->lost, unheard = false;
	uint64_t least = c->own_known ? c->own : 0, most = least;

	for (unsigned i = 0; i < c->n; i++) {
		const struct alarm_child *x = &c->child[i];

		least = plus(least, x->said ? x->least : 0);
		most = plus(most, x->said ? x->most : x->share);
		blind |= x->said && x->blind;
		unheard |= x->said ? !x->sure : !x->heard;
	}
	*out = (struct alarm_sum){ least, most, !blind && !unheard };
	if (least > c->limit)
		return ALARM_OVER;
	if (blind)
		return ALARM_BLIND;
	if (most > c->limit)
		return ALARM_ASK;
	if (unheard)
		return c->late ? ALARM_BLIND : ALARM_WAIT;
	return ALARM_QUIET;
}

uint64_t alarm_share(uint64_t limit, uint32_t hosts, uint32_t all)
{
	unsigned __int128 v = (unsigned __int128)limit * MIN(hosts, all);

	return (uint64_t)(v / MAX(all, 1));
}

uint64_t alarm_settle_ms(uint32_t height)
{
	return SETTLE_MS + (uint64_t)LEVEL_MS * height;
}
