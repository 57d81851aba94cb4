/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users: a name is looked up in the system's database, a number is taken as it
 * is, so that the programs run where nobody made an account for them.
 */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "common/user.h"
#include "common/util.h"

/* (uid_t)-1 means "unchanged" to the kernel. */
#define ID_MAX          (UINT32_MAX - 1)
#define ENTRY_MIN_BYTES 1024
#define ENTRY_MAX_BYTES (1 << 20)

static int user_lookup(const char *name, uid_t *uid, gid_t *gid)
{
	struct passwd entry, *found = NULL;
	char *buf = NULL;
	int err = ERANGE;

	for (size_t size = ENTRY_MIN_BYTES;
	     err == ERANGE && size <= ENTRY_MAX_BYTES; size *= 2) {
		free(buf);
		buf = malloc(size);
		if (!buf)
			return -ENOMEM;
		do {
			err = getpwnam_r(name, &entry, buf, size, &found);
		} while (err == EINTR);
	}
	if (!err && found) {
		*uid = entry.pw_uid;
		*gid = entry.pw_gid;
	}
	free(buf);
	/* Some databases say "no such user" with an error of their own. */
	if (err == ESRCH || err == EPERM || err == EBADF)
		return -ENOENT;
	return err ? -err : found ? 0 : -ENOENT;
}

int user_resolve(const char *text, uid_t *uid, gid_t *gid)
{
	size_t len = strcspn(text, ":");
	uint64_t u, g;

	if (len == 0)
		return -EINVAL;
	if (text[0] < '0' || text[0] > '9')
		return text[len] ? -EINVAL : user_lookup(text, uid, gid);
	if (parse_u64(text, len, 0, ID_MAX, &u))
		return -EINVAL;
	g = u;
	if (text[len] == ':' &&
	    parse_u64(text + len + 1, strlen(text) - len - 1, 0, ID_MAX, &g))
		return -EINVAL;
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return 0;
}
