/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /api/v1/overlay: the tree as clients see it, and what they may change. */
#include <stdlib.h>
#include <string.h>

#include "agent/messages.h"
#include "agent/overlay.h"
#include "agent/registry.h"
#include "agent/v1.h"
#include "common/util.h"

/* ---- this agent and its children ---- */

static void put_child(struct json_out *o, const struct child *ch)
{
	json_open(o, NULL, '{');
	v1_put_node(o, "node_id", &ch->id);
	v1_put_host(o, "host", &ch->ep);
	json_put_str(o, "state", child_state_name(ch->state));
	if (ch->refused[0])
		json_put_str(o, "refused", ch->refused);
	json_put_u64(o, "hosts", ch->hosts);
	if (ch->last_seen_ms) {
		json_put_u64(o, "latency_ms", ch->rtt_us / 1000);
		json_put_bool(o, "tasks_same", ch->tasks_same);
	} else {
		json_put_null(o, "latency_ms");
		json_put_null(o, "tasks_same");
	}
	if (ch->version[0])
		json_put_str(o, "version", ch->version);
	else
		json_put_null(o, "version");
	v1_put_time(o, "last_seen", ch->last_seen_ms);
	json_close(o, '}');
}

/* How many, their hash, and whether they are those of the parent. */
static void put_tasks(struct json_out *o, const struct agent *a)
{
	struct tree_block block[TREE_BLOCKS];
	unsigned n = registry_blocks(a, block);
	uint64_t hash = 0;

	for (unsigned i = 0; i < n; i++)
		hash += block[i].hash;
	json_put_u64(o, "tasks", registry_count(a->registry));
	json_put_hex(o, "tasks_hash", hash);
	if (overlay_parent(a->overlay))
		json_put_bool(o, "tasks_same",
			      tree_tasks_same(overlay_tree(a->overlay)));
	else
		json_put_null(o, "tasks_same");
	json_put_str(o, "version", LINNET_VERSION);
}

static void put_place(struct json_out *o, const struct overlay *ov)
{
	struct node_id path[OVERLAY_HOPS];
	unsigned n = overlay_path(ov, path);
	char epoch[EPOCH_TEXT];

	overlay_epoch_text(ov, epoch);
	json_put_u64(o, "epoch", overlay_epoch(ov));
	json_put_str(o, "epoch_text", epoch);
	json_put_str(o, "provider", overlay_provider(ov));
	json_put_str(o, "role",
		     overlay_is_root(ov)  ? "root"
		     : overlay_parent(ov) ? "member"
					  : "detached");
	v1_put_node(o, "node_id", overlay_self(ov));
	v1_put_node(o, "root", n ? &path[0] : overlay_self(ov));
	if (overlay_parent(ov))
		v1_put_host(o, "parent", overlay_parent(ov));
	else
		json_put_null(o, "parent");
	json_open(o, "path", '[');
	for (unsigned i = 0; i < n; i++)
		v1_put_node(o, NULL, &path[i]);
	json_close(o, ']');
	json_put_u64(o, "hosts_expected", overlay_expected(ov));
	json_put_bool(o, "settled", tree_settled(overlay_tree(ov)));
}

static void get_overlay(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct agent *a = ctx;
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '{');
	put_place(&o, a->overlay);
	put_tasks(&o, a);
	json_open(&o, "children", '[');
	for (unsigned i = 0; i < overlay_n_children(a->overlay); i++)
		put_child(&o, overlay_child(a->overlay, i));
	json_close(&o, ']');
	json_close(&o, '}');
	v1_end(c, &r, &o);
}

/* ---- members ---- */

/* Hosts whose row is known; up: up to which level all above are heard. */
static const char *row_state(const struct tree_row *r, unsigned *up)
{
	bool behind = r->level > *up;

	if (!behind)
		*up = r->up ? r->level + 1u : r->level;
	if (!r->incarnation)
		return "expected";
	return !r->up ? "down" : behind ? "behind" : "up";
}

/* A host and all below it, which stand right behind it. */
static uint32_t subtree_size(const struct tree_row *row, uint32_t n, uint32_t i)
{
	uint32_t end = i + 1;

	while (end < n && row[end].level > row[i].level)
		end++;
	return end - i;
}

static void put_rows(struct json_out *o, const struct v1_call *c,
		     const struct tree_row *row, uint32_t n)
{
	struct endpoint self = overlay_endpoint(c->agent->overlay);
	unsigned up = 0;

	for (uint32_t i = 0; i < c->offset + c->n_page; i++) {
		const char *state = row_state(&row[i], &up);

		if (i < c->offset)
			continue;
		json_open(o, NULL, '{');
		v1_put_node(o, "node_id", &row[i].id);
		v1_put_host(o, "host", i ? &row[i].ep : &self);
		v1_put_node(o, "parent", &row[i].parent);
		json_put_str(o, "state", state);
		json_put_u64(o, "hosts", subtree_size(row, n, i));
		v1_put_time(o, "last_seen",
			    i ? row[i].seen_ms : clock_wall_ms());
		json_close(o, '}');
	}
}

/* Of those that the root announced nothing else is known. */
static void put_members(struct json_out *o, const struct v1_call *c,
			const struct tree_peer *m)
{
	for (uint32_t i = c->offset; i < c->offset + c->n_page; i++) {
		json_open(o, NULL, '{');
		v1_put_node(o, "node_id", &m[i].id);
		v1_put_host(o, "host", &m[i].ep);
		json_put_null(o, "parent");
		json_put_null(o, "state");
		json_put_null(o, "hosts");
		json_put_null(o, "last_seen");
		json_close(o, '}');
	}
}

static void get_members(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, 0, NULL);
	const struct agent *a = ctx;
	const struct tree_peer *m;
	const struct tree_row *row;
	unsigned n_members, n_rows;
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	m = overlay_members(a->overlay, &n_members);
	row = overlay_rows(a->overlay, &n_rows);
	v1_page(c, MAX(n_members, n_rows));
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '[');
	if (n_members > n_rows)
		put_members(&o, c, m);
	else
		put_rows(&o, c, row, n_rows);
	json_close(&o, ']');
	v1_end(c, &r, &o);
}

/* ---- changes ---- */

static void child_added(void *arg, const struct error *e, bool created)
{
	struct v1_call *c = arg;
	struct http_reply r;
	struct json_out o;

	if (e) {
		v1_error(c, e->code, e->field, e->detail);
		return;
	}
	v1_begin(&r, &o, created ? 201 : 200);
	http_reply_header(&r, "Location", "/api/v1/overlay");
	json_open(&o, "data", '{');
	v1_put_host(&o, "host", &c->f.agent);
	json_close(&o, '}');
	v1_end(c, &r, &o);
}

static void post_child(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	static const char *const names[] = { "host", NULL };
	struct json *body = NULL;
	struct error e;
	const char *s;
	size_t len;

	if (!c)
		return;
	if (v1_body(rq, names, &body, &e))
		v1_refuse(c, &e);
	else if (!json_get(body, "host"))
		v1_error(c, ERR_MISSING, "host", "");
	else if (json_str(json_get(body, "host"), ENDPOINT_TEXT_LEN, &s,
			  &len) ||
		 endpoint_parse(s, len, 8000, &c->f.agent))
		v1_error(c, ERR_VALUE, "host", field_allowed(F_AGENT));
	else
		overlay_add(ctx, &c->f.agent, child_added, c);
	json_free(body);
}

static void delete_child(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const char *s = rq->segment[0];
	struct http_reply r;
	struct node_id id;
	struct endpoint ep;
	struct agent *a = ctx;
	int ret = -1;

	if (!c)
		return;
	if (!node_id_parse(s, strlen(s), &id))
		ret = overlay_remove(a, NULL, &id);
	else if (!endpoint_parse(s, strlen(s), 8000, &ep))
		ret = overlay_remove(a, &ep, NULL);
	if (ret) {
		v1_error(c, ERR_UNKNOWN_HOST, "", "");
		return;
	}
	http_reply_init(&r, 204, NULL);
	v1_send(c, &r);
}

/* It goes on leaving after the answer. */
static void post_drain(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	struct agent *a = ctx;
	struct http_reply r;

	if (!c)
		return;
	overlay_drain(a->overlay, NULL, NULL);
	http_reply_init(&r, 204, NULL);
	v1_send(c, &r);
}

static void post_accept(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	struct agent *a = ctx;
	struct http_reply r;

	if (!c)
		return;
	overlay_accept(a->overlay);
	http_reply_init(&r, 204, NULL);
	v1_send(c, &r);
}

const struct http_route overlay_api_routes[] = {
	{ .pattern = "/api/v1/overlay",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = get_overlay },
	{ .pattern = "/api/v1/overlay/members",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = get_members },
	{ .pattern = "/api/v1/overlay/children",
	  .methods = HTTP_POST,
	  .role = ROLE_ADMIN,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = post_child },
	{ .pattern = "/api/v1/overlay/children/*",
	  .methods = HTTP_DELETE,
	  .role = ROLE_ADMIN,
	  .fn = delete_child },
	{ .pattern = "/api/v1/overlay/drain",
	  .methods = HTTP_POST,
	  .role = ROLE_ADMIN,
	  .fn = post_drain },
	{ .pattern = "/api/v1/overlay/accept",
	  .methods = HTTP_POST,
	  .role = ROLE_ADMIN,
	  .fn = post_accept },
};
const size_t overlay_api_n_routes = ARRAY_SIZE(overlay_api_routes);
