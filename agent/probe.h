/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Active probes between two agents: bandwidth (one TCP stream) and jitter (a
 * UDP train).  One at a time per host in either role, bounded in time and
 * bytes, only towards known peers.
 */
#ifndef LINNET_PROBE_H
#define LINNET_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/errors.h"
#include "agent/http.h"
#include "common/addr.h"

struct agent;
struct probes;

enum probe_kind {
	PROBE_BW,
	PROBE_JITTER,
	PROBE_KINDS
};
const char *probe_kind_name(enum probe_kind k);

struct probe_result {
	double mbytes_per_s; /* 2^20 bytes */
	uint64_t bytes;
	double seconds;
	double jitter_ms;
	uint32_t sent, received, reordered;
};

enum probe_state {
	PROBE_RUNNING,
	PROBE_DONE,
	PROBE_FAILED
};
struct probe {
	uint64_t id;
	enum probe_kind kind;
	struct endpoint src, dst;
	double duration_s;
	enum probe_state state;
	struct error error; /* when failed */
	struct probe_result result;
	uint64_t began_ms, ended_ms; /* wall clock */
};

int probes_open(struct probes **out, struct agent *a);
void probes_free(struct probes *p);
bool probes_busy(const struct probes *p);
/*
 * Starts a probe from this host.  0 with *id, or an error in *e (ERR_NOT_PEER,
 * ERR_PROBE_BUSY, ERR_VALUE).  done may be NULL; called once at the end,
 * never from inside.
 */
int probe_start(struct agent *a, enum probe_kind kind,
		const struct ip_addr *dst, double duration_s, uint64_t *id,
		struct error *e, void (*done)(void *arg, const struct probe *p),
		void *arg);
const struct probe *probe_find(const struct probes *p, uint64_t id);
unsigned probe_list(const struct probes *p, const struct probe **out,
		    unsigned max);
int probe_cancel(struct probes *p, uint64_t id); /* -ENOENT */

/* POST peer/probe, GET peer/probe/<nonce> */
extern const struct http_route probe_routes[];
extern const size_t probe_n_routes;

#endif
