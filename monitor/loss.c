/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * matched = received + waiting + missed, of which the kernel says the first,
 * the readers the second, and nobody the third.  For a task that begins amid an
 * overload the difference is its own: what waits will be counted for it, what
 * was missed before is none of its business.  So a lower bound of "missed so
 * far" is kept, and what a task is told to have missed is never too little.
 *
 * Two bounds.  At any moment no more can wait than queues hold.  And: matched
 * is read, then the readers are asked, on the page, to say what they received
 * by the time that their queue was empty, or that they had received as much as
 * it holds.  A queue is first in, first out, so all that waited when matched
 * was read is received by then, and matched - received is at most what was
 * missed. Without overload this is exact.  The same answer makes the base of a
 * task exact, or nearly, a moment after it began.
 *
 * Everything here is borrowed; the bounds are in packets and bytes, although
 * the first is of packets alone.
 */
#include "monitor/loss.h"

#include "common/util.h"
#include "monitor/capture/capture.h"

static uint64_t sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* floor is at least matched - received, which was missed for sure. */
static void raise_floor(struct ctl_volume *floor,
			const struct ctl_volume *matched,
			const struct ctl_volume *received)
{
	floor->packets =
		MAX(floor->packets, sub(matched->packets, received->packets));
	floor->bytes = MAX(floor->bytes, sub(matched->bytes, received->bytes));
}

static int matched_now(struct loss *l, struct ctl_volume out[PACKET_DIRS])
{
	int err = 0;

	for (int d = 0; d < PACKET_DIRS && !err; d++)
		err = meter_read(l->meter, (enum packet_dir)d, &out[d]);
	return err;
}

static void bound_by_room(struct loss *l, const struct ctl_volume *matched)
{
	uint64_t room = (uint64_t)l->crew->n * CAPTURE_WAITING_MAX;

	for (int d = 0; d < PACKET_DIRS; d++) {
		/* read after matched: too large is fine, too small is not */
		struct ctl_volume most =
			crew_received(l->crew, (enum packet_dir)d);

		most.packets += room;
		most.bytes = UINT64_MAX;
		raise_floor(&l->floor[d], &matched[d], &most);
	}
}

static bool bound_by_answers(struct loss *l)
{
	struct ctl_volume passed[PACKET_DIRS];

	if (!crew_passed(l->crew, passed))
		return false;
	for (int d = 0; d < PACKET_DIRS; d++)
		raise_floor(&l->floor[d], &l->asked[d], &passed[d]);
	for (uint32_t i = 0; i < l->tasks->n; i++) {
		struct task_entry *e = &l->tasks->entry[i];

		if (e->unsettled)
			raise_floor(&e->missed_base, &e->matched_then,
				    &passed[e->spec.filter.dir]);
		e->unsettled = false;
	}
	return true;
}

static void ask(struct loss *l, const struct ctl_volume *matched)
{
	for (int d = 0; d < PACKET_DIRS; d++)
		l->asked[d] = matched[d];
	crew_ask(l->crew);
}

void loss_sample(struct loss *l)
{
	struct ctl_volume matched[PACKET_DIRS];

	if (matched_now(l, matched))
		return;
	bound_by_room(l, matched);
	if (bound_by_answers(l))
		ask(l, matched);
}

void loss_begin(struct loss *l, struct task_entry *e)
{
	enum packet_dir dir = (enum packet_dir)e->spec.filter.dir;
	struct ctl_volume matched[PACKET_DIRS] = { 0 };

	/* for now; the readers' answers will say it exactly */
	e->received_base = crew_received(l->crew, dir);
	if (!matched_now(l, matched)) {
		bound_by_room(l, matched);
		(void)bound_by_answers(l);
		ask(l, matched);
		e->unsettled = true;
	}
	e->matched_then = matched[dir];
	e->missed_base = l->floor[dir];
}

void loss_reader_gone(struct loss *l)
{
	/* what waited for it was not missed then, and will not be received */
	for (uint32_t i = 0; i < l->tasks->n; i++)
		l->tasks->entry[i].unsettled = false;
}

uint64_t loss_waiting(struct loss *l, enum packet_dir dir)
{
	uint64_t room = (uint64_t)l->crew->n * CAPTURE_WAITING_MAX;
	struct ctl_volume received = crew_received(l->crew, dir), matched;

	if (meter_read(l->meter, dir, &matched))
		return 0;
	return MIN(room, sub(matched.packets,
			     received.packets + l->floor[dir].packets));
}
