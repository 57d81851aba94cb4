/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This host's own part of an answer: reads the monitor's images and makes the
 * part that the question wants; several readers are merged here.
 */
#ifndef LINNET_MEASURE_H
#define LINNET_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/query.h"

/* What a question is on the wire and what it needs of the monitor. */
struct measure_row {
	const char *name; /* "totals", "points", … */
	enum part_kind part;
	uint32_t kinds;    /* sketches to read; those the task keeps */
	uint32_t required; /* at least one of these must be in the task; 0: none
			    */
	bool keys, share, end_slot; /* arguments it takes */
	uint32_t reply_cap;         /* bytes a child's reply may have */
};
const struct measure_row *measure_row(enum ask_kind k);
/* 0 or -EINVAL */
int measure_parse(const char *name, enum ask_kind *out);
/* The task keeps a sketch that answers this. */
bool measure_possible(enum ask_kind k, const struct task_spec *t);

/*
 * Whole amounts above share * n are above this.  A share such as 0.3 that has
 * no exact binary form counts as the decimal number it was.
 */
uint64_t measure_share(double share, uint64_t n);
/* Of n in all a key can be heavy: a share of a few says nothing.  Share 0 asks
 * for none, only which are the largest. */
bool measure_heavy(double share, uint64_t n);

struct measure_result {
	enum missing_reason reason; /* MISSING_NONE: part is there */
	struct part *part;          /* the callback takes it */
	struct ctl_loss loss;
	uint64_t start_ms, end_ms; /* wall clock */
};

struct measure;
/*
 * done is called once, never from inside this call, within CTL_REPLY_MS or
 * so.  ask is borrowed until then.  NULL: no memory.
 */
struct measure *measure_start(struct agent *a, const struct ask *ask,
			      void (*done)(void *arg, struct measure_result *r),
			      void *arg);
void measure_cancel(struct measure *m);

#endif
