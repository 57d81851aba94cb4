/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree that finds itself: any member tells where there is room.  The seeds
 * are tried in the order given; which of them is meant to be the root does not
 * matter to those who join.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/member/member.h"
#include "common/util.h"

struct member {
	size_t n;
	struct endpoint seed[CONF_CHILDREN];
};

int join_open(struct member **out, const struct conf *c,
	      bool (*is_self)(const struct conf *c, const struct endpoint *ep))
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_seeds; i++)
		if (!is_self(c, &c->seeds[i]))
			m->seed[m->n++] = c->seeds[i];
	*out = m;
	return 0;
}

static int join_parents(struct member *m, struct endpoint *out, size_t max)
{
	size_t n = MIN(m->n, max);

	static_assert(CONF_CHILDREN <= TREE_SEEDS, "each is asked");
	memcpy(out, m->seed, n * sizeof(*out));
	return (int)n;
}

static uint64_t join_hash(struct member *m)
{
	(void)m;
	return 0;
}

static void join_close(struct member *m)
{
	free(m);
}

const struct member_ops member_join = {
	.name = "join",
	.parents = join_parents,
	.hash = join_hash,
	.seeds = true,
	.close = join_close,
};
