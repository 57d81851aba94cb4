/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sketches and their parts.
 *
 * A *sketch* lives in a reader: one block of memory, fixed at creation,
 * updated once per packet.  Its *image* is the first sketch_image_len() bytes
 * of that block, copied out; it is read-only, holds no index and no secret.
 * A *part* is what an image answers to one question, and what travels and
 * merges: several readers of a host, hosts of a tree.  Parts are ordinary heap
 * objects of the agent.
 *
 * To add a kind: a file, and a row in sketch.c.
 */
#ifndef LINNET_SKETCH_H
#define LINNET_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"
#include "common/key.h"
#include "common/task.h"

enum sketch_kind {
	SKETCH_CMS,
	SKETCH_EXACT,
	SKETCH_TOPK,
	SKETCH_HLL,
	SKETCH_KINDS
};
#define SKETCH_DEFAULT_KINDS 0x0fu

const char *sketch_name(enum sketch_kind k); /* "cms", "exact", … */
int sketch_parse(const char *s, size_t len, enum sketch_kind *out);

/* Everything that shapes a sketch's memory. */
struct sketch_params {
	enum key_type key;
	enum increment increment;
	uint32_t window_ms;            /* 0: landmark; cms cells are u64 then */
	uint32_t cms_width, cms_depth; /* 2^14, 4 */
	bool cms_plain;                /* no conservative update */
	uint32_t exact_cap;            /* 65,536 keys */
	uint32_t topk_slots;           /* M = 2^13; 7M/8 entries */
	uint32_t hll_p;                /* 12 */
};
/* The defaults for a task. */
void sketch_params_default(struct sketch_params *p, const struct task_spec *t);

/* One update.  slot: number of the 100-ms slot of wall time, never falling. */
struct sketch_item {
	struct flow_key key; /* stored form, zero-padded */
	uint64_t hash;       /* hash_domain(seed, key, key_len, HASH_KEY) */
	uint64_t weight;
	uint64_t slot;
};

/* ---- reader side: no allocation, no lock, no failure ---- */

/* Bytes of memory for one sketch; all of it counts against the budget. */
size_t sketch_size(enum sketch_kind k, const struct sketch_params *p);
/*
 * mem: zeroed pages (fresh mmap), 64-byte aligned; untouched pages stay
 * untouched until keys come.  local: per-process secret for table layout.
 */
void sketch_init(enum sketch_kind k, void *mem, const struct sketch_params *p,
		 const struct hash_key *local);
void sketch_update(void *mem, const struct sketch_item *it);
size_t sketch_image_len(const void *mem);
/*
 * Changes when entries of the pool moved (purge, conversion): a copy made in
 * pieces while it changed must be made again.
 */
uint64_t sketch_image_epoch(const void *mem);
/*
 * Entries that were given to other keys (eviction): n of them so far, move i at
 * first + i % places * step, step bytes.  A copy made in pieces is right once
 * all that moved meanwhile was copied again and then, in the same breath, the
 * first head_len bytes; 0: as they were at first.  Without such moves the rest
 * is 0.
 */
struct sketch_moves {
	uint64_t n, places;
	size_t first, step, head_len;
};
void sketch_image_moves(const void *mem, struct sketch_moves *out);

/* ---- agent side ---- */

/* 0 if len bytes at img are a whole image of kind k with params p, -EINVAL. */
int sketch_image_check(enum sketch_kind k, const void *img, size_t len,
		       const struct sketch_params *p);

enum part_kind {
	PART_TOTALS, /* totals alone */
	PART_POINTS, /* estimates of keys asked, in their order */
	PART_TOPK,   /* rows of heavy keys with a floor */
	PART_EXACT,  /* keys with their value of the last second */
	PART_HLL,    /* distinct keys */
	PART_KINDS
};

struct interval {
	uint64_t lower, lower99, upper, point;
	bool saturated; /* upper is unknown */
};

struct topk_row {
	struct flow_key key;
	uint64_t upper, err; /* truth in [upper - err, upper] */
	bool own;            /* above the threshold of its own host */
};

struct exact_row {
	struct flow_key key;
	uint64_t value;
};

struct part {
	enum part_kind kind;
	/* parts with other values here never merge */
	uint64_t task, generation, fp;
	struct sketch_params params;
	uint64_t window; /* number of the closed one it is of; 0: of none */
	/* exact: newest closed slot E and number of slots; else 0 */
	uint64_t end_slot;
	uint32_t n_slots;
	struct totals totals; /* of the task, since it began */
	bool saturated;
	union {
		struct {
			uint32_t n;
			struct interval *v;
		} points;
		struct {
			uint32_t n, cap;
			struct topk_row *row; /* ascending by key */
			uint64_t floor; /* an absent key has at most this */
		} topk;
		struct {
			uint32_t n, cap;
			struct exact_row *row; /* ascending by key */
			/* amount and number of keys that had no entry */
			uint64_t spilled, evicted;
		} exact;
		struct {
			uint32_t n_small; /* small mode: sorted hashes */
			uint64_t *small;  /* NULL in dense mode */
			uint8_t *reg; /* 2^p registers; NULL in small mode */
		} hll;
	};
};

/* Why two parts do not merge. */
enum merge_refusal {
	MERGE_OK,
	MERGE_KIND,
	MERGE_TASK,
	MERGE_GENERATION,
	MERGE_SEED,
	MERGE_PARAMS,
	MERGE_KEY,
	MERGE_INCREMENT,
	MERGE_WINDOW,
};

/* New part without data, for this task; NULL: no memory. */
struct part *part_new(enum part_kind k, const struct task_spec *t);
void part_free(struct part *p); /* NULL is fine */

/*
 * Adds in to acc.  0, a positive enum merge_refusal, or -ENOMEM; acc is
 * unchanged unless 0.
 */
int part_merge(struct part *acc, const struct part *in);

/* From images of one reader (NULL where the task keeps no such sketch): */

/*
 * PART_POINTS for n keys: cms, narrowed by topk (lower bound, upper cap) where
 * present.  -EOPNOTSUPP with neither.
 */
int part_points(const struct task_spec *t, const void *cms, const void *topk,
		const struct flow_key *keys, uint32_t n, struct part **out);
/*
 * PART_TOPK: the table cut at rows with upper >= t_cut; own = upper > t_own.
 */
int part_topk(const struct task_spec *t, const void *topk, uint64_t t_cut,
	      uint64_t t_own, struct part **out);
/*
 * PART_EXACT for the ten slots that end with end_slot, the last closed one.
 * +EXACT_TOO_OLD when the ring no longer holds them.
 */
enum exact_outcome {
	EXACT_OK,
	EXACT_TOO_OLD
};
int part_exact(const struct task_spec *t, const void *exact, uint64_t end_slot,
	       struct part **out);
/* PART_HLL of an hll image, or of the keys of an exact part (value not 0). */
int part_hll(const struct task_spec *t, const void *hll, struct part **out);
int part_hll_from_exact(const struct task_spec *t, const struct part *exact,
			struct part **out);

/* ---- reading parts ---- */

/* Cuts rows below t and raises the floor; intervals stay true. */
void topk_truncate(struct part *p, uint64_t t);
/* Keeps at most cap rows, "own" rows first, then the largest. */
void topk_cap(struct part *p, uint32_t cap);
/* Keeps the cap largest values, the rest goes to spilled. */
void exact_cap(struct part *p, uint32_t cap);
/* Distinct keys: point, 95 % interval; exact in small mode. */
struct distinct {
	double point;
	uint64_t estimate, lower, upper;
	bool exact, saturated;
};
void hll_read(const struct part *p, struct distinct *out);
/* P(truth within [lower, upper] of a cms point) and largest over-count. */
double cms_confidence(const struct sketch_params *p);
uint64_t cms_error_max(const struct sketch_params *p, uint64_t weight);

/* ---- travelling ---- */

/* Typed columns; the caller renders them (base64 in JSON). */
enum column_type {
	COLUMN_U64,
	COLUMN_BYTES
};
#define COLUMNS_MAX 8
struct columns {
	uint32_t n;
	struct {
		const char *name;
		enum column_type type;
		uint64_t u64;
		uint8_t *bytes; /* owned */
		size_t len;
	} col[COLUMNS_MAX];
};
void columns_free(struct columns *c);
const char *part_kind_name(enum part_kind k); /* "totals", "points", … */
int part_kind_parse(const char *s, size_t len, enum part_kind *out);

/* Canonical: the same state gives the same bytes.  0 or -ENOMEM. */
int part_encode(const struct part *p, struct columns *out);
/*
 * p: from part_new(), with its header (totals, slots) filled by the caller.
 * Hostile input: sizes checked before allocation; unsorted rows, counts above
 * the cap, registers > q + 1, err > upper, padding, trailing data refused with
 * -EINVAL; p keeps no data then.
 */
int part_decode(struct part *p, const struct columns *in);

#endif
