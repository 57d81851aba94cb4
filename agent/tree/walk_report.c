/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How true an answer is, where it was asked: who is expected is fixed at the
 * start; then who answered is compared with it, by number and by the sum of
 * digests, and what is missing is named.  A top hides its subtree unless only
 * its own read failed (alone).  Unsure is never complete.
 */
#include <string.h>

#include "agent/tree/walk_private.h"
#include "common/util.h"

static uint64_t row_digest(const struct walk_conf *c, uint32_t row,
			   const struct hash_key *key)
{
	struct node_id id, parent;

	c->view->row(c->tree, row, &id, &parent);
	return coverage_digest_keyed(key, &id);
}

/* Sum of the first n rows' digests. */
static uint64_t rows_digest(const struct walk_conf *c, uint32_t n)
{
	struct hash_key key;
	uint64_t sum = 0;

	coverage_key(c->overlay, &key);
	for (uint32_t i = 0; i < n; i++)
		sum += row_digest(c, i, &key);
	return sum;
}

void walk_scope(struct walk *w, bool host_only, struct walk_scope *out)
{
	const struct walk_conf *c = &w->conf;
	uint64_t version = 0;

	*out = (struct walk_scope){ .as_of = c->view->as_of(c->tree),
				    .expected = 1 };
	if (host_only) {
		out->digest = rows_digest(c, 1);
		return;
	}
	out->expected = c->view->expected(c->tree);
	out->unsettled = c->view->settled && !c->view->settled(c->tree);
	if (c->view->rows_version)
		version = c->view->rows_version(c->tree) + 1;
	if (!version || version != w->digest_of)
		w->digest = rows_digest(c, c->view->n_rows(c->tree));
	w->digest_of = version;
	out->digest = w->digest;
}

static enum missing_reason top_reason(const struct coverage *c,
				      const struct node_id *id, bool *alone)
{
	for (uint32_t i = 0; i < c->n_missing; i++)
		if (node_id_equal(&c->missing[i].id, id)) {
			*alone = c->missing[i].alone;
			return c->missing[i].reason;
		}
	return MISSING_NONE;
}

/* Its own rows come right after a row: hidden ones are a run. */
void walk_expand(const struct walk *w, const struct coverage *c, uint32_t row,
		 void (*each)(void *arg, uint32_t row, const struct node_id *id,
			      enum missing_reason r, bool alone),
		 void *arg)
{
	struct {
		struct node_id id;
		bool hidden;
	} stack[TREE_LEVELS_MAX + 1];
	uint32_t n = w->conf.view->n_rows(w->conf.tree);
	unsigned depth = 0;

	for (uint32_t i = row; i < n; i++) {
		enum missing_reason r;
		struct node_id id, parent;
		bool hidden, alone = false;

		w->conf.view->row(w->conf.tree, i, &id, &parent);
		r = top_reason(c, &id, &alone);
		while (depth && !node_id_equal(&stack[depth - 1].id, &parent))
			depth--;
		if (i > row && !depth)
			return;
		hidden = depth && stack[depth - 1].hidden;
		if (r == MISSING_NONE && hidden)
			r = MISSING_BEHIND;
		if (depth < ARRAY_SIZE(stack)) {
			stack[depth].id = id;
			stack[depth++].hidden = hidden ||
						(r != MISSING_NONE && !alone);
		}
		each(arg, i, &id, r, alone);
	}
}

static void report_name(void *arg, uint32_t row, const struct node_id *id,
			enum missing_reason r, bool alone)
{
	struct walk_report *out = arg;

	(void)id;
	(void)alone;
	if (r == MISSING_NONE || out->n_missing == COVERAGE_TOPS)
		return;
	out->missing[out->n_missing].row = row;
	out->missing[out->n_missing++].reason = r;
}

/* Without one name, with one more host, or with a host in place of a name. */
static bool names_mend(const struct walk_conf *c, const struct hash_key *key,
		       const uint64_t *digest, uint64_t rest,
		       struct walk_report *out)
{
	uint32_t n = out->n_missing, rows = c->view->n_rows(c->tree);

	for (uint32_t k = 0; k < n; k++)
		if (rest + digest[k] == 0) {
			out->missing[k] = out->missing[n - 1];
			out->n_missing--;
			return true;
		}
	for (uint32_t i = 0; i < rows; i++) {
		uint64_t d = row_digest(c, i, key);
		uint32_t k = 0;

		while (k < n && rest + digest[k] != d)
			k++;
		if (k == n && rest != d)
			continue;
		out->missing[k].row = i;
		out->missing[k].reason = MISSING_MOVED;
		out->n_missing = MAX(n, k + 1);
		return true;
	}
	return false;
}

/*
 * A host that moves is named by the parent that lost it and may have answered
 * below another; or is named by neither.  The digests tell: those of the names
 * make up what is missing, or nearly do.  If there are as many names as hosts
 * that are missing, and they are not proved so, none is told.
 */
static void names_check(const struct walk *w, uint64_t rest, uint32_t missing,
			struct walk_report *out)
{
	const struct walk_conf *c = &w->conf;
	uint64_t digest[COVERAGE_TOPS];
	struct hash_key key;

	coverage_key(c->overlay, &key);
	for (uint32_t k = 0; k < out->n_missing; k++) {
		digest[k] = row_digest(c, out->missing[k].row, &key);
		rest -= digest[k];
	}
	if (!rest)
		return;
	/* where there is no room for more it may be any of those left out */
	if (out->n_missing < COVERAGE_TOPS &&
	    names_mend(c, &key, digest, rest, out))
		return;
	if (out->n_missing >= missing)
		out->n_missing = 0;
}

static bool is_child(const struct walk_conf *c, const struct node_id *id)
{
	for (unsigned i = 0; i < c->view->n_children(c->tree); i++) {
		struct walk_child ch;

		if (c->view->child(c->tree, i, &ch) &&
		    node_id_equal(&ch.id, id))
			return true;
	}
	return false;
}

/*
 * Members that no child tells of stand below a root and are no children: a new
 * one has those of the other side of a cut.  They are named if their digests
 * are just what is left.
 */
static void names_lost(const struct walk *w, uint64_t rest, uint32_t missing,
		       struct walk_report *out)
{
	const struct walk_conf *c = &w->conf;
	uint32_t n = out->n_missing, rows = c->view->n_rows(c->tree);
	struct node_id self, id, parent;
	struct hash_key key;

	if (missing <= n || missing > COVERAGE_TOPS)
		return;
	coverage_key(c->overlay, &key);
	for (uint32_t k = 0; k < n; k++)
		rest -= row_digest(c, out->missing[k].row, &key);
	c->view->row(c->tree, 0, &self, &parent);
	for (uint32_t i = 1; i < rows && n < missing; i++) {
		c->view->row(c->tree, i, &id, &parent);
		if (!node_id_equal(&parent, &self) || is_child(c, &id))
			continue;
		rest -= row_digest(c, i, &key);
		out->missing[n].row = i;
		out->missing[n++].reason = MISSING_UNREACHABLE;
	}
	if (n == missing && !rest)
		out->n_missing = n;
}

void walk_report(const struct walk *w, const struct coverage *c,
		 const struct walk_scope *scope, struct walk_report *out)
{
	bool reasons = false;
	uint32_t missing;

	memset(out, 0, sizeof(*out));
	for (unsigned r = 0; r < MISSING_REASONS; r++)
		reasons |= c->reasons[r] != 0;
	out->answered = c->answered;
	out->expected = MAX(scope->expected, c->answered);
	out->all_in = c->answered == scope->expected &&
		      c->digest == scope->digest && !scope->unsettled;
	out->complete = out->all_in && !reasons && !c->saturated && !c->skew;
	out->partial = c->reasons[MISSING_PARTIAL];
	if (c->n_missing)
		walk_expand(w, c, 0, report_name, out);
	missing = out->expected - out->answered;
	names_lost(w, scope->digest - c->digest, missing, out);
	if (missing || out->n_missing)
		names_check(w, scope->digest - c->digest, missing, out);
	/* never more names than hosts that are missing */
	out->n_missing = MIN(out->n_missing, missing);
	out->missing_more = missing - out->n_missing;
}

/* ---- what a child may name ---- */

#define CLOCK_MS 100 /* a smaller error is too large for no question */

struct named {
	const struct coverage *c;
	uint32_t found; /* bits of its tops */
	bool clock;     /* and who has the worst clock */
};

static void name_found(void *arg, uint32_t row, const struct node_id *id,
		       enum missing_reason r, bool alone)
{
	struct named *n = arg;

	(void)row;
	(void)alone;
	(void)r;
	n->clock |= node_id_equal(&n->c->clock_id, id);
	for (uint32_t i = 0; i < n->c->n_missing; i++)
		if (node_id_equal(&n->c->missing[i].id, id))
			n->found |= UINT32_C(1) << i;
}

void tops_check(const struct walk *w, const struct node_id *child,
		struct coverage *c)
{
	static const struct coverage none;
	struct named named = { .c = c };
	struct node_id id, parent;
	uint32_t n, i, kept = 0;

	if (!c->n_missing && c->clock_err_ms < CLOCK_MS)
		return;
	n = w->conf.view->n_rows(w->conf.tree);
	for (i = 0; i < n; i++) {
		w->conf.view->row(w->conf.tree, i, &id, &parent);
		if (node_id_equal(&id, child))
			break;
	}
	walk_expand(w, &none, i, name_found, &named);
	for (i = 0; i < c->n_missing; i++)
		if (named.found & UINT32_C(1) << i)
			c->missing[kept++] = c->missing[i];
	c->n_missing = kept;
	if (!named.clock)
		c->clock_id = *child;
}
