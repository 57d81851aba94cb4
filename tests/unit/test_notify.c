/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the service manager hears, and how users are named. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/notify.h"
#include "common/user.h"
#include "common/util.h"

/* A manager's socket under this name, "@" in front for an abstract one. */
static int manager_open(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				    strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(sun.sun_path, name, strlen(name));
	if (name[0] == '@')
		sun.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, len), 0);
	return fd;
}

static void assert_hears(int fd, const char *text)
{
	char buf[64];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, text);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
}

static void hear_all(const char *name)
{
	int fd = manager_open(name);

	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_ready(-1), 0);
	assert_hears(fd, "READY=1");
	assert_int_equal(notify_watchdog(), 0);
	assert_hears(fd, "WATCHDOG=1");
	assert_int_equal(notify_stopping(), 0);
	assert_hears(fd, "STOPPING=1");
	close(fd);
	assert_int_equal(notify_watchdog(), -ECONNREFUSED);
	unsetenv("NOTIFY_SOCKET");
}

static void test_abstract(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@linnet-test/notify-%d", getpid());
	hear_all(name);
}

static void test_path(void **state)
{
	char dir[] = "/tmp/linnet-notify-XXXXXX", name[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s/socket", dir);
	hear_all(name);
	unlink(name);
	rmdir(dir);
}

static void test_no_manager(void **state)
{
	char name[200];

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_ready(-1), 0);
	assert_int_equal(notify_watchdog(), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(notify_watchdog(), 0);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_watchdog(), -EINVAL);
	setenv("NOTIFY_SOCKET", "@", 1);
	assert_int_equal(notify_watchdog(), -EINVAL);
	memset(name, 'a', sizeof(name));
	name[0] = '@';
	name[sizeof(name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_watchdog(), -EINVAL);
	unsetenv("NOTIFY_SOCKET");
}

static void test_ready_fd(void **state)
{
	int fd[2];
	char buf[4];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(notify_ready(fd[1]), 0);
	/* One byte, then the end: the descriptor is closed. */
	assert_int_equal(read(fd[0], buf, sizeof(buf)), 1);
	assert_int_equal(read(fd[0], buf, sizeof(buf)), 0);
	close(fd[0]);
	assert_int_equal(notify_ready(fd[1]), -EBADF);
}

static void test_watchdog_interval(void **state)
{
	char own[16], other[16];

	(void)state;
	snprintf(own, sizeof(own), "%d", getpid());
	snprintf(other, sizeof(other), "%d", getpid() + 1);
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(notify_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "3000000", 1);
	assert_int_equal(notify_watchdog_ms(), 1500);
	setenv("WATCHDOG_PID", own, 1);
	assert_int_equal(notify_watchdog_ms(), 1500);
	setenv("WATCHDOG_PID", other, 1);
	assert_int_equal(notify_watchdog_ms(), 0);
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "1", 1);
	assert_int_equal(notify_watchdog_ms(), 1);
	setenv("WATCHDOG_USEC", "3s", 1);
	assert_int_equal(notify_watchdog_ms(), 0);
	unsetenv("WATCHDOG_USEC");
}

static void test_user(void **state)
{
	static const struct {
		const char *text;
		int err;
		uid_t uid;
		gid_t gid;
	} rows[] = {
		{ "root", 0, 0, 0 },
		{ "0", 0, 0, 0 },
		{ "64101", 0, 64101, 64101 },
		{ "64101:7", 0, 64101, 7 },
		{ "4294967294", 0, 4294967294, 4294967294 },
		{ "linnet-no-such-user", -ENOENT, 0, 0 },
		{ "4294967295", -EINVAL, 0, 0 },
		{ "7:4294967295", -EINVAL, 0, 0 },
		{ "7:", -EINVAL, 0, 0 },
		{ "7:root", -EINVAL, 0, 0 },
		{ "7:7:7", -EINVAL, 0, 0 },
		{ "7x", -EINVAL, 0, 0 },
		{ "root:0", -EINVAL, 0, 0 },
		{ "", -EINVAL, 0, 0 },
		{ ":0", -EINVAL, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uid_t uid = 4711;
		gid_t gid = 4712;
		int err = user_resolve(rows[i].text, &uid, &gid);

		if (err != rows[i].err)
			fail_msg("\"%s\": %d", rows[i].text, err);
		assert_int_equal(uid, err ? 4711 : rows[i].uid);
		assert_int_equal(gid, err ? 4712 : rows[i].gid);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_abstract),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_no_manager),
		cmocka_unit_test(test_ready_fd),
		cmocka_unit_test(test_watchdog_interval),
		cmocka_unit_test(test_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
