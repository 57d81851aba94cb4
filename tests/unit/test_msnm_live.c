/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's part around the detector: calibration in a child process, the
 * model on disk whatever is killed meanwhile, answers with extreme figures.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/detect/modelfile.h"
#include "agent/json.h"
#include "agent/msnm_private.h"
#include "common/util.h"
#include "tests/unit/seed.h"

#define COLUMNS FEATURES
#define ROWS    30

static uint64_t rnd;

struct world {
	struct agent a;
	struct conf conf;
	struct msnm m;
	bool finished;
	struct msnm_model *model;
	char why[160];
};

static void world_open(struct world *w)
{
	struct msnm_conf c;

	memset(w, 0, sizeof(*w));
	w->a.conf = &w->conf;
	w->a.loop = loop_new();
	w->m.agent = &w->a;
	assert_int_equal(
		msnm_conf_parse(&c, "window_s=10 rows=30 lv=1 clean=0"), 0);
	w->m.conf = c;
	w->m.both = true;
	w->m.task.id = 1;
	msnm_engine_init(&w->m.e, &c, "10.0.0.1");
}

static void world_close(struct world *w)
{
	msnm_engine_fini(&w->m.e);
	msnm_model_drop(w->m.stored);
	msnm_model_drop(w->m.loaded);
	msnm_model_drop(w->model);
	loop_free(w->a.loop);
}

static void feed(struct world *w, uint64_t k, double scale)
{
	double x[COLUMNS];

	for (unsigned i = 0; i < COLUMNS; i++)
		x[i] = i < 8 ? scale * seed_below(&rnd, 1000) : 0;
	assert_non_null(msnm_engine_row(&w->m.e, k, 0, 0, 0, x, NULL, 0));
}

static void done(void *arg, struct msnm_model *model, const char *why)
{
	struct world *w = arg;

	w->finished = true;
	w->model = model;
	snprintf(w->why, sizeof(w->why), "%s", why);
	loop_stop(w->a.loop);
}

static struct msnm_job *job_of(struct world *w, double scale)
{
	struct msnm_job *j;

	for (unsigned i = 0; i < ROWS; i++)
		feed(w, 1 + i, scale);
	j = msnm_engine_job(&w->m.e, false);
	assert_non_null(j);
	return j;
}

static struct msnm_model *model_of(struct world *w)
{
	struct msnm_job *j = job_of(w, 1);
	struct detect_model *m;
	char why[160];

	m = msnm_job_run(j, why, sizeof(why));
	assert_non_null(m);
	msnm_job_free(j);
	return msnm_model_new(m, NULL);
}

/* What the child makes is, bit by bit, what would be made here. */
static void test_worker(void **state)
{
	struct detect_model *here;
	struct msnm_job *j;
	struct world w;
	char why[160];

	(void)state;
	world_open(&w);
	j = job_of(&w, 1);
	here = msnm_job_run(j, why, sizeof(why));
	assert_non_null(here);
	assert_non_null(msnm_worker_start(w.a.loop, j, done, &w));
	assert_false(w.finished);
	assert_int_equal(loop_run(w.a.loop), 0);
	assert_string_equal(w.why, "");
	assert_non_null(w.model);
	assert_true(w.model->id == detect_model_id(here));
	assert_int_equal(w.model->m->generation, 1);
	/* and no process is left */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	detect_model_free(here);
	world_close(&w);
}

static void test_worker_refuses(void **state)
{
	struct world w;

	(void)state;
	world_open(&w);
	assert_non_null(msnm_worker_start(w.a.loop, job_of(&w, 0), done, &w));
	assert_int_equal(loop_run(w.a.loop), 0);
	assert_null(w.model);
	assert_true(strlen(w.why) > 5);
	world_close(&w);
}

static void test_worker_ended(void **state)
{
	struct msnm_worker *k;
	struct world w;

	(void)state;
	world_open(&w);
	k = msnm_worker_start(w.a.loop, job_of(&w, 1), done, &w);
	assert_non_null(k);
	msnm_worker_free(k);
	assert_false(w.finished);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	world_close(&w);
}

/* ---- on disk ---- */

static void dir_make(struct world *w)
{
	snprintf(w->conf.state_dir, sizeof(w->conf.state_dir),
		 "/tmp/linnet-test-msnm-XXXXXX");
	assert_non_null(mkdtemp(w->conf.state_dir));
}

static void dir_remove(const struct world *w)
{
	static const char *const names[] = { "msnm.json", "msnm-model.json",
					     "msnm.json.tmp", "msnm.json.bad" };
	char path[320];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", w->conf.state_dir,
			 names[i]);
		(void)unlink(path);
	}
}

static void use(struct world *w, struct msnm_model *m)
{
	msnm_engine_swap(&w->m.e, m);
	msnm_store_model(&w->m);
}

/* The model that another start would find for this task; 0: none. */
static uint64_t found_with(const struct world *w, bool both)
{
	struct world again;
	uint64_t id = 0;

	world_open(&again);
	again.m.both = both;
	again.conf = w->conf;
	again.a.conf = &again.conf;
	msnm_store_load(&again.m);
	msnm_store_apply(&again.m);
	if (again.m.e.model)
		id = again.m.e.model->id;
	world_close(&again);
	return id;
}

static uint64_t found(const struct world *w)
{
	return found_with(w, true);
}

static void test_kept(void **state)
{
	struct msnm_model *a;
	struct world w;
	char path[320];

	(void)state;
	world_open(&w);
	dir_make(&w);
	assert_int_equal(found(&w), 0);
	a = model_of(&w);
	use(&w, a);
	assert_true(found(&w) == a->id);
	/* for another filter, or another window, it is good for nothing */
	w.m.both = false;
	msnm_store_conf(&w.m);
	assert_int_equal(found(&w), 0);
	w.m.both = true;
	msnm_store_conf(&w.m);
	assert_true(found(&w) == a->id);
	/* rows mean something else: it is nothing to complain of later */
	msnm_store_forget(&w.m);
	snprintf(path, sizeof(path), "%s/msnm-model.json", w.conf.state_dir);
	assert_int_equal(access(path, F_OK), -1);
	msnm_store_conf(&w.m);
	dir_remove(&w);
	rmdir(w.conf.state_dir);
	world_close(&w);
}

static void test_schema(void **state)
{
	struct world w, again;

	(void)state;
	world_open(&w);
	dir_make(&w);
	use(&w, model_of(&w));
	world_open(&again);
	again.conf = w.conf;
	again.a.conf = &again.conf;
	msnm_store_load(&again.m);
	again.m.conf.window_s = 20;
	again.m.e.conf.window_s = 20;
	msnm_store_apply(&again.m);
	assert_null(again.m.e.model);
	assert_true(again.m.e.schema);
	assert_non_null(
		msnm_alarms_firing(&again.m.e.alarms, ALARM_SCHEMA, ""));
	world_close(&again);
	dir_remove(&w);
	rmdir(w.conf.state_dir);
	world_close(&w);
}

/* A model of another filter is refused at every start, not at one. */
static void test_refused(void **state)
{
	struct msnm_model *a;
	struct world w, again;

	(void)state;
	world_open(&w);
	dir_make(&w);
	a = model_of(&w);
	use(&w, a);
	world_open(&again);
	again.conf = w.conf;
	again.a.conf = &again.conf;
	again.m.both = false;
	msnm_store_load(&again.m);
	msnm_store_apply(&again.m);
	assert_null(again.m.e.model);
	/* the task in force is kept, with its filter */
	msnm_store_conf(&again.m);
	assert_int_equal(found_with(&w, false), 0);
	/* a model of that task is there again at the next start */
	use(&again, msnm_model_ref(a));
	assert_true(found_with(&w, false) == a->id);
	world_close(&again);
	dir_remove(&w);
	rmdir(w.conf.state_dir);
	world_close(&w);
}

/* A child that comes does not take the count of another. */
static void test_sources(void **state)
{
	struct msnm_gather_result *r = calloc(1, sizeof(*r));
	struct world w;

	(void)state;
	assert_non_null(r);
	world_open(&w);
	r->has_row = true;
	r->k = 1;
	r->n = 1;
	r->child[0].id.b[0] = 2;
	snprintf(r->child[0].host, sizeof(r->child[0].host), "10.0.0.3");
	r->child[0].has = true;
	msnm_sources_check(&w.m, r);
	/* a new one before it, both silent once */
	r->child[1] = r->child[0];
	r->child[0].id.b[0] = 1;
	snprintf(r->child[0].host, sizeof(r->child[0].host), "10.0.0.2");
	r->child[0].has = r->child[1].has = false;
	r->n = 2;
	r->k = 2;
	msnm_sources_check(&w.m, r);
	assert_int_equal(w.m.e.alarms.n, 0);
	r->child[1].has = true;
	r->k = 3;
	msnm_sources_check(&w.m, r);
	assert_int_equal(w.m.e.alarms.n, 1);
	assert_string_equal(w.m.e.alarms.row[0].source, "10.0.0.2");
	assert_int_equal(w.m.e.alarms.row[0].first, 2);
	world_close(&w);
	free(r);
}

/* Two models in turn, as fast as it goes, until it is killed. */
static _Noreturn void save_for_ever(struct world *w, struct msnm_model *a,
				    struct msnm_model *b, int fd)
{
	for (unsigned i = 0;; i++) {
		use(w, msnm_model_ref(i % 2 ? a : b));
		if (i == 0 && write(fd, "x", 1) != 1)
			_exit(1);
	}
}

static void test_killed(void **state)
{
	struct msnm_model *a, *b;
	struct msnm_set set = { .n = 1 };
	struct world w;
	unsigned seen[2] = { 0 };

	(void)state;
	world_open(&w);
	dir_make(&w);
	a = model_of(&w);
	b = model_of(&w);
	b->set = set; /* whose description differs as well */
	b->n_own -= 2;
	use(&w, msnm_model_ref(a));
	for (unsigned i = 0; i < 40; i++) {
		char byte, path[320], why[MODELFILE_WHY_LEN];
		struct detect_model *m;
		uint64_t id;
		int fd[2];
		pid_t pid;

		assert_int_equal(pipe(fd), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			save_for_ever(&w, a, b, fd[1]);
		assert_int_equal(read(fd[0], &byte, 1), 1);
		usleep(seed_below(&rnd, 4000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(fd[0]);
		close(fd[1]);
		snprintf(path, sizeof(path), "%s/msnm-model.json",
			 w.conf.state_dir);
		assert_int_equal(modelfile_load(path, &m, why), 0);
		id = detect_model_id(m);
		detect_model_free(m);
		assert_true(id == a->id || id == b->id);
		seen[id == b->id]++;
		if (id == a->id)
			assert_true(found(&w) == id);
	}
	print_message("%u of the one, %u of the other\n", seen[0], seen[1]);
	msnm_model_drop(a);
	(void)found(&w); /* which clears what was left behind */
	dir_remove(&w);
	assert_int_equal(rmdir(w.conf.state_dir), 0);
	msnm_model_drop(b);
	world_close(&w);
}

/* ---- what children say ---- */

#define VALUE(k, more)                                                 \
	"{\"interval\": " k ", \"state\": \"ok\", \"generation\": 3, " \
	"\"revision\": 1" more "}"
#define FIGURES ", \"q\": 2.5, \"d\": 1e308, \"ucl_q\": null, \"ucl_d\": 5"

static int said(struct world *w, const char *text, struct msnm_child *out)
{
	struct coverage cov;
	struct json *v = NULL;
	struct buf b = BUF_INIT;
	struct json_out o;
	struct coverage mine = { .answered = 1 };
	int ret;

	/* the coverage as agents write it */
	buf_printf(&b, "{%s%s", text, text[0] ? ", " : "");
	json_out_init(&o, &b);
	o.first = true;
	coverage_encode(&o, "coverage", &mine);
	buf_text(&b, "}");
	*out = (struct msnm_child){ .id = { { 9 } } };
	ret = json_parse(b.data, b.len, &v);
	if (!ret)
		ret = msnm_peer_parse(v, &w->m, 100, out, &cov);
	json_free(v);
	buf_fini(&b);
	return ret;
}

static void test_child_says(void **state)
{
	static const char *const bad[] = {
		"",
		"\"settled\": true",
		"\"settled\": 1, \"values\": []",
		"\"values\": []",
		"\"settled\": true, \"values\": {}",
		"\"settled\": true, \"values\": [1]",
		"\"settled\": true, \"values\": [{\"interval\": 100}]",
		"\"settled\": true, \"values\": [" VALUE("-1", FIGURES) "]",
		"\"settled\": true, \"values\": [" VALUE("1e9", FIGURES) "]",
		"\"settled\": true, \"values\": [" VALUE("1", "") "," VALUE(
			"2",
			"") "," VALUE("3",
				      "") "," VALUE("4",
						    "") "," VALUE("5",
								  "") "," VALUE("6",
										"") "]",
	};
	struct msnm_child c;
	struct world w;

	(void)state;
	world_open(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		if (!said(&w, bad[i], &c))
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(said(&w,
			      "\"settled\": true, \"values\": [" VALUE(
				      "100", FIGURES) "]",
			      &c),
			 0);
	assert_true(c.has && c.settled && c.generation == 3);
	assert_true(isnan(c.ucl_q) && c.d > 1e307);
	assert_true(isnan(msnm_ratio(c.q, c.ucl_q)));
	/* negative, text and boolean are no figures */
	assert_int_equal(said(&w,
			      "\"settled\": false, \"values\": [" VALUE(
				      "100",
				      ", \"q\": -1, \"d\": \"5\", \"ucl_q\": "
				      "true, \"ucl_d\": [1]") "]",
			      &c),
			 0);
	assert_true(isnan(c.q) && isnan(c.d) && isnan(c.ucl_q));
	/* of another interval: not of this one */
	assert_int_equal(said(&w,
			      "\"settled\": true, \"values\": [" VALUE(
				      "99", FIGURES) "]",
			      &c),
			 0);
	assert_false(c.has);
	world_close(&w);
}

/* ---- answers ---- */

static void status_text(struct world *w, struct buf *b, bool v1)
{
	struct json *v = NULL;
	struct json_out o;

	buf_reset(b);
	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	msnm_put_status(&o, &w->m, msnm_engine_last(&w->m.e), 0, v1);
	json_close(&o, '}');
	/* the reader takes no NaN and no infinity */
	assert_int_equal(json_parse(b->data, b->len, &v), 0);
	json_free(v);
	if (!v1) {
		assert_null(strstr(b->data, "null"));
		assert_null(strstr(b->data, "true"));
		assert_null(strstr(b->data, "false"));
	}
}

static void test_answers(void **state)
{
	static const double figures[] = { NAN,     INFINITY,     -INFINITY,
					  DBL_MAX, DBL_TRUE_MIN, 0 };
	struct buf b = BUF_INIT;
	struct msnm_entry *en;
	struct world w;

	(void)state;
	world_open(&w);
	msnm_engine_swap(&w.m.e, model_of(&w));
	status_text(&w, &b, true);
	feed(&w, 100, 1e300);
	en = w.m.e.entry[w.m.e.n - 1];
	assert_true(en->has_stats && isfinite(en->q) && isfinite(en->d));
	for (unsigned i = 0; i < ARRAY_SIZE(figures); i++) {
		en->q = en->d = en->ucl_q = en->ucl_d = en->novelty =
			figures[i];
		en->share = figures[i];
		en->n_missing = 1;
		status_text(&w, &b, false);
		status_text(&w, &b, true);
	}
	msnm_model_drop(en->model);
	en->model = NULL;
	status_text(&w, &b, true);
	msnm_put_rows(&b, &w.m);
	assert_null(strstr(b.data, "inf"));
	buf_fini(&b);
	world_close(&w);
}

/* Stored rows are what `linnet msnm calibrate` reads. */
static void test_rows(void **state)
{
	struct buf b = BUF_INIT;
	unsigned lines = 0;
	struct world w;

	(void)state;
	world_open(&w);
	for (unsigned i = 0; i < 3; i++)
		feed(&w, 500 + i, 0.1);
	w.m.e.entry[1]->quality = 1;
	msnm_put_rows(&b, &w.m);
	assert_true(strncmp(b.data,
			    "# linnet-features packets/1 10\n"
			    "interval,src_ip_private,src_ip_public,",
			    66) == 0);
	for (const char *s = b.data; *s; s++)
		lines += *s == '\n';
	assert_int_equal(lines, 4);
	assert_non_null(strstr(b.data, "\n500,"));
	assert_null(strstr(b.data, "\n501,"));
	buf_fini(&b);
	world_close(&w);
}

static int setup(void **state)
{
	(void)state;
	rnd = seed_start();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worker),
		cmocka_unit_test(test_worker_refuses),
		cmocka_unit_test(test_worker_ended),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_child_says),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
