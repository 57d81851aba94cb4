/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows of features: time, merging, bounds, what stays readable; random
 * traffic against a plain list of records.
 */
#include <errno.h>
#include <stdio.h>

#include "common/sketch/features_private.h"
#include "tests/unit/features_case.h"
#include "tests/unit/seed.h"

static uint64_t rnd;

static struct features *begin(void)
{
	struct task_spec t = case_task();

	return case_begin(&t);
}

static struct features *begin_small(void)
{
	struct task_spec t = case_task();

	t.records_log2 = 8;
	return case_begin(&t);
}

static void one_packet(struct features *f)
{
	case_count(f, case_packet(PACKET_IN, "9.9.9.9", 17, 1, 2));
}

static int window_error(const struct features *f, uint64_t k)
{
	const struct features_row *row;
	const struct features_flows *flows;
	size_t len;

	return features_window(f, k, &row, &flows, &len);
}

/* Time */

static void test_timer(void **state)
{
	struct features *f = begin();

	(void)state;
	one_packet(f);
	case_time(f, WINDOW_MS - 1);
	one_packet(f);
	case_finish(f);
	assert_int_equal(window_error(f, FIRST), -EAGAIN);
	assert_int_equal(window_error(f, FIRST - 1), -ENOENT);
	case_time(f, WINDOW_MS);
	assert_int_equal(window_error(f, FIRST), -EAGAIN);
	one_packet(f); /* the next window's */
	case_finish(f);
	assert_int_equal(case_row(f, FIRST)->records, 1);
	assert_int_equal(case_flows(f, FIRST)->flow[0].packets, 2);
	assert_int_equal(case_row(f, FIRST)->quality, 0);
	/* without a packet: rows of zeros, five stay */
	for (uint64_t k = 2; k <= 7; k++) {
		case_time(f, k * WINDOW_MS + 90);
		assert_int_equal(window_error(f, FIRST + k - 1), -EAGAIN);
		case_finish(f);
		assert_int_equal(case_row(f, FIRST + k - 1)->quality, 0);
		assert_int_equal(case_row(f, FIRST + k - 1)->records, k == 2);
	}
	assert_int_equal(window_error(f, FIRST), -ENOENT);
	assert_int_equal(case_row(f, FIRST + 2)->records, 0);
	assert_int_equal(window_error(f, FIRST + 7), -EAGAIN);
	free(f);
}

static struct features *begin_at(uint64_t ms)
{
	struct task_spec t = case_task();
	struct features *f;
	void *mem = aligned_alloc(64, features_size(&t));

	assert_non_null(mem);
	memset(mem, 0, features_size(&t));
	f = features_init(mem, &t, &case_local, false);
	case_time(f, ms);
	return f;
}

static void test_partial(void **state)
{
	struct features *f = begin_at(1);

	(void)state;
	case_time(f, WINDOW_MS);
	case_time(f, 2 * WINDOW_MS);
	case_finish(f);
	assert_int_equal(case_row(f, FIRST)->quality, FEATURES_PARTIAL);
	assert_int_equal(case_row(f, FIRST + 1)->quality, 0);
	/* nobody looked for a while: a gap, and a window that began late */
	one_packet(f);
	case_time(f, 4 * WINDOW_MS + 20000);
	one_packet(f);
	case_time(f, 5 * WINDOW_MS);
	case_finish(f);
	assert_int_equal(case_row(f, FIRST + 4)->count[H_FLOWS_IN_NEW], 1);
	assert_int_equal(case_row(f, FIRST + 2)->quality, 0);
	assert_int_equal(window_error(f, FIRST + 3), -ENOENT);
	assert_int_equal(case_row(f, FIRST + 4)->quality, FEATURES_PARTIAL);
	free(f);
}

/* The clock is set by step_ms after mono_ms: flags of the window then open. */
static uint32_t step_quality(uint64_t mono_ms, int64_t step_ms, uint64_t *next,
			     uint32_t *next_quality)
{
	struct features *f = begin();
	uint64_t wall, end;
	uint32_t q;

	case_time(f, mono_ms);
	wall = BEGIN_MS + mono_ms + (uint64_t)step_ms;
	features_clock(f, wall, MONO_MS + mono_ms);
	*next = wall / WINDOW_MS;
	end = (*next + 1) * WINDOW_MS - wall;
	features_clock(f, wall + end, MONO_MS + mono_ms + end);
	case_finish(f);
	q = case_row(f, FIRST)->quality;
	*next_quality = case_row(f, *next)->quality;
	free(f);
	return q;
}

static void test_clock_steps(void **state)
{
	static const struct {
		uint64_t at_ms;
		int64_t step_ms;
		uint32_t quality, next_quality;
		int64_t next; /* interval, from FIRST */
	} cases[] = {
		/* a day, an hour, both ways; into the middle of a window */
		{ 30000, 86400000, FEATURES_CLOCK, FEATURES_PARTIAL, 1440 },
		{ 30000, -86400000, FEATURES_CLOCK, FEATURES_PARTIAL, -1440 },
		{ 1000, 3600000, FEATURES_CLOCK, 0, 60 },
		{ 50000, -3600000, FEATURES_CLOCK, FEATURES_PARTIAL, -60 },
		/* within the window: its length says it */
		{ 30000, -10000, FEATURES_CLOCK, FEATURES_CLOCK, 0 },
		{ 30000, 10000, FEATURES_CLOCK, FEATURES_CLOCK, 0 },
		/* a slew, a leap second: less than a tenth */
		{ 30000, -4000, 0, 0, 0 },
		{ 30000, 1000, 0, 0, 0 },
		{ 59500, 1000, 0, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t next_quality;
		uint64_t next;
		uint32_t q = step_quality(cases[i].at_ms, cases[i].step_ms,
					  &next, &next_quality);

		assert_int_equal(q, cases[i].quality);
		assert_int_equal(next_quality, cases[i].next_quality);
		assert_int_equal(next, FIRST + (uint64_t)cases[i].next);
	}
}

/* An interval that comes twice: the newer one is read. */
static void test_interval_again(void **state)
{
	struct features *f = begin();
	uint64_t mono = MONO_MS;

	(void)state;
	one_packet(f);
	mono += WINDOW_MS;
	features_clock(f, BEGIN_MS + WINDOW_MS, mono);
	features_clock(f, BEGIN_MS + 30000, mono); /* set back */
	mono += 30000;
	features_clock(f, BEGIN_MS + WINDOW_MS, mono);
	case_finish(f);
	assert_int_equal(case_row(f, FIRST)->records, 0);
	assert_int_equal(case_row(f, FIRST)->quality, FEATURES_PARTIAL);
	free(f);
}

static void test_replay(void **state)
{
	struct task_spec t = case_task();
	void *mem = aligned_alloc(64, features_size(&t));
	struct features *f;

	(void)state;
	assert_non_null(mem);
	memset(mem, 0, features_size(&t));
	f = features_init(mem, &t, &case_local, true);
	one_packet(f); /* before any time: nothing */
	features_clock(f, BEGIN_MS + 5, 0);
	one_packet(f);
	features_clock(f, BEGIN_MS + WINDOW_MS, 0);
	features_clock(f, BEGIN_MS, 0); /* out of order: stays */
	one_packet(f);
	features_clock(f, BEGIN_MS + 4 * WINDOW_MS + 30000, 0);
	one_packet(f);
	features_end(f);
	assert_int_equal(case_row(f, FIRST)->quality, FEATURES_PARTIAL);
	assert_int_equal(case_row(f, FIRST + 1)->quality, 0);
	assert_int_equal(case_row(f, FIRST + 1)->records, 1);
	assert_int_equal(case_row(f, FIRST + 2)->records, 0);
	assert_int_equal(case_row(f, FIRST + 2)->quality, 0);
	assert_int_equal(case_row(f, FIRST + 3)->records, 0);
	assert_int_equal(case_row(f, FIRST + 4)->quality, FEATURES_PARTIAL);
	assert_int_equal(case_row(f, FIRST + 4)->records, 1);
	assert_int_equal(window_error(f, FIRST + 5), -ENOENT);
	/* a window is whole although its first packet came late */
	features_clock(f, BEGIN_MS + 7 * WINDOW_MS, 0);
	features_clock(f, BEGIN_MS + 8 * WINDOW_MS + 30000, 0);
	features_clock(f, BEGIN_MS + 9 * WINDOW_MS, 0);
	case_finish(f);
	assert_int_equal(case_row(f, FIRST + 8)->quality, 0);
	/* years without a packet end, too */
	features_clock(f, BEGIN_MS * 2, 0);
	features_end(f);
	assert_int_equal(case_row(f, 2 * FIRST - 4)->records, 0);
	assert_int_equal(window_error(f, FIRST + 9), -ENOENT);
	free(f);
}

/* Tables are emptied by number, and the numbers come again. */
static void test_many_windows(void **state)
{
	struct features *f = begin_small();

	(void)state;
	for (uint64_t k = 1; k <= 600; k++) {
		const struct features_row *row;

		/* some flows of the window before, and some others */
		for (uint16_t i = 0; i < 100; i++)
			case_count(f,
				   case_packet(PACKET_OUT, "9.9.9.9", 17,
					       (uint16_t)(k % 3 * 50 + i), 9));
		case_time(f, k * WINDOW_MS);
		case_finish(f);
		row = case_row(f, FIRST + k - 1);
		assert_int_equal(row->records, 100);
		assert_int_equal(row->overflow, 0);
		assert_int_equal(row->count[H_FLOWS_OUT_NEW], k == 1  ? 100
							      : k % 3 ? 50
								      : 100);
	}
	free(f);
}

/* Random traffic, and the same in a plain list */

#define PEERS   40
#define RECORDS 8192

struct record {
	struct flow_key key;
	uint8_t dir, proto;
	uint8_t flags, tos, interface;
	struct packet first;
	uint64_t packets, bytes;
};

struct oracle {
	uint32_t n;
	struct record record[RECORDS];
};

static struct packet random_packet(void)
{
	static const uint8_t protos[] = { 6, 6, 17, 1, 58, 47, 2 };
	static const uint16_t ports[] = { 0, 22, 53, 443, 1023, 1024, 40000 };
	uint8_t proto = protos[seed_below(&rnd, ARRAY_SIZE(protos))];
	enum packet_dir dir = (enum packet_dir)seed_below(&rnd, 2);
	bool v6 = proto == 58 || (proto != 1 && seed_below(&rnd, 4) == 0);
	uint16_t lport = 0, rport = 0;
	struct packet p;
	char peer[32];

	snprintf(peer, sizeof(peer), v6 ? "2001:db8::%u" : "10.1.0.%u",
		 1 + seed_below(&rnd, PEERS));
	if (proto == 6 || proto == 17) {
		lport = ports[seed_below(&rnd, ARRAY_SIZE(ports))];
		rport = ports[seed_below(&rnd, ARRAY_SIZE(ports))];
	}
	p = case_packet(dir, peer, proto, lport, rport);
	if (proto == 6) {
		p.flags |= PACKET_TCP;
		p.tcp_flags = (uint8_t)seed_below(&rnd, 64);
		p.tcp_seq = seed_below(&rnd, 5000);
	}
	p.tos = seed_below(&rnd, 3) ? 0 : 192;
	p.len_bytes = 40 + seed_below(&rnd, 1400);
	p.ifindex = seed_below(&rnd, 3) ? UPLINK : 3;
	return p;
}

static struct record *oracle_find(struct oracle *o, const struct packet *p)
{
	struct flow_key key;
	struct record *r;

	assert_true(key_build(KEY_FLOW, p, &key));
	for (uint32_t i = 0; i < o->n; i++) {
		r = &o->record[i];
		if (r->dir == p->dir && !memcmp(&r->key, &key, sizeof(key)))
			return r;
	}
	assert_true(o->n < RECORDS);
	r = &o->record[o->n++];
	*r = (struct record){ .key = key, .dir = p->dir, .first = *p };
	return r;
}

static void oracle_count(struct oracle *o, const struct packet *p)
{
	struct record *r = oracle_find(o, p);

	r->packets++;
	r->bytes += p->len_bytes;
	r->flags |= p->tcp_flags;
}

static uint64_t is_private(const struct ip_addr *a)
{
	return addr_is_v4(a) || a->b[0] == 0xfd ? FEATURE_PRIVATE
						: FEATURE_PUBLIC;
}

static void oracle_match(struct oracle *o, const struct record *r,
			 struct feature_set *set)
{
	const struct packet *p = &r->first;
	bool icmp = p->proto == 1 || p->proto == 58, in = p->dir == PACKET_IN;
	struct packet back = *p;
	struct feature_record f = { 0 };
	const struct record *b = NULL;
	struct flow_key key;

	back.src = p->dst;
	back.dst = p->src;
	back.sport = p->dport;
	back.dport = p->sport;
	(void)key_build(KEY_FLOW, &back, &key);
	for (uint32_t i = 0; i < o->n; i++) {
		if (o->record[i].dir != p->dir &&
		    !memcmp(&o->record[i].key, &key, sizeof(key)))
			b = &o->record[i];
	}
	feature_record_set(&f, FEATURE_SRC_IP, (int64_t)is_private(&p->src));
	feature_record_set(&f, FEATURE_DST_IP, (int64_t)is_private(&p->dst));
	feature_record_set(&f, FEATURE_SRC_PORT, p->sport);
	if (!icmp)
		feature_record_set(&f, FEATURE_DST_PORT, p->dport);
	feature_record_set(&f, FEATURE_PROTOCOL, icmp ? 1 : p->proto);
	feature_record_set(&f, FEATURE_TCP_FLAGS, r->flags);
	feature_record_set(&f, FEATURE_SRC_TOS, p->tos);
	feature_record_set(&f, FEATURE_IN_PACKETS, (int64_t)r->packets);
	feature_record_set(&f, FEATURE_IN_BYTES, (int64_t)r->bytes);
	feature_record_set(&f, FEATURE_OUT_PACKETS,
			   b ? (int64_t)b->packets : 0);
	feature_record_set(&f, FEATURE_OUT_BYTES, b ? (int64_t)b->bytes : 0);
	feature_record_set(&f, FEATURE_IN_INTERFACE,
			   !in                    ? 65535
			   : p->ifindex == UPLINK ? 2
						  : 3);
	feature_record_set(&f, FEATURE_OUT_INTERFACE,
			   in                     ? 65535
			   : p->ifindex == UPLINK ? 2
						  : 3);
	features_match(&f, set);
}

static void test_oracle(void **state)
{
	struct oracle *o = malloc(sizeof(*o));

	(void)state;
	assert_non_null(o);
	for (int round = 0; round < 20; round++) {
		uint32_t packets = 1 + seed_below(&rnd, 4000);
		uint64_t want[FEATURES_COMPAT] = { 0 };
		struct features *f = begin();
		const struct features_row *row;

		o->n = 0;
		for (uint32_t i = 0; i < packets; i++) {
			struct packet p = random_packet();

			oracle_count(o, &p);
			case_count(f, p);
		}
		for (uint32_t i = 0; i < o->n; i++) {
			struct feature_set set = { { 0 } };

			oracle_match(o, &o->record[i], &set);
			for (unsigned int k = 0; k < FEATURES_COMPAT; k++)
				want[k] += feature_set_has(&set, k);
		}
		row = case_close(f);
		assert_int_equal(row->records, o->n);
		assert_int_equal(row->overflow, 0);
		for (unsigned int k = 0; k < FEATURES_COMPAT; k++)
			assert_int_equal(row->count[k], want[k]);
		free(f);
	}
	free(o);
}

/* All flows kept: their lists add up to the counters. */
static void test_flows_add_up(void **state)
{
	struct features *f = begin();
	const struct features_row *row;
	const struct features_flows *flows;
	uint64_t sum[FEATURES] = { 0 }, bytes = 0;

	(void)state;
	for (int i = 0; i < 3000; i++)
		case_count(f, random_packet());
	row = case_close(f);
	flows = case_flows(f, FIRST);
	assert_int_equal(flows->n, row->records);
	assert_int_equal(flows->records, row->records);
	assert_int_equal(flows->interval, FIRST);
	for (uint32_t i = 0; i < flows->n; i++) {
		bytes += flows->flow[i].bytes;
		for (unsigned int k = 0; k < FEATURES; k++)
			sum[k] += feature_set_has(&flows->flow[i].matched, k);
	}
	assert_int_equal(bytes,
			 row->count[H_BYTES_IN] + row->count[H_BYTES_OUT]);
	for (unsigned int k = 0; k < FEATURES; k++) {
		enum feature_rule rule = feature_get(k)->rule;

		/* counted by packets: only who has any is marked */
		if (rule == FEATURE_COUNT || k == H_BYTES_IN ||
		    k == H_BYTES_OUT)
			assert_true(sum[k] <= row->count[k]);
		else if (feature_get(k)->merge == FEATURE_SUM)
			assert_int_equal(sum[k], row->count[k]);
		else
			assert_int_equal(sum[k], 0);
	}
	free(f);
}

/* Merging */

static bool of_second(const struct packet *p)
{
	const struct ip_addr *peer = p->dir == PACKET_IN ? &p->src : &p->dst;

	return peer->b[15] & 1;
}

/* Everything but who came, which ends at the half of one part. */
static void same_rows(const struct features_row *a,
		      const struct features_row *b)
{
	for (unsigned int i = 0; i < FEATURES; i++) {
		if (i == H_HALF_OPEN_PEAK)
			assert_true(a->count[i] <= b->count[i]);
		else if (i != H_SERVED_PORTS_NEW)
			assert_int_equal(a->count[i], b->count[i]);
	}
	assert_memory_equal(&a->parts, &b->parts, sizeof(a->parts));
	assert_memory_equal(a->ports, b->ports, sizeof(a->ports));
	assert_memory_equal(a->hll, b->hll, sizeof(a->hll));
	assert_int_equal(a->records, b->records);
}

static void test_merge(void **state)
{
	static struct features_row ab, ba, zero;

	(void)state;
	for (int round = 0; round < 20; round++) {
		struct features *a = begin(), *b = begin(), *all = begin();
		struct features *none = begin();
		const struct features_row *ra, *rb;
		uint32_t packets = seed_below(&rnd, 3000);

		for (uint32_t i = 0; i < packets; i++) {
			struct packet p = random_packet();

			case_count(all, p);
			case_count(of_second(&p) ? b : a, p);
		}
		ra = case_close(a);
		rb = case_close(b);
		ab = *ra;
		assert_int_equal(features_row_merge(&ab, rb), 0);
		ba = *rb;
		assert_int_equal(features_row_merge(&ba, ra), 0);
		assert_memory_equal(&ab, &ba, sizeof(ab));
		same_rows(&ab, case_close(all));
		assert_int_equal(ab.readers, 2);
		/* what is empty changes nothing */
		zero = *case_close(none);
		assert_int_equal(features_row_merge(&zero, &ab), 0);
		zero.readers = ab.readers;
		assert_memory_equal(&zero, &ab, sizeof(ab));
		free(a);
		free(b);
		free(all);
		free(none);
	}
}

/* A flow in both counts twice and no more. */
static void test_merge_of_one_flow(void **state)
{
	struct features *a = begin(), *b = begin();
	static struct features_row acc;

	(void)state;
	one_packet(a);
	one_packet(b);
	acc = *case_close(a);
	assert_int_equal(features_row_merge(&acc, case_close(b)), 0);
	assert_int_equal(acc.records, 2);
	assert_int_equal(case_value(&acc, "protocol_udp"), 2);
	assert_int_equal(case_value(&acc, "h_src_ips_in"), 1);
	assert_int_equal(case_value(&acc, "h_max_flows_per_peer"), 1);
	free(a);
	free(b);
}

static void test_refusals(void **state)
{
	static struct features_row acc, in, before;
	struct features *f = begin();

	(void)state;
	one_packet(f);
	acc = *case_close(f);
	before = acc;
#define REFUSED(change, why)                                          \
	do {                                                          \
		in = before;                                          \
		in.change;                                            \
		assert_int_equal(features_row_merge(&acc, &in), why); \
		assert_memory_equal(&acc, &before, sizeof(acc));      \
	} while (0)
	REFUSED(schema ^= 1, FEATURES_OTHER_SCHEMA);
	REFUSED(window_s = 10, FEATURES_OTHER_SCHEMA);
	REFUSED(fp ^= 1, FEATURES_OTHER_SEED);
	REFUSED(interval++, FEATURES_OTHER_INTERVAL);
#undef REFUSED
	free(f);
}

static void test_checks(void **state)
{
	static struct features_row row;
	struct task_spec t = case_task(), other = t;
	struct features *f = begin();
	const struct features_flows *list;
	struct features_flows *copy;
	size_t len;

	(void)state;
	one_packet(f);
	row = *case_close(f);
	assert_int_equal(features_row_check(&row, sizeof(row), &t), 0);
	assert_int_equal(features_row_check(&row, sizeof(row) - 1, &t),
			 -EINVAL);
	other.window_ms = 10000;
	assert_int_equal(features_row_check(&row, sizeof(row), &other),
			 -EINVAL);
	other = t;
	other.seed.b[0] ^= 1;
	assert_int_equal(features_row_check(&row, sizeof(row), &other),
			 -EINVAL);
	other = t;
	other.semantics = FEATURES_NETFLOW;
	assert_int_equal(features_row_check(&row, sizeof(row), &other),
			 -EINVAL);
	row.hll[4][17] = 54;
	assert_int_equal(features_row_check(&row, sizeof(row), &t), -EINVAL);
	row.hll[4][17] = 53;
	assert_int_equal(features_row_check(&row, sizeof(row), &t), 0);
	row.quality = 16;
	assert_int_equal(features_row_check(&row, sizeof(row), &t), -EINVAL);

	list = case_flows(f, FIRST);
	assert_int_equal(list->n, 1);
	len = sizeof(*list) + sizeof(list->flow[0]);
	copy = malloc(len);
	assert_non_null(copy);
	memcpy(copy, list, len);
	assert_int_equal(features_flows_check(copy, len), 0);
	assert_int_equal(features_flows_check(copy, len - 1), -EINVAL);
	copy->flow[0].dir = PACKET_DIRS;
	assert_int_equal(features_flows_check(copy, len), -EINVAL);
	copy->n = 0;
	assert_int_equal(features_flows_check(copy, len), -EINVAL);
	copy->n = UINT32_MAX;
	assert_int_equal(features_flows_check(copy, len), -EINVAL);
	free(copy);
	free(f);
}

static void test_loss(void **state)
{
	static const struct {
		uint64_t matched, missed;
		uint32_t readers, quality;
	} cases[] = {
		{ 0, 0, 1, 0 },
		{ 100, 1, 1, 0 },
		{ 99, 1, 1, FEATURES_MISSED },
		{ 1000, 11, 1, FEATURES_MISSED },
		{ 1000, 0, 2, FEATURES_PARTIAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		static struct features_row row;

		row = (struct features_row){ .readers = 1 };
		features_row_loss(&row, cases[i].matched, cases[i].missed,
				  cases[i].readers);
		assert_int_equal(row.quality, cases[i].quality);
		assert_int_equal(row.missed_packets, cases[i].missed);
		assert_int_equal(row.matched_packets, cases[i].matched);
	}
}

/* Bounds */

static struct packet flow(uint32_t i)
{
	char peer[16];
	struct packet p;

	snprintf(peer, sizeof(peer), "10.%u.%u.%u", i >> 16, i >> 8 & 255,
		 i & 255);
	p = case_tcp(PACKET_IN, peer, 80, 1000, 2);
	p.len_bytes = 40 + i % 1000;
	return p;
}

static void test_overflow(void **state)
{
	struct features *small = begin_small(), *large = begin();
	const struct features_row *s, *l;

	(void)state;
	/* 256 records have room; a reply is one, too */
	for (uint32_t i = 0; i < 300; i++) {
		case_count(small, flow(i));
		case_count(large, flow(i));
	}
	for (uint32_t i = 0; i < 256; i++) {
		case_count(small, flow(i));
		case_count(large, flow(i));
	}
	s = case_close(small);
	l = case_close(large);
	assert_int_equal(s->overflow, 44);
	assert_int_equal(l->overflow, 0);
	assert_int_equal(s->quality, FEATURES_OVERFLOW);
	assert_int_equal(s->records, 300);
	for (unsigned int i = 0; i < FEATURES; i++) {
		if (i != H_HALF_OPEN_PEAK && i != H_MAX_FLOWS_PER_PEER)
			assert_int_equal(s->count[i], l->count[i]);
	}
	assert_int_equal(s->count[H_HALF_OPEN_PEAK], 257);
	assert_memory_equal(s->hll, l->hll, sizeof(s->hll));
	assert_int_equal(case_flows(small, FIRST)->n, 256);
	/* the next window has room again */
	for (uint32_t i = 300; i < 556; i++)
		case_count(small, flow(i));
	case_time(small, 2 * WINDOW_MS);
	case_finish(small);
	assert_int_equal(case_row(small, FIRST + 1)->overflow, 0);
	assert_int_equal(case_row(small, FIRST + 1)->quality, 0);
	/* a reply finds no room in a table full of requests */
	for (uint32_t i = 0; i < 256; i++)
		case_count(small, flow(i));
	case_count(small, case_tcp(PACKET_OUT, "10.0.0.7", 80, 1000, 4));
	case_count(small, case_tcp(PACKET_IN, "10.0.0.7", 80, 1000, 4));
	case_time(small, 3 * WINDOW_MS);
	case_finish(small);
	assert_int_equal(case_row(small, FIRST + 2)->overflow, 1);
	assert_int_equal(case_row(small, FIRST + 2)->records, 257);
	free(small);
	free(large);
}

/* Half by bytes, half an even sample of the others. */
static void test_kept_flows(void **state)
{
	enum {
		N = 20000
	};
	struct task_spec t = case_task();
	const struct features_flows *list;
	uint32_t large = 0, tenth[10] = { 0 };
	struct features *f;

	(void)state;
	t.records_log2 = 15;
	f = case_begin(&t);
	for (uint32_t i = 0; i < N; i++) {
		struct packet p = flow(i);

		/* one in five is large */
		p.len_bytes = i % 5 ? 100 : 1000 + i % 13;
		case_count(f, p);
	}
	case_close(f);
	list = case_flows(f, FIRST);
	assert_int_equal(list->records, N);
	assert_int_equal(list->n, FEATURES_FLOWS);
	for (uint32_t i = 0; i < list->n; i++) {
		const uint8_t *b = (const uint8_t *)&list->flow[i].key;
		uint32_t number = (uint32_t)b[13] << 16 | b[14] << 8 | b[15];

		if (list->flow[i].bytes >= 1000)
			large++;
		else
			tenth[number / (N / 10)]++;
	}
	/* 4,000 large ones, 96 of the others to fill the half, a sample */
	assert_int_equal(large, N / 5);
	for (int i = 0; i < 10; i++)
		assert_in_range(tenth[i], 390, 530);
	free(f);
}

/* No turn takes long: a full table closes in many. */
static void test_turns(void **state)
{
	struct task_spec t = case_task();
	struct features *f;
	uint32_t turns = 0;

	(void)state;
	t.records_log2 = 0;
	f = case_begin(&t);
	for (uint32_t i = 0; i < 65536; i++)
		case_count(f, flow(i));
	case_time(f, WINDOW_MS);
	while (features_turn(f)) {
		turns++;
		one_packet(f); /* meanwhile */
	}
	assert_true(turns > 500);
	assert_int_equal(case_row(f, FIRST)->records, 65536);
	assert_int_equal(case_row(f, FIRST)->overflow, 0);
	case_time(f, 2 * WINDOW_MS);
	case_finish(f);
	assert_int_equal(case_row(f, FIRST + 1)->records, 1);
	assert_int_equal(case_flows(f, FIRST + 1)->flow[0].packets, turns);
	free(f);
}

/* What is not an IP packet of some flow does not count. */
static void test_malformed(void **state)
{
	struct features *f = begin();
	struct packet p = flow(1);

	(void)state;
	p.flags |= PACKET_MALFORMED;
	case_count(f, p);
	assert_int_equal(case_close(f)->records, 0);
	assert_int_equal(case_row(f, FIRST)->count[H_BYTES_IN], 0);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_partial),
		cmocka_unit_test(test_clock_steps),
		cmocka_unit_test(test_interval_again),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_many_windows),
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_flows_add_up),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_merge_of_one_flow),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_kept_flows),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_malformed),
	};

	rnd = seed_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
