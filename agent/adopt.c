/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way up: who may be this agent's parent.  One at a time; it proves its
 * claim with the lease it gave in its invitation, and loses it after three
 * seconds of silence: then the agent is a root again, with its tasks.  An
 * agent that finds itself among its own ancestors refuses: no cycle lasts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/auth.h"
#include "agent/overlay_private.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/util.h"

#define BODY_MAX    4096
#define MEMBERS_MAX 4096

static void reply_json(struct http_request *rq, int status, struct buf *b)
{
	struct http_reply r;

	http_reply_init(&r, status, HTTP_JSON);
	r.body = *b;
	http_send(rq, &r);
}

static void reply_error(struct http_request *rq, enum error_code code,
			const char *field)
{
	struct error e;

	error_set(&e, code, field, "");
	http_send_error(rq, &e);
}

/* 409 with a word that the other agent acts on. */
static void reply_conflict(const struct overlay *o, struct http_request *rq,
			   const char *reason)
{
	bool moved = strcmp(reason, "moved") == 0;
	struct buf b = BUF_INIT;
	struct json_out out;
	char epoch[EPOCH_TEXT];

	overlay_epoch_text(o, epoch);
	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	json_put_str(&out, "type",
		     moved ? "/problems/moved" : "/problems/conflict");
	json_put_u64(&out, "status", 409);
	json_put_str(&out, "reason", reason);
	json_put_str(&out, "epoch", epoch);
	json_close(&out, '}');
	reply_json(rq, 409, &b);
}

static struct json *body_object(struct http_request *rq)
{
	struct json *v = NULL;

	if (!json_parse(rq->body, rq->body_len, &v) &&
	    json_type(v) == JSON_OBJECT)
		return v;
	json_free(v);
	reply_error(rq, ERR_MALFORMED, "");
	return NULL;
}

void overlay_detach(struct overlay *o, const char *why)
{
	char text[ENDPOINT_TEXT_LEN];

	if (!o->n_path)
		return;
	endpoint_format(&o->parent, 8000, text);
	log_info("parent %s: %s; this agent is a root", text, why);
	loop_timer_cancel(&o->parent_timer);
	o->n_path = 0;
	o->lease[0] = '\0';
	o->offset_ms = o->error_ms = 0;
	/* own epochs again, above all that were heard */
	o->epoch.term = MAX(o->incarnation, o->epoch.term + 1);
	o->epoch.root = node_id_head(&o->self);
	o->dirty = true;
}

static void parent_silent(void *arg)
{
	overlay_detach(arg, "no beat for 3 s");
}

static void parent_heard(struct overlay *o)
{
	loop_timer_in(o->agent->loop, &o->parent_timer, PARENT_MS,
		      parent_silent, o);
}

/* ---- hello ---- */

bool overlay_proof(const struct overlay *o, const uint8_t nonce[16],
		   const struct node_id *id, const struct endpoint *asked,
		   uint8_t out[32])
{
	const char *token = peers_token(o->agent->peers);
	uint8_t text[50];

	if (!token)
		return false;
	memcpy(text, nonce, 16);
	memcpy(text + 16, id->b, 16);
	memcpy(text + 32, asked->addr.b, 16);
	text[48] = (uint8_t)(asked->port >> 8);
	text[49] = (uint8_t)asked->port;
	auth_proof(token, strlen(token), text, sizeof(text), out);
	return true;
}

static void serve_hello(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	const char *api = http_header(rq, "X-Linnet-Api");
	struct json *v = body_object(rq);
	uint8_t nonce[16], proof[32];
	struct buf b = BUF_INIT;
	struct json_out o;
	char hex[65];
	const char *s;
	size_t len;

	if (!v)
		return;
	if (api && strncmp(api, "1.", 2) != 0) {
		reply_conflict(a->overlay, rq, "another version");
		goto out;
	}
	if (json_str(json_get(v, "nonce"), 32, &s, &len) ||
	    hex_decode(s, len, nonce, sizeof(nonce))) {
		reply_error(rq, ERR_VALUE, "nonce");
		goto out;
	}
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	put_id(&o, "node_id", &a->overlay->self);
	json_put_str(&o, "overlay", a->conf->overlay_name);
	if (overlay_proof(a->overlay, nonce, &a->overlay->self, &rq->local,
			  proof)) {
		hex_encode(proof, sizeof(proof), hex);
		json_put_str(&o, "proof", hex);
	}
	json_close(&o, '}');
	reply_json(rq, 200, &b);
out:
	json_free(v);
}

/* ---- invite ---- */

/* Ids from the root to the sender; 0 or -EINVAL. */
static int path_parse(const struct json *v, struct node_id *path, unsigned *n)
{
	const struct json *a = json_get(v, "path");
	size_t len = json_len(a);

	if (json_type(a) != JSON_ARRAY || !len || len > OVERLAY_HOPS)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (get_id(json_at(a, i), &path[i]))
			return -EINVAL;
	*n = (unsigned)len;
	return 0;
}

static bool contains(const struct node_id *path, unsigned n,
		     const struct node_id *id)
{
	for (unsigned i = 0; i < n; i++)
		if (node_id_equal(&path[i], id))
			return true;
	return false;
}

/* Only the configured parents, where there are some. */
static bool parent_allowed(const struct overlay *o,
			   const struct endpoint *client)
{
	const struct conf *c = o->agent->conf;

	for (size_t i = 0; i < c->n_parents; i++) {
		if (addr_equal(&c->parents[i].addr, &client->addr))
			return true;
		/* loopback has many addresses, all of them ours */
		if (addr_classify(&c->parents[i].addr) == ADDR_LOOPBACK &&
		    addr_classify(&client->addr) == ADDR_LOOPBACK)
			return true;
	}
	return !c->n_parents;
}

/* Where the sender listens: as it says, or where it called from. */
static struct endpoint parent_address(const struct overlay *o,
				      const struct http_request *rq,
				      const struct json *v)
{
	uint64_t port = o->agent->conf->port;
	struct endpoint ep = { .addr = rq->client.addr };
	const char *s;
	size_t len;

	(void)json_u64(json_get(v, "port"), 1, 65535, &port);
	ep.port = (uint16_t)port;
	if (!json_str(json_at(json_get(v, "addr"), 0), ENDPOINT_TEXT_LEN, &s,
		      &len))
		(void)endpoint_parse(s, len, (uint16_t)port, &ep);
	return ep;
}

/* Why this sender cannot be the parent, or NULL. */
static const char *invite_refused(const struct overlay *o,
				  const struct http_request *rq,
				  const struct json *v,
				  const struct node_id *path, unsigned n)
{
	const struct node_id *sender = &path[n - 1];
	const struct host_row *rows;
	struct endpoint from;
	const char *name;
	unsigned n_rows;
	size_t len;

	if (json_str(json_get(v, "overlay"), 64, &name, &len) ||
	    strcmp(name, o->agent->conf->overlay_name) != 0)
		return "another overlay";
	if (node_id_equal(sender, &o->self))
		return "this host itself";
	if (contains(path, n, &o->self))
		return "cycle";
	for (unsigned i = 0; i < o->n_children; i++) {
		const struct branch *b = o->child[i];

		/* also while we are inviting it: one of us must give way */
		if (!b->pub.refused[0] && (b->invited || b->call) &&
		    node_id_equal(&b->pub.id, sender))
			return "cycle";
	}
	/* the ids above a host below us may be older than its place there */
	rows = overlay_rows(o, &n_rows);
	for (unsigned i = 1; i < n_rows; i++)
		if (node_id_equal(&rows[i].id, sender))
			return "cycle";
	if (n == OVERLAY_HOPS)
		return "too deep";
	if (!parent_allowed(o, &rq->client))
		return "not its parent";
	/* another one where the parent was: it restarted and forgot its name */
	from = parent_address(o, rq, v);
	if (o->n_path && !node_id_equal(&o->parent_id, sender) &&
	    !endpoint_equal(&o->parent, &from))
		return "has another parent";
	return NULL;
}

static void epoch_heard(struct overlay *o, const struct http_request *rq)
{
	const char *s = http_header(rq, "X-Linnet-Epoch");
	struct epoch e;

	if (s && !epoch_parse(s, &e))
		o->epoch = e;
}

static void path_set(struct overlay *o, const struct node_id *path, unsigned n)
{
	if (n != o->n_path || !node_id_equal(&o->parent_id, &path[n - 1]))
		o->dirty = true;
	memcpy(o->path, path, n * sizeof(*path));
	o->n_path = n;
	o->parent_id = path[n - 1];
}

static void serve_invite(void *ctx, struct http_request *rq)
{
	struct overlay *o = ((struct agent *)ctx)->overlay;
	const char *lease = http_header(rq, "X-Linnet-Lease"), *why;
	struct json *v = body_object(rq);
	struct node_id path[OVERLAY_HOPS];
	struct buf b = BUF_INIT;
	struct epoch given, held;
	struct json_out out;
	unsigned n;

	if (!v)
		return;
	if (path_parse(v, path, &n) || epoch_parse(lease, &given)) {
		reply_error(rq, ERR_VALUE, "path");
		goto out;
	}
	why = invite_refused(o, rq, v, path, n);
	/* a late invitation of our own parent must not undo a later one */
	if (!why && o->n_path && node_id_equal(&o->parent_id, &path[n - 1]) &&
	    !epoch_parse(o->lease, &held) && epoch_compare(&given, &held) < 0)
		why = "moved";
	if (why) {
		reply_conflict(o, rq, why);
		goto out;
	}
	path_set(o, path, n);
	o->parent = parent_address(o, rq, v);
	epoch_format(&given, o->lease);
	epoch_heard(o, rq);
	for (unsigned i = 0; i < o->n_children; i++)
		o->child[i]->pub.reported = false;
	parent_heard(o);
	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	put_id(&out, "node_id", &o->self);
	json_put_u64(&out, "incarnation", o->incarnation);
	json_close(&out, '}');
	reply_json(rq, 200, &b);
out:
	json_free(v);
}

/* ---- beat ---- */

static bool lease_right(const struct overlay *o, const struct http_request *rq)
{
	const char *lease = http_header(rq, "X-Linnet-Lease");

	return o->n_path && lease && strcmp(lease, o->lease) == 0;
}

static uint32_t height_of(const struct overlay *o)
{
	uint32_t h = 0;

	for (unsigned i = 0; i < o->n_children; i++)
		if (o->child[i]->pub.state != CHILD_EXPECTED)
			h = MAX(h, o->child[i]->pub.height + 1);
	return MIN(h, OVERLAY_HOPS);
}

static void reply_beat(struct overlay *o, struct http_request *rq,
		       uint64_t t2_ms)
{
	struct tree_block row[TREE_LEVELS_MAX];
	struct buf b = BUF_INIT;
	struct json_out out;

	overlay_rows_update(o);
	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	put_id(&out, "node_id", &o->self);
	json_put_u64(&out, "incarnation", o->incarnation);
	json_put_u64(&out, "hosts", o->n_rows);
	json_put_u64(&out, "height", height_of(o));
	put_hash(&out, "rows_hash", o->rows_hash);
	put_hash(&out, "members_hash", o->members_told);
	blocks_write(&out, row, registry_blocks(o->agent, row));
	json_open(&out, "flags", '[');
	json_close(&out, ']');
	json_put_u64(&out, "t2_ms", t2_ms);
	json_put_u64(&out, "t3_ms", clock_wall_ms());
	json_close(&out, '}');
	reply_json(rq, 200, &b);
}

static void clock_heard(struct overlay *o, const struct json *v)
{
	const struct json *a = json_get(v, "offset_ms");
	double offset, error;

	if (json_real(json_at(a, 0), -1e15, 1e15, &offset) ||
	    json_real(json_at(a, 1), 0, 1e15, &error))
		return;
	o->offset_ms = offset;
	o->error_ms = error;
}

static void blocks_hear(const struct overlay *o, const struct json *v)
{
	struct tree_block row[TREE_LEVELS_MAX];
	unsigned n;

	if (!blocks_read(json_get(v, "blocks"), row, &n))
		registry_blocks_heard(o->agent, NULL, row, n);
}

static void serve_beat(void *ctx, struct http_request *rq)
{
	struct overlay *o = ((struct agent *)ctx)->overlay;
	struct node_id path[OVERLAY_HOPS];
	struct json *v = body_object(rq);
	uint64_t t2_ms = clock_wall_ms();
	unsigned n;

	if (!v)
		return;
	if (path_parse(v, path, &n)) {
		/* more ancestors than allowed: deeper than a tree may be */
		if (lease_right(o, rq))
			overlay_detach(o, "too deep");
		reply_conflict(o, rq, "too deep");
	} else if (!lease_right(o, rq) ||
		   !node_id_equal(&path[n - 1], &o->parent_id)) {
		reply_conflict(o, rq, "moved");
	} else if (contains(path, n, &o->self)) {
		overlay_detach(o, "is below this agent");
		reply_conflict(o, rq, "cycle");
	} else {
		path_set(o, path, n);
		epoch_heard(o, rq);
		clock_heard(o, v);
		parent_heard(o);
		blocks_hear(o, v);
		reply_beat(o, rq, t2_ms);
	}
	json_free(v);
}

/* ---- members ---- */

static uint32_t query_offset(const struct http_request *rq)
{
	const char *s = rq->query;
	uint64_t v = 0;

	if (strncmp(s, "offset=", 7) == 0)
		(void)parse_u64(s + 7, strlen(s + 7), 0, ROWS_MAX, &v);
	return (uint32_t)v;
}

static void put_row(struct json_out *out, const struct overlay *o, uint32_t i,
		    uint64_t now)
{
	const struct host_row *m = &o->rows[i];
	char text[ENDPOINT_TEXT_LEN];

	endpoint_format(&m->ep, 0, text);
	json_open(out, NULL, '[');
	put_id(out, NULL, &m->id);
	put_id(out, NULL, &m->parent);
	json_put_str(out, NULL, text);
	json_put_u64(out, NULL, m->incarnation);
	if (m->last_seen_ms)
		json_put_u64(out, NULL,
			     now > m->last_seen_ms ? now - m->last_seen_ms : 0);
	else
		json_put_null(out, NULL);
	json_put_bool(out, NULL, o->rows_up[i]);
	json_close(out, ']');
}

static void serve_rows(void *ctx, struct http_request *rq)
{
	struct overlay *o = ((struct agent *)ctx)->overlay;
	uint32_t first = query_offset(rq), end;
	uint64_t now = clock_wall_ms();
	struct buf b = BUF_INIT;
	struct json_out out;

	overlay_rows_update(o);
	end = MIN(o->n_rows, first + ROWS_PAGE);
	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	put_hash(&out, "rows_hash", o->rows_hash);
	json_put_u64(&out, "next", end < o->n_rows ? end : 0);
	json_open(&out, "rows", '[');
	for (uint32_t i = first; i < end; i++)
		put_row(&out, o, i, now);
	json_close(&out, ']');
	json_close(&out, '}');
	for (unsigned i = 0; !first && i < o->n_children; i++)
		if (!o->child[i]->pub.refused[0])
			o->child[i]->pub.reported = true;
	reply_json(rq, 200, &b);
}

/* Takes the announced list; 0, -EINVAL, -ENOMEM. */
static int members_take(struct overlay *o, const struct json *v)
{
	const struct json *a = json_get(v, "members");
	size_t n = json_len(a), len;
	struct host_row *m;
	const char *s;
	uint64_t hash;

	if (get_hash(json_get(v, "members_hash"), &hash) ||
	    json_type(a) != JSON_ARRAY || n > MEMBERS_MAX)
		return -EINVAL;
	m = calloc(MAX(n, 1), sizeof(*m));
	if (!m)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct json *row = json_at(a, i);

		if (get_id(json_at(row, 0), &m[i].id) ||
		    json_str(json_at(row, 1), ENDPOINT_TEXT_LEN, &s, &len) ||
		    endpoint_parse(s, len, 8000, &m[i].ep)) {
			free(m);
			return -EINVAL;
		}
	}
	free(o->members);
	o->members = m;
	o->n_members = (uint32_t)n;
	o->members_told = hash;
	return 0;
}

static void serve_members(void *ctx, struct http_request *rq)
{
	struct overlay *o = ((struct agent *)ctx)->overlay;
	struct json *v = body_object(rq);
	struct buf b = BUF_INIT;

	if (!v)
		return;
	if (!lease_right(o, rq)) {
		reply_conflict(o, rq, "moved");
	} else if (members_take(o, v)) {
		reply_error(rq, ERR_VALUE, "members");
	} else {
		buf_text(&b, "{}");
		reply_json(rq, 200, &b);
	}
	json_free(v);
}

const struct http_route overlay_routes[] = {
	{ .pattern = "/api/v1/peer/hello",
	  .methods = HTTP_POST,
	  .role = ROLE_NONE,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_hello },
	{ .pattern = "/api/v1/peer/invite",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_invite },
	{ .pattern = "/api/v1/peer/beat",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_beat },
	{ .pattern = "/api/v1/peer/members",
	  .methods = HTTP_GET,
	  .role = ROLE_PEER,
	  .fn = serve_rows },
	{ .pattern = "/api/v1/peer/members",
	  .methods = HTTP_PUT,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = (size_t)4 << 20,
	  .fn = serve_members },
};
const size_t overlay_n_routes = ARRAY_SIZE(overlay_routes);
