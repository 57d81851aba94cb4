/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counters of features, their packets and rows, for tests. */
#ifndef LINNET_FEATURES_CASE_H
#define LINNET_FEATURES_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/sketch/features.h"
#include "common/util.h"

#define WINDOW_MS UINT64_C(60000)
#define FIRST     UINT64_C(29000000) /* interval */
#define BEGIN_MS  (FIRST * WINDOW_MS)
#define MONO_MS   UINT64_C(5000000) /* at BEGIN_MS */
#define UPLINK    7

static const struct hash_key case_local = { .b = { 4, 5, 6 } };

static inline struct task_spec case_task(void)
{
	return (struct task_spec){
		.id = 9,
		.generation = 1,
		.increment = INC_SEGMENT,
		.both = 1,
		.semantics = FEATURES_PACKETS,
		.records_log2 = 12,
		.kinds = TASK_FEATURES,
		.window_ms = WINDOW_MS,
		.seed = { .b = { 1, 2, 3 } },
	};
}

/* A counter that began with interval FIRST. */
static inline struct features *case_begin(const struct task_spec *t)
{
	size_t size = features_size(t);
	void *mem = aligned_alloc(64, size);
	struct features *f;

	assert_non_null(mem);
	memset(mem, 0, size);
	f = features_init(mem, t, &case_local, false);
	features_clock(f, BEGIN_MS, MONO_MS);
	return f;
}

/* Milliseconds since the beginning, both clocks agreeing. */
static inline void case_time(struct features *f, uint64_t ms)
{
	features_clock(f, BEGIN_MS + ms, MONO_MS + ms);
}

static inline void case_finish(struct features *f)
{
	while (features_turn(f))
		;
}

static inline const struct features_row *case_row(const struct features *f,
						  uint64_t k)
{
	const struct features_row *row = NULL;
	const struct features_flows *flows;
	size_t len;
	int err = features_window(f, k, &row, &flows, &len);

	assert_int_equal(err, 0);
	assert_int_equal(features_flows_check(flows, len), 0);
	return row;
}

static inline const struct features_flows *case_flows(const struct features *f,
						      uint64_t k)
{
	const struct features_row *row;
	const struct features_flows *flows = NULL;
	size_t len;

	assert_int_equal(features_window(f, k, &row, &flows, &len), 0);
	return flows;
}

/* Ends the first window and returns its row. */
static inline const struct features_row *case_close(struct features *f)
{
	case_time(f, WINDOW_MS);
	case_finish(f);
	return case_row(f, FIRST);
}

/* The value of a name, before its transform. */
static inline uint64_t case_value(const struct features_row *row,
				  const char *name)
{
	int i = feature_find(name, strlen(name));
	double v[FEATURES];

	assert_true(i >= 0);
	features_row_finish(row, FEATURE_BLOCKS, v);
	switch (feature_get((unsigned int)i)->transform) {
	case FEATURE_SQRT:
		v[i] *= v[i];
		break;
	case FEATURE_LOG2:
		return row->count[i];
	case FEATURE_NONE:
		break;
	}
	return (uint64_t)(v[i] + 0.5);
}

static inline struct ip_addr case_addr(const char *text)
{
	struct ip_addr a;

	assert_int_equal(addr_parse(text, strlen(text), &a), 0);
	return a;
}

/* A packet of 10.0.0.1 and a peer; proto from flags. */
static inline struct packet case_packet(enum packet_dir dir, const char *peer,
					uint8_t proto, uint16_t lport,
					uint16_t rport)
{
	struct ip_addr remote = case_addr(peer), local;
	bool out = dir == PACKET_OUT;
	struct packet p = {
		.family = addr_is_v4(&remote) ? 4 : 6,
		.proto = proto,
		.dir = (uint8_t)dir,
		.sport = out ? lport : rport,
		.dport = out ? rport : lport,
		.flags = lport || rport ? PACKET_PORTS : 0,
		.hdr_bytes = 40,
		.len_bytes = 40,
		.segments = 1,
		.ifindex = UPLINK,
	};

	local = case_addr(p.family == 4 ? "10.0.0.1" : "fd00::1");
	p.src = out ? local : remote;
	p.dst = out ? remote : local;
	return p;
}

/* One of TCP, with flags. */
static inline struct packet case_tcp(enum packet_dir dir, const char *peer,
				     uint16_t lport, uint16_t rport,
				     uint8_t flags)
{
	struct packet p = case_packet(dir, peer, 6, lport, rport);

	p.flags |= PACKET_TCP;
	p.tcp_flags = flags;
	return p;
}

static inline void case_count(struct features *f, struct packet p)
{
	features_packet(f, &p, UPLINK);
}

#endif
