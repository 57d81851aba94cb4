/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows: who is below.  Each child's rows are held as it told them and fetched
 * again, in pages, when the hash in its beats differs.  The rows of all are put
 * together when somebody asks after something changed: a host that two
 * children tell of is where its lease is higher; as long as both hear it, the
 * rows are not settled.  A host that left, was removed or forgotten is told of
 * for a minute as gone, so that those above do not take it for lost; a root
 * keeps on expecting whoever vanishes otherwise.
 *
 * Nothing here is done for a beat that brings nothing new.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "agent/tree/private.h"
#include "agent/tree/rowset.h"
#include "common/hash.h"

#define GRAVE_MS   60000
#define GRAVES_MAX 65536
#define RESOLVE_MS 1000
#define DOUBLE_MS  5000

void rows_touch(struct tree *t)
{
	bool was = t->dirty;

	t->dirty = t->hash_dirty = true;
	t->version++;
	if (!was && t->started)
		event(t, TREE_EVENT_ROWS, NULL);
}

void rows_derived_id(const struct endpoint *ep, struct node_id *out)
{
	struct hash_key key = { { 3 } };
	uint64_t half[2];
	uint8_t text[18];

	memcpy(text, ep->addr.b, 16);
	text[16] = (uint8_t)(ep->port >> 8);
	text[17] = (uint8_t)ep->port;
	half[0] = siphash24(&key, text, sizeof(text));
	key.b[1] = 1;
	half[1] = siphash24(&key, text, sizeof(text));
	memcpy(out->b, half, sizeof(out->b));
}

/* ---- hashes ---- */

static uint64_t row_hash(const struct tree_row *r, uint64_t below)
{
	const struct hash_key key = { { 4 } };
	uint64_t text[12] = {
		r->incarnation,
		r->lease.term,
		r->lease.root,
		r->lease.n,
		below,
		(uint64_t)r->ep.port << 3 | r->with << 2 | r->up << 1 | r->gone
	};

	memcpy(&text[6], r->id.b, 16);
	memcpy(&text[8], r->parent.b, 16);
	memcpy(&text[10], r->ep.addr.b, 16);
	return siphash13(&key, text, sizeof(text));
}

static struct tree_row child_row(const struct tree *t, const struct branch *b)
{
	return (struct tree_row){ .id = b->pub.id,
				  .parent = t->self,
				  .ep = b->pub.ep,
				  .level = 1,
				  .up = b->pub.state == CHILD_UP ||
					b->pub.state == CHILD_SUSPECT,
				  .incarnation = b->pub.incarnation,
				  .lease = b->pub.lease,
				  .seen_ms = b->pub.seen_ms };
}

/* Zero: nothing is below, and there is nothing to fetch. */
uint64_t rows_hash(struct tree *t)
{
	uint64_t sum = 0;

	if (!t->hash_dirty)
		return t->rows_hash;
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];
		struct tree_row r = child_row(t, b);

		if (branch_counts(b))
			sum += row_hash(&r, b->told_hash);
	}
	for (uint32_t i = 0; i < t->n_graves; i++)
		sum += row_hash(&t->grave[i].row, 0);
	sum += t->n_hidden; /* not told, as long as the path has them */
	t->rows_hash = sum;
	t->hash_dirty = false;
	return sum;
}

/* ---- those that are gone ---- */

static void graves_expire(struct tree *t)
{
	uint64_t now = now_ms(t);
	uint32_t n = 0;
	bool over = false;

	for (uint32_t i = 0; i < t->n_graves; i++) {
		const struct grave *g = &t->grave[i];
		const struct branch *b = branch_by_id(t, &g->row.id);

		/* it is back: then it is not gone, nor who went with it */
		if (!g->row.with)
			over = now >= g->until_ms || (b && branch_counts(b));
		if (!over)
			t->grave[n++] = *g;
	}
	t->hash_dirty |= n != t->n_graves;
	t->n_graves = n;
}

/* Half of what the parent reads: the rest is for those that are here. */
static uint32_t graves_most(const struct tree *t)
{
	if (t->place != PLACE_ATTACHED || !t->rows_most)
		return GRAVES_MAX;
	return MIN(t->rows_most / 2, GRAVES_MAX);
}

void rows_graves_limit(struct tree *t)
{
	if (t->n_graves <= graves_most(t))
		return;
	graves_expire(t);
	t->n_graves = MIN(t->n_graves, graves_most(t));
	rows_touch(t);
}

static int graves_reserve(struct tree *t, uint32_t n)
{
	uint32_t cap = MAX(t->cap_graves, 8), most = graves_most(t);
	struct grave *p;

	if (n > most - MIN(most, t->n_graves))
		return -ENOMEM;
	if (n <= t->cap_graves - t->n_graves)
		return 0;
	while (cap < t->n_graves + n)
		cap *= 2;
	p = reallocarray(t->grave, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	t->grave = p;
	t->cap_graves = cap;
	return 0;
}

static void grave_add(struct tree *t, const struct tree_row *row, bool with)
{
	struct grave *g = &t->grave[t->n_graves++];

	g->row = *row;
	g->row.with = with;
	g->row.parent = t->self;
	g->row.level = 1;
	g->row.up = false;
	g->row.gone = true;
	g->until_ms = now_ms(t) + GRAVE_MS;
}

/*
 * Without memory or room nothing is noted: a root goes on expecting those that
 * are gone, and misses for a moment those that are elsewhere.
 */
static void rows_bury(struct tree *t, const struct branch *b,
		      enum rows_fate fate)
{
	struct tree_row self = child_row(t, b);
	uint32_t n = b->joined ? b->n_rows : 0;

	if (graves_reserve(t, MAX(n, 1)))
		return;
	if (fate != ROWS_ELSEWHERE)
		grave_add(t, &self, false);
	for (uint32_t i = 1; i < n; i++)
		if (b->rows[i].gone && b->rows[i].had)
			grave_add(t, &b->rows[i], b->rows[i].with);
		else if (fate == ROWS_GONE && !b->rows[i].gone)
			grave_add(t, &b->rows[i], true);
}

static void rows_keep(struct tree *t, const struct branch *b,
		      enum rows_fate fate)
{
	struct tree_row self = child_row(t, b);
	uint32_t n = b->joined ? b->n_rows : 0;

	if (fate == ROWS_GONE || !t->reign || reign_reserve(t, MAX(n, 1)))
		return;
	if (fate == ROWS_ELSEWHERE)
		reign_extra(t, &self);
	for (uint32_t i = 1; i < n; i++)
		if (!b->rows[i].gone)
			reign_extra(t, &b->rows[i]);
}

void rows_forget(struct tree *t, struct branch *b, enum rows_fate fate)
{
	if (branch_counts(b)) {
		rows_bury(t, b, fate);
		rows_keep(t, b, fate);
	}
	tree_cancel(t, &b->side);
	rows_page_drop(b);
	rows_drop(b);
	free(b->newcomer);
	b->newcomer = NULL;
	b->brought = b->strangers = 0;
	b->bad_rows = false;
	rows_crowded(t, b, false);
	rows_touch(t);
}

/* ---- rows of all ---- */

static uint32_t rows_total(const struct tree *t)
{
	uint32_t n =
		1 + t->n_graves + (t->reign ? t->reign->n_extra : t->n_unseen);

	for (unsigned i = 0; i < t->n_children; i++)
		if (branch_counts(t->child[i]))
			n += MAX(t->child[i]->n_rows, 1);
	return n;
}

static struct tree_row self_row(const struct tree *t)
{
	struct tree_row r = { .id = t->self,
			      .ep = t->conf->self,
			      .up = true,
			      .incarnation = t->incarnation,
			      .lease = tree_lease(t),
			      .seen_ms = wall_ms(t) };

	if (t->place == PLACE_ATTACHED)
		r.parent = t->path[t->n_path - 1].id;
	return r;
}

static void collect(struct tree *t, struct rowset *s)
{
	struct tree_row r = self_row(t);
	uint32_t n_hidden = 0;

	rowset_add(s, &r);
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		if (!branch_counts(b))
			continue;
		r = child_row(t, b);
		rowset_add(s, &r);
		for (uint32_t k = 1; k < b->n_rows; k++) {
			r = b->rows[k];
			r.level++;
			rowset_add(s, &r);
			if (r.gone && !r.had)
				rowset_doubt(s);
			if (!tree_in_path(t, &r.id))
				continue;
			rowset_hide(s);
			n_hidden += r.up; /* no answer comes from others */
		}
	}
	t->hash_dirty |= n_hidden != t->n_hidden;
	t->n_hidden = n_hidden;
	for (uint32_t i = 0; i < t->n_graves; i++)
		rowset_add(s, &t->grave[i].row);
	s->n_told = s->n;
	for (uint32_t i = 0; t->reign && i < t->reign->n_extra; i++)
		rowset_add(s, &t->reign->extra[i].row);
	for (uint32_t i = 0; !t->reign && i < t->n_unseen; i++) {
		r = (struct tree_row){ .id = t->unseen[i].id,
				       .parent = t->self,
				       .ep = t->unseen[i].ep,
				       .level = 1 };
		rowset_add(s, &r);
	}
}

/* The child that tells of the i-th row, or NULL. */
static const struct branch *teller(const struct tree *t, uint32_t i)
{
	uint32_t first = 1;

	for (unsigned k = 0; k < t->n_children; k++) {
		uint32_t n = MAX(t->child[k]->n_rows, 1);

		if (!branch_counts(t->child[k]))
			continue;
		if (i < first + n)
			return t->child[k];
		first += n;
	}
	return NULL;
}

/* Is what was granted told of by now, with all that is below it? */
static bool extra_told(const struct tree *t, const struct rowset *s,
		       const struct extra *x, const struct tree_row *w)
{
	const struct branch *b = teller(t, (uint32_t)(w - s->row));

	if (rowset_order(w, &x->row) < 0)
		return false;
	if (w->gone || !x->pending || (b && branch_known(b)))
		return true;
	/* less may be below than it thought when it asked */
	return rowset_below(s, w) + 1 >= x->hosts ||
	       now_ms(t) >= x->since_ms + UNTOLD_MS;
}

/* One that is granted a place was a member if another one of it says so. */
static void extras_merge(struct reign *r, const struct rowset *s,
			 uint32_t first)
{
	for (uint32_t i = 0; i < r->n_extra; i++) {
		const struct extra *x = &r->extra[i];
		const struct tree_row *w = rowset_find(s, &x->row.id);
		struct extra *counts;

		if (!w || w < &s->row[first])
			continue;
		counts = &r->extra[w - &s->row[first]];
		if (x->known > counts->known ||
		    rowset_order(&x->was, &counts->was) > 0)
			counts->was = x->was;
		counts->known |= x->known;
	}
}

/* They are the last of the set, in their order. */
static void unseen_settle(struct tree *t, const struct rowset *s)
{
	uint32_t first = s->n - t->n_unseen, n = 0;

	for (uint32_t i = 0; i < t->n_unseen; i++)
		if (!rowset_lost(s, first + i))
			t->unseen[n++] = t->unseen[i];
	t->n_unseen = n;
}

/* They are the last of the set, in their order. */
static void extras_settle(struct tree *t, const struct rowset *s)
{
	struct reign *r = t->reign;
	uint32_t first = r ? s->n - r->n_extra : 0, n = 0;

	t->pending = false;
	if (r)
		extras_merge(r, s, first);
	for (uint32_t i = 0; r && i < r->n_extra; i++) {
		const struct extra *x = &r->extra[i];
		const struct tree_row *w = rowset_find(s, &x->row.id);

		if (rowset_lost(s, first + i) &&
		    (w == &s->row[first + i] || extra_told(t, s, x, w)))
			continue;
		t->pending |= x->pending;
		r->extra[n++] = *x;
	}
	if (r)
		r->n_extra = n;
}

/* ---- two hosts with one id ---- */

/* A child may say so: the younger is asked before it keeps the id. */
static void twins_ask(struct tree *t)
{
	struct tree_msg m;

	if (!t->twice || now_ms(t) < t->double_ms)
		return;
	t->double_ms = now_ms(t) + DOUBLE_MS;
	tree_cancel(t, &t->twins->ref);
	msg_init(&m, TREE_HELLO);
	t->twins->ref = tree_send(t, OP_TWIN, 0, &t->twins->younger.ep, &m,
				  HELLO_LIMIT_MS, true);
}

/* They are asked again as long as these rows are the last. */
static void twins_find(struct tree *t, const struct rowset *s)
{
	if (s->twice && !t->twins)
		t->twins = calloc(1, sizeof(*t->twins));
	t->twice = s->twice && t->twins;
	t->pending |= s->twice && !t->twins;
	if (!t->twice)
		return;
	t->twins->elder = s->elder;
	t->twins->younger = s->younger;
	twins_ask(t);
}

void rows_twin_done(struct tree *t, uint64_t ref, int err,
		    const struct tree_msg *m)
{
	const struct tree_row *elder, *younger;
	struct tree_msg leave;

	if (!t->twins || t->twins->ref != ref)
		return;
	t->twins->ref = 0;
	elder = &t->twins->elder;
	younger = &t->twins->younger;
	if (err || m->word != TREE_OK ||
	    !id_equal(&m->u.hello.id, &younger->id) ||
	    m->u.hello.incarnation != younger->incarnation)
		return;
	msg_init(&leave, TREE_LEAVE);
	leave.lease = elder->lease;
	leave.u.leave.id = elder->id;
	leave.u.leave.incarnation = younger->incarnation;
	(void)tree_send(t, OP_NONE, 0, &elder->ep, &leave, HELLO_LIMIT_MS,
			false);
}

/* ---- putting them together ---- */

static void number_change(struct tree *t)
{
	uint64_t ids = 0;

	for (uint32_t i = 0; i < t->n_rows; i++)
		ids += id_head(&t->rows[i].id) * 0x9e3779b97f4a7c15u;
	/* each change of membership has a number */
	if (t->place == PLACE_ROOT && t->ids_hash && ids != t->ids_hash &&
	    epoch_compare(&t->seen, &t->reign_epoch) == 0) {
		t->reign_epoch.n++;
		t->seen = t->reign_epoch;
	}
	t->ids_hash = ids;
}

/* Granted and not heard yet: maybe one that is known by another id. */
static uint32_t newcomers(const struct tree *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->reign->n_extra; i++)
		n += t->reign->extra[i].pending && !t->reign->extra[i].known;
	return n;
}

/* Without memory the rows stay as they were, until the next try. */
void rows_resolve(struct tree *t)
{
	uint32_t n_same;
	struct rowset s;

	if (!t->dirty && t->pending && now_ms(t) >= t->resolved_ms + RESOLVE_MS)
		rows_touch(t); /* what is awaited may be due by now */
	if (!t->dirty) {
		twins_ask(t);
		return;
	}
	graves_expire(t);
	if (rowset_init(&s, rows_total(t)))
		return;
	collect(t, &s);
	rowset_decide(&s);
	if (rowset_emit(&s)) {
		rowset_free(&s);
		return;
	}
	extras_settle(t, &s);
	if (!t->reign)
		unseen_settle(t, &s);
	rowset_append_gone(&s, &t->self);
	t->conflict = s.conflict;
	twins_find(t, &s);
	n_same = s.n_same;
	free(t->rows);
	t->rows = rowset_take(&s, &t->n_rows, &t->n_gone);
	t->dirty = false;
	t->announce_due = true;
	t->resolved_ms = now_ms(t);
	number_change(t);
	/* one may be in both numbers: no difference of them */
	if (t->reign &&
	    t->n_rows >= (uint64_t)t->reign->floor + newcomers(t) + n_same)
		t->reign->floor = 0;
	if (t->place == PLACE_ROOT && t->n_rows > t->stored_fleet)
		reign_count(t, t->n_rows);
}

const struct tree_row *tree_rows(struct tree *t, uint32_t *n)
{
	rows_resolve(t);
	t->read = true;
	*n = t->rows ? t->n_rows : 0;
	return t->rows;
}

const struct tree_row *rows_heard(struct tree *t, const struct node_id *id)
{
	const struct tree_row *r;
	unsigned silent = UINT_MAX; /* level of who is, with all below */

	rows_resolve(t);
	r = t->rows;
	for (uint32_t i = 0; r && i < t->n_rows; i++) {
		if (r[i].level <= silent)
			silent = r[i].up ? UINT_MAX : r[i].level;
		if (silent == UINT_MAX && id_equal(&r[i].id, id))
			return &r[i];
	}
	return NULL;
}

uint64_t tree_rows_version(const struct tree *t)
{
	return t->version;
}

uint32_t tree_expected(struct tree *t)
{
	if (now_ms(t) >= t->resolved_ms + RESOLVE_MS || t->n_rows < TREE_NAMED)
		rows_resolve(t);
	return MAX(t->n_rows, t->reign ? t->reign->floor : 0);
}

bool tree_settled(struct tree *t)
{
	rows_resolve(t);
	if (t->dirty || t->conflict || t->pending ||
	    (t->reign && (t->reign->floor || now_ms(t) < t->reign->blind_ms ||
			  now_ms(t) < t->reign->sure_ms)))
		return false;
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		if (b->until_ms ||
		    (b->joined && !b->lost && b->told_hash != b->said_hash))
			return false;
	}
	return true;
}

bool rows_whole(const struct tree *t)
{
	/* it may be below, and the path a former one */
	if (t->n_hidden)
		return false;
	for (const struct climb *c = t->climbs; c; c = c->next)
		if (c->ours && !c->probing)
			return false;
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		if (b->until_ms || (b->joined && !b->lost && !branch_known(b)))
			return false;
	}
	return true;
}

void rows_free(struct tree *t)
{
	if (t->twins)
		tree_cancel(t, &t->twins->ref);
	free(t->twins);
	free(t->rows);
	free(t->grave);
	free(t->members);
	free(t->unseen);
}

/* ---- serving the parent ---- */

void rows_serve(struct tree *t, const struct tree_msg *m, uint64_t ref)
{
	uint32_t first = m->u.rows.offset, told, all, end;
	struct tree_msg reply;

	if (!tree_under(t, &m->lease)) {
		tree_refuse(t, ref, TREE_ROWS, TREE_MOVED);
		return;
	}
	rows_resolve(t);
	told = t->n_rows - t->n_unseen; /* no reign: it is below one */
	all = told + t->n_gone;
	if (t->dirty || !t->rows || first >= all) {
		tree_refuse(t, ref, TREE_ROWS, TREE_BUSY);
		return;
	}
	end = MIN(t->n_unseen && first < told ? told : all,
		  first + TREE_ROWS_PAGE);
	msg_init(&reply, TREE_ROWS);
	reply.lease = t->lease;
	reply.u.rows.offset = first;
	reply.u.rows.next = end < all ? end : 0;
	reply.u.rows.hash = rows_hash(t);
	reply.u.rows.n = end - first;
	reply.u.rows.row = &t->rows[first < told ? first : first + t->n_unseen];
	tree_reply(t, ref, &reply);
	if (!reply.u.rows.next && !t->read) {
		/* nobody but the parent asks, and it has them now */
		free(t->rows);
		t->rows = NULL;
		t->dirty = true;
	}
}
