/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tasks: checks of what came from outside, the names of the increments, sums
 * of totals.  Plain values, nothing owned.
 */
#include "common/task.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/features.h"
#include "common/sketch/features.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

/* memcmp() and the control socket need a struct without holes */
static_assert(sizeof(struct task_spec) ==
		      16 + sizeof(struct filter) + 6 + 12 + 16 + 4,
	      "padding in struct task_spec");
static_assert(SKETCH_DEFAULT_KINDS == (1u << SKETCH_KINDS) - 1, "known kinds");

static const char *const increments[] = {
	[INC_PKT] = "pkt",
	[INC_BYTE] = "byte",
	[INC_SEGMENT] = "segment",
};
static_assert(ARRAY_SIZE(increments) == INCREMENTS, "a name each");

int increment_parse(const char *s, size_t len, enum increment *out)
{
	for (unsigned int i = 0; i < INCREMENTS; i++) {
		if (strlen(increments[i]) == len &&
		    !memcmp(s, increments[i], len)) {
			*out = (enum increment)i;
			return 0;
		}
	}
	if (len == 5 && !memcmp(s, "bytes", 5)) {
		*out = INC_BYTE;
		return 0;
	}
	return -EINVAL;
}

const char *increment_name(enum increment i)
{
	assert(i < INCREMENTS);
	return increments[i];
}

static bool features_valid(const struct task_spec *t)
{
	uint32_t window_s = t->window_ms / 1000;

	if (t->key != KEY_NONE || t->increment != INC_SEGMENT || t->both > 1)
		return false;
	if (t->semantics != FEATURES_PACKETS &&
	    t->semantics != FEATURES_NETFLOW)
		return false;
	if (t->records_log2 && (t->records_log2 < TASK_RECORDS_LOG2_MIN ||
				t->records_log2 > TASK_RECORDS_LOG2))
		return false;
	return t->window_ms % 1000 == 0 && window_s >= TASK_WINDOW_MIN_S &&
	       window_s <= TASK_WINDOW_MAX_S && TASK_DAY_S % window_s == 0;
}

static bool keyed_valid(const struct task_spec *t)
{
	if (t->both || t->semantics || t->records_log2)
		return false;
	if (t->window_ms % TASK_TICK_MS ||
	    t->window_ms > TASK_WINDOW_MAX_S * 1000)
		return false;
	if (t->kinds & ~SKETCH_DEFAULT_KINDS)
		return false;
	return t->key != KEY_NONE || !t->kinds;
}

bool task_valid(const struct task_spec *t)
{
	if (!t->id || t->key >= KEY_TYPES || t->increment >= INCREMENTS)
		return false;
	if (t->reserved || t->reserved2 || t->reserved3)
		return false;
	if (t->kinds == TASK_FEATURES ? !features_valid(t) : !keyed_valid(t))
		return false;
	return filter_valid(&t->filter);
}

uint64_t task_memory(const struct task_spec *t)
{
	struct sketch_params p;
	uint64_t sum = 0;

	if (t->kinds == TASK_FEATURES)
		return features_size(t);
	sketch_params_default(&p, t);
	for (unsigned int k = 0; k < SKETCH_KINDS; k++) {
		uint32_t n = t->window_ms && k != SKETCH_EXACT ? TASK_CLOSED + 1
							       : 1;

		if (t->kinds >> k & 1)
			sum += n * sketch_size((enum sketch_kind)k, &p);
	}
	return sum;
}

struct filter task_mirror(const struct task_spec *t)
{
	struct filter f = t->filter;

	f.dir = f.dir == PACKET_IN ? PACKET_OUT : PACKET_IN;
	f.has_src = t->filter.has_dst;
	f.has_dst = t->filter.has_src;
	f.src = t->filter.dst;
	f.dst = t->filter.src;
	return f;
}

uint32_t task_dirs(const struct task_spec *t)
{
	return t->both ? (1u << PACKET_DIRS) - 1 : 1u << t->filter.dir;
}

bool task_equal(const struct task_spec *a, const struct task_spec *b)
{
	return !memcmp(a, b, sizeof(*a));
}

struct totals totals_since(const struct totals *now, const struct totals *then)
{
	return (struct totals){
		.items = now->items - then->items,
		.weight = now->weight - then->weight,
		.pkt = now->pkt - then->pkt,
		.segment = now->segment - then->segment,
		.byte = now->byte - then->byte,
		.hidden_byte = now->hidden_byte - then->hidden_byte,
		.super = now->super - then->super,
		.fragment = now->fragment - then->fragment,
		.unkeyed_pkt = now->unkeyed_pkt - then->unkeyed_pkt,
		.unkeyed_byte = now->unkeyed_byte - then->unkeyed_byte,
	};
}

void totals_add(struct totals *acc, const struct totals *in, bool *saturated)
{
	acc->items = u64_add_sat(acc->items, in->items, saturated);
	acc->weight = u64_add_sat(acc->weight, in->weight, saturated);
	acc->pkt = u64_add_sat(acc->pkt, in->pkt, saturated);
	acc->segment = u64_add_sat(acc->segment, in->segment, saturated);
	acc->byte = u64_add_sat(acc->byte, in->byte, saturated);
	acc->hidden_byte =
		u64_add_sat(acc->hidden_byte, in->hidden_byte, saturated);
	acc->super = u64_add_sat(acc->super, in->super, saturated);
	acc->fragment = u64_add_sat(acc->fragment, in->fragment, saturated);
	acc->unkeyed_pkt =
		u64_add_sat(acc->unkeyed_pkt, in->unkeyed_pkt, saturated);
	acc->unkeyed_byte =
		u64_add_sat(acc->unkeyed_byte, in->unkeyed_byte, saturated);
}
static_assert(sizeof(struct totals) == 10 * sizeof(uint64_t), "a line each");
