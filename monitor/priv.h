/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Users, capabilities, system call filter: what each process may still do. */
#ifndef LINNET_PRIV_H
#define LINNET_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Bits of a capability set, by number. */
#define PRIV_NET_ADMIN (UINT64_C(1) << 12)
#define PRIV_NET_RAW   (UINT64_C(1) << 13)

/* True if the capabilities are effective in this process. */
bool priv_have(uint64_t caps);

/*
 * Asks the scheduler to prefer this process and its children to ordinary ones;
 * without the right to ask, nothing changes.  For those that packets wait for.
 */
void priv_prefer(void);

/*
 * The supervisor: becomes uid and gid if it is root, keeps caps and nothing
 * else, for the tools it starts too.  0, or -errno after a line in the log.
 */
int priv_drop(uid_t uid, gid_t gid, uint64_t caps);

/*
 * A reader: dies with parent, keeps caps (not across an exec), then may call
 * only what is listed, and more (0 ends; or NULL).  0, or -errno after a line
 * in the log.
 */
int priv_confine(pid_t parent, uint64_t caps, const int *more);

#endif
