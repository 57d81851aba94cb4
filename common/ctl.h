/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket between agent and monitor: SOCK_SEQPACKET, one message a
 * datagram, fixed structs in host byte order, seven operations.  The monitor
 * takes the agent for hostile; anything unknown closes the connection.
 */
#ifndef LINNET_CTL_H
#define LINNET_CTL_H

#include <stdint.h>
#include <sys/un.h>

#include "common/packet.h"
#include "common/sketch/sketch.h"
#include "common/task.h"

#define CTL_MAGIC     0x6c6e6e74u
#define CTL_VERSION   1
#define CTL_MAX_BYTES 4096
#define CTL_CLIENTS   4
#define CTL_RATE      100 /* requests a second and client */
#define CTL_READERS   8
#define CTL_PUT_MS    1800 /* a put waits for its rules */
#define CTL_REPLY_MS  700  /* without a reply the agent says monitor_down */

enum ctl_type {
	CTL_HELLO = 1,
	CTL_TASK_PUT,
	CTL_TASK_DEL,
	CTL_TASK_LIST,
	CTL_TASK_READ,
	CTL_STATS,
	CTL_WINDOW_READ,
	CTL_TYPES
};

struct ctl_head {
	uint32_t magic;
	uint16_t version;
	uint16_t type;  /* enum ctl_type, in replies too */
	uint32_t len;   /* of the whole message */
	uint32_t seq;   /* the client's; copied into the reply */
	int32_t status; /* requests 0; replies 0 or -errno, below */
	uint32_t reserved;
};

/*
 * status of replies: 0; -EINVAL bad struct; -ENOENT no such task; -ENODATA no
 * such window (any more); -EEXIST same
 * id, lower generation or other content; -ENOSPC tasks, rules or memory;
 * -EAGAIN readers are starting, the rules of a put do not stand in time, a
 * window is not closed yet, or tasks begin anew as somebody had removed the
 * rules; -EIO the rules cannot be set; -EBUSY rate; -ESHUTDOWN capture is off.
 */

struct ctl_hello {
	struct ctl_head head;
	/* reply: */
	uint64_t incarnation; /* new at each start of the monitor */
	uint64_t memory_limit, memory_used;
	uint32_t tasks_max;
	char backend[16], version[32];
};

struct ctl_task_put {
	struct ctl_head head;
	struct task_spec task; /* request; the reply is the head alone */
};

struct ctl_task_del {
	struct ctl_head head;
	uint64_t id;
};

struct ctl_task_list {
	struct ctl_head head;
	uint32_t n, reserved; /* from here: reply */
	struct {
		uint64_t id, generation;
	} task[TASKS_MAX];
};

struct ctl_volume {
	uint64_t packets, bytes;
};

/*
 * Loss of the rules that feed a task, since it was put here: what the kernel
 * matched, the living readers counted; missed = matched - received.
 */
struct ctl_loss {
	struct ctl_volume matched, received;
};

struct ctl_task_read {
	struct ctl_head head;
	uint64_t id, generation;
	/* request: which sketches to copy, 0: totals; of a task with windows
	 * no others than CTL_ALWAYS_OPEN */
	uint32_t kinds;
	uint32_t reserved;
	uint32_t n_images; /* one sealed memfd each follows by SCM_RIGHTS */
	uint32_t rules;    /* enum ctl_rules: DEGRADED, OFF: not all is seen */
	struct ctl_loss loss;
};

/* What is not kept by window: the table of the last second. */
#define CTL_ALWAYS_OPEN (1u << SKETCH_EXACT)

enum ctl_rules {
	CTL_RULES_NONE,
	CTL_RULES_OK,
	CTL_RULES_DEGRADED,
	CTL_RULES_OFF
};

/*
 * What a task counted in a closed window: of TASK_FEATURES its parts, and
 * common/sketch/features.h says how rows of several readers become one; of
 * another one its sketches but exact, and its totals, as of TASK_READ.
 */
struct ctl_window_read {
	struct ctl_head head;
	uint64_t id, generation;
	uint64_t interval;
	uint32_t what; /* request: enum ctl_window; or kinds; as bits */
	uint32_t reserved;
	uint32_t n_images; /* sealed memfds, as of TASK_READ */
	uint32_t readers;  /* there should be as many images */
	uint32_t rules;    /* enum ctl_rules */
	uint32_t has_loss; /* 1: loss is that of the interval */
	struct ctl_loss loss;
};

/* Which of ctl_image.image[], by number of the bit. */
enum ctl_window {
	CTL_WINDOW_ROW = 1 << 0,   /* struct features_row */
	CTL_WINDOW_FLOWS = 1 << 1, /* struct features_flows */
};
#define CTL_WINDOW_PARTS 2

struct ctl_stats {
	struct ctl_head head;
	/* reply: */
	uint64_t incarnation, memory_used, memory_limit;
	uint64_t reader_restarts;
	uint32_t readers; /* alive */
	uint32_t rules;   /* enum ctl_rules */
	uint32_t tasks, queue_depth;
	struct ctl_volume matched[PACKET_DIRS], received[PACKET_DIRS];
	uint64_t protected_packets; /* pcap back end: left out by rule */
	uint64_t bad_requests;
	uint32_t finished, reserved; /* pcap: the file is at its end */
};

/*
 * A memfd of TASK_READ: this header, then the images of the kinds asked, each
 * at its offset (multiples of 64), as sketch_image_check() takes them.  One of
 * WINDOW_READ: the parts asked instead of kinds.
 */
#define CTL_IMAGE_MAGIC 0x6c6e6967u
#define CTL_IMAGE_KINDS 8
struct ctl_image {
	uint32_t magic, kinds; /* bits of the kinds present */
	uint64_t id, generation;
	uint64_t reader_incarnation;
	uint64_t began_ms, now_ms; /* wall clock: first counted, copied */
	uint64_t slot_now;         /* open 100-ms slot at the end of the copy */
	uint64_t slot_first;       /* first whole slot since began */
	uint32_t saturated, reserved;
	struct totals totals;
	struct {
		uint64_t offset, len;
	} image[CTL_IMAGE_KINDS];
};

/* Abstract name "@linnet/<instance>"; returns the sockaddr's length. */
socklen_t ctl_address(const char *instance, struct sockaddr_un *sun);
/* [a-z0-9-]{1,16}: 0 or -EINVAL. */
int instance_check(const char *name);
/* Default: "ns" and the inode of this network namespace.  0 or -errno. */
int instance_default(char out[17]);

#endif
