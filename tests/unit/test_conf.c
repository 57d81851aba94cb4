/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the agent: defaults, file, command line, and what is refused. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/conf.h"
#include "common/util.h"

#define ARGS_MAX 12

static struct conf conf;
static char path[] = "/tmp/linnet-conf-XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	unsetenv("STATE_DIRECTORY");
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* What it says on standard error is for people; not here. */
static int load_silent(int argc, char **argv)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY), ret;

	assert_true(saved >= 0 && null >= 0);
	assert_true(dup2(null, STDERR_FILENO) >= 0);
	ret = conf_load(&conf, argc, argv);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(null);
	return ret;
}

static int load(const char *const *args)
{
	static char program[] = "linnet-agent", instance[] = "--instance=t";
	char *argv[ARGS_MAX + 3] = { program, instance };
	int argc = 2, ret;

	while (argc < ARGS_MAX + 2 && args[argc - 2]) {
		argv[argc] = strdup(args[argc - 2]);
		assert_non_null(argv[argc]);
		argc++;
	}
	ret = load_silent(argc, argv);
	for (int i = 2; i < argc; i++)
		free(argv[i]);
	return ret;
}
#define LOAD(...) load((const char *const[ARGS_MAX + 1]){ __VA_ARGS__ })

static int load_file(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return LOAD("--config", path);
}

static void check_endpoint(const struct endpoint *ep, const char *expected)
{
	char text[ENDPOINT_TEXT_LEN];

	endpoint_format(ep, 0, text);
	assert_string_equal(text, expected);
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(LOAD(NULL), 0);
	assert_int_equal(conf.n_listen, 1);
	check_endpoint(&conf.listen[0], "127.0.0.1:8000");
	assert_int_equal(conf.port, 8000);
	assert_int_equal(conf.query_ms, 2000);
	assert_int_equal(conf.ready_fd, -1);
	assert_string_equal(conf.user, "linnet-agent");
	assert_string_equal(conf.overlay_name, "linnet");
	assert_string_equal(conf.state_dir, "");
	assert_int_equal(conf.fanout, 16);
	assert_int_equal(conf.forget_h, 24);
	assert_false(conf.drain);
	setenv("STATE_DIRECTORY", "/var/lib/linnet", 1);
	assert_int_equal(LOAD(NULL), 0);
	assert_string_equal(conf.state_dir, "/var/lib/linnet");
	assert_int_equal(LOAD("--state-dir", "/x"), 0);
	assert_string_equal(conf.state_dir, "/x");
	unsetenv("STATE_DIRECTORY");
}

static void test_command_line(void **state)
{
	(void)state;
	assert_int_equal(LOAD("--listen", "[::1]:81", "--listen=127.0.0.1:82",
			      "--child", "10.0.0.3", "--child", "10.0.0.4:9",
			      "--parent", "10.0.0.1", "--ready-fd", "7"),
			 0);
	assert_int_equal(conf.n_listen, 2);
	check_endpoint(&conf.listen[0], "[::1]:81");
	check_endpoint(&conf.listen[1], "127.0.0.1:82");
	assert_int_equal(conf.port, 81);
	assert_int_equal(conf.n_children, 2);
	check_endpoint(&conf.children[1], "10.0.0.4:9");
	check_endpoint(&conf.parents[0], "10.0.0.1:8000");
	assert_int_equal(conf.ready_fd, 7);
	assert_int_equal(LOAD("--bogus"), EXIT_USAGE);
	assert_int_equal(LOAD("operand"), EXIT_USAGE);
	assert_int_equal(LOAD("--listen"), EXIT_USAGE);
	assert_int_equal(LOAD("--ready-fd", "-1"), EXIT_USAGE);
	assert_int_equal(LOAD("--log-level", "loud"), EXIT_USAGE);
	assert_int_equal(LOAD("--instance", "Not This"), EXIT_USAGE);
	assert_int_equal(LOAD("--user", ""), EXIT_USAGE);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {
		"localhost",  "10.0.0.1:0", "10.0.0.1:65536",  "[::1",
		"",           "224.0.0.1",  "255.255.255.255", "fe80::1",
		"10.0.0.1/8", "10.0.0.01",  "http://10.0.0.1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (LOAD("--listen", bad[i]) != EXIT_USAGE ||
		    LOAD("--child", bad[i]) != EXIT_USAGE ||
		    LOAD("--parent", bad[i]) != EXIT_USAGE)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(LOAD("--child", "0.0.0.0"), EXIT_USAGE);
}

static void test_file(void **state)
{
	(void)state;
	assert_int_equal(load_file("# comment\n[agent]\n"
				   "listen = 127.0.0.1:9000, [::1]:9000\n"
				   "children = 10.0.0.3 10.0.0.4:9\n"
				   "   10.0.0.5\n"
				   "children = 10.0.0.6\n"
				   "peers = 10.0.0.9/8 ; all of them\n"
				   "server_names = a.example b.example\n"
				   "query_ms = 500\noverlay_name = lab\n"
				   "log_level = debug\ninsecure = no\n"),
			 0);
	assert_int_equal(conf.n_listen, 2);
	assert_int_equal(conf.n_children, 4);
	check_endpoint(&conf.children[3], "10.0.0.6:8000");
	assert_int_equal(conf.n_peers, 1);
	assert_int_equal(conf.peers[0].len, 96 + 8);
	assert_string_equal(conf.server_name[1], "b.example");
	assert_int_equal(conf.query_ms, 500);
	assert_string_equal(conf.overlay_name, "lab");
	/* The command line goes first, and replaces lists. */
	assert_int_equal(LOAD("--config", path, "--child", "10.0.0.7",
			      "--log-level", "error"),
			 0);
	assert_int_equal(conf.n_children, 1);
	assert_int_equal(conf.n_listen, 2);
	assert_int_equal(conf.log_level, 0);
}

static void test_file_refused(void **state)
{
	static const char *const bad[] = {
		"bogus = 1\n",
		"listen\n",
		"listen = nowhere\n",
		"insecure = maybe\n",
		"insecure = no\ninsecure = no\n",
		"[monitor]\nlisten = ::1\n",
		"query_ms = 49\n",
		"query_ms = 30001\n",
		"query_ms = 1e3\n",
		"token_file =\n",
		"peers = 10.0.0.0/33\n",
		"check = yes\n",
		"config = x\n",
		"ready_fd = 3\n",
		"server_names = a b c d e f g h i\n",
	};
	char longer[300] = "listen = ";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (load_file(bad[i]) != EXIT_CONFIG)
			fail_msg("accepted: %s", bad[i]);
	}
	memset(longer + strlen(longer), '1', sizeof(longer) - 11);
	assert_int_equal(load_file(longer), EXIT_CONFIG);
	assert_int_equal(LOAD("--config", "/nonexistent"), EXIT_CONFIG);
	assert_int_equal(LOAD("--config", "/tmp"), EXIT_CONFIG);
	assert_int_equal(LOAD("--config", "/dev/zero"), EXIT_CONFIG);
}

/* One way to find a place in the tree, and what belongs to it. */
static void test_tree(void **state)
{
	static const char *const bad[] = {
		"fanout = 1\n",
		"fanout = 65\n",
		"forget_h = 8761\n",
		"forget_h = -1\n",
		"drain = maybe\n",
		"rack = a b\n",
		"rack = 012345678901234567890123456789012\n",
		"overlay_name = a/b\n",
		"list = x\nseeds = 10.0.0.2\n",
		"list = x\nchildren = 10.0.0.2\n",
		"seeds = 10.0.0.2\nchildren = 10.0.0.2\n",
		"roots = 10.0.0.2\n",
		"seeds = nowhere\n",
		("seeds = 10.0.0.2\n"
		 "roots = 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 "
		 "10.0.0.6\n"),
	};

	(void)state;
	assert_int_equal(load_file("seeds = 10.0.0.2, 10.0.0.3:9\n"
				   "roots = 10.0.0.2\nfanout = 8\n"
				   "rack = r7.a:1_b-C\nforget_h = 0\n"
				   "drain = yes\n"),
			 0);
	assert_int_equal(conf.n_seeds, 2);
	check_endpoint(&conf.seeds[1], "10.0.0.3:9");
	assert_int_equal(conf.n_roots, 1);
	assert_int_equal(conf.fanout, 8);
	assert_string_equal(conf.rack, "r7.a:1_b-C");
	assert_int_equal(conf.forget_h, 0);
	assert_true(conf.drain);
	assert_int_equal(LOAD("--config", path, "--seed", "10.0.0.9", "--root",
			      "10.0.0.9", "--fanout", "2"),
			 0);
	assert_int_equal(conf.n_seeds, 1);
	check_endpoint(&conf.roots[0], "10.0.0.9:8000");
	assert_int_equal(conf.fanout, 2);
	assert_int_equal(LOAD("--list", "/x", "--drain", "--forget-h", "1"), 0);
	assert_string_equal(conf.list_file, "/x");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (load_file(bad[i]) != EXIT_CONFIG)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_access(void **state)
{
	static const char *const wide[] = { "10.0.0.1", "0.0.0.0", "[::]:80",
					    "2001:db8::1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wide); i++) {
		assert_int_equal(LOAD("--listen", wide[i]), EXIT_CONFIG);
		assert_int_equal(LOAD("--listen", "::1", "--listen", wide[i]),
				 EXIT_CONFIG);
		assert_int_equal(LOAD("--listen", wide[i], "--insecure"), 0);
		assert_true(conf.insecure);
		assert_int_equal(
			LOAD("--listen", wide[i], "--token-file", "/x"), 0);
		assert_int_equal(LOAD("--listen", wide[i], "--token-file", "/x",
				      "--insecure"),
				 0);
		assert_false(conf.insecure);
	}
	assert_int_equal(LOAD("--listen", "127.9.9.9"), 0);
	assert_int_equal(load_file("listen = 10.0.0.1\n"), EXIT_CONFIG);
	assert_int_equal(load_file("listen = 10.0.0.1\ninsecure = yes\n"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_refused),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_access),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
