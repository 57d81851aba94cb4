/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a window has ended each agent reads its own total; parents judge with
 * agent/tree/alarm.c whether their subtree may have more than its share of the
 * limit.  Who has more, or cannot know, tells its parent at once; who has not
 * is silent, after it has spoken once under its lease, so that its parent knows
 * that it counts.  That it lives is no silence: its answers to beats say up to
 * when it has judged and told what it must.  Where the shares of the silent
 * leave a doubt, all below are asked as in any question about that window.
 *
 * The share of a subtree follows from its hosts.  A child takes the fewer of
 * two windows and its parent the more, so that neither is wrong when some join
 * or leave between.  Of each alarm the last windows are kept.
 */
#include "agent/alarm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/alarm_private.h"
#include "agent/answer.h"
#include "agent/peer.h"
#include "agent/registry.h"
#include "agent/standing_conf.h"
#include "agent/tree/standing.h"
#include "common/log.h"
#include "common/util.h"

#define WAIT_MS  200                 /* while something is not judged yet */
#define BACK_MAX (ALARM_WINDOWS - 2) /* windows that are begun late */

static struct tree *tree_of(const struct alarm *al)
{
	return overlay_tree(al->all->agent->overlay);
}

static uint32_t height_of(const struct alarm *al)
{
	const struct tree *t = tree_of(al);
	uint32_t height = 0;
	struct tree_child c;

	for (unsigned i = 0; i < tree_n_children(t); i++) {
		tree_child_at(t, i, &c);
		height = MAX(height, 1 + c.height);
	}
	return height;
}

bool alarm_is_top(const struct alarm *al)
{
	const struct agent *a = al->all->agent;
	const struct task *t = registry_find(a->registry, al->task.id);

	return overlay_is_root(a->overlay) || !t ||
	       !registry_from_above(a->registry, t);
}

uint64_t alarm_limit(const struct alarm *al)
{
	uint32_t hosts = tree_hosts(tree_of(al));

	if (alarm_is_top(al))
		return al->limit;
	return alarm_share(al->limit, MIN(hosts, al->hosts_last), al->hosts);
}

static uint64_t end_of(const struct alarm_window *w)
{
	return (w->number + 1) * w->alarm->task.window_ms;
}

/* ---- one window ---- */

static void window_reset(struct alarm_window *w)
{
	struct alarm *al = w->alarm;

	measure_cancel(w->read);
	peer_cancel(w->call);
	free(w->report);
	*w = (struct alarm_window){ .alarm = al };
}

static struct alarm_window *window_of(struct alarm *al, uint64_t number)
{
	struct alarm_window *w = &al->window[number % ALARM_WINDOWS];

	if (w->number < number)
		window_reset(w);
	if (!w->number)
		w->number = number;
	return w->number == number ? w : NULL;
}

static const struct alarm_said *said_by(const struct alarm_window *w,
					const struct node_id *id)
{
	for (unsigned i = 0; i < w->n_said; i++)
		if (node_id_equal(&w->said[i].id, id))
			return &w->said[i];
	return NULL;
}

static struct alarm_kin *kin_of(struct alarm *al, const struct node_id *id)
{
	for (unsigned i = 0; i < al->n_kin; i++)
		if (node_id_equal(&al->kin[i].id, id))
			return &al->kin[i];
	return NULL;
}

/* It has spoken of an earlier window, or this one, and says that it has told
 * what it must of this one. */
static bool is_silent(const struct alarm_window *w, const struct tree_child *c,
		      const struct alarm_kin *kin)
{
	return kin && !epoch_none(&c->lease) &&
	       epoch_compare(&kin->lease, &c->lease) == 0 &&
	       c->state == CHILD_UP && w->number >= kin->first &&
	       end_of(w) < kin->told_ms;
}

static unsigned children_of(const struct alarm_window *w,
			    struct alarm_child out[OVERLAY_CHILDREN])
{
	struct alarm *al = w->alarm;
	unsigned n = 0;

	for (unsigned i = 0; i < tree_n_children(tree_of(al)); i++) {
		const struct alarm_said *said;
		const struct alarm_kin *kin;
		struct tree_child c;

		tree_child_at(tree_of(al), i, &c);
		/* who has a lease is only lost: it counts, and is not silent */
		if (c.refused != TREE_OK && epoch_none(&c.lease))
			continue;
		said = said_by(w, &c.id);
		kin = kin_of(al, &c.id);
		out[n++] = (struct alarm_child){
			.share = alarm_share(al->limit,
					     MAX(c.hosts, kin ? kin->hosts : 0),
					     al->hosts),
			.said = said != NULL,
			.sure = said && said->sure,
			.blind = said && said->blind,
			.least = said ? said->least : 0,
			.most = said ? said->most : 0,
			.heard = is_silent(w, &c, kin),
		};
	}
	return n;
}

/* Who took its place in the tree since may have been counted in another. */
static bool may_speak(const struct alarm_window *w)
{
	const struct tree *t = tree_of(w->alarm);
	struct epoch lease = tree_lease(t);

	return !epoch_none(&lease) && tree_lease_ms(t) < end_of(w);
}

static void window_judged(struct alarm_window *w, enum alarm_verdict v)
{
	struct alarm *al = w->alarm;
	struct epoch lease = tree_lease(tree_of(al));
	bool top = alarm_is_top(al);

	if (top && v == ALARM_OVER && w->verdict != v)
		log_warnx("alarm: task %016llx: %llu or more in a window, the "
			  "limit is %llu",
			  (unsigned long long)al->task.id,
			  (unsigned long long)w->sum.least,
			  (unsigned long long)al->limit);
	w->verdict = v;
	if (v == ALARM_WAIT || top || w->told || !may_speak(w))
		return;
	if (v == ALARM_QUIET && epoch_compare(&al->spoke, &lease) == 0)
		return; /* silence */
	alarm_tell(w);
}

/*
 * There are hosts that no child speaks for, or it is not known.  Who moved
 * since the window's end may have been counted by neither of its parents: that
 * the one who judges for all must see.
 */
static bool some_lost(const struct alarm_window *w)
{
	struct alarm *al = w->alarm;
	struct tree *t = tree_of(al);

	return alarm_is_top(al) &&
	       (!tree_settled(t) || tree_expected(t) > tree_hosts(t) ||
		al->rows_ms >= end_of(w));
}

/* When the rows changed is known by how often they are looked at. */
static void rows_look(struct alarm *al, uint64_t wall_ms)
{
	uint64_t rows = tree_rows_version(tree_of(al));

	al->rows_ms = al->rows == rows ? MIN(al->rows_ms, wall_ms) : wall_ms;
	al->rows = rows;
}

static void window_ask(struct alarm_window *w);

static void window_judge(struct alarm_window *w)
{
	struct alarm_child child[OVERLAY_CHILDREN];
	struct alarm_case c = { .limit = alarm_limit(w->alarm),
				.own = w->own,
				.own_known = w->own_known,
				.child = child };
	uint64_t wall_ms = clock_wall_ms();
	struct alarm_sum sum;
	enum alarm_verdict v;

	rows_look(w->alarm, wall_ms);
	if (!w->own_in || w->asking)
		return;
	c.n = children_of(w, child);
	c.lost = some_lost(w);
	c.late = wall_ms >= end_of(w) + alarm_settle_ms(height_of(w->alarm));
	v = alarm_judge(&c, &sum);
	/* who is lost later was heard then; but it may still be more */
	if (w->final && (v != ALARM_OVER || w->verdict == v))
		return;
	w->told = w->told && w->verdict == v && w->sum.least == sum.least &&
		  w->sum.sure == sum.sure && !c.late;
	w->sum = sum;
	w->final = v != ALARM_WAIT && (sum.sure || c.late || v != ALARM_OVER);
	if (v == ALARM_ASK ||
	    (v == ALARM_BLIND && alarm_is_top(w->alarm) && (c.n || c.lost)))
		window_ask(w);
	else
		window_judged(w, v);
}

static void asked_done(void *arg, const struct answer *an)
{
	struct alarm_run *run = arg, **at = &run->all->runs;
	struct alarm *al = alarm_find(run->all, run->task, run->generation);
	struct alarm_window *w = al ? window_of(al, an->window) : NULL;

	while (*at != run)
		at = &(*at)->next;
	*at = run->next;
	free(run);
	if (!w || !w->asking)
		return;
	w->asking = false;
	if (an->part)
		w->sum.least = MAX(w->sum.least, an->part->totals.weight);
	w->sum.sure = an->report.complete;
	w->sum.most = w->sum.sure ? w->sum.least : UINT64_MAX;
	free(w->report);
	w->report = malloc(sizeof(*w->report));
	if (w->report)
		*w->report = an->report;
	window_judged(w, w->sum.least > alarm_limit(al) ? ALARM_OVER
			 : an->report.complete          ? ALARM_QUIET
							: ALARM_BLIND);
}

static void window_ask(struct alarm_window *w)
{
	struct alarm *al = w->alarm;
	struct alarms *all = al->all;
	struct answer_request rq = { .kind = ASK_TOTALS,
				     .task = al->task,
				     .window = w->number,
				     .budget_ms = all->agent->conf->query_ms,
				     .request_id = "alarm" };
	struct alarm_run *run = calloc(1, sizeof(*run));

	if (run) {
		*run = (struct alarm_run){ all->runs, all, al->task.id,
					   al->task.generation };
		w->asking = answer_start(all->agent, &rq, asked_done, run);
	}
	if (w->asking) {
		all->runs = run;
		return;
	}
	free(run);
	window_judged(w, ALARM_BLIND);
}

static void own_done(void *arg, struct measure_result *r)
{
	struct alarm_window *w = arg;

	w->read = NULL;
	w->own_in = true;
	w->own_known = r->reason == MISSING_NONE && r->part;
	w->own = w->own_known ? r->part->totals.weight : 0;
	part_free(r->part);
	window_judge(w);
}

static void window_begin(struct alarm *al, uint64_t number)
{
	struct alarm_window *w = window_of(al, number);

	if (!w || w->begun)
		return;
	w->begun = true;
	w->ask = (struct ask){ .kind = ASK_TOTALS,
			       .round = 1,
			       .task = al->task,
			       .window = number };
	w->read = measure_start(al->all->agent, &w->ask, own_done, w);
	w->own_in = !w->read;
}

int alarm_heard(struct alarm *al, uint64_t window,
		const struct alarm_said *said, const struct epoch *lease)
{
	uint64_t now = clock_wall_ms() / al->task.window_ms;
	struct alarm_window *w;
	struct alarm_kin *kin;

	if (window > now)
		return -EAGAIN; /* its clock is ahead */
	w = window + ALARM_WINDOWS > now ? window_of(al, window) : NULL;
	if (!w)
		return -ERANGE;
	for (unsigned i = 0; i < w->n_said; i++)
		if (node_id_equal(&w->said[i].id, &said->id))
			w->said[i] = w->said[--w->n_said];
	if (w->n_said == OVERLAY_CHILDREN)
		return -ERANGE;
	kin = kin_of(al, &said->id);
	if (!kin && al->n_kin == OVERLAY_CHILDREN)
		return -EAGAIN; /* until those who left are forgotten */
	if (!kin) {
		kin = &al->kin[al->n_kin++];
		*kin = (struct alarm_kin){ .id = said->id };
	}
	if (epoch_compare(&kin->lease, lease) != 0) {
		kin->lease = *lease;
		kin->first = window;
		kin->told_ms = 0;
	}
	kin->first = MIN(kin->first, window);
	al->all->n_heard++;
	w->said[w->n_said++] = *said;
	window_judge(w);
	return 0;
}

/* ---- alarms ---- */

struct alarm *alarm_find(struct alarms *all, uint64_t task, uint64_t generation)
{
	struct alarm *al = all->first;

	while (al && (al->task.id != task || al->task.generation != generation))
		al = al->next;
	return al;
}

static void alarm_free(struct alarm *al)
{
	for (unsigned i = 0; i < ALARM_WINDOWS; i++)
		window_reset(&al->window[i]);
	free(al);
}

static struct alarm *alarm_new(struct alarms *all, const struct task_spec *t)
{
	struct alarm *al = calloc(1, sizeof(*al));

	if (!al)
		return NULL;
	al->all = all;
	al->task = *t;
	al->hosts_last = tree_hosts(tree_of(al));
	al->rows = tree_rows_version(tree_of(al));
	for (unsigned i = 0; i < ALARM_WINDOWS; i++)
		al->window[i].alarm = al;
	al->next = all->first;
	all->first = al;
	return al;
}

/* Children that are gone are forgotten; of the others the hosts are kept. */
static void kin_renew(struct alarm *al)
{
	unsigned n = 0;

	for (unsigned i = 0; i < tree_n_children(tree_of(al)); i++) {
		struct alarm_kin *kin, swap;
		struct tree_child c;

		tree_child_at(tree_of(al), i, &c);
		kin = kin_of(al, &c.id);
		if (!kin || kin < &al->kin[n])
			continue;
		kin->hosts = c.hosts;
		swap = al->kin[n];
		al->kin[n++] = *kin;
		*kin = swap;
	}
	al->n_kin = n;
	al->hosts_last = tree_hosts(tree_of(al));
}

/* Begins what is due and judges what is open; wall clock of the next look. */
static uint64_t alarm_look(struct alarm *al, const struct task *t,
			   uint64_t wall_ms)
{
	struct standing_place p = {
		.window_ms = t->spec.window_ms,
		.height = height_of(al),
		.jitter_ms = al->all->jitter_ms,
	};
	uint64_t window = standing_next(&p, wall_ms, al->last);
	uint64_t next = standing_due_ms(&p, standing_newest(&p, wall_ms) + 1);

	rows_look(al, wall_ms);
	for (unsigned i = 0; i < ALARM_WINDOWS; i++) {
		struct alarm_window *w = &al->window[i];

		if (!w->begun)
			continue;
		if (!w->final)
			window_judge(w);
		else if (w->verdict != ALARM_QUIET)
			window_judged(w, w->verdict);
		if (!w->final)
			next = MIN(next, wall_ms + WAIT_MS);
	}
	if (!window)
		return next;
	/* the clock was set back: their numbers come again */
	for (unsigned i = 0; i < ALARM_WINDOWS && window < al->last; i++)
		window_reset(&al->window[i]);
	/* who was stopped has something to say of what it slept through */
	if (!al->last || window < al->last)
		al->last = window - 1;
	for (uint64_t n = MAX(al->last + 1, window - MIN(window, BACK_MAX));
	     n <= window; n++)
		/* that in which it began is not whole on any host */
		if (n * t->spec.window_ms >= t->created_ms)
			window_begin(al, n);
	al->last = window;
	kin_renew(al);
	return next;
}

static bool conf_of(const struct registry *r, const struct task *t,
		    struct standing_conf *out)
{
	return standing_conf_of(r, t, out) && out->alarm.limit;
}

static void look(void *arg)
{
	struct alarms *all = arg;
	const struct registry *r = all->agent->registry;
	uint64_t wall_ms = clock_wall_ms(), next = UINT64_MAX;
	struct alarm **at = &all->first;
	struct standing_conf conf;

	while (*at) {
		struct alarm *al = *at;
		const struct task *t = registry_find(r, al->task.id);

		if (t && task_equal(&t->spec, &al->task) &&
		    conf_of(r, t, &conf)) {
			at = &al->next;
			continue;
		}
		*at = al->next;
		alarm_free(al);
	}
	all->unmade = false;
	for (unsigned i = 0; i < registry_rows(r); i++) {
		const struct task *t = registry_at(r, i);
		struct alarm *al;

		if (!conf_of(r, t, &conf))
			continue;
		al = alarm_find(all, t->spec.id, t->spec.generation);
		if (!al)
			al = alarm_new(all, &t->spec);
		all->unmade |= !al;
		if (!al)
			continue;
		al->limit = conf.alarm.limit;
		al->hosts = conf.alarm.hosts;
		next = MIN(next, alarm_look(al, t, wall_ms));
	}
	if (next > wall_ms + STANDING_TICK_MS)
		loop_timer_cancel(&all->timer);
	else if (loop_timer_in(all->agent->loop, &all->timer,
			       next > wall_ms ? next - wall_ms + 1 : WAIT_MS,
			       look, all))
		log_warnx("no memory for a timer");
}

/* End of the first window of which the parent may hear something yet. */
static uint64_t told_ms(const struct alarm *al)
{
	struct epoch lease = tree_lease(tree_of(al));
	bool counts = epoch_compare(&al->spoke, &lease) == 0;
	uint64_t n = al->last - MIN(al->last, ALARM_WINDOWS - 1);

	for (; n <= al->last; n++) {
		const struct alarm_window *w = &al->window[n % ALARM_WINDOWS];

		if (w->number == n && w->begun && may_speak(w) &&
		    !(w->told && w->taken) &&
		    !(w->final && w->verdict == ALARM_QUIET && counts))
			break;
	}
	return (n + 1) * al->task.window_ms;
}

uint64_t alarms_told_ms(const struct alarms *all)
{
	uint64_t ms = UINT64_MAX;

	for (const struct alarm *al = all ? all->first : NULL; al;
	     al = al->next)
		if (!alarm_is_top(al))
			ms = MIN(ms, told_ms(al));
	return ms == UINT64_MAX || all->unmade ? 0 : ms;
}

void alarms_beaten(struct alarms *all, const struct node_id *id,
		   const struct epoch *lease, uint64_t told_ms)
{
	for (struct alarm *al = all ? all->first : NULL; al; al = al->next) {
		struct alarm_kin *kin = kin_of(al, id);

		if (kin && epoch_compare(&kin->lease, lease) == 0)
			kin->told_ms = told_ms;
	}
}

uint64_t alarms_heard(const struct alarms *all)
{
	return all ? all->n_heard : 0;
}

void alarms_tick(struct alarms *all)
{
	if (all)
		look(all);
}

int alarms_open(struct alarms **out, struct agent *a)
{
	struct alarms *all = calloc(1, sizeof(*all));
	uint32_t r;

	if (!all)
		return -ENOMEM;
	all->agent = a;
	random_bytes(&r, sizeof(r));
	all->jitter_ms = r % STANDING_JITTER_MS;
	*out = all;
	return 0;
}

void alarms_free(struct alarms *all)
{
	if (!all)
		return;
	loop_timer_cancel(&all->timer);
	while (all->first) {
		struct alarm *al = all->first;

		all->first = al->next;
		alarm_free(al);
	}
	while (all->runs) {
		struct alarm_run *run = all->runs;

		all->runs = run->next;
		free(run);
	}
	free(all);
}
