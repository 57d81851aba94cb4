/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests for a place, at the acceptor and on their way to the root.
 *
 * The mover has detached before it asks; the request climbs the edges in use,
 * one message a hop, and the root gives it a number.  A hop passes on what its
 * child asks under the current lease, and answers only while it is still under
 * the lease that the request went up with: so no request climbs through an
 * agent that has itself detached, and no cycle can be closed.
 *
 * A struct climb lives from a request to its answer.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"
#include "common/hash.h"

#define CLIMBS_MAX 24 /* a descriptor each */

static struct climb *climb_new(struct tree *t, uint64_t reply)
{
	struct climb *c = t->n_climbs < CLIMBS_MAX ? calloc(1, sizeof(*c))
						   : NULL;

	if (!c)
		return NULL;
	c->reply = reply;
	c->next = t->climbs;
	t->climbs = c;
	t->n_climbs++;
	return c;
}

static void climb_free(struct tree *t, struct climb *c)
{
	struct climb **at = &t->climbs;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	t->n_climbs--;
	free(c);
}

void climb_drop_all(struct tree *t)
{
	while (t->climbs) {
		tree_cancel(t, &t->climbs->ref);
		climb_free(t, t->climbs);
	}
}

static void climb_refuse(struct tree *t, struct climb *c, enum tree_word w)
{
	tree_refuse(t, c->reply, c->ours ? TREE_JOIN : TREE_GRANT, w);
	climb_free(t, c);
}

/* ---- the acceptor ---- */

/* Addresses of the children with the smallest subtrees, own rack first. */
static unsigned offer_tries(struct tree *t, const struct tree_mover *mover,
			    struct tree_peer out[TREE_TRIES])
{
	struct branch *best[TREE_TRIES];
	const struct hash_key key = { { 6 } };
	uint32_t rack = 0;
	unsigned n = 0;

	if (mover->rack[0])
		rack = (uint32_t)siphash13(&key, mover->rack,
					   strnlen(mover->rack,
						   sizeof(mover->rack)));
	for (unsigned i = 0; i < t->n_children; i++) {
		struct branch *b = t->child[i];
		uint64_t size = (uint64_t)b->pub.hosts + b->promised;
		unsigned at = n;

		if (!b->joined || b->lost || b->until_ms || b->drain ||
		    b->go_down || b->pub.state != CHILD_UP ||
		    id_equal(&b->pub.id, &mover->id))
			continue;
		while (at) {
			const struct branch *p = best[at - 1];
			uint64_t other = (uint64_t)p->pub.hosts + p->promised;

			if (other < size ||
			    (other == size &&
			     (p->rack == rack || b->rack != rack)))
				break;
			at--;
		}
		if (at == TREE_TRIES)
			continue;
		if (n < TREE_TRIES)
			n++;
		memmove(&best[at + 1], &best[at],
			(n - 1 - at) * sizeof(best[0]));
		best[at] = b;
	}
	for (unsigned i = 0; i < n; i++)
		out[i] = (struct tree_peer){ best[i]->pub.id, best[i]->pub.ep };
	if (n)
		best[0]->promised += mover->hosts;
	return n;
}

/* The child entry that this mover would take: its own, or its address'. */
static struct branch *entry_of(const struct tree *t,
			       const struct tree_mover *mover,
			       const struct endpoint *ep)
{
	struct branch *b = branch_by_id(t, &mover->id);

	return b ? b : branch_by_endpoint(t, ep);
}

static enum tree_word may_accept(const struct tree *t,
				 const struct tree_mover *m,
				 const struct endpoint *ep)
{
	const struct branch *b = branch_by_id(t, &m->id);

	if (strncmp(m->overlay, t->conf->overlay, sizeof(m->overlay)) != 0)
		return TREE_OVERLAY;
	if (id_equal(&m->id, &t->self))
		return TREE_SELF;
	if (!m->hosts || m->hosts > TREE_MEMBERS)
		return TREE_BAD;
	if (tree_in_path(t, &m->id))
		return TREE_CYCLE;
	if (t->draining)
		return TREE_BUSY;
	if (!tree_may_grant(t))
		return TREE_DETACHED;
	if (m->height > TREE_LEVELS ||
	    tree_level(t) + 1 + m->height > TREE_LEVELS)
		return TREE_DEEP;
	if (b && b->joined && b->pub.incarnation > m->incarnation)
		return TREE_DOUBLE;
	if (entry_of(t, m, ep))
		return TREE_OK;
	/* never added, or removed, however long ago */
	if (t->conf->provider->founds)
		return TREE_DENIED;
	return t->n_children == TREE_CHILDREN ? TREE_FULL : TREE_OK;
}

/* Enough are below it: TREE_OK if the mover was sent on, TREE_BUSY: soon.  One
 * that finds no place there may come back. */
static enum tree_word redirect(struct tree *t, const struct tree_mover *mover,
			       const struct endpoint *ep, uint64_t ref)
{
	struct branch *b = entry_of(t, mover, ep);
	bool soon = false;
	struct tree_msg m;

	msg_init(&m, TREE_JOIN);
	m.u.granted.n_try = offer_tries(t, mover, m.u.granted.try);
	m.u.granted.root_ep = tree_root_address(t);
	if (m.u.granted.n_try) {
		if (b)
			b->go_down = false;
		tree_reply(t, ref, &m);
		return TREE_OK;
	}
	for (unsigned i = 0; i < t->n_children; i++)
		soon |= t->child[i]->until_ms;
	return soon ? TREE_BUSY : TREE_FULL;
}

bool climb_fits_below(const struct tree *t, uint32_t height)
{
	return tree_level(t) + 2 + height <= TREE_LEVELS &&
	       (!height || height + 2 <= tree_height(t));
}

static bool enough(const struct tree *t, const struct tree_mover *mover,
		   const struct endpoint *ep)
{
	const struct branch *b = entry_of(t, mover, ep);
	unsigned n = 0;

	if (!mover->descend || (b && !b->go_down) ||
	    !climb_fits_below(t, mover->height))
		return false;
	for (unsigned i = 0; i < t->n_children; i++)
		n += branch_counts(t->child[i]) || t->child[i]->until_ms;
	return n >= t->conf->fanout;
}

void climb_join(struct tree *t, const struct endpoint *from,
		const struct tree_msg *m, uint64_t ref)
{
	const struct tree_mover *mover = &m->u.join.mover;
	enum tree_word w = TREE_BAD;
	struct endpoint ep;
	struct tree_msg hello;
	struct climb *c;

	if (tree_address(t, &mover->ep, from, &ep))
		w = may_accept(t, mover, &ep);
	if ((w == TREE_FULL && mover->descend) ||
	    (w == TREE_OK && enough(t, mover, &ep))) {
		enum tree_word r = redirect(t, mover, &ep, ref);

		if (r == TREE_OK)
			return;
		/* nobody to name: it takes it itself, if it may */
		if (w == TREE_OK && r != TREE_FULL)
			w = r;
	}
	if (w != TREE_OK) {
		tree_refuse(t, ref, TREE_JOIN, w);
		return;
	}
	c = climb_new(t, ref);
	if (!c) {
		tree_refuse(t, ref, TREE_JOIN, TREE_BUSY);
		return;
	}
	c->ours = c->probing = true;
	c->mover = *mover;
	c->ep = c->mover.ep = ep;
	msg_init(&hello, TREE_HELLO);
	c->ref = tree_send(t, OP_CLIMB, 0, &ep, &hello, PROBE_LIMIT_MS, true);
	if (!c->ref)
		climb_refuse(t, c, TREE_BUSY);
}

/* It is granted: the mover gets a place here for 2 s. */
static void climb_accept(struct tree *t, struct climb *c,
			 const struct epoch *lease)
{
	struct branch *b = entry_of(t, &c->mover, &c->ep);
	struct tree_msg m;

	if (!b)
		b = branch_new(t, &c->ep);
	if (!b) {
		/* the grant ends by itself */
		climb_refuse(t, c, TREE_BUSY);
		return;
	}
	branch_granted(t, b, &c->mover, lease);
	msg_init(&m, TREE_JOIN);
	m.u.granted.granted = true;
	m.u.granted.lease = *lease;
	m.u.granted.nonce = c->mover.nonce;
	m.u.granted.ttl_ms = GRANT_MS;
	for (unsigned i = 0; i < tree_level(t); i++)
		m.u.granted.path[m.u.granted.n_path++] = t->path[i].id;
	m.u.granted.path[m.u.granted.n_path++] = t->self;
	m.u.granted.root_ep = tree_root_address(t);
	tree_reply(t, c->reply, &m);
	climb_free(t, c);
}

/* The first hop: to the root itself, or upward. */
static void climb_begin(struct tree *t, struct climb *c)
{
	enum tree_word w = may_accept(t, &c->mover, &c->ep);
	struct epoch lease;
	struct tree_msg m;

	c->probing = false;
	if (w == TREE_OK && t->place == PLACE_ROOT) {
		w = reign_grant(t, &c->mover, &c->ep, &t->self, &lease);
		if (w == TREE_OK) {
			climb_accept(t, c, &lease);
			return;
		}
	}
	if (w != TREE_OK) {
		climb_refuse(t, c, w);
		return;
	}
	msg_init(&m, TREE_GRANT);
	m.lease = c->lease = t->lease;
	m.u.grant.act = TREE_GRANT_ASK;
	m.u.grant.mover = c->mover;
	m.u.grant.acceptor = t->self;
	m.u.grant.level = tree_level(t);
	m.u.grant.via[m.u.grant.n_via++] = t->self;
	c->ref = tree_send(t, OP_CLIMB, 0, &t->path[t->n_path - 1].ep, &m,
			   CLIMB_LIMIT_MS, false);
	if (!c->ref)
		climb_refuse(t, c, TREE_BUSY);
}

static void probed(struct tree *t, struct climb *c, int err,
		   const struct tree_msg *m)
{
	if (err || m->word != TREE_OK ||
	    !id_equal(&m->u.hello.id, &c->mover.id) ||
	    m->u.hello.incarnation != c->mover.incarnation)
		climb_refuse(t, c, TREE_DENIED);
	else
		climb_begin(t, c);
}

/* ---- hops ---- */

static void pass_up(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	struct climb *c = climb_new(t, ref);
	struct tree_msg up = *m;

	if (!c) {
		tree_refuse(t, ref, TREE_GRANT, TREE_BUSY);
		return;
	}
	c->from = m->lease;
	c->mover = m->u.grant.mover;
	up.lease = c->lease = t->lease;
	up.u.grant.via[up.u.grant.n_via++] = t->self;
	c->ref = tree_send(t, OP_CLIMB, 0, &t->path[t->n_path - 1].ep, &up,
			   CLIMB_LIMIT_MS, false);
	if (!c->ref)
		climb_refuse(t, c, TREE_BUSY);
}

static enum tree_word may_pass(const struct tree *t, const struct tree_msg *m)
{
	const struct tree_mover *mover = &m->u.grant.mover;

	if (m->u.grant.n_via >= TREE_VIA)
		return TREE_LOOP;
	if (id_equal(&mover->id, &t->self))
		return TREE_CYCLE;
	for (unsigned i = 0; i < m->u.grant.n_via; i++) {
		if (id_equal(&m->u.grant.via[i], &mover->id))
			return TREE_CYCLE;
		if (id_equal(&m->u.grant.via[i], &t->self))
			return TREE_LOOP;
	}
	if (tree_in_path(t, &mover->id))
		return TREE_CYCLE;
	if (!tree_may_grant(t))
		return t->draining ? TREE_BUSY : TREE_DETACHED;
	return TREE_OK;
}

/* The root says that this mover may be below the child. */
static void allowed(const struct tree *t, struct branch *b,
		    const struct tree_mover *mover)
{
	rows_brought(t, b, mover);
	rows_newcomer(t, b, &mover->id);
}

static void answer_grant(struct tree *t, struct branch *b,
			 const struct tree_msg *m, uint64_t ref)
{
	struct tree_msg reply;
	enum tree_word w;

	msg_init(&reply, TREE_GRANT);
	w = reign_grant(t, &m->u.grant.mover, &m->u.grant.mover.ep,
			&m->u.grant.acceptor, &reply.u.granted.lease);
	if (w == TREE_OK)
		allowed(t, b, &m->u.grant.mover);
	reply.word = w;
	reply.u.granted.granted = w == TREE_OK;
	reply.u.granted.nonce = m->u.grant.mover.nonce;
	tree_reply(t, ref, &reply);
}

/* A grant ended, well or not: hosts are counted, the root hears of it. */
static void ended(struct tree *t, struct branch *b, const struct tree_msg *m)
{
	const struct tree_mover *mover = &m->u.grant.mover;
	bool ok = m->u.grant.act == TREE_GRANT_CONFIRM;
	struct tree_msg up = *m;

	if (ok && mover->hosts < TREE_MEMBERS - b->pub.hosts)
		b->pub.hosts += mover->hosts;
	b->promised -= MIN(b->promised, mover->hosts);
	/* how deep it is now is known before the beats tell */
	if (ok && mover->height <= TREE_LEVELS &&
	    m->u.grant.level <= TREE_LEVELS &&
	    m->u.grant.level + mover->height > tree_level(t) + b->pub.height)
		b->pub.height =
			MIN(TREE_LEVELS,
			    m->u.grant.level + mover->height - tree_level(t));
	if (t->place == PLACE_ROOT) {
		reign_settle(t, &mover->id, &m->u.grant.grant, ok);
		return;
	}
	if (t->place != PLACE_ATTACHED || m->u.grant.n_via >= TREE_VIA)
		return;
	up.lease = t->lease;
	up.u.grant.via[up.u.grant.n_via++] = t->self;
	(void)tree_send(t, OP_NONE, 0, &t->path[t->n_path - 1].ep, &up,
			HELLO_LIMIT_MS, false);
}

void climb_grant(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	struct branch *b = branch_by_lease(t, &m->lease);
	enum tree_word w;

	if (!b || (b->lost && !b->until_ms)) {
		tree_refuse(t, ref, TREE_GRANT, TREE_MOVED);
		return;
	}
	if (m->u.grant.n_via > TREE_VIA) {
		tree_refuse(t, ref, TREE_GRANT, TREE_BAD);
		return;
	}
	if (m->u.grant.act != TREE_GRANT_ASK) {
		tree_refuse(t, ref, TREE_GRANT, TREE_OK);
		ended(t, b, m);
		return;
	}
	/* also if not: the child takes it for possible */
	branch_grows(t, b);
	w = may_pass(t, m);
	if (w != TREE_OK)
		tree_refuse(t, ref, TREE_GRANT, w);
	else if (t->place == PLACE_ROOT)
		answer_grant(t, b, m, ref);
	else
		pass_up(t, m, ref);
}

void climb_tell(struct tree *t, enum tree_grant_act act, const struct branch *b,
		const struct epoch *lease)
{
	struct tree_msg m;

	if (t->place == PLACE_ROOT) {
		reign_settle(t, &b->pub.id, lease, act == TREE_GRANT_CONFIRM);
		return;
	}
	if (t->place != PLACE_ATTACHED)
		return;
	msg_init(&m, TREE_GRANT);
	m.lease = t->lease;
	m.u.grant.act = act;
	m.u.grant.mover.id = b->pub.id;
	m.u.grant.mover.incarnation = b->pub.incarnation;
	m.u.grant.mover.ep = b->pub.ep;
	m.u.grant.mover.hosts = b->pub.hosts;
	m.u.grant.mover.height = b->pub.height;
	m.u.grant.acceptor = t->self;
	m.u.grant.grant = *lease;
	m.u.grant.level = tree_level(t);
	m.u.grant.via[m.u.grant.n_via++] = t->self;
	(void)tree_send(t, OP_NONE, 0, &t->path[t->n_path - 1].ep, &m,
			HELLO_LIMIT_MS, false);
}

/* ---- answers ---- */

void climb_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m)
{
	struct climb *c = t->climbs;
	struct tree_msg reply;
	struct branch *b;

	while (c && c->ref != ref)
		c = c->next;
	if (!c)
		return;
	c->ref = 0;
	if (c->probing) {
		probed(t, c, err, m);
		return;
	}
	if (err || m->kind != TREE_GRANT) {
		climb_refuse(t, c, TREE_BUSY);
		return;
	}
	if (m->word == TREE_MOVED) {
		struct epoch lease = c->lease;

		climb_refuse(t, c, TREE_DETACHED);
		link_disowned(t, &lease);
		return;
	}
	if (m->word != TREE_OK || !m->u.granted.granted) {
		climb_refuse(t, c, m->word == TREE_OK ? TREE_BAD : m->word);
		return;
	}
	/* the edge it climbed by is not there any more: nothing is passed */
	if (!tree_under(t, &c->lease)) {
		climb_refuse(t, c, TREE_DETACHED);
		return;
	}
	tree_see(t, &m->u.granted.lease);
	t->granted_ms = now_ms(t);
	if (c->ours) {
		enum tree_word w = may_accept(t, &c->mover, &c->ep);

		if (w != TREE_OK)
			climb_refuse(t, c, w);
		else
			climb_accept(t, c, &m->u.granted.lease);
		return;
	}
	b = branch_by_lease(t, &c->from);
	if (b)
		allowed(t, b, &c->mover);
	msg_init(&reply, TREE_GRANT);
	reply.u.granted = m->u.granted;
	tree_reply(t, c->reply, &reply);
	climb_free(t, c);
}
