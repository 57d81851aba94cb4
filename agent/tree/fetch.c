/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child's rows, page by page, and what is made sure of before they are
 * taken: they hang together below it, no id comes twice, this agent and those
 * above it are not heard there.  Rows that are refused leave those held before.
 * Of those that it calls gone it is noted whom it had told of.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"
#include "agent/tree/rowset.h"

#define WAIT_MS         500
#define WAIT_MAX_MS     10000
#define NEWCOMER_MS     60000 /* as long as one that left is told of */
/* Rows beside a host that came: children that never came, and who left. */
#define ROWS_FREE       4096
#define ROWS_A_HOST     (1 + TREE_CHILDREN)
/* Where it came with others below it, of whom nothing is known. */
#define ROWS_A_STRANGER 2
#define ROWS_STRANGERS  (1u << 17)

void rows_drop(struct branch *b)
{
	free(b->rows);
	b->rows = NULL;
	b->n_rows = 0;
	b->n_hosts = b->pub.hosts = 1;
	b->rows_height = 0;
	b->told_hash = 0;
}

void rows_page_drop(struct branch *b)
{
	free(b->page);
	b->page = NULL;
	b->n_page = 0;
}

static void fetch_page(struct tree *t, struct branch *b)
{
	struct tree_msg m;

	msg_init(&m, TREE_ROWS);
	m.lease = b->pub.lease;
	m.u.rows.offset = b->n_page;
	b->announcing = false;
	b->side =
		tree_send(t, OP_SIDE, b->slot, &b->pub.ep, &m, FETCH_MS, false);
}

static void take(struct tree *t, struct branch *b, struct tree_row *rows,
		 uint32_t n, uint64_t hash)
{
	free(b->rows);
	b->rows = rows;
	b->n_rows = n;
	b->n_hosts = 1;
	b->rows_height = 0;
	for (uint32_t i = 1; i < n; i++) {
		b->n_hosts += !rows[i].gone;
		if (!rows[i].gone)
			b->rows_height = MAX(b->rows_height, rows[i].level);
	}
	b->pub.hosts = b->n_hosts;
	b->told_hash = hash;
	b->bad_rows = false;
	rows_crowded(t, b, false);
	b->rows_wait_ms = 0;
	b->rows_at_ms = now_ms(t) + WAIT_MS + n / 32;
	rows_touch(t);
}

/* Not told of any more, nor that it is gone under that lease or a later one. */
static bool told_no_more(const struct tree_row *r, const struct rowset *s)
{
	const struct tree_row *w = s ? rowset_find(s, &r->id) : NULL;

	return !r->gone && (!w || (w->gone && rowset_order(w, r) < 0));
}

/* Those that the child does not tell of any more are expected by a root. */
static int keep_lost(struct tree *t, const struct branch *b,
		     const struct rowset *s)
{
	uint32_t n = 0;

	if (!t->reign)
		return 0;
	for (uint32_t i = 1; i < b->n_rows; i++)
		n += told_no_more(&b->rows[i], s);
	if (n && reign_reserve(t, n))
		return -ENOMEM;
	for (uint32_t i = 1; n && i < b->n_rows; i++)
		if (told_no_more(&b->rows[i], s))
			reign_extra(t, &b->rows[i]);
	return 0;
}

/* ---- whom a child may call gone ---- */

/* Without memory it may not be believed that this one is gone. */
void rows_newcomer(const struct tree *t, struct branch *b,
		   const struct node_id *id)
{
	if (!b->newcomer) {
		b->newcomer = calloc(NEWCOMERS_MAX, sizeof(*b->newcomer));
		b->n_newcomers = 0;
	}
	if (b->newcomer)
		b->newcomer[b->n_newcomers++ % NEWCOMERS_MAX] =
			(struct newcomer){ *id, now_ms(t) };
}

/* Of those that it tells of nothing else is to be known. */
static void newcomers_told(const struct tree *t, struct branch *b,
			   const struct rowset *s)
{
	bool any = false;

	for (unsigned i = 0; b->newcomer && i < NEWCOMERS_MAX; i++) {
		struct newcomer *c = &b->newcomer[i];
		const struct tree_row *w = c->at_ms ? rowset_find(s, &c->id)
						    : NULL;

		if (w)
			b->page[w - s->row].had = true;
		if (w || now_ms(t) >= c->at_ms + NEWCOMER_MS)
			c->at_ms = 0;
		any |= c->at_ms;
	}
	if (any)
		return;
	free(b->newcomer);
	b->newcomer = NULL;
}

/* Who comes by its word alone, and is told of by this one too, is not its. */
static void others_had(struct branch *b, const struct branch *other,
		       const struct rowset *s)
{
	const struct tree_row *w = rowset_find(s, &other->pub.id);

	if (w)
		b->page[w - s->row].had = false;
	for (uint32_t i = 1; i < other->n_rows; i++) {
		w = rowset_find(s, &other->rows[i].id);
		if (w && !other->rows[i].gone)
			b->page[w - s->row].had = false;
	}
}

/* Whom it had it may call gone: who came with a grant, or is nobody else's. */
static void mark_had(const struct tree *t, struct branch *b,
		     const struct rowset *s)
{
	bool any = false;

	for (uint32_t i = 1; i < b->n_rows; i++) {
		const struct tree_row *w = rowset_find(s, &b->rows[i].id);

		if (!w || !w->gone || b->rows[i].gone)
			continue;
		b->page[w - s->row].had = true;
		any |= !b->rows[i].had;
	}
	for (unsigned k = 0; any && k < t->n_children; k++)
		if (t->child[k] != b && branch_counts(t->child[k]))
			others_had(b, t->child[k], s);
	for (uint32_t i = 1; i < b->n_rows; i++) {
		const struct tree_row *w =
			b->rows[i].had ? rowset_find(s, &b->rows[i].id) : NULL;

		if (w)
			b->page[w - s->row].had = true;
	}
	newcomers_told(t, b, s);
}

void rows_fetch(struct tree *t, struct branch *b)
{
	rows_page_drop(b);
	if (b->said_hash) {
		fetch_page(t, b);
		return;
	}
	/* nothing is below it */
	if (keep_lost(t, b, NULL))
		return;
	take(t, b, NULL, 0, 0);
}

/* ---- what a child may say ---- */

/* This agent, or one above it: as long as nobody hears it there, it was. */
static bool row_valid(const struct tree *t, const struct tree_row *r, bool up)
{
	return tree_target_valid(&r->ep) &&
	       !(up && (id_equal(&r->id, &t->self) || tree_in_path(t, &r->id)));
}

/* Each row below one before it; levels are counted on the way. */
static bool rows_valid(const struct tree *t, const struct branch *b,
		       struct tree_row *r, uint32_t n)
{
	struct node_id stack[TREE_LEVELS + 2];
	bool up[TREE_LEVELS + 2] = { true };
	unsigned depth = 1;

	if (!n || !id_equal(&r[0].id, &b->pub.id) || r[0].gone)
		return false;
	stack[0] = r[0].id;
	r[0].level = 0;
	for (uint32_t i = 1; i < n; i++) {
		if (r[i].with && !(r[i].gone && r[i - 1].gone))
			return false;
		while (depth && !id_equal(&stack[depth - 1], &r[i].parent))
			depth--;
		if (!depth || depth > TREE_LEVELS)
			return false;
		r[i].level = (uint8_t)depth;
		up[depth] = r[i].up && up[depth - 1];
		if (!row_valid(t, &r[i], up[depth] && !r[i].gone))
			return false;
		if (!r[i].gone)
			stack[depth++] = r[i].id;
	}
	return true;
}

/* What does not travel is not its to say. */
static void rows_correct(const struct branch *b, struct tree_row *r, uint32_t n)
{
	int64_t off = (int64_t)b->pub.offset_ms;

	for (uint32_t i = 0; i < n; i++) {
		r[i].had = false;
		if (r[i].seen_ms && (int64_t)r[i].seen_ms > off)
			r[i].seen_ms = (uint64_t)((int64_t)r[i].seen_ms - off);
	}
}

static void fetch_later(struct tree *t, struct branch *b)
{
	rows_page_drop(b);
	b->rows_wait_ms = b->rows_wait_ms
				  ? MIN(b->rows_wait_ms * 2, WAIT_MAX_MS)
				  : WAIT_MS;
	b->rows_at_ms = now_ms(t) + b->rows_wait_ms;
}

static int page_check(struct tree *t, struct branch *b)
{
	struct rowset s;
	int ret;

	if (!rows_valid(t, b, b->page, b->n_page))
		return -EINVAL;
	ret = rowset_init(&s, b->n_page);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < b->n_page; i++)
		rowset_add(&s, &b->page[i]);
	ret = rowset_unique(&s) ? keep_lost(t, b, &s) : -EINVAL;
	if (!ret)
		mark_had(t, b, &s);
	rowset_free(&s);
	return ret;
}

/* ---- how many ---- */

void rows_crowded(struct tree *t, struct branch *b, bool crowded)
{
	if (b->pub.crowded == crowded)
		return;
	b->pub.crowded = crowded;
	t->version++;
	event(t, TREE_EVENT_CHILD, &b->pub.id);
}

/* Hosts of this subtree, itself included, as this child tells; 0: none. */
static uint32_t hosts_at(const struct branch *b, const struct node_id *id)
{
	uint32_t i = 1, n = 1;

	if (id_equal(&b->pub.id, id))
		return b->n_hosts;
	while (i < b->n_rows &&
	       (b->rows[i].gone || !id_equal(&b->rows[i].id, id)))
		i++;
	if (i >= b->n_rows)
		return 0;
	for (uint32_t k = i + 1;
	     k < b->n_rows && b->rows[k].level > b->rows[i].level; k++)
		n += !b->rows[k].gone;
	return n;
}

/* Hosts of the overlay that are known but by way of this child. */
static uint32_t hosts_beside(const struct tree *t, const struct branch *b)
{
	uint32_t n = t->place == PLACE_ROOT ? t->n_rows : t->fleet;

	n -= MIN(n, b->n_hosts);
	return hosts_told(MAX(n, t->reign ? t->reign->floor : 0));
}

void rows_brought(const struct tree *t, struct branch *b,
		  const struct tree_mover *m)
{
	uint32_t most =
		MAX(ROWS_STRANGERS, ROWS_A_STRANGER * hosts_beside(t, b));
	uint32_t hosts = MAX(hosts_told(m->hosts), 1), known = 1;

	/* a leaf is one; who has more below was elsewhere with them, or with
	 * more than it has heard of */
	if (hosts > 1)
		b->strangers = MAX(b->strangers, most);
	for (unsigned i = 0; hosts > 1 && i < t->n_children; i++)
		if (t->child[i] != b)
			known = MAX(known, hosts_at(t->child[i], &m->id));
	known = MIN(known, hosts);
	if (id_equal(&m->id, &b->pub.id)) /* all that it has */
		b->brought = MAX(b->brought, known);
	else
		b->brought += MIN(known, TREE_MEMBERS - b->brought);
}

/* Of all children; the parent reads no more, but children without rows. */
static uint32_t rows_held_most(const struct tree *t)
{
	uint32_t own = 1 + TREE_CHILDREN + t->n_graves;

	if (t->place != PLACE_ATTACHED || !t->rows_most)
		return TREE_MEMBERS;
	return t->rows_most - MIN(t->rows_most, own);
}

/* Room for n of this child's beside those of the others that have no more? */
static bool rows_fit(const struct tree *t, const struct branch *b, uint32_t n)
{
	uint64_t sum = n;

	for (unsigned i = 0; i < t->n_children; i++)
		if (t->child[i] != b)
			sum += MIN(n, t->child[i]->n_rows);
	return sum <= rows_held_most(t);
}

/* As many as can have come to it. */
static uint64_t rows_came(const struct branch *b)
{
	return ROWS_FREE + (uint64_t)ROWS_A_HOST * b->brought + b->strangers;
}

uint32_t rows_most(const struct tree *t, const struct branch *b)
{
	uint32_t low = 1, high = (uint32_t)MIN(rows_came(b), TREE_MEMBERS);

	while (low < high) {
		uint32_t mid = high - (high - low) / 2;

		if (rows_fit(t, b, mid))
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

/* Its rows are not held any more; a root goes on expecting as many. */
static void rows_reject(struct tree *t, struct branch *b)
{
	if (t->reign)
		t->reign->floor = MAX(t->reign->floor, hosts_told(t->n_rows));
	if (!b->announcing)
		tree_cancel(t, &b->side);
	rows_drop(b);
	rows_crowded(t, b, true);
	fetch_later(t, b);
	rows_touch(t);
}

/* The child that holds most gives way to those that hold less. */
static void rows_room(struct tree *t, const struct branch *b, uint32_t n)
{
	for (;;) {
		struct branch *most = NULL;
		uint64_t sum = n;

		for (unsigned i = 0; i < t->n_children; i++) {
			struct branch *c = t->child[i];

			if (c == b)
				continue;
			sum += c->n_rows;
			if (c->n_rows > (most ? most->n_rows : 0))
				most = c;
		}
		if (sum <= rows_held_most(t) || !most)
			return;
		rows_reject(t, most);
	}
}

void rows_limit(struct tree *t, uint32_t most)
{
	t->rows_most = most;
	rows_graves_limit(t);
	rows_room(t, NULL, 0);
}

static void page_whole(struct tree *t, struct branch *b)
{
	int ret = page_check(t, b);

	if (ret == -EINVAL && !b->bad_rows) {
		b->bad_rows = true;
		t->version++;
		event(t, TREE_EVENT_CHILD, &b->pub.id);
	}
	if (ret) {
		fetch_later(t, b);
		return;
	}
	rows_room(t, b, b->n_page);
	take(t, b, b->page, b->n_page, b->page_hash);
	b->page = NULL;
	b->n_page = 0;
}

/*
 * Those above may be about to say that they read more since a grant passed: a
 * beat for each level.  Who has grants asked for again and again is not
 * rejected for want of room; nothing is complete meanwhile.
 */
static bool more_soon(const struct tree *t, const struct branch *b)
{
	return t->place == PLACE_ATTACHED &&
	       t->heard_ms < b->grown_ms + UNTOLD_MS + t->n_path * BEAT_MS;
}

/* Adds a page; 0, or -errno. */
static int page_take(const struct tree *t, struct branch *b,
		     const struct tree_msg *m)
{
	uint32_t n = m->u.rows.n;
	struct tree_row *p;

	if (!n || n > TREE_ROWS_PAGE || m->u.rows.offset != b->n_page ||
	    (m->u.rows.next && m->u.rows.next != b->n_page + n))
		return -EINVAL;
	if (n + b->n_page > rows_came(b))
		return -E2BIG;
	if (!rows_fit(t, b, n + b->n_page))
		return more_soon(t, b) ? -EAGAIN : -E2BIG;
	if (b->n_page && m->u.rows.hash != b->page_hash)
		return -EAGAIN;
	p = reallocarray(b->page, b->n_page + n, sizeof(*p));
	if (!p)
		return -ENOMEM;
	memcpy(&p[b->n_page], m->u.rows.row, n * sizeof(*p));
	rows_correct(b, &p[b->n_page], n);
	b->page = p;
	b->n_page += n;
	b->page_hash = m->u.rows.hash;
	return 0;
}

void rows_done(struct tree *t, struct branch *b, int err,
	       const struct tree_msg *m)
{
	int ret;

	if (b->announcing)
		return; /* its next beat says what it has */
	ret = err || m->word != TREE_OK ? -EAGAIN : page_take(t, b, m);
	if (ret == -E2BIG)
		rows_crowded(t, b, true);
	if (ret)
		fetch_later(t, b);
	else if (m->u.rows.next)
		fetch_page(t, b);
	else
		page_whole(t, b);
}
