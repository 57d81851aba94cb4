// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Preloaded into a monitor: a kernel that lacks what it needs, as LINNET_SHIM
 * says.  "netlink": no netfilter sockets; "bind": no queue can be bound.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

static bool mode_is(const char *mode)
{
	const char *set = getenv("LINNET_SHIM");

	return set && !strcmp(set, mode);
}

int socket(int domain, int type, int protocol)
{
	int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");

	if (domain == AF_NETLINK && mode_is("netlink")) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return real(domain, type, protocol);
}

/* The kernel's answer to a bind becomes EOPNOTSUPP. */
ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	ssize_t (*real)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");
	ssize_t n = real(fd, buf, len, flags);
	struct nlmsghdr h;
	struct nlmsgerr e;

	if (n < (ssize_t)(sizeof(h) + sizeof(e)) || !mode_is("bind"))
		return n;
	memcpy(&h, buf, sizeof(h));
	memcpy(&e, (char *)buf + sizeof(h), sizeof(e));
	if (h.nlmsg_type != NLMSG_ERROR ||
	    e.msg.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG))
		return n;
	e.error = -EOPNOTSUPP;
	memcpy((char *)buf + sizeof(h), &e, sizeof(e));
	return n;
}
