/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and numbers of users. */
#ifndef LINNET_USER_H
#define LINNET_USER_H

#include <sys/types.h>

/*
 * "NAME", "UID" or "UID:GID" -> ids; a number needs no entry in the user
 * database, its group is GID, or UID if there is none.  0; -ENOENT: no such
 * user; -EINVAL: neither a name nor a number; -errno of the database.
 */
int user_resolve(const char *text, uid_t *uid, gid_t *gid);

#endif
