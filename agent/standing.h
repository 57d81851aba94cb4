/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standing queries: questions about closed windows that each parent asks when
 * its time has come, so that a client at the root finds the answer.
 */
#ifndef LINNET_STANDING_H
#define LINNET_STANDING_H

#include "agent/answer.h"

struct standing;

int standing_open(struct standing **out, struct agent *a); /* or -ENOMEM */
void standing_free(struct standing *s);
/* Once a second; NULL: not open yet. */
void standing_tick(struct standing *s);
/* The newest window that is answered already, if this question stands and
 * the answer about newest is not there yet; else newest. */
uint64_t standing_last(const struct agent *a, const struct answer_request *rq,
		       uint64_t newest);

#endif
