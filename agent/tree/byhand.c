/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children that a client adds and removes.  One that was added is asked who it
 * is (hello), invited, and asks for a place by itself; from then on it is a
 * child as any other.  One that refuses is not expected, and asked again now
 * and then; one that was refused when it was added is not kept.
 *
 * A client that waits is told once: a list of struct adding hangs at the child.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"

#define INVITED_MS 1500 /* for it to ask for a place */

void byhand_settle(struct branch *b, enum tree_word w)
{
	struct adding *ad = b->adding;

	b->adding = NULL;
	while (ad) {
		struct adding *next = ad->next;

		if (ad->done)
			ad->done(ad->arg, w, ad->created);
		free(ad);
		ad = next;
	}
}

/* ---- asking it to join ---- */

static bool added_only_now(const struct branch *b)
{
	for (const struct adding *ad = b->adding; ad; ad = ad->next)
		if (ad->created)
			return true;
	return false;
}

/*
 * It does not want, or must not: not expected, tried again rarely.  But who is
 * a member stays one until it has another parent, leaves or is removed; what it
 * refuses may have come to it broken.
 */
void byhand_refused(struct tree *t, struct branch *b, enum tree_word w)
{
	if (b->joined && w != TREE_PARENT && w != TREE_CYCLE) {
		b->pub.refused = w;
		byhand_settle(b, w);
		branch_retry(t, b, BYHAND_RETRY_MS);
		return;
	}
	rows_forget(t, b, b->joined ? ROWS_ELSEWHERE : ROWS_GONE);
	b->joined = b->lost = false;
	b->pub.lease = (struct epoch){ 0 };
	b->pub.state = CHILD_EXPECTED;
	b->pub.refused = w;
	rows_touch(t);
	if (added_only_now(b)) {
		byhand_settle(b, w);
		branch_drop(t, b);
		return;
	}
	byhand_settle(b, w);
	event(t, TREE_EVENT_CHILD, &b->pub.id);
	branch_retry(t, b, BYHAND_RETRY_MS);
}

static void not_yet(struct tree *t, struct branch *b, int err)
{
	b->pub.err = err ? err : -EPROTO;
	branch_retry(t, b, b->joined ? DOWN_RETRY_MS : BYHAND_RETRY_MS);
}

void byhand_hello(struct tree *t, struct branch *b)
{
	struct tree_msg m;

	b->saying_invite = false;
	msg_init(&m, TREE_HELLO);
	b->ref = tree_send(t, OP_CHILD, b->slot, &b->pub.ep, &m, HELLO_LIMIT_MS,
			   false);
	if (!b->ref)
		not_yet(t, b, -EHOSTUNREACH);
}

static void say_invite(struct tree *t, struct branch *b)
{
	struct tree_msg m;

	b->saying_invite = true;
	msg_init(&m, TREE_INVITE);
	m.u.invite.id = t->self;
	m.u.invite.ep = t->conf->self;
	memcpy(m.u.invite.overlay, t->conf->overlay,
	       strnlen(t->conf->overlay, sizeof(m.u.invite.overlay) - 1));
	b->ref = tree_send(t, OP_CHILD, b->slot, &b->pub.ep, &m, HELLO_LIMIT_MS,
			   false);
	if (!b->ref)
		not_yet(t, b, -EHOSTUNREACH);
}

static enum tree_word id_refused(const struct tree *t, const struct branch *b,
				 const struct tree_msg *m)
{
	const struct node_id *id = &m->u.hello.id;
	const struct branch *other = branch_by_id(t, id);

	if (strncmp(m->u.hello.overlay, t->conf->overlay,
		    sizeof(m->u.hello.overlay)) != 0)
		return TREE_OVERLAY;
	if (id_equal(id, &t->self))
		return TREE_SELF;
	if (tree_in_path(t, id))
		return TREE_CYCLE;
	return other && other != b ? TREE_DOUBLE : TREE_OK;
}

static void hello_done(struct tree *t, struct branch *b, int err,
		       const struct tree_msg *m)
{
	enum tree_word w;

	if (err) {
		not_yet(t, b, err);
		return;
	}
	w = m->word == TREE_OK ? id_refused(t, b, m) : m->word;
	if (w != TREE_OK) {
		byhand_refused(t, b, w);
		return;
	}
	if (!id_equal(&b->pub.id, &m->u.hello.id)) {
		rows_forget(t, b, ROWS_LEFT);
		b->joined = b->lost = false;
		b->pub.state = CHILD_EXPECTED;
		b->pub.id = m->u.hello.id;
		rows_touch(t);
	}
	say_invite(t, b);
}

static void invite_done(struct tree *t, struct branch *b, int err,
			const struct tree_msg *m)
{
	if (err) {
		not_yet(t, b, err);
	} else if (m->word == TREE_BUSY || m->word == TREE_DETACHED) {
		branch_start(t, b, 300 + random_below(t, 400));
	} else if (m->word != TREE_OK) {
		byhand_refused(t, b, m->word);
	} else {
		/* now it asks for a place; else it is invited again */
		b->invited = true;
		branch_start(t, b, INVITED_MS + random_below(t, 500));
	}
}

void byhand_done(struct tree *t, struct branch *b, int err,
		 const struct tree_msg *m)
{
	if (b->saying_invite)
		invite_done(t, b, err, m);
	else
		hello_done(t, b, err, m);
}

/* ---- what clients ask ---- */

static void adding_arm(struct tree *t)
{
	uint64_t at = UINT64_MAX;

	for (unsigned i = 0; i < t->n_children; i++)
		for (struct adding *ad = t->child[i]->adding; ad; ad = ad->next)
			at = MIN(at, ad->at_ms);
	timer_at(t, TIMER_ADD, at);
}

void byhand_timer(struct tree *t)
{
	for (unsigned i = 0; i < t->n_children; i++) {
		struct adding **at = &t->child[i]->adding;

		while (*at) {
			struct adding *ad = *at;

			if (ad->at_ms > now_ms(t)) {
				at = &ad->next;
				continue;
			}
			*at = ad->next;
			if (ad->done)
				ad->done(ad->arg, TREE_WAIT, ad->created);
			free(ad);
		}
	}
	adding_arm(t);
}

static enum tree_word may_add(const struct tree *t, const struct endpoint *ep)
{
	if (!tree_target_valid(ep))
		return TREE_BAD;
	if (endpoint_equal(ep, &t->conf->self))
		return TREE_SELF;
	for (unsigned i = 0; i < tree_level(t); i++)
		if (endpoint_equal(ep, &t->path[i].ep))
			return TREE_CYCLE;
	return t->draining ? TREE_BUSY : TREE_OK;
}

void tree_add(struct tree *t, const struct endpoint *ep, uint32_t wait_ms,
	      void (*done)(void *arg, enum tree_word w, bool created),
	      void *arg)
{
	struct branch *b = branch_by_endpoint(t, ep);
	enum tree_word w = may_add(t, ep);
	bool created = !b, waits = w == TREE_OK && !(b && b->joined);
	struct adding *ad = NULL;

	if (waits && done) {
		ad = calloc(1, sizeof(*ad));
		if (!ad)
			w = TREE_BUSY;
	}
	if (w == TREE_OK && !b) {
		b = branch_new(t, ep);
		if (!b)
			w = t->n_children == TREE_CHILDREN ? TREE_FULL
							   : TREE_BUSY;
	}
	if (w == TREE_OK)
		b->pub.by_hand = true;
	/* also one that refused before: who asks again wants it now */
	if (w == TREE_OK && waits && t->started && !b->ref && !b->until_ms)
		branch_start(t, b, 0);
	if (w != TREE_OK || !ad) {
		free(ad);
		if (done)
			done(arg, w, false);
		return;
	}
	*ad = (struct adding){ .next = b->adding,
			       .at_ms = now_ms(t) + wait_ms,
			       .created = created,
			       .done = done,
			       .arg = arg };
	b->adding = ad;
	adding_arm(t);
}

int tree_remove(struct tree *t, const struct endpoint *ep,
		const struct node_id *id)
{
	struct branch *b = ep ? branch_by_endpoint(t, ep) : NULL;

	if (!ep && id)
		b = branch_by_id(t, id);
	if (!b)
		return -ENOENT;
	branch_forget(t, b, ROWS_GONE);
	return 0;
}

void tree_suspect(struct tree *t, const struct node_id *id)
{
	struct branch *b = branch_by_id(t, id);

	if (b && b->joined && !b->lost && !b->ref && !b->failures)
		branch_start(t, b, 0);
}
