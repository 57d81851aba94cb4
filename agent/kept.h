/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers about closed windows that were complete: they do not change, so
 * that any number of readers cost one question to the tree.  A root has them,
 * as long as it is one: they speak of hosts that may be below another then.
 */
#ifndef LINNET_KEPT_H
#define LINNET_KEPT_H

#include "agent/answer.h"

struct kept;

int kept_open(struct kept **out); /* 0 or -ENOMEM */
void kept_free(struct kept *k);
/* What was kept in another reign is forgotten; 0: in none nothing is kept. */
void kept_reign(struct kept *k, uint64_t term);
/* The answer to this request; valid until the next kept_take(), or NULL. */
const struct answer *kept_find(struct kept *k, const struct answer_request *rq);
/*
 * Keeps what has been answered: takes an's part, hits and keys (heap), which
 * then are NULL in *an.  Without memory nothing is taken or kept.
 */
void kept_take(struct kept *k, const struct answer_request *rq,
	       struct answer *an);

#endif
