/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows from several children put together.  Of rows of one host the one of its
 * latest life counts, of these that with the higher lease; of equal ones, that
 * whose host is heard, then that which says it is gone (one that was removed
 * takes its subtree elsewhere, and leases below it stay), unless that is back
 * by now with which it went, or what is above it.  A child calls those gone
 * who came to it by a grant, whom it alone had told of, or who were, as others
 * say, below one that is below it now.  Of two lives that are heard at two
 * addresses the one straight below counts, or else the elder: the younger may
 * be a lie.  A host that is not heard does not count if another one is heard at
 * its address: it was reborn with another id; nor does an address where nobody
 * was seen yet, if somebody is known there.
 *
 * Two tables with open addressing, never more than half full: ids, and
 * addresses of those that are heard.  The set owns all until rowset_take().
 */
#include "agent/tree/rowset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/private.h"
#include "common/util.h"

#define LEVELS (TREE_LEVELS_MAX + 3)

enum {
	FLAG_LOSER = 1, /* another row of this host counts */
	FLAG_UP = 2,    /* heard, and all above it */
	FLAG_OUT = 4,   /* it does not take part */
	FLAG_BACK = 8,  /* another one says that it is gone, which it is not */
	FLAG_DOUBT = 16 /* gone, says a child that may not know */
};

int rowset_init(struct rowset *s, uint32_t n)
{
	size_t slots = 4;

	while (slots < 2 * (size_t)n)
		slots *= 2;
	memset(s, 0, sizeof(*s));
	s->row = calloc(MAX(n, 1), sizeof(*s->row));
	s->flag = calloc(MAX(n, 1), 1);
	s->slot = calloc(slots, sizeof(*s->slot));
	s->at_slot = calloc(slots, sizeof(*s->at_slot));
	s->mask = (uint32_t)slots - 1;
	s->room = s->n_told = n;
	if (s->row && s->flag && s->slot && s->at_slot)
		return 0;
	rowset_free(s);
	return -ENOMEM;
}

void rowset_free(struct rowset *s)
{
	free(s->row);
	free(s->flag);
	free(s->slot);
	free(s->at_slot);
	free(s->out);
	memset(s, 0, sizeof(*s));
}

void rowset_add(struct rowset *s, const struct tree_row *r)
{
	assert(s->n < s->room);
	s->row[s->n++] = *r;
}

void rowset_hide(struct rowset *s)
{
	s->flag[s->n - 1] |= FLAG_LOSER | FLAG_OUT;
}

void rowset_doubt(struct rowset *s)
{
	s->flag[s->n - 1] |= FLAG_DOUBT;
}

static bool same_id(const struct node_id *a, const struct node_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* Ids are random; one that is made up on purpose costs its overlay time. */
static uint32_t id_hash(const struct node_id *id)
{
	uint64_t half[2];

	memcpy(half, id->b, sizeof(half));
	return (uint32_t)((half[0] ^ half[1]) * 0x9e3779b97f4a7c15u >> 32);
}

static uint32_t at_hash(const struct endpoint *ep)
{
	uint64_t half[2], v;

	memcpy(half, ep->addr.b, sizeof(half));
	v = half[0] ^ half[1] ^ ep->port;
	v ^= v >> 32; /* addresses of one net differ in the last bytes */
	return (uint32_t)(v * 0x9e3779b97f4a7c15u >> 32);
}

/* The slot of this id, or a free one. */
static uint32_t *id_slot(const struct rowset *s, const struct node_id *id)
{
	uint32_t i = id_hash(id) & s->mask;

	while (s->slot[i] && !same_id(&s->row[s->slot[i] - 1].id, id))
		i = (i + 1) & s->mask;
	return &s->slot[i];
}

static uint32_t *at_slot(const struct rowset *s, const struct endpoint *ep)
{
	uint32_t i = at_hash(ep) & s->mask;

	while (s->at_slot[i] &&
	       !endpoint_equal(&s->row[s->at_slot[i] - 1].ep, ep))
		i = (i + 1) & s->mask;
	return &s->at_slot[i];
}

bool rowset_unique(struct rowset *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t *slot = id_slot(s, &s->row[i].id);

		if (*slot)
			return false;
		*slot = i + 1;
	}
	return true;
}

const struct tree_row *rowset_find(const struct rowset *s,
				   const struct node_id *id)
{
	uint32_t i = *id_slot(s, id);

	return i ? &s->row[i - 1] : NULL;
}

bool rowset_lost(const struct rowset *s, uint32_t i)
{
	return s->flag[i] & FLAG_LOSER;
}

uint32_t rowset_below(const struct rowset *s, const struct tree_row *r)
{
	uint32_t n = 0;

	for (uint32_t i = (uint32_t)(r - s->row) + 1;
	     i < s->n && s->row[i].level > r->level; i++)
		n += !s->row[i].gone;
	return n;
}

/* ---- which one counts ---- */

static void find_up(struct rowset *s)
{
	bool up[LEVELS] = { false };

	for (uint32_t i = 0; i < s->n; i++) {
		const struct tree_row *r = &s->row[i];

		assert(r->level < LEVELS);
		if (r->gone)
			continue;
		up[r->level] = r->up && (!r->level || up[r->level - 1]);
		if (up[r->level])
			s->flag[i] |= FLAG_UP;
	}
}

int rowset_order(const struct tree_row *a, const struct tree_row *b)
{
	/* a restart may have forgotten the leases before it */
	if (a->incarnation != b->incarnation)
		return a->incarnation < b->incarnation ? -1 : 1;
	return epoch_compare(&a->lease, &b->lease);
}

static unsigned rank(const struct rowset *s, uint32_t i)
{
	const struct tree_row *r = &s->row[i];

	if (s->flag[i] & FLAG_UP)
		return 4;
	if (r->gone)
		return r->with ? 1 : 3;
	return s->flag[i] & FLAG_BACK ? 2 : 0;
}

/* Two hosts with one id, both heard; or somebody lies. */
static bool two_heard(const struct rowset *s, uint32_t i, uint32_t j)
{
	const struct tree_row *a = &s->row[i], *b = &s->row[j];

	return s->flag[i] & s->flag[j] & FLAG_UP &&
	       a->incarnation != b->incarnation &&
	       !endpoint_equal(&a->ep, &b->ep);
}

/* Row i instead of j, which came before it? */
static bool better(const struct rowset *s, uint32_t i, uint32_t j)
{
	const struct tree_row *a = &s->row[i], *b = &s->row[j];
	int order = rowset_order(a, b);

	if (!j)
		return false; /* this agent itself */
	/* who is heard here, or is the elder, until it takes another id */
	if (two_heard(s, i, j))
		return a->level == 1 || b->level == 1 ? a->level == 1
						      : order < 0;
	if (i >= s->n_told && !b->gone)
		return false; /* better where it was than nowhere */
	return order ? order > 0 : rank(s, i) > rank(s, j);
}

static void lose(struct rowset *s, uint32_t loser, uint32_t winner)
{
	const struct tree_row *a = &s->row[loser], *b = &s->row[winner];

	s->flag[loser] |= FLAG_LOSER;
	if (!b->gone && (a->gone || s->flag[loser] & FLAG_BACK))
		s->flag[winner] |= FLAG_BACK;
	if (!(s->flag[loser] & FLAG_UP))
		return;
	s->conflict = true;
	if (!two_heard(s, loser, winner))
		return;
	s->twice = true;
	s->elder = a->incarnation < b->incarnation ? *a : *b;
	s->younger = a->incarnation < b->incarnation ? *b : *a;
}

/* It was heard once, or announced by its id: no mere address. */
static bool known(const struct tree_row *r)
{
	struct node_id id;

	if (r->incarnation)
		return true;
	rows_derived_id(&r->ep, &id);
	return !same_id(&id, &r->id);
}

/* It takes part and no other row of it counts; heard, or not. */
static bool counts(const struct rowset *s, uint32_t i, uint8_t up)
{
	return (s->flag[i] & (FLAG_LOSER | FLAG_UP | FLAG_OUT)) == up;
}

/* Those that are not heard, or were never, where another host is. */
static void decide_addresses(struct rowset *s)
{
	bool any = false;

	for (uint32_t i = 0; i < s->n && !any; i++)
		any = counts(s, i, 0) && !s->row[i].gone;
	if (!any)
		return;
	for (uint32_t i = 0; i < s->n; i++)
		if (counts(s, i, FLAG_UP))
			*at_slot(s, &s->row[i].ep) = i + 1;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct tree_row *r = &s->row[i];

		if (counts(s, i, 0) && !r->gone && known(r) &&
		    !*at_slot(s, &r->ep))
			*at_slot(s, &r->ep) = i + 1;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t at = counts(s, i, 0) && !s->row[i].gone
				      ? *at_slot(s, &s->row[i].ep)
				      : 0;

		if (!at || at == i + 1)
			continue;
		if (counts(s, at - 1, FLAG_UP) || !known(&s->row[i]))
			s->flag[i] |= FLAG_LOSER;
		else
			s->n_same++;
	}
}

static void contest(struct rowset *s, uint32_t i)
{
	uint32_t *slot = id_slot(s, &s->row[i].id);

	if (!*slot) {
		*slot = i + 1;
	} else if (better(s, i, *slot - 1)) {
		lose(s, *slot - 1, i);
		*slot = i + 1;
	} else {
		lose(s, i, *slot - 1);
	}
}

/* Is whom row i says to be gone unknown, or below one of [first, end)? */
static bool was_below(const struct rowset *s, uint32_t i, uint32_t first,
		      uint32_t end)
{
	uint32_t at = *id_slot(s, &s->row[i].id);

	if (!at)
		return true;
	for (unsigned k = 0; k < LEVELS; k++) {
		at = *id_slot(s, &s->row[at - 1].parent);
		if (at <= 1) /* nobody, or this agent itself */
			return false;
		if (at - 1 >= first && at - 1 < end)
			return true;
	}
	return false;
}

/* Child by child: which of those that it calls gone may it speak of? */
static void decide_doubted(struct rowset *s)
{
	uint32_t first = 0, end = 0;

	for (uint32_t i = 1; i < s->n_told; i++) {
		if (s->row[i].level == 1) {
			first = i;
			end = i + 1;
			while (end < s->n_told && s->row[end].level > 1)
				end++;
		}
		if ((s->flag[i] & (FLAG_DOUBT | FLAG_OUT)) != FLAG_DOUBT)
			continue;
		if (was_below(s, i, first, end))
			contest(s, i);
		else
			s->flag[i] |= FLAG_LOSER;
	}
}

/* Those that take part. */
static void decide_ids(struct rowset *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->flag[i] & FLAG_OUT) {
			s->conflict |= s->flag[i] & FLAG_UP;
			continue;
		}
		s->flag[i] &= (uint8_t)~FLAG_LOSER;
		if (!(s->flag[i] & FLAG_DOUBT))
			contest(s, i);
	}
	decide_doubted(s);
}

/*
 * A branch that was taken away and is somewhere else now brings those below it,
 * under the leases that they had: with it they are gone only if it is.
 */
static bool any_back(struct rowset *s)
{
	bool any = false, back = false;

	for (uint32_t i = 0; i < s->n_told; i++) {
		if (!s->row[i].with)
			back = s->flag[i] & FLAG_LOSER;
		else if (back)
			s->flag[i] |= FLAG_OUT | FLAG_LOSER;
		any |= s->row[i].with && back;
	}
	return any;
}

/*
 * Others of that branch may come back without its top.  Who is below one that
 * did, under the lease that it had there, came with it: a lease has one parent.
 */
static bool any_below(struct rowset *s)
{
	uint32_t above[LEVELS] = { 0 };
	bool any = false;

	for (uint32_t i = 1; i < s->n_told; i++) {
		const struct tree_row *r = &s->row[i], *w;

		if (r->gone)
			continue;
		above[r->level] = i;
		if (!(s->flag[i] & FLAG_LOSER) ||
		    !(s->flag[above[r->level - 1]] & FLAG_BACK))
			continue;
		w = rowset_find(s, &r->id); /* none of those that are hidden */
		if (!w || !w->with)
			continue;
		s->flag[i] |= FLAG_BACK;
		any = true;
	}
	return any;
}

void rowset_decide(struct rowset *s)
{
	bool back;

	find_up(s);
	decide_ids(s);
	back = any_back(s);
	if (any_below(s) || back) {
		memset(s->slot, 0, ((size_t)s->mask + 1) * sizeof(*s->slot));
		s->conflict = s->twice = false;
		decide_ids(s);
	}
	decide_addresses(s);
}

/* ---- the result ---- */

int rowset_emit(struct rowset *s)
{
	struct node_id id[LEVELS] = { 0 };
	uint8_t level[LEVELS] = { 0 };
	bool cut[LEVELS] = { false };

	s->out = reallocarray(NULL, s->n, sizeof(*s->out));
	if (!s->out)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		struct tree_row r = s->row[i];
		unsigned raw = r.level;

		if (r.gone)
			continue;
		if (raw) {
			r.level = level[raw - 1] + 1;
			r.parent = id[raw - 1];
			r.up &= !cut[raw - 1];
		}
		/* those below one that does not count go below its parent */
		level[raw] = r.level;
		id[raw] = r.id;
		cut[raw] = false;
		if (s->flag[i] & FLAG_LOSER) {
			level[raw]--;
			id[raw] = r.parent;
			cut[raw] = !(s->flag[i] & FLAG_UP);
		} else {
			s->out[s->n_out++] = r;
		}
	}
	return 0;
}

void rowset_append_gone(struct rowset *s, const struct node_id *self)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct tree_row r = s->row[i];

		if (!r.gone || (s->flag[i] & FLAG_LOSER))
			continue;
		r.level = 1;
		r.parent = *self;
		s->out[s->n_out + s->n_gone++] = r;
	}
}

struct tree_row *rowset_take(struct rowset *s, uint32_t *n, uint32_t *n_gone)
{
	struct tree_row *out = s->out;

	*n = s->n_out;
	*n_gone = s->n_gone;
	s->out = NULL;
	rowset_free(s);
	return out;
}
