/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: one epoll instance, descriptors, timers, signals.  Handlers
 * are embedded in their owner and may add, change or delete any handler,
 * their own included, from inside a callback.
 */
#ifndef LINNET_LOOP_H
#define LINNET_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;

struct loop_io {
	int fd;                                 /* -1: not in a loop */
	void (*fn)(void *arg, uint32_t events); /* EPOLLIN, EPOLLOUT, … */
	void *arg;
	struct loop *loop;
};
#define LOOP_IO_INIT ((struct loop_io){ .fd = -1 })

struct loop_timer {
	uint64_t at_ms; /* monotonic; 0: not armed */
	void (*fn)(void *arg);
	void *arg;
	struct loop *loop;
	uint32_t slot; /* private: place in the heap */
};

struct loop *loop_new(void); /* NULL with errno */
void loop_free(struct loop *l);

/* Runs until loop_stop(); 0 or -errno of epoll_wait. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* The descriptor stays the caller's.  0 or -errno. */
int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events,
		void (*fn)(void *arg, uint32_t events), void *arg);
int loop_io_mod(struct loop_io *io, uint32_t events);
void loop_io_del(struct loop_io *io); /* before close(); fine when not added */

/* Arms or moves a timer; fires once.  0 or -ENOMEM. */
int loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t delay_ms,
		  void (*fn)(void *arg), void *arg);
int loop_timer_at(struct loop *l, struct loop_timer *t, uint64_t mono_ms,
		  void (*fn)(void *arg), void *arg);
void loop_timer_cancel(struct loop_timer *t); /* fine when not armed */

/*
 * Delivers these signals to fn inside the loop (signalfd; blocks them).  One
 * set a loop.  0 or -errno.
 */
int loop_signals(struct loop *l, const sigset_t *set,
		 void (*fn)(void *arg, int signo), void *arg);

/*
 * For a library with its own pace (libmicrohttpd): timeout_ms() bounds each
 * wait (-1: no bound), run() is called after every turn.
 */
void loop_set_hook(struct loop *l, int (*timeout_ms)(void *arg),
		   void (*run)(void *arg), void *arg);

#endif
