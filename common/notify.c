/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service manager's protocol, sd_notify(3): a datagram of NAME=value to the
 * socket that NOTIFY_SOCKET names ("@" in front: an abstract name).  A socket
 * is opened for each message: there are few, and the program may have changed
 * its root or its namespaces in between.  No state.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/notify.h"
#include "common/util.h"

static int notify_send(const char *text)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = name ? strlen(name) : 0;
	int fd, err = 0;

	if (len == 0)
		return 0;
	if (len < 2 || len >= sizeof(sun.sun_path) ||
	    (name[0] != '/' && name[0] != '@'))
		return -EINVAL;
	memcpy(sun.sun_path, name, len);
	if (name[0] == '@')
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The length ends an abstract name, which may hold any byte. */
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL,
		   (struct sockaddr *)&sun,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) <
	    0)
		err = -errno;
	close(fd);
	return err;
}

static int notify_fd(int fd)
{
	ssize_t n;
	int err;

	if (fd < 0)
		return 0;
	do {
		n = write(fd, "\n", 1);
	} while (n < 0 && errno == EINTR);
	err = n < 0 ? -errno : 0;
	close(fd);
	return err;
}

int notify_ready(int ready_fd)
{
	int err = notify_fd(ready_fd);
	int err_socket = notify_send("READY=1");

	return err ? err : err_socket;
}

int notify_watchdog(void)
{
	return notify_send("WATCHDOG=1");
}

int notify_stopping(void)
{
	return notify_send("STOPPING=1");
}

uint64_t notify_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t v;

	if (!usec || parse_u64(usec, strlen(usec), 1, UINT64_MAX, &v))
		return 0;
	if (pid) {
		uint64_t own = (uint64_t)getpid(), p;

		if (parse_u64(pid, strlen(pid), own, own, &p))
			return 0;
	}
	return MAX(v / 2000, 1);
}
