/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root asks as a client would; its complete answer is kept and told to all
 * who ask.  A parent below it asks before the root does, by an id that follows
 * from question and window: the root's question finds the answer, or meets it.
 * When that is, agent/tree/standing.c says; who may be in it, walk_serve.c.
 *
 * Looks each second, and when the next window is due.  Of each question the
 * last window that was asked for and answered is kept, no answers.
 */
#include "agent/standing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/query_private.h"
#include "agent/registry.h"
#include "agent/standing_conf.h"
#include "agent/tree/standing.h"
#include "common/log.h"
#include "common/util.h"

struct standing_row {
	uint64_t task, generation;                      /* task 0: free */
	uint64_t asked[ASK_KINDS], answered[ASK_KINDS]; /* windows */
};

struct standing {
	struct agent *agent;
	struct loop_timer timer;
	uint32_t jitter_ms;
	struct standing_row row[TASKS_MAX];
};

static struct standing_row *row_of(struct standing *s,
				   const struct task_spec *t)
{
	for (unsigned i = 0; i < TASKS_MAX; i++)
		if (s->row[i].task == t->id &&
		    s->row[i].generation == t->generation)
			return &s->row[i];
	return NULL;
}

/* A row for it, that of a task that is gone if need be; NULL: all in use. */
static struct standing_row *row_add(struct standing *s,
				    const struct task_spec *t)
{
	for (unsigned i = 0; i < TASKS_MAX; i++) {
		struct standing_row *row = &s->row[i];
		const struct task *now =
			row->task ? registry_find(s->agent->registry, row->task)
				  : NULL;

		if (now && now->spec.generation == row->generation)
			continue;
		*row = (struct standing_row){ .task = t->id,
					      .generation = t->generation };
		return row;
	}
	return NULL;
}

static struct standing_place place_of(const struct standing *s,
				      const struct task_spec *t)
{
	const struct overlay *o = s->agent->overlay;
	struct node_id path[OVERLAY_HOPS];
	struct standing_place p = { .window_ms = t->window_ms,
				    .jitter_ms = s->jitter_ms };

	for (unsigned i = 0; i < overlay_n_children(o); i++)
		p.height = MAX(p.height, 1 + overlay_child(o, i)->height);
	if (!overlay_is_root(o))
		p.level = overlay_path(o, path);
	return p;
}

static void request_of(const struct task *t, const struct standing_ask *ask,
		       struct answer_request *out)
{
	*out = (struct answer_request){ .kind = ask->kind,
					.task = t->spec,
					.share = ask->share,
					.base_tree = ask->base_tree,
					.n_top = ask->n_top,
					.standing = true,
					.request_id = "standing" };
}

/* ---- a window ---- */

static void window_answered(void *arg, const struct answer *an)
{
	struct standing *s = arg;
	struct standing_row *row = row_of(s, &an->task);

	if (row)
		row->answered[an->kind] =
			MAX(row->answered[an->kind], an->window);
}

static void collect(struct standing *s, const struct answer_request *rq)
{
	struct agent *a = s->agent;
	struct walk_ask m = { .budget_ms = rq->budget_ms,
			      .window_end_ms =
				      (rq->window + 1) * rq->task.window_ms };
	struct question *q;
	struct ask ask;

	answer_ask(rq, &ask);
	ask_run_id(&ask, m.query);
	q = question_new(a, &ask, m.query, rq->request_id, false, true);
	if (q)
		walk_collect(a->queries->walk, &m, q);
}

static void window_ask(struct standing *s, const struct answer_request *rq)
{
	struct agent *a = s->agent;

	/* a host alone is read when it is asked */
	if (!overlay_n_children(a->overlay))
		return;
	if (!overlay_is_root(a->overlay))
		collect(s, rq);
	else if (!answer_start(a, rq, window_answered, s))
		log_warnx("standing query: no memory, or too many queries");
}

/* Asks what is due; wall clock of the next. */
static uint64_t task_look(struct standing *s, const struct task *t,
			  const struct standing_conf *conf, uint64_t wall_ms)
{
	struct standing_row *row = row_of(s, &t->spec);
	struct standing_place p = place_of(s, &t->spec);
	struct answer_request rq;
	uint64_t window;

	if (!row)
		row = row_add(s, &t->spec);
	for (unsigned i = 0; row && i < conf->n; i++) {
		enum ask_kind kind = conf->ask[i].kind;

		window = standing_next(&p, wall_ms, row->asked[kind]);
		if (!window)
			continue;
		row->asked[kind] = window;
		/* that in which it began is not whole on any host */
		if (window * t->spec.window_ms < t->created_ms)
			continue;
		request_of(t, &conf->ask[i], &rq);
		rq.window = window;
		rq.budget_ms = standing_budget_ms(&p, s->agent->conf->query_ms);
		window_ask(s, &rq);
	}
	return standing_due_ms(&p, standing_newest(&p, wall_ms) + 1);
}

static void look(void *arg)
{
	struct standing *s = arg;
	const struct registry *r = s->agent->registry;
	uint64_t wall_ms = clock_wall_ms(), next = UINT64_MAX;
	struct standing_conf conf;

	for (unsigned i = 0; i < registry_rows(r); i++) {
		const struct task *t = registry_at(r, i);

		if (standing_conf_of(r, t, &conf))
			next = MIN(next, task_look(s, t, &conf, wall_ms));
	}
	/* farther off, the next tick is there before */
	if (next > wall_ms + STANDING_TICK_MS)
		loop_timer_cancel(&s->timer);
	else if (loop_timer_in(s->agent->loop, &s->timer, next - wall_ms + 1,
			       look, s))
		log_warnx("no memory for a timer");
}

void standing_tick(struct standing *s)
{
	if (s)
		look(s);
}

uint64_t standing_last(const struct agent *a, const struct answer_request *rq,
		       uint64_t newest)
{
	const struct task *t = registry_find(a->registry, rq->task.id);
	struct standing_row *row = row_of(a->standing, &rq->task);
	struct standing_conf conf;

	if (!row || !t || rq->host_only || rq->contributors ||
	    !overlay_is_root(a->overlay) ||
	    row->answered[rq->kind] + 1 != newest ||
	    !standing_conf_of(a->registry, t, &conf))
		return newest;
	for (unsigned i = 0; i < conf.n; i++) {
		struct answer_request same;

		request_of(t, &conf.ask[i], &same);
		same.window = rq->window;
		if (answer_request_same(&same, rq))
			return newest - 1;
	}
	return newest;
}

int standing_open(struct standing **out, struct agent *a)
{
	struct standing *s = calloc(1, sizeof(*s));
	uint32_t r;

	if (!s)
		return -ENOMEM;
	s->agent = a;
	random_bytes(&r, sizeof(r));
	s->jitter_ms = r % STANDING_JITTER_MS;
	*out = s;
	return 0;
}

void standing_free(struct standing *s)
{
	if (!s)
		return;
	loop_timer_cancel(&s->timer);
	free(s);
}
