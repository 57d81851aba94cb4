/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Model files: the same bits again, every check, and a kill at any moment. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/detect/limits.h"
#include "agent/detect/modelfile.h"
#include "common/util.h"
#include "seed.h"

#define M     4
#define R     3
#define KILLS 200

static char dir[] = "/tmp/linnet-modelfile-XXXXXX";
static char path[64];

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/m.json", dir);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		snprintf(command, sizeof(command), "%s", dir);
		execl("/bin/rm", "rm", "-rf", command, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

/* Numbers that are hard to write: many digits, tiny, -0, huge. */
static struct detect_model *model_make(size_t lv, double n)
{
	static char a[] = "a\"\\", b[] = "\xc3\xa4", c[] = "c";
	static char *const names[M] = { a, b, c, c };
	static const double values[] = {
		0.1, 1 / 3.0, 5e-324, -0.0, 1e22, 1e-7, 1e150, -123456789.125
	};
	static const double eigenvalues[R] = { 2.5, 1 / 3.0, 0.7e-3 };
	struct detect_model *m = detect_model_new(M, R, 2);

	assert_non_null(m);
	m->n = n;
	m->prep = 2;
	m->lv = lv;
	m->alpha_q = 0.01;
	m->alpha_d = 0.05;
	m->phase = 2;
	for (size_t j = 0; j < M; j++) {
		m->mean[j] = values[j + 3];
		m->scale[j] = fabs(values[j]) > 0 ? values[j] : 1;
	}
	m->constant[2] = true;
	memcpy(m->eigenvalues, eigenvalues, sizeof(eigenvalues));
	m->loadings[0] = 0.6;
	m->loadings[1] = 0.8;
	m->loadings[M] = 0.8;
	m->loadings[M + 1] = -0.6;
	m->loadings[2 * M + 3] = 1;
	m->dropped[0] = 7;
	m->dropped[1] = 4000000000;
	m->rows_read = 102;
	m->rows_used = 100;
	m->exceed.q = 3;
	m->quality = DETECT_CLEANED | DETECT_ILL;
	m->created_ms = 1795219200123;
	m->generation = 3;
	m->revision = (uint64_t)1 << 53;
	m->limits.q_empirical = 5;
	m->limits.d_empirical = 1;
	m->limits.active = DETECT_MAX;
	assert_int_equal(detect_limits_q(m->eigenvalues + lv, R - lv, 0.01,
					 &m->limits),
			 0);
	assert_int_equal(detect_limits_d(n, lv, 0.05, &m->limits), 0);
	detect_limits_choose(&m->limits, 2);
	assert_int_equal(detect_model_set_schema(m, "packets/1", 60, names), 0);
	assert_int_equal(detect_model_check(m), 0);
	return m;
}

static char *model_text(const struct detect_model *m)
{
	struct buf b = BUF_INIT;

	assert_int_equal(modelfile_format(m, &b), 0);
	return buf_steal(&b, NULL);
}

static void same_bits(const double *a, const double *b, size_t n)
{
	assert_memory_equal(a, b, n * sizeof(*a));
}

static void test_same_bits(void **state)
{
	char why[MODELFILE_WHY_LEN];

	(void)state;
	/* lv = rank: the limit of Q is undefined */
	for (size_t lv = 1; lv <= R; lv++) {
		struct detect_model *m = model_make(lv, lv == 2 ? 99.75 : 100);
		struct detect_model *back = NULL;
		char *text = model_text(m), *again;

		if (modelfile_parse(text, strlen(text), &back, why))
			fail_msg("%s in %s", why, text);
		again = model_text(back);
		assert_string_equal(text, again);
		same_bits(&back->n, &m->n, 1);
		same_bits(back->mean, m->mean, M);
		same_bits(back->scale, m->scale, M);
		same_bits(back->eigenvalues, m->eigenvalues, R);
		same_bits(back->loadings, m->loadings, R * M);
		same_bits(&back->limits.ucl_d, &m->limits.ucl_d, 1);
		assert_memory_equal(back->constant, m->constant, M);
		assert_int_equal(back->dropped[1], m->dropped[1]);
		assert_int_equal(back->quality, m->quality);
		assert_int_equal(back->revision, m->revision);
		assert_int_equal(back->created_ms, m->created_ms);
		assert_string_equal(back->schema.names[0], "a\"\\");
		assert_string_equal(back->schema.names[1], "\xc3\xa4");
		free(text);
		free(again);
		detect_model_free(m);
		detect_model_free(back);
	}
}

/* One alpha is one member. */
static void test_one_alpha(void **state)
{
	struct detect_model *m = model_make(1, 100), *back;
	char why[MODELFILE_WHY_LEN], *text;

	(void)state;
	m->alpha_d = m->alpha_q;
	assert_int_equal(detect_limits_d(100, 1, 0.01, &m->limits), 0);
	detect_limits_choose(&m->limits, 2);
	text = model_text(m);
	assert_non_null(strstr(text, "\"alpha\": 0.01,"));
	assert_int_equal(modelfile_parse(text, strlen(text), &back, why), 0);
	same_bits(&back->alpha_d, &m->alpha_d, 1);
	free(text);
	detect_model_free(m);
	detect_model_free(back);
}

/* A piece of the text, what it becomes, what is said about it. */
static const struct edit {
	const char *from, *to, *why;
} edits[] = {
	/* form */
	{ "{\"format\"", "[\"format\"", "model: is not a JSON object" },
	{ "}\n", "\n", "model: is not a JSON object" },
	{ "}\n", "} 1\n", "model: is not a JSON object" },
	{ "linnet-msnm-model", "linnet-msnm-modem", "format: is not" },
	{ "\"version\": 1", "\"version\": 2", "version: is not known" },
	{ "\"version\": 1", "\"version\": \"1\"", "version: is of another" },
	{ "\"version\": 1", "\"version\": -1", "version: is out of range" },
	{ "\"version\": 1", "\"x\": 1", "version: is missing" },
	{ "\"version\": 1,", "\"version\": 1, \"x\": 1,",
	  "model: a member that is not known" },
	{ "\"h0\":", "\"x\": 1, \"h0\":", "model: a member that is not known" },
	{ "2026", "2027-", "created: is not a time" },
	{ "T", " ", "created: is not a time" },
	/* dimensions */
	{ "\"m\": 4", "\"m\": 5", "names: are not one for each" },
	{ "\"m\": 4", "\"m\": 0", "m: is out of range" },
	{ "\"m\": 4", "\"m\": 4.0", "m: is of another type" },
	{ "\"m\": 4", "\"m\": 4097", "m: is out of range" },
	{ "\"rank\": 3", "\"rank\": 5", "rank: is out of range" },
	{ "\"rank\": 3", "\"rank\": 2", "eigenvalues: has not as many" },
	{ "\"lv\": 1", "\"lv\": 4", "lv: is out of range" },
	{ "\"lv\": 1", "\"lv\": 0", "lv: is out of range" },
	{ "\"lv\": 1", "\"lv\": 2", "model: limits do not belong" },
	{ "\"n\": 100", "\"n\": 2", "n: is less than lv + 2" },
	{ "\"n\": 100", "\"n\": -1", "n: is less than lv + 2" },
	{ "\"n\": 100", "\"n\": null", "n: is not a number" },
	{ "\"n\": 100", "\"n\": 101", "model: limits do not belong" },
	{ "\"prep\": 2", "\"prep\": 3", "prep: is out of range" },
	{ "\"prep\": 2", "\"prep\": 1", "id: does not belong" },
	{ "\"phase\": 2", "\"phase\": 3", "phase: is out of range" },
	{ "\"phase\": 2", "\"phase\": 1", "model: limits do not belong" },
	{ "\"alpha_q\": 0.01", "\"alpha_q\": 0.6", "alpha: is out of range" },
	{ "\"alpha_q\": 0.01", "\"alpha_q\": 0", "alpha: is out of range" },
	{ "\"alpha_q\": 0.01", "\"alpha_q\": 0.02", "model: limits do not" },
	{ "\"alpha_d\"", "\"x\"", "alpha_d: is missing" },
	{ "\"mean\": [", "\"mean\": [1, ", "mean: has not as many" },
	{ "\"loadings\": [[", "\"loadings\": [[], [", "loadings: are not one" },
	{ "\"loadings\": [[", "\"loadings\": [[0, ", "loadings: has not as" },
	/* numbers */
	{ "[0.6, 0.8, 0.0", "[0.6, 0.8, null", "loadings: holds what is not" },
	{ "[0.6, 0.8, 0.0", "[0.6, 0.8, 1e999", "loadings: holds what is not" },
	{ "[0.6, 0.8, 0.0", "[0.6, 0.8, 1e-9", "model: loadings are not" },
	{ "[0.6, 0.8, ", "[0.6, 0.80000002, ", "model: loadings are not" },
	{ "\"scale\": [0.1", "\"scale\": [0.0",
	  "model: scale is not positive" },
	{ "\"scale\": [0.1", "\"scale\": [-0.1",
	  "model: scale is not positive" },
	{ "\"scale\": [0.1", "\"scale\": [0.10000000000000002",
	  "id: does not belong" },
	{ "\"mean\": [-0.0", "\"mean\": [0.0", "id: does not belong" },
	{ "\"eigenvalues\": [2.5", "\"eigenvalues\": [0.25",
	  "model: eigenvalues are not" },
	{ "0.0007]", "0.0]", "model: eigenvalues are not" },
	{ "0.0007]", "0.0008]", "model: limits do not belong" },
	{ "\"eigenvalues\": [2.5", "\"eigenvalues\": [2.6",
	  "id: does not belong" },
	{ "\"constant\": [2]", "\"constant\": [2, 2]", "constant: is out of" },
	{ "\"constant\": [2]", "\"constant\": [4]", "constant: is out of" },
	{ "\"constant\": [2]", "\"constant\": [1]", "model: loadings are not" },
	{ "\"dropped\": [7, ", "\"dropped\": [-7, ", "dropped: is out of" },
	{ "\"dropped\": [7, ", "\"dropped\": [7.5, ", "dropped: is out of" },
	{ "\"dropped\": [", "\"dropped\": null, \"x\": [", "rows: no list" },
	/* limits */
	{ "\"active\": \"max\"", "\"active\": \"all\"",
	  "active: is not a word" },
	{ "\"active\": \"max\"", "\"active\": \"theory\"",
	  "model: limits do not belong" },
	{ "\"ucl_q\": 5.", "\"ucl_q\": 6.", "model: limits do not belong" },
	{ "\"ucl_d\": ", "\"ucl_d\": 1", "model: limits do not belong" },
	{ "\"status\": \"ok\"", "\"status\": \"undefined\"",
	  "limits: status and method disagree" },
	{ "\"theta\": [0.", "\"theta\": [1.", "model: limits do not belong" },
	{ "\"empirical\": 5.0", "\"empirical\": 6.0",
	  "model: limits do not belong" },
	{ "\"phase1\": ", "\"phase1\": 1", "model: limits do not belong" },
	/* schema, id, quality */
	{ "\"c\", \"c\"", "\"c\", \"d\"", "schema: the hash is another" },
	{ "\"c\", \"c\"", "\"c\", \"\"", "names: one is no name" },
	{ "\"c\", \"c\"", "\"c\", \"c\\u0000\"", "names: one is no name" },
	{ "packets/1", "netflow/1", "schema: the hash is another" },
	{ "packets/1", "packets/1packets/1packets/1",
	  "semantics: is too long" },
	{ "\"window_s\": 60", "\"window_s\": 10", "schema: the hash is" },
	{ "\"hash\": \"", "\"hash\": \"0", "hash: is not 16 digits" },
	{ "\"id\": \"", "\"id\": 1, \"x\": \"", "id: is of another type" },
	{ "[\"cleaned\"", "[\"few\"", "quality: a word" },
	{ "[\"cleaned\", ", "[\"ill_conditioned\", ", "quality: a word" },
	{ "\"generation\": 3", "\"generation\": -3", "generation: is out of" },
};

static char *edited(const char *text, const struct edit *e)
{
	const char *at = strstr(text, e->from);
	char *out = NULL;

	if (!at)
		fail_msg("no %s in %s", e->from, text);
	else if (asprintf(&out, "%.*s%s%s", (int)(at - text), text, e->to,
			  at + strlen(e->from)) < 0)
		fail();
	return out;
}

static void test_checks(void **state)
{
	struct detect_model *m = model_make(1, 100), *back = NULL;
	char *text = model_text(m);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		const struct edit *e = &edits[i];
		char *bad = edited(text, e), why[MODELFILE_WHY_LEN] = "";
		int ret = modelfile_parse(bad, strlen(bad), &back, why);

		if (ret != MODELFILE_BAD || back ||
		    strncmp(why, e->why, strlen(e->why)) != 0)
			fail_msg("%s -> %s: %d, %s", e->from, e->to, ret, why);
		free(bad);
	}
	/* cut anywhere, also between bytes of a character */
	for (size_t len = 0; len < strlen(text) - 2; len++) {
		char why[MODELFILE_WHY_LEN];

		assert_int_equal(modelfile_parse(text, len, &back, why),
				 MODELFILE_BAD);
	}
	free(text);
	detect_model_free(m);
}

/* More numbers than a file may hold. */
static void test_too_large(void **state)
{
	struct detect_model *m = detect_model_new(4096, 4096, 0), *back;
	char why[MODELFILE_WHY_LEN], name[] = "x";
	char **names = calloc(4096, sizeof(*names));
	struct buf b = BUF_INIT;

	(void)state;
	assert_non_null(m);
	assert_non_null(names);
	for (size_t i = 0; i < 4096; i++)
		names[i] = name;
	assert_int_equal(detect_model_set_schema(m, "csv", 0, names), 0);
	assert_int_equal(modelfile_format(m, &b), MODELFILE_LARGE);
	assert_int_equal(modelfile_parse("", MODELFILE_BYTES_MAX + 1, &back,
					 why),
			 MODELFILE_LARGE);
	buf_fini(&b);
	free(names);
	detect_model_free(m);
}

static void test_save_load(void **state)
{
	struct detect_model *m = model_make(1, 100), *back = NULL;
	char why[MODELFILE_WHY_LEN], link[80], *text = model_text(m), *again;
	struct stat st;

	(void)state;
	assert_int_equal(modelfile_load(path, &back, why), -ENOENT);
	assert_int_equal(modelfile_save(path, m), 0);
	assert_int_equal(chmod(path, 0640), 0);
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink("m.json", link), 0);
	assert_int_equal(modelfile_save(link, m), 0);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(modelfile_load(path, &back, why), 0);
	again = model_text(back);
	assert_string_equal(text, again);
	free(text);
	free(again);
	detect_model_free(m);
	detect_model_free(back);
}

static void test_save_fails(void **state)
{
	struct detect_model *m = model_make(1, 100);
	char missing[80], full[80];
	struct stat st;

	(void)state;
	snprintf(missing, sizeof(missing), "%s/none/m.json", dir);
	assert_int_equal(modelfile_save(missing, m), -ENOENT);
	assert_int_equal(modelfile_save(dir, m), -EISDIR);
	/* a device stays one; our own, lest a broken save takes the host's */
	snprintf(full, sizeof(full), "%s/full", dir);
	if (mknod(full, S_IFCHR | 0600, makedev(1, 7)) == 0) {
		int ret = modelfile_save(full, m);

		/* -EACCES: devices are none on this file system */
		assert_true(ret == -ENOSPC || ret == -EACCES);
		assert_int_equal(stat(full, &st), 0);
		assert_true(S_ISCHR(st.st_mode));
	}
	detect_model_free(m);
}

__attribute__((noreturn)) static void save_forever(struct detect_model *m)
{
	for (;;) {
		m->generation = 3 - m->generation;
		if (modelfile_save(path, m))
			_exit(1);
	}
}

/* Killed at a random moment, many times: the old file or the new one. */
static void test_kill(void **state)
{
	struct detect_model *m = model_make(1, 100), *back = NULL;
	uint64_t seed = seed_start(), save_ns = clock_mono_ns();
	char why[MODELFILE_WHY_LEN];
	unsigned changes = 0;

	(void)state;
	m->generation = 1;
	assert_int_equal(modelfile_save(path, m), 0);
	/* what a save takes here and now, at most 20 ms */
	save_ns = MIN(clock_mono_ns() - save_ns + 100000, 20000000u);
	for (int i = 0; i < KILLS; i++) {
		struct timespec t = { .tv_nsec = seed_below(
					      &seed, 3 * (uint32_t)save_ns) };
		int status, ret;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			save_forever(m);
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		ret = modelfile_load(path, &back, why);
		if (ret)
			fail_msg("kill %d: %d %s", i, ret, why);
		assert_in_range(back->generation, 1, 2);
		changes += back->generation != m->generation;
		m->generation = back->generation;
		detect_model_free(back);
	}
	/* else nobody came to the end of a save */
	assert_true(changes > 0);
	detect_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_one_alpha),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_save_load),
		cmocka_unit_test(test_save_fails),
		cmocka_unit_test(test_kill),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
