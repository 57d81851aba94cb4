/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Windows of a task: each packet in one, whole ones only, whatever the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "monitor/count.h"

#define WINDOW_MS 1000
#define START_MS  (UINT64_C(1795222800) * 1000)

struct world {
	struct ring *ring;
	struct totals now;
	struct sketch_params params;
	struct task_spec task;
};

static int setup(void **state)
{
	static const struct hash_key local = { { 1 } };
	static struct world w;

	w = (struct world){ .task = { .id = 1,
				      .generation = 1,
				      .key = KEY_SRC,
				      .kinds = SKETCH_DEFAULT_KINDS,
				      .window_ms = WINDOW_MS } };
	assert_true(task_valid(&w.task));
	sketch_params_default(&w.params, &w.task);
	w.ring = ring_new(&w.task, &local);
	*state = &w;
	return w.ring ? 0 : -1;
}

static int teardown(void **state)
{
	ring_free(((struct world *)*state)->ring);
	return 0;
}

static void at(struct world *w, int64_t ms)
{
	ring_clock(w->ring, START_MS + (uint64_t)ms, false, false, &w->now,
		   false);
}

/* n packets of a key. */
static void count(struct world *w, uint8_t key, unsigned int n)
{
	struct sketch_item it = { .weight = 1, .slot = 1 };

	memset(&it.key, 0, sizeof(it.key));
	((uint8_t *)it.key.w)[0] = key;
	it.hash =
		hash_domain(&w->task.seed, &it.key, key_len(KEY_SRC), HASH_KEY);
	for (unsigned int i = 0; i < n; i++) {
		for (int k = 0; k < SKETCH_KINDS; k++) {
			if (ring_open(w->ring)[k])
				sketch_update(ring_open(w->ring)[k], &it);
		}
		w->now.pkt++;
		w->now.weight++;
	}
}

static int find(struct world *w, int64_t number, const struct ring_window **out)
{
	return ring_find(w->ring, START_MS / WINDOW_MS + (uint64_t)number, out);
}

/* Packets of one key in a closed window, as its sketches say. */
static uint64_t counted(struct world *w, const struct ring_window *win,
			uint8_t key)
{
	struct flow_key k = { 0 };
	struct part *p;
	uint64_t n;

	((uint8_t *)k.w)[0] = key;
	assert_int_equal(part_points(&w->task, win->sketch[SKETCH_CMS],
				     win->sketch[SKETCH_TOPK], &k, 1, &p),
			 0);
	n = p->points.v[0].upper;
	assert_int_equal(p->points.v[0].lower, n);
	part_free(p);
	return n;
}

static void test_each_in_one(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	at(w, 300);
	count(w, 1, 5);
	at(w, 999);
	count(w, 1, 2);
	at(w, 1000);
	count(w, 1, 3);
	count(w, 2, 4);
	assert_int_equal(find(w, 1, &win), -EAGAIN);
	at(w, 2000);
	/* the task began in the middle of the first one */
	assert_int_equal(find(w, 0, &win), -ENODATA);
	assert_int_equal(find(w, 1, &win), 0);
	assert_int_equal(win->totals.pkt, 7);
	assert_int_equal(counted(w, win, 1), 3);
	assert_int_equal(counted(w, win, 2), 4);
	assert_int_equal(counted(w, win, 3), 0);
	assert_null(win->sketch[SKETCH_EXACT]);
	assert_int_equal(find(w, 2, &win), -EAGAIN);
	assert_int_equal(find(w, 3, &win), -EAGAIN);
}

static void test_old_ones_go(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	for (int i = 0; i < 20; i++) {
		at(w, 1000 * i);
		count(w, 1, (unsigned int)i + 1);
	}
	at(w, 20000);
	for (int i = 0; i < 20; i++) {
		bool kept = i >= 20 - TASK_CLOSED;

		assert_int_equal(find(w, i, &win), kept ? 0 : -ENODATA);
		if (kept) {
			assert_int_equal(win->totals.pkt, i + 1);
			assert_int_equal(counted(w, win, 1), i + 1);
		}
	}
}

/* Without packets nobody may have looked at the clock for long. */
static void test_quiet(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	at(w, 0);
	count(w, 1, 9);
	at(w, 3500);
	count(w, 1, 1);
	at(w, 4000);
	assert_int_equal(find(w, 0, &win), 0);
	assert_int_equal(win->totals.pkt, 9);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(find(w, i, &win), 0);
		assert_int_equal(win->totals.pkt, 0);
		assert_int_equal(counted(w, win, 1), 0);
	}
	assert_int_equal(find(w, 3, &win), 0);
	assert_int_equal(win->totals.pkt, 1);
	/* more of them than are kept */
	at(w, 1000 * 1000);
	assert_int_equal(find(w, 3, &win), -ENODATA);
	for (int i = 1; i <= TASK_CLOSED; i++)
		assert_int_equal(find(w, 1000 - i, &win), 0);
}

static void test_clock_set(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	at(w, 0);
	at(w, 1000);
	count(w, 1, 5);
	at(w, 2000);
	count(w, 1, 6);
	/* back into window 1 */
	ring_clock(w->ring, START_MS + 1200, true, false, &w->now, false);
	count(w, 1, 7);
	assert_int_equal(find(w, 0, &win), 0);
	assert_int_equal(find(w, 1, &win), -EAGAIN);
	at(w, 2000);
	/* a number means one window: neither the old one nor the half */
	assert_int_equal(find(w, 1, &win), -ENODATA);
	count(w, 1, 8);
	at(w, 3000);
	assert_int_equal(find(w, 2, &win), 0);
	assert_int_equal(win->totals.pkt, 8);
	/* forward, over windows that nobody counted */
	ring_clock(w->ring, START_MS + 9500, true, false, &w->now, false);
	at(w, 10000);
	for (int i = 3; i < 10; i++)
		assert_int_equal(find(w, i, &win), -ENODATA);
}

/* Less than a window, as a clock is disciplined: counted, but not whole. */
static void test_clock_slips(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	at(w, 0);
	at(w, 1000);
	at(w, 990);
	count(w, 1, 5);
	at(w, 2000);
	assert_int_equal(find(w, 0, &win), 0);
	assert_int_equal(find(w, 1, &win), -ENODATA);
}

static void test_replay(void **state)
{
	struct world *w = *state;
	const struct ring_window *win;

	ring_clock(w->ring, START_MS + 500, false, true, &w->now, false);
	count(w, 1, 5);
	ring_end(w->ring, &w->now, false);
	assert_int_equal(find(w, 0, &win), 0);
	assert_int_equal(win->totals.pkt, 5);
	assert_int_equal(find(w, 1, &win), -EAGAIN);
}

/* As a reader has it: totals go on, sketches are of the window. */
static void test_count(void **state)
{
	struct count *c = calloc(1, sizeof(*c));
	struct task_spec t = ((struct world *)*state)->task;
	struct packet p = { .family = 4, .len_bytes = 100, .segments = 1 };
	const struct ring_window *win;
	struct count_task *ct;
	struct ctl_image img = { 0 };

	count_init(c, true);
	t.increment = INC_BYTE;
	assert_int_equal(count_put(c, &t), 0);
	count_pass_begin(c);
	for (unsigned int i = 0; i < 30; i++) {
		count_clock(c, START_MS + i * 100);
		count_packet(c, &p);
	}
	count_pass_end(c);
	ct = count_find(c, 1);
	assert_int_equal(ct->totals.pkt, 30);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(
			ring_find(ct->ring, START_MS / WINDOW_MS + i, &win), 0);
		count_describe_window(ct, win, &img);
		assert_int_equal(img.totals.byte, 1000);
		assert_int_equal(img.began_ms, START_MS + i * WINDOW_MS);
		assert_int_equal(img.now_ms, img.began_ms + WINDOW_MS);
	}
	count_del(c, 1);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_in_one, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_old_ones_go, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_set, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_clock_slips, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_count, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
