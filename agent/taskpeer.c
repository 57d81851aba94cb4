/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What other agents ask of the tasks here: the parent's puts and deletes,
 * which go on to the monitor and the children, and lists of a block for who
 * compares it with its own.
 */
#include <errno.h>
#include <string.h>

#include "agent/auth.h"
#include "agent/fanout.h"
#include "agent/overlay.h"
#include "agent/taskops_private.h"
#include "common/util.h"

#define BODY_MAX 65536

static void reply_error(struct http_request *rq, enum error_code code,
			const char *field, const char *detail)
{
	struct error e;

	error_set(&e, code, field, detail);
	http_send_error(rq, &e);
}

/* What a change says of itself; what is wrong with it is sent. */
struct change {
	uint64_t id;
	struct tree_block block;
	uint32_t budget_ms;
};

static int change_read(const struct agent *a, struct http_request *rq,
		       struct change *c)
{
	enum error_code code = fanout_budget(a, rq, &c->budget_ms);
	const char *id = rq->segment[0];

	if (code) {
		reply_error(rq, code,
			    code == ERR_VALUE ? "X-Linnet-Deadline" : "", "");
		return -EPERM;
	}
	if (hex_parse_u64(id, strlen(id), &c->id)) {
		reply_error(rq, ERR_VALUE, "id", "");
		return -EINVAL;
	}
	if (strncmp(rq->query, "block=", 6) != 0 ||
	    block_parse(rq->query + 6, &c->block)) {
		reply_error(rq, ERR_VALUE, "block", "");
		return -EINVAL;
	}
	return 0;
}

/* False: refused, and said why. */
static bool change_taken(struct http_request *rq, enum blocks_word w)
{
	switch (w) {
	case BLOCKS_DONE:
	case BLOCKS_SAME:
		return true;
	case BLOCKS_OLDER:
		reply_error(rq, ERR_CONFLICT, "", "an older generation");
		break;
	case BLOCKS_OTHER:
		reply_error(rq, ERR_CONFLICT, "",
			    "this generation has another content");
		break;
	case BLOCKS_STALE:
	case BLOCKS_FOREIGN:
	case BLOCKS_HALF:
		reply_error(rq, ERR_STALE_EPOCH, "", "");
		break;
	case BLOCKS_FULL:
		reply_error(rq, ERR_LIMIT, "", "tasks");
		break;
	}
	return false;
}

/* ---- put ---- */

static unsigned evict_parse(const struct json *list,
			    uint64_t out[2 * REGISTRY_EVICT])
{
	unsigned n = 0;

	for (size_t i = 0; i < json_len(list) && n < 2 * REGISTRY_EVICT; i++)
		n += !json_hex(json_at(list, i), &out[n]);
	return n;
}

/* Into block and rows, with what must go for it; false: refused. */
static bool put_row(struct registry_op *op, struct incoming *in)
{
	struct registry *r = op->registry;
	struct blocks_item item = entry_item(&in->t, in);
	uint64_t evict[REGISTRY_EVICT];
	struct error err = { 0 };
	unsigned n_evict;

	if (!blocks_find(r->blocks, op->id, NULL)) {
		if (registry_room(r, &in->t, evict, &n_evict, &err)) {
			http_send_error(op->rq, &err);
			return false;
		}
		op_evicts(op, evict, n_evict, false);
	}
	if (!change_taken(op->rq, blocks_put(r->blocks, &op->block, &item)))
		return false;
	if (r->dirty)
		registry_save(r);
	return true;
}

static void put_task(struct registry_op *op, const struct json *v,
		     uint32_t budget_ms)
{
	struct http_request *rq = op->rq;
	uint64_t evict[2 * REGISTRY_EVICT];
	struct incoming in;
	struct entry *e;

	op_evicts(op, evict, evict_parse(json_get(v, "evict"), evict), true);
	if (entry_parse(json_get(v, "task"), &in, false) ||
	    in.t.spec.id != op->id) {
		reply_error(rq, ERR_VALUE, "task", "");
		op_free(op);
		return;
	}
	if (!put_row(op, &in)) {
		op_free(op);
		return;
	}
	e = entry_find(op->registry, op->id);
	if (!e) { /* its time is over here: nothing is left to be done */
		op->children_in = true;
		op_local(op, MISSING_NONE);
	}
	/* also what is the same goes to the monitor: there it is the same too */
	if (e ? op_spread(op, e, budget_ms) : op_local_later(op)) {
		op_free(op);
		reply_error(rq, ERR_INTERNAL, "", "");
	}
}

static struct registry_op *change_op(struct agent *a, struct http_request *rq,
				     const struct change *c)
{
	struct registry_op *op = op_new(a->registry, c->id, NULL, NULL);

	if (!op) {
		reply_error(rq, ERR_INTERNAL, "", "");
		return NULL;
	}
	registry_place(a);
	op->rq = rq;
	op->block = c->block;
	return op;
}

static void serve_put(void *ctx, struct http_request *rq)
{
	struct registry_op *op;
	struct agent *a = ctx;
	struct json *v = NULL;
	struct change c;

	if (change_read(a, rq, &c))
		return;
	if (json_parse(rq->body, rq->body_len, &v)) {
		reply_error(rq, ERR_MALFORMED, "", "");
		return;
	}
	op = change_op(a, rq, &c);
	if (op)
		put_task(op, v, c.budget_ms);
	json_free(v);
}

/* ---- delete ---- */

/* A sketch goes with its counters. */
static enum blocks_word delete_rows(struct registry *r, const struct change *c)
{
	uint64_t ids[REGISTRY_ROWS];
	unsigned n = entry_family(r, c->id, ids);
	enum blocks_word w = blocks_delete(r->blocks, &c->block, c->id);

	for (unsigned i = 0; i < n && w <= BLOCKS_SAME; i++) {
		const struct entry *e = entry_find(r, ids[i]);

		if (e && !e->local &&
		    node_id_equal(&e->t.owner, &c->block.owner))
			(void)blocks_delete(r->blocks, &c->block, ids[i]);
	}
	return w;
}

static void serve_delete(void *ctx, struct http_request *rq)
{
	struct registry_op *op;
	struct agent *a = ctx;
	struct change c;

	if (change_read(a, rq, &c))
		return;
	op = change_op(a, rq, &c);
	if (!op)
		return;
	if (!change_taken(rq, delete_rows(a->registry, &c))) {
		op_free(op);
		return;
	}
	if (a->registry->dirty)
		registry_save(a->registry);
	op_local(op, MISSING_NONE);
	if (op_fan_out(op, HTTP_DELETE, NULL, c.budget_ms) ||
	    op_local_later(op)) {
		op_free(op);
		reply_error(rq, ERR_INTERNAL, "", "");
	}
}

/* ---- lists ---- */

static void item_write(struct json_out *o, const struct blocks_item *it,
		       bool full)
{
	if (full) {
		entry_write(o, NULL, it->content, false);
		return;
	}
	json_open(o, NULL, '[');
	json_put_hex(o, NULL, it->id);
	json_put_u64(o, NULL, it->generation);
	json_put_hex(o, NULL, it->hash);
	json_close(o, ']');
}

/*
 * Seeds go to those alone that may need the set back: the parent, and root
 * candidates, which call from where all know them.
 */
static bool may_have_seeds(const struct agent *a, const struct http_request *rq)
{
	const struct endpoint *root;
	size_t n = overlay_roots(a->overlay, &root);

	for (size_t i = 0; i < n; i++)
		if (addr_equal(&root[i].addr, &rq->client.addr))
			return true;
	return overlay_under(a->overlay, http_header(rq, "X-Linnet-Lease"));
}

/* ?owner=root, ?owner=ID; &full=1: with all there is to a task. */
static void serve_list(void *ctx, struct http_request *rq)
{
	const struct agent *a = ctx;
	const struct registry *r = a->registry;
	const char *s = rq->query + strlen("owner=");
	struct node_id owner;
	struct blocks_msg list;
	struct http_reply reply;
	struct json_out o;
	char text[BLOCK_TEXT];
	bool full;

	if (strncmp(rq->query, "owner=", strlen("owner=")) != 0 ||
	    owner_parse(s, strcspn(s, "&"), &owner)) {
		reply_error(rq, ERR_VALUE, "owner", "");
		return;
	}
	full = strcmp(s + strcspn(s, "&"), "&full=1") == 0;
	if (full && !may_have_seeds(a, rq)) {
		reply_error(rq, ERR_FORBIDDEN, "", "");
		return;
	}
	blocks_list(r->blocks, &owner, &list);
	http_reply_init(&reply, 200, HTTP_JSON);
	json_out_init(&o, &reply.body);
	json_open(&o, NULL, '{');
	block_format(&list.head, text);
	json_put_str(&o, "block", text);
	json_open(&o, "tasks", '[');
	for (unsigned i = 0; i < list.n; i++)
		item_write(&o, &list.item[i], full);
	json_close(&o, ']');
	json_close(&o, '}');
	http_send(rq, &reply);
}

const struct http_route registry_routes[] = {
	{ .pattern = "/api/v1/peer/tasks",
	  .methods = HTTP_GET,
	  .role = ROLE_PEER,
	  .fn = serve_list },
	{ .pattern = "/api/v1/peer/tasks/*",
	  .methods = HTTP_PUT,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_put },
	{ .pattern = "/api/v1/peer/tasks/*",
	  .methods = HTTP_DELETE,
	  .role = ROLE_PEER,
	  .fn = serve_delete },
};
const size_t registry_n_routes = ARRAY_SIZE(registry_routes);
