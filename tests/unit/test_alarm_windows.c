/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The windows of an alarm: who counts as a child, what its parent is told and
 * when, and what is taken from children.  The tree, the clock, the monitor, the
 * tasks and the parent are this file's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "agent/alarm_private.h"
#include "agent/answer.h"
#include "agent/peer.h"
#include "agent/registry.h"
#include "agent/standing_conf.h"
#include "agent/tree/standing.h"
#include "common/util.h"

#define W      1000
#define WINDOW 500000 /* the one that is looked at */

static struct world {
	uint64_t wall_ms;
	bool root, settled, from_above, local;
	uint32_t hosts, expected;
	unsigned n;
	struct tree_child child[2];
	uint64_t told_ms[2], rows;
	struct epoch lease;
	struct task task;
	unsigned asked, told; /* all hosts; the parent */
	void (*read)(void *arg, struct measure_result *r);
	void *read_arg;
	void (*replied)(void *arg, const struct peer_reply *r);
	void *reply_arg;
	char body[1024];
	struct conf conf;
	struct agent agent;
} w;

/* ---- what is around an alarm ---- */

uint64_t __wrap_clock_wall_ms(void);
int __wrap_loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t ms,
			 void (*fn)(void *arg), void *arg);
struct tree *__wrap_overlay_tree(const struct overlay *o);
bool __wrap_overlay_is_root(const struct overlay *o);
const struct endpoint *__wrap_overlay_parent(const struct overlay *o);
unsigned __wrap_tree_n_children(const struct tree *t);
void __wrap_tree_child_at(const struct tree *t, unsigned i,
			  struct tree_child *out);
uint32_t __wrap_tree_hosts(const struct tree *t);
uint32_t __wrap_tree_expected(struct tree *t);
uint64_t __wrap_tree_rows_version(const struct tree *t);
bool __wrap_tree_settled(struct tree *t);
struct epoch __wrap_tree_lease(const struct tree *t);
uint64_t __wrap_tree_lease_ms(const struct tree *t);
unsigned __wrap_registry_rows(const struct registry *r);
const struct task *__wrap_registry_at(const struct registry *r, unsigned i);
const struct task *__wrap_registry_find(const struct registry *r, uint64_t id);
bool __wrap_registry_is_local(const struct registry *r, uint64_t id);
bool __wrap_registry_from_above(const struct registry *r, const struct task *t);
struct measure *__wrap_measure_start(struct agent *a, const struct ask *ask,
				     void (*done)(void *arg,
						  struct measure_result *r),
				     void *arg);
void __wrap_measure_cancel(struct measure *m);
struct peer_call *
__wrap_peer_start(struct peers *p, const struct peer_request *rq,
		  void (*done)(void *arg, const struct peer_reply *r),
		  void *arg);
void __wrap_peer_cancel(struct peer_call *c);
struct answer_op *
__wrap_answer_start(struct agent *a, const struct answer_request *rq,
		    void (*done)(void *arg, const struct answer *an),
		    void *arg);

uint64_t __wrap_clock_wall_ms(void)
{
	return w.wall_ms;
}

int __wrap_loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t ms,
			 void (*fn)(void *arg), void *arg)
{
	(void)l, (void)t, (void)ms, (void)fn, (void)arg;
	return 0;
}

struct tree *__wrap_overlay_tree(const struct overlay *o)
{
	(void)o;
	return NULL;
}

bool __wrap_overlay_is_root(const struct overlay *o)
{
	(void)o;
	return w.root;
}

const struct endpoint *__wrap_overlay_parent(const struct overlay *o)
{
	static const struct endpoint parent;

	(void)o;
	return w.root ? NULL : &parent;
}

unsigned __wrap_tree_n_children(const struct tree *t)
{
	(void)t;
	return w.n;
}

void __wrap_tree_child_at(const struct tree *t, unsigned i,
			  struct tree_child *out)
{
	(void)t;
	*out = w.child[i];
}

uint32_t __wrap_tree_hosts(const struct tree *t)
{
	(void)t;
	return w.hosts;
}

uint32_t __wrap_tree_expected(struct tree *t)
{
	(void)t;
	return w.expected;
}

uint64_t __wrap_tree_rows_version(const struct tree *t)
{
	(void)t;
	return w.rows;
}

bool __wrap_tree_settled(struct tree *t)
{
	(void)t;
	return w.settled;
}

struct epoch __wrap_tree_lease(const struct tree *t)
{
	(void)t;
	return w.lease;
}

uint64_t __wrap_tree_lease_ms(const struct tree *t)
{
	(void)t;
	return 1;
}

unsigned __wrap_registry_rows(const struct registry *r)
{
	(void)r;
	return 1;
}

const struct task *__wrap_registry_at(const struct registry *r, unsigned i)
{
	(void)r, (void)i;
	return &w.task;
}

const struct task *__wrap_registry_find(const struct registry *r, uint64_t id)
{
	(void)r;
	return id == w.task.spec.id ? &w.task : NULL;
}

bool __wrap_registry_is_local(const struct registry *r, uint64_t id)
{
	(void)r, (void)id;
	return w.local;
}

bool __wrap_registry_from_above(const struct registry *r, const struct task *t)
{
	(void)r, (void)t;
	return w.from_above;
}

struct measure *__wrap_measure_start(struct agent *a, const struct ask *ask,
				     void (*done)(void *arg,
						  struct measure_result *r),
				     void *arg)
{
	(void)a, (void)ask;
	w.read = done;
	w.read_arg = arg;
	return (struct measure *)&w;
}

void __wrap_measure_cancel(struct measure *m)
{
	(void)m;
}

struct peer_call *
__wrap_peer_start(struct peers *p, const struct peer_request *rq,
		  void (*done)(void *arg, const struct peer_reply *r),
		  void *arg)
{
	(void)p;
	assert_true(rq->len < sizeof(w.body));
	memcpy(w.body, rq->body, rq->len);
	w.body[rq->len] = '\0';
	w.told++;
	w.replied = done;
	w.reply_arg = arg;
	return (struct peer_call *)&w;
}

void __wrap_peer_cancel(struct peer_call *c)
{
	(void)c;
}

struct answer_op *
__wrap_answer_start(struct agent *a, const struct answer_request *rq,
		    void (*done)(void *arg, const struct answer *an), void *arg)
{
	(void)a, (void)rq, (void)done, (void)arg;
	w.asked++;
	return (struct answer_op *)&w;
}

/* ---- a host with two children ---- */

static struct epoch lease_of(uint64_t n)
{
	return (struct epoch){ .term = 1, .n = n };
}

static int start(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.agent.conf = &w.conf;
	w.wall_ms = (uint64_t)WINDOW * W + 1;
	w.root = w.settled = true;
	w.hosts = w.expected = 3;
	w.lease = lease_of(7);
	w.task.spec.id = 1;
	w.task.spec.generation = 1;
	w.task.spec.window_ms = W;
	snprintf(w.task.params, sizeof(w.task.params), "%s",
		 "alarm?over=1000&hosts=4");
	for (w.n = 0; w.n < 2; w.n++) {
		w.child[w.n] = (struct tree_child){
			.id.b[0] = (uint8_t)(w.n + 1),
			.lease = lease_of(8 + w.n),
			.state = CHILD_UP,
			.hosts = 1,
		};
		w.told_ms[w.n] = (uint64_t)(WINDOW + 2) * W;
	}
	assert_int_equal(alarms_open(&w.agent.alarms, &w.agent), 0);
	w.agent.alarms->jitter_ms = 0;
	return 0;
}

static int stop(void **state)
{
	(void)state;
	alarms_free(w.agent.alarms);
	return 0;
}

static struct alarm *alarm_now(void)
{
	return alarm_find(w.agent.alarms, 1, 1);
}

static const struct alarm_window *window(void)
{
	return &alarm_now()->window[WINDOW % ALARM_WINDOWS];
}

static int heard(unsigned i, uint64_t number, uint64_t value)
{
	struct alarm_said said = {
		.id = w.child[i].id, .least = value, .most = value, .sure = true
	};

	return alarm_heard(alarm_now(), number, &said, &w.child[i].lease);
}

static void beaten(unsigned i, uint64_t told_ms)
{
	alarms_beaten(w.agent.alarms, &w.child[i].id, &w.child[i].lease,
		      told_ms);
}

/* The monitor says what it counted in the window that was begun last. */
static void read_ends(uint64_t own)
{
	struct part part = { .kind = PART_TOTALS, .totals.weight = own };
	struct part *p = malloc(sizeof(*p));
	struct measure_result r = { .part = p };

	assert_non_null(p);
	*p = part;
	w.read(w.read_arg, &r);
}

static void wall(uint64_t window, uint64_t ms)
{
	w.wall_ms = window * W + ms;
	alarms_tick(w.agent.alarms);
}

/* The window ends; both children have spoken before it; own: counted here. */
static void window_ends(uint64_t own)
{
	alarms_tick(w.agent.alarms);
	for (unsigned i = 0; i < w.n; i++) {
		assert_int_equal(heard(i, WINDOW - 1, 0), 0);
		beaten(i, w.told_ms[i]);
	}
	wall(WINDOW + 1, 400);
	assert_int_equal(window()->number, WINDOW);
	read_ends(own);
}

static void replied(int status)
{
	struct peer_reply r = { .status = status };

	w.replied(w.reply_arg, &r);
}

static void test_silence(void **state)
{
	(void)state;
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_QUIET);
	assert_int_equal(w.asked, 0);
}

/* Its beats are refused: it is lost, and all below it. */
static void test_refused_child(void **state)
{
	(void)state;
	w.child[1].refused = TREE_DENIED;
	w.child[1].state = CHILD_SUSPECT;
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_WAIT);
	w.wall_ms += alarm_settle_ms(1);
	alarms_tick(w.agent.alarms);
	assert_true(window()->asking);
}

/* Who never joined at all is another's. */
static void test_never_joined(void **state)
{
	(void)state;
	w.child[1].refused = TREE_DENIED;
	w.child[1].lease = (struct epoch){ 0 };
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_QUIET);
}

static void test_members_without_parent(void **state)
{
	(void)state;
	w.expected = 4;
	window_ends(10);
	assert_true(window()->asking);
}

static void test_not_settled(void **state)
{
	(void)state;
	w.settled = false;
	window_ends(10);
	assert_true(window()->asking);
}

/* Who answers beats and has not judged the window yet may still speak. */
static void test_alive_is_not_silent(void **state)
{
	(void)state;
	w.told_ms[1] = (uint64_t)(WINDOW + 1) * W;
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_WAIT);
	beaten(1, (uint64_t)(WINDOW + 2) * W);
	wall(WINDOW + 1, 600);
	assert_int_equal(window()->verdict, ALARM_QUIET);
	assert_int_equal(w.asked, 0);
}

/* What it says of another place is not said to this parent. */
static void test_told_under_another_lease(void **state)
{
	struct epoch lease = lease_of(50);

	(void)state;
	w.told_ms[1] = 0;
	window_ends(10);
	alarms_beaten(w.agent.alarms, &w.child[1].id, &lease,
		      (uint64_t)(WINDOW + 2) * W);
	wall(WINDOW + 1, 600);
	assert_int_equal(window()->verdict, ALARM_WAIT);
}

/* A child that was restarted says nothing of windows before. */
static void test_silent_since_it_spoke(void **state)
{
	(void)state;
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_QUIET);
	wall(WINDOW + 2, 300);
	read_ends(10);
	w.child[1].lease = lease_of(70);
	wall(WINDOW + 3, 400);
	assert_int_equal(heard(1, WINDOW + 2, 0), 0);
	beaten(0, (uint64_t)(WINDOW + 4) * W);
	beaten(1, (uint64_t)(WINDOW + 4) * W);
	read_ends(10);
	alarms_tick(w.agent.alarms);
	assert_int_equal(
		alarm_now()->window[(WINDOW + 1) % ALARM_WINDOWS].verdict,
		ALARM_WAIT);
	assert_int_equal(
		alarm_now()->window[(WINDOW + 2) % ALARM_WINDOWS].verdict,
		ALARM_QUIET);
}

/* Between a window's end and its verdict neither parent may have counted it. */
static void test_moved_since_the_end(void **state)
{
	(void)state;
	w.told_ms[1] = 0;
	window_ends(10);
	w.rows++;
	beaten(1, (uint64_t)(WINDOW + 2) * W);
	wall(WINDOW + 1, 600);
	assert_true(window()->asking);
}

static void test_moved_before_the_end(void **state)
{
	(void)state;
	alarms_tick(w.agent.alarms);
	w.rows++;
	wall(WINDOW, 900);
	window_ends(10);
	assert_int_equal(window()->verdict, ALARM_QUIET);
}

/* Who was stopped begins all windows that it slept through. */
static void test_slept(void **state)
{
	(void)state;
	window_ends(10);
	wall(WINDOW + 6, 400);
	for (unsigned i = 1; i <= 5; i++) {
		const struct alarm_window *x =
			&alarm_now()->window[(WINDOW + i) % ALARM_WINDOWS];

		assert_int_equal(x->number, WINDOW + i);
		assert_true(x->begun);
	}
	/* but not more than are kept */
	wall(WINDOW + 600, 400);
	for (unsigned i = 0; i < ALARM_WINDOWS - 1; i++)
		assert_int_equal(
			alarm_now()
				->window[(WINDOW + 599 - i) % ALARM_WINDOWS]
				.number,
			WINDOW + 599 - i);
}

/* What it says of itself, as a child, in its answers to beats. */
static void test_told_ms(void **state)
{
	const uint64_t end = (uint64_t)(WINDOW + 1) * W;
	struct alarms *all = w.agent.alarms;

	(void)state;
	assert_int_equal(alarms_told_ms(NULL), 0);
	assert_int_equal(alarms_told_ms(all), 0);
	w.root = false;
	w.from_above = true;
	w.n = 0;
	wall(WINDOW, 400);
	read_ends(0);
	assert_int_equal(w.told, 1); /* the first that it judges */
	assert_int_equal(alarms_told_ms(all), end - W);
	replied(204);
	assert_int_equal(alarms_told_ms(all), end);
	/* the next it has to judge, be it ever so little */
	wall(WINDOW + 1, 400);
	assert_int_equal(alarms_told_ms(all), end);
	read_ends(5);
	assert_int_equal(w.told, 1);
	assert_int_equal(alarms_told_ms(all), end + W);
	/* more than its share must be heard; found wrong is not heard */
	wall(WINDOW + 2, 400);
	read_ends(800);
	assert_int_equal(w.told, 2);
	assert_int_equal(alarms_told_ms(all), end + W);
	replied(422);
	assert_int_equal(alarms_told_ms(all), end + W);
	wall(WINDOW + 3, 400);
	read_ends(800);
	replied(204);
	assert_int_equal(alarms_told_ms(all), end + W);
	/* a root tells nobody */
	w.root = true;
	assert_int_equal(alarms_told_ms(all), 0);
}

static void test_kept_until_late(void **state)
{
	(void)state;
	assert_true((ALARM_WINDOWS - 1) * STANDING_WINDOW_MS >=
		    alarm_settle_ms(TREE_LEVELS) + STANDING_TICK_MS +
			    STANDING_JITTER_MS);
}

/* What changes while the parent is told is told after that. */
static void test_no_sum_is_lost(void **state)
{
	(void)state;
	w.root = false;
	w.from_above = true;
	w.told_ms[1] = 0; /* there may be more */
	window_ends(800);
	assert_int_equal(window()->verdict, ALARM_OVER);
	assert_int_equal(w.told, 1);
	assert_non_null(strstr(w.body, "\"least\": 800,"));
	assert_int_equal(heard(0, WINDOW, 300), 0);
	assert_int_equal(w.told, 1);
	replied(204);
	alarms_tick(w.agent.alarms);
	assert_int_equal(w.told, 2);
	assert_non_null(strstr(w.body, "\"least\": 1100,"));
	replied(204);
	alarms_tick(w.agent.alarms);
	assert_int_equal(w.told, 2);
}

/* A parent that it has under another lease now has not heard it. */
static void test_moved_while_told(void **state)
{
	struct epoch then = lease_of(7);

	(void)state;
	w.root = false;
	w.from_above = true;
	window_ends(800);
	w.lease = lease_of(70);
	replied(204);
	assert_int_equal(epoch_compare(&alarm_now()->spoke, &then), 0);
}

/*
 * A stranger at the parent's address can refuse without the token's proof, and
 * no more: the parent has not heard it.  What itself finds wrong it has.
 */
static void test_refused_is_not_heard(void **state)
{
	static const struct {
		int status;
		bool heard;
	} row[] = {
		{ 401, false }, { 403, false }, { 404, false }, { 405, false },
		{ 429, false }, { 501, false }, { 503, false }, { 409, false },
		{ 0, false },   { 200, false }, { 204, true },
	};

	(void)state;
	w.root = false;
	w.from_above = true;
	window_ends(800);
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		assert_int_equal(w.told, i + 1);
		replied(row[i].status);
		alarms_tick(w.agent.alarms);
		assert_int_equal(window()->told, row[i].heard);
		assert_int_equal(epoch_none(&alarm_now()->spoke),
				 !row[i].heard);
	}
	assert_int_equal(w.told, ARRAY_SIZE(row));
}

static void test_found_wrong_is_heard(void **state)
{
	(void)state;
	w.root = false;
	w.from_above = true;
	window_ends(800);
	replied(422);
	alarms_tick(w.agent.alarms);
	assert_int_equal(w.told, 1);
	/* but its silence would mean nothing: it speaks in the next window */
	assert_true(epoch_none(&alarm_now()->spoke));
}

static void test_clock_ahead(void **state)
{
	(void)state;
	window_ends(10);
	assert_int_equal(heard(0, WINDOW + 2, 5000), -EAGAIN);
	w.wall_ms += W;
	assert_int_equal(heard(0, WINDOW + 2, 5000), 0);
	assert_int_equal(heard(0, WINDOW - ALARM_WINDOWS, 5000), -ERANGE);
}

/* Of one host alone, and of an agent that is not the root. */
static void test_not_of_the_parent(void **state)
{
	(void)state;
	w.local = true;
	alarms_tick(w.agent.alarms);
	assert_null(alarm_now());
	w.local = w.root = false;
	window_ends(1001);
	assert_int_equal(window()->verdict, ALARM_OVER);
	assert_int_equal(alarm_limit(alarm_now()), 1000);
	alarms_tick(w.agent.alarms);
	assert_int_equal(w.told, 0);
}

static void test_strangers(void **state)
{
	struct epoch lease = lease_of(99);
	struct alarm_said said = { 0 };
	struct alarm *al;

	(void)state;
	window_ends(10);
	al = alarm_now();
	al->kin[2].hosts = 77; /* of a child that is gone */
	said.id.b[0] = 9;
	assert_int_equal(alarm_heard(al, 1, &said, &lease), -ERANGE);
	assert_int_equal(al->n_kin, 2);
	assert_int_equal(alarm_heard(al, WINDOW, &said, &lease), 0);
	assert_int_equal(al->n_kin, 3);
	assert_int_equal(al->kin[2].hosts, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_silence),
		TEST(test_refused_child),
		TEST(test_never_joined),
		TEST(test_members_without_parent),
		TEST(test_not_settled),
		TEST(test_kept_until_late),
		TEST(test_no_sum_is_lost),
		TEST(test_moved_while_told),
		TEST(test_clock_ahead),
		TEST(test_not_of_the_parent),
		TEST(test_strangers),
		TEST(test_refused_is_not_heard),
		TEST(test_found_wrong_is_heard),
		TEST(test_alive_is_not_silent),
		TEST(test_told_under_another_lease),
		TEST(test_silent_since_it_spoke),
		TEST(test_moved_since_the_end),
		TEST(test_moved_before_the_end),
		TEST(test_slept),
		TEST(test_told_ms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
