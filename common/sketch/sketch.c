// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of sketch kinds and the calls that go through it.  The caller owns
 * the memory of a sketch; nothing here allocates.
 */
#include "common/sketch/sketch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/sketch/ops.h"
#include "common/util.h"

static const struct sketch_ops *const kinds[] = {
	[SKETCH_CMS] = &cms_ops,
	[SKETCH_EXACT] = &exact_ops,
	[SKETCH_TOPK] = &topk_ops,
	[SKETCH_HLL] = &hll_ops,
};
static_assert(ARRAY_SIZE(kinds) == SKETCH_KINDS, "a row per kind");

const char *sketch_name(enum sketch_kind k)
{
	return kinds[k]->name;
}

int sketch_parse(const char *s, size_t len, enum sketch_kind *out)
{
	for (size_t i = 0; i < SKETCH_KINDS; i++) {
		if (strlen(kinds[i]->name) == len &&
		    memcmp(kinds[i]->name, s, len) == 0) {
			*out = (enum sketch_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

void sketch_params_default(struct sketch_params *p, const struct task_spec *t)
{
	*p = (struct sketch_params){
		.key = (enum key_type)t->key,
		.increment = (enum increment)t->increment,
		.window_ms = t->window_ms,
		.cms_width = 1u << 14,
		.cms_depth = 4,
		.exact_cap = 65536,
		.topk_slots = 1u << 13,
		.hll_p = 12,
	};
}

static struct sketch_shape shape_of(const struct sketch_params *p)
{
	return (struct sketch_shape){
		.key = p->key,
		.increment = p->increment,
		.window_ms = p->window_ms,
		.cms_width = p->cms_width,
		.cms_depth = p->cms_depth,
		.cms_plain = p->cms_plain,
		.exact_cap = p->exact_cap,
		.topk_slots = p->topk_slots,
		.hll_p = p->hll_p,
	};
}

size_t sketch_size(enum sketch_kind k, const struct sketch_params *p)
{
	return kinds[k]->size(p);
}

void sketch_init(enum sketch_kind k, void *mem, const struct sketch_params *p,
		 const struct hash_key *local)
{
	struct sketch_head *h = mem;

	assert((uintptr_t)mem % 64 == 0);
	h->magic = SKETCH_MAGIC;
	h->kind = k;
	h->shape = shape_of(p);
	kinds[k]->init(mem, local);
}

void sketch_update(void *mem, const struct sketch_item *it)
{
	const struct sketch_head *h = mem;

	kinds[h->kind]->update(mem, it);
}

size_t sketch_image_len(const void *mem)
{
	const struct sketch_head *h = mem;

	return kinds[h->kind]->image_len(mem);
}

uint64_t sketch_image_epoch(const void *mem)
{
	const struct sketch_head *h = mem;

	return h->epoch;
}

void sketch_image_moves(const void *mem, struct sketch_moves *out)
{
	const struct sketch_head *h = mem;

	*out = (struct sketch_moves){ 0 };
	if (kinds[h->kind]->image_moves)
		kinds[h->kind]->image_moves(mem, out);
}

int sketch_image_check(enum sketch_kind k, const void *img, size_t len,
		       const struct sketch_params *p)
{
	const struct sketch_head *h = img;
	struct sketch_shape shape = shape_of(p);

	if (len < sizeof(*h) || (uintptr_t)img % 8 != 0)
		return -EINVAL;
	if (h->magic != SKETCH_MAGIC || h->kind != k || h->saturated > 1 ||
	    memcmp(&h->shape, &shape, sizeof(shape)) != 0)
		return -EINVAL;
	return kinds[k]->image_valid(img, len) ? 0 : -EINVAL;
}

int sketch_key_compare(const struct flow_key *a, const struct flow_key *b)
{
	return memcmp(a->w, b->w, sizeof(a->w));
}
