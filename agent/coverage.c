/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coverage: counts of hosts, why others are missing, what was not counted.
 * Parents add up what their children say; every sum is checked, and what a
 * child says is checked before it is added.  Digests are added modulo 2^64, so
 * that a host that was counted twice shows.  Plain values, nothing owned.
 */
#include "agent/coverage.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/hash.h"
#include "common/util.h"

#define HOSTS_MAX  (1u << 20)
#define VOLUME_MAX ((uint64_t)1 << 63)
#define WALL_MAX   ((uint64_t)1 << 48)
#define HOPS_MAX   16

static const char *const names[] = {
	[MISSING_NONE] = "none",
	[MISSING_TIMEOUT] = "timeout",
	[MISSING_UNREACHABLE] = "unreachable",
	[MISSING_BEHIND] = "behind",
	[MISSING_MONITOR_DOWN] = "monitor_down",
	[MISSING_UNKNOWN_TASK] = "unknown_task",
	[MISSING_INCOMPATIBLE] = "incompatible",
	[MISSING_REJECTED] = "rejected",
	[MISSING_DENIED] = "denied",
	[MISSING_MOVED] = "moved",
	[MISSING_LOOP] = "loop",
	[MISSING_PARTIAL] = "partial",
	[MISSING_BUSY] = "busy",
	[MISSING_NO_WINDOW] = "no_window",
};
static_assert(ARRAY_SIZE(names) == MISSING_REASONS, "a name each");

const char *missing_reason_name(enum missing_reason r)
{
	assert(r < MISSING_REASONS);
	return names[r];
}

int missing_reason_parse(const char *s, enum missing_reason *out)
{
	for (unsigned i = MISSING_NONE + 1; i < MISSING_REASONS; i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = (enum missing_reason)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool node_id_equal(const struct node_id *a, const struct node_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

void node_id_format(const struct node_id *id, char out[33])
{
	hex_encode(id->b, sizeof(id->b), out);
}

int node_id_parse(const char *s, size_t len, struct node_id *out)
{
	return hex_decode(s, len, out->b, sizeof(out->b));
}

void coverage_key(const char *overlay_name, struct hash_key *out)
{
	struct hash_key key = { { 0 } };
	uint64_t half[2];

	/* the name is no secret: the key only separates overlays */
	for (uint64_t i = 0; i < 2; i++) {
		memset(key.b, (int)i + 1, sizeof(key.b));
		half[i] = siphash24(&key, overlay_name, strlen(overlay_name));
	}
	memcpy(out->b, half, sizeof(out->b));
}

uint64_t coverage_digest_keyed(const struct hash_key *key,
			       const struct node_id *id)
{
	return siphash24(key, id->b, sizeof(id->b));
}

uint64_t coverage_digest(const char *overlay_name, const struct node_id *id)
{
	struct hash_key key;

	coverage_key(overlay_name, &key);
	return coverage_digest_keyed(&key, id);
}

void coverage_answered(struct coverage *c, const char *overlay_name,
		       const struct node_id *self, const struct ctl_loss *loss,
		       uint64_t start_ms, uint64_t end_ms)
{
	memset(c, 0, sizeof(*c));
	c->answered = 1;
	c->digest = coverage_digest(overlay_name, self);
	/* they are not read at one moment: what one host has too many of
	 * does not make up for what another misses */
	c->loss.matched = loss->matched;
	c->loss.received.packets =
		MIN(loss->received.packets, loss->matched.packets);
	c->loss.received.bytes = MIN(loss->received.bytes, loss->matched.bytes);
	c->hosts_missed = loss->matched.packets > loss->received.packets;
	c->start_min_ms = c->start_max_ms = start_ms;
	c->end_min_ms = c->end_max_ms = end_ms;
}

void coverage_missing(struct coverage *c, const struct node_id *id,
		      enum missing_reason r, bool alone)
{
	assert(r > MISSING_NONE && r < MISSING_REASONS);
	if (c->reasons[r] < UINT32_MAX)
		c->reasons[r]++;
	if (c->n_missing == COVERAGE_TOPS)
		return;
	c->missing[c->n_missing].id = *id;
	c->missing[c->n_missing].alone = alone;
	c->missing[c->n_missing++].reason = (uint8_t)r;
}

static uint32_t add32(uint32_t a, uint32_t b, bool *saturated)
{
	uint32_t sum;

	if (!__builtin_add_overflow(a, b, &sum))
		return sum;
	*saturated = true;
	return UINT32_MAX;
}

static void volume_add(struct ctl_volume *acc, const struct ctl_volume *in,
		       bool *saturated)
{
	acc->packets = u64_add_sat(acc->packets, in->packets, saturated);
	acc->bytes = u64_add_sat(acc->bytes, in->bytes, saturated);
}

static void window_merge(struct coverage *acc, const struct coverage *in)
{
	if (!in->answered)
		return;
	if (!acc->answered) {
		acc->start_min_ms = in->start_min_ms;
		acc->start_max_ms = in->start_max_ms;
		acc->end_min_ms = in->end_min_ms;
		acc->end_max_ms = in->end_max_ms;
		return;
	}
	acc->start_min_ms = MIN(acc->start_min_ms, in->start_min_ms);
	acc->start_max_ms = MAX(acc->start_max_ms, in->start_max_ms);
	acc->end_min_ms = MIN(acc->end_min_ms, in->end_min_ms);
	acc->end_max_ms = MAX(acc->end_max_ms, in->end_max_ms);
}

void coverage_merge(struct coverage *acc, const struct coverage *in, bool child)
{
	window_merge(acc, in);
	acc->answered = add32(acc->answered, in->answered, &acc->saturated);
	acc->digest += in->digest;
	for (uint32_t i = 0; i < in->n_missing; i++) {
		if (acc->n_missing == COVERAGE_TOPS)
			break;
		acc->missing[acc->n_missing++] = in->missing[i];
	}
	for (unsigned r = 0; r < MISSING_REASONS; r++)
		acc->reasons[r] =
			add32(acc->reasons[r], in->reasons[r], &acc->saturated);
	volume_add(&acc->loss.matched, &in->loss.matched, &acc->saturated);
	volume_add(&acc->loss.received, &in->loss.received, &acc->saturated);
	acc->hosts_missed =
		add32(acc->hosts_missed, in->hosts_missed, &acc->saturated);
	if (in->clock_err_ms > acc->clock_err_ms) {
		acc->clock_err_ms = in->clock_err_ms;
		acc->clock_id = in->clock_id;
	}
	acc->hops = MAX(acc->hops, in->hops + child);
	if (epoch_compare(&in->epoch_max, &acc->epoch_max) > 0)
		acc->epoch_max = in->epoch_max;
	acc->saturated |= in->saturated;
}

/* ---- wire ---- */

static void put_pair(struct json_out *o, const char *name, uint64_t a,
		     uint64_t b)
{
	json_open(o, name, '[');
	json_put_u64(o, NULL, a);
	json_put_u64(o, NULL, b);
	json_close(o, ']');
}

static uint64_t above(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void put_missing(struct json_out *o, const struct coverage *c)
{
	char id[33];

	json_open(o, "missing", '[');
	for (uint32_t i = 0; i < c->n_missing; i++) {
		node_id_format(&c->missing[i].id, id);
		json_open(o, NULL, '[');
		json_put_str(o, NULL, id);
		json_put_str(o, NULL, names[c->missing[i].reason]);
		if (c->missing[i].alone)
			json_put_bool(o, NULL, true);
		json_close(o, ']');
	}
	json_close(o, ']');
	json_open(o, "reasons", '{');
	for (unsigned r = MISSING_NONE + 1; r < MISSING_REASONS; r++)
		if (c->reasons[r])
			json_put_u64(o, names[r], c->reasons[r]);
	json_close(o, '}');
}

static uint64_t most(uint64_t v, uint64_t max, bool *saturated)
{
	*saturated |= v > max;
	return MIN(v, max);
}

/*
 * What is above the bounds of a reader is at them: a child that says the most
 * there can be must not make what its parent says of all refused.
 */
static struct coverage bounded(const struct coverage *c)
{
	struct ctl_volume *m, *r;
	struct coverage b = *c;

	m = &b.loss.matched;
	r = &b.loss.received;
	m->packets = most(m->packets, VOLUME_MAX, &b.saturated);
	m->bytes = most(m->bytes, VOLUME_MAX, &b.saturated);
	r->packets = most(r->packets, VOLUME_MAX, &b.saturated);
	r->bytes = most(r->bytes, VOLUME_MAX, &b.saturated);
	for (unsigned i = 0; i < MISSING_REASONS; i++)
		b.reasons[i] = MIN(b.reasons[i], HOSTS_MAX);
	b.hops = MIN(b.hops, HOPS_MAX);
	return b;
}

void coverage_encode(struct json_out *o, const char *name,
		     const struct coverage *c)
{
	const struct coverage b = bounded(c);
	const struct ctl_volume *m = &b.loss.matched, *r = &b.loss.received;
	char epoch[EPOCH_TEXT], id[33];

	c = &b;
	json_open(o, name, '{');
	json_put_u64(o, "answered", c->answered);
	json_put_hex(o, "digest", c->digest);
	put_missing(o, c);
	put_pair(o, "matched", m->packets, m->bytes);
	put_pair(o, "received", r->packets, r->bytes);
	put_pair(o, "missed", above(m->packets, r->packets),
		 above(m->bytes, r->bytes));
	json_put_u64(o, "hosts_missed", c->hosts_missed);
	json_open(o, "window", '[');
	json_put_u64(o, NULL, c->start_min_ms);
	json_put_u64(o, NULL, c->start_max_ms);
	json_put_u64(o, NULL, c->end_min_ms);
	json_put_u64(o, NULL, c->end_max_ms);
	json_close(o, ']');
	json_put_u64(o, "clock_err_ms", c->clock_err_ms);
	if (c->clock_err_ms) {
		node_id_format(&c->clock_id, id);
		json_put_str(o, "clock_of", id);
	}
	json_put_u64(o, "hops", c->hops);
	if (!epoch_none(&c->epoch_max)) {
		epoch_format(&c->epoch_max, epoch);
		json_put_str(o, "epoch_max", epoch);
	}
	if (c->saturated)
		json_put_bool(o, "saturated", true);
	json_close(o, '}');
}

static int get_u32(const struct json *obj, const char *name, uint32_t max,
		   uint32_t *out)
{
	uint64_t v;

	if (json_u64(json_get(obj, name), 0, max, &v))
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int get_volume(const struct json *obj, const char *name,
		      struct ctl_volume *out)
{
	const struct json *a = json_get(obj, name);

	if (json_len(a) != 2 || json_type(a) != JSON_ARRAY ||
	    json_u64(json_at(a, 0), 0, VOLUME_MAX, &out->packets) ||
	    json_u64(json_at(a, 1), 0, VOLUME_MAX, &out->bytes))
		return -EINVAL;
	return 0;
}

static int get_missing(const struct json *obj, struct coverage *c)
{
	const struct json *a = json_get(obj, "missing");
	size_t n = json_len(a), len;

	if (json_type(a) != JSON_ARRAY || n > COVERAGE_TOPS)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const struct json *top = json_at(a, i);
		enum missing_reason r;
		const char *s;
		bool alone;

		if (json_type(top) != JSON_ARRAY ||
		    json_len(top) - 2 > 1 || /* 2 or 3 */
		    json_str(json_at(top, 0), 32, &s, &len) ||
		    node_id_parse(s, len, &c->missing[i].id) ||
		    json_str(json_at(top, 1), 32, &s, &len) ||
		    missing_reason_parse(s, &r))
			return -EINVAL;
		c->missing[i].reason = (uint8_t)r;
		c->missing[i].alone = json_len(top) == 3;
		if (c->missing[i].alone &&
		    (json_bool(json_at(top, 2), &alone) || !alone))
			return -EINVAL;
	}
	c->n_missing = (uint32_t)n;
	return 0;
}

/* Every top that is listed must be counted. */
static int get_reasons(const struct json *obj, struct coverage *c)
{
	const struct json *rs = json_get(obj, "reasons"), *v;
	uint32_t listed[MISSING_REASONS] = { 0 };
	enum missing_reason r;
	const char *name;
	uint64_t n;

	if (json_type(rs) != JSON_OBJECT)
		return -EINVAL;
	for (size_t i = 0; (name = json_member(rs, i, &v)); i++) {
		if (missing_reason_parse(name, &r) ||
		    json_u64(v, 1, HOSTS_MAX, &n))
			return -EINVAL;
		c->reasons[r] = (uint32_t)n;
	}
	for (uint32_t i = 0; i < c->n_missing; i++)
		if (++listed[c->missing[i].reason] >
		    c->reasons[c->missing[i].reason])
			return -EINVAL;
	return 0;
}

static int get_window(const struct json *obj, struct coverage *c)
{
	const struct json *a = json_get(obj, "window");

	if (json_type(a) != JSON_ARRAY || json_len(a) != 4 ||
	    json_u64(json_at(a, 0), 0, WALL_MAX, &c->start_min_ms) ||
	    json_u64(json_at(a, 1), c->start_min_ms, WALL_MAX,
		     &c->start_max_ms) ||
	    json_u64(json_at(a, 2), 0, WALL_MAX, &c->end_min_ms) ||
	    json_u64(json_at(a, 3), c->end_min_ms, WALL_MAX, &c->end_max_ms))
		return -EINVAL;
	return 0;
}

/* Absent from those that hold no lease. */
static int get_epoch(const struct json *v, struct epoch *out)
{
	const char *s;
	size_t len;

	if (!v)
		return 0;
	if (json_str(v, EPOCH_TEXT - 1, &s, &len))
		return -EINVAL;
	return epoch_parse(s, out);
}

/* Agents of before do not say it. */
static int get_clock_id(const struct json *v, struct node_id *out)
{
	const char *s;
	size_t len;

	if (!v)
		return 0;
	return json_str(v, 32, &s, &len) || node_id_parse(s, len, out) ? -EINVAL
								       : 0;
}

int coverage_decode(const struct json *v, struct coverage *out)
{
	struct coverage c = { 0 };

	if (json_type(v) != JSON_OBJECT ||
	    get_u32(v, "answered", HOSTS_MAX, &c.answered) ||
	    json_hex(json_get(v, "digest"), &c.digest) || get_missing(v, &c) ||
	    get_reasons(v, &c) || get_volume(v, "matched", &c.loss.matched) ||
	    get_volume(v, "received", &c.loss.received) ||
	    get_u32(v, "hosts_missed", c.answered, &c.hosts_missed) ||
	    get_window(v, &c) ||
	    get_u32(v, "clock_err_ms", UINT32_MAX, &c.clock_err_ms) ||
	    get_clock_id(json_get(v, "clock_of"), &c.clock_id) ||
	    get_u32(v, "hops", HOPS_MAX, &c.hops) ||
	    get_epoch(json_get(v, "epoch_max"), &c.epoch_max))
		return -EINVAL;
	if (json_get(v, "saturated") &&
	    json_bool(json_get(v, "saturated"), &c.saturated))
		return -EINVAL;
	if (c.loss.received.packets > c.loss.matched.packets ||
	    c.loss.received.bytes > c.loss.matched.bytes)
		return -EINVAL;
	if (!c.answered && c.digest)
		return -EINVAL;
	*out = c;
	return 0;
}
