/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What NFQUEUE itself costs: the system calls that linnet-monitor makes for
 * packets, and nothing else.  128 bytes of 64 packets a read, one verdict for
 * all of them, a rest after a small batch; nothing is parsed or counted.  No
 * program behind this queue can be cheaper.
 *
 *   floor QUEUE
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <libnetfilter_queue/libnetfilter_queue.h>

#include "common/util.h"

#define BATCH     64
#define MSG_BYTES 640
/* the packet's header is the first attribute; its id comes first in it */
#define ID_AT     (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + NLA_HDRLEN)

static struct mmsghdr msg[BATCH];
static struct iovec iov[BATCH];
static uint8_t buf[BATCH][MSG_BYTES];

static int queue_open(struct nfq_handle **h, struct nfq_q_handle **q,
		      uint16_t number)
{
	uint32_t flags = NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN;
	int one = 1, bytes = 8 << 20;

	*h = nfq_open();
	if (!*h)
		return -errno;
	if (setsockopt(nfq_fd(*h), SOL_NETLINK, NETLINK_NO_ENOBUFS, &one,
		       sizeof(one)) ||
	    setsockopt(nfq_fd(*h), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
		       sizeof(bytes)))
		return -errno;
	*q = nfq_create_queue(*h, number, NULL, NULL);
	if (!*q || nfq_set_mode(*q, NFQNL_COPY_PACKET, 128) < 0 ||
	    nfq_set_queue_flags(*q, flags, flags) ||
	    nfq_set_queue_maxlen(*q, 8192) < 0)
		return -errno;
	return 0;
}

/* One batch; false when it is worth a rest before the next. */
static bool turn(int fd, struct nfq_q_handle *q)
{
	int n = recvmmsg(fd, msg, BATCH, MSG_DONTWAIT, NULL);
	uint32_t id;

	if (n <= 0)
		return true;
	memcpy(&id, buf[n - 1] + ID_AT, sizeof(id));
	nfq_set_verdict_batch(q, ntohl(id), NF_ACCEPT);
	return n >= BATCH / 2;
}

int main(int argc, char **argv)
{
	const struct timespec rest = { .tv_nsec = 100000 };
	struct pollfd p = { .events = POLLIN };
	struct nfq_q_handle *q = NULL;
	struct nfq_handle *h = NULL;
	uint64_t number;

	if (argc != 2 ||
	    parse_u64(argv[1], strlen(argv[1]), 0, UINT16_MAX, &number)) {
		fprintf(stderr, "usage: floor QUEUE\n");
		return 64;
	}
	if (queue_open(&h, &q, (uint16_t)number)) {
		perror("floor: queue");
		return 69;
	}
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ buf[i], MSG_BYTES };
		msg[i].msg_hdr.msg_iov = &iov[i];
		msg[i].msg_hdr.msg_iovlen = 1;
	}
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	setpriority(PRIO_PROCESS, 0, -10);
	puts("ready");
	fflush(stdout);
	p.fd = nfq_fd(h);
	for (;;) {
		poll(&p, 1, -1);
		if (!turn(p.fd, q))
			nanosleep(&rest, NULL);
	}
}
