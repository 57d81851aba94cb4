/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parts of one answer by who gave them.  A part is copied before it goes into
 * the sum; all copies together are bounded, as replies under way are.  The list
 * belongs to the answer, questions of both its rounds borrow it.
 */
#include "agent/contributors.h"

#include <stdlib.h>
#include <string.h>

#include "agent/query_private.h"

#define HELD_MAX ((size_t)64 << 20)

/* A part of the same head and data; NULL: no memory. */
static struct part *part_copy(const struct task_spec *task,
			      const struct part *in)
{
	struct part *p = part_new(in->kind, task);
	struct columns c = { 0 };
	int ret = -1;

	if (!p)
		return NULL;
	*p = *in;
	memset(&p->exact, 0, sizeof(p->exact)); /* the largest of its data */
	if (!part_encode(in, &c))
		ret = part_decode(p, &c);
	columns_free(&c);
	if (!ret)
		return p;
	part_free(p);
	return NULL;
}

void contributors_add(struct contributors *l, const struct node_id *id,
		      enum missing_reason why, const struct task_spec *task,
		      const struct part *in, const struct coverage *c)
{
	struct contributor *row = reallocarray(l->row, l->n + 1, sizeof(*row));

	if (!row)
		return;
	l->row = row;
	row += l->n++;
	*row = (struct contributor){ .id = *id, .why = why };
	if (c)
		row->coverage = *c;
	if (!in || part_held(in) > HELD_MAX - l->held)
		return;
	row->part = part_copy(task, in);
	if (row->part)
		l->held += part_held(row->part);
}

void contributors_reset(struct contributors *l)
{
	for (unsigned i = 0; i < l->n; i++)
		part_free(l->row[i].part);
	free(l->row);
	*l = (struct contributors){ 0 };
}
