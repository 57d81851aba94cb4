/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving up privileges, by raw system calls: the supervisor is one thread, and
 * a library's idea of "all threads" is not wanted.  The order matters: a change
 * of user resets the dumpable flag and the death signal, so these follow it.
 *
 * The readers' system calls are the table below and nothing else; a reader that
 * calls anything else is killed, which is safe: traffic then bypasses it.
 */
#include "monitor/priv.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

#if defined(__x86_64__)
#	define PRIV_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#	define PRIV_ARCH AUDIT_ARCH_AARCH64
#else
#	error "the readers' system call filter is not known for this processor"
#endif

#define CAPS_MAX        64
#define SYSCALLS_MAX    64
#define FILTER_PER_CALL 2
#define FILTER_FIXED    16
#define PREFER_NICE     (-10)

/* What every reader may call. */
static const int allowed[] = {
	SYS_read,       SYS_write,         SYS_recvmsg,      SYS_recvmmsg,
	SYS_sendmsg,    SYS_sendto,        SYS_epoll_pwait,  SYS_epoll_pwait2,
	SYS_epoll_ctl,  SYS_clock_gettime, SYS_futex,        SYS_brk,
	SYS_munmap,     SYS_madvise,       SYS_memfd_create, SYS_ftruncate,
	SYS_fcntl,      SYS_close,         SYS_getrandom,    SYS_rt_sigreturn,
	SYS_exit_group,
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
};

/* What they may call unless it makes memory executable. */
static const int allowed_memory[] = { SYS_mmap, SYS_mprotect };

struct filter_program {
	size_t n;
	struct sock_filter op[SYSCALLS_MAX * FILTER_PER_CALL + FILTER_FIXED];
};

static void filter_add(struct filter_program *p, struct sock_filter op)
{
	if (p->n == ARRAY_SIZE(p->op))
		abort(); /* our own bug, before anything is read */
	p->op[p->n++] = op;
}

#define OP(code, k) ((struct sock_filter)BPF_STMT((code), (k)))
#define JUMP(code, k, jt, jf) \
	((struct sock_filter)BPF_JUMP((code), (k), (jt), (jf)))
#define LOAD(member) \
	OP(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define KILL     OP(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW    OP(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define IF_EQUAL (BPF_JMP | BPF_JEQ | BPF_K)
#define IF_BITS  (BPF_JMP | BPF_JSET | BPF_K)

static void filter_allow(struct filter_program *p, int nr)
{
	filter_add(p, JUMP(IF_EQUAL, (uint32_t)nr, 0, 1));
	filter_add(p, ALLOW);
}

static int filter_install(const int *more)
{
	struct filter_program p = { 0 };
	struct sock_fprog prog;

	filter_add(&p, LOAD(arch));
	filter_add(&p, JUMP(IF_EQUAL, PRIV_ARCH, 1, 0));
	filter_add(&p, KILL);
	filter_add(&p, LOAD(nr));
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		filter_allow(&p, allowed[i]);
	for (size_t i = 0; more && more[i]; i++)
		filter_allow(&p, more[i]);
	for (size_t i = 0; i < ARRAY_SIZE(allowed_memory); i++) {
		filter_add(&p,
			   JUMP(IF_EQUAL, (uint32_t)allowed_memory[i], 0, 4));
		filter_add(&p, LOAD(args[2]));
		filter_add(&p, JUMP(IF_BITS, PROT_EXEC, 0, 1));
		filter_add(&p, KILL);
		filter_add(&p, ALLOW);
	}
	filter_add(&p, KILL);
	prog = (struct sock_fprog){ (unsigned short)p.n, p.op };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}

static int caps_get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};

	return syscall(SYS_capget, &head, data) < 0 ? -errno : 0;
}

static int caps_set(uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].permitted = (uint32_t)(permitted >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = (uint32_t)(inheritable >> 32 * i);
	}
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

bool priv_have(uint64_t caps)
{
	struct __user_cap_data_struct data[2];

	if (caps_get(data))
		return false;
	return (caps &
		~(data[0].effective | (uint64_t)data[1].effective << 32)) == 0;
}

void priv_prefer(void)
{
	if (getpriority(PRIO_PROCESS, 0) > PREFER_NICE)
		(void)setpriority(PRIO_PROCESS, 0, PREFER_NICE);
}

static int ambient_set(uint64_t caps)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	for (unsigned long c = 0; c < CAPS_MAX; c++) {
		if (!(caps >> c & 1))
			continue;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0) < 0)
			return -errno;
	}
	return 0;
}

/* Ends at the first number that the kernel does not know. */
static int bounding_limit(uint64_t caps)
{
	for (unsigned long c = 0; c < CAPS_MAX; c++) {
		if (caps >> c & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno;
	}
	return 0;
}

static int become(uid_t uid, gid_t gid)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
	    syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -errno;
	return 0;
}

static int seal(void)
{
	struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	/* not dumpable is enough where the service manager forbids this */
	if (setrlimit(RLIMIT_CORE, &none) < 0 && errno != EPERM)
		return -errno;
	return 0;
}

int priv_drop(uid_t uid, gid_t gid, uint64_t caps)
{
	bool root = geteuid() == 0;
	int err = 0;

	if (root)
		err = bounding_limit(caps);
	if (!err && root)
		err = become(uid, gid);
	if (!err)
		err = caps_set(caps, caps);
	if (!err)
		err = ambient_set(caps);
	if (!err)
		err = seal();
	if (err)
		log_write(LOG_LEVEL_ERR, -err, "cannot give up privileges");
	return err;
}

int priv_confine(pid_t parent, uint64_t caps, const int *more)
{
	int err = ambient_set(0);

	if (!err)
		err = caps_set(caps, 0);
	if (!err)
		err = seal();
	if (!err && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		err = -errno;
	if (!err && getppid() != parent)
		err = -ESRCH;
#ifndef __SANITIZE_ADDRESS__ /* whose own calls are many */
	if (!err)
		err = filter_install(more);
#endif
	if (err)
		log_write(LOG_LEVEL_ERR, -err, "cannot confine the reader");
	return err;
}
