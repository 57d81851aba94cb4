/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Proposals of who is above and below: by hand, by list, by joining. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/member/member.h"
#include "common/util.h"

#define HOSTS 100

static struct conf conf;
static char path[] = "/tmp/linnet-list-XXXXXX";
static char dir[] = "/tmp/linnet-member-XXXXXX";
static uint16_t self_port;

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	log_init("test", LOG_LEVEL_ERR);
	return fd < 0 || !mkdtemp(dir) ? -1 : close(fd);
}

static int teardown(void **state)
{
	char name[sizeof(dir) + 32];

	(void)state;
	snprintf(name, sizeof(name), "%s/children.json", dir);
	unlink(name);
	rmdir(dir);
	return unlink(path);
}

static bool is_self(const struct conf *c, const struct endpoint *ep)
{
	(void)c;
	return ep->port == self_port;
}

static struct endpoint ep_of(unsigned n)
{
	struct endpoint ep = { .port = (uint16_t)(8000 + n) };

	addr_from_v4(&ep.addr, (const uint8_t[]){ 10, 0, 0, 1 });
	return ep;
}

static void write_list(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void write_hosts(unsigned n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs("# every host\n\n", f);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, " 10.0.0.1:%u \t# host %u\r\n", 8000 + i, i);
	fclose(f);
}

static struct member *list_open(unsigned self, unsigned fanout)
{
	struct member *m = NULL;

	snprintf(conf.list_file, sizeof(conf.list_file), "%s", path);
	conf.fanout = fanout;
	self_port = (uint16_t)(8000 + self);
	assert_int_equal(static_open(&m, &conf, is_self), 0);
	return m;
}

/* Each host but the first is below all above it and nobody else. */
static void check_layout(unsigned n, unsigned fanout)
{
	unsigned expected[HOSTS] = { 0 }, above[HOSTS] = { 0 };
	struct endpoint out[HOSTS];

	write_hosts(n);
	for (unsigned i = 0; i < n; i++) {
		struct member *m = list_open(i, fanout);
		int got = member_static.expected(m, true, out, HOSTS);
		struct endpoint first = static_first(m), self = static_self(m);

		for (int k = 0; k < got; k++)
			expected[out[k].port - 8000]++;
		/* a root expects all, whichever line is its own */
		got = member_static.expected(m, false, out, HOSTS);
		assert_int_equal(got, n);
		assert_int_equal(out[n - 1].port, 8000 + n - 1);
		got = member_static.parents(m, out, HOSTS);
		above[i] = (unsigned)got;
		if (i)
			assert_int_equal(out[0].port, 8000 + (i - 1) / fanout);
		if (got)
			assert_int_equal(out[got - 1].port, 8000);
		assert_int_equal(first.port, 8000);
		assert_int_equal(self.port, self_port);
		member_static.close(m);
	}
	assert_memory_equal(expected, above, sizeof(above));
}

static void test_static_layout(void **state)
{
	(void)state;
	check_layout(1, 2);
	check_layout(2, 2);
	check_layout(7, 2);
	check_layout(23, 3);
	check_layout(HOSTS, 16);
	check_layout(HOSTS, 64);
}

static void test_static_bounded(void **state)
{
	struct endpoint out[3];
	struct member *m;

	(void)state;
	write_hosts(HOSTS);
	m = list_open(0, 2);
	assert_int_equal(member_static.expected(m, true, out, 3), 3);
	assert_int_equal(out[2].port, 8003);
	member_static.close(m);
	m = list_open(99, 2);
	assert_int_equal(member_static.parents(m, out, 3), 3);
	assert_int_equal(member_static.expected(m, true, out, 3), 0);
	member_static.close(m);
}

static uint64_t hash_of(const char *text, unsigned fanout)
{
	struct member *m;
	uint64_t h;

	write_list(text);
	m = list_open(1, fanout);
	h = member_static.hash(m);
	member_static.close(m);
	return h;
}

static void test_static_hash(void **state)
{
	uint64_t h = hash_of("10.0.0.1:8000\n10.0.0.1:8001\n", 2);

	(void)state;
	assert_true(h == hash_of("10.0.0.1 # x\n\n10.0.0.1:8001", 2));
	assert_true(h != hash_of("10.0.0.1:8001\n10.0.0.1:8000\n", 2));
	assert_true(h != hash_of("10.0.0.1:8000\n10.0.0.1:8001\n", 3));
	assert_true(h != hash_of("10.0.0.2:8000\n10.0.0.1:8001\n", 2));
}

static void test_static_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"# nothing\n",
		"10.0.0.2\n",
		"10.0.0.1\n10.0.0.1:8000\n",
		"10.0.0.1\nhost.example\n",
		"10.0.0.1\n0.0.0.0\n",
		"10.0.0.1\n224.0.0.1\n",
		"10.0.0.1\n169.254.0.1\n",
		"10.0.0.1\n10.0.0.2 10.0.0.3\n",
		"10.0.0.1\n10.0.0.2:0\n",
		"10.0.0.1\n10.0.0.2:99999\n",
	};
	struct member *m = NULL;
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

	(void)state;
	assert_true(saved >= 0 && null >= 0);
	assert_true(dup2(null, STDERR_FILENO) >= 0);
	self_port = 8000;
	conf.fanout = 2;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		write_list(bad[i]);
		if (i == 2)
			self_port = 8001;
		assert_int_equal(static_open(&m, &conf, is_self), -EINVAL);
		assert_null(m);
		self_port = 8000;
	}
	snprintf(conf.list_file, sizeof(conf.list_file), "/nowhere");
	assert_int_equal(static_open(&m, &conf, is_self), -ENOENT);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(null);
}

/* This host is no seed of itself. */
static void test_join(void **state)
{
	struct endpoint out[4];
	struct member *m;

	(void)state;
	conf.n_seeds = 3;
	for (unsigned i = 0; i < 3; i++)
		conf.seeds[i] = ep_of(i);
	self_port = 8001;
	assert_int_equal(join_open(&m, &conf, is_self), 0);
	assert_int_equal(member_join.parents(m, out, 4), 2);
	assert_int_equal(out[0].port, 8000);
	assert_int_equal(out[1].port, 8002);
	assert_int_equal(member_join.parents(m, out, 1), 1);
	assert_true(member_join.seeds && !member_join.founds);
	member_join.close(m);
}

/* What clients added is there after a restart; what they removed is not. */
static void test_manual(void **state)
{
	struct endpoint ep[3] = { ep_of(1), ep_of(2), ep_of(3) };
	struct endpoint out[TREE_CHILDREN];
	struct member *m;

	(void)state;
	snprintf(conf.state_dir, sizeof(conf.state_dir), "%s", dir);
	conf.n_children = 1;
	conf.children[0] = ep_of(9);
	assert_int_equal(manual_open(&m, &conf), 0);
	assert_int_equal(manual_children(m, out), 1);
	assert_int_equal(out[0].port, 8009);
	assert_int_equal(member_manual.parents(m, out, 1), 0);
	assert_true(member_manual.founds);
	manual_keep(m, ep, 3);
	ep[0] = ep_of(9);
	manual_keep(m, ep, 3);
	member_manual.close(m);
	assert_int_equal(manual_open(&m, &conf), 0);
	assert_int_equal(manual_children(m, out), 3);
	assert_int_equal(out[0].port, 8009);
	assert_int_equal(out[1].port, 8002);
	assert_int_equal(out[2].port, 8003);
	conf.n_children = 0;
	assert_int_equal(manual_children(m, out), 2);
	member_manual.close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static_layout),
		cmocka_unit_test(test_static_bounded),
		cmocka_unit_test(test_static_hash),
		cmocka_unit_test(test_static_refused),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
