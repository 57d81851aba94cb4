/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was matched and what was received: the kernel's accounting objects in
 * the capture rules, and the page on which readers count.
 */
#ifndef LINNET_METER_H
#define LINNET_METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/ctl.h"

/*
 * A reader's part of the page: it writes, the supervisor reads and never
 * waits.  A value is whole; values among themselves may be a batch apart.
 */
struct meter_slot {
	_Alignas(64) _Atomic uint64_t tick_ms; /* monotonic, every turn */
	_Atomic uint64_t verdicts;             /* packets handed back */
	struct {
		_Atomic uint64_t packets, bytes;
	} received[PACKET_DIRS];
	_Atomic uint64_t protected_packets;
	_Atomic uint32_t finished; /* a replay has nothing left to do */
	/* for the reader: interfaces of the default routes, IPv4 and IPv6 */
	_Atomic uint32_t uplink[2];
	/*
	 * The supervisor asks; the reader answers with the same number once it
	 * received whatever waited then, and with what it had received.
	 */
	_Atomic uint64_t asked, answered;
	struct {
		_Atomic uint64_t packets, bytes;
	} passed[PACKET_DIRS];
};

struct meter {
	int fd; /* netlink; -1: nothing is matched by rules */
	char name[PACKET_DIRS][32];
	bool present[PACKET_DIRS];
	struct ctl_volume before[PACKET_DIRS]; /* of objects deleted since */
	struct meter_slot *slot;               /* CTL_READERS of them */
};

/* The object's name: linnet-<instance>-in, -out. */
void meter_name(const char *instance, enum packet_dir dir, char out[32]);

/* The page, and with netfilter the netlink socket.  0 or -errno. */
int meter_init(struct meter *m, const char *instance, bool netfilter);
void meter_fini(struct meter *m); /* leaves objects in the kernel */
/* 0 if the kernel has accounting objects and we may see them; -errno. */
int meter_probe(struct meter *m);
/* Makes the direction's object unless it is there.  0 or -errno. */
int meter_create(struct meter *m, enum packet_dir dir);
/*
 * Deletes it, whoever made it, and keeps its count.  0, also if there is none;
 * -EBUSY while a rule still uses it; -errno.
 */
int meter_delete(struct meter *m, enum packet_dir dir);
/* What the rules of a direction matched since the start.  0 or -errno. */
int meter_read(struct meter *m, enum packet_dir dir, struct ctl_volume *out);
/* What one reader received since it started. */
struct ctl_volume meter_received(const struct meter *m, uint32_t reader,
				 enum packet_dir dir);

#endif
