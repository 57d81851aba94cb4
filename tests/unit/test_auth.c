/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Token files that are refused, roles, and the limit on wrong tokens. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/auth.h"
#include "agent/limit.h"
#include "common/util.h"

/* SHA-256 of "abc" and of the empty text, from FIPS 180-4. */
#define HEX_ABC \
	"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define HEX_EMPTY \
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct file {
	char dir[32], path[64], link[64];
};

static int setup(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	snprintf(f->dir, sizeof(f->dir), "/tmp/linnet-auth-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/tokens", f->dir);
	snprintf(f->link, sizeof(f->link), "%s/link", f->dir);
	return 0;
}

static int teardown(void **state)
{
	struct file *f = *state;

	unlink(f->path);
	unlink(f->link);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void write_file(const struct file *f, const void *text, size_t len,
		       mode_t mode)
{
	int fd;

	unlink(f->path);
	fd = open(f->path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int open_status(const char *path)
{
	struct auth *a = NULL;
	char err[256] = "";
	int ret = auth_open(&a, path, err);

	auth_free(a);
	if (ret != 0)
		assert_string_not_equal(err, "");
	return ret;
}

static int text_status(const struct file *f, const char *text)
{
	write_file(f, text, strlen(text), 0600);
	return open_status(f->path);
}

static void test_file_kind(void **state)
{
	static const char good[] = "read x " HEX_ABC "\n";
	static char large[65536 + 1];
	struct file *f = *state;

	write_file(f, good, strlen(good), 0600);
	assert_int_equal(open_status(f->path), 0);
	assert_int_equal(symlink(f->path, f->link), 0);
	assert_int_equal(open_status(f->link), -ELOOP);
	write_file(f, good, strlen(good), 0400);
	assert_int_equal(open_status(f->path), 0);
	write_file(f, good, strlen(good), 0640);
	assert_int_equal(open_status(f->path), -EINVAL);
	write_file(f, good, strlen(good), 0644);
	assert_int_equal(open_status(f->path), -EINVAL);
	assert_int_equal(open_status(f->dir), -EINVAL);
	assert_int_equal(open_status("/dev/null"), -EINVAL);
	assert_int_equal(open_status("/nonexistent/tokens"), -ENOENT);
	write_file(f, "", 0, 0600);
	assert_int_equal(open_status(f->path), -EINVAL);
	memset(large, '\n', sizeof(large));
	memcpy(large, good, strlen(good));
	write_file(f, large, sizeof(large), 0600);
	assert_int_equal(open_status(f->path), -EINVAL);
	write_file(f, large, sizeof(large) - 1, 0600);
	assert_int_equal(open_status(f->path), 0);
}

static void test_file_text(void **state)
{
	static const char nul[] = "read x " HEX_ABC "\n\0\n";
	struct file *f = *state;

	assert_int_equal(text_status(f, "# x\n\n \nread x " HEX_ABC), 0);
	assert_int_equal(text_status(f, "peer\ta.b:c-_9  " HEX_ABC "\r\n"), 0);
	assert_int_equal(text_status(f, "# only\n"), -EINVAL);
	assert_int_equal(text_status(f, "root x " HEX_ABC), -EINVAL);
	assert_int_equal(text_status(f, "Read x " HEX_ABC), -EINVAL);
	assert_int_equal(text_status(f, "read x " HEX_ABC "0"), -EINVAL);
	assert_int_equal(text_status(f, "read x zz"), -EINVAL);
	assert_int_equal(text_status(f, "read " HEX_ABC), -EINVAL);
	assert_int_equal(text_status(f, "read x " HEX_ABC " y"), -EINVAL);
	assert_int_equal(text_status(f, "read x/y " HEX_ABC), -EINVAL);
	assert_int_equal(text_status(f, "read x " HEX_ABC "\nbad\n"), -EINVAL);
	write_file(f, nul, sizeof(nul) - 1, 0600);
	assert_true(open_status(f->path) < 0);
}

static struct auth *open_text(const struct file *f, const char *text)
{
	struct auth *a = NULL;
	char err[256];

	write_file(f, text, strlen(text), 0600);
	assert_int_equal(auth_open(&a, f->path, err), 0);
	return a;
}

static void test_roles(void **state)
{
	static const unsigned expected[] = { ROLE_READ, ROLE_READ | ROLE_CONFIG,
					     ROLE_READ | ROLE_CONFIG |
						     ROLE_ADMIN,
					     ROLE_PEER };
	static const char *const names[] = { "read", "config", "admin",
					     "peer" };
	struct ip_addr client = { { 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char text[256];
		struct auth *a;
		unsigned roles = 99;

		snprintf(text, sizeof(text), "%s x " HEX_ABC "\n", names[i]);
		a = open_text(*state, text);
		assert_true(auth_required(a));
		assert_int_equal(auth_roles(a, NULL, &client, &roles), AUTH_OK);
		assert_int_equal(roles, 0);
		assert_int_equal(auth_roles(a, "Bearer abc", &client, &roles),
				 AUTH_OK);
		assert_int_equal(roles, expected[i]);
		for (unsigned need = ROLE_READ; need <= ROLE_PEER; need *= 2) {
			assert_int_equal(auth_allows(a, roles, need),
					 (expected[i] & need) ? AUTH_OK
							      : AUTH_FORBIDDEN);
			assert_int_equal(auth_allows(a, 0, need), AUTH_TOKEN);
		}
		assert_int_equal(auth_allows(a, 0, ROLE_NONE), AUTH_OK);
		auth_free(a);
	}
}

static void test_wrong(void **state)
{
	static const char *const wrong[] = { "Bearer abd",     "Bearer ",
					     "Bearer",         "",
					     "Basic abc",      "abc",
					     "Bearer abc def", "Bearer abc " };
	struct auth *a = open_text(*state, "read x " HEX_ABC "\n"
					   "admin y " HEX_EMPTY "\n");
	struct ip_addr client;
	unsigned roles;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(&client, (int)i, sizeof(client));
		assert_int_equal(auth_roles(a, wrong[i], &client, &roles),
				 AUTH_TOKEN);
		assert_int_equal(roles, 0);
	}
	memset(&client, 99, sizeof(client));
	for (int i = 0; i < 10; i++)
		assert_int_equal(auth_roles(a, "Bearer x", &client, &roles),
				 AUTH_TOKEN);
	assert_int_equal(auth_roles(a, "Bearer x", &client, &roles), AUTH_RATE);
	assert_int_equal(auth_roles(a, "bearer  abc", &client, &roles),
			 AUTH_OK);
	memset(&client, 98, sizeof(client));
	assert_int_equal(auth_roles(a, "Bearer x", &client, &roles),
			 AUTH_TOKEN);
	auth_free(a);
}

static void test_reload(void **state)
{
	struct file *f = *state;
	struct ip_addr client = { { 0 } };
	struct auth *a = open_text(f, "read x " HEX_ABC "\n");
	char err[256];
	unsigned roles;

	write_file(f, "bad", 3, 0600);
	assert_int_equal(auth_reload(a, err), -EINVAL);
	assert_int_equal(auth_roles(a, "Bearer abc", &client, &roles), AUTH_OK);
	write_file(f, "admin x " HEX_ABC, strlen("admin x " HEX_ABC), 0600);
	assert_int_equal(auth_reload(a, err), 0);
	assert_int_equal(auth_roles(a, "Bearer abc", &client, &roles), AUTH_OK);
	assert_true(roles & ROLE_ADMIN);
	auth_free(a);
}

static void test_open_to_all(void **state)
{
	struct ip_addr client = { { 0 } };
	struct auth *a = NULL;
	unsigned roles;
	char err[256];

	(void)state;
	assert_int_equal(auth_open(&a, NULL, err), 0);
	assert_false(auth_required(a));
	assert_int_equal(auth_roles(a, "Bearer x", &client, &roles), AUTH_OK);
	assert_int_equal(auth_allows(a, roles, ROLE_ADMIN), AUTH_OK);
	assert_int_equal(auth_allows(a, roles, ROLE_PEER), AUTH_OK);
	assert_int_equal(auth_reload(a, err), 0);
	auth_free(a);
}

static void test_new_token(void **state)
{
	struct file *f = *state;
	char token[48], hex[65], line[128], header[64];
	struct ip_addr client = { { 0 } };
	struct auth *a;
	unsigned roles;

	auth_new_token(token, hex);
	assert_int_equal(strlen(token), 43);
	assert_int_equal(strlen(hex), 64);
	snprintf(line, sizeof(line), "config me %s\n", hex);
	snprintf(header, sizeof(header), "Bearer %s", token);
	a = open_text(f, line);
	assert_int_equal(auth_roles(a, header, &client, &roles), AUTH_OK);
	auth_free(a);
}

static void test_limit(void **state)
{
	struct limit l;
	struct ip_addr a = { { 1 } }, b;

	(void)state;
	limit_init(&l, 60000);
	assert_int_equal(limit_count(&l, &a), 1);
	assert_int_equal(limit_count(&l, &a), 2);
	for (int i = 0; i < LIMIT_ADDRS - 1; i++) {
		memset(&b, i + 100, sizeof(b));
		assert_int_equal(limit_count(&l, &b), 1);
	}
	assert_int_equal(limit_count(&l, &a), 3);
	limit_init(&l, 0);
	assert_int_equal(limit_count(&l, &a), 1);
	assert_int_equal(limit_count(&l, &a), 1);
}

#define WITH_FILE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(test_file_kind),
		WITH_FILE(test_file_text),
		WITH_FILE(test_roles),
		WITH_FILE(test_wrong),
		WITH_FILE(test_reload),
		WITH_FILE(test_new_token),
		cmocka_unit_test(test_open_to_all),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
