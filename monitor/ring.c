/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows change places: at a boundary the open one is closed as it is, and
 * the oldest closed one gives its memory to the new one.  Its pages go back to
 * the kernel and come back zeroed as keys touch them: nothing is cleared by
 * hand, a quiet window takes no memory.
 *
 * The memory is private to the reader and promised by the supervisor's budget.
 * What is closed does not change until it is the oldest.  A window that the
 * clock jumped into or out of, or that began before the task did, is never
 * found: it would be less than it says.  When the clock is set back, windows
 * whose numbers come again are forgotten, so that a number means one window.
 */
#include "monitor/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/util.h"

static bool by_window(const struct task_spec *t, unsigned int k)
{
	return t->kinds >> k & 1 && k != SKETCH_EXACT;
}

struct ring *ring_new(const struct task_spec *t, const struct hash_key *local)
{
	struct ring *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->window_ms = t->window_ms;
	r->local = *local;
	sketch_params_default(&r->params, t);
	for (unsigned int k = 0; k < SKETCH_KINDS; k++) {
		if (!by_window(t, k))
			continue;
		r->size[k] = sketch_size((enum sketch_kind)k, &r->params);
		for (int i = 0; i < RING_WINDOWS; i++) {
			void *mem = mmap(
				NULL, r->size[k], PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);

			if (mem == MAP_FAILED) {
				ring_free(r);
				return NULL;
			}
			r->window[i].sketch[k] = mem;
			sketch_init((enum sketch_kind)k, mem, &r->params,
				    local);
		}
	}
	return r;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	for (int i = 0; i < RING_WINDOWS; i++) {
		for (int k = 0; k < SKETCH_KINDS; k++) {
			if (r->window[i].sketch[k])
				munmap(r->window[i].sketch[k], r->size[k]);
		}
	}
	explicit_bzero(r, sizeof(*r));
	free(r);
}

static void window_empty(struct ring *r, struct ring_window *w)
{
	for (unsigned int k = 0; k < SKETCH_KINDS; k++) {
		void *mem = w->sketch[k];

		if (!mem)
			continue;
		if (madvise(mem, r->size[k], MADV_DONTNEED) < 0)
			memset(mem, 0, r->size[k]);
		sketch_init((enum sketch_kind)k, mem, &r->params, &r->local);
	}
	w->used = w->whole = w->saturated = false;
}

static void window_open(struct ring *r, uint64_t number, bool whole,
			const struct totals *now, bool saturated)
{
	struct ring_window *w;

	r->open = (r->open + 1) % RING_WINDOWS;
	w = &r->window[r->open];
	window_empty(r, w);
	w->number = number;
	w->used = true;
	w->whole = whole;
	w->saturated = saturated;
	w->totals = *now;
}

/* The open window is as full as it gets. */
static void window_close(struct ring *r, bool whole, const struct totals *now,
			 bool saturated)
{
	struct ring_window *w = &r->window[r->open];

	w->whole = w->whole && whole;
	w->saturated = saturated; /* since when is not known */
	w->totals = totals_since(now, &w->totals);
}

/* Their numbers come again. */
static void forget_from(struct ring *r, uint64_t number)
{
	for (int i = 0; i < RING_WINDOWS; i++) {
		if (r->window[i].used && r->window[i].number >= number)
			r->window[i].used = false;
	}
}

void ring_clock(struct ring *r, uint64_t wall_ms, bool stepped, bool begins,
		const struct totals *now, bool saturated)
{
	struct ring_window *w = &r->window[r->open];
	uint64_t k = wall_ms / r->window_ms;

	if (!w->used) {
		window_open(r, k, begins || wall_ms % r->window_ms == 0, now,
			    saturated);
		return;
	}
	if (stepped) {
		window_close(r, false, now, saturated);
		forget_from(r, k);
		window_open(r, k, false, now, saturated);
		return;
	}
	/* a little back, as clocks that are disciplined may go */
	if (k < w->number)
		w->whole = false;
	if (k <= w->number)
		return;
	window_close(r, true, now, saturated);
	/* nothing was counted since: these are empty, and whole */
	for (uint64_t i = MAX(w->number + 1, k - MIN(k, TASK_CLOSED)); i < k;
	     i++) {
		window_open(r, i, true, now, saturated);
		window_close(r, true, now, saturated);
	}
	window_open(r, k, true, now, saturated);
}

void ring_end(struct ring *r, const struct totals *now, bool saturated)
{
	uint64_t next = r->window[r->open].number + 1;

	if (!r->window[r->open].used)
		return;
	window_close(r, true, now, saturated);
	window_open(r, next, false, now, saturated);
}

void *const *ring_open(const struct ring *r)
{
	return r->window[r->open].sketch;
}

int ring_find(const struct ring *r, uint64_t number,
	      const struct ring_window **out)
{
	const struct ring_window *open = &r->window[r->open];

	if (!open->used || number >= open->number)
		return -EAGAIN;
	for (int i = 0; i < RING_WINDOWS; i++) {
		const struct ring_window *w = &r->window[i];

		if (w != open && w->used && w->whole && w->number == number) {
			*out = w;
			return 0;
		}
	}
	return -ENODATA;
}
