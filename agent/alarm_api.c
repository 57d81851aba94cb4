/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child says to its parent of a window, and what clients are told:
 *
 *   POST /api/v1/peer/alarm, see alarm_json.c, under the child's lease
 *   GET /api/v1/tasks/ID/alarm
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/alarm_private.h"
#include "agent/json.h"
#include "agent/peer.h"
#include "agent/registry.h"
#include "agent/standing_conf.h"
#include "agent/v1.h"
#include "common/log.h"
#include "common/util.h"

#define TELL_MS     1000
#define CONNECT_MS  250
#define BODY_MAX    1024
#define REJECTED_MS 10000 /* between two lines about malformed ones */

/* ---- to the parent ---- */

static void told(void *arg, const struct peer_reply *r)
{
	struct alarm_window *w = arg;
	struct alarm *al = w->alarm;

	w->call = NULL;
	/* what it finds wrong it will not take later; a refusal of the caller
	 * may be that of a stranger at its address */
	w->told = !r->err &&
		  (r->status == 204 || r->status == 400 || r->status == 422) &&
		  w->sent.least == w->sum.least &&
		  w->sent.most == w->sum.most && w->sent.sure == w->sum.sure &&
		  w->sent_final == w->final;
	w->taken = !r->err && r->status == 204;
	if (w->taken)
		al->spoke = w->sent_lease;
}

void alarm_tell(struct alarm_window *w)
{
	struct agent *a = w->alarm->all->agent;
	const struct endpoint *parent = overlay_parent(a->overlay);
	struct peer_request rq = { .method = HTTP_POST,
				   .path = "/api/v1/peer/alarm",
				   .timeout_ms = TELL_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = BODY_MAX };
	char lease[EPOCH_TEXT + 24], text[EPOCH_TEXT];
	struct epoch own = tree_lease(overlay_tree(a->overlay));
	struct alarm_message m = {
		.task = w->alarm->task.id,
		.task_hash = task_hash(&w->alarm->task),
		.window = w->number,
		.said = { .least = MIN(w->sum.least, ALARM_VALUE_MAX),
			  .most = MIN(w->sum.most, ALARM_VALUE_MAX),
			  .sure = w->sum.sure,
			  .blind = w->final && !w->sum.sure },
	};
	struct buf b = BUF_INIT;

	if (!parent || w->call)
		return;
	alarm_message_write(&m, &b);
	epoch_format(&own, text);
	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s", text);
	rq.to = *parent;
	rq.body = b.data;
	rq.len = b.len;
	rq.headers[0] = PEER_API_HEADER;
	rq.headers[1] = lease;
	w->sent = w->sum;
	w->sent_final = w->final;
	w->sent_lease = own;
	if (!b.failed)
		w->call = peer_start(a->peers, &rq, told, w);
	buf_fini(&b);
}

/* ---- from a child ---- */

/* The child that speaks under this lease. */
static bool child_by_lease(const struct agent *a, const struct epoch *lease,
			   struct tree_child *out)
{
	const struct tree *t = overlay_tree(a->overlay);

	for (unsigned i = 0; i < tree_n_children(t); i++) {
		tree_child_at(t, i, out);
		if (!epoch_none(lease) &&
		    epoch_compare(&out->lease, lease) == 0)
			return true;
	}
	return false;
}

/* A child that says nothing else must not hide other lines. */
static void said_rejected(struct alarms *all, const struct tree_child *c)
{
	uint64_t now = clock_mono_ms();
	char text[ENDPOINT_TEXT_LEN], more[32] = "";

	if (all->rejected_ms && now - all->rejected_ms < REJECTED_MS) {
		all->rejected++;
		return;
	}
	if (all->rejected)
		snprintf(more, sizeof(more), ", and %u before", all->rejected);
	endpoint_format(&c->ep, 8000, text);
	log_warnx("child %s: alarm rejected: malformed%s", text, more);
	all->rejected_ms = now;
	all->rejected = 0;
}

static enum error_code said_serve(struct agent *a, const struct json *v,
				  const struct epoch *lease)
{
	struct alarm_message m;
	struct tree_child c;
	const struct task *t;
	struct alarm *al;
	int r;

	if (!child_by_lease(a, lease, &c))
		return ERR_MOVED;
	if (alarm_message_read(v, &m)) {
		said_rejected(a->alarms, &c);
		return ERR_MALFORMED;
	}
	t = registry_find(a->registry, m.task);
	al = t && task_hash(&t->spec) == m.task_hash
		     ? alarm_find(a->alarms, m.task, t->spec.generation)
		     : NULL;
	if (!al)
		return ERR_UNAVAILABLE; /* it may come yet */
	m.said.id = c.id;
	r = alarm_heard(al, m.window, &m.said, lease);
	return r == -EAGAIN ? ERR_UNAVAILABLE : r ? ERR_VALUE : ERR_NONE;
}

static void serve_alarm(void *ctx, struct http_request *rq)
{
	const char *text = http_header(rq, "X-Linnet-Lease");
	struct epoch lease = { 0 };
	enum error_code code = ERR_MALFORMED;
	struct http_reply r;
	struct json *v = NULL;
	struct error e;

	if (!json_parse(rq->body, rq->body_len, &v) && text &&
	    !epoch_parse(text, &lease))
		code = said_serve(ctx, v, &lease);
	json_free(v);
	if (code) {
		error_set(&e, code, "", "");
		http_send_error(rq, &e);
		return;
	}
	http_reply_init(&r, 204, NULL);
	http_send(rq, &r);
}

/* ---- clients ---- */

static void put_missing(struct json_out *o, const struct coverage_report *rep)
{
	json_open(o, "missing", '[');
	for (uint32_t i = 0; rep && i < rep->n_missing; i++) {
		json_open(o, NULL, '{');
		json_put_str(o, "host", rep->missing[i].host);
		json_put_str(o, "reason",
			     missing_reason_name(rep->missing[i].reason));
		json_close(o, '}');
	}
	json_close(o, ']');
}

static void put_alarm_window(struct json_out *o, const struct alarm_window *w)
{
	static const char *const states[] = {
		[ALARM_WAIT] = "pending", [ALARM_QUIET] = "quiet",
		[ALARM_OVER] = "over",    [ALARM_ASK] = "pending",
		[ALARM_BLIND] = "blind",
	};

	json_open(o, NULL, '{');
	v1_put_time(o, "start", w->number * w->alarm->task.window_ms);
	json_put_str(o, "state", states[w->verdict]);
	json_put_count(o, "lower", w->sum.least);
	if (w->sum.sure)
		json_put_count(o, "upper", w->sum.most);
	else
		json_put_null(o, "upper");
	put_missing(o, w->report);
	json_close(o, '}');
}

static void get_alarm(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct task *t = c ? v1_task(c) : NULL;
	struct http_reply r;
	struct json_out o;
	struct alarm *al;

	if (!t)
		return;
	al = alarm_find(c->agent->alarms, t->spec.id, t->spec.generation);
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '{');
	if (al)
		json_put_count(&o, "limit", alarm_limit(al));
	else
		json_put_null(&o, "limit");
	json_open(&o, "windows", '[');
	for (uint64_t i = 0; al && i < ALARM_WINDOWS && i < al->last; i++) {
		uint64_t number = al->last - i;
		const struct alarm_window *w =
			&al->window[number % ALARM_WINDOWS];

		if (w->number == number && w->begun)
			put_alarm_window(&o, w);
	}
	json_close(&o, ']');
	json_close(&o, '}');
	v1_end(c, &r, &o);
}

const struct http_route alarm_routes[] = {
	{ .pattern = "/api/v1/peer/alarm",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_alarm },
	{ .pattern = "/api/v1/tasks/*/alarm",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = get_alarm },
};
const size_t alarm_n_routes = ARRAY_SIZE(alarm_routes);
