/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F3: what a child sends in answer to a question: parse, compare with the
 * question, merge into a living accumulator.  Refused: nothing changed.
 * Taken: no more hosts than the child has, and the sum travels on.
 *
 * Input: 1 byte question (low bits) and whether the accumulator is empty
 * (bit 7), then the reply's text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/query_private.h"
#include "common/util.h"

#define HOSTS      4
#define END_SLOT   12345
#define N_KEYS     2
#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct task_spec task = { .id = 0xc0ffee,
				       .generation = 3,
				       .key = KEY_SPORT,
				       .kinds = SKETCH_DEFAULT_KINDS,
				       .seed = { { 1, 2, 3 } } };

static const struct measure_row rows[] = {
	{ .part = PART_TOTALS }, { .part = PART_POINTS, .keys = true },
	{ .part = PART_TOPK },   { .part = PART_EXACT, .end_slot = true },
	{ .part = PART_HLL },    { .part = PART_HLL, .end_slot = true },
};

/* What this host counted itself. */
static struct part *own_part(const struct measure_row *row)
{
	struct part *p = part_new(row->part, &task);

	MUST(p);
	p->totals.weight = p->totals.pkt = 10;
	if (row->end_slot) {
		p->end_slot = END_SLOT;
		p->n_slots = 10;
	}
	if (row->part == PART_POINTS) {
		p->points.v = calloc(N_KEYS, sizeof(*p->points.v));
		MUST(p->points.v);
		p->points.n = N_KEYS;
		p->points.v[0].upper = 7;
	} else if (row->part == PART_TOPK) {
		p->topk.row = calloc(1, sizeof(*p->topk.row));
		MUST(p->topk.row);
		p->topk.n = p->topk.cap = 1;
		p->topk.row[0].upper = 5;
	} else if (row->part == PART_EXACT) {
		p->exact.row = calloc(1, sizeof(*p->exact.row));
		MUST(p->exact.row);
		p->exact.n = p->exact.cap = 1;
		p->exact.row[0].value = 5;
	}
	return p;
}

static void write_answer(struct buf *b, const struct part *p,
			 const struct coverage *c)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	if (p)
		part_write(&o, "part", p);
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
	MUST(!b->failed);
}

/* As struct walk takes it. */
static enum missing_reason take(const struct json *v, const struct ask *ask,
				const struct measure_row *row,
				struct part **acc, struct coverage *cov)
{
	enum missing_reason r = MISSING_REJECTED;
	struct part *p = NULL;
	struct coverage c;
	const char *why;

	if (reply_parse(v, ask, 0, &p, &c, &why)) {
		MUST(why);
		return r;
	}
	if (c.answered <= HOSTS)
		r = reply_check(ask, row, p, &c, 0, &why);
	if (r == MISSING_NONE && p && *acc && part_merge(*acc, p))
		r = MISSING_INCOMPATIBLE;
	if (r == MISSING_NONE)
		coverage_merge(cov, &c, true);
	if (r == MISSING_NONE && !*acc)
		*acc = p;
	else
		part_free(p);
	return r;
}

static void try_reply(const struct json *v, const struct ask *ask,
		      const struct measure_row *row, struct part *acc)
{
	struct coverage cov = { .answered = 1 }, again;
	struct buf before = BUF_INIT, after = BUF_INIT;
	enum missing_reason r;
	struct json *back = NULL;

	write_answer(&before, acc, &cov);
	r = take(v, ask, row, &acc, &cov);
	write_answer(&after, acc, &cov);
	if (r != MISSING_NONE) {
		MUST(before.len == after.len &&
		     !memcmp(before.data, after.data, after.len));
	} else {
		MUST(cov.answered <= 1 + HOSTS);
		MUST(!json_parse(after.data, after.len, &back));
		MUST(!coverage_decode(json_get(back, "coverage"), &again) ||
		     cov.saturated || cov.loss.matched.packets >> 63 ||
		     cov.loss.matched.bytes >> 63 ||
		     cov.loss.received.packets >> 63 ||
		     cov.loss.received.bytes >> 63 || cov.hops > 16);
	}
	json_free(back);
	buf_fini(&before);
	buf_fini(&after);
	part_free(acc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct measure_row *row;
	struct ask ask = {
		.round = 1, .task = task, .n_keys = N_KEYS, .end_slot = END_SLOT
	};
	struct json *v = NULL;

	if (size < 1)
		return 0;
	row = &rows[(data[0] & 127) % ARRAY_SIZE(rows)];
	if (!json_parse((const char *)data + 1, size - 1, &v))
		try_reply(v, &ask, row, data[0] & 128 ? NULL : own_part(row));
	json_free(v);
	return 0;
}
