/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The messages of MSNM on POST / and the resources /api/v1/msnm…,
 * /api/v1/alerts. Each is one function for both forms, which differ in the
 * envelope.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/modelfile.h"
#include "agent/messages.h"
#include "agent/msnm_private.h"
#include "agent/overlay.h"
#include "agent/v1.h"
#include "common/util.h"

#define MODEL_MAX ((size_t)1 << 20)

/* One request in either form. */
struct msnm_ask {
	struct msnm *m;
	struct http_request *rq;
	struct fields f;
	uint32_t budget_ms;
	bool v1;
	struct http_reply r;
	struct json_out o;
};

static void refuse(struct http_request *rq, enum error_code code,
		   const char *field, const char *detail)
{
	struct error e;

	error_set(&e, code, field, detail);
	http_send_error(rq, &e);
}

/* ---- envelopes ---- */

static void reply_open(struct msnm_ask *a, int status, char bracket)
{
	http_reply_init(&a->r, status, HTTP_JSON);
	json_out_init(&a->o, &a->r.body);
	if (a->v1)
		json_open(&a->o, NULL, '{');
	json_open(&a->o, a->v1 ? "data" : NULL, bracket);
}

/* rep NULL: an answer about this agent alone, without coverage. */
static void reply_close(struct msnm_ask *a, char bracket,
			const struct coverage_report *rep)
{
	json_close(&a->o, bracket);
	if (!a->v1 && rep)
		message_put_coverage(&a->r, rep);
	if (a->v1) {
		json_open(&a->o, "meta", '{');
		if (rep)
			v1_put_coverage(&a->o, rep);
		json_put_str(&a->o, "request_id", a->rq->id);
		json_close(&a->o, '}');
		json_close(&a->o, '}');
	}
	http_send(a->rq, &a->r);
}

/* Hosts that judged the interval; en NULL: none. */
static void report(const struct msnm_ask *a, const struct msnm_entry *en,
		   struct coverage_report *rep)
{
	struct agent *agent = a->m->agent;
	struct coverage c = { 0 };
	struct walk_scope scope;

	coverage_begin(agent, a->f.host_only, &scope);
	if (en && !a->f.host_only)
		c = en->coverage;
	else if (en && !en->no_row)
		coverage_answered(&c, agent->conf->overlay_name,
				  overlay_self(agent->overlay),
				  &en->coverage.loss, 0, 0);
	else
		coverage_missing(&c, overlay_self(agent->overlay),
				 a->m->task.id ? MISSING_NO_WINDOW
					       : MISSING_UNKNOWN_TASK,
				 true);
	for (unsigned i = 0;
	     !en && !a->f.host_only && i < overlay_n_children(agent->overlay);
	     i++)
		coverage_missing(&c, &overlay_child(agent->overlay, i)->id,
				 MISSING_BEHIND, false);
	coverage_report(agent, &c, &scope, rep);
}

/* ---- questions ---- */

/* Rows stored for the model to come. */
static size_t rows_have(const struct msnm *m)
{
	return msnm_engine_have(&m->e, msnm_engine_collects_full(&m->e));
}

static void query_history(struct msnm_ask *a)
{
	const struct msnm_engine *e = &a->m->e;
	size_t n = MIN(a->f.history, e->n), have = rows_have(a->m);
	struct coverage_report rep;

	report(a, msnm_engine_last(e), &rep);
	reply_open(a, 200, '[');
	for (size_t i = e->n - n; i < e->n; i++) {
		json_open(&a->o, NULL, '{');
		msnm_put_status(&a->o, a->m, e->entry[i], have, a->v1);
		json_close(&a->o, '}');
	}
	reply_close(a, ']', &rep);
}

static void query(struct msnm_ask *a)
{
	const struct msnm_entry *en = msnm_engine_last(&a->m->e);
	struct coverage_report rep;

	if (a->f.set & FIELD(HISTORY)) {
		query_history(a);
		return;
	}
	if (a->f.set & FIELD(INTERVAL)) {
		en = msnm_engine_find(&a->m->e, a->f.interval);
		if (!en) {
			refuse(a->rq, ERR_VALUE, "interval",
			       "one of those kept: see history");
			return;
		}
	}
	report(a, en, &rep);
	reply_open(a, 200, '{');
	msnm_put_status(&a->o, a->m, en, rows_have(a->m), a->v1);
	reply_close(a, '}', &rep);
}

struct kept {
	struct msnm_ask a;
	struct coverage_report rep;
};

static void diagnosed(void *arg, const struct msnm_diagnosis *d)
{
	struct kept *k = arg;

	reply_open(&k->a, 200, '{');
	msnm_diagnosis_put(&k->a.o, d, k->a.v1);
	reply_close(&k->a, '}', &k->rep);
	free(k);
}

static void diagnosis(struct msnm_ask *a)
{
	const struct msnm_entry *en = msnm_engine_last(&a->m->e);
	struct kept *k = NULL;

	if (a->f.set & FIELD(INTERVAL))
		en = msnm_engine_find(&a->m->e, a->f.interval);
	if (!en && (a->f.set & FIELD(INTERVAL)))
		refuse(a->rq, ERR_VALUE, "interval",
		       "one of those kept: see history");
	else if (!en)
		refuse(a->rq, ERR_REFUSED, "", "no interval is there yet");
	if (!en)
		return;
	k = calloc(1, sizeof(*k));
	if (k) {
		k->a = *a;
		report(a, en, &k->rep);
	}
	if (!k ||
	    !msnm_drill_start(a->m, en->interval, !a->f.host_only,
			      a->f.set & FIELD(FEATURES) ? a->f.features : 5,
			      a->f.set & FIELD(FLOWS) ? a->f.flows : 20,
			      a->budget_ms, diagnosed, k)) {
		free(k);
		refuse(a->rq, ERR_INTERNAL, "", "");
	}
}

static void config(struct msnm_ask *a)
{
	msnm_change_start(a->m, a->rq, &a->f, a->budget_ms, a->v1);
}

static void put_calibration(struct msnm_ask *a, int status)
{
	struct msnm *m = a->m;

	reply_open(a, status, '{');
	json_put_str(&a->o, "phase", msnm_phase_name(msnm_phase_of(m)));
	json_put_bool(&a->o, "running", m->worker != NULL);
	json_put_u64(&a->o, "have", rows_have(m));
	json_put_u64(&a->o, "need", m->conf.rows);
	if (m->e.problem[0])
		json_put_str(&a->o, "problem", m->e.problem);
	else
		json_put_null(&a->o, "problem");
	if (status == 202)
		http_reply_header(&a->r, "Location",
				  "/api/v1/msnm/calibration");
	reply_close(a, '}', NULL);
}

static void calibrate(struct msnm_ask *a)
{
	size_t have, need;
	struct error e;
	char text[96];

	if (!msnm_calibrate(a->m, &have, &need, &e)) {
		http_send_error(a->rq, &e);
		return;
	}
	if (a->v1) {
		put_calibration(a, 202);
		return;
	}
	snprintf(text, sizeof(text), "calibration started: %zu of %zu rows",
		 have, need);
	http_send_text(a->rq, 200, text);
}

/* ---- POST / ---- */

void msnm_message(struct agent *agent, struct http_request *rq,
		  enum msnm_message what, const struct fields *f,
		  uint32_t budget_ms)
{
	static void (*const run[])(struct msnm_ask * a) = {
		[MSNM_CONFIG] = config,
		[MSNM_QUERY] = query,
		[MSNM_DIAGNOSIS] = diagnosis,
		[MSNM_CALIBRATE] = calibrate,
	};
	struct msnm_ask a = {
		.m = agent->msnm, .rq = rq, .f = *f, .budget_ms = budget_ms
	};

	run[what](&a);
}

/* ---- /api/v1 ---- */

/* false: the refusal was sent. */
static bool v1_ask(struct msnm_ask *a, void *ctx, struct http_request *rq,
		   uint64_t takes)
{
	struct v1_call *c = v1_call_new(ctx, rq, takes, NULL);

	if (!c)
		return false;
	*a = (struct msnm_ask){ .m = c->agent->msnm,
				.rq = rq,
				.f = c->f,
				.budget_ms = v1_budget(c),
				.v1 = true };
	free(c);
	return true;
}

static void get_msnm(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (v1_ask(&a, ctx, rq,
		   FIELD(SCOPE) | FIELD(INTERVAL) | FIELD(HISTORY)))
		query(&a);
}

static void get_contributions(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (v1_ask(&a, ctx, rq,
		   FIELD(SCOPE) | FIELD(TIMEOUT) | FIELD(INTERVAL) |
			   FIELD(FEATURES) | FIELD(FLOWS)))
		diagnosis(&a);
}

static void get_config(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (!v1_ask(&a, ctx, rq, 0))
		return;
	reply_open(&a, 200, '{');
	msnm_put_config(&a.o, a.m, true);
	reply_close(&a, '}', NULL);
}

/* The members of a body as fields of a request. */
static void members(const struct json *body, struct fields *f, struct error *e)
{
	static const enum field_id texts[] = { F_INTERFACE, F_PROTO, F_SRC,
					       F_DST };
	struct form form = { 0 };
	struct fields in;
	uint64_t takes = FIELDS_FILTER | FIELDS_MSNM;

	for (unsigned i = 0; i < MSNM_PARAMS + ARRAY_SIZE(texts); i++) {
		bool param = i < MSNM_PARAMS;
		enum field_id id = param ? (enum field_id)(F_MSNM_ENABLED + i)
					 : texts[i - MSNM_PARAMS];
		const struct json *v = json_get(body, field_name(id));
		char *text = form.pair[form.n].value;

		if (!v)
			continue;
		if (param ? msnm_member_text((enum msnm_param)i, v, text,
					     FORM_VALUE_MAX)
			  : json_type(v) != JSON_STRING ||
				    json_scalar_text(v, text, FORM_VALUE_MAX)) {
			error_add(
				e, ERR_VALUE, field_name(id),
				param && msnm_param_is_bool((enum msnm_param)i)
					? "true or false"
					: field_allowed(id));
			continue;
		}
		snprintf(form.pair[form.n].name, sizeof(form.pair[0].name),
			 "%s", field_name(id));
		form.pair[form.n].len = strlen(text);
		form.n++;
	}
	if (!fields_decode(&form, takes, 0, &in, e)) {
		in.host_only = f->host_only;
		*f = in;
	}
}

static void patch_config(void *ctx, struct http_request *rq)
{
	const char *names[MSNM_PARAMS + 5] = { "interface", "proto", "src",
					       "dst" };
	struct json *body = NULL;
	struct error e;
	struct msnm_ask a;

	for (unsigned i = 0; i < MSNM_PARAMS; i++)
		names[4 + i] = msnm_param_name((enum msnm_param)i);
	if (!v1_ask(&a, ctx, rq, FIELD(SCOPE) | FIELD(TIMEOUT)))
		return;
	if (!v1_body(rq, names, &body, &e))
		members(body, &a.f, &e);
	json_free(body);
	if (e.code != ERR_NONE)
		http_send_error(rq, &e);
	else
		config(&a);
}

static void get_calibration(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (v1_ask(&a, ctx, rq, 0))
		put_calibration(&a, 200);
}

static void post_calibration(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (v1_ask(&a, ctx, rq, 0))
		calibrate(&a);
}

static void get_model(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (!v1_ask(&a, ctx, rq, 0))
		return;
	if (!a.m->e.model) {
		refuse(rq, ERR_NOT_FOUND, "", "");
		return;
	}
	http_reply_init(&a.r, 200, HTTP_JSON);
	if (!modelfile_format(a.m->e.model->m, &a.r.body)) {
		http_send(rq, &a.r);
		return;
	}
	buf_fini(&a.r.body);
	refuse(rq, ERR_INTERNAL, "", "");
}

static void put_model(void *ctx, struct http_request *rq)
{
	char why[160] = "no memory";
	struct detect_model *model = NULL;
	struct msnm_model *mm;
	struct msnm_ask a;
	int ret;

	if (!v1_ask(&a, ctx, rq, 0))
		return;
	if (!a.m->task.id) {
		refuse(rq, ERR_CONFLICT, "", "msnm is off");
		return;
	}
	ret = modelfile_parse(rq->body, rq->body_len, &model, why);
	if (ret || !msnm_engine_fits(&a.m->e, model, why, sizeof(why))) {
		detect_model_free(model);
		refuse(rq, ERR_REFUSED, "", why);
		return;
	}
	/* another model than any before: parents learn it anew */
	model->generation = a.m->e.generation + 1;
	mm = msnm_model_new(model,
			    model->m > a.m->e.n_own ? &a.m->e.want : NULL);
	if (!mm) {
		refuse(rq, ERR_INTERNAL, "", "");
		return;
	}
	msnm_model_use(a.m, mm);
	put_calibration(&a, 200);
}

static void get_rows(void *ctx, struct http_request *rq)
{
	struct msnm_ask a;

	if (!v1_ask(&a, ctx, rq, 0))
		return;
	http_reply_init(&a.r, 200, "text/csv; charset=utf-8");
	msnm_put_rows(&a.r.body, a.m);
	http_send(rq, &a.r);
}

static void get_alerts(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, 0, NULL);
	const struct msnm_alarms *al;
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	al = &c->agent->msnm->e.alarms;
	v1_page(c, al->n);
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '[');
	/* the youngest first */
	for (unsigned i = c->offset; i < c->offset + c->n_page; i++)
		msnm_put_alarm(&o, &al->row[al->n - 1 - i]);
	json_close(&o, ']');
	v1_end(c, &r, &o);
}

#define GET_ROUTE(path, need, handler)                            \
	{                                                         \
		.pattern = path, .methods = HTTP_GET | HTTP_HEAD, \
		.role = need, .fn = handler                       \
	}

const struct http_route msnm_routes[] = {
	GET_ROUTE("/api/v1/msnm", ROLE_READ, get_msnm),
	GET_ROUTE("/api/v1/msnm/contributions", ROLE_READ, get_contributions),
	GET_ROUTE("/api/v1/msnm/config", ROLE_READ, get_config),
	{ .pattern = "/api/v1/msnm/config",
	  .methods = HTTP_PATCH,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = patch_config },
	GET_ROUTE("/api/v1/msnm/calibration", ROLE_READ, get_calibration),
	{ .pattern = "/api/v1/msnm/calibration",
	  .methods = HTTP_POST,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = post_calibration },
	GET_ROUTE("/api/v1/msnm/model", ROLE_READ, get_model),
	{ .pattern = "/api/v1/msnm/model",
	  .methods = HTTP_PUT,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = MODEL_MAX,
	  .fn = put_model },
	GET_ROUTE("/api/v1/msnm/rows", ROLE_READ, get_rows),
	GET_ROUTE("/api/v1/alerts", ROLE_READ, get_alerts),
	{ .pattern = "/api/v1/peer/msnm/diagnosis",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = msnm_peer_diagnosis },
	{ .pattern = "/api/v1/peer/msnm",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = msnm_peer_serve },
};
const size_t msnm_n_routes = ARRAY_SIZE(msnm_routes);
