/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list, the one used last at first; the others go when there are too many
 * bytes or answers.  What was asked is compared as a whole: the task with its
 * generation and seed, the window, the arguments.  Parts belong to the list.
 */
#include "agent/kept.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define KEPT_BYTES   ((size_t)64 << 20)
#define KEPT_ANSWERS 1024

struct kept_answer {
	struct kept_answer *next;
	struct answer_request rq; /* keys: the answer's */
	struct answer an;
	size_t bytes;
};

struct kept {
	struct kept_answer *first;
	unsigned n;
	size_t bytes;
	uint64_t term; /* of the reign */
};

int kept_open(struct kept **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void answer_forget(struct kept *k, struct kept_answer **at)
{
	struct kept_answer *a = *at;

	*at = a->next;
	k->n--;
	k->bytes -= a->bytes;
	part_free(a->an.part);
	free(a->an.hit);
	free((struct flow_key *)a->an.keys);
	free(a);
}

void kept_free(struct kept *k)
{
	if (!k)
		return;
	kept_reign(k, 0);
	free(k);
}

void kept_reign(struct kept *k, uint64_t term)
{
	if (k->term == term)
		return;
	k->term = term;
	while (k->first)
		answer_forget(k, &k->first);
}

const struct answer *kept_find(struct kept *k, const struct answer_request *rq)
{
	struct kept_answer **at = &k->first, *a;

	while (*at && !answer_request_same(&(*at)->rq, rq))
		at = &(*at)->next;
	a = *at;
	if (!a)
		return NULL;
	*at = a->next;
	a->next = k->first;
	k->first = a;
	return &a->an;
}

static size_t bytes_of(const struct answer *an)
{
	const struct part *p = an->part;
	size_t n = sizeof(struct kept_answer) + sizeof(*p) +
		   an->n_hits * sizeof(*an->hit);

	switch (p->kind) {
	case PART_POINTS:
		n += p->points.n * (sizeof(*p->points.v) + sizeof(*an->keys));
		break;
	case PART_TOPK:
		n += p->topk.n * sizeof(*p->topk.row);
		break;
	case PART_HLL:
		n += p->hll.n_small * sizeof(*p->hll.small) +
		     (p->hll.reg ? (size_t)1 << p->params.hll_p : 0);
		break;
	case PART_TOTALS:
	case PART_EXACT:
	case PART_KINDS:
		break;
	}
	return n;
}

void kept_take(struct kept *k, const struct answer_request *rq,
	       struct answer *an)
{
	struct kept_answer *a = k->term ? calloc(1, sizeof(*a)) : NULL;

	if (!a)
		return;
	a->rq = *rq;
	a->an = *an;
	a->rq.keys = an->keys;
	a->rq.request_id = NULL;
	a->bytes = bytes_of(an);
	an->part = NULL;
	an->hit = NULL;
	an->keys = NULL;
	a->next = k->first;
	k->first = a;
	k->n++;
	k->bytes += a->bytes;
	while (k->n > 1 && (k->bytes > KEPT_BYTES || k->n > KEPT_ANSWERS)) {
		struct kept_answer **at = &k->first;

		assert(*at);
		while ((*at)->next)
			at = &(*at)->next;
		answer_forget(k, at);
	}
}
