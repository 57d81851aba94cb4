/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree as a walk sees it, where it is a struct tree. */
#include "agent/tree/tree.h"
#include "agent/tree/walk.h"

static const struct node_id *view_self(void *tree)
{
	return tree_self(tree);
}

static struct epoch view_lease(void *tree)
{
	return tree_lease(tree);
}

static uint64_t view_lease_ms(void *tree)
{
	return tree_lease_ms(tree);
}

static struct epoch view_as_of(void *tree)
{
	return tree_epoch(tree);
}

static uint32_t view_clock_err_ms(void *tree)
{
	return tree_clock_err_ms(tree);
}

static enum tree_word view_admit(void *tree, const struct epoch *lease,
				 const struct epoch *as_of)
{
	return tree_admit(tree, lease, as_of);
}

static unsigned view_n_children(void *tree)
{
	return tree_n_children(tree);
}

static bool view_child(void *tree, unsigned i, struct walk_child *out)
{
	struct tree_child c;

	tree_child_at(tree, i, &c);
	if (c.refused != TREE_OK)
		return false;
	*out = (struct walk_child){
		.id = c.id,
		.ep = c.ep,
		.lease = c.lease,
		.hosts = c.most,
		.height = c.height,
		.rtt_us = c.rtt_us,
		.ask = (c.state == CHILD_UP || c.state == CHILD_SUSPECT) &&
		       !c.crowded,
		.suspect = c.state == CHILD_SUSPECT,
		.told = true,
		.why = c.crowded ? MISSING_REJECTED : MISSING_UNREACHABLE,
	};
	return true;
}

static uint32_t view_n_rows(void *tree)
{
	uint32_t n;

	(void)tree_rows(tree, &n);
	return n;
}

static void view_row(void *tree, uint32_t i, struct node_id *id,
		     struct node_id *parent)
{
	uint32_t n;
	const struct tree_row *row = tree_rows(tree, &n) + i;

	*id = row->id;
	*parent = row->parent;
}

static uint32_t view_expected(void *tree)
{
	return tree_expected(tree);
}

static uint64_t view_rows_version(void *tree)
{
	return tree_rows_version(tree);
}

static bool view_settled(void *tree)
{
	return tree_settled(tree);
}

const struct walk_view walk_tree_view = {
	.self = view_self,
	.lease = view_lease,
	.lease_ms = view_lease_ms,
	.as_of = view_as_of,
	.clock_err_ms = view_clock_err_ms,
	.admit = view_admit,
	.n_children = view_n_children,
	.child = view_child,
	.n_rows = view_n_rows,
	.row = view_row,
	.rows_version = view_rows_version,
	.expected = view_expected,
	.settled = view_settled,
};
