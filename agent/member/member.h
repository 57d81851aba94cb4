/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who proposes an agent's place in the tree: one file each.  A provider only
 * proposes; agent/tree decides.
 */
#ifndef LINNET_MEMBER_H
#define LINNET_MEMBER_H

#include "agent/conf.h"
#include "agent/tree/tree.h"

/* Built by hand: children as clients added them. */
extern const struct member_ops member_manual;
int manual_open(struct member **out, const struct conf *c);
/*
 * Those of the configuration, and those that clients had added when the agent
 * ran last; their number.
 */
unsigned manual_children(const struct member *m,
			 struct endpoint out[TREE_CHILDREN]);
/* Those that there are now; what clients changed of them is written. */
void manual_keep(struct member *m, const struct endpoint *ep, unsigned n);

/* Laid out by a list that is the same on all hosts. */
extern const struct member_ops member_static;
/* 0, or -errno after a line that says why. */
int static_open(struct member **out, const struct conf *c,
		bool (*is_self)(const struct conf *c,
				const struct endpoint *ep));
struct endpoint static_first(const struct member *m); /* line 0 */
struct endpoint static_self(const struct member *m);  /* own line */

/* By asking any members. */
extern const struct member_ops member_join;
int join_open(struct member **out, const struct conf *c,
	      bool (*is_self)(const struct conf *c, const struct endpoint *ep));

#endif
