/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting: the second half of a packet's way, after its verdict.  A task's
 * sketches are private memory of this process, promised by the supervisor's
 * budget, touched as keys come; nothing is allocated per packet.  When the
 * reader dies they are gone; the supervisor puts the tasks again, from zero.
 *
 * A replay has no stream that goes on: each task waits for the next pass, and
 * a pass counts for the tasks that waited when it began.
 */
#include "monitor/count.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/util.h"

#define SLOT_MS 100
#define STEP_MS 1000 /* a jump of the wall clock */

void count_init(struct count *c, bool replay)
{
	c->replay = replay;
	random_bytes(&c->local, sizeof(c->local));
	segment_init(&c->segments, &c->local, 0);
}

/* Tasks */

static void task_free(struct count_task *t)
{
	for (int k = 0; k < SKETCH_KINDS; k++) {
		if (t->sketch[k] && (!t->ring || k == SKETCH_EXACT))
			munmap(t->sketch[k], t->size[k]);
	}
	ring_free(t->ring);
	if (t->features)
		munmap(t->features, t->features_size);
	explicit_bzero(t, sizeof(*t));
}

static void *memory_map(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static int features_map(struct count *c, struct count_task *t)
{
	void *mem;

	t->mirror = task_mirror(&t->spec);
	t->features_size = features_size(&t->spec);
	mem = memory_map(t->features_size);
	if (!mem)
		return -ENOMEM;
	t->features = features_init(mem, &t->spec, &c->local, c->replay);
	return 0;
}

static int task_map(struct count *c, struct count_task *t)
{
	struct sketch_params p;

	if (t->spec.kinds == TASK_FEATURES)
		return features_map(c, t);
	if (t->spec.window_ms) {
		t->ring = ring_new(&t->spec, &c->local);
		if (!t->ring)
			return -ENOMEM;
	}
	sketch_params_default(&p, &t->spec);
	for (unsigned int k = 0; k < SKETCH_KINDS; k++) {
		void *mem;

		if (!(t->spec.kinds >> k & 1) || (t->ring && k != SKETCH_EXACT))
			continue;
		t->size[k] = sketch_size((enum sketch_kind)k, &p);
		mem = memory_map(t->size[k]);
		if (!mem)
			return -ENOMEM;
		t->sketch[k] = mem;
		sketch_init((enum sketch_kind)k, mem, &p, &c->local);
	}
	return 0;
}

static void ring_turn(struct count *c, struct count_task *t, bool stepped)
{
	void *const *open;

	ring_clock(t->ring, c->wall_ms, stepped, c->replay, &t->totals,
		   t->saturated);
	open = ring_open(t->ring);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		if (open[k])
			t->sketch[k] = open[k];
	}
}

struct count_task *count_find(struct count *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->task[i].spec.id == id)
			return &c->task[i];
	}
	return NULL;
}

void count_del(struct count *c, uint64_t id)
{
	struct count_task *t = count_find(c, id), *last;

	if (!t)
		return;
	task_free(t);
	last = &c->task[--c->n];
	if (t != last) {
		*t = *last;
		explicit_bzero(last, sizeof(*last));
	}
}

int count_put(struct count *c, const struct task_spec *spec)
{
	struct count_task *t;
	int err;

	count_del(c, spec->id);
	if (c->n == TASKS_MAX)
		return -ENOSPC;
	t = &c->task[c->n];
	*t = (struct count_task){ .spec = *spec };
	err = task_map(c, t);
	if (err) {
		task_free(t);
		return err;
	}
	c->n++;
	t->base = c->received[spec->filter.dir];
	if (!c->replay) {
		uint64_t now_ms = clock_wall_ms();

		t->state = COUNT_ACTIVE;
		t->began_ms = now_ms;
		t->slot_first = now_ms / SLOT_MS + 1;
		if (t->features)
			features_clock(t->features, now_ms, clock_mono_ms());
		c->wall_ms = now_ms;
		if (t->ring)
			ring_turn(c, t, false);
	}
	return 0;
}

/* Time */

/* The 100-ms table would be wrong for hours: it begins anew. */
static void task_clock_stepped(struct count *c, struct count_task *t)
{
	struct sketch_params p;
	void *mem = t->sketch[SKETCH_EXACT];

	t->slot_first = c->wall_ms / SLOT_MS + 1;
	if (!mem)
		return;
	sketch_params_default(&p, &t->spec);
	if (madvise(mem, t->size[SKETCH_EXACT], MADV_DONTNEED) < 0)
		memset(mem, 0, t->size[SKETCH_EXACT]);
	sketch_init(SKETCH_EXACT, mem, &p, &c->local);
}

static void count_windows(struct count *c, uint64_t wall_ms, uint64_t mono_ms)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct count_task *t = &c->task[i];

		if (t->features && t->state == COUNT_ACTIVE)
			features_clock(t->features, wall_ms, mono_ms);
	}
}

bool count_turn(struct count *c)
{
	bool more = false;

	for (uint32_t i = 0; i < c->n && !more; i++) {
		if (c->task[i].features)
			more = features_turn(c->task[i].features);
	}
	return more;
}

bool count_clock(struct count *c, uint64_t wall_ms)
{
	uint64_t mono_ms = c->replay ? wall_ms : clock_mono_ms();
	int64_t offset_ms, before_ms = c->wall_offset_ms;
	bool stepped = false;

	c->wall_ms = wall_ms;
	count_windows(c, wall_ms, mono_ms);
	if (!c->replay) {
		offset_ms = (int64_t)(wall_ms - mono_ms);
		stepped = before_ms && llabs(offset_ms - before_ms) > STEP_MS;
		c->wall_offset_ms = offset_ms;
	}
	if (stepped) {
		c->slot = 0;
		for (uint32_t i = 0; i < c->n; i++)
			task_clock_stepped(c, &c->task[i]);
	}
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->task[i].ring && c->task[i].state == COUNT_ACTIVE)
			ring_turn(c, &c->task[i], stepped);
	}
	c->slot = MAX(c->slot, wall_ms / SLOT_MS);
	return stepped;
}

/* Packets */

static void task_unkeyed(struct count_task *t, const struct packet *p)
{
	struct totals *s = &t->totals;

	s->unkeyed_pkt = u64_add_sat(s->unkeyed_pkt, 1, &t->saturated);
	s->unkeyed_byte =
		u64_add_sat(s->unkeyed_byte, p->len_bytes, &t->saturated);
}

static void task_total(struct count_task *t, const struct packet *p,
		       uint64_t weight)
{
	struct totals *s = &t->totals;
	bool *sat = &t->saturated;

	s->items++;
	s->weight = u64_add_sat(s->weight, weight, sat);
	s->pkt = u64_add_sat(s->pkt, 1, sat);
	s->segment = u64_add_sat(s->segment, p->segments, sat);
	s->byte = u64_add_sat(s->byte, p->len_bytes, sat);
	s->hidden_byte =
		u64_add_sat(s->hidden_byte, segment_hidden_bytes(p), sat);
	s->super += (p->flags & PACKET_GSO) != 0;
	s->fragment += (p->flags & PACKET_FRAGMENT) != 0;
}

static void task_features(struct count *c, struct count_task *t,
			  const struct packet *p)
{
	if (p->flags & PACKET_MALFORMED) {
		task_unkeyed(t, p);
		return;
	}
	task_total(t, p, p->segments);
	features_packet(t->features, p, c->uplink[p->family == 6]);
}

static void task_count(struct count *c, struct count_task *t,
		       const struct packet *p)
{
	enum key_type key = (enum key_type)t->spec.key;
	struct sketch_item it = {
		.weight =
			increment_weight((enum increment)t->spec.increment, p),
		.slot = c->slot,
	};

	if (!t->began_ms) {
		t->began_ms = c->wall_ms;
		t->slot_first = c->slot;
	}
	if (t->features) {
		task_features(c, t, p);
		return;
	}
	if (!key_build(key, p, &it.key)) {
		task_unkeyed(t, p);
		return;
	}
	task_total(t, p, it.weight);
	if (!t->spec.kinds)
		return;
	it.hash = hash_domain(&t->spec.seed, &it.key, key_len(key), HASH_KEY);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		if (t->sketch[k])
			sketch_update(t->sketch[k], &it);
	}
}

static bool task_wants(const struct count_task *t, const struct packet *p)
{
	return filter_match(&t->spec.filter, p) ||
	       (t->spec.both && filter_match(&t->mirror, p));
}

void count_packet(struct count *c, struct packet *p)
{
	c->received[p->dir].packets++;
	c->received[p->dir].bytes += p->len_bytes;
	segment_estimate(&c->segments, p);
	for (uint32_t i = 0; i < c->n; i++) {
		struct count_task *t = &c->task[i];

		if (t->state == COUNT_ACTIVE && task_wants(t, p))
			task_count(c, t, p);
	}
}

/* Passes */

bool count_waiting(const struct count *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->task[i].state == COUNT_WAITING)
			return true;
	}
	return false;
}

void count_pass_begin(struct count *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct count_task *t = &c->task[i];

		if (t->state != COUNT_WAITING)
			continue;
		t->state = COUNT_ACTIVE;
		t->base = c->received[t->spec.filter.dir];
	}
	c->slot = 0;
	segment_init(&c->segments, &c->local, 0);
}

void count_pass_end(struct count *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct count_task *t = &c->task[i];

		if (t->state != COUNT_ACTIVE)
			continue;
		t->state = COUNT_REPLAYED;
		t->end = c->received[t->spec.filter.dir];
		t->end_ms = c->wall_ms;
		/* the last slot is as full as it gets: closed */
		t->end_slot = c->slot + 1;
		if (t->features)
			features_end(t->features);
		if (t->ring)
			ring_end(t->ring, &t->totals, t->saturated);
	}
}

/* Answers */

struct ctl_volume count_received(const struct count *c,
				 const struct count_task *t)
{
	const struct ctl_volume *now =
		t->state == COUNT_REPLAYED ? &t->end
					   : &c->received[t->spec.filter.dir];

	return (struct ctl_volume){
		.packets = now->packets - t->base.packets,
		.bytes = now->bytes - t->base.bytes,
	};
}

void count_describe(const struct count *c, const struct count_task *t,
		    struct ctl_image *out)
{
	bool replayed = t->state == COUNT_REPLAYED;

	out->id = t->spec.id;
	out->generation = t->spec.generation;
	out->began_ms = t->began_ms;
	out->now_ms = replayed ? t->end_ms : c->wall_ms;
	out->slot_now = replayed ? t->end_slot : c->slot;
	out->slot_first = t->slot_first;
	out->saturated = t->saturated;
	out->totals = t->totals;
}

void count_describe_window(const struct count_task *t,
			   const struct ring_window *w, struct ctl_image *out)
{
	out->id = t->spec.id;
	out->generation = t->spec.generation;
	out->began_ms = w->number * t->spec.window_ms;
	out->now_ms = out->began_ms + t->spec.window_ms;
	out->saturated = w->saturated;
	out->totals = w->totals;
}
