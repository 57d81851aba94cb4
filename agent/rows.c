/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows: the hosts of the subtree, put together from what each child said of
 * its own, and the members of the overlay as the root announced them.  A host
 * that two children claim is the first one's.  Rows are made again when they
 * are asked for after something changed; a change of membership is a new epoch.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "common/hash.h"
#include "common/util.h"

static uint64_t row_hash(const struct host_row *m, bool up, uint8_t what)
{
	struct {
		struct node_id id, parent;
		uint64_t incarnation;
		struct ip_addr addr;
		uint16_t port;
		uint8_t up, zero[5];
	} text = { .id = m->id,
		   .parent = m->parent,
		   .incarnation = m->incarnation,
		   .addr = m->ep.addr,
		   .port = m->ep.port,
		   .up = up };
	struct hash_key key = { { 4, what } };

	static_assert(sizeof(text) == 64, "no padding");
	return siphash24(&key, &text, sizeof(text));
}

/* A set of ids: open addressing, never more than half full. */
struct id_set {
	const struct host_row **slot;
	uint32_t mask;
};

static bool id_set_add(struct id_set *s, const struct host_row *m)
{
	uint32_t i = (uint32_t)node_id_head(&m->id) & s->mask;

	for (; s->slot[i]; i = (i + 1) & s->mask)
		if (node_id_equal(&s->slot[i]->id, &m->id))
			return false;
	s->slot[i] = m;
	return true;
}

static bool row_add(struct overlay *o, struct id_set *s,
		    const struct host_row *m, bool up)
{
	o->rows[o->n_rows] = *m;
	if (!id_set_add(s, &o->rows[o->n_rows]))
		return false;
	o->rows_up[o->n_rows++] = up;
	return true;
}

static void rows_add_child(struct overlay *o, struct id_set *s,
			   const struct branch *b)
{
	bool up = b->pub.state == CHILD_UP;
	struct host_row m = { .id = b->pub.id,
			      .parent = o->self,
			      .ep = b->pub.ep,
			      .incarnation = b->pub.incarnation,
			      .last_seen_ms = b->pub.last_seen_ms };

	if (!row_add(o, s, &m, up))
		return;
	for (uint32_t i = 1; i < b->n_rows; i++) {
		m = b->rows[i].m;
		if (b->rows[i].up)
			m.last_seen_ms = b->pub.last_seen_ms;
		row_add(o, s, &m, up && b->rows[i].up);
	}
}

static int rows_alloc(struct overlay *o, struct id_set *s)
{
	size_t n = 1, slots = 4;
	struct host_row *rows;
	bool *up;

	for (unsigned i = 0; i < o->n_children; i++)
		n += 1 + o->child[i]->n_rows;
	while (slots < 2 * n)
		slots *= 2;
	rows = reallocarray(o->rows, n, sizeof(*rows));
	if (rows)
		o->rows = rows;
	up = reallocarray(o->rows_up, n, sizeof(*up));
	if (up)
		o->rows_up = up;
	s->slot = calloc(slots, sizeof(*s->slot));
	s->mask = (uint32_t)slots - 1;
	if (rows && up && s->slot)
		return 0;
	free(s->slot);
	return -ENOMEM;
}

/* Without memory the rows stay as they were, until the next try. */
void overlay_rows_update(struct overlay *o)
{
	struct host_row self = { .id = o->self,
				 .incarnation = o->incarnation,
				 .ep = overlay_endpoint(o) };
	struct id_set s;
	uint64_t ids = 0;

	if (!o->dirty || rows_alloc(o, &s))
		return;
	if (o->n_path)
		self.parent = o->parent_id;
	self.last_seen_ms = clock_wall_ms();
	o->n_rows = 0;
	row_add(o, &s, &self, true);
	for (unsigned i = 0; i < o->n_children; i++)
		if (!o->child[i]->pub.refused[0])
			rows_add_child(o, &s, o->child[i]);
	free(s.slot);
	o->rows_hash = o->members_hash = 0;
	for (uint32_t i = 0; i < o->n_rows; i++) {
		struct host_row m = o->rows[i];

		o->rows_hash += row_hash(&m, o->rows_up[i], 0);
		m.incarnation = 0;
		memset(&m.parent, 0, sizeof(m.parent));
		o->members_hash += row_hash(&m, false, 1);
		ids += node_id_head(&m.id) * 0x9e3779b97f4a7c15u;
	}
	o->dirty = false;
	/* each change of membership is a new epoch, and the root counts them */
	if (o->ids_hash && ids != o->ids_hash && !o->n_path)
		o->epoch.n++;
	o->ids_hash = ids;
}

const struct host_row *overlay_rows(const struct overlay *o, unsigned *n)
{
	/* made on demand: nothing that a caller can see changes */
	overlay_rows_update((struct overlay *)o);
	*n = o->n_rows;
	return o->rows;
}

uint64_t overlay_members_hash(const struct overlay *o)
{
	overlay_rows_update((struct overlay *)o);
	return o->n_path ? o->members_told : o->members_hash;
}

const struct host_row *overlay_members(const struct overlay *o, unsigned *n)
{
	if (!o->n_path || !o->n_members)
		return overlay_rows(o, n);
	*n = o->n_members;
	return o->members;
}

static bool peer_in(const struct endpoint *list, size_t n,
		    const struct ip_addr *a, struct endpoint *ep)
{
	for (size_t i = 0; i < n; i++) {
		if (addr_equal(&list[i].addr, a)) {
			*ep = list[i];
			return true;
		}
	}
	return false;
}

bool overlay_known_peer(const struct overlay *o, const struct ip_addr *a,
			struct endpoint *ep)
{
	const struct conf *c = o->agent->conf;
	const struct host_row *m;
	unsigned n;

	for (unsigned i = 0; i < o->n_children; i++)
		if (peer_in(&o->child[i]->pub.ep, 1, a, ep))
			return true;
	if (o->n_path && peer_in(&o->parent, 1, a, ep))
		return true;
	m = overlay_members(o, &n);
	for (unsigned i = 0; i < n; i++)
		if (peer_in(&m[i].ep, 1, a, ep))
			return true;
	if (peer_in(c->parents, c->n_parents, a, ep))
		return true;
	for (size_t i = 0; i < c->n_peers; i++) {
		if (prefix_contains(&c->peers[i], a)) {
			*ep = (struct endpoint){ *a, c->port };
			return true;
		}
	}
	return false;
}
