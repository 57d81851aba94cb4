/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's part around the detector: calibration in a child process, the
 * model on disk whatever is killed meanwhile, answers with extreme figures.
 */
#include <dirent.h>
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
#include "agent/msnm_diag.h"
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

static char state_dir[64]; /* of the test that runs, or "" */

static void dir_make(struct world *w)
{
	snprintf(state_dir, sizeof(state_dir), "/tmp/linnet-test-msnm-XXXXXX");
	assert_non_null(mkdtemp(state_dir));
	snprintf(w->conf.state_dir, sizeof(w->conf.state_dir), "%s", state_dir);
}

/* After each test, also one that failed. */
static int dir_remove(void **state)
{
	char path[320];
	struct dirent *e;
	DIR *d = state_dir[0] ? opendir(state_dir) : NULL;

	(void)state;
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", state_dir, e->d_name);
		if (e->d_name[0] != '.')
			(void)unlink(path);
	}
	if (d)
		closedir(d);
	if (d && rmdir(state_dir))
		return -1;
	state_dir[0] = '\0';
	return 0;
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

static unsigned files(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2; /* . and .. */
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
	/* both files, and perhaps what was begun of the one */
	assert_in_range(files(w.conf.state_dir), 2, 3);
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
		"\"settled\": true, \"values\": [" VALUE(
			"100", ", \"beyond\": {}") "]",
		"\"settled\": true, \"values\": [" VALUE(
			"100",
			", \"beyond\": {\"statistic\": \"x\", \"value\": 9, "
			"\"limit\": 1}") "]",
		"\"settled\": true, \"values\": [" VALUE(
			"100",
			", \"beyond\": {\"statistic\": \"q\", \"value\": 9, "
			"\"limit\": 0}") "]",
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
	assert_false(c.beyond.is);
	/* an alarm by itself, there or below it */
	assert_int_equal(said(&w,
			      "\"settled\": true, \"values\": [" VALUE(
				      "100",
				      ", \"beyond\": {\"statistic\": \"d\", "
				      "\"value\": 9, \"limit\": 2}") "]",
			      &c),
			 0);
	assert_true(c.beyond.is && c.beyond.d);
	assert_true(msnm_ratio(c.beyond.value, c.beyond.limit) > 1.7);
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

static void child_feed(struct world *w, uint64_t k, bool has)
{
	struct msnm_child c = { .id = { { 2 } },
				.has = has,
				.settled = true,
				.generation = 7,
				.q = 1 + 0.001 * seed_below(&rnd, 1000),
				.ucl_q = 5,
				.d = 1 + 0.001 * seed_below(&rnd, 1000),
				.ucl_d = 8 };
	double x[COLUMNS] = { 0 };

	for (unsigned i = 0; i < 8; i++)
		x[i] = seed_below(&rnd, 1000);
	snprintf(c.host, sizeof(c.host), "10.0.0.2");
	assert_non_null(msnm_engine_row(&w->m.e, k, 0, 0, 0, x, &c, 1));
}

/* Cells of each row that is handed out, which has no empty one. */
static unsigned cells_of_rows(struct world *w, unsigned *lines)
{
	struct buf b = BUF_INIT;
	unsigned cells = 0;

	*lines = 0;
	msnm_put_rows(&b, &w->m);
	assert_null(strstr(b.data, ",,"));
	assert_null(strstr(b.data, ",\n"));
	for (const char *s = strchr(b.data, '\n') + 1; *s; s++) {
		*lines += *s == '\n';
		cells += *lines == 0 && *s == ',';
	}
	buf_fini(&b);
	*lines -= 1; /* names */
	return cells;
}

/* A child that is away now and then, or is there no more. */
static void test_child_away(void **state)
{
	struct world w;
	unsigned lines;
	struct msnm_job *j;
	struct detect_model *m;
	char why[160];

	(void)state;
	world_open(&w);
	assert_false(msnm_settled(&w.m));
	for (unsigned i = 0; i < ROWS; i++)
		child_feed(&w, 100 + i, false);
	/* of a child that never came there are no columns */
	assert_int_equal(cells_of_rows(&w, &lines), FEATURES);
	assert_int_equal(lines, ROWS);
	j = msnm_engine_job(&w.m.e, false);
	assert_non_null(j);
	m = msnm_job_run(j, why, sizeof(why));
	msnm_engine_swap(&w.m.e, msnm_model_new(m, NULL));
	msnm_job_free(j);
	/* for it nobody above waits */
	child_feed(&w, 200, false);
	assert_true(msnm_settled(&w.m));
	/* it came: there will be a better model, of complete rows */
	for (unsigned i = 0; i < 2 * ROWS; i++)
		child_feed(&w, 300 + i, i % 2);
	assert_false(msnm_settled(&w.m));
	assert_int_equal(cells_of_rows(&w, &lines), FEATURES + 2);
	assert_int_equal(lines, ROWS);
	j = msnm_engine_job(&w.m.e, false);
	assert_non_null(j);
	m = msnm_job_run(j, why, sizeof(why));
	msnm_engine_swap(&w.m.e, msnm_model_new(m, &j->set));
	msnm_job_free(j);
	assert_true(msnm_settled(&w.m));
	child_feed(&w, 400, false);
	assert_true(msnm_settled(&w.m));
	world_close(&w);
}

static void test_alarms_bounded(void **state)
{
	struct msnm_alarms a = { 0 };
	char name[16];

	(void)state;
	assert_non_null(msnm_alarms_raise(&a, ALARM_Q, "h", "", 1));
	for (unsigned i = 0; i < MSNM_ALARMS + 500; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		assert_non_null(
			msnm_alarms_raise(&a, ALARM_SOURCE_LOST, "h", name, i));
		msnm_alarms_resolve(&a, ALARM_SOURCE_LOST, name);
	}
	assert_int_equal(a.n, MSNM_ALARMS);
	/* what fires is not pushed out */
	assert_non_null(msnm_alarms_firing(&a, ALARM_Q, ""));
	assert_string_equal(a.row[a.n - 1].source, name);
	msnm_alarms_fini(&a);
}

/* ---- flows and diagnoses ---- */

static void test_flows(void **state)
{
	static struct features_flow flow[60];
	/* shares whose sum is more than 1 by a rounding */
	const struct msnm_rank rank[] = { { 100, 0.7 }, { 101, 0.3 + 1e-12 } };
	struct msnm_diagnosis *d = calloc(1, sizeof(*d));

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(flow); i++) {
		char text[64];

		snprintf(text, sizeof(text), "10.0.0.6,10.0.0.5,%u,80,tcp",
			 1000 + i);
		assert_int_equal(key_parse(KEY_FLOW, text, strlen(text),
					   &flow[i].key),
				 0);
		flow[i].packets = 1;
		flow[i].bytes = 40;
		if (i >= 10)
			feature_set_add(&flow[i].matched, 101);
	}
	feature_set_add(&flow[30].matched, 100);
	flow[40].bytes = 50;
	msnm_flows_rank(d, flow, ARRAY_SIZE(flow), rank, 2, 4);
	assert_int_equal(d->n_flows, 4);
	assert_int_equal(d->truncated, 46);
	assert_string_equal(d->flow[0].key, "10.0.0.6,10.0.0.5,1030,80,tcp");
	assert_int_equal(d->flow[0].n_counters, 2);
	assert_true(d->flow[0].score <= 1);
	assert_string_equal(d->flow[1].key, "10.0.0.6,10.0.0.5,1040,80,tcp");
	assert_string_equal(d->flow[2].key, "10.0.0.6,10.0.0.5,1010,80,tcp");
	assert_string_equal(d->flow[3].key, "10.0.0.6,10.0.0.5,1011,80,tcp");
	free(d);
}

static void test_diagnosis(void **state)
{
	struct msnm_diagnosis *d = calloc(2, sizeof(*d)), *in = d + 1;
	struct buf a = BUF_INIT, b = BUF_INIT;
	struct json *v = NULL;
	struct json_out o;

	(void)state;
	*d = (struct msnm_diagnosis){ .interval = 5,
				      .n_path = 2,
				      .known = true,
				      .value = DBL_MAX,
				      .limit = NAN,
				      .n_top = 1,
				      .n_flows = 1 };
	snprintf(d->path[0], sizeof(d->path[0]), "%s", "10.0.0.1");
	snprintf(d->path[1], sizeof(d->path[1]), "%s", "10.0.0.2");
	snprintf(d->host, sizeof(d->host), "%s", "10.0.0.2");
	snprintf(d->top[0].name, sizeof(d->top[0].name), "%s", "tcpflags_RST");
	d->top[0].contribution = -INFINITY;
	snprintf(d->flow[0].key, sizeof(d->flow[0].key), "%s",
		 "10.0.0.6,10.0.0.5,1,80,tcp");
	d->flow[0].flags = 0x14;
	d->flow[0].n_counters = 1;
	d->flow[0].counter[0] = 175;
	json_out_init(&o, &a);
	json_open(&o, NULL, '{');
	msnm_diagnosis_put(&o, d, true);
	json_close(&o, '}');
	assert_null(strstr(a.data, "inf"));
	assert_non_null(strstr(a.data, "\"flags\": \"AR\""));
	assert_int_equal(json_parse(a.data, a.len, &v), 0);
	assert_int_equal(msnm_diagnosis_parse(v, in), 0);
	json_free(v);
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	msnm_diagnosis_put(&o, in, true);
	json_close(&o, '}');
	assert_string_equal(a.data, b.data);
	/* the old form has no null */
	buf_reset(&b);
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	msnm_diagnosis_put(&o, in, false);
	json_close(&o, '}');
	assert_null(strstr(b.data, "null"));
	/* each cut of it is no diagnosis, and harms nobody */
	for (size_t len = 0; len < a.len; len++)
		if (!json_parse(a.data, len, &v)) {
			(void)msnm_diagnosis_parse(v, in);
			json_free(v);
		}
	buf_fini(&a);
	buf_fini(&b);
	free(d);
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
		cmocka_unit_test_teardown(test_kept, dir_remove),
		cmocka_unit_test_teardown(test_schema, dir_remove),
		cmocka_unit_test_teardown(test_refused, dir_remove),
		cmocka_unit_test(test_sources),
		cmocka_unit_test_teardown(test_killed, dir_remove),
		cmocka_unit_test(test_child_says),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_child_away),
		cmocka_unit_test(test_alarms_bounded),
		cmocka_unit_test(test_flows),
		cmocka_unit_test(test_diagnosis),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
