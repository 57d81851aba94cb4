/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileges.  The agent needs none: it serves a high port, and the monitor
 * asks for nothing but its user.  Whoever starts it as root gets a process of
 * another user or none at all.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/priv.h"
#include "common/log.h"
#include "common/user.h"
#include "common/util.h"

/* The parent directory may be root's: the agent could not do it later. */
static int state_dir_make(const char *dir, uid_t uid, gid_t gid)
{
	if (!dir[0])
		return 0;
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	return chown(dir, uid, gid) < 0 ? -errno : 0;
}

static int become(uid_t uid, gid_t gid)
{
	/* The bounding set outlives the change of user: empty it first. */
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return -errno;
	}
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

/* A service manager may have done it already, and forbidden to do it again. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct set[2] = { { 0 }, { 0 } };

	if (syscall(SYS_capget, &head, set) < 0)
		return -errno;
	if (!(set[0].effective | set[0].permitted | set[0].inheritable |
	      set[1].effective | set[1].permitted | set[1].inheritable))
		return 0;
	memset(set, 0, sizeof(set));
	return syscall(SYS_capset, &head, set) < 0 ? -errno : 0;
}

static int forbid_core(void)
{
	struct rlimit core;

	if (getrlimit(RLIMIT_CORE, &core) < 0)
		return -errno;
	if (core.rlim_max == 0)
		return 0;
	core = (struct rlimit){ 0 };
	return setrlimit(RLIMIT_CORE, &core) < 0 ? -errno : 0;
}

static int restrict_self(void)
{
	int err = drop_capabilities();

	if (!err)
		err = forbid_core();
	if (!err && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		     prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		err = -errno;
	return err;
}

int priv_drop(const struct conf *c)
{
	uid_t uid;
	gid_t gid;
	int err = 0;

	if (geteuid() == 0) {
		err = user_resolve(c->user, &uid, &gid);
		if (err || uid == 0) {
			log_errx("--user %s: %s; set it to a user that is not "
				 "root",
				 c->user, err ? "no such user" : "is root");
			return EXIT_PERMISSION;
		}
		if (!c->check)
			err = state_dir_make(c->state_dir, uid, gid);
		if (err) {
			log_errx("%s: %s", c->state_dir, strerrordesc_np(-err));
			return EXIT_CONFIG;
		}
		err = become(uid, gid);
	}
	if (!err)
		err = restrict_self();
	if (!err)
		return 0;
	log_errx("cannot give up privileges: %s", strerrordesc_np(-err));
	return EXIT_PERMISSION;
}
