/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions between agents: POST /api/v1/peer/ask, its body, its answer
 * {part, coverage}.  A question is answered for one parent, under the lease
 * this agent has from it, once: its id is remembered for a minute.  The same
 * parent asking again (its connection was reset) joins the running query or
 * gets the kept answer; anybody else is told that this agent moved, so that no
 * host enters one answer twice.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/query_private.h"
#include "agent/registry.h"
#include "common/base64.h"
#include "common/log.h"
#include "common/util.h"

#define SEEN_MAX   4096
#define SEEN_MIN   16
#define SEEN_MS    60000
#define KEPT_MAX   64 /* answers kept for a second request */
#define KEPT_BYTES (256 * 1024)
#define KEPT_TOTAL ((size_t)4 << 20)
#define WAITERS    4
#define BODY_MAX   ((size_t)4 << 20)
#define BUDGET_MAX 30000
#define KEYS_TEXT  BASE64_LEN(ASK_KEYS_MAX *KEY_MAX_LEN)

struct served;

struct seen {
	uint8_t id[16];
	uint64_t round, lease; /* hash of the lease it was asked under */
	uint64_t at_ms;
	struct served *running;
	char *answer; /* kept, or NULL */
	size_t len;
};

struct replay {
	struct agent *agent;
	struct seen *seen; /* a ring, oldest at first */
	uint32_t size, first, n;
	uint32_t n_kept;
	size_t kept_bytes;
	struct served *served;
};

/* A question of the parent that is being answered. */
struct served {
	struct served *next;
	struct replay *all;
	struct query *query;
	uint8_t id[16];
	uint64_t round;
	struct http_request *rq[WAITERS];
	unsigned n_rq;
};

/* ---- the body of a question ---- */

static void put_hex(struct json_out *o, const char *name, uint64_t v)
{
	char text[17];

	hex_u64(v, text);
	json_put_str(o, name, text);
}

static void put_keys(struct json_out *o, const struct ask *ask)
{
	size_t len = key_len((enum key_type)ask->task.key);
	uint8_t *flat = calloc(MAX(ask->n_keys, 1), MAX(len, 1));

	if (!flat) {
		o->b->failed = true;
		return;
	}
	for (uint32_t i = 0; i < ask->n_keys; i++)
		memcpy(flat + i * len, ask->keys[i].w, len);
	json_put_bytes64(o, "keys", flat, ask->n_keys * len);
	free(flat);
}

void ask_write(struct buf *b, const struct ask *ask, const uint8_t query_id[16])
{
	const struct measure_row *row = measure_row(ask->kind);
	struct json_out o;
	char id[33];

	hex_encode(query_id, 16, id);
	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	json_put_str(&o, "query", id);
	json_put_u64(&o, "round", ask->round);
	json_put_str(&o, "message", row->name);
	put_hex(&o, "task", ask->task.id);
	put_hex(&o, "task_hash", task_hash(&ask->task));
	json_open(&o, "args", '{');
	if (row->share) {
		json_put_real(&o, "threshold", ask->share);
		json_put_real(&o, "alpha", ask->alpha);
	}
	if (row->end_slot)
		json_put_u64(&o, "end", ask->end_slot);
	if (row->keys)
		put_keys(&o, ask);
	json_close(&o, '}');
	json_close(&o, '}');
}

static int get_keys(const struct json *args, struct ask *ask)
{
	size_t key = key_len((enum key_type)ask->task.key), len, n;
	uint8_t *flat = NULL;
	const char *s;
	int ret = -EINVAL;

	if (!key || json_str(json_get(args, "keys"), KEYS_TEXT, &s, &len))
		return -EINVAL;
	flat = malloc(len / 4 * 3 + 1);
	if (!flat)
		return -ENOMEM;
	if (base64_decode(s, len, flat, &n) || n % key || n == 0 ||
	    n / key > ASK_KEYS_MAX)
		goto out;
	ret = -ENOMEM;
	ask->keys = calloc(n / key, sizeof(*ask->keys));
	if (!ask->keys)
		goto out;
	ask->n_keys = (uint32_t)(n / key);
	for (uint32_t i = 0; i < ask->n_keys; i++)
		memcpy(ask->keys[i].w, flat + i * key, key);
	ret = 0;
out:
	free(flat);
	return ret;
}

enum ask_problem {
	ASK_FINE,
	ASK_BAD,          /* malformed */
	ASK_UNKNOWN,      /* message of a later version */
	ASK_UNKNOWN_TASK, /* not here, or another content */
};

static enum ask_problem ask_parse(const struct agent *a, const struct json *v,
				  struct ask *ask, uint8_t id[16])
{
	const struct json *args = json_get(v, "args");
	const struct measure_row *row;
	uint64_t round, task, hash;
	const struct task *t;
	const char *s;
	size_t len;

	if (json_str(json_get(v, "query"), 32, &s, &len) ||
	    hex_decode(s, len, id, 16) ||
	    json_u64(json_get(v, "round"), 1, 2, &round) ||
	    json_str(json_get(v, "task"), 16, &s, &len) ||
	    hex_parse_u64(s, len, &task) ||
	    json_str(json_get(v, "task_hash"), 16, &s, &len) ||
	    hex_parse_u64(s, len, &hash) ||
	    json_str(json_get(v, "message"), 64, &s, &len))
		return ASK_BAD;
	if (measure_parse(s, &ask->kind))
		return ASK_UNKNOWN;
	row = measure_row(ask->kind);
	ask->round = (unsigned)round;
	t = registry_find(a->registry, task);
	if (!t || t->is_sketch || task_hash(&t->spec) != hash)
		return ASK_UNKNOWN_TASK;
	ask->task = t->spec;
	/* who asks the root names its sketch here too */
	registry_touch(a->registry, t->sketch ? t->sketch : task);
	if (!measure_possible(ask->kind, &ask->task))
		return ASK_BAD;
	if (row->share &&
	    (json_real(json_get(args, "threshold"), 0, 1, &ask->share) ||
	     json_real(json_get(args, "alpha"), 0, 1, &ask->alpha)))
		return ASK_BAD;
	if (row->end_slot && json_u64(json_get(args, "end"), 0,
				      (uint64_t)1 << 48, &ask->end_slot))
		return ASK_BAD;
	if (row->keys && get_keys(args, ask))
		return ASK_BAD;
	return ASK_FINE;
}

/* ---- what was answered ---- */

static struct seen *seen_at(const struct replay *r, uint32_t i)
{
	return &r->seen[(r->first + i) % r->size];
}

static struct seen *seen_find(const struct replay *r, const uint8_t id[16],
			      uint64_t round)
{
	for (uint32_t i = r->n; i-- > 0;) {
		struct seen *s = seen_at(r, i);

		if (s->round == round && memcmp(s->id, id, 16) == 0)
			return s;
	}
	return NULL;
}

static void seen_drop_answer(struct replay *r, struct seen *s)
{
	if (!s->answer)
		return;
	r->kept_bytes -= s->len;
	r->n_kept--;
	free(s->answer);
	s->answer = NULL;
}

static void seen_drop_first(struct replay *r)
{
	seen_drop_answer(r, seen_at(r, 0));
	r->first = (r->first + 1) % r->size;
	r->n--;
}

/* Twice the room, in order from the start. */
static int seen_grow(struct replay *r)
{
	uint32_t size = r->size ? 2 * r->size : SEEN_MIN;
	struct seen *s = calloc(size, sizeof(*s));

	if (!s)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n; i++)
		s[i] = *seen_at(r, i);
	free(r->seen);
	r->seen = s;
	r->size = size;
	r->first = 0;
	return 0;
}

static struct seen *seen_add(struct replay *r, const uint8_t id[16],
			     uint64_t round, uint64_t lease)
{
	uint64_t now = clock_mono_ms();
	struct seen *s;

	while (r->n && seen_at(r, 0)->at_ms + SEEN_MS < now)
		seen_drop_first(r);
	if (r->n == SEEN_MAX)
		seen_drop_first(r);
	if (r->n == r->size && seen_grow(r))
		return NULL;
	s = seen_at(r, r->n++);
	memset(s, 0, sizeof(*s));
	memcpy(s->id, id, 16);
	s->round = round;
	s->lease = lease;
	s->at_ms = now;
	return s;
}

static void seen_keep(struct replay *r, struct seen *s, const struct buf *b)
{
	if (b->len > KEPT_BYTES)
		return;
	for (uint32_t i = 0; i < r->n; i++) {
		if (r->n_kept < KEPT_MAX &&
		    r->kept_bytes + b->len <= KEPT_TOTAL)
			break;
		seen_drop_answer(r, seen_at(r, i));
	}
	s->answer = malloc(b->len);
	if (!s->answer)
		return;
	memcpy(s->answer, b->data, b->len);
	s->len = b->len;
	r->kept_bytes += b->len;
	r->n_kept++;
}

/* ---- serving ---- */

static void reply_error(struct http_request *rq, enum error_code code)
{
	struct error e;

	error_set(&e, code, "", "");
	http_send_error(rq, &e);
}

static void reply_body(struct http_request *rq, const char *data, size_t len)
{
	struct http_reply r;

	http_reply_init(&r, 200, HTTP_JSON);
	buf_add(&r.body, data, len);
	if (!r.body.failed) {
		http_send(rq, &r);
		return;
	}
	buf_fini(&r.body);
	reply_error(rq, ERR_INTERNAL);
}

static void answer_write(struct buf *b, const struct part *p,
			 const struct coverage *c)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	if (p)
		part_write(&o, "part", p);
	else
		json_put_null(&o, "part");
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
}

static void served_free(struct served *s)
{
	struct served **at = &s->all->served;
	struct seen *seen = seen_find(s->all, s->id, s->round);

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (seen && seen->running == s)
		seen->running = NULL;
	query_cancel(s->query);
	free(s);
}

static void answered(void *arg, struct query_result *r)
{
	struct served *s = arg;
	struct seen *seen = seen_find(s->all, s->id, s->round);
	struct buf b = BUF_INIT;

	s->query = NULL;
	answer_write(&b, r->part, &r->coverage);
	part_free(r->part);
	for (unsigned i = 0; i < s->n_rq; i++) {
		if (b.failed)
			reply_error(s->rq[i], ERR_INTERNAL);
		else
			reply_body(s->rq[i], b.data, b.len);
	}
	if (seen && seen->running == s && !b.failed)
		seen_keep(s->all, seen, &b);
	buf_fini(&b);
	served_free(s);
}

/* This agent lacks the task, so it cannot read what is below it either. */
static void reply_unknown_task(struct agent *a, struct http_request *rq)
{
	const struct overlay *o = a->overlay;
	struct coverage c = { 0 };
	struct buf b = BUF_INIT;

	coverage_missing(&c, overlay_self(o), MISSING_UNKNOWN_TASK);
	for (unsigned i = 0; i < overlay_n_children(o); i++)
		if (!overlay_child(o, i)->refused[0])
			coverage_missing(&c, &overlay_child(o, i)->id,
					 MISSING_BEHIND);
	answer_write(&b, NULL, &c);
	reply_body(rq, b.data ? b.data : "", b.len);
	buf_fini(&b);
}

static void serve_query(struct replay *all, struct http_request *rq,
			const struct ask *ask, const uint8_t id[16],
			uint64_t lease, const char *via)
{
	struct query_options opt = { .request_id = rq->id,
				     .via = via,
				     .for_parent = !overlay_is_root(
					     all->agent->overlay) };
	uint64_t budget = all->agent->conf->query_ms, spent;
	const char *left = http_header(rq, "X-Linnet-Deadline");
	struct served *s;
	struct seen *seen;

	if (left && parse_u64(left, strlen(left), 1, BUDGET_MAX, &budget)) {
		reply_error(rq, ERR_VALUE);
		return;
	}
	/* the time runs since the first byte of the request */
	spent = clock_mono_ms() - rq->began_ms;
	opt.budget_ms = (uint32_t)(budget > spent ? budget - spent : 1);
	memcpy(opt.query_id, id, 16);
	s = calloc(1, sizeof(*s));
	seen = s ? seen_add(all, id, ask->round, lease) : NULL;
	if (!seen) {
		free(s);
		reply_error(rq, ERR_UNAVAILABLE);
		return;
	}
	s->all = all;
	memcpy(s->id, id, 16);
	s->round = ask->round;
	s->rq[s->n_rq++] = rq;
	s->next = all->served;
	all->served = s;
	seen->running = s;
	s->query = query_start(all->agent, ask, &opt, answered, s);
	if (!s->query) {
		served_free(s);
		reply_error(rq, ERR_UNAVAILABLE);
	}
}

/* A question that came before: joins it, repeats it, or refuses. */
static void serve_again(struct seen *seen, struct http_request *rq,
			uint64_t lease)
{
	struct served *s = seen->running;

	if (seen->lease != lease)
		reply_error(rq, ERR_MOVED);
	else if (s && s->n_rq < WAITERS)
		s->rq[s->n_rq++] = rq;
	else if (!s && seen->answer)
		reply_body(rq, seen->answer, seen->len);
	else
		reply_error(rq, ERR_UNAVAILABLE);
}

/* Another parent had the first round, and may have kept it. */
static bool moved_since(const struct replay *all, const uint8_t id[16],
			const struct ask *ask, uint64_t lease)
{
	const struct seen *first = ask->round == 2 ? seen_find(all, id, 1)
						   : NULL;

	return first && first->lease != lease;
}

/* Ids above this agent: ours among them is a loop, as are too many. */
static bool via_loops(const struct agent *a, const char *via)
{
	char self[33];

	node_id_format(overlay_self(a->overlay), self);
	return strstr(via, self) || strlen(via) > 33 * OVERLAY_HOPS;
}

static void serve_ask(void *ctx, struct http_request *rq)
{
	const struct hash_key key = { { 5 } };
	struct agent *a = ctx;
	const char *lease = http_header(rq, "X-Linnet-Lease");
	const char *via = http_header(rq, "X-Linnet-Via");
	struct ask ask = { 0 };
	struct json *v = NULL;
	uint64_t lease_hash;
	struct seen *seen;
	uint8_t id[16];

	lease = lease ? lease : "";
	via = via ? via : "";
	lease_hash = siphash24(&key, lease, strlen(lease));
	if (via_loops(a, via)) {
		reply_error(rq, ERR_LOOP);
		return;
	}
	if (strcmp(lease, overlay_lease(a->overlay)) != 0) {
		reply_error(rq, ERR_MOVED);
		return;
	}
	if (json_parse(rq->body, rq->body_len, &v)) {
		reply_error(rq, ERR_MALFORMED);
		return;
	}
	switch (ask_parse(a, v, &ask, id)) {
	case ASK_BAD:
		reply_error(rq, ERR_MALFORMED);
		break;
	case ASK_UNKNOWN:
		reply_error(rq, ERR_NOT_IMPLEMENTED);
		break;
	case ASK_UNKNOWN_TASK:
		reply_unknown_task(a, rq);
		break;
	case ASK_FINE:
		seen = seen_find(a->queries->replay, id, ask.round);
		if (moved_since(a->queries->replay, id, &ask, lease_hash))
			reply_error(rq, ERR_MOVED);
		else if (seen)
			serve_again(seen, rq, lease_hash);
		else
			serve_query(a->queries->replay, rq, &ask, id,
				    lease_hash, via);
		break;
	}
	ask_fini(&ask);
	json_free(v);
}

int replay_open(struct replay **out, struct agent *a)
{
	struct replay *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->agent = a;
	*out = r;
	return 0;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	while (r->served)
		served_free(r->served);
	while (r->n)
		seen_drop_first(r);
	free(r->seen);
	free(r);
}

const struct http_route query_routes[] = {
	{ .pattern = "/api/v1/peer/ask",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_ask },
};
const size_t query_n_routes = ARRAY_SIZE(query_routes);
