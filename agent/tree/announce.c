/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is a member, whoever tells of it.  Hosts of a list that never came are
 * expected by all above their lines, and told to nobody: the root has the list,
 * too.  It announces all members down the tree when they change, up to 4,096,
 * and thereby which of the listed are still waited for.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"
#include "common/hash.h"

/* ---- those that are listed ---- */

void rows_list(struct tree *t)
{
	const struct member_ops *p = t->conf->provider;
	struct endpoint *ep = p->expected ? calloc(TREE_MEMBERS, sizeof(*ep))
					  : NULL;
	int n = ep ? p->expected(t->conf->member, true, ep, TREE_MEMBERS) : 0;

	if (n > 0)
		t->unseen = calloc((size_t)n, sizeof(*t->unseen));
	for (int i = 0; t->unseen && i < n; i++) {
		struct tree_peer *u = &t->unseen[t->n_unseen++];

		rows_derived_id(&ep[i], &u->id);
		u->ep = ep[i];
	}
	free(ep);
	rows_touch(t);
}

/* Those that the root does not announce as such were seen, or have left. */
static void unseen_announced(struct tree *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n_unseen; i++)
		for (uint32_t k = 0; k < t->n_members; k++)
			if (id_equal(&t->members[k].id, &t->unseen[i].id)) {
				t->unseen[n++] = t->unseen[i];
				break;
			}
	if (n != t->n_unseen)
		rows_touch(t);
	t->n_unseen = n;
}

/* ---- members that are announced ---- */

static void announce_renew(struct tree *t)
{
	uint64_t now = now_ms(t), hash = 0;
	const struct hash_key key = { { 5 } };
	const struct tree_row *row;
	struct tree_peer *p;
	uint32_t n;

	rows_resolve(t);
	if (t->dirty)
		return;
	/* without itself, the first, if it is about to leave */
	row = t->rows + t->draining;
	n = t->n_rows - t->draining;
	t->announce_due = false;
	t->reign->announced_ms = now;
	p = n <= TREE_NAMED ? calloc(MAX(n, 1), sizeof(*p)) : NULL;
	for (uint32_t i = 0; p && i < n; i++) {
		p[i].id = row[i].id;
		p[i].ep.addr = row[i].ep.addr;
		p[i].ep.port = row[i].ep.port;
		hash += siphash13(&key, &p[i], sizeof(p[i]));
	}
	free(t->members);
	t->members = p;
	t->n_members = p ? n : 0;
	t->members_hash = hash;
}

void rows_members_outgrown(struct tree *t)
{
	if (!t->members)
		return;
	free(t->members);
	t->members = NULL;
	t->n_members = 0;
	t->members_hash = 0;
	event(t, TREE_EVENT_ROWS, NULL);
}

uint64_t rows_members_hash(struct tree *t)
{
	uint64_t gap = t->n_rows <= 64 ? 0 : 5000;

	if (t->place == PLACE_ROOT && t->n_rows > TREE_NAMED)
		rows_members_outgrown(t);
	else if (t->place == PLACE_ROOT && (t->dirty || t->announce_due) &&
		 now_ms(t) >= t->reign->announced_ms + gap)
		announce_renew(t);
	return t->members_hash;
}

const struct tree_peer *tree_members(const struct tree *t, uint32_t *n)
{
	*n = t->n_members;
	return t->members;
}

int rows_members_set(struct tree *t, const struct tree_peer *peer, uint32_t n,
		     uint64_t hash)
{
	struct tree_peer *p = calloc(MAX(n, 1), sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (n)
		memcpy(p, peer, n * sizeof(*p));
	free(t->members);
	t->members = p;
	t->n_members = n;
	t->members_hash = hash;
	return 0;
}

void rows_announced(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	uint32_t n = m->u.announce.n;
	enum tree_word w = TREE_OK;

	if (!tree_under(t, &m->lease))
		w = TREE_MOVED;
	else if (n > TREE_NAMED)
		w = TREE_BAD;
	else if (rows_members_set(t, m->u.announce.peer, n, m->u.announce.hash))
		w = TREE_BUSY;
	tree_refuse(t, ref, TREE_ANNOUNCE, w);
	if (w != TREE_OK)
		return;
	unseen_announced(t);
	event(t, TREE_EVENT_ROWS, NULL);
}

void rows_announce(struct tree *t, struct branch *b)
{
	struct tree_msg m;

	if (!t->members)
		return;
	msg_init(&m, TREE_ANNOUNCE);
	m.lease = b->pub.lease;
	m.u.announce.hash = t->members_hash;
	m.u.announce.n = t->n_members;
	m.u.announce.peer = t->members;
	b->announcing = true;
	b->side =
		tree_send(t, OP_SIDE, b->slot, &b->pub.ep, &m, FETCH_MS, false);
}
