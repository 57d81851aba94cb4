// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Preloaded into a monitor: a kernel that lacks what it needs, as LINNET_SHIM
 * says.  "netlink": no netfilter sockets; "bind": no queue can be bound.  Into
 * any program: a wall clock of its own, which is so many nanoseconds ahead as
 * the file LINNET_SHIM_CLOCK holds, an int64_t that may change at any time.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

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

static const volatile int64_t *ahead_ns;
static int (*real_gettime)(clockid_t id, struct timespec *ts);

/* While files may still be opened. */
static __attribute__((constructor)) void clock_open(void)
{
	const char *path = getenv("LINNET_SHIM_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at = MAP_FAILED;

	real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (fd >= 0)
		at = mmap(NULL, sizeof(*ahead_ns), PROT_READ, MAP_SHARED, fd,
			  0);
	if (at != MAP_FAILED)
		ahead_ns = at;
	if (fd >= 0)
		close(fd);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t ns;
	int ret;

	if (!real_gettime)
		clock_open();
	ret = real_gettime(id, ts);
	if (ret || id != CLOCK_REALTIME || !ahead_ns)
		return ret;
	ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec + *ahead_ns;
	ts->tv_sec = (time_t)(ns / 1000000000);
	ts->tv_nsec = (long)(ns % 1000000000);
	return 0;
}
