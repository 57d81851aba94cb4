/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What beats say to a child, and what its answers do: its clock, its sizes, its
 * rows and blocks, and that a grant was taken.
 */
#include "agent/tree/private.h"

/* ---- said ---- */

static void fill_uncles(const struct tree *t, const struct branch *b,
			struct tree_msg *m)
{
	unsigned i = 0;

	while (t->child[i] != b)
		i++;
	/* those after it: not all orphans ask the same sibling first */
	for (unsigned k = 1; k < t->n_children; k++) {
		const struct branch *s = t->child[(i + k) % t->n_children];

		if (m->u.beat.n_uncles == TREE_UNCLES)
			break;
		if (s->joined && s->pub.state == CHILD_UP)
			m->u.beat.uncles[m->u.beat.n_uncles++] =
				(struct tree_peer){ s->pub.id, s->pub.ep };
	}
}

static void fill_roots(const struct tree *t, struct tree_msg *m)
{
	const struct endpoint *r = t->conf->n_roots ? t->conf->roots
						    : t->root_ep;
	unsigned n = t->conf->n_roots ? t->conf->n_roots : t->n_root_ep;

	m->u.beat.n_roots = MIN(n, TREE_ROOTS);
	if (m->u.beat.n_roots)
		memcpy(m->u.beat.roots, r,
		       m->u.beat.n_roots * sizeof(m->u.beat.roots[0]));
}

void beat_say(struct tree *t, struct branch *b)
{
	struct tree_msg m;
	unsigned n = 0;

	msg_init(&m, TREE_BEAT);
	m.lease = b->until_ms ? b->granted : b->pub.lease;
	m.u.beat.seq = ++b->seq;
	m.u.beat.rooted = tree_rooted(t);
	m.u.beat.drain = b->drain;
	m.u.beat.down = b->go_down;
	for (; n < tree_level(t); n++) {
		m.u.beat.path[n] = t->path[n].id;
		m.u.beat.up[n] = t->path[n].ep;
	}
	m.u.beat.path[n] = t->self;
	m.u.beat.up[n++] = t->conf->self;
	m.u.beat.n_path = n;
	m.u.beat.fleet = t->place != PLACE_ROOT
				 ? t->fleet
				 : hosts_told(tree_expected(t) - t->draining);
	m.u.beat.n_blocks = t->env->blocks(t->ctx, m.u.beat.blocks);
	fill_uncles(t, b, &m);
	fill_roots(t, &m);
	m.u.beat.members_hash = rows_members_hash(t);
	if (t->conf->provider->hash)
		m.u.beat.list_hash = t->conf->provider->hash(t->conf->member);
	m.u.beat.rows_most = rows_most(t, b);
	m.u.beat.offset_ms = t->offset_ms + b->pub.offset_ms;
	m.u.beat.error_ms = t->error_ms + b->pub.error_ms;
	m.u.beat.t1_ms = b->t1_ms = wall_ms(t);
	b->sent_ms = now_ms(t);
	b->news = false;
	b->ref = tree_send(t, OP_CHILD, b->slot, &b->pub.ep, &m, BEAT_LIMIT_MS,
			   b->fresh);
	if (!b->ref)
		branch_next_beat(t, b);
}

/* ---- heard ---- */

/*
 * Four stamps: the offset is known to half of the time on the way.  A sample
 * that knows less is not taken, until the better one is too old.
 */
static void clock_sample(const struct tree *t, struct branch *b,
			 const struct tree_msg *m)
{
	double t1 = (double)b->t1_ms, t4 = (double)wall_ms(t);
	double t2 = (double)m->u.beaten.t2_ms, t3 = (double)m->u.beaten.t3_ms;
	double error = (t4 - t1 - (t3 - t2)) / 2 + 1;

	b->pub.error_ms += CLOCK_AGE_MS;
	if (t3 < t2 || error < 0 || (b->pub.seen_ms && error > b->pub.error_ms))
		return;
	b->pub.offset_ms = (t2 - t1 + t3 - t4) / 2;
	b->pub.error_ms = error;
}

/*
 * As high as its rows; more only where a grant passed lately of which they do
 * not tell yet.  What it says above that would keep all others here from a
 * place elsewhere.
 */
static uint32_t height_most(const struct tree *t, const struct branch *b)
{
	if (branch_known(b) || now_ms(t) >= b->grown_ms + UNTOLD_MS)
		return b->rows_height;
	return MAX(b->rows_height, b->pub.height);
}

static void beat_sizes(struct tree *t, struct branch *b,
		       const struct tree_msg *m)
{
	bool known = b->told_hash == m->u.beaten.rows_hash;
	uint32_t hosts = known ? b->n_hosts : m->u.beaten.hosts;

	hosts = MIN(MAX(hosts, 1), TREE_MEMBERS);
	b->promised -= (b->promised + 3) / 4;
	b->pub.height = MIN(m->u.beaten.height, height_most(t, b));
	b->pub.hosts = b->said_hosts = hosts;
	if (b->pub.incarnation != m->u.beaten.incarnation) {
		b->pub.incarnation = m->u.beaten.incarnation;
		rows_touch(t);
	}
}

static void hear_blocks(struct tree *t, struct branch *b,
			const struct tree_msg *m)
{
	unsigned n = MIN(m->u.beaten.n_blocks, TREE_BLOCKS);
	struct tree_block own[TREE_BLOCKS];

	b->pub.tasks_same = tree_blocks_within(own, t->env->blocks(t->ctx, own),
					       m->u.beaten.blocks, n);
	t->env->blocks_heard(t->ctx, &b->pub.id, m->u.beaten.blocks, n);
}

void beat_answered(struct tree *t, struct branch *b, const struct tree_msg *m)
{
	uint64_t now = now_ms(t);

	clock_sample(t, b, m);
	b->failures = 0;
	b->retry_ms = 0;
	b->fresh = b->lost = false;
	b->pub.err = 0;
	b->pub.refused = TREE_OK;
	b->pub.seen_ms = wall_ms(t);
	b->pub.rtt_us = (uint32_t)MIN((now - b->sent_ms) * 1000, UINT32_MAX);
	if (b->until_ms) {
		b->until_ms = 0;
		b->joined = true;
		b->pub.lease = b->granted;
		b->pub.incarnation = b->granted_incarnation;
		rows_touch(t);
		climb_tell(t, TREE_GRANT_CONFIRM, b, &b->granted);
	}
	b->said_hash = m->u.beaten.rows_hash;
	b->whole = m->u.beaten.whole && b->sent_ms > b->grown_ms;
	b->bad_rows &= b->said_hash != b->told_hash;
	if (b->said_hash == b->told_hash)
		rows_crowded(t, b, false);
	b->members_said = m->u.beaten.members_hash;
	beat_sizes(t, b, m);
	branch_state(t, b, CHILD_UP);
	if (b->adding)
		byhand_settle(b, TREE_OK);
	memcpy(b->pub.version, m->u.beaten.version, sizeof(b->pub.version));
	hear_blocks(t, b, m);
	if (!b->side && b->told_hash != b->said_hash && now >= b->rows_at_ms)
		rows_fetch(t, b);
	if (!b->side && b->members_said != rows_members_hash(t))
		rows_announce(t, b);
	branch_next_beat(t, b);
}
