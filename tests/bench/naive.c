/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop that most programs on NFQUEUE begin with: one packet a read, the
 * whole packet copied, one verdict each.  It counts nothing.  Shown beside
 * linnet-monitor for scale.
 *
 *   naive QUEUE [-g]     -g: with the GSO flag
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <libnetfilter_queue/libnetfilter_queue.h>

#include "common/util.h"

static int accept_packet(struct nfq_q_handle *q, struct nfgenmsg *msg,
			 struct nfq_data *data, void *arg)
{
	struct nfqnl_msg_packet_hdr *h = nfq_get_msg_packet_hdr(data);

	(void)msg;
	(void)arg;
	return nfq_set_verdict(q, h ? ntohl(h->packet_id) : 0, NF_ACCEPT, 0,
			       NULL);
}

int main(int argc, char **argv)
{
	static char buf[1 << 17];
	struct nfq_handle *h = nfq_open();
	struct nfq_q_handle *q;
	uint64_t number;

	if (argc < 2 || !h ||
	    parse_u64(argv[1], strlen(argv[1]), 0, UINT16_MAX, &number)) {
		fprintf(stderr, "usage: naive QUEUE [-g]\n");
		return 64;
	}
	q = nfq_create_queue(h, (uint16_t)number, accept_packet, NULL);
	if (!q || nfq_set_mode(q, NFQNL_COPY_PACKET, 0xffff) < 0) {
		perror("naive: queue");
		return 69;
	}
	if (argc > 2 && strcmp(argv[2], "-g") == 0 &&
	    nfq_set_queue_flags(q, NFQA_CFG_F_GSO, NFQA_CFG_F_GSO)) {
		perror("naive: GSO flag");
		return 69;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t n = recv(nfq_fd(h), buf, sizeof(buf), 0);

		if (n >= 0)
			nfq_handle_packet(h, buf, (int)n);
		else if (errno != ENOBUFS && errno != EINTR)
			return 1;
	}
}
