/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets from a netfilter queue.  A packet waits in the kernel until its
 * verdict, so the verdict comes first: one batch is received, one message
 * accepts all of it, then it is counted.  The highest id covers the batch
 * because a queue has one reader and hands packets out in the order of their
 * ids.
 *
 * The kernel gives super-packets whole (GSO), 128 bytes of each packet, and
 * lets packets pass when the queue is full (fail-open).  Under load with small
 * batches the reader rests for a moment before it reads, so that a wake-up
 * serves more packets; below COALESCE_PPS it never does.  Super-packets are not
 * counted: they are trains already, and rest would slow down their streams.
 *
 * Limits: one queue, one socket, nothing is sent but the verdict "accept".
 * Closing the socket ends the queue; the kernel then lets packets bypass it.
 */
/* before the kernel's headers, which know that it may come first */
#include <netinet/in.h>

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "monitor/capture/capture.h"
#include "monitor/hook.h"
#include "monitor/nfnl.h"

#define BATCH         64
#define MSG_BYTES     640 /* 128 of payload, and attributes */
#define COPY_BYTES    128
#define QUEUE_MAX     8192
#define SOCKET_BYTES  (8 << 20)
#define BIND_TRIES    50 /* a dying predecessor may hold the queue */
#define BIND_PAUSE_NS 20000000
#define ID_FAR        (1u << 30) /* above every id of a new queue */

_Static_assert(QUEUE_MAX + 2 * BATCH <= CAPTURE_WAITING_MAX,
	       "what waits before a reader has counted it");

#define COALESCE_PPS   20000
#define COALESCE_BATCH 32
#define COALESCE_NS    100000
#define RATE_WINDOW_NS 10000000

struct verdict {
	struct nlmsghdr nlh;
	struct nfgenmsg nfg;
	struct nlattr attr;
	struct nfqnl_msg_verdict_hdr hdr;
};

/* What a message says about its packet. */
struct queued {
	uint32_t id; /* network order */
	uint8_t hook;
	bool gso;
	const uint8_t *data;
	size_t caplen;
	uint32_t len_bytes;
	uint32_t ifindex; /* of the device that it came from or goes to */
};

struct nfqueue {
	struct verdict verdict;
	int rest_fd; /* an epoll instance that nothing ever wakes */
	uint64_t window_ns;
	uint32_t window_packets; /* super-packets aside */
	uint32_t last_batch;
	bool fast;
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH];
	struct queued queued[BATCH];
	_Alignas(64) uint8_t buf[BATCH][MSG_BYTES];
};

static int nfqueue_prepare(struct capture_config *c)
{
	(void)c;
	return 0;
}

/*
 * The first message says all: between "bind" and "copy packets" the kernel
 * would drop what the rules send here.  Then flags and size once more, each by
 * itself: a kernel that does not know them must say so.
 */
static int nfqueue_bind(int fd, uint16_t queue)
{
	struct nfqnl_msg_config_cmd cmd = { .command = NFQNL_CFG_CMD_BIND };
	struct nfqnl_msg_config_params params = {
		.copy_range = htonl(COPY_BYTES),
		.copy_mode = NFQNL_COPY_PACKET,
	};
	uint32_t flags = htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN);
	uint32_t maxlen = htonl(QUEUE_MAX);
	struct nfnl_request r;
	int err;

	nfnl_begin(&r, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG, 0, queue);
	nfnl_put(&r, NFQA_CFG_CMD, &cmd, sizeof(cmd));
	nfnl_put(&r, NFQA_CFG_PARAMS, &params, sizeof(params));
	nfnl_put(&r, NFQA_CFG_QUEUE_MAXLEN, &maxlen, sizeof(maxlen));
	nfnl_put(&r, NFQA_CFG_FLAGS, &flags, sizeof(flags));
	nfnl_put(&r, NFQA_CFG_MASK, &flags, sizeof(flags));
	err = nfnl_call(fd, &r, NULL, NULL);
	if (err)
		return err;

	nfnl_begin(&r, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG, 0, queue);
	nfnl_put(&r, NFQA_CFG_FLAGS, &flags, sizeof(flags));
	nfnl_put(&r, NFQA_CFG_MASK, &flags, sizeof(flags));
	err = nfnl_call(fd, &r, NULL, NULL);
	if (err)
		return err;

	nfnl_begin(&r, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG, 0, queue);
	nfnl_put(&r, NFQA_CFG_QUEUE_MAXLEN, &maxlen, sizeof(maxlen));
	return nfnl_call(fd, &r, NULL, NULL);
}

static int nfqueue_options(int fd)
{
	int one = 1, bytes = SOCKET_BYTES;

	if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one)))
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		return -errno;
	return 0;
}

static int nfqueue_socket(uint16_t queue)
{
	struct timespec pause = { .tv_nsec = BIND_PAUSE_NS };
	int fd = nfnl_open(), err;

	if (fd < 0) {
		log_write(LOG_LEVEL_ERR, -fd, "netlink socket");
		return fd;
	}
	err = nfqueue_options(fd);
	if (err) {
		log_write(LOG_LEVEL_ERR, -err, "netlink socket options");
		goto out;
	}
	/* "not permitted" is what the kernel calls a queue in use */
	for (int i = 0; i < BIND_TRIES; i++) {
		err = nfqueue_bind(fd, queue);
		if (err != -EPERM)
			break;
		nanosleep(&pause, NULL);
	}
	if (err == -EPERM)
		log_errx("queue %u is in use by another process", queue);
	else if (err)
		log_write(LOG_LEVEL_ERR, -err, "queue %u: cannot bind", queue);
out:
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int nfqueue_accept(struct capture *c, struct nfqueue *q, uint32_t id)
{
	q->verdict.hdr.id = id;
	while (send(c->fd, &q->verdict, sizeof(q->verdict), 0) < 0) {
		if (errno != EINTR && errno != ENOBUFS && errno != EAGAIN)
			return -errno;
	}
	return 0;
}

static int nfqueue_open(struct capture *c, uint32_t reader)
{
	uint16_t queue = (uint16_t)(c->config->queue_first + reader);
	struct nfqueue *q = calloc(1, sizeof(*q));

	if (!q) {
		log_err("queue %u", queue);
		return EXIT_MECHANISM;
	}
	q->rest_fd = epoll_create1(EPOLL_CLOEXEC);
	c->state = q; /* as long as the process lives */
	c->fd = q->rest_fd < 0 ? -errno : nfqueue_socket(queue);
	if (c->fd < 0)
		return c->fd == -EACCES ? EXIT_PERMISSION : EXIT_MECHANISM;

	q->verdict = (struct verdict){
		.nlh = {
			.nlmsg_len = sizeof(q->verdict),
			.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 |
				      NFQNL_MSG_VERDICT_BATCH,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.nfg = {
			.version = NFNETLINK_V0,
			.res_id = htons(queue),
		},
		.attr = {
			.nla_len = sizeof(q->verdict.attr) +
				   sizeof(q->verdict.hdr),
			.nla_type = NFQA_VERDICT_HDR,
		},
		.hdr.verdict = htonl(NF_ACCEPT),
	};
	for (size_t i = 0; i < BATCH; i++) {
		q->iov[i] = (struct iovec){ q->buf[i], MSG_BYTES };
		q->msg[i].msg_hdr.msg_iov = &q->iov[i];
		q->msg[i].msg_hdr.msg_iovlen = 1;
	}
	/* what came before the acknowledgement was not looked at: let it go */
	return nfqueue_accept(c, q, htonl(ID_FAR)) ? EXIT_MECHANISM : 0;
}

static void queued_attr(struct queued *out, uint16_t type, const uint8_t *v,
			size_t len)
{
	struct nfqnl_msg_packet_hdr hdr;
	uint32_t be;

	if (type == NFQA_PAYLOAD) {
		out->data = v;
		out->caplen = len;
		return;
	}
	if (type == NFQA_PACKET_HDR && len >= sizeof(hdr)) {
		memcpy(&hdr, v, sizeof(hdr));
		out->id = hdr.packet_id;
		out->hook = hdr.hook;
		return;
	}
	if (len < sizeof(be))
		return;
	memcpy(&be, v, sizeof(be));
	if (type == NFQA_CAP_LEN)
		out->len_bytes = ntohl(be);
	else if (type == NFQA_SKB_INFO)
		out->gso = ntohl(be) & NFQA_SKB_GSO;
	else if (type == NFQA_IFINDEX_INDEV || type == NFQA_IFINDEX_OUTDEV)
		out->ifindex = ntohl(be);
}

/* False: no packet (an error message of the kernel's). */
static bool queued_parse(struct queued *out, const uint8_t *buf, size_t len)
{
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
	struct nlmsghdr nlh;
	struct nlattr a;

	*out = (struct queued){ 0 };
	if (len < at)
		return false;
	memcpy(&nlh, buf, sizeof(nlh));
	if (nlh.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
		return false;
	while (len >= at + sizeof(a)) {
		size_t room = len - at - sizeof(a), n;

		memcpy(&a, buf + at, sizeof(a));
		if (a.nla_len < sizeof(a))
			break;
		/* a payload cut by our buffer counts as a short capture */
		n = MIN(a.nla_len - sizeof(a), room);
		queued_attr(out, a.nla_type & NLA_TYPE_MASK,
			    buf + at + sizeof(a), n);
		at += NLA_ALIGN(a.nla_len);
	}
	if (!out->len_bytes)
		out->len_bytes = (uint32_t)out->caplen;
	return true;
}

/* Rests if a wake-up would otherwise serve too few of many packets. */
static void nfqueue_rest(struct nfqueue *q)
{
	struct timespec rest = { .tv_nsec = COALESCE_NS };
	struct epoll_event none;

	if (q->fast && q->last_batch < COALESCE_BATCH)
		(void)epoll_pwait2(q->rest_fd, &none, 1, &rest, NULL);
}

static void nfqueue_rate(struct nfqueue *q, uint32_t n)
{
	uint64_t now_ns = clock_mono_ns(), span = now_ns - q->window_ns;

	q->last_batch = n;
	for (uint32_t i = 0; i < n; i++)
		q->window_packets += !q->queued[i].gso;
	if (span < RATE_WINDOW_NS)
		return;
	q->fast = q->window_packets > COALESCE_PPS * (span / 1000) / 1000000;
	q->window_packets = 0;
	q->window_ns = now_ns;
}

static void nfqueue_count(struct capture *c, const struct queued *in)
{
	struct packet p = {
		.dir = in->hook == NF_INET_LOCAL_OUT ? PACKET_OUT : PACKET_IN,
		.flags = in->gso ? PACKET_GSO : 0,
		.ifindex = in->ifindex,
	};

	hook_packet_delay();
	packet_parse(&p, in->data, in->caplen, in->len_bytes);
	c->sink->packet(c->sink->arg, &p);
}

static int nfqueue_turn(struct capture *c)
{
	struct nfqueue *q = c->state;
	uint32_t packets = 0;
	int n, err;

	nfqueue_rest(q);
	n = recvmmsg(c->fd, q->msg, BATCH, MSG_DONTWAIT, NULL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS
			       ? 0
			       : -errno;
	for (int i = 0; i < n; i++) {
		if (queued_parse(&q->queued[packets], q->buf[i],
				 MIN(q->msg[i].msg_len, MSG_BYTES)))
			packets++;
	}
	if (packets > 0) {
		err = nfqueue_accept(c, q, q->queued[packets - 1].id);
		if (err)
			return err;
	}
	nfqueue_rate(q, packets);
	c->verdicts += packets;
	c->sink->clock(c->sink->arg, clock_wall_ms());
	for (uint32_t i = 0; i < packets; i++)
		nfqueue_count(c, &q->queued[i]);
	return 0;
}

const struct capture_ops capture_nfqueue = {
	.name = "nfqueue",
	.netfilter = true,
	.readers_max = 8,
	.prepare = nfqueue_prepare,
	.open = nfqueue_open,
	.turn = nfqueue_turn,
};
