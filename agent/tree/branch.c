/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Towards the children: who they are, their beats, their failures.
 *
 * Each child has one timer and at most one message on its way.  One that was
 * granted a place gets a beat at once, and counts from the first that it
 * answers; then it gets a beat a second.  A failed beat makes it suspect, a
 * second and a try on a new connection decide that it is down; a refused
 * connection decides faster.  A child that is down stays expected.  One that
 * says it has left is asked now and again where it is: under another parent it
 * is no member here any more.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"
#include "common/hash.h"

#define FIRST_BEAT_MS 10
#define NEWS_MS       100 /* to the beat that tells of some, at most */
#define SLOT_RETRY_MS 60
#define PLEASE_GAP_MS 100
#define CHILDREN_KEPT 32    /* of orphans that came here */
#define HAND_DOWN_MS  10000 /* between two of the others */
#define DOWN_MS       2000  /* in which it hears of it, and asks */
#define GONE_DOWN_MS  600000

/* ---- the list ---- */

struct branch *branch_by_id(const struct tree *t, const struct node_id *id)
{
	for (unsigned i = 0; i < t->n_children; i++)
		if (id_equal(&t->child[i]->pub.id, id))
			return t->child[i];
	return NULL;
}

struct branch *branch_by_lease(const struct tree *t, const struct epoch *e)
{
	for (unsigned i = 0; i < t->n_children && !epoch_none(e); i++)
		if (epoch_compare(&t->child[i]->pub.lease, e) == 0 ||
		    (t->child[i]->until_ms &&
		     epoch_compare(&t->child[i]->granted, e) == 0))
			return t->child[i];
	return NULL;
}

struct branch *branch_by_endpoint(const struct tree *t,
				  const struct endpoint *ep)
{
	for (unsigned i = 0; i < t->n_children; i++)
		if (endpoint_equal(&t->child[i]->pub.ep, ep))
			return t->child[i];
	return NULL;
}

static struct branch *branch_by_slot(const struct tree *t, unsigned slot)
{
	/* those that came one after the other are where their slot is */
	if (slot < t->n_children && t->child[slot]->slot == slot)
		return t->child[slot];
	for (unsigned i = 0; i < t->n_children; i++)
		if (t->child[i]->slot == slot)
			return t->child[i];
	return NULL;
}

bool branch_counts(const struct branch *b)
{
	return b->joined || (b->pub.by_hand && b->pub.refused == TREE_OK);
}

struct branch *branch_new(struct tree *t, const struct endpoint *ep)
{
	struct branch *b;

	if (t->n_children == TREE_CHILDREN)
		return NULL;
	if (t->n_children == t->cap_children) {
		unsigned cap = MIN(MAX(4, t->cap_children * 2), TREE_CHILDREN);
		struct branch **p = reallocarray(t->child, cap, sizeof(*p));

		if (!p)
			return NULL;
		t->child = p;
		t->cap_children = cap;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->slot = (uint8_t)__builtin_ctzll(~t->slots);
	t->slots |= (uint64_t)1 << b->slot;
	b->pub.ep = *ep;
	b->pub.hosts = b->n_hosts = 1;
	rows_derived_id(ep, &b->pub.id);
	t->child[t->n_children++] = b;
	rows_touch(t);
	return b;
}

static void branch_free(struct tree *t, struct branch *b)
{
	tree_cancel(t, &b->ref);
	tree_cancel(t, &b->side);
	timer_at(t, TIMER_CHILD + b->slot, UINT64_MAX);
	t->slots &= ~((uint64_t)1 << b->slot);
	byhand_settle(b, TREE_DENIED);
	rows_page_drop(b);
	free(b->newcomer);
	free(b->rows);
	free(b);
}

void branch_drop(struct tree *t, struct branch *b)
{
	struct node_id id = b->pub.id;
	unsigned i = 0;

	while (t->child[i] != b)
		i++;
	memmove(&t->child[i], &t->child[i + 1],
		(t->n_children - i - 1) * sizeof(t->child[0]));
	t->n_children--;
	branch_free(t, b);
	rows_touch(t);
	event(t, TREE_EVENT_CHILD, &id);
}

void branch_free_all(struct tree *t)
{
	while (t->n_children)
		branch_free(t, t->child[--t->n_children]);
	free(t->child);
	t->child = NULL;
}

static bool state_up(enum child_state s)
{
	return s == CHILD_UP || s == CHILD_SUSPECT;
}

void branch_state(struct tree *t, struct branch *b, enum child_state s)
{
	bool up = state_up(b->pub.state);

	if (b->pub.state == s)
		return;
	b->pub.state = s;
	if (s == CHILD_DOWN)
		b->down_ms = now_ms(t);
	if (up != state_up(s))
		rows_touch(t);
	event(t, TREE_EVENT_CHILD, &b->pub.id);
}

/* ---- timing ---- */

void branch_start(struct tree *t, struct branch *b, uint64_t delay_ms)
{
	timer_at(t, TIMER_CHILD + b->slot, now_ms(t) + delay_ms);
}

void branch_next_beat(struct tree *t, struct branch *b)
{
	/* +-5 %: agents that started together do not stay together */
	uint64_t next =
		b->sent_ms + BEAT_MS * 19 / 20 + random_below(t, BEAT_MS / 10);
	uint64_t now = now_ms(t);

	if (b->news && !b->failures)
		next = now + random_below(t, NEWS_MS);
	branch_start(t, b, next > now ? next - now : 0);
}

void branch_retry(struct tree *t, struct branch *b, uint32_t max_ms)
{
	b->retry_ms = b->retry_ms ? MIN(b->retry_ms * 5 / 4, max_ms) : BEAT_MS;
	branch_start(t, b,
		     b->retry_ms * 3 / 4 + random_below(t, b->retry_ms / 2));
}

void branch_news(struct tree *t)
{
	for (unsigned i = 0; i < t->n_children; i++) {
		struct branch *b = t->child[i];

		if (b->ref)
			b->news = true;
		else if (b->joined && !b->lost && !b->failures)
			branch_start(t, b, random_below(t, NEWS_MS));
	}
}

/*
 * Its rows tell of it once all agents between have fetched them: each says in
 * its beats that it has.
 */
void branch_grows(const struct tree *t, struct branch *b)
{
	b->grown_ms = now_ms(t);
	b->whole = false;
}

bool branch_known(const struct branch *b)
{
	return b->joined && b->whole && b->told_hash == b->said_hash;
}

/* Was the parent told that all are known, and has it granted nothing since? */
static bool told_above(const struct tree *t)
{
	return t->place == PLACE_ATTACHED && t->told_whole &&
	       t->granted_ms < t->told_ms;
}

/*
 * No grant passed since it told how many: whatever its rows, no more came.  If
 * one was asked for and none was given the parent takes no more of this agent
 * than before: it would reject it, with all its children.
 */
uint32_t branch_most(const struct tree *t, const struct branch *b)
{
	if (branch_known(b))
		return b->pub.hosts;
	return b->joined && (b->whole || told_above(t))
		       ? MAX(b->pub.hosts, b->said_hosts)
		       : TREE_MEMBERS;
}

/* ---- a place ---- */

void branch_granted(struct tree *t, struct branch *b,
		    const struct tree_mover *m, const struct epoch *lease)
{
	const struct hash_key key = { { 6 } };

	tree_cancel(t, &b->ref);
	if (!id_equal(&b->pub.id, &m->id)) {
		/* another host at this address, or the same one reborn, or
		 * one that was known by its address alone */
		rows_forget(t, b, ROWS_LEFT);
		b->joined = false;
	}
	if (!b->joined)
		b->pub.state = CHILD_EXPECTED;
	if (!b->pub.by_hand || !tree_target_valid(&b->pub.ep))
		b->pub.ep = m->ep;
	b->pub.id = m->id;
	if (!b->joined)
		b->pub.incarnation = m->incarnation;
	b->granted_incarnation = m->incarnation;
	b->granted = *lease;
	b->pub.refused = TREE_OK;
	b->granted_height = b->pub.height = m->height;
	b->rack =
		m->rack[0]
			? (uint32_t)siphash13(&key, m->rack,
					      strnlen(m->rack, sizeof(m->rack)))
			: 0;
	b->invited = b->fresh = b->drain = b->go_down = false;
	if (!b->joined)
		b->pub.hosts = m->hosts;
	b->until_ms = now_ms(t) + GRANT_MS;
	branch_grows(t, b);
	rows_brought(t, b, m);
	rows_touch(t);
	branch_start(t, b, FIRST_BEAT_MS);
}

/* The mover did not take it; ours: it never left. */
static void slot_over(struct tree *t, struct branch *b, bool ours)
{
	climb_tell(t, TREE_GRANT_VOID, b, &b->granted);
	b->until_ms = 0;
	if (b->joined && ours) {
		branch_start(t, b, 0);
	} else if (b->joined) {
		/* who is silent may be here all the same: a late copy of its
		 * request came; but a new process is not */
		b->lost |= b->granted_incarnation != b->pub.incarnation;
		branch_state(t, b, CHILD_DOWN);
		branch_retry(t, b, DOWN_RETRY_MS);
	} else if (b->pub.by_hand) {
		branch_retry(t, b, BYHAND_RETRY_MS);
	} else {
		branch_drop(t, b);
	}
}

static void slot_retry(struct tree *t, struct branch *b)
{
	if (now_ms(t) + SLOT_RETRY_MS >= b->until_ms)
		slot_over(t, b, false);
	else
		branch_start(t, b, SLOT_RETRY_MS);
}

/* ---- beats ---- */

void branch_forget(struct tree *t, struct branch *b, enum rows_fate fate)
{
	rows_forget(t, b, fate);
	branch_drop(t, b);
}

static void beat_failed(struct tree *t, struct branch *b, int err)
{
	uint64_t took = now_ms(t) - b->sent_ms;
	bool no = err == -ECONNREFUSED;

	b->fresh = false;
	if (err == -ETIMEDOUT && took > BEAT_LIMIT_MS + LATE_MS) {
		branch_start(t, b, 0); /* we were not there ourselves */
		return;
	}
	if (b->until_ms) {
		slot_retry(t, b);
		return;
	}
	b->pub.err = err;
	if (b->failures < UINT8_MAX)
		b->failures++;
	if (b->failures >= 3 || (no && b->failures >= 2)) {
		branch_state(t, b, CHILD_DOWN);
		if (!b->pub.by_hand && tree_forgets(t, b->down_ms))
			branch_forget(t, b, ROWS_GONE);
		else
			branch_retry(t, b, DOWN_RETRY_MS);
		return;
	}
	if (b->pub.state == CHILD_UP)
		branch_state(t, b, CHILD_SUSPECT);
	b->retry_ms = 0;
	b->fresh = b->failures == 2;
	if (b->fresh)
		branch_start(t, b, 0);
	else if (no)
		branch_start(t, b, REFUSED_MS);
	else
		branch_next_beat(t, b);
}

/* It does not take us for its parent. */
static void beat_moved(struct tree *t, struct branch *b,
		       const struct tree_msg *m)
{
	bool other = !id_equal(&m->u.beaten.id, &b->pub.id);
	bool elsewhere = epoch_compare(&m->lease, &b->pub.lease) > 0;

	if (b->until_ms) {
		bool ours = !other && b->joined &&
			    epoch_compare(&m->lease, &b->pub.lease) == 0;

		/* attached already: it waits for no grant any more */
		if (!other && !epoch_none(&m->lease) &&
		    epoch_compare(&m->lease, &b->granted) != 0)
			slot_over(t, b, ours);
		else
			slot_retry(t, b);
		return;
	}
	if (other || elsewhere) {
		rows_forget(t, b, other ? ROWS_LEFT : ROWS_ELSEWHERE);
		if (!b->pub.by_hand) {
			branch_drop(t, b);
			return;
		}
		b->joined = b->lost = false;
		b->pub.lease = (struct epoch){ 0 };
		b->pub.state = CHILD_EXPECTED;
		rows_touch(t);
		branch_start(t, b, 0);
		return;
	}
	if (!b->lost)
		b->retry_ms = 0;
	b->lost = true;
	b->failures = 0;
	branch_state(t, b, CHILD_DOWN);
	b->pub.err = -ENOTCONN;
	if (!b->pub.by_hand && tree_forgets(t, b->down_ms))
		branch_forget(t, b, ROWS_GONE);
	else
		branch_retry(t, b, DOWN_RETRY_MS);
}

static void beat_done(struct tree *t, struct branch *b, int err,
		      const struct tree_msg *m)
{
	bool under;

	if (err) {
		beat_failed(t, b, err);
		return;
	}
	under = id_equal(&m->u.beaten.id, &b->pub.id) &&
		m->u.beaten.incarnation == (b->until_ms ? b->granted_incarnation
							: b->pub.incarnation);
	if (m->word == TREE_OK && under) {
		beat_answered(t, b, m);
	} else if (m->word == TREE_OK || m->word == TREE_MOVED) {
		beat_moved(t, b, m);
	} else {
		b->pub.refused = m->word;
		beat_failed(t, b, -EPROTO);
	}
}

/* Not again soon: it may have come back since it reaches nobody else. */
static bool may_go_down(const struct tree *t, const struct branch *b)
{
	return b->pub.state == CHILD_UP && !b->until_ms && !b->pub.by_hand &&
	       (!b->sent_down_ms ||
		now_ms(t) >= b->sent_down_ms + GONE_DOWN_MS) &&
	       climb_fits_below(t, b->pub.height);
}

/*
 * Orphans are taken whatever their number: they have lost enough.  Of more
 * than are kept one after the other is told to ask for a place further down,
 * as those do who join; the smallest first.  With a list they go back to
 * their own places instead.
 */
static void hand_down(struct tree *t)
{
	struct branch *best = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < t->n_children; i++) {
		struct branch *b = t->child[i];

		if (!b->joined || b->lost || !state_up(b->pub.state))
			continue;
		n++;
		if (now_ms(t) >= b->sent_down_ms + DOWN_MS)
			b->go_down = false;
		if (may_go_down(t, b) &&
		    (!best || b->pub.hosts < best->pub.hosts))
			best = b;
	}
	if (n <= MAX(CHILDREN_KEPT, t->conf->fanout) ||
	    !t->conf->provider->seeds || !tree_may_grant(t)) {
		t->hand_down_ms = 0;
		return;
	}
	if (!t->hand_down_ms) {
		t->hand_down_ms = now_ms(t) + HAND_DOWN_MS;
	} else if (best && now_ms(t) >= t->hand_down_ms) {
		t->hand_down_ms = now_ms(t) + HAND_DOWN_MS;
		best->sent_down_ms = now_ms(t);
		best->go_down = true;
		branch_start(t, best, 0);
	}
}

void branch_timer(struct tree *t, unsigned slot)
{
	struct branch *b = branch_by_slot(t, slot);

	if (!b || b->ref)
		return; /* its answer arms the timer */
	b->invited = false;
	hand_down(t);
	if (b->until_ms && now_ms(t) >= b->until_ms)
		slot_over(t, b, false);
	else if (b->until_ms || (b->joined && !(b->lost && b->pub.by_hand)))
		beat_say(t, b);
	else if (t->place != PLACE_DETACHED)
		byhand_hello(t, b);
	else
		branch_start(t, b, 200 + random_below(t, 100));
}

void branch_done(struct tree *t, uint64_t ref, int err,
		 const struct tree_msg *m)
{
	struct branch *b = branch_by_slot(t, ref >> 8 & 0xff);

	if (b && b->side == ref) {
		b->side = 0;
		rows_done(t, b, err, m);
		return;
	}
	if (!b || b->ref != ref)
		return;
	b->ref = 0;
	if (b->until_ms || (b->joined && !(b->lost && b->pub.by_hand)))
		beat_done(t, b, err, m);
	else
		byhand_done(t, b, err, m);
}

void branch_forget_above(struct tree *t)
{
	for (unsigned i = t->n_children; i-- > 0;) {
		struct branch *b = t->child[i];

		if (!tree_in_path(t, &b->pub.id) || b->until_ms || b->ref)
			continue;
		if (b->pub.by_hand) {
			byhand_refused(t, b, TREE_CYCLE);
		} else {
			rows_forget(t, b, ROWS_ELSEWHERE);
			branch_drop(t, b);
		}
	}
}

/* ---- what children ask ---- */

void branch_please(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	struct branch *b = branch_by_lease(t, &m->lease);

	if (!b || !id_equal(&b->pub.id, &m->u.please.id) ||
	    (b->lost && !b->until_ms)) {
		tree_refuse(t, ref, TREE_PLEASE, TREE_MOVED);
		return;
	}
	tree_refuse(t, ref, TREE_PLEASE, TREE_OK);
	if (b->ref && now_ms(t) - b->sent_ms < PLEASE_GAP_MS)
		return;
	/* the connection in use may be dead */
	tree_cancel(t, &b->ref);
	b->fresh = true;
	branch_start(t, b, 0);
}

void branch_leave(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	struct branch *b = branch_by_lease(t, &m->lease);

	/* who is above knows its lease; nobody else may say this */
	if (tree_under(t, &m->lease) && id_equal(&m->u.leave.id, &t->self) &&
	    m->u.leave.incarnation > t->incarnation) {
		tree_refuse(t, ref, TREE_LEAVE, TREE_OK);
		seek_new_identity(t);
		return;
	}
	if (!b || !id_equal(&b->pub.id, &m->u.leave.id)) {
		tree_refuse(t, ref, TREE_LEAVE, TREE_MOVED);
		return;
	}
	tree_refuse(t, ref, TREE_LEAVE, TREE_OK);
	branch_forget(t, b, ROWS_LEFT);
}
