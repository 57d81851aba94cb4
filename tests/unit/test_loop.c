/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: order and life of timers, handlers that go away while their
 * events are being delivered, signals, the hook.  No test waits for longer than
 * its own timers; a loop that hangs is ended by the deadline of alarm().
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/loop.h"
#include "common/util.h"

#define MANY       2000
#define DEADLINE_S 20

static int setup(void **state)
{
	alarm(DEADLINE_S);
	*state = loop_new();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* Timers */

struct tick {
	struct loop_timer timer;
	struct loop *loop;
	struct tick *victim;
	uint64_t at_ms;
	bool greedy;
	int fired;
	int *order, *next;
	int id;
};

static void tick_fire(void *arg)
{
	struct tick *t = arg;

	t->fired++;
	assert_int_equal(t->timer.at_ms, 0);
	assert_true(clock_mono_ms() >= t->at_ms);
	if (t->order)
		t->order[(*t->next)++] = t->id;
	if (t->victim) {
		loop_timer_cancel(&t->victim->timer);
		memset(t->victim, 0xa5, sizeof(*t->victim));
		free(t->victim);
		t->victim = NULL;
	}
	/* Long past: due at once, and yet after all that are due now. */
	if (t->greedy)
		assert_int_equal(
			loop_timer_at(t->loop, &t->timer, 1, tick_fire, t), 0);
}

static void tick_arm(struct loop *l, struct tick *t, uint64_t at_ms)
{
	t->loop = l;
	t->at_ms = at_ms;
	assert_int_equal(loop_timer_at(l, &t->timer, at_ms, tick_fire, t), 0);
}

static void test_timer_order(void **state)
{
	static const uint64_t delays[] = { 12, 3, 7, 3, 0, 12, 3, 1 };
	static const int expected[] = { 4, 7, 1, 3, 6, 2, 0, 5 };
	struct tick ticks[ARRAY_SIZE(delays)] = { 0 };
	int order[ARRAY_SIZE(delays)], next = 0;
	struct loop_timer end = { 0 };
	struct loop *l = *state;
	uint64_t now = clock_mono_ms();

	for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
		ticks[i].id = (int)i;
		ticks[i].order = order;
		ticks[i].next = &next;
		tick_arm(l, &ticks[i], now + delays[i]);
	}
	loop_timer_at(l, &end, now + 13, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_true(clock_mono_ms() >= now + 13);
	assert_int_equal(next, ARRAY_SIZE(delays));
	assert_memory_equal(order, expected, sizeof(expected));
}

static void test_timer_cancel_and_move(void **state)
{
	struct tick moved = { 0 }, never = { 0 }, later = { 0 };
	struct loop_timer end = { 0 }, unused = { 0 };
	struct loop *l = *state;
	uint64_t now = clock_mono_ms();

	loop_timer_cancel(&unused);
	tick_arm(l, &never, now + 1);
	tick_arm(l, &moved, now + 3600000);
	tick_arm(l, &later, now + 1);
	loop_timer_cancel(&never.timer);
	loop_timer_cancel(&never.timer);
	tick_arm(l, &moved, now + 2);
	tick_arm(l, &later, now + 3600000);
	loop_timer_at(l, &end, now + 5, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(never.fired, 0);
	assert_int_equal(moved.fired, 1);
	assert_int_equal(later.fired, 0);
	assert_int_equal(later.timer.at_ms, now + 3600000);
}

/* Both are due in the same turn: the first takes the second with it. */
static void test_timer_delete_other(void **state)
{
	struct tick first = { 0 };
	struct tick *second = calloc(1, sizeof(*second));
	struct loop_timer end = { 0 };
	struct loop *l = *state;
	uint64_t now = clock_mono_ms();

	assert_non_null(second);
	tick_arm(l, &first, now);
	tick_arm(l, second, now);
	first.victim = second;
	loop_timer_at(l, &end, now + 2, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(first.fired, 1);
}

static void tick_free(void *arg)
{
	struct tick *t = arg;

	(*t->next)++;
	loop_timer_cancel(&t->timer);
	free(t);
}

static void test_timer_delete_self(void **state)
{
	struct tick *t = calloc(1, sizeof(*t));
	struct loop_timer end = { 0 };
	struct loop *l = *state;
	int gone = 0;

	assert_non_null(t);
	t->next = &gone;
	assert_int_equal(loop_timer_in(l, &t->timer, 0, tick_free, t), 0);
	loop_timer_in(l, &end, 2, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(gone, 1);
}

/* A timer that is always due does not keep the others from firing. */
static void test_timer_no_starvation(void **state)
{
	struct tick greedy = { .greedy = true }, past = { 0 };
	struct loop_timer end = { 0 };
	struct loop *l = *state;

	tick_arm(l, &greedy, 1);
	tick_arm(l, &past, 0);
	loop_timer_in(l, &end, 3, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_true(greedy.fired > 1);
	assert_int_equal(past.fired, 1);
}

static void test_timer_far(void **state)
{
	struct loop_timer far = { 0 }, end = { 0 };
	struct loop *l = *state;

	/* Neither the sum nor the wait overflows. */
	assert_int_equal(loop_timer_in(l, &far, UINT64_MAX, stop, l), 0);
	assert_int_equal(far.at_ms, UINT64_MAX);
	loop_timer_in(l, &end, 1, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(end.at_ms, 0);
	assert_int_equal(far.at_ms, UINT64_MAX);
}

struct many {
	struct loop *loop;
	struct loop_timer timer[MANY];
	uint64_t at_ms[MANY];
	uint64_t last_ms;
	size_t fired;
};

struct one {
	struct many *all;
	size_t i;
};

static void many_fire(void *arg)
{
	struct one *o = arg;
	struct many *m = o->all;

	assert_true(m->at_ms[o->i] >= m->last_ms);
	m->last_ms = m->at_ms[o->i];
	m->at_ms[o->i] = UINT64_MAX;
	m->fired++;
}

/* Arms, moves and cancels at random places of the heap. */
static void test_timer_many(void **state)
{
	struct many *m = calloc(1, sizeof(*m));
	struct one *one = calloc(MANY, sizeof(*one));
	struct loop_timer end = { 0 };
	uint64_t now = clock_mono_ms(), x = 88172645463325252;
	size_t armed = 0;

	assert_non_null(m);
	assert_non_null(one);
	m->loop = *state;
	for (size_t n = 0; n < 4 * MANY; n++) {
		size_t i = n < MANY ? n : (size_t)(x >> 20) % MANY;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		one[i] = (struct one){ m, i };
		m->at_ms[i] = now + 500 + x % 20;
		if (n >= MANY && x % 3 == 0) {
			loop_timer_cancel(&m->timer[i]);
			continue;
		}
		assert_int_equal(loop_timer_at(m->loop, &m->timer[i],
					       m->at_ms[i], many_fire, &one[i]),
				 0);
	}
	for (size_t i = 0; i < MANY; i++)
		armed += m->timer[i].at_ms != 0;
	assert_in_range(armed, MANY / 2, MANY - 1);
	loop_timer_at(m->loop, &end, now + 521, stop, m->loop);
	assert_int_equal(loop_run(m->loop), 0);
	assert_int_equal(m->fired, armed);
	free(one);
	free(m);
}

/* Descriptors */

/* Two handlers that are ready in the same batch; -1: descriptor closed. */
struct pair {
	struct loop *loop;
	struct side {
		struct loop_io io;
		struct pair *pair;
		int fd;
	} * side[2];
	int calls;
	struct loop_io fresh; /* added under the number of the one that died */
	bool want_fresh;
	int fresh_calls;
};

static void side_ready(void *arg, uint32_t events);

static void side_new(struct pair *p, int i)
{
	struct side *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->io = LOOP_IO_INIT;
	s->pair = p;
	s->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(s->fd >= 0);
	assert_int_equal(
		loop_io_add(p->loop, &s->io, s->fd, EPOLLIN, side_ready, s), 0);
	p->side[i] = s;
}

static void side_free(struct pair *p, int i)
{
	struct side *s = p->side[i];

	loop_io_del(&s->io);
	assert_int_equal(s->io.fd, -1);
	loop_io_del(&s->io);
	close(s->fd);
	memset(s, 0xa5, sizeof(*s));
	free(s);
	p->side[i] = NULL;
}

static void count_call(void *arg, uint32_t events)
{
	(void)events;
	++*(int *)arg;
}

/* The first of the batch frees the other, which must not be called then. */
static void side_ready(void *arg, uint32_t events)
{
	struct side *s = arg;
	struct pair *p = s->pair;
	int other = p->side[0] == s;
	int fd = p->side[other]->fd;

	p->calls++;
	assert_int_equal(events, EPOLLIN);
	side_free(p, other);
	if (p->want_fresh) {
		/* The same number again, and nothing to read there. */
		assert_int_equal(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), fd);
		assert_int_equal(loop_io_add(p->loop, &p->fresh, fd, EPOLLIN,
					     count_call, &p->fresh_calls),
				 0);
	}
	side_free(p, !other);
}

static void run_pair(struct pair *p)
{
	struct loop_timer end = { 0 };

	p->fresh = LOOP_IO_INIT;
	side_new(p, 0);
	side_new(p, 1);
	/* A stale event would come in the next turn at the latest. */
	loop_timer_in(p->loop, &end, 3, stop, p->loop);
	assert_int_equal(loop_run(p->loop), 0);
	assert_int_equal(p->calls, 1);
	assert_null(p->side[0]);
	assert_null(p->side[1]);
}

static void test_io_delete_in_batch(void **state)
{
	struct pair p = { .loop = *state };

	run_pair(&p);
}

static void test_io_reuse_in_batch(void **state)
{
	struct pair p = { .loop = *state, .want_fresh = true };
	struct loop_timer end = { 0 };
	int fd;

	run_pair(&p);
	assert_int_equal(p.fresh_calls, 0);
	/* It is alive all the same. */
	assert_int_equal(eventfd_write(p.fresh.fd, 1), 0);
	loop_timer_in(p.loop, &end, 2, stop, p.loop);
	assert_int_equal(loop_run(p.loop), 0);
	assert_true(p.fresh_calls > 0);
	fd = p.fresh.fd;
	loop_io_del(&p.fresh);
	close(fd);
}

struct talk {
	struct loop *loop;
	struct loop_io io;
	uint32_t seen;
	int turns;
};

static void talk_ready(void *arg, uint32_t events)
{
	struct talk *t = arg;

	t->seen |= events;
	/* First writable, then, after the other end went, readable. */
	if (t->turns++ == 0)
		assert_int_equal(loop_io_mod(&t->io, EPOLLIN | EPOLLRDHUP), 0);
	if (events & EPOLLRDHUP)
		loop_stop(t->loop);
}

static void talk_close(void *arg)
{
	int *fd = arg;

	close(*fd);
	*fd = -1;
}

static void test_io_mod(void **state)
{
	struct talk t = { .loop = *state, .io = LOOP_IO_INIT };
	struct loop_timer later = { 0 };
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(
		loop_io_add(t.loop, &t.io, fd[0], EPOLLOUT, talk_ready, &t), 0);
	loop_timer_in(t.loop, &later, 3, talk_close, &fd[1]);
	assert_int_equal(loop_run(t.loop), 0);
	/* Asked no more for EPOLLOUT, it was not called in between. */
	assert_int_equal(t.turns, 2);
	assert_int_equal(fd[1], -1);
	assert_true(t.seen & EPOLLOUT);
	assert_true(t.seen & EPOLLIN);
	loop_io_del(&t.io);
	close(fd[0]);
}

static void test_io_errors(void **state)
{
	struct loop_io io = LOOP_IO_INIT;
	int calls = 0, fd;

	assert_int_equal(loop_io_add(*state, &io, -1, EPOLLIN, count_call,
				     &calls),
			 -EBADF);
	assert_int_equal(io.fd, -1);
	loop_io_del(&io);

	/* A descriptor that its owner closed too early does no harm. */
	fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(
		loop_io_add(*state, &io, fd, EPOLLIN, count_call, &calls), 0);
	close(fd);
	loop_io_del(&io);
	assert_int_equal(io.fd, -1);
	assert_int_equal(calls, 0);
}

/* Deleted, it is silent, though the descriptor is open and readable. */
static void test_io_del(void **state)
{
	struct loop_io io = LOOP_IO_INIT;
	struct loop_timer end = { 0 };
	int calls = 0, fd = eventfd(1, EFD_CLOEXEC);

	assert_int_equal(
		loop_io_add(*state, &io, fd, EPOLLIN, count_call, &calls), 0);
	loop_io_del(&io);
	loop_timer_in(*state, &end, 2, stop, *state);
	assert_int_equal(loop_run(*state), 0);
	assert_int_equal(calls, 0);
	close(fd);
}

/* Signals */

struct heard {
	struct loop *loop;
	int usr1, usr2;
};

static void hear(void *arg, int signo)
{
	struct heard *h = arg;

	h->usr1 += signo == SIGUSR1;
	h->usr2 += signo == SIGUSR2;
	if (h->usr1 && h->usr2)
		loop_stop(h->loop);
}

static void send_usr2(void *arg)
{
	(void)arg;
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
}

static void test_signals(void **state)
{
	struct heard h = { .loop = *state };
	struct loop_timer later = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(loop_signals(h.loop, &set, hear, &h), 0);
	/* One before the loop runs, one while it waits. */
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	loop_timer_in(h.loop, &later, 2, send_usr2, NULL);
	assert_int_equal(loop_run(h.loop), 0);
	assert_int_equal(h.usr1, 1);
	assert_int_equal(h.usr2, 1);
}

/* Turns */

struct hook {
	struct loop *loop;
	int asked, ran;
};

static int hook_timeout_ms(void *arg)
{
	struct hook *h = arg;

	h->asked++;
	return 1;
}

static void hook_run(void *arg)
{
	struct hook *h = arg;

	if (++h->ran == 3)
		loop_stop(h->loop);
}

/* The hook's bound ends waits that a far timer would not. */
static void test_hook(void **state)
{
	struct hook h = { .loop = *state };
	struct loop_timer far = { 0 };

	loop_timer_in(h.loop, &far, 3600000, stop, h.loop);
	loop_set_hook(h.loop, hook_timeout_ms, hook_run, &h);
	assert_int_equal(loop_run(h.loop), 0);
	assert_int_equal(h.asked, 3);
	assert_int_equal(h.ran, 3);
	loop_set_hook(h.loop, NULL, NULL, NULL);
	loop_timer_in(h.loop, &far, 1, stop, h.loop);
	assert_int_equal(loop_run(h.loop), 0);
	assert_int_equal(h.ran, 3);
}

static int hook_no_bound(void *arg)
{
	(void)arg;
	return -1;
}

static void stop_at_event(void *arg, uint32_t events)
{
	(void)events;
	loop_stop(arg);
}

/* A wait too long for an int must not become none at all. */
static void test_long_wait(void **state)
{
	struct itimerspec soon = { .it_value.tv_nsec = 5000000 };
	struct hook h = { .loop = *state, .ran = 3 };
	struct loop_timer far = { 0 };
	struct loop_io io = LOOP_IO_INIT;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(loop_io_add(h.loop, &io, fd, EPOLLIN, stop_at_event,
				     h.loop),
			 0);
	assert_int_equal(timerfd_settime(fd, 0, &soon, NULL), 0);
	loop_timer_in(h.loop, &far, (uint64_t)1 << 32, stop, h.loop);
	loop_set_hook(h.loop, hook_no_bound, hook_run, &h);
	assert_int_equal(loop_run(h.loop), 0);
	/* The hook has not run: the only wait ended with the stop. */
	assert_int_equal(h.ran, 3);
	loop_io_del(&io);
	close(fd);
}

/* A stop that comes before the run is not lost, and counts once. */
static void test_stop_before_run(void **state)
{
	struct tick t = { 0 };
	struct loop_timer end = { 0 };
	struct loop *l = *state;

	tick_arm(l, &t, clock_mono_ms());
	loop_stop(l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(t.fired, 0);
	loop_timer_in(l, &end, 1, stop, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(t.fired, 1);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_timer_order),
		LOOP_TEST(test_timer_cancel_and_move),
		LOOP_TEST(test_timer_delete_other),
		LOOP_TEST(test_timer_delete_self),
		LOOP_TEST(test_timer_no_starvation),
		LOOP_TEST(test_timer_far),
		LOOP_TEST(test_timer_many),
		LOOP_TEST(test_io_delete_in_batch),
		LOOP_TEST(test_io_reuse_in_batch),
		LOOP_TEST(test_io_mod),
		LOOP_TEST(test_io_errors),
		LOOP_TEST(test_io_del),
		LOOP_TEST(test_signals),
		LOOP_TEST(test_hook),
		LOOP_TEST(test_long_wait),
		LOOP_TEST(test_stop_before_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
