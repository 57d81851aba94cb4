/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions between agents: POST /api/v1/peer/ask, its headers and body, its
 * answer {part, coverage}.  Whether it may be asked, and whether it was before,
 * is decided in agent/tree/walk_serve.c.  A request is kept until its answer;
 * nothing else is owned here.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/measure.h"
#include "agent/query_private.h"
#include "agent/registry.h"
#include "common/base64.h"
#include "common/util.h"

#define BODY_MAX   ((size_t)4 << 20)
#define BUDGET_MAX 30000
#define KEYS_TEXT  BASE64_LEN(ASK_KEYS_MAX *KEY_MAX_LEN)

/* ---- the body of a question ---- */

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

void ask_run_id(const struct ask *ask, uint8_t out[16])
{
	const struct {
		uint64_t task, window, kind;
		double share, alpha;
	} text = { task_hash(&ask->task), ask->window, ask->kind, ask->share,
		   ask->alpha };

	static_assert(sizeof(text) == 40, "no padding");
	for (uint8_t i = 0; i < 2; i++) {
		const struct hash_key key = { { 8, i } };
		uint64_t half = siphash24(&key, &text, sizeof(text));

		memcpy(out + 8 * i, &half, sizeof(half));
	}
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
	json_put_hex(&o, "task", ask->task.id);
	json_put_hex(&o, "task_hash", task_hash(&ask->task));
	json_open(&o, "args", '{');
	if (row->share) {
		json_put_real(&o, "threshold", ask->share);
		json_put_real(&o, "alpha", ask->alpha);
	}
	if (row->end_slot)
		json_put_u64(&o, "end", ask->end_slot);
	if (ask->window)
		json_put_u64(&o, "window", ask->window);
	if (ask->standing)
		json_put_bool(&o, "standing", true);
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
	if (json_get(args, "window") &&
	    json_u64(json_get(args, "window"), 1, (uint64_t)1 << 48,
		     &ask->window))
		return ASK_BAD;
	if (json_get(args, "standing") &&
	    json_bool(json_get(args, "standing"), &ask->standing))
		return ASK_BAD;
	/* only windows stand, and only tasks with windows have them */
	if ((ask->standing && !ask->window) ||
	    (ask->window && !ask->task.window_ms))
		return ASK_BAD;
	if (row->keys && get_keys(args, ask))
		return ASK_BAD;
	return ASK_FINE;
}

/* ---- the answer ---- */

static void reply_error(struct http_request *rq, enum error_code code)
{
	struct error e;

	error_set(&e, code, "", "");
	http_send_error(rq, &e);
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

/* A reference is the request itself. */
static struct http_request *request_of(uint64_t ref)
{
	return (struct http_request *)(uintptr_t)ref;
}

static enum error_code error_of(enum tree_word word)
{
	switch (word) {
	case TREE_MOVED:
		return ERR_MOVED;
	case TREE_LOOP:
		return ERR_LOOP;
	default:
		return ERR_UNAVAILABLE;
	}
}

void ask_reply(void *ctx, uint64_t ref, enum tree_word word,
	       const struct coverage *c, const void *part)
{
	struct http_request *rq = request_of(ref);
	struct http_reply r;

	(void)ctx;
	if (word != TREE_OK) {
		reply_error(rq, error_of(word));
		return;
	}
	http_reply_init(&r, 200, HTTP_JSON);
	answer_write(&r.body, part, c);
	if (!r.body.failed) {
		http_send(rq, &r);
		return;
	}
	buf_fini(&r.body);
	reply_error(rq, ERR_INTERNAL);
}

/* ---- what is asked ---- */

/* Ids from the asked agent to the sender; -EINVAL. */
static int via_parse(const char *s, struct node_id out[WALK_VIA + 1],
		     unsigned *n)
{
	for (*n = 0; s && *s; s += *s == ',') {
		size_t len = strcspn(s, ",");

		/* of more it only matters that they are too many */
		if (*n <= WALK_VIA && node_id_parse(s, len, &out[(*n)++]))
			return -EINVAL;
		s += len;
	}
	return 0;
}

/* Its headers; 0 or -EINVAL. */
static int head_parse(const struct agent *a, struct http_request *rq,
		      struct walk_ask *m, struct node_id via[WALK_VIA + 1])
{
	const char *left = http_header(rq, "X-Linnet-Deadline");
	uint64_t budget = a->conf->query_ms, spent;

	m->lease = epoch_of_text(http_header(rq, "X-Linnet-Lease"));
	m->as_of = epoch_of_text(http_header(rq, "X-Linnet-Epoch"));
	m->via = via;
	if (via_parse(http_header(rq, "X-Linnet-Via"), via, &m->n_via) ||
	    (left && parse_u64(left, strlen(left), 1, BUDGET_MAX, &budget)))
		return -EINVAL;
	/* the time runs since the first byte of the request */
	spent = clock_mono_ms() - rq->began_ms;
	m->budget_ms = (uint32_t)(budget > spent ? budget - spent : 1);
	return 0;
}

static void question_serve(struct agent *a, struct http_request *rq,
			   const struct walk_ask *m, const struct ask *ask)
{
	struct question *q = question_new(a, ask, m->query, rq->id, false,
					  !overlay_is_root(a->overlay));

	if (q)
		walk_request(a->queries->walk, m, q, (uintptr_t)rq);
	else
		reply_error(rq, ERR_UNAVAILABLE);
}

static void body_serve(struct agent *a, struct http_request *rq,
		       struct walk_ask *m, const struct json *v)
{
	struct ask ask = { 0 };

	switch (ask_parse(a, v, &ask, m->query)) {
	case ASK_BAD:
		reply_error(rq, ERR_MALFORMED);
		break;
	case ASK_UNKNOWN:
		reply_error(rq, ERR_NOT_IMPLEMENTED);
		break;
	case ASK_UNKNOWN_TASK:
		walk_request(a->queries->walk, m, NULL, (uintptr_t)rq);
		break;
	case ASK_FINE:
		m->round = ask.round;
		m->standing = ask.standing;
		if (ask.window)
			m->window_end_ms =
				(ask.window + 1) * ask.task.window_ms;
		question_serve(a, rq, m, &ask);
		break;
	}
	ask_fini(&ask);
}

static void serve_ask(void *ctx, struct http_request *rq)
{
	struct node_id via[WALK_VIA + 1];
	struct agent *a = ctx;
	struct walk_ask m = { 0 };
	struct json *v = NULL;
	enum tree_word word;

	if (head_parse(a, rq, &m, via)) {
		reply_error(rq, ERR_VALUE);
		return;
	}
	word = walk_admit(a->queries->walk, &m);
	if (word != TREE_OK)
		reply_error(rq, error_of(word));
	else if (json_parse(rq->body, rq->body_len, &v))
		reply_error(rq, ERR_MALFORMED);
	else
		body_serve(a, rq, &m, v);
	json_free(v);
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
