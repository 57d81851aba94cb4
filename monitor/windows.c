/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loss by window: the difference of two samples, taken when a window begins and
 * when the next one does.  What waited for a reader at that moment is matched
 * in one window and received in the next; and missed is known a watch late.
 */
#include "monitor/windows.h"

#include "common/util.h"

static void volume_sum(const struct task_spec *t,
		       const struct ctl_volume v[PACKET_DIRS],
		       struct ctl_volume *out)
{
	*out = (struct ctl_volume){ 0 };
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (!(task_dirs(t) >> d & 1))
			continue;
		out->packets += v[d].packets;
		out->bytes += v[d].bytes;
	}
}

static struct ctl_volume volume_since(const struct ctl_volume *now,
				      const struct ctl_volume *then)
{
	return (struct ctl_volume){
		.packets = now->packets - MIN(now->packets, then->packets),
		.bytes = now->bytes - MIN(now->bytes, then->bytes),
	};
}

static void window_end(struct task_entry *e, const struct ctl_volume *matched,
		       const struct ctl_volume *missed)
{
	struct task_windows *w = &e->windows;

	w->closed[w->n++ % TASK_WINDOWS] = (struct task_window){
		.interval = w->interval,
		.matched = volume_since(matched, &w->matched),
		.missed = volume_since(missed, &w->missed),
	};
}

void windows_sample(struct task_table *t, uint64_t wall_ms,
		    const struct ctl_volume matched[PACKET_DIRS],
		    const struct ctl_volume missed[PACKET_DIRS])
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct task_entry *e = &t->entry[i];
		struct task_windows *w = &e->windows;
		struct ctl_volume m, lost;
		uint64_t k;

		if (!e->spec.window_ms)
			continue;
		k = wall_ms / e->spec.window_ms;
		if (w->open && w->interval == k)
			continue;
		volume_sum(&e->spec, matched, &m);
		volume_sum(&e->spec, missed, &lost);
		if (w->open)
			window_end(e, &m, &lost);
		w->open = true;
		w->interval = k;
		w->matched = m;
		w->missed = lost;
	}
}

uint64_t windows_next_ms(const struct task_table *t, uint64_t wall_ms)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < t->n; i++) {
		uint64_t ms = t->entry[i].spec.window_ms;

		if (ms)
			next = MIN(next, ms - wall_ms % ms);
	}
	return next;
}

bool windows_loss(const struct task_entry *e, uint64_t interval,
		  struct ctl_loss *out)
{
	const struct task_windows *w = &e->windows;

	/* newest first: a clock that was set back may repeat a number */
	for (uint32_t i = w->n; i > 0 && i + TASK_WINDOWS > w->n; i--) {
		const struct task_window *c =
			&w->closed[(i - 1) % TASK_WINDOWS];

		if (c->interval != interval)
			continue;
		out->matched = c->matched;
		out->received = volume_since(&c->matched, &c->missed);
		return true;
	}
	return false;
}
