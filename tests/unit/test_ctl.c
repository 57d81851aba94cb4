/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instances and the name of the control socket; sizes of its messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/ctl.h"
#include "common/util.h"

static void test_instance_check(void **state)
{
	static const char *const good[] = { "a", "-", "0", "ns4026531840",
					    "abcdefghijklmnop" };
	static const char *const bad[] = {
		"",         "A",   "a b",
		"a_b",      "a/b", "a.b",
		"\xc3\xa4", "a\n", "abcdefghijklmnopq",
		"../../x"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(instance_check(good[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(instance_check(bad[i]), -22);
}

/* The same number as the link's text, "net:[N]". */
static void test_instance_default(void **state)
{
	char name[17], link[64] = "", want[64];
	ssize_t n = readlink("/proc/self/ns/net", link, sizeof(link) - 1);

	(void)state;
	assert_true(n > 6 && !strncmp(link, "net:[", 5));
	link[n - 1] = '\0';
	snprintf(want, sizeof(want), "ns%s", link + 5);
	assert_int_equal(instance_default(name), 0);
	assert_string_equal(name, want);
	assert_int_equal(instance_check(name), 0);
}

static void test_address(void **state)
{
	struct sockaddr_un sun;
	socklen_t len = ctl_address("lab-1", &sun);

	(void)state;
	assert_int_equal(sun.sun_family, AF_UNIX);
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 13);
	assert_memory_equal(sun.sun_path, "\0linnet/lab-1", 13);

	len = ctl_address("abcdefghijklmnop", &sun);
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 24);
	/* never more than an instance's name can have */
	assert_int_equal(ctl_address("abcdefghijklmnopqrstuvwxyz", &sun), len);
}

/* One name, one socket: the second bind is refused. */
static void test_address_binds_once(void **state)
{
	struct sockaddr_un sun;
	char name[17];
	socklen_t len;
	int a, b;

	(void)state;
	snprintf(name, sizeof(name), "t%d", (int)getpid());
	len = ctl_address(name, &sun);
	a = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	b = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(bind(a, (struct sockaddr *)&sun, len), 0);
	assert_int_equal(bind(b, (struct sockaddr *)&sun, len), -1);
	close(a);
	close(b);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct ctl_head), 24);
	assert_true(sizeof(struct ctl_hello) <= CTL_MAX_BYTES);
	assert_true(sizeof(struct ctl_task_put) <= CTL_MAX_BYTES);
	assert_true(sizeof(struct ctl_task_list) <= CTL_MAX_BYTES);
	assert_true(sizeof(struct ctl_task_read) <= CTL_MAX_BYTES);
	assert_true(sizeof(struct ctl_stats) <= CTL_MAX_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instance_check),
		cmocka_unit_test(test_instance_default),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_address_binds_once),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
