/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking for a parent, while detached.  Candidates are asked one after the
 * other: who are you (hello, without our token), then for a place; an agent
 * that is full names some of its children, and these are asked next.  Those
 * that lost a parent go to its parent first, then to the other ancestors, to
 * the candidates for root, to its other children, to the provider's list.
 * After a full round they wait, longer each time.
 *
 * struct seek exists while the agent is detached, but for want of memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"

#define BACKOFF_MS     500
#define BACKOFF_MAX_MS 3000 /* with more not whole 10 s after a partition */
#define STEPS_MAX      16   /* redirections of one round */
#define BUSY_MAX       6
#define HOME_MS        1000
#define HOME_MAX_MS    10000
#define PLACE_MS       10000 /* before it looks at its place in a list */

static void seek_next(struct tree *t);

void seek_stop(struct tree *t)
{
	struct seek *s = t->seek;

	t->home_wait_ms = 0;
	tree_cancel(t, &t->home_ref);
	timer_at(t, TIMER_SEEK, UINT64_MAX);
	if (!s)
		return;
	candidates_stop(t);
	tree_cancel(t, &s->ref);
	free(s);
	t->seek = NULL;
}

/* Before the at-th of those that are still to be asked; not twice. */
static void put_at(struct seek *s, unsigned at, const struct endpoint *ep,
		   bool descend, bool ancestor)
{
	unsigned i = s->at;

	if (!tree_target_valid(ep) || at >= SEEK_MAX)
		return;
	while (i < s->n && !endpoint_equal(&s->list[i].ep, ep))
		i++;
	if (i < at)
		return;
	if (i == SEEK_MAX)
		i--; /* the last one gives way */
	else if (i == s->n)
		s->n++;
	memmove(&s->list[at + 1], &s->list[at], (i - at) * sizeof(s->list[0]));
	s->list[at] = (struct seek_target){ *ep, descend, ancestor };
}

static void put_last(struct seek *s, const struct endpoint *ep, bool descend,
		     bool ancestor)
{
	for (unsigned i = s->at; i < s->n; i++)
		if (endpoint_equal(&s->list[i].ep, ep))
			return;
	put_at(s, s->n, ep, descend, ancestor);
}

static void list_provided(struct tree *t, struct seek *s)
{
	const struct member_ops *p = t->conf->provider;
	struct endpoint ep[TREE_SEEDS];
	int n = p->parents ? p->parents(t->conf->member, ep, ARRAY_SIZE(ep))
			   : 0;

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(ep); i++)
		put_last(s, &ep[i], p->seeds, false);
}

static void list_all(struct tree *t, struct seek *s)
{
	const struct endpoint *roots = t->conf->n_roots ? t->conf->roots
							: t->root_ep;
	unsigned n = t->conf->n_roots ? t->conf->n_roots : t->n_root_ep;

	s->n = s->at = s->steps = s->busy = 0;
	/* it was never below anybody: where it shall be comes first */
	if (!t->n_path)
		list_provided(t, s);
	/* the last of the path is who was lost */
	for (unsigned i = t->n_path; i-- > 1;)
		put_last(s, &t->path[i - 1].ep, false, true);
	for (unsigned i = 0; i < n; i++)
		put_last(s, &roots[i], true, false);
	for (unsigned i = 0; i < t->n_uncles; i++)
		put_last(s, &t->uncle[i].ep, true, false);
	list_provided(t, s);
	if (t->n_path)
		put_last(s, &t->path[t->n_path - 1].ep, true, false);
}

void seek_start(struct tree *t, const struct endpoint *to, uint64_t delay_ms)
{
	struct seek *s;

	seek_stop(t);
	s = t->seek = calloc(1, sizeof(*s));
	timer_at(t, TIMER_SEEK, now_ms(t) + (s ? delay_ms : BACKOFF_MS));
	if (!s)
		return;
	s->backoff_ms = BACKOFF_MS;
	s->once = to;
	s->was_root = t->reign;
	if (to)
		put_last(s, to, false, false);
	else
		list_all(t, s);
	candidates_start(t);
}

void seek_prefer(struct tree *t, const struct endpoint *ep, bool descend)
{
	struct seek *s = t->seek;

	if (!s || endpoint_equal(ep, &t->conf->self))
		return;
	if (s->ref) {
		put_at(s, s->at + 1, ep, descend, false);
		return;
	}
	put_at(s, s->at, ep, descend, false);
	timer_at(t, TIMER_SEEK, now_ms(t));
}

void seek_down(struct tree *t, const struct endpoint *parent)
{
	if (t->seek)
		t->seek->steps = 1; /* not from the root */
	seek_prefer(t, parent, true);
}

bool seek_exhausted(const struct tree *t)
{
	const struct seek *s = t->seek;

	if (!s)
		return true;
	if (s->ref && s->joining)
		return false;
	/* those of the next round are the same */
	for (unsigned i = s->at; i < s->n && !s->all_asked; i++)
		if (s->list[i].ancestor)
			return false;
	return true;
}

/* All were asked. */
static void round_over(struct tree *t)
{
	struct seek *s = t->seek;
	uint32_t wait = s->backoff_ms;

	if ((s->was_root || t->conf->provider->founds) && !reign_begin(t))
		return;
	s->all_asked = !s->once;
	s->once = false;
	s->avoid.port = 0;
	s->backoff_ms = MIN(wait * 2, BACKOFF_MAX_MS);
	list_all(t, s);
	timer_at(t, TIMER_SEEK,
		 now_ms(t) + wait / 2 + random_below(t, wait + 1));
}

static void say_hello(struct tree *t)
{
	struct seek *s = t->seek;
	struct tree_msg m;

	msg_init(&m, TREE_HELLO);
	s->joining = false;
	s->ref = tree_send(t, OP_SEEK, 0, &s->list[s->at].ep, &m,
			   HELLO_LIMIT_MS, false);
}

static void seek_next(struct tree *t)
{
	struct seek *s = t->seek;

	for (; s->at < s->n; s->at++, s->busy = 0) {
		const struct endpoint *ep = &s->list[s->at].ep;

		if (endpoint_equal(ep, &t->conf->self) ||
		    (s->avoid.port && endpoint_equal(ep, &s->avoid)))
			continue;
		say_hello(t);
		if (s->ref)
			return;
	}
	round_over(t);
}

static void skip(struct tree *t)
{
	t->seek->at++;
	t->seek->busy = 0;
	seek_next(t);
}

static void later(struct tree *t)
{
	struct seek *s = t->seek;
	uint64_t wait = (uint64_t)30 << s->busy;

	if (s->busy++ == BUSY_MAX) {
		skip(t);
		return;
	}
	timer_at(t, TIMER_SEEK, now_ms(t) + wait + random_below(t, wait));
}

/* ---- answers ---- */

static void say_join(struct tree *t)
{
	struct seek *s = t->seek;
	const struct seek_target *to = &s->list[s->at];
	struct tree_msg m;

	msg_init(&m, TREE_JOIN);
	tree_fill_mover(t, &m.u.join.mover);
	m.u.join.mover.descend = to->descend;
	s->seen = t->seen;
	m.u.join.mover.nonce = s->nonce = t->env->random(t->ctx);
	s->joining = true;
	s->ref = tree_send(t, OP_SEEK, 0, &to->ep, &m, JOIN_LIMIT_MS, false);
	if (!s->ref)
		skip(t);
}

static void hello_done(struct tree *t, const struct tree_msg *m)
{
	struct seek *s = t->seek;
	const struct seek_target to = s->list[s->at];
	const struct branch *b = branch_by_id(t, &m->u.hello.id);

	if (m->word != TREE_OK || id_equal(&m->u.hello.id, &t->self) ||
	    strncmp(m->u.hello.overlay, t->conf->overlay,
		    sizeof(m->u.hello.overlay)) != 0 ||
	    !m->u.hello.rooted || (b && b->joined && !b->lost)) {
		skip(t);
		return;
	}
	/* who looks for an entrance begins at the top */
	if (to.descend && !m->u.hello.root && !s->steps &&
	    tree_target_valid(&m->u.hello.root_ep) &&
	    !endpoint_equal(&m->u.hello.root_ep, &to.ep) &&
	    !endpoint_equal(&m->u.hello.root_ep, &t->conf->self)) {
		s->steps++;
		put_at(s, s->at, &m->u.hello.root_ep, true, false);
		if (!endpoint_equal(&s->list[s->at].ep, &to.ep)) {
			seek_next(t);
			return;
		}
	}
	say_join(t);
}

static bool grant_valid(const struct tree *t, const struct tree_msg *m)
{
	unsigned n = m->u.granted.n_path;

	if (!n || n > TREE_LEVELS || m->u.granted.nonce != t->seek->nonce ||
	    !epoch_valid(&m->u.granted.lease) ||
	    epoch_compare(&m->u.granted.lease, &t->held) <= 0 ||
	    epoch_compare(&m->u.granted.lease, &t->seek->seen) <= 0)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (id_equal(&m->u.granted.path[i], &t->self))
			return false;
	return true;
}

static void join_granted(struct tree *t, const struct tree_msg *m)
{
	const struct endpoint parent = t->seek->list[t->seek->at].ep;

	if (t->place != PLACE_DETACHED || !grant_valid(t, m) ||
	    !link_commit(t, &parent, m))
		skip(t);
}

static void join_tries(struct tree *t, const struct tree_msg *m)
{
	struct seek *s = t->seek;
	unsigned n = MIN(m->u.granted.n_try, TREE_TRIES);

	if (s->steps >= STEPS_MAX) {
		skip(t);
		return;
	}
	s->steps++;
	s->at++;
	s->busy = 0;
	while (n--)
		put_at(s, s->at, &m->u.granted.try[n].ep, true, false);
	seek_next(t);
}

static void join_done(struct tree *t, const struct tree_msg *m)
{
	if (m->word == TREE_OK && m->u.granted.granted)
		join_granted(t, m);
	else if (m->word == TREE_OK && m->u.granted.n_try)
		join_tries(t, m);
	else if (m->word == TREE_BUSY)
		later(t);
	else if (m->word == TREE_DOUBLE)
		seek_new_identity(t);
	else if (m->word == TREE_DENIED && t->home.port) {
		t->home.port = 0; /* it was removed there */
		skip(t);
	} else
		skip(t);
}

static void home_done(struct tree *t, int err, const struct tree_msg *m);

void seek_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m)
{
	struct seek *s = t->seek;

	if (ref == t->home_ref) {
		t->home_ref = 0;
		home_done(t, err, m);
		return;
	}
	if (!s || s->ref != ref)
		return;
	s->ref = 0;
	if (err)
		skip(t);
	else if (s->joining)
		join_done(t, m);
	else
		hello_done(t, m);
}

/* ---- a place to go back to ---- */

static void home_later(struct tree *t)
{
	uint32_t from = t->place == PLACE_ROOT ? HOME_MS : PLACE_MS;
	uint32_t to = t->place == PLACE_ROOT ? HOME_MAX_MS : 6 * PLACE_MS;

	t->home_wait_ms = t->home_wait_ms ? MIN(t->home_wait_ms * 5 / 4, to)
					  : from;
	timer_at(t, TIMER_SEEK,
		 now_ms(t) + t->home_wait_ms * 3 / 4 +
			 random_below(t, t->home_wait_ms / 2));
}

void seek_place(struct tree *t)
{
	const struct member_ops *p = t->conf->provider;
	struct endpoint ep;

	if (t->place == PLACE_ATTACHED) {
		t->home.port = 0;
		/* not where the list says: back there, when it is */
		if (!p->founds && !p->seeds && p->parents &&
		    p->parents(t->conf->member, &ep, 1) > 0 &&
		    !endpoint_equal(&ep, tree_parent(t)))
			t->home = ep;
	}
	if (t->home.port)
		home_later(t);
}

static void home_ask(struct tree *t)
{
	struct tree_msg m;

	if (!t->home.port || t->home_ref)
		return;
	msg_init(&m, TREE_HELLO);
	t->home_ref =
		tree_send(t, OP_SEEK, 0, &t->home, &m, HELLO_LIMIT_MS, false);
	if (!t->home_ref)
		home_later(t);
}

static void home_done(struct tree *t, int err, const struct tree_msg *m)
{
	const struct branch *b;
	struct endpoint to = t->home;

	if (err || m->word != TREE_OK || !m->u.hello.rooted ||
	    id_equal(&m->u.hello.id, &t->self) ||
	    strncmp(m->u.hello.overlay, t->conf->overlay,
		    sizeof(m->u.hello.overlay)) != 0) {
		home_later(t);
		return;
	}
	b = branch_by_id(t, &m->u.hello.id);
	if ((b && b->joined && !b->lost) ||
	    (!m->u.hello.root && rows_heard(t, &m->u.hello.id))) {
		if (t->place == PLACE_ROOT || t->n_path == 1) {
			home_later(t);
			return;
		}
		/* from there it can leave us for its own place */
		to = tree_root_address(t);
	}
	if (t->place == PLACE_ROOT) {
		reign_resign(t);
		seek_start(t, &to, 0);
	} else if (t->place == PLACE_ATTACHED) {
		link_detach(t);
		seek_start(t, NULL, 0);
		seek_prefer(t, &to, false);
	}
}

void seek_timer(struct tree *t)
{
	if (t->place == PLACE_ROOT || t->place == PLACE_ATTACHED) {
		home_ask(t);
		return;
	}
	if (t->place != PLACE_DETACHED)
		return;
	if (!t->seek)
		seek_start(t, NULL, 0);
	else if (!t->seek->ref)
		seek_next(t);
}

/* ---- invitations ---- */

/* Only the configured parents, where there are some. */
static bool parent_allowed(const struct tree *t, const struct endpoint *from)
{
	for (unsigned i = 0; from && i < t->conf->n_parents; i++) {
		const struct ip_addr *a = &t->conf->parents[i].addr;

		if (addr_equal(a, &from->addr))
			return true;
		/* loopback has many addresses, all of them ours */
		if (addr_classify(a) == ADDR_LOOPBACK &&
		    addr_classify(&from->addr) == ADDR_LOOPBACK)
			return true;
	}
	return !t->conf->n_parents;
}

static enum tree_word invite_refused(struct tree *t, const struct tree_msg *m,
				     const struct endpoint *from,
				     const struct endpoint *ep)
{
	const struct node_id *id = &m->u.invite.id;
	const struct branch *b = branch_by_id(t, id);
	const struct tree_row *r;

	if (strncmp(m->u.invite.overlay, t->conf->overlay,
		    sizeof(m->u.invite.overlay)) != 0)
		return TREE_OVERLAY;
	if (id_equal(id, &t->self))
		return TREE_SELF;
	if (!b)
		b = branch_by_endpoint(t, ep);
	if (b && b->joined && !b->lost)
		return TREE_CYCLE;
	/* each invites the other: one of them must give way */
	if (b && b->pub.refused == TREE_OK &&
	    memcmp(t->self.b, id->b, sizeof(id->b)) > 0)
		return TREE_CYCLE;
	if (!parent_allowed(t, from))
		return TREE_DENIED;
	if (t->draining)
		return TREE_BUSY;
	if (t->place == PLACE_ROOT && !t->conf->provider->founds)
		return TREE_PARENT;
	/* another one where the parent was: it restarted and forgot */
	if (t->place == PLACE_ATTACHED &&
	    !id_equal(&t->path[t->n_path - 1].id, id) &&
	    !endpoint_equal(&t->path[t->n_path - 1].ep, ep))
		return TREE_PARENT;
	if (t->seek && t->seek->ref && t->seek->joining)
		return TREE_BUSY;
	/* one of us has not heard yet who is above it now */
	r = rows_heard(t, id);
	if (r)
		return endpoint_equal(&r->ep, ep) ? TREE_BUSY : TREE_DOUBLE;
	return TREE_OK;
}

void seek_invited(struct tree *t, const struct endpoint *from,
		  const struct tree_msg *m, uint64_t ref)
{
	enum tree_word w = TREE_BAD;
	struct tree_msg reply;
	struct endpoint ep;

	if (tree_address(t, &m->u.invite.ep, from, &ep))
		w = invite_refused(t, m, from, &ep);
	if (w != TREE_OK) {
		tree_refuse(t, ref, TREE_INVITE, w);
		return;
	}
	msg_init(&reply, TREE_INVITE);
	reply.u.invite.id = t->self;
	tree_reply(t, ref, &reply);
	if (t->place == PLACE_ATTACHED)
		link_detach(t);
	else if (t->place == PLACE_ROOT)
		reign_resign(t);
	seek_start(t, &ep, 0);
}

/* ---- identity ---- */

void seek_new_identity(struct tree *t)
{
	struct node_id old = t->self;
	uint64_t half[2] = { t->env->random(t->ctx), t->env->random(t->ctx) };

	memcpy(t->self.b, half, sizeof(t->self.b));
	if (tree_store(t)) {
		t->self = old;
	} else {
		rows_touch(t);
		if (t->place == PLACE_ROOT)
			(void)reign_raise(t, t->seen.term);
		event(t, TREE_EVENT_PARENT, NULL);
	}
	link_detach(t);
	if (t->place == PLACE_DETACHED)
		seek_start(t, NULL, random_below(t, 500));
}
