/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSNM on this host.  The task in the registry says what is counted and how it
 * is judged: it came from a client here or from the parent, is kept and spread
 * like any other.  At the end of each window its row and what the children say
 * of it are gathered, judged, and who waits for the judgement is answered;
 * then what is due is calibrated aside.
 *
 * Intervals are numbered by the wall clock.  After a pause the windows that
 * the monitor still keeps are taken one after the other.
 */
#include "agent/msnm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/msnm_diag.h"
#include "agent/overlay.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/util.h"

#define SETTLE_MS 20 /* after the end of a window */
#define CATCH_UP  (FEATURES_KEPT - 1)

static void tick(void *arg);
static void work_next(struct msnm *m);

bool msnm_due(uint64_t *next, uint64_t now)
{
	/* a clock that was set back: what is over was judged; or on by much */
	if (*next > now)
		*next = now;
	else if (*next + CATCH_UP + 1 < now)
		*next = now - 1;
	return *next < now;
}

static uint64_t interval_now(const struct msnm *m)
{
	return clock_wall_ms() / ((uint64_t)m->conf.window_s * 1000);
}

static void tick_arm(struct msnm *m)
{
	uint64_t w = (uint64_t)m->conf.window_s * 1000, now = clock_wall_ms();

	loop_timer_in(m->agent->loop, &m->tick, w - now % w + SETTLE_MS, tick,
		      m);
}

uint32_t msnm_budget_ms(const struct msnm_conf *c, unsigned depth)
{
	uint32_t ms = MIN(5000, c->window_s * 500);

	/* each level has done before the one above gives up on it */
	for (unsigned i = 0; i < depth && ms > 200; i++)
		ms = ms * 4 / 5;
	return ms;
}

enum msnm_phase msnm_phase_of(const struct msnm *m)
{
	if (!m->task.id)
		return MSNM_OFF;
	if (m->e.model)
		return MSNM_WATCHING;
	return m->worker ? MSNM_CALIBRATING : MSNM_COLLECTING;
}

bool msnm_settled(const struct msnm *m)
{
	/* while a child is away there is nothing better to wait for */
	return m->e.model && !msnm_engine_collects_full(&m->e);
}

/* ---- calibration ---- */

void msnm_model_use(struct msnm *m, struct msnm_model *model)
{
	/* what is being made would be of the same generation */
	msnm_worker_free(m->worker);
	m->worker = NULL;
	msnm_engine_swap(&m->e, model);
	msnm_store_model(m);
	log_info("msnm: model %016llx, %zu columns, %zu latent, generation "
		 "%llu.%llu",
		 (unsigned long long)model->id, model->m->m, model->m->lv,
		 (unsigned long long)model->m->generation,
		 (unsigned long long)model->m->revision);
}

static void worked(void *arg, struct msnm_model *model, const char *why)
{
	struct msnm *m = arg;

	m->worker = NULL;
	if (!model) {
		log_warnx("msnm: no model: %s", why);
		snprintf(m->e.problem, sizeof(m->e.problem), "%s", why);
		m->e.failed_at = m->e.rows;
		return;
	}
	msnm_model_use(m, model);
}

static void work_next(struct msnm *m)
{
	struct msnm_job *j =
		m->worker || !m->task.id ? NULL : msnm_engine_job(&m->e, false);

	if (j)
		m->worker = msnm_worker_start(m->agent->loop, j, worked, m);
}

bool msnm_calibrate(struct msnm *m, size_t *have, size_t *need, struct error *e)
{
	size_t least = 3 * (size_t)m->conf.lv + 10;
	struct msnm_job *j = NULL;
	char text[96];

	error_set(e, ERR_NONE, "", "");
	*need = m->conf.rows;
	if (!m->task.id)
		error_set(e, ERR_REFUSED, "", "msnm is off");
	else if (m->worker)
		error_set(e, ERR_REFUSED, "", "a calibration is running");
	else
		j = msnm_engine_job(&m->e, true);
	*have = j ? j->n : 0;
	if (e->code == ERR_NONE && *have < least) {
		snprintf(text, sizeof(text),
			 "%zu rows are stored, at least %zu are needed", *have,
			 least);
		error_set(e, ERR_REFUSED, "", text);
	}
	if (e->code != ERR_NONE) {
		msnm_job_free(j);
		return false;
	}
	m->worker = msnm_worker_start(m->agent->loop, j, worked, m);
	if (!m->worker)
		error_set(e, ERR_INTERNAL, "", "");
	return m->worker != NULL;
}

/* ---- intervals ---- */

static void lost_step(struct msnm *m, const char *host, bool has,
		      unsigned *lost, uint64_t k)
{
	struct msnm_alarm *al;

	if (has) {
		*lost = 0;
		msnm_alarms_resolve(&m->e.alarms, ALARM_SOURCE_LOST, host);
		return;
	}
	if (++*lost < MSNM_LOST)
		return;
	al = msnm_alarms_raise(&m->e.alarms, ALARM_SOURCE_LOST, m->e.host, host,
			       k);
	if (al && al->intervals == 1) {
		al->first = k + 1 - MSNM_LOST;
		al->intervals = MSNM_LOST;
		snprintf(al->detail, sizeof(al->detail),
			 "no value of %s for %d intervals", host, MSNM_LOST);
	}
}

void msnm_sources_check(struct msnm *m, const struct msnm_gather_result *r)
{
	unsigned before = m->n_child, lost[MSNM_CHILD] = { 0 };

	lost_step(m, "monitor", r->has_row, &m->lost, r->k);
	for (unsigned i = 0; i < r->n; i++) {
		for (unsigned k = 0; k < before; k++)
			if (node_id_equal(&m->child[k].id, &r->child[i].id))
				lost[i] = m->child[k].lost;
		lost_step(m, r->child[i].host, r->child[i].has, &lost[i], r->k);
	}
	/* a child that was taken out of the tree is missed by nobody */
	for (unsigned i = 0; i < before; i++) {
		bool there = false;

		for (unsigned k = 0; k < r->n; k++)
			there |= strcmp(m->child[i].host, r->child[k].host) ==
				 0;
		if (!there)
			msnm_alarms_resolve(&m->e.alarms, ALARM_SOURCE_LOST,
					    m->child[i].host);
	}
	for (unsigned i = 0; i < r->n; i++) {
		m->child[i].id = r->child[i].id;
		m->child[i].lost = lost[i];
		memcpy(m->child[i].host, r->child[i].host,
		       sizeof(m->child[i].host));
	}
	m->n_child = r->n;
}

/* ---- the way to what made an alarm ---- */

static void drilled(void *arg, const struct msnm_diagnosis *d)
{
	struct msnm *m = arg;

	for (size_t i = 0; i < m->e.alarms.n; i++) {
		struct msnm_alarm *al = &m->e.alarms.row[i];

		if (al->worst == d->interval && al->path[0])
			msnm_diagnosis_path(d, al->path, sizeof(al->path));
	}
}

/* Below are flows and models that are soon gone: it is asked at once. */
static void drill(struct msnm *m, const struct msnm_entry *en)
{
	bool worst = false;

	for (size_t i = 0; i < m->e.alarms.n; i++)
		worst |= m->e.alarms.row[i].worst == en->interval;
	if (worst && en->n_top && en->top[0].child >= 0)
		(void)msnm_drill_start(m, en->interval, true, 1, 1,
				       msnm_budget_ms(&m->conf, 0), drilled, m);
}

static void gathered(struct msnm *m, struct msnm_gather_result *r)
{
	struct msnm_entry *en = NULL;

	m->gather = NULL;
	msnm_sources_check(m, r);
	if (r->has_row || r->n)
		en = msnm_engine_row(&m->e, r->k, r->quality, r->missed,
				     r->overflow, r->has_row ? r->x : NULL,
				     r->child, r->n);
	else
		msnm_engine_gap(&m->e, r->k);
	if (en)
		en->coverage = r->coverage;
	msnm_peer_judged(m, r->k);
	if (en && en->alarm)
		drill(m, en);
	work_next(m);
	m->next = r->k + 1;
	if (m->next < interval_now(m))
		tick(m);
}

static void tick(void *arg)
{
	struct msnm *m = arg;
	uint64_t now = interval_now(m);

	tick_arm(m);
	if (m->gather)
		return;
	if (msnm_due(&m->next, now))
		m->gather = msnm_gather_start(m, m->next, gathered);
}

/* ---- the task ---- */

static void stop(struct msnm *m)
{
	uint64_t was = m->gather ? m->next : 0;

	msnm_gather_free(m->gather);
	m->gather = NULL;
	if (was)
		msnm_peer_judged(m, was);
	msnm_worker_free(m->worker);
	m->worker = NULL;
	loop_timer_cancel(&m->tick);
}

static void begin(struct msnm *m, const struct task *t,
		  const struct msnm_conf *conf)
{
	bool same = m->e.conf.window_s && m->e.model &&
		    msnm_conf_same_rows(&m->e.conf, conf) &&
		    filter_equal(&m->filter, &t->spec.filter) &&
		    m->both == (t->spec.both != 0);

	stop(m);
	if (!same && !m->loaded)
		msnm_store_forget(m);
	/* a model that was loaded for these rows stays */
	msnm_engine_configure(&m->e, conf, !same);
	m->conf = *conf;
	m->conf.enabled = true;
	m->filter = t->spec.filter;
	m->both = t->spec.both;
	m->task = t->spec;
	snprintf(m->params, sizeof(m->params), "%s", t->params);
	m->lost = 0;
	m->e.last = interval_now(m) - 1;
	msnm_store_apply(m);
	m->next = interval_now(m);
	tick_arm(m);
	msnm_store_conf(m);
}

void msnm_tasks_changed(struct agent *a)
{
	struct msnm *m = a->msnm;
	const struct task *t = m ? registry_msnm(a->registry) : NULL;
	struct msnm_conf conf;

	if (!m)
		return;
	if (!t) {
		if (m->task.id) {
			stop(m);
			m->task.id = 0;
			m->conf.enabled = false;
			msnm_alarms_end(&m->e.alarms, ALARM_KINDS);
			msnm_store_conf(m);
		}
		return;
	}
	if (msnm_conf_parse(&conf, t->params))
		return; /* checked when it came */
	conf.enabled = true;
	if (!task_equal(&m->task, &t->spec)) {
		begin(m, t, &conf);
	} else if (strcmp(t->params, m->params) != 0) {
		bool anew = !msnm_conf_same_rows(&m->conf, &conf);

		/* what was begun under the old ones is not what is wanted */
		msnm_worker_free(m->worker);
		m->worker = NULL;
		msnm_engine_configure(&m->e, &conf, anew);
		if (anew)
			msnm_store_forget(m);
		m->conf = conf;
		snprintf(m->params, sizeof(m->params), "%s", t->params);
		msnm_store_conf(m);
	}
}

int msnm_open(struct msnm **out, struct agent *a)
{
	struct msnm *m = calloc(1, sizeof(*m));
	char host[ENDPOINT_TEXT_LEN];
	struct endpoint self;

	if (!m)
		return -ENOMEM;
	m->agent = a;
	msnm_conf_default(&m->conf);
	m->conf.enabled = false;
	m->both = true;
	self = overlay_endpoint(a->overlay);
	endpoint_format(&self, 8000, host);
	msnm_engine_init(&m->e, &m->conf, host);
	msnm_store_load(m);
	*out = m;
	a->msnm = m;
	msnm_tasks_changed(a);
	return 0;
}

void msnm_free(struct msnm *m)
{
	if (!m)
		return;
	m->agent->msnm = NULL;
	stop(m);
	while (m->drills)
		msnm_drill_end(m->drills);
	msnm_changes_free(m);
	msnm_peer_free(m);
	msnm_engine_fini(&m->e);
	msnm_model_drop(m->stored);
	msnm_model_drop(m->loaded);
	free(m);
}
