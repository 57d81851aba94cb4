/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Candidates for root ask each other.
 *
 * A detached one asks the others twice; if none that comes before it answers
 * and none knows a root, it is the root of a new term.  A root asks them every
 * 5 s and resigns below one with a higher epoch.
 */
#include "agent/tree/private.h"

#define ROUNDS_MAX 8 /* an earlier candidate that never stands */

void candidates_cancel(struct tree *t, uint64_t *ref)
{
	for (unsigned i = 0; i < TREE_ROOTS; i++)
		tree_cancel(t, &ref[i]);
}

static void ask_candidates(struct tree *t, uint64_t *ref)
{
	struct tree_msg m;

	for (unsigned i = 0; i < MIN(t->conf->n_roots, TREE_ROOTS); i++) {
		const struct endpoint *ep = &t->conf->roots[i];

		tree_cancel(t, &ref[i]);
		if (endpoint_equal(ep, &t->conf->self))
			continue;
		msg_init(&m, TREE_HELLO);
		ref[i] = tree_send(t, OP_REIGN, i, ep, &m, HELLO_LIMIT_MS,
				   false);
	}
}

static bool others(const struct tree *t)
{
	return t->conf->n_roots > (reign_candidate(t) ? 1 : 0);
}

static void judge_root(struct tree *t)
{
	struct reign *r = t->reign;

	if (r->asking || !others(t)) {
		r->asking = false;
		reign_keep_house(t);
		timer_at(t, TIMER_REIGN,
			 now_ms(t) + CHECK_MS * 9 / 10 - ROUND_MS +
				 random_below(t, CHECK_MS / 10));
		return;
	}
	r->asking = true;
	ask_candidates(t, r->ref);
	timer_at(t, TIMER_REIGN, now_ms(t) + ROUND_MS);
}

void candidates_stop(struct tree *t)
{
	if (!t->seek)
		return;
	candidates_cancel(t, t->seek->round_ref);
	if (t->seek->round_on)
		timer_at(t, TIMER_REIGN, UINT64_MAX);
	t->seek->round_on = false;
}

void candidates_start(struct tree *t)
{
	struct seek *s = t->seek;

	if (!s || !reign_candidate(t) || s->was_root || s->round_on)
		return;
	s->round_on = true;
	s->earlier = s->elsewhere = false;
	ask_candidates(t, s->round_ref);
	timer_at(t, TIMER_REIGN, now_ms(t) + ROUND_MS);
}

static void judge_candidate(struct tree *t)
{
	struct seek *s = t->seek;
	unsigned before = 0;

	if (!s || !s->round_on)
		return;
	while (!endpoint_equal(&t->conf->roots[before], &t->conf->self))
		before++;
	s->rounds++;
	s->quiet = s->earlier || s->elsewhere ? 0 : s->quiet + 1;
	/* those before it that never stand: one after the other, not all */
	if (((s->quiet >= 2 && seek_exhausted(t)) ||
	     (s->rounds >= ROUNDS_MAX / 2 * (1 + before) && !s->elsewhere &&
	      seek_exhausted(t))) &&
	    !reign_begin(t))
		return;
	s->earlier = s->elsewhere = false;
	ask_candidates(t, s->round_ref);
	timer_at(t, TIMER_REIGN, now_ms(t) + ROUND_MS);
}

void candidates_timer(struct tree *t)
{
	if (t->place == PLACE_ROOT)
		judge_root(t);
	else if (t->place == PLACE_DETACHED)
		judge_candidate(t);
}

static void candidate_heard(struct tree *t, unsigned i,
			    const struct tree_msg *m)
{
	struct seek *s = t->seek;
	const struct endpoint *ep = &t->conf->roots[i];
	struct endpoint root = m->u.hello.root ? *ep : m->u.hello.root_ep;
	bool before = true;

	for (unsigned k = 0; k <= i; k++)
		before &= !endpoint_equal(&t->conf->roots[k], &t->conf->self);
	s->earlier |= before;
	if (!m->u.hello.rooted || !tree_target_valid(&root) ||
	    endpoint_equal(&root, &t->conf->self))
		return;
	/* it has not noticed yet that the root is gone */
	if (!m->u.hello.root && t->n_path == 1 &&
	    endpoint_equal(&root, &t->path[0].ep))
		return;
	s->elsewhere = true;
	if (m->u.hello.root)
		seek_prefer(t, &root, true);
}

static void rival_heard(struct tree *t, unsigned i, const struct tree_msg *m)
{
	const struct endpoint ep = t->conf->roots[i];

	/* who is about to leave goes below nobody */
	if (!m->u.hello.root || id_equal(&m->u.hello.id, &t->self) ||
	    t->draining || epoch_compare(&m->lease, &t->reign_epoch) <= 0)
		return;
	reign_resign(t);
	seek_start(t, &ep, 0);
	if (t->seek && t->seek->n)
		t->seek->list[0].descend = true;
}

void candidates_done(struct tree *t, uint64_t ref, int err,
		     const struct tree_msg *m)
{
	unsigned i = ref >> 8 & 0xff;
	uint64_t *refs = t->place == PLACE_ROOT ? t->reign->ref
			 : t->seek              ? t->seek->round_ref
						: NULL;

	if (i >= TREE_ROOTS || !refs || refs[i] != ref)
		return;
	refs[i] = 0;
	if (err || m->word != TREE_OK || m->u.hello.leaving ||
	    strncmp(m->u.hello.overlay, t->conf->overlay,
		    sizeof(m->u.hello.overlay)) != 0)
		return;
	if (t->place == PLACE_ROOT)
		rival_heard(t, i, m);
	else
		candidate_heard(t, i, m);
}
