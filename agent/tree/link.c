/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Towards the parent: a lease is taken, beats are heard, the parent is lost.
 *
 * A lease is taken only by an agent that is detached, in answer to its latest
 * request, and above all leases that it ever held: only its own state is
 * looked at, so a late or repeated grant does no harm.  A parent that has been
 * silent, or whose connection closed, is asked for a beat on a new connection;
 * it is lost when that fails.  What our own timer was late for is not held
 * against it.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"

#define SILENT_MS   2100
#define PLEASE_MS   500 /* for an answer, and then for the beat */
#define UNROOTED_MS 10000
#define STAND_MS    500 /* a candidate: there is a root again within 6 s */

static void watch_at(struct tree *t, uint64_t at_ms)
{
	t->watch_ms = at_ms;
	timer_at(t, TIMER_PARENT, at_ms);
}

void link_detach(struct tree *t)
{
	if (t->place != PLACE_ATTACHED)
		return;
	tree_cancel(t, &t->please);
	timer_at(t, TIMER_PARENT, UINT64_MAX);
	t->place = PLACE_DETACHED;
	t->lease = (struct epoch){ 0 };
	t->rooted = false;
	t->offset_ms = t->error_ms = 0;
	rows_touch(t);
	branch_news(t);
	event(t, TREE_EVENT_PARENT, NULL);
}

static void parent_lost(struct tree *t)
{
	struct endpoint parent = t->path[t->n_path - 1].ep;

	link_detach(t);
	if (t->conf->provider->founds) {
		t->home = parent;
		t->home_wait_ms = 0;
		seek_start(t, &parent, 0);
		return;
	}
	seek_start(t, NULL, random_below(t, 500));
}

void link_disowned(struct tree *t, const struct epoch *lease)
{
	if (tree_under(t, lease))
		parent_lost(t);
}

/* ---- a lease ---- */

static bool path_reserve(struct tree *t, unsigned n)
{
	struct tree_peer *p;

	if (n <= t->cap_path)
		return true;
	p = reallocarray(t->path, n, sizeof(*p));
	if (!p)
		return false;
	memset(&p[t->cap_path], 0, (n - t->cap_path) * sizeof(*p));
	t->path = p;
	t->cap_path = n;
	return true;
}

bool link_commit(struct tree *t, const struct endpoint *parent,
		 const struct tree_msg *m)
{
	uint64_t now = now_ms(t);

	if (!path_reserve(t, m->u.granted.n_path))
		return false;
	for (unsigned i = 0; i < m->u.granted.n_path; i++)
		t->path[i] = (struct tree_peer){ .id = m->u.granted.path[i] };
	t->n_path = m->u.granted.n_path;
	t->path[t->n_path - 1].ep = *parent;
	if (t->n_path > 1)
		t->path[0].ep = m->u.granted.root_ep;
	t->lease = t->held = m->u.granted.lease;
	t->lease_ms = t->wall_high_ms = MAX(t->wall_high_ms, wall_ms(t));
	tree_see(t, &t->lease);
	t->n_uncles = 0;
	t->rows_most = 0;
	t->place = PLACE_ATTACHED;
	t->rooted = true;
	t->beaten = t->told_whole = false;
	t->path_new = true;
	t->please_tries = 0;
	t->please_asked = false;
	t->heard_ms = now;
	seek_stop(t);
	reign_end(t);
	t->version++;
	watch_at(t, now + SILENT_MS);
	seek_place(t);
	rows_touch(t);
	branch_news(t);
	event(t, TREE_EVENT_PARENT, NULL);
	return true;
}

/* ---- beats ---- */

static void answer_beat(struct tree *t, uint64_t ref, enum tree_word w,
			uint64_t t2_ms)
{
	struct tree_msg m;

	msg_init(&m, TREE_BEAT);
	m.word = w;
	m.u.beaten.id = t->self;
	m.u.beaten.incarnation = t->incarnation;
	/* a lease counts once its parent has said so itself */
	if (t->place == PLACE_ATTACHED && t->beaten)
		m.lease = t->lease;
	if (w == TREE_OK) {
		/* who is told of from below may be above now */
		if (t->pending || t->twice ||
		    (t->path_new && (t->n_children || t->n_hidden)))
			rows_resolve(t);
		t->path_new = false;
		m.u.beaten.hosts = tree_hosts(t);
		m.u.beaten.height = tree_height(t);
		m.u.beaten.rows_hash = rows_hash(t);
		m.u.beaten.whole = t->told_whole = rows_whole(t);
		t->told_ms = now_ms(t);
		m.u.beaten.members_hash = t->members_hash;
		if (t->conf->provider->hash)
			m.u.beaten.list_hash =
				t->conf->provider->hash(t->conf->member);
		m.u.beaten.n_blocks = t->env->blocks(t->ctx, m.u.beaten.blocks);
		if (t->conf->version)
			memcpy(m.u.beaten.version, t->conf->version,
			       strnlen(t->conf->version, TREE_VERSION_LEN));
		m.u.beaten.t2_ms = t2_ms;
		m.u.beaten.t3_ms = wall_ms(t);
	}
	tree_reply(t, ref, &m);
}

/* Why a beat under the right lease cannot be, or TREE_OK. */
static enum tree_word path_refused(const struct tree *t,
				   const struct tree_msg *m)
{
	unsigned n = m->u.beat.n_path;

	if (!n || n > TREE_LEVELS_MAX || m->u.beat.n_uncles > TREE_UNCLES ||
	    m->u.beat.n_roots > TREE_ROOTS || m->u.beat.n_blocks > TREE_BLOCKS)
		return TREE_BAD;
	if (n > TREE_LEVELS)
		return TREE_DEEP;
	if (!id_equal(&m->u.beat.path[n - 1], &t->path[t->n_path - 1].id))
		return TREE_MOVED;
	for (unsigned i = 0; i < n; i++)
		if (id_equal(&m->u.beat.path[i], &t->self))
			return TREE_CYCLE;
	return TREE_OK;
}

/* Whoever listens everywhere does not know its address: its child does. */
static void hear_path(struct tree *t, const struct tree_msg *m)
{
	const struct endpoint parent = t->path[t->n_path - 1].ep;
	unsigned n = m->u.beat.n_path;
	bool other = n != t->n_path;

	if (other || !id_equal(&m->u.beat.path[0], &t->path[0].id))
		t->unrooted_ms = now_ms(t);
	for (unsigned i = 0; i < n; i++) {
		other |= !id_equal(&t->path[i].id, &m->u.beat.path[i]);
		t->path[i].id = m->u.beat.path[i];
		t->path[i].ep = m->u.beat.up[i];
	}
	t->path[n - 1].ep = parent;
	t->n_path = n;
	/* those above are not below any more */
	branch_forget_above(t);
	if (other) {
		rows_touch(t);
		branch_news(t);
	}
	t->path_new |= other;
}

static void hear_rest(struct tree *t, const struct tree_msg *m)
{
	struct tree_block own[TREE_BLOCKS];

	t->n_uncles = m->u.beat.n_uncles;
	memcpy(t->uncle, m->u.beat.uncles, t->n_uncles * sizeof(t->uncle[0]));
	t->n_root_ep = m->u.beat.n_roots;
	memcpy(t->root_ep, m->u.beat.roots,
	       t->n_root_ep * sizeof(t->root_ep[0]));
	t->fleet = m->u.beat.fleet;
	if (t->fleet > TREE_NAMED && !m->u.beat.members_hash)
		rows_members_outgrown(t);
	if (reign_candidate(t))
		reign_count(t, t->fleet);
	t->offset_ms = m->u.beat.offset_ms;
	t->error_ms = m->u.beat.error_ms;
	t->tasks_same = tree_blocks_within(m->u.beat.blocks, m->u.beat.n_blocks,
					   own, t->env->blocks(t->ctx, own));
	t->env->blocks_heard(t->ctx, NULL, m->u.beat.blocks,
			     m->u.beat.n_blocks);
	tree_see(t, &m->epoch);
	rows_limit(t, m->u.beat.rows_most);
}

static void leave_for_another(struct tree *t, bool drain)
{
	struct endpoint parent = t->path[t->n_path - 1].ep;

	link_detach(t);
	seek_start(t, NULL, random_below(t, 100));
	if (t->seek && drain)
		t->seek->avoid = parent;
}

/* It is one too many where it is, and is told there whom to ask. */
static void go_down(struct tree *t)
{
	struct endpoint parent = t->path[t->n_path - 1].ep;

	link_detach(t);
	seek_start(t, NULL, 0);
	seek_down(t, &parent);
}

static void hear_rooted(struct tree *t, bool rooted)
{
	uint64_t now = now_ms(t);
	uint64_t limit = reign_candidate(t) ? STAND_MS : UNROOTED_MS;

	if (rooted != t->rooted) {
		t->rooted = rooted;
		t->unrooted_ms = now;
		t->version++;
		branch_news(t);
		event(t, TREE_EVENT_PARENT, NULL);
	}
	if (rooted || now - t->unrooted_ms < limit)
		return;
	/* those further down stay with their parents */
	if (t->n_path == 1 || reign_candidate(t))
		leave_for_another(t, false);
}

void link_beat(struct tree *t, const struct endpoint *from,
	       const struct tree_msg *m, uint64_t ref)
{
	uint64_t t2_ms = wall_ms(t);
	enum tree_word w = tree_under(t, &m->lease) ? TREE_OK : TREE_MOVED;

	(void)from;
	t->wall_high_ms = MAX(t->wall_high_ms, t2_ms);
	if (w == TREE_OK)
		w = path_refused(t, m);
	if (w == TREE_OK && !path_reserve(t, m->u.beat.n_path))
		w = TREE_BUSY;
	if (w == TREE_CYCLE || w == TREE_DEEP) {
		link_detach(t);
		seek_start(t, NULL, random_below(t, 500));
	}
	if (w != TREE_OK) {
		answer_beat(t, ref,
			    w == TREE_BAD || w == TREE_BUSY ? w : TREE_MOVED,
			    t2_ms);
		return;
	}
	t->heard_ms = now_ms(t);
	t->beaten = true;
	t->please_asked = false;
	t->please_tries = 0;
	if (t->please) {
		tree_cancel(t, &t->please);
		watch_at(t, t->heard_ms + SILENT_MS);
	}
	hear_path(t, m);
	hear_rest(t, m);
	answer_beat(t, ref, TREE_OK, t2_ms);
	hear_rooted(t, m->u.beat.rooted);
	if (t->place != PLACE_ATTACHED || t->conf->provider->founds)
		return;
	if (m->u.beat.drain)
		leave_for_another(t, true);
	else if (m->u.beat.down)
		go_down(t);
}

/* ---- silence ---- */

static void say_please(struct tree *t)
{
	struct tree_msg m;

	msg_init(&m, TREE_PLEASE);
	m.lease = t->lease;
	m.u.please.id = t->self;
	t->please_ms = now_ms(t);
	t->please_tries++;
	t->please = tree_send(t, OP_PLEASE, 0, &t->path[t->n_path - 1].ep, &m,
			      PLEASE_MS, true);
	if (!t->please)
		parent_lost(t);
}

void link_timer(struct tree *t)
{
	uint64_t now = now_ms(t);

	if (t->place != PLACE_ATTACHED || t->please)
		return;
	if (now >= t->watch_ms + LATE_MS) {
		/* we were not there ourselves: it is given its time again */
		t->heard_ms = now;
		t->please_asked = false;
		t->please_tries = 0;
	}
	if (t->please_asked && now >= t->watch_ms)
		parent_lost(t);
	else if ((t->please_tries && !t->please_asked) ||
		 now >= t->heard_ms + SILENT_MS)
		say_please(t);
	else
		watch_at(t, t->heard_ms + SILENT_MS);
}

void link_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m)
{
	uint64_t now = now_ms(t);

	if (!ref || t->please != ref)
		return;
	t->please = 0;
	if (err == -ETIMEDOUT && now >= t->please_ms + PLEASE_MS + LATE_MS) {
		t->heard_ms = now;
		t->please_tries = 0;
		watch_at(t, now + SILENT_MS);
	} else if (err == -ECONNREFUSED && t->please_tries < 2) {
		watch_at(t, now + REFUSED_MS);
	} else if (err || m->word != TREE_OK) {
		parent_lost(t);
	} else {
		t->please_asked = true;
		watch_at(t, now + PLEASE_MS);
	}
}

void tree_parent_closed(struct tree *t)
{
	if (t->place == PLACE_ATTACHED && !t->please && !t->please_tries)
		say_please(t);
}
