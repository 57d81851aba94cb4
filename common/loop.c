/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop.  One turn: wait for descriptors no longer than the next
 * timer (and the hook) allow, deliver what is ready, fire what is due, run the
 * hook.
 *
 * Deleting a handler takes its events out of the batch that is being
 * delivered: its owner may free it at once, and a descriptor that is opened
 * again under the same number never gets events of its predecessor.
 *
 * Timers are a binary heap ordered by time, then by the order of arming.  A
 * timer is never due before the turn that it was armed in, so that a timer
 * that arms itself cannot starve the others.
 *
 * Handlers and timers belong to their owners; the loop owns the epoll and the
 * signal descriptor.  One thread.  After fork() a child may only loop_free():
 * the epoll instance is shared with the parent.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/util.h"

#define LOOP_BATCH    64
#define LOOP_HEAP_MIN 16

struct heap_entry {
	uint64_t at_ms;
	uint64_t order;
	struct loop_timer *timer;
};

struct loop {
	int epoll_fd;
	bool stop;

	/* The batch: events[next..count) are still to be delivered. */
	struct epoll_event events[LOOP_BATCH];
	int next, count;

	struct heap_entry *heap;
	uint32_t timers, heap_size;
	uint64_t armed;   /* timers ever armed: the order of the next */
	uint64_t turn_ms; /* when timers were last looked at */

	struct loop_io signal_io;
	int signal_fd;
	void (*signal_fn)(void *arg, int signo);
	void *signal_arg;

	int (*hook_timeout_ms)(void *arg);
	void (*hook_run)(void *arg);
	void *hook_arg;
};

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->signal_io = LOOP_IO_INIT;
	l->signal_fd = -1;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0) {
		free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	/* No EPOLL_CTL_DEL: in a forked child it would act on the parent. */
	close(l->epoll_fd);
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	free(l->heap);
	free(l);
}

/* Descriptors */

int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events,
		void (*fn)(void *arg, uint32_t events), void *arg)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	assert(!io->loop);
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	io->fd = fd;
	io->fn = fn;
	io->arg = arg;
	io->loop = l;
	return 0;
}

int loop_io_mod(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	assert(io->loop);
	if (epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &ev) < 0)
		return -errno;
	return 0;
}

void loop_io_del(struct loop_io *io)
{
	struct loop *l = io->loop;

	if (!l)
		return;
	/* Fails if the descriptor is closed: then it has left by itself. */
	(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
	for (int i = l->next; i < l->count; i++) {
		if (l->events[i].data.ptr == io)
			l->events[i].data.ptr = NULL;
	}
	io->fd = -1;
	io->loop = NULL;
}

static void loop_deliver(struct loop *l)
{
	while (!l->stop && l->next < l->count) {
		struct epoll_event *ev = &l->events[l->next++];
		struct loop_io *io = ev->data.ptr;

		if (io)
			io->fn(io->arg, ev->events);
	}
	l->next = l->count = 0;
}

/* Timers */

static bool heap_before(const struct heap_entry *a, const struct heap_entry *b)
{
	if (a->at_ms != b->at_ms)
		return a->at_ms < b->at_ms;
	return a->order < b->order;
}

static void heap_set(struct loop *l, uint32_t slot, struct heap_entry e)
{
	l->heap[slot] = e;
	e.timer->slot = slot;
}

/* Puts e where it belongs, beginning at the free slot. */
static void heap_place(struct loop *l, uint32_t slot, struct heap_entry e)
{
	while (slot > 0 && heap_before(&e, &l->heap[(slot - 1) / 2])) {
		heap_set(l, slot, l->heap[(slot - 1) / 2]);
		slot = (slot - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * slot + 1;

		if (child + 1 < l->timers &&
		    heap_before(&l->heap[child + 1], &l->heap[child]))
			child++;
		if (child >= l->timers || !heap_before(&l->heap[child], &e))
			break;
		heap_set(l, slot, l->heap[child]);
		slot = child;
	}
	heap_set(l, slot, e);
}

static int heap_grow(struct loop *l)
{
	uint32_t size = l->heap_size ? 2 * l->heap_size : LOOP_HEAP_MIN;
	struct heap_entry *heap;

	if (l->timers < l->heap_size)
		return 0;
	heap = reallocarray(l->heap, size, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	l->heap = heap;
	l->heap_size = size;
	return 0;
}

int loop_timer_at(struct loop *l, struct loop_timer *t, uint64_t mono_ms,
		  void (*fn)(void *arg), void *arg)
{
	struct heap_entry e = {
		.at_ms = MAX(MAX(mono_ms, l->turn_ms), 1),
		.order = l->armed,
		.timer = t,
	};
	uint32_t slot = t->slot;

	if (t->at_ms == 0) {
		int err = heap_grow(l);

		if (err)
			return err;
		slot = l->timers++;
	} else {
		assert(t->loop == l);
	}
	l->armed++;
	t->at_ms = e.at_ms;
	t->fn = fn;
	t->arg = arg;
	t->loop = l;
	heap_place(l, slot, e);
	return 0;
}

int loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t delay_ms,
		  void (*fn)(void *arg), void *arg)
{
	bool never;

	return loop_timer_at(
		l, t, u64_add_sat(clock_mono_ms(), delay_ms, &never), fn, arg);
}

void loop_timer_cancel(struct loop_timer *t)
{
	struct loop *l = t->loop;
	struct heap_entry last;

	if (t->at_ms == 0)
		return;
	t->at_ms = 0;
	last = l->heap[--l->timers];
	if (last.timer != t)
		heap_place(l, t->slot, last);
}

static void loop_fire(struct loop *l)
{
	uint64_t first_new = l->armed;

	l->turn_ms = clock_mono_ms();
	while (!l->stop && l->timers > 0) {
		struct heap_entry e = l->heap[0];

		if (e.at_ms > l->turn_ms || e.order >= first_new)
			break;
		loop_timer_cancel(e.timer);
		e.timer->fn(e.timer->arg);
	}
}

/* Milliseconds that the next wait may take, -1 without a bound. */
static int loop_timeout(const struct loop *l)
{
	int bound = l->hook_timeout_ms ? l->hook_timeout_ms(l->hook_arg) : -1;
	uint64_t now, wait;

	if (l->timers == 0)
		return bound;
	now = clock_mono_ms();
	wait = l->heap[0].at_ms > now ? l->heap[0].at_ms - now : 0;
	if (bound >= 0)
		wait = MIN(wait, (uint64_t)bound);
	return (int)MIN(wait, INT_MAX);
}

/* Signals */

static void loop_signal_ready(void *arg, uint32_t events)
{
	struct loop *l = arg;
	struct signalfd_siginfo si;

	(void)events;
	while (!l->stop && read(l->signal_fd, &si, sizeof(si)) == sizeof(si))
		l->signal_fn(l->signal_arg, (int)si.ssi_signo);
}

int loop_signals(struct loop *l, const sigset_t *set,
		 void (*fn)(void *arg, int signo), void *arg)
{
	int fd, err;

	assert(l->signal_fd < 0);
	if (sigprocmask(SIG_BLOCK, set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = loop_io_add(l, &l->signal_io, fd, EPOLLIN, loop_signal_ready, l);
	if (err) {
		close(fd);
		return err;
	}
	l->signal_fd = fd;
	l->signal_fn = fn;
	l->signal_arg = arg;
	return 0;
}

/* Turns */

void loop_set_hook(struct loop *l, int (*timeout_ms)(void *arg),
		   void (*run)(void *arg), void *arg)
{
	l->hook_timeout_ms = timeout_ms;
	l->hook_run = run;
	l->hook_arg = arg;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

int loop_run(struct loop *l)
{
	int err = 0;

	while (!l->stop) {
		l->count = epoll_wait(l->epoll_fd, l->events, LOOP_BATCH,
				      loop_timeout(l));
		if (l->count < 0) {
			err = errno == EINTR ? 0 : -errno;
			l->count = 0;
			if (err)
				break;
		}
		loop_deliver(l);
		loop_fire(l);
		if (l->hook_run && !l->stop)
			l->hook_run(l->hook_arg);
	}
	l->stop = false;
	return err;
}
