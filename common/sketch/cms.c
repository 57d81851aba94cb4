// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Count-min sketch (Cormode, Muthukrishnan 2005) with conservative update
 * (Estan, Varghese 2002): how much has this key?  Rows of 64-bit cells; all row
 * positions come from one hash by double hashing.  The minimum of a key's cells
 * never understates it; how much it overstates is bounded by the width, and
 * measured by reading keys that were never counted.
 */
#include <assert.h>
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/ops.h"
#include "common/util.h"

#define ABSENT_KEYS 1024

struct cms {
	struct sketch_head head;
	uint64_t weight; /* N */
	uint64_t cell[]; /* depth rows of width */
};
static_assert(sizeof(struct cms) == 64, "rows start on a line");

/* What keys that were never counted read: 50, 95 and 99 % of them at most. */
struct noise {
	uint64_t z50, z95, z99;
};

static bool params_valid(uint32_t width, uint32_t depth)
{
	return depth >= 1 && depth <= CMS_DEPTH_MAX && width >= 8 &&
	       width <= 1u << 22 && (width & (width - 1)) == 0;
}

static size_t cms_len(uint32_t width, uint32_t depth)
{
	return sizeof(struct cms) + sizeof(uint64_t) * width * (size_t)depth;
}

static size_t cms_size(const struct sketch_params *p)
{
	assert(params_valid(p->cms_width, p->cms_depth));
	return cms_len(p->cms_width, p->cms_depth);
}

static void cms_init(void *mem, const struct hash_key *local)
{
	(void)mem;
	(void)local;
}

static size_t cell_of(uint64_t hash, uint32_t row, uint32_t width)
{
	uint64_t h1 = hash & UINT32_MAX, h2 = hash >> 32 | 1;

	return (size_t)row * width + ((h1 + row * h2) & (width - 1));
}

/* Inlined with a constant depth, so that the loops unroll. */
static inline __attribute__((always_inline)) void
cms_add(struct cms *s, uint64_t hash, uint64_t weight, uint32_t depth)
{
	uint32_t width = s->head.shape.cms_width;
	uint64_t *cell[CMS_DEPTH_MAX], least = UINT64_MAX;
	bool saturated = false;

	for (uint32_t r = 0; r < depth; r++) {
		cell[r] = &s->cell[cell_of(hash, r, width)];
		least = MIN(least, *cell[r]);
	}
	s->weight = u64_add_sat(s->weight, weight, &saturated);
	least = u64_add_sat(least, weight, &saturated);
	for (uint32_t r = 0; r < depth; r++) {
		if (s->head.shape.cms_plain)
			*cell[r] = u64_add_sat(*cell[r], weight, &saturated);
		else
			*cell[r] = MAX(*cell[r], least);
	}
	if (saturated)
		s->head.saturated = 1;
}

static void cms_update(void *mem, const struct sketch_item *it)
{
	struct cms *s = mem;

	if (s->head.shape.cms_depth == 4)
		cms_add(s, it->hash, it->weight, 4);
	else
		cms_add(s, it->hash, it->weight, s->head.shape.cms_depth);
}

static size_t cms_image_len(const void *mem)
{
	const struct cms *s = mem;

	return cms_len(s->head.shape.cms_width, s->head.shape.cms_depth);
}

/* Cells never move; the weight belongs to the last of them. */
static void cms_image_moves(const void *mem, struct sketch_moves *out)
{
	(void)mem;
	out->head_len = sizeof(struct cms);
}

static bool cms_image_valid(const void *img, size_t len)
{
	const struct cms *s = img;

	return params_valid(s->head.shape.cms_width, s->head.shape.cms_depth) &&
	       len == cms_image_len(img);
}

const struct sketch_ops cms_ops = {
	.name = "cms",
	.size = cms_size,
	.init = cms_init,
	.update = cms_update,
	.image_len = cms_image_len,
	.image_moves = cms_image_moves,
	.image_valid = cms_image_valid,
};

static uint64_t cms_min(const struct cms *s, uint64_t hash)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t r = 0; r < s->head.shape.cms_depth; r++) {
		size_t i = cell_of(hash, r, s->head.shape.cms_width);

		least = MIN(least, s->cell[i]);
	}
	return least;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void noise_read(struct noise *z, const struct cms *s,
		       const struct hash_key *seed)
{
	uint64_t v[ABSENT_KEYS];

	for (uint64_t i = 0; i < ABSENT_KEYS; i++) {
		uint64_t le = htole64(i);

		v[i] = cms_min(s,
			       hash_domain(seed, &le, sizeof(le), HASH_ABSENT));
	}
	qsort(v, ABSENT_KEYS, sizeof(v[0]), compare_u64);
	z->z50 = v[511];
	z->z95 = v[972];
	z->z99 = v[1013];
}

static uint64_t sub_floor(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/*
 * Narrows what is certain by what one key's cells say.  They may have been
 * copied a moment earlier and say less than is certain by now.  Their lower
 * bounds only hold with their confidence: one above a certain upper bound is
 * wrong and is cut.
 */
static void cms_narrow(struct interval *v, uint64_t cells, uint64_t error,
		       const struct noise *z, bool plain)
{
	uint64_t certain = v->lower, u = MAX(cells, certain), point;
	/* a heavy key met no noise where the update is conservative */
	bool noisy = plain || u <= z->z99;

	point = MAX(noisy ? sub_floor(u, z->z50) : u, sub_floor(u, error));
	v->upper = MIN(v->upper, u);
	v->saturated = v->upper == UINT64_MAX;
	v->lower = MIN(MAX(certain, sub_floor(u, error)), v->upper);
	v->lower99 = MIN(MAX(certain, sub_floor(u, z->z99)), v->upper);
	v->point = MIN(MAX(point, certain), v->upper);
}

void cms_points(const struct task_spec *t, const void *img,
		const struct flow_key *keys, uint32_t n, struct interval *v)
{
	const struct cms *s = img;
	struct sketch_params p = { .cms_width = s->head.shape.cms_width };
	uint64_t error = cms_error_max(&p, s->weight);
	size_t len = key_len((enum key_type)t->key);
	struct noise z = { 0 };
	bool read = false;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t u = cms_min(s, hash_domain(&t->seed, keys[i].w, len,
						    HASH_KEY));

		/* in every page of the image: not if nothing is in doubt */
		if (!read && v[i].lower < v[i].upper) {
			noise_read(&z, s, &t->seed);
			read = true;
		}
		cms_narrow(&v[i], u, error, &z, s->head.shape.cms_plain);
	}
}

double cms_confidence(const struct sketch_params *p)
{
	return 1 - exp(-(double)p->cms_depth);
}

uint64_t cms_error_max(const struct sketch_params *p, uint64_t weight)
{
	double e = ceil(2.718281828459045235 / p->cms_width * (double)weight);

	return e < 0x1p64 ? (uint64_t)e : UINT64_MAX;
}
