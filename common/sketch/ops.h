/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kind of sketch gives to sketch.c, and the few readings of images that
 * part.c puts together.  Private to this directory; kinds know this header, not
 * each other.
 */
#ifndef LINNET_SKETCH_OPS_H
#define LINNET_SKETCH_OPS_H

#include "common/sketch/sketch.h"

#define SKETCH_MAGIC  0x6c6e736bu
#define CMS_DEPTH_MAX 8

/* sketch_params without padding, so that images compare byte by byte. */
struct sketch_shape {
	uint32_t key, increment, window_ms;
	uint32_t cms_width, cms_depth, cms_plain;
	uint32_t exact_cap, topk_slots, hll_p;
};

/* First member of every kind's state. */
struct sketch_head {
	uint32_t magic;
	uint32_t kind; /* enum sketch_kind */
	struct sketch_shape shape;
	uint32_t saturated; /* sticky */
	uint64_t epoch;     /* sketch_image_epoch() */
};

struct sketch_ops {
	const char *name;
	size_t (*size)(const struct sketch_params *p);
	/* The head is filled in already, everything else is zero. */
	void (*init)(void *mem, const struct hash_key *local);
	void (*update)(void *mem, const struct sketch_item *it);
	size_t (*image_len)(const void *mem);
	/* NULL: entries are never given away. */
	void (*image_moves)(const void *mem, struct sketch_moves *out);
	/* Head compared already; len >= sizeof(struct sketch_head). */
	bool (*image_valid)(const void *img, size_t len);
};

extern const struct sketch_ops cms_ops, exact_ops, topk_ops, hll_ops;

/* Narrows the intervals of n keys, certain before, by a cms image. */
void cms_points(const struct task_spec *t, const void *img,
		const struct flow_key *keys, uint32_t n, struct interval *v);
/*
 * Rows of a topk image with upper >= t_cut, ascending by key, own not set, and
 * the floor of the keys left out.  Returns the array (caller frees) or NULL: no
 * memory.
 */
struct topk_row *topk_rows(const void *img, uint64_t t_cut, uint32_t *n,
			   uint64_t *floor);

/* Byte order of two keys of one type, padding included. */
int sketch_key_compare(const struct flow_key *a, const struct flow_key *b);

/* acc |= in for hll parts, at the smaller p.  0 or -ENOMEM, acc unchanged. */
int hll_merge(struct part *acc, const struct part *in);
/* Hashes a small set may hold: m / 8. */
uint32_t hll_small_max(uint32_t p);
/* Puts n hashes, in any order, into an empty hll part.  0 or -ENOMEM. */
int hll_fill(struct part *p, const uint64_t *hash, uint32_t n);

/* Drops the data of a part, keeps its header. */
void part_clear(struct part *p);

#endif
