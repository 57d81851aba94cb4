// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Distinct keys.  A sketch starts as a set of at most m/8 hashes in the space
 * of the registers, with an index behind, and counts exactly; the next new hash
 * turns the set into HyperLogLog registers.  Nothing is lost then, because
 * registers are a function of hashes.  Parts are the same two forms, the hashes
 * sorted.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/hllreg.h"
#include "common/sketch/ops.h"
#include "common/util.h"

struct hll {
	struct sketch_head head;
	uint32_t n; /* hashes of the set */
	uint32_t dense;
	/*
	 * m bytes: hashes in order of arrival, or registers.  Then m private
	 * bytes: index of the set (position + 1), scratch of the conversion.
	 */
	uint8_t block[];
};
static_assert(sizeof(struct hll) == 64, "the block starts on a line");

uint32_t hll_small_max(uint32_t p)
{
	return (uint32_t)(hllreg_count(p) / 8);
}

static size_t hll_size(const struct sketch_params *p)
{
	assert(p->hll_p >= HLL_P_MIN && p->hll_p <= HLL_P_MAX);
	return (sizeof(struct hll) + 2 * hllreg_count(p->hll_p) + 63) &
	       ~(size_t)63;
}

static void hll_init(void *mem, const struct hash_key *local)
{
	(void)mem;
	(void)local;
}

static void make_dense(struct hll *s)
{
	uint32_t p = s->head.shape.hll_p;
	size_t m = hllreg_count(p);
	const uint64_t *hash = (const void *)(s->block + m);

	memcpy(s->block + m, s->block, m);
	memset(s->block, 0, m);
	for (uint32_t i = 0; i < s->n; i++)
		hllreg_insert(s->block, p, hash[i]);
	s->n = 0;
	s->dense = 1;
	s->head.epoch++;
}

/* False: the hash is new and there is no room. */
static bool small_insert(struct hll *s, uint64_t hash)
{
	uint32_t p = s->head.shape.hll_p;
	size_t m = hllreg_count(p);
	uint64_t *set = (void *)s->block;
	uint16_t *index = (void *)(s->block + m);
	size_t mask = m / 2 - 1, i = hash & mask;

	for (; index[i] != 0; i = (i + 1) & mask)
		if (set[index[i] - 1] == hash)
			return true;
	if (s->n == hll_small_max(p))
		return false;
	set[s->n++] = hash;
	index[i] = (uint16_t)s->n;
	return true;
}

static void hll_update(void *mem, const struct sketch_item *it)
{
	struct hll *s = mem;

	if (!s->dense) {
		if (small_insert(s, it->hash))
			return;
		make_dense(s);
	}
	hllreg_insert(s->block, s->head.shape.hll_p, it->hash);
}

static size_t hll_image_len(const void *mem)
{
	const struct hll *s = mem;

	return sizeof(*s) + (s->dense ? hllreg_count(s->head.shape.hll_p)
				      : sizeof(uint64_t) * s->n);
}

static bool registers_valid(const uint8_t *reg, uint32_t p)
{
	for (size_t i = 0; i < hllreg_count(p); i++)
		if (reg[i] > hllreg_max(p))
			return false;
	return true;
}

static bool hll_image_valid(const void *img, size_t len)
{
	const struct hll *s = img;
	uint32_t p = s->head.shape.hll_p;

	if (len < sizeof(*s) || p < HLL_P_MIN || p > HLL_P_MAX ||
	    s->dense > 1 || s->n > hll_small_max(p) || len != hll_image_len(s))
		return false;
	return !s->dense || registers_valid(s->block, p);
}

const struct sketch_ops hll_ops = {
	.name = "hll",
	.size = hll_size,
	.init = hll_init,
	.update = hll_update,
	.image_len = hll_image_len,
	.image_valid = hll_image_valid,
};

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Sorts and removes doubles; returns how many stay. */
static uint32_t sort_unique(uint64_t *v, uint32_t n)
{
	uint32_t kept = 0;

	if (n == 0)
		return 0;
	qsort(v, n, sizeof(*v), compare_u64);
	for (uint32_t i = 1; i < n; i++)
		if (v[i] != v[kept])
			v[++kept] = v[i];
	return kept + 1;
}

int hll_fill(struct part *p, const uint64_t *hash, uint32_t n)
{
	uint32_t hp = p->params.hll_p;
	uint64_t *set = malloc(sizeof(*set) * MAX(n, 1));

	if (!set)
		return -ENOMEM;
	memcpy(set, hash, sizeof(*set) * n);
	n = sort_unique(set, n);
	if (n <= hll_small_max(hp)) {
		p->hll.small = set;
		p->hll.n_small = n;
		return 0;
	}
	p->hll.reg = calloc(1, hllreg_count(hp));
	for (uint32_t i = 0; p->hll.reg && i < n; i++)
		hllreg_insert(p->hll.reg, hp, set[i]);
	free(set);
	return p->hll.reg ? 0 : -ENOMEM;
}

int part_hll(const struct task_spec *t, const void *hll, struct part **out)
{
	const struct hll *s = hll;
	struct part *p = part_new(PART_HLL, t);
	size_t m = hllreg_count(s->head.shape.hll_p);
	int ret = 0;

	if (!p)
		return -ENOMEM;
	p->params.hll_p = s->head.shape.hll_p;
	if (!s->dense) {
		ret = hll_fill(p, (const void *)s->block, s->n);
	} else {
		p->hll.reg = malloc(m);
		if (p->hll.reg)
			memcpy(p->hll.reg, s->block, m);
		else
			ret = -ENOMEM;
	}
	if (ret < 0)
		part_free(p);
	else
		*out = p;
	return ret;
}

int part_hll_from_exact(const struct task_spec *t, const struct part *exact,
			struct part **out)
{
	struct part *p = part_new(PART_HLL, t);
	uint64_t *hash = calloc(MAX(exact->exact.n, 1), sizeof(*hash));
	size_t len = key_len((enum key_type)t->key);
	uint32_t n = 0;
	int ret = -ENOMEM;

	if (!p || !hash)
		goto out;
	for (uint32_t i = 0; i < exact->exact.n; i++)
		if (exact->exact.row[i].value != 0)
			hash[n++] = hash_domain(&t->seed,
						exact->exact.row[i].key.w, len,
						HASH_KEY);
	p->totals = exact->totals;
	p->end_slot = exact->end_slot;
	p->n_slots = exact->n_slots;
	p->saturated = exact->saturated;
	ret = hll_fill(p, hash, n);
out:
	free(hash);
	if (ret < 0)
		part_free(p);
	else
		*out = p;
	return ret;
}

/* Both small, both stay: the union, if it still fits. */
static int merge_small(struct part *acc, const struct part *in, uint32_t p)
{
	uint32_t n = acc->hll.n_small + in->hll.n_small;
	uint64_t *set = malloc(sizeof(*set) * MAX(n, 1));

	if (!set)
		return -ENOMEM;
	if (acc->hll.n_small)
		memcpy(set, acc->hll.small, sizeof(*set) * acc->hll.n_small);
	if (in->hll.n_small)
		memcpy(set + acc->hll.n_small, in->hll.small,
		       sizeof(*set) * in->hll.n_small);
	n = sort_unique(set, n);
	if (n > hll_small_max(p)) {
		free(set);
		return -E2BIG;
	}
	free(acc->hll.small);
	acc->hll.small = set;
	acc->hll.n_small = n;
	return 0;
}

static void add_to_registers(uint8_t *reg, uint32_t p, const struct part *in)
{
	if (in->hll.reg)
		hllreg_fold(reg, p, in->hll.reg, in->params.hll_p);
	for (uint32_t i = 0; i < in->hll.n_small; i++)
		hllreg_insert(reg, p, in->hll.small[i]);
}

int hll_merge(struct part *acc, const struct part *in)
{
	uint32_t p = MIN(acc->params.hll_p, in->params.hll_p);
	uint8_t *reg;
	int ret;

	if (acc->hll.reg && in->hll.reg && acc->params.hll_p == p &&
	    in->params.hll_p == p) {
		hllreg_union(acc->hll.reg, in->hll.reg, p);
		return 0;
	}
	if (!acc->hll.reg && !in->hll.reg) {
		ret = merge_small(acc, in, p);
		if (ret == 0)
			acc->params.hll_p = p;
		if (ret != -E2BIG)
			return ret;
	}
	reg = calloc(1, hllreg_count(p));
	if (!reg)
		return -ENOMEM;
	add_to_registers(reg, p, acc);
	add_to_registers(reg, p, in);
	part_clear(acc);
	acc->hll.reg = reg;
	acc->params.hll_p = p;
	return 0;
}

void hll_read(const struct part *p, struct distinct *out)
{
	double m = (double)hllreg_count(p->params.hll_p), e, half;

	*out = (struct distinct){ .point = p->hll.n_small,
				  .estimate = p->hll.n_small,
				  .lower = p->hll.n_small,
				  .upper = p->hll.n_small,
				  .exact = true };
	if (!p->hll.reg)
		return;
	out->exact = false;
	e = hllreg_estimate(p->hll.reg, p->params.hll_p);
	half = 1.96 * 1.04 / sqrt(m);
	if (!(e * (1 + half) < 0x1p63)) {
		*out = (struct distinct){ .point = 0x1p63,
					  .estimate = UINT64_MAX,
					  .upper = UINT64_MAX,
					  .saturated = true };
		return;
	}
	out->point = e;
	out->estimate = (uint64_t)llround(e);
	out->lower = (uint64_t)fmax(0, floor(e * (1 - half)));
	out->upper = (uint64_t)ceil(e * (1 + half));
}
