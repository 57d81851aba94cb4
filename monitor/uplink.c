/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The default route's interface: asked of the kernel as one look-up of a public
 * address, as reading the table would take long where there are many routes.
 * Nothing is sent there.  The kernel answers before sendto() returns.
 */
#include "monitor/uplink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

/* Root name servers: reached by the default route where there is one. */
static const uint8_t public4[4] = { 198, 41, 0, 4 };
static const uint8_t public6[16] = {
	0x20, 0x01, 0x05, 0x03, 0xba, 0x3e, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x30
};

struct question {
	struct nlmsghdr nlh;
	struct rtmsg rtm;
	struct rtattr dst;
	uint8_t addr[16];
};

int uplink_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

static int question_send(int fd, sa_family_t family)
{
	const uint8_t *addr = family == AF_INET ? public4 : public6;
	size_t len = family == AF_INET ? sizeof(public4) : sizeof(public6);
	struct question q = {
		.nlh = {
			.nlmsg_len = (uint32_t)(offsetof(struct question, addr) +
						len),
			.nlmsg_type = RTM_GETROUTE,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.rtm = {
			.rtm_family = (uint8_t)family,
			.rtm_dst_len = (uint8_t)(8 * len),
		},
		.dst = {
			.rta_len = (unsigned short)RTA_LENGTH(len),
			.rta_type = RTA_DST,
		},
	};

	memcpy(q.addr, addr, len);
	return send(fd, &q, q.nlh.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* The interface that an answer names, or 0. */
static uint32_t answer_parse(const uint8_t *buf, size_t len)
{
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct rtmsg));
	struct nlmsghdr nlh;
	struct rtattr a;
	uint32_t ifindex = 0;

	if (len < at)
		return 0;
	memcpy(&nlh, buf, sizeof(nlh));
	if (nlh.nlmsg_type != RTM_NEWROUTE)
		return 0;
	len = MIN(len, nlh.nlmsg_len);
	while (len >= at + sizeof(a)) {
		memcpy(&a, buf + at, sizeof(a));
		if (a.rta_len < sizeof(a) || a.rta_len > len - at)
			break;
		if (a.rta_type == RTA_OIF &&
		    a.rta_len >= sizeof(a) + sizeof(ifindex))
			memcpy(&ifindex, buf + at + sizeof(a), sizeof(ifindex));
		at += RTA_ALIGN(a.rta_len);
	}
	return ifindex;
}

uint32_t uplink_find(int fd, sa_family_t family)
{
	uint8_t buf[1024];
	uint32_t ifindex = 0;
	ssize_t n;

	if (question_send(fd, family))
		return 0;
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		ifindex = answer_parse(buf, (size_t)n);
	return ifindex;
}
