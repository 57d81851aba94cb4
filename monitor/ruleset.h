/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture rules as text: printed from typed values for the restore tool, and
 * found again in what the save tool prints.  Pure.
 */
#ifndef LINNET_RULESET_H
#define LINNET_RULESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/filter.h"
#include "common/task.h"

#define RULESET_MAX     12 /* capture rules a family */
#define RULESET_FILTERS (2 * TASKS_MAX)
#define RULESET_TEXT    16384
#define RULESET_JUMPS   8

enum ruleset_family {
	RULESET_IP4,
	RULESET_IP6,
	RULESET_FAMILIES
};

/* What all rules of an instance have in common. */
struct ruleset_names {
	const char *instance; /* instance_check()ed */
	uint16_t queue_first, queues;
	uint16_t agent_port, management_port;
};

/* The filters that get a rule each; none covers another. */
struct ruleset {
	uint32_t n;
	struct filter filter[RULESET_FILTERS];
};

struct ruleset_text {
	size_t len;
	bool cut; /* did not fit */
	char s[RULESET_TEXT];
};

/* Our own part of a family's table. */
struct ruleset_seen {
	bool chain[PACKET_DIRS];
	uint32_t jumps; /* RULESET_JUMPS at most are taken note of */
	struct {
		enum packet_dir dir;
		bool plain; /* exactly as we write it */
		char line[160];
	} jump[RULESET_JUMPS];
	struct ruleset_text body; /* rules in our chains, a line each */
};

/*
 * Leaves out what others cover; more than RULESET_MAX in a family become one
 * filter a direction that takes everything.
 */
void ruleset_reduce(struct ruleset *out, const struct filter *f, size_t n);
/* True if a rule of this direction exists in any family. */
bool ruleset_uses(const struct ruleset *r, enum packet_dir dir);

/* Finds our part in len bytes of iptables-save output. */
void ruleset_parse(struct ruleset_seen *out, const struct ruleset_names *names,
		   const char *save, size_t len);
/* True if nothing has to change. */
bool ruleset_matches(const struct ruleset_seen *seen,
		     const struct ruleset_names *names, const struct ruleset *r,
		     enum ruleset_family family);
/* Input for the restore tool that turns what was seen into what r says. */
void ruleset_print(struct ruleset_text *out, const struct ruleset_seen *seen,
		   const struct ruleset_names *names, const struct ruleset *r,
		   enum ruleset_family family);

#endif
