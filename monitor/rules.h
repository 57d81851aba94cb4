/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The capture rules in the kernel: brought to what is wanted by running the
 * restore and save tools, one at a time, inside the event loop.
 */
#ifndef LINNET_RULES_H
#define LINNET_RULES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ctl.h"
#include "common/loop.h"
#include "monitor/ruleset.h"

struct rules;

/* Where the tools are; rules_find_tools(). */
struct rules_tools {
	bool legacy;
	const char *save[RULESET_FAMILIES], *restore[RULESET_FAMILIES];
};

/*
 * iptables-nft if it is there and the kernel has nf_tables, else
 * iptables-legacy.  0, or -ENOENT: neither.
 */
int rules_find_tools(struct rules_tools *t, bool kernel_has_tables);

/*
 * done: called whenever the rules came to rest.  names, tools and the netlink
 * socket are borrowed.  NULL: no memory.
 */
struct rules *rules_new(struct loop *loop, const struct ruleset_names *names,
			const struct rules_tools *tools, int netlink_fd,
			void (*done)(void *arg), void *arg);
void rules_free(struct rules *r); /* ends a running tool */
/*
 * Opens the lock that the legacy tools share, if these are legacy; before
 * privileges are given up.  0, or -errno of opening *path.
 */
int rules_open_lock(struct rules *r, const char **path);

/* Wants one rule per filter; done() follows. */
void rules_set(struct rules *r, const struct filter *f, size_t n);
/*
 * Reads back what may have changed, and repairs it unless that was done within
 * a minute; done() follows.  Nothing happens while the rules are busy.
 */
void rules_check(struct rules *r);
/* The same, when it is time; to be called often. */
void rules_watch(struct rules *r);
/* True if rules_state() is true of this moment. */
bool rules_current(const struct rules *r);
/* True once after rules that somebody else had changed stand again. */
bool rules_mended(struct rules *r);
bool rules_busy(const struct rules *r);
/* NONE, OK or DEGRADED. */
enum ctl_rules rules_state(const struct rules *r);
/* True if what is wanted could not be brought about. */
bool rules_failed(const struct rules *r);
/* True if the direction has a rule, or is about to have one. */
bool rules_want(const struct rules *r, enum packet_dir dir);
/* A child ended: true if it was a tool of ours. */
bool rules_child(struct rules *r, pid_t pid, int status);

#endif
