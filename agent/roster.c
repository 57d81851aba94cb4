/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A parent asks its children, they theirs, under one budget and the lease as in
 * any question; each adds itself, and its parent how far it is.  A child speaks
 * of hosts below it alone: what it says of others is dropped.  Who is not heard
 * is in the coverage, and nothing is guessed of it.
 *
 * The last rosters of more than a page are kept for clients that go on to the
 * next one; a cursor names its roster.  The whole list is in memory while it is
 * made: ROSTER_AGENTS bound it.
 */
#include "agent/roster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/fanout.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/query.h"
#include "agent/registry.h"
#include "agent/v1.h"
#include "common/util.h"

#define REPLY_MAX ((size_t)4 << 20)
#define OPS_MAX   8
#define OPS_PEER  2     /* of them, kept for the parent */
#define KEEP_MS   10000 /* for a next page */
#define KEPT      4

/* What a client was answered. */
struct roster_kept {
	uint32_t number; /* 0: none */
	uint64_t since_ms;
	struct roster roster; /* by id */
	struct coverage_report report;
};

struct rosters {
	struct agent *agent;
	struct roster_op *ops;
	unsigned n_ops;
	struct roster_kept kept[KEPT]; /* number modulo KEPT */
	uint32_t number;               /* of the last one */
};

struct roster_op {
	struct roster_op *next;
	struct rosters *all;
	struct roster roster;
	struct fanout *children; /* NULL: there are none */
	struct loop_timer now;
	struct http_request *rq; /* of the parent */
	struct v1_call *call;    /* of a client */
	struct walk_scope scope;
};

static void op_free(struct roster_op *op)
{
	struct roster_op **at = &op->all->ops;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	op->all->n_ops--;
	fanout_free(op->children);
	loop_timer_cancel(&op->now);
	roster_fini(&op->roster);
	free(op);
}

/* ---- making one ---- */

static void self_put(struct agent *a, struct roster *r)
{
	struct roster_agent *me = &r->agent[r->n++];
	struct tree_block block[TREE_BLOCKS];
	const struct ctl_loss none = { 0 };
	uint64_t now = clock_wall_ms();
	unsigned n = registry_blocks(a, block);

	*me = (struct roster_agent){ .id = *overlay_self(a->overlay),
				     .version = LINNET_VERSION,
				     .tasks = registry_count(a->registry) };
	for (unsigned i = 0; i < n; i++)
		me->tasks_hash += block[i].hash;
	if (overlay_parent(a->overlay))
		me->same = tree_tasks_same(overlay_tree(a->overlay))
				   ? ROSTER_SAME
				   : ROSTER_DIFFER;
	coverage_answered(&r->coverage, a->conf->overlay_name, &me->id, &none,
			  now, now);
}

static int id_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct node_id));
}

/* Hosts below this child and itself, by id; their number, 0: no memory. */
static uint32_t below_child(struct agent *a, const struct node_id *child,
			    struct node_id **out)
{
	const struct tree_row *row;
	uint32_t n, i = 0, end;

	row = overlay_rows(a->overlay, &n);
	while (i < n && !node_id_equal(&row[i].id, child))
		i++;
	for (end = i + 1; end < n && row[end].level > row[i].level;)
		end++;
	*out = i < n ? calloc(end - i, sizeof(**out)) : NULL;
	if (!*out)
		return 0;
	for (uint32_t k = i; k < end; k++)
		(*out)[k - i] = row[k].id;
	qsort(*out, end - i, sizeof(**out), id_order);
	return end - i;
}

static void latency_put(struct agent *a, struct roster_agent *x)
{
	x->has_latency = false; /* not what it says itself */
	for (unsigned i = 0; i < overlay_n_children(a->overlay); i++) {
		const struct child *c = overlay_child(a->overlay, i);

		if (!node_id_equal(&c->id, &x->id))
			continue;
		x->has_latency = c->last_seen_ms;
		x->latency_ms = c->rtt_us / 1000;
	}
}

/* Of each host below it once what it says. */
static void child_take(struct roster_op *op, const struct fanout_child *c,
		       const struct roster *in)
{
	struct agent *a = op->all->agent;
	struct roster *r = &op->roster;
	struct node_id *id = NULL;
	uint32_t n = below_child(a, &c->id, &id);
	bool *seen = calloc(MAX(n, 1), sizeof(*seen));
	struct roster_agent *more =
		reallocarray(r->agent, r->n + MIN(n, in->n), sizeof(*more));

	if (more)
		r->agent = more;
	for (uint32_t i = 0; more && seen && i < in->n; i++) {
		const struct roster_agent *x = &in->agent[i];
		const struct node_id *at =
			n ? bsearch(&x->id, id, n, sizeof(*id), id_order)
			  : NULL;

		if (!at || seen[at - id] || r->n == ROSTER_AGENTS)
			continue;
		seen[at - id] = true;
		r->agent[r->n] = *x;
		if (node_id_equal(&x->id, &c->id))
			latency_put(a, &r->agent[r->n]);
		r->n++;
	}
	free(seen);
	free(id);
}

static void child_replied(void *arg, const struct fanout_child *c,
			  const struct json *v, enum missing_reason why)
{
	struct roster_op *op = arg;
	struct roster in = { 0 };

	if (why == MISSING_NONE) {
		int ret = roster_read(v, &in);

		if (ret == -ENOMEM) {
			why = MISSING_BUSY;
		} else if (ret || in.coverage.answered > c->hosts) {
			fanout_rejected(c, ret ? "malformed roster"
					       : "more hosts than it has");
			why = MISSING_REJECTED;
		}
	}
	if (why == MISSING_NONE) {
		child_take(op, c, &in);
		coverage_merge(&op->roster.coverage, &in.coverage, true);
	} else {
		coverage_missing(&op->roster.coverage, &c->id, why, false);
	}
	roster_fini(&in);
}

static void op_done(void *arg);

static int op_start(struct roster_op *op, const char *request_id,
		    uint32_t budget_ms)
{
	struct agent *a = op->all->agent;
	struct fanout_request rq = { .method = HTTP_GET,
				     .path = "/api/v1/peer/agents",
				     .reply_max = REPLY_MAX,
				     .budget_ms = budget_ms,
				     .request_id = request_id,
				     .for_parent = op->rq != NULL };

	op->roster.agent = calloc(1, sizeof(*op->roster.agent));
	if (!op->roster.agent)
		return -ENOMEM;
	self_put(a, &op->roster);
	if (!overlay_n_children(a->overlay))
		return loop_timer_in(a->loop, &op->now, 0, op_done, op);
	op->children = fanout_start(a, &rq, child_replied, op_done, op);
	return op->children ? 0 : -ENOMEM;
}

/* NULL: too many at once, or no memory. */
static struct roster_op *op_new(struct rosters *all, unsigned most)
{
	struct roster_op *op = all->n_ops < most ? calloc(1, sizeof(*op))
						 : NULL;

	if (!op)
		return NULL;
	op->all = all;
	op->next = all->ops;
	all->ops = op;
	all->n_ops++;
	return op;
}

/* ---- the parent ---- */

static void peer_send(const struct roster_op *op)
{
	struct http_reply r;

	http_reply_init(&r, 200, HTTP_JSON);
	roster_write(&op->roster, &r.body);
	http_send(op->rq, &r);
}

static void serve_agents(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	uint32_t budget_ms = 0;
	enum error_code code = fanout_budget(a, rq, &budget_ms);
	struct roster_op *op = code ? NULL : op_new(a->rosters, OPS_MAX);
	struct error e;

	if (op) {
		op->rq = rq;
		if (!op_start(op, rq->id, budget_ms))
			return;
		op_free(op);
	}
	error_set(&e, code ? code : ERR_UNAVAILABLE, "", "");
	http_send_error(rq, &e);
}

/* ---- a client ---- */

static void put_agent(struct json_out *o, const struct roster_agent *x)
{
	if (!x) {
		json_put_null(o, "version");
		json_put_null(o, "tasks");
		json_put_null(o, "tasks_hash");
		json_put_null(o, "tasks_same");
		json_put_null(o, "latency_ms");
		return;
	}
	if (x->version[0])
		json_put_str(o, "version", x->version);
	else
		json_put_null(o, "version");
	json_put_u64(o, "tasks", x->tasks);
	json_put_hex(o, "tasks_hash", x->tasks_hash);
	if (x->same == ROSTER_ALONE)
		json_put_null(o, "tasks_same");
	else
		json_put_bool(o, "tasks_same", x->same == ROSTER_SAME);
	if (x->has_latency)
		json_put_u64(o, "latency_ms", x->latency_ms);
	else
		json_put_null(o, "latency_ms");
}

/* Are there more? */
static bool page_send(struct v1_call *c, const struct roster_kept *k)
{
	const struct roster *r = &k->roster;
	const struct tree_row *row;
	struct http_reply reply;
	struct json_out o;
	uint32_t n;
	bool more;

	c->list = k->number;
	row = overlay_rows(c->agent->overlay, &n);
	v1_page(c, n);
	more = c->offset + c->n_page < n;
	v1_begin(&reply, &o, 200);
	json_open(&o, "data", '[');
	for (uint32_t i = c->offset; i < c->offset + c->n_page; i++) {
		json_open(&o, NULL, '{');
		v1_put_node(&o, "node_id", &row[i].id);
		put_agent(&o, bsearch(&row[i].id, r->agent, r->n,
				      sizeof(*r->agent), id_order));
		json_close(&o, '}');
	}
	json_close(&o, ']');
	json_open(&o, "meta", '{');
	v1_put_coverage(&o, &k->report);
	v1_put_cursor(c, &o);
	json_put_str(&o, "request_id", c->rq->id);
	json_close(&o, '}');
	json_close(&o, '}');
	v1_send(c, &reply);
	return more;
}

/* NULL: it is of none, or of one that is gone. */
static const struct roster_kept *kept_find(const struct rosters *all,
					   uint32_t number)
{
	const struct roster_kept *k = &all->kept[number % KEPT];

	return number && k->number == number &&
			       clock_mono_ms() - k->since_ms < KEEP_MS
		       ? k
		       : NULL;
}

static void op_done(void *arg)
{
	struct roster_op *op = arg;
	struct rosters *all = op->all;
	struct v1_call *c = op->call;
	struct roster_kept k = { .roster = op->roster }, *at;

	if (!c) {
		peer_send(op);
		op_free(op);
		return;
	}
	op->roster = (struct roster){ 0 };
	/* the id is the first of it */
	qsort(k.roster.agent, k.roster.n, sizeof(*k.roster.agent), id_order);
	coverage_report(all->agent, &k.roster.coverage, &op->scope, &k.report);
	op_free(op);
	k.number = all->number + 1;
	k.since_ms = clock_mono_ms();
	if (!page_send(c, &k)) {
		roster_fini(&k.roster);
		return;
	}
	all->number = k.number;
	at = &all->kept[k.number % KEPT];
	roster_fini(&at->roster);
	*at = k;
}

static void get_agents(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, FIELD(TIMEOUT), NULL);
	struct rosters *all = ((struct agent *)ctx)->rosters;
	const struct roster_kept *k;
	struct roster_op *op;

	if (!c)
		return;
	if (c->offset) {
		k = kept_find(all, c->list);
		if (k)
			(void)page_send(c, k);
		else
			v1_error(c, ERR_MALFORMED, field_name(F_CURSOR),
				 "of answers that are not kept any more: begin "
				 "with the first page");
		return;
	}
	op = op_new(all, OPS_MAX - OPS_PEER);
	if (op) {
		op->call = c;
		coverage_begin(all->agent, false, &op->scope);
		if (!op_start(op, rq->id, v1_budget(c)))
			return;
		op_free(op);
	}
	v1_error(c, ERR_UNAVAILABLE, "", "too many queries");
}

const struct http_route roster_routes[] = {
	{ .pattern = "/api/v1/peer/agents",
	  .methods = HTTP_GET,
	  .role = ROLE_PEER,
	  .fn = serve_agents },
	{ .pattern = "/api/v1/overlay/agents",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = get_agents },
};
const size_t roster_n_routes = ARRAY_SIZE(roster_routes);

int rosters_open(struct rosters **out, struct agent *a)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->agent = a;
	/* no cursor of before a restart is of one of now */
	(*out)->number = (uint32_t)random_u64();
	return 0;
}

void rosters_free(struct rosters *all)
{
	if (!all)
		return;
	while (all->ops) {
		free(all->ops->call);
		op_free(all->ops);
	}
	for (unsigned i = 0; i < KEPT; i++)
		roster_fini(&all->kept[i].roster);
	free(all);
}
