/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading of reference values for tests: JSON by json-c, CSV as plain as it
 * lies there, compressed files through gzip.
 */
#include "golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

#define GOLDEN "../shared/golden/msnm/"
#define DATA   "../shared/data/msnm/"

struct json_object *golden_open(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), GOLDEN "%s", name);
	if (!access(path, R_OK))
		return json_object_from_file(path);
	print_message("%s is not beside this tree: skipped\n", path);
	return NULL;
}

void golden_close(struct json_object *o)
{
	json_object_put(o);
}

static FILE *inflate(const char *path, pid_t *child)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	*child = fork();
	assert_true(*child >= 0);
	if (!*child) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl("/bin/gzip", "gzip", "-dcf", path, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	return fdopen(ends[0], "r");
}

struct matrix golden_data(const char *name)
{
	struct matrix a = { 0 };
	char path[256], *line = NULL;
	size_t size = 0, room = 0;
	pid_t child;
	FILE *f;
	int status;

	snprintf(path, sizeof(path), DATA "%s", name);
	f = inflate(path, &child);
	assert_non_null(f);
	assert_true(getline(&line, &size, f) > 0);
	for (char *p = line; *p; p++)
		a.m += *p == ',';
	while (getline(&line, &size, f) > 0) {
		char *at = strchr(line, ',');

		if (a.n == room) {
			room = room ? 2 * room : 64;
			a.v = reallocarray(a.v, room, a.m * sizeof(*a.v));
			assert_non_null(a.v);
		}
		for (size_t j = 0; j < a.m; j++) {
			assert_non_null(at);
			a.v[a.n * a.m + j] = strtod(at + 1, &at);
		}
		a.n++;
	}
	free(line);
	fclose(f);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(a.n > 0 && WIFEXITED(status) && !WEXITSTATUS(status));
	return a;
}

struct json_object *golden_at(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(o, name, &v))
		fail_msg("no %s", name);
	return v;
}

struct json_object *golden_item(struct json_object *o, size_t i)
{
	struct json_object *v = json_object_array_get_idx(o, i);

	assert_non_null(v);
	return v;
}

double golden_number(struct json_object *o, const char *name)
{
	return json_object_get_double(golden_at(o, name));
}

double golden_element(struct json_object *o, size_t i)
{
	return json_object_get_double(golden_item(o, i));
}

size_t golden_length(struct json_object *o)
{
	return json_object_array_length(o);
}

static double worst;

void golden_near(const char *what, double value, double want, double bound)
{
	const double used = fabs(value - want) / bound;

	if (!(fabs(value - want) <= bound))
		fail_msg("%s: %.17g, want %.17g +- %.3g", what, value, want,
			 bound);
	if (used > worst)
		worst = used;
}

double golden_worst(void)
{
	return worst;
}
