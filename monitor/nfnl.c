/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink to netfilter: one request, its answer, its acknowledgement.  The
 * kernel handles a request inside sendto(), so that the answer is already in
 * the socket when the wait begins; a time limit guards against surprises.
 * Requests are built in memory of the caller; no state is kept here.
 */
#include "monitor/nfnl.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/util.h"

#define NFNL_WAIT_S 1

int nfnl_open(void)
{
	struct timeval wait = { .tv_sec = NFNL_WAIT_S };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

void nfnl_begin(struct nfnl_request *r, uint8_t subsys, uint8_t type,
		uint16_t flags, uint16_t res_id)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(r->bytes);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(subsys << 8 | type);
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	nfg->nfgen_family = AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(res_id);
}

void nfnl_put(struct nfnl_request *r, uint16_t attr, const void *data,
	      size_t len)
{
	bool fits = mnl_attr_put_check((struct nlmsghdr *)r->bytes,
				       sizeof(r->bytes), attr, len, data);

	assert(fits);
	(void)fits;
}

struct nfnl_answer {
	void (*attr)(void *arg, uint16_t type, const void *data, size_t len);
	void *arg;
};

static int nfnl_answer_attr(const struct nlattr *a, void *data)
{
	struct nfnl_answer *answer = data;

	answer->attr(answer->arg, mnl_attr_get_type(a), mnl_attr_get_payload(a),
		     mnl_attr_get_payload_len(a));
	return MNL_CB_OK;
}

static int nfnl_answer_msg(const struct nlmsghdr *nlh, void *data)
{
	struct nfnl_answer *answer = data;

	if (!answer->attr)
		return MNL_CB_OK;
	return mnl_attr_parse(nlh, sizeof(struct nfgenmsg), nfnl_answer_attr,
			      answer);
}

int nfnl_call(int fd, struct nfnl_request *r,
	      void (*attr)(void *arg, uint16_t type, const void *data,
			   size_t len),
	      void *arg)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)r->bytes;
	struct nfnl_answer answer = { .attr = attr, .arg = arg };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	_Alignas(struct nlmsghdr) uint8_t reply[2048];
	int rc = MNL_CB_OK;

	nlh->nlmsg_seq = (uint32_t)random_u64();
	if (sendto(fd, nlh, nlh->nlmsg_len, 0, (struct sockaddr *)&kernel,
		   sizeof(kernel)) < 0)
		return -errno;
	while (rc > MNL_CB_STOP) {
		ssize_t n = recv(fd, reply, sizeof(reply), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		/* 0 as port: the socket is not shared, nobody else writes */
		rc = mnl_cb_run(reply, (size_t)n, nlh->nlmsg_seq, 0,
				nfnl_answer_msg, &answer);
		/* the late answer of an earlier request */
		if (rc < 0 && errno == EPROTO)
			rc = MNL_CB_OK;
	}
	return rc < 0 ? -errno : 0;
}

static void generation_attr(void *arg, uint16_t type, const void *data,
			    size_t len)
{
	if (type == NFTA_GEN_ID && len == sizeof(uint32_t))
		memcpy(arg, data, len);
}

int nfnl_generation(int fd, uint32_t *out)
{
	struct nfnl_request r;
	uint32_t be = 0;
	int err;

	nfnl_begin(&r, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN, 0, 0);
	err = nfnl_call(fd, &r, generation_attr, &be);
	if (!err)
		*out = ntohl(be);
	return err;
}
