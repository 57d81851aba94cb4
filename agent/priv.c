/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileges.  The agent needs none: it serves a high port, and the monitor
 * asks for nothing but its user.  Whoever starts it as root gets a process of
 * another user or none at all.
 *
 * The libraries decide which system calls they like, so there is no list of
 * what is allowed: what gives a captured agent a way on is refused, EPERM.
 */
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
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

#if defined(__x86_64__)
#	define PRIV_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#	define PRIV_ARCH AUDIT_ARCH_AARCH64
#else
#	error "the system call filter is not known for this processor"
#endif

#define FOREIGN_ABI 0x40000000u /* x32 of x86-64: other numbers, same arch */

static const int denied[] = {
	/* other programs, other processes */
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
	SYS_kcmp,
	SYS_perf_event_open,
	/* another view of the system */
	SYS_chroot,
	SYS_pivot_root,
	SYS_mount,
	SYS_umount2,
	SYS_move_mount,
	SYS_open_tree,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	SYS_unshare,
	SYS_setns,
	SYS_open_by_handle_at,
	/* other privileges */
	SYS_setuid,
	SYS_setgid,
	SYS_setreuid,
	SYS_setregid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_setfsuid,
	SYS_setfsgid,
	SYS_setgroups,
	SYS_capset,
	/* the kernel */
	SYS_bpf,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_reboot,
	SYS_swapon,
	SYS_swapoff,
	SYS_acct,
	SYS_quotactl,
	SYS_syslog,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_clock_adjtime,
	SYS_adjtimex,
	SYS_fanotify_init,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_personality,
	SYS_vhangup,
};

/* The parent directory may be root's: the agent could not do it later. */
static int state_dir_make(const char *dir, uid_t uid, gid_t gid)
{
	if (!dir[0])
		return 0;
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	return lchown(dir, uid, gid) < 0 ? -errno : 0;
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

#define OP(code, k) ((struct sock_filter)BPF_STMT((code), (k)))
#define JUMP(code, k, jt, jf) \
	((struct sock_filter)BPF_JUMP((code), (k), (jt), (jf)))
#define LOAD(member) \
	OP(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define IF_EQUAL (BPF_JMP | BPF_JEQ | BPF_K)
#define IF_FROM  (BPF_JMP | BPF_JGE | BPF_K)

static int filter_install(void)
{
	const struct sock_filter refuse =
		OP(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	struct sock_filter op[2 * ARRAY_SIZE(denied) + 7];
	struct sock_fprog prog = { .filter = op };
	size_t n = 0;

	op[n++] = LOAD(arch);
	op[n++] = JUMP(IF_EQUAL, PRIV_ARCH, 1, 0);
	op[n++] = refuse;
	op[n++] = LOAD(nr);
	op[n++] = JUMP(IF_FROM, FOREIGN_ABI, 0, 1);
	op[n++] = refuse;
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
		op[n++] = JUMP(IF_EQUAL, (uint32_t)denied[i], 0, 1);
		op[n++] = refuse;
	}
	op[n++] = OP(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)n;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}

static int restrict_self(void)
{
	int err = drop_capabilities();

	if (!err)
		err = forbid_core();
	if (!err && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		     prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		err = -errno;
	return err ? err : filter_install();
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
