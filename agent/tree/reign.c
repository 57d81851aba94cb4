/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Being the root: terms, numbers of grants, members that nobody tells of.
 *
 * One that resigned keeps its struct reign until it is attached: if that
 * fails it goes on as before.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/private.h"

#define LEAVES_MAX 64    /* open grants at once: movers without children */
#define TREES_MAX  16    /* and with */
#define TRUST_MS   60000 /* a former fleet's count is taken so long */
#define SURE_MS    6000  /* who joined last is in no count */
#define TERM_STEP  ((uint64_t)1 << 20)

/* ---- terms ---- */

static void epoch_take(struct tree *t)
{
	if (epoch_compare(&t->reign_epoch, &t->seen) > 0)
		t->seen = t->reign_epoch;
}

int reign_raise(struct tree *t, uint64_t above)
{
	const struct epoch seen = t->seen;
	struct epoch next;
	uint64_t old = t->term;
	int ret;

	if (MAX(old, above) >= EPOCH_MAX)
		return -ERANGE;
	t->term = MAX(old, above) + 1;
	/* what is done under it is not forgotten either: tasks bear the term */
	next = (struct epoch){ .term = t->term,
			       .root = id_head(&t->self),
			       .n = MAX(t->reign_epoch.n, t->seen.n) };
	if (next.n > EPOCH_MAX / 2) /* nobody counted that far */
		next.n = 0;
	if (epoch_compare(&next, &t->seen) > 0)
		t->seen = next;
	ret = tree_store(t);
	if (ret) {
		t->term = old;
		t->seen = seen;
		return ret;
	}
	t->reign_epoch = next;
	return 0;
}

/* ---- members that no child tells of ---- */

int reign_reserve(struct tree *t, uint32_t n)
{
	struct reign *r = t->reign;
	uint32_t cap = MAX(r->cap_extra, 8);
	struct extra *p;

	if (n > TREE_MEMBERS - r->n_extra)
		return -ENOMEM;
	if (n <= r->cap_extra - r->n_extra)
		return 0;
	while (cap < r->n_extra + n)
		cap *= 2;
	p = reallocarray(r->extra, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r->extra = p;
	r->cap_extra = cap;
	return 0;
}

struct extra *reign_extra(struct tree *t, const struct tree_row *row)
{
	struct reign *r = t->reign;
	struct extra *x = &r->extra[r->n_extra++];

	*x = (struct extra){
		.row = *row, .since_ms = now_ms(t), .hosts = 1, .known = true
	};
	x->row.up = x->row.gone = false;
	x->row.level = 1;
	x->was = x->row;
	rows_touch(t);
	return x;
}

static struct extra *extra_find(const struct reign *r, const struct node_id *id)
{
	for (uint32_t i = 0; i < r->n_extra; i++)
		if (id_equal(&r->extra[i].row.id, id))
			return &r->extra[i];
	return NULL;
}

/* Or one that is listed and was not seen yet: known by its address. */
static struct extra *extra_of_mover(const struct reign *r,
				    const struct tree_mover *mover,
				    const struct endpoint *ep)
{
	struct extra *x = extra_find(r, &mover->id);
	struct node_id id;

	rows_derived_id(ep, &id);
	return x ? x : extra_find(r, &id);
}

static void extra_remove(struct tree *t, struct extra *x)
{
	*x = t->reign->extra[--t->reign->n_extra];
	rows_touch(t);
}

static void extras_announced(struct tree *t)
{
	struct tree_row row = { .level = 1 };

	if (reign_reserve(t, t->n_members))
		return;
	for (uint32_t i = 0; i < t->n_members; i++) {
		row.id = t->members[i].id;
		row.ep = t->members[i].ep;
		if (!id_equal(&row.id, &t->self))
			reign_extra(t, &row);
	}
}

static void extras_listed(struct tree *t)
{
	const struct member_ops *p = t->conf->provider;
	struct endpoint *ep = calloc(TREE_MEMBERS, sizeof(*ep));
	struct tree_row row = { .level = 1 };
	int n = ep ? p->expected(t->conf->member, false, ep, TREE_MEMBERS) : 0;

	if (n > 0 && reign_reserve(t, (uint32_t)n))
		n = 0;
	for (int i = 0; i < n; i++) {
		if (endpoint_equal(&ep[i], &t->conf->self))
			continue;
		rows_derived_id(&ep[i], &row.id);
		row.ep = ep[i];
		reign_extra(t, &row);
	}
	free(ep);
}

/*
 * Who was a member of the last reign is expected.  It knew of all that are
 * listed, and who of them has left; but not of what was listed before this
 * start, when members have no hash yet.
 */
static void extras_begin(struct tree *t)
{
	const struct member_ops *p = t->conf->provider;

	if (p->expected && !t->members_hash)
		extras_listed(t);
	else if (t->n_members && !p->founds)
		extras_announced(t);
}

void tree_accept_rows(struct tree *t)
{
	if (!t->reign)
		return;
	t->reign->floor = 0;
	t->reign->sure_ms = 0;
	t->reign->blind_ms = 0;
	t->reign->counted = true;
	for (uint32_t i = 0; i < t->reign->n_extra;) {
		if (t->reign->extra[i].pending)
			i++;
		else
			extra_remove(t, &t->reign->extra[i]);
	}
	t->version++;
}

/* ---- beginning and end ---- */

bool reign_candidate(const struct tree *t)
{
	for (unsigned i = 0; i < t->conf->n_roots; i++)
		if (endpoint_equal(&t->conf->roots[i], &t->conf->self))
			return true;
	return false;
}

static int reign_new(struct tree *t)
{
	uint32_t fleet = t->fleet ? t->fleet : t->stored_fleet;
	bool first = epoch_none(&t->seen);
	int ret;

	t->reign = calloc(1, sizeof(*t->reign));
	if (!t->reign)
		return -ENOMEM;
	ret = reign_raise(t, t->seen.term);
	if (ret) {
		free(t->reign);
		t->reign = NULL;
		return ret;
	}
	t->reign->since_ms = now_ms(t);
	if (!t->conf->provider->founds) {
		t->reign->sure_ms = now_ms(t) + SURE_MS;
		t->reign->floor = fleet > 1 ? fleet : 0;
		t->reign->counted = fleet;
		t->reign->blind_ms = fleet || first ? 0 : now_ms(t) + TRUST_MS;
	}
	extras_begin(t);
	return 0;
}

int reign_begin(struct tree *t)
{
	int ret = 0;

	if (!t->reign)
		ret = reign_new(t);
	else if (t->seen.term > t->reign_epoch.term)
		ret = reign_raise(t, t->seen.term);
	if (ret)
		return ret;
	seek_stop(t);
	t->place = PLACE_ROOT;
	t->rooted = false;
	t->offset_ms = t->error_ms = 0;
	t->n_path = 0;
	t->unrooted_ms = 0;
	rows_touch(t);
	/* another one may have begun at the same moment */
	timer_at(t, TIMER_REIGN,
		 now_ms(t) + 2 * ROUND_MS + random_below(t, ROUND_MS));
	seek_place(t);
	branch_news(t);
	event(t, TREE_EVENT_PARENT, NULL);
	return 0;
}

/*
 * Who may be a root later, perhaps after a restart and alone, knows how many
 * there were, and who: others may have come since.  Many more are noted at
 * once, else now and then; so is what could not be stored.
 */
void reign_count(struct tree *t, uint32_t fleet)
{
	uint32_t old = t->stored_fleet;
	uint64_t hash = t->stored_members;
	bool at_once;

	fleet = hosts_told(fleet);
	at_once = fleet > old + old / 4 && !t->count_failed;
	if (t->conf->provider->founds || !fleet ||
	    (fleet == old && hash == t->members_hash) ||
	    (!at_once && now_ms(t) < t->counted_ms + CHECK_MS))
		return;
	t->counted_ms = now_ms(t);
	t->stored_fleet = fleet;
	t->stored_members = t->members_hash;
	t->count_failed = tree_store(t) != 0;
	if (t->count_failed) {
		t->stored_fleet = old;
		t->stored_members = hash;
	}
}

void reign_resign(struct tree *t)
{
	t->fleet = hosts_told(tree_expected(t));
	t->place = PLACE_DETACHED;
	t->reign->asking = false;
	candidates_cancel(t, t->reign->ref);
	timer_at(t, TIMER_REIGN, UINT64_MAX);
	t->version++;
	branch_news(t);
	event(t, TREE_EVENT_PARENT, NULL);
}

void reign_end(struct tree *t)
{
	if (!t->reign)
		return;
	candidates_cancel(t, t->reign->ref);
	timer_at(t, TIMER_REIGN, UINT64_MAX);
	free(t->reign->extra);
	free(t->reign);
	t->reign = NULL;
	rows_touch(t);
}

/* ---- grants ---- */

/* One that did not take it is what it was before. */
static void open_close(struct tree *t, unsigned i, bool confirmed)
{
	struct reign *r = t->reign;
	const struct open_grant g = r->open[i];
	struct extra *x = extra_find(r, &g.id);

	r->open[i] = r->open[--r->n_open];
	if (!x || !x->pending || epoch_compare(&x->row.lease, &g.lease) != 0)
		return;
	if (confirmed) {
		x->was = x->row;
		return;
	}
	if (!x->known && epoch_none(&x->was.lease)) {
		extra_remove(t, x);
		return;
	}
	x->row = x->was;
	x->pending = false;
	x->known = true;
	rows_touch(t);
}

static void open_purge(struct tree *t)
{
	uint64_t now = now_ms(t);

	for (unsigned i = t->reign->n_open; i-- > 0;)
		if (now >= t->reign->open[i].until_ms)
			open_close(t, i, false);
}

void reign_settle(struct tree *t, const struct node_id *mover,
		  const struct epoch *lease, bool confirmed)
{
	if (!t->reign)
		return;
	for (unsigned i = t->reign->n_open; i-- > 0;)
		if (id_equal(&t->reign->open[i].id, mover) &&
		    epoch_compare(&t->reign->open[i].lease, lease) == 0)
			open_close(t, i, confirmed);
}

/*
 * No cycle is kept out by this: movers have detached, and requests climb edges
 * in use, however many of them at a time (join.pml, VAR=5, and grant.pml have
 * no such limit).  One at a time of those with children would have the orphans
 * of a lost agent wait for each other.  It bounds what a root waits for.
 */
static bool may_open(struct tree *t, const struct tree_mover *mover)
{
	struct reign *r = t->reign;
	unsigned n = 0;

	open_purge(t);
	for (unsigned i = r->n_open; i-- > 0;)
		if (id_equal(&r->open[i].id, &mover->id))
			open_close(t, i, false); /* it asks anew */
	for (unsigned i = 0; i < r->n_open; i++)
		n += r->open[i].leaf == (mover->hosts == 1);
	return n < (mover->hosts == 1 ? LEAVES_MAX : TREES_MAX);
}

static void pending_row(struct tree *t, const struct tree_mover *mover,
			const struct endpoint *ep,
			const struct node_id *acceptor)
{
	struct extra *x = extra_of_mover(t->reign, mover, ep);
	struct tree_row row = { .id = mover->id,
				.parent = *acceptor,
				.ep = *ep,
				.level = 1,
				.incarnation = mover->incarnation,
				.lease = t->reign_epoch };
	const struct tree_row was = x ? x->was : (struct tree_row){ 0 };
	bool known = x && x->known;

	if (x)
		extra_remove(t, x);
	x = reign_extra(t, &row);
	x->was = was;
	x->known = known;
	x->pending = true;
	x->hosts = mover->hosts;
}

/* A reign that is young hears from those of others how many there were. */
static void learn_count(struct tree *t, const struct tree_mover *mover)
{
	struct reign *r = t->reign;

	if (epoch_none(&mover->seen) ||
	    (mover->seen.term == t->reign_epoch.term &&
	     mover->seen.root == t->reign_epoch.root))
		return;
	if (mover->fleet > r->floor)
		r->floor = mover->fleet;
	if (mover->fleet)
		r->counted = true;
	r->blind_ms = r->counted ? 0 : r->since_ms + TRUST_MS;
}

/*
 * A mover has seen a higher term: the root takes one above it, so that the
 * mover can take its grant.  Terms are counts; of one that is further ahead
 * than any honest one can be, it comes nearer now and then, and nobody uses
 * them up.
 */
static enum tree_word follow(struct tree *t, const struct epoch *seen)
{
	struct reign *r = t->reign;
	uint64_t now = now_ms(t);

	if (seen->term <= t->term || seen->term - t->term <= TERM_STEP)
		return reign_raise(t, seen->term) ? TREE_BUSY : TREE_OK;
	if (!r->followed_ms || now >= r->followed_ms + CHECK_MS) {
		r->followed_ms = now;
		(void)reign_raise(t, t->term + TERM_STEP);
	}
	return TREE_STALE;
}

enum tree_word reign_grant(struct tree *t, const struct tree_mover *mover,
			   const struct endpoint *ep,
			   const struct node_id *acceptor, struct epoch *out)
{
	struct reign *r = t->reign;
	struct epoch next = t->reign_epoch;
	enum tree_word w = TREE_OK;

	if (!may_open(t, mover) || reign_reserve(t, 1))
		return TREE_BUSY;
	next.n++;
	if (epoch_compare(&next, &mover->seen) <= 0)
		w = follow(t, &mover->seen);
	if (w != TREE_OK)
		return w;
	if (!t->conf->provider->founds && now_ms(t) < r->since_ms + TRUST_MS)
		learn_count(t, mover);
	t->reign_epoch.n++;
	epoch_take(t);
	r->open[r->n_open++] =
		(struct open_grant){ .id = mover->id,
				     .lease = t->reign_epoch,
				     .until_ms = now_ms(t) + GRANT_MS,
				     .leaf = mover->hosts == 1 };
	pending_row(t, mover, ep, acceptor);
	*out = t->reign_epoch;
	return TREE_OK;
}

void reign_keep_house(struct tree *t)
{
	struct reign *r = t->reign;

	open_purge(t);
	for (uint32_t i = 0; i < r->n_extra;) {
		struct extra *x = &r->extra[i++];

		/* confirmed, and then lost with who could have told of it */
		if (x->pending && now_ms(t) - x->since_ms >= UNTOLD_MS) {
			x->pending = false;
			x->known = true;
			x->was = x->row;
			rows_touch(t);
		}
		if (tree_forgets(t, x->since_ms))
			extra_remove(t, &r->extra[--i]);
	}
	reign_count(t, tree_expected(t));
}
