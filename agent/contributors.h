/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this host and each direct child gave to one answer, kept beside the
 * sum: so that a plausible lie has a name.
 */
#ifndef LINNET_CONTRIBUTORS_H
#define LINNET_CONTRIBUTORS_H

#include <stdbool.h>

#include "agent/coverage.h"
#include "common/sketch/sketch.h"

struct contributor {
	struct node_id id;
	enum missing_reason why; /* MISSING_NONE: it gave this */
	struct coverage coverage;
	struct part *part; /* NULL: none, or no room for it */
};

struct contributors {
	struct contributor *row;
	unsigned n;
	size_t held; /* bytes of all parts */
};

/* in is borrowed, and may be NULL; without memory it is left out. */
void contributors_add(struct contributors *l, const struct node_id *id,
		      enum missing_reason why, const struct task_spec *task,
		      const struct part *in, const struct coverage *c);
void contributors_reset(struct contributors *l);

#endif
