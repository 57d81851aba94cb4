/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket's address and the instance names it is made of.
 *
 * Abstract names belong to a network namespace, so that every namespace has
 * its own default instance without shared files.  Nothing owned.
 */
#include "common/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define INSTANCE_MAX 16

socklen_t ctl_address(const char *instance, struct sockaddr_un *sun)
{
	const size_t room = sizeof(sun->sun_path) - 1;
	int n;

	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* sun_path[0] stays NUL: that makes the name abstract */
	n = snprintf(sun->sun_path + 1, room, "linnet/%.*s", INSTANCE_MAX,
		     instance);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)n);
}

int instance_check(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len && len <= INSTANCE_MAX && !name[len] ? 0 : -EINVAL;
}

int instance_default(char out[17])
{
	char name[32];
	struct stat st;
	int n;

	if (stat("/proc/self/ns/net", &st))
		return -errno;
	n = snprintf(name, sizeof(name), "ns%ju", (uintmax_t)st.st_ino);
	if (n > INSTANCE_MAX)
		return -ERANGE;
	memcpy(out, name, (size_t)n + 1);
	return 0;
}
