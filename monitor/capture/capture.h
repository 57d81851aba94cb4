/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture back ends: where a reader's packets come from.  To add one: a file,
 * and a row in capture.c.
 */
#ifndef LINNET_CAPTURE_H
#define LINNET_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/packet.h"

struct capture_ops;

/* Most that can wait for one reader: a full queue, a batch, some on the way. */
#define CAPTURE_WAITING_MAX (8192 + 64 + 64)

/* What the command line says; the same for all readers. */
struct capture_config {
	const struct capture_ops *ops;
	const char *path;     /* of a file to replay */
	int file_fd;          /* that file, once prepared; else -1 */
	uint16_t queue_first; /* reader i has queue_first + i */
	/* never measured, packet_protected() */
	uint16_t agent_port, management_port;
};

/* Who gets the packets: a reader. */
struct capture_sink {
	/* Once before the packets of a turn: their wall-clock time. */
	void (*clock)(void *arg, uint64_t wall_ms);
	/*
	 * One packet, parsed, dir and flags set.  Its verdict is already
	 * given where the back end gives verdicts.
	 */
	void (*packet)(void *arg, struct packet *p);
	void *arg;
};

/* One in each reader. */
struct capture {
	const struct capture_config *config;
	const struct capture_sink *sink;
	int fd;            /* readable: turn() has something; -1: none */
	bool busy;         /* turn() has something, whatever the fd says */
	uint64_t verdicts; /* packets handed back */
	uint64_t protected_packets, skipped;
	void *state; /* the back end's */
};

struct capture_ops {
	const char *name;
	bool netfilter; /* fed by rules, keeps CAP_NET_ADMIN */
	bool replay;    /* finite: each task gets all of it, once */
	uint32_t readers_max;
	const int *syscalls; /* beyond every reader's; 0 ends; or NULL */
	/*
	 * In the supervisor, before privileges are given up.  0 or an exit
	 * code, after one line in the log.
	 */
	int (*prepare)(struct capture_config *c);
	/* In the reader.  0 or an exit code, after one line in the log. */
	int (*open)(struct capture *c, uint32_t reader);
	/* Takes one batch without waiting.  0 or -errno: the reader ends. */
	int (*turn)(struct capture *c);
	/* Replay: begins at the start of the file; busy until it is through. */
	int (*rewind)(struct capture *c);
};

extern const struct capture_ops capture_nfqueue, capture_pcap;

/* "nfqueue" or "pcap:FILE" (kept by reference).  0 or -EINVAL. */
int capture_parse(const char *text, struct capture_config *c);

#endif
