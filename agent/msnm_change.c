/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the configuration: what was given goes onto what is in force.
 * Other parameters are those of the same task; another window, filter or way
 * to count is a new task, and the old one goes when the first host holds the
 * new one.  So either all of a change is made or nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/messages.h"
#include "agent/msnm_private.h"
#include "agent/overlay.h"
#include "agent/registry.h"
#include "agent/taskops.h"
#include "agent/v1.h"
#include "common/util.h"

struct msnm_change {
	struct msnm_change *next;
	struct msnm *m;
	struct http_request *rq;
	struct walk_scope scope;
	struct registry_op *op;
	uint64_t old; /* goes when the new one is held; 0: none */
	bool v1, off;
};

static void change_free(struct msnm_change *c)
{
	struct msnm_change **at = &c->m->changes;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	registry_cancel(c->op);
	free(c);
}

void msnm_changes_free(struct msnm *m)
{
	while (m->changes)
		change_free(m->changes);
}

static void refuse(struct msnm_change *c, enum error_code code,
		   const char *field, const char *detail)
{
	struct error e;

	error_set(&e, code, field, detail);
	http_send_error(c->rq, &e);
	change_free(c);
}

static void reply(struct msnm_change *c, const struct coverage *cov)
{
	struct coverage_report rep;
	struct http_reply r;
	struct json_out o;
	struct error e;

	coverage_report(c->m->agent, cov, &c->scope, &rep);
	http_reply_init(&r, 200, c->v1 ? HTTP_JSON : HTTP_TEXT);
	if (!c->v1)
		message_put_coverage(&r, &rep);
	if (!rep.answered) {
		error_set(&e, rep.expected == 1 ? ERR_NO_MONITOR : ERR_NO_HOST,
			  "", "");
		http_send_error_with(c->rq, &e, &r);
	} else if (!c->v1) {
		buf_text(&r.body, "msnm configured");
		http_send(c->rq, &r);
	} else {
		json_out_init(&o, &r.body);
		json_open(&o, NULL, '{');
		json_open(&o, "data", '{');
		msnm_put_config(&o, c->m, true);
		json_close(&o, '}');
		json_open(&o, "meta", '{');
		v1_put_coverage(&o, &rep);
		json_put_str(&o, "request_id", c->rq->id);
		json_close(&o, '}');
		json_close(&o, '}');
		http_send(c->rq, &r);
	}
	change_free(c);
}

static void changed(void *arg, const struct error *e, const struct task *t,
		    const struct coverage *cov)
{
	struct msnm_change *c = arg;
	struct agent *a = c->m->agent;
	struct coverage none = { 0 };

	c->op = NULL;
	if (e && e->code != ERR_NO_HOST && e->code != ERR_NO_MONITOR) {
		refuse(c, e->code, e->field, e->detail);
		return;
	}
	if (c->old && t && !e)
		(void)registry_delete(a, c->old, a->conf->query_ms, NULL, NULL);
	/* parameters count once a host has confirmed them */
	msnm_tasks_changed(a);
	reply(c, e ? &none : cov);
}

static void here_only(struct msnm_change *c)
{
	struct agent *a = c->m->agent;
	struct ctl_loss none = { 0 };
	uint64_t now = clock_wall_ms();
	struct coverage own;

	/* nothing is put anywhere: there is no task */
	c->scope.expected = 1;
	coverage_answered(&own, a->conf->overlay_name, overlay_self(a->overlay),
			  &none, now, now);
	c->scope.digest = own.digest;
	reply(c, &own);
}

static void filter_of(const struct msnm *m, const struct fields *f,
		      struct filter *filter, bool *both)
{
	*filter = m->filter;
	*both = m->both;
	if (!(f->set & FIELDS_FILTER))
		return;
	*filter = f->filter;
	*both = !(f->set & FIELD(INTERFACE));
}

/* What of the task differs, seeds and numbers aside. */
static bool same_task(const struct task_spec *a, const struct task_spec *b)
{
	return filter_equal(&a->filter, &b->filter) && a->both == b->both &&
	       a->semantics == b->semantics && a->window_ms == b->window_ms;
}

static void change_put(struct msnm_change *c, const struct msnm_conf *conf,
		       const struct fields *f, uint32_t budget_ms)
{
	struct agent *a = c->m->agent;
	const struct task *old = registry_msnm(a->registry);
	struct task t = { .origin = ORIGIN_V1, .name = "msnm" };
	struct filter filter;
	bool both;

	filter_of(c->m, f, &filter, &both);
	msnm_conf_task(conf, &filter, both, &t.spec);
	msnm_conf_text(conf, t.params);
	if (old && same_task(&old->spec, &t.spec)) {
		if (f->host_only &&
		    !registry_is_local(a->registry, old->spec.id)) {
			refuse(c, ERR_CONFLICT, "",
			       "it is that of the tree: use scope=tree");
			return;
		}
		c->op = registry_retune(a, old->spec.id, -1, t.params,
					f->host_only, budget_ms, changed, c);
	} else {
		c->old = old ? old->spec.id : 0;
		c->op = registry_create(a, &t, f->host_only, budget_ms, changed,
					c);
	}
	if (!c->op)
		refuse(c, ERR_INTERNAL, "", "");
}

void msnm_change_start(struct msnm *m, struct http_request *rq,
		       const struct fields *f, uint32_t budget_ms, bool v1)
{
	struct agent *a = m->agent;
	const struct task *t = registry_msnm(a->registry);
	struct msnm_change *c = calloc(1, sizeof(*c));
	struct msnm_conf conf = m->conf;
	struct error e;

	error_set(&e, ERR_INTERNAL, "", "");
	if (!c) {
		http_send_error(rq, &e);
		return;
	}
	c->m = m;
	c->rq = rq;
	c->v1 = v1;
	c->next = m->changes;
	m->changes = c;
	coverage_begin(a, f->host_only, &c->scope);
	conf.enabled = true;
	msnm_conf_take(&conf, &f->msnm,
		       (uint32_t)(f->set >> F_MSNM_ENABLED) &
			       ((1u << MSNM_PARAMS) - 1));
	if (msnm_conf_check(&conf, &e)) {
		refuse(c, e.code, e.field, e.detail);
	} else if (t && overlay_parent(a->overlay) &&
		   registry_from_above(a->registry, t)) {
		refuse(c, ERR_CONFLICT, "", "the parent has this task");
	} else if (conf.enabled) {
		change_put(c, &conf, f, budget_ms);
	} else if (!t) {
		here_only(c);
	} else {
		c->op = registry_delete(a, t->spec.id, budget_ms, changed, c);
		if (!c->op)
			refuse(c, ERR_INTERNAL, "", "");
	}
}
