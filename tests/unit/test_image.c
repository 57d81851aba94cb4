/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of sketches, made in pieces while the sketches go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/hash.h"
#include "common/util.h"
#include "monitor/image.h"

struct world {
	struct task_spec task;
	struct sketch_params params;
	void *sketch[SKETCH_KINDS];
	size_t size[SKETCH_KINDS];
	uint64_t packets, slot;
};

static int setup_of(void **state, enum key_type key)
{
	static struct world w;

	w = (struct world){
		.slot = 100,
		.task = { .id = 1,
			  .key = (uint8_t)key,
			  .kinds = SKETCH_DEFAULT_KINDS },
	};
	sketch_params_default(&w.params, &w.task);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		struct hash_key local = { { 1 } };

		w.size[k] = sketch_size((enum sketch_kind)k, &w.params);
		w.sketch[k] = mmap(NULL, w.size[k], PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0);
		if (w.sketch[k] == MAP_FAILED)
			return -1;
		sketch_init((enum sketch_kind)k, w.sketch[k], &w.params,
			    &local);
	}
	*state = &w;
	return 0;
}

static int setup(void **state)
{
	return setup_of(state, KEY_SRC);
}

static int setup_wide(void **state)
{
	return setup_of(state, KEY_FLOW);
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (int k = 0; k < SKETCH_KINDS; k++)
		munmap(w->sketch[k], w->size[k]);
	return 0;
}

/* n packets, each with a key of its own. */
static void count(struct world *w, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct sketch_item it = { .weight = 1, .slot = w->slot };

		w->packets++;
		it.key.w[0] = w->packets;
		it.hash = hash_domain(&w->task.seed, &it.key, 16, HASH_KEY);
		for (int k = 0; k < SKETCH_KINDS; k++)
			sketch_update(w->sketch[k], &it);
	}
}

static void check(struct world *w, struct image *im, uint32_t kinds)
{
	assert_int_equal(im->map->magic, CTL_IMAGE_MAGIC);
	assert_int_equal(im->map->kinds, kinds);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		const char *at = (char *)im->map + im->map->image[k].offset;

		if (!(kinds >> k & 1)) {
			assert_int_equal(im->map->image[k].len, 0);
			continue;
		}
		assert_int_equal(im->map->image[k].offset % 64, 0);
		assert_int_equal(sketch_image_check((enum sketch_kind)k, at,
						    im->map->image[k].len,
						    &w->params),
				 0);
	}
}

static void copies_while_counting(void **state)
{
	struct world *w = *state;
	struct image im;
	int turns = 1;

	count(w, 5000);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, SKETCH_DEFAULT_KINDS),
			 0);
	/* with 64 new keys a turn the tables grow, are purged, and evict */
	for (; !image_turn(&im); turns++)
		count(w, 64);
	assert_true(turns > 1 && turns < 100);
	check(w, &im, SKETCH_DEFAULT_KINDS);
	image_end(&im);
}

static void ends_although_entries_move(void **state)
{
	struct world *w = *state;
	struct image im;
	int turns = 1;

	count(w, 80000);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, SKETCH_DEFAULT_KINDS),
			 0);
	/* every turn purges topk and evicts from exact */
	for (; !image_turn(&im); turns++)
		count(w, 8000);
	assert_true(turns < 200);
	check(w, &im, SKETCH_DEFAULT_KINDS);
	image_end(&im);
}

/* The weight in a copy is not less than what is in its cells. */
static void weight_is_of_the_end(void **state)
{
	struct world *w = *state;
	struct sketch_item it = { .weight = 1000, .slot = w->slot };
	struct part *p = NULL;
	struct image im;

	it.key.w[0] = 1u << 31;
	it.hash = hash_domain(&w->task.seed, &it.key, 16, HASH_KEY);
	sketch_update(w->sketch[SKETCH_CMS], &it);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, 1u << SKETCH_CMS),
			 0);
	while (!image_turn(&im))
		count(w, 20000);
	assert_true(w->packets > 0);
	assert_int_equal(
		part_points(&w->task,
			    (char *)im.map + im.map->image[SKETCH_CMS].offset,
			    NULL, &it.key, 1, &p),
		0);
	assert_int_equal(p->points.v[0].upper - p->points.v[0].lower,
			 cms_error_max(&w->params, w->packets + 1000));
	part_free(p);
	image_end(&im);
}

/* Who came while heavy keys were copied is not below the floor. */
static void late_keys_are_in(void **state)
{
	struct world *w = *state;
	struct part *p = NULL;
	struct image im;

	count(w, 6000);
	/* more than a turn copies */
	assert_true(sketch_image_len(w->sketch[SKETCH_TOPK]) > IMAGE_PIECE);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, 1u << SKETCH_TOPK),
			 0);
	while (!image_turn(&im))
		count(w, 64);
	assert_true(w->packets > 6000 && w->packets < 7000);
	assert_int_equal(
		part_topk(&w->task,
			  (char *)im.map + im.map->image[SKETCH_TOPK].offset, 0,
			  UINT64_MAX, &p),
		0);
	assert_int_equal(p->topk.n, w->packets);
	part_free(p);
	image_end(&im);
}

/* What was counted before the copy is in it once, wherever it went. */
static void whole_while_evicting(void **state)
{
	const unsigned int before[] = { 60000, 65500, 80000 };
	const unsigned int a_turn[] = { 300, 64, 200 };
	const uint32_t exact = 1u << SKETCH_EXACT;

	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		struct world *w = *state;
		struct part *p = NULL;
		struct image im;
		uint64_t sum;
		int turns = 1;

		teardown(state);
		assert_int_equal(setup(state), 0);
		count(w, before[i]);
		w->slot++;
		assert_int_equal(image_begin(&im,
					     (const void *const *)w->sketch,
					     w->size, exact),
				 0);
		for (size_t at = 0; !image_turn(&im); turns++, at = im.at) {
			/* never much more than a turn may */
			assert_in_range(im.at - at, 0, IMAGE_PIECE);
			count(w, a_turn[i]);
		}
		assert_in_range(turns, 10, 100);
		check(w, &im, exact);
		assert_int_equal(
			part_exact(&w->task,
				   (char *)im.map +
					   im.map->image[SKETCH_EXACT].offset,
				   100, &p),
			0);
		sum = p->exact.spilled;
		for (uint32_t k = 0; k < p->exact.n; k++)
			sum += p->exact.row[k].value;
		assert_int_equal(sum, before[i]);
		part_free(p);
		image_end(&im);
	}
}

static void only_what_is_asked(void **state)
{
	struct world *w = *state;
	const uint32_t hll = 1u << SKETCH_HLL;
	struct image im;

	count(w, 10);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, hll | 1u << 7),
			 0);
	assert_true(image_turn(&im));
	check(w, &im, hll);
	image_end(&im);
	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, 0),
			 0);
	assert_true(image_turn(&im));
	check(w, &im, 0);
	image_end(&im);
}

static void sealed_for_good(void **state)
{
	struct world *w = *state;
	struct image im;
	int seals;

	assert_int_equal(image_begin(&im, (const void *const *)w->sketch,
				     w->size, 1u << SKETCH_HLL),
			 0);
	assert_true(image_turn(&im));
	assert_int_equal(image_seal(&im), 0);
	seals = fcntl(im.fd, F_GET_SEALS);
	assert_int_equal(seals, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE |
					F_SEAL_SEAL);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			      im.fd, 0),
			 MAP_FAILED);
	image_end(&im);
	image_end(&im); /* fine when nothing was begun */
}

/* Parts that stay as they are, as many turns as they need. */
static void parts_of_a_window(void **state)
{
	const size_t len[] = { 1000, 3 * IMAGE_PIECE + 17 };
	uint8_t *bytes = malloc(len[1]);
	const void *part[] = { "", bytes };
	struct image im;
	int turns = 1;

	(void)state;
	assert_non_null(bytes);
	random_bytes(bytes, len[1]);
	part[0] = bytes + 5;
	for (uint32_t what = 1; what < 4; what++, turns = 1) {
		assert_int_equal(image_begin_window(&im, part, len, what), 0);
		while (!image_turn(&im))
			turns++;
		assert_int_equal(turns, what & 2 ? 4 : 1);
		assert_int_equal(im.map->kinds, what);
		for (uint32_t i = 0; i < 2; i++) {
			if (!(what >> i & 1))
				continue;
			assert_int_equal(im.map->image[i].len, len[i]);
			assert_memory_equal((const char *)im.map +
						    im.map->image[i].offset,
					    part[i], len[i]);
		}
		assert_int_equal(image_seal(&im), 0);
		image_end(&im);
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(copies_while_counting, setup,
						teardown),
		cmocka_unit_test_setup_teardown(ends_although_entries_move,
						setup, teardown),
		cmocka_unit_test_setup_teardown(weight_is_of_the_end, setup,
						teardown),
		cmocka_unit_test_setup_teardown(late_keys_are_in, setup_wide,
						teardown),
		cmocka_unit_test_setup_teardown(whole_while_evicting, setup,
						teardown),
		cmocka_unit_test_setup_teardown(only_what_is_asked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(sealed_for_good, setup,
						teardown),
		cmocka_unit_test(parts_of_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
