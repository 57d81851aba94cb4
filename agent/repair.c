/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the blocks say to other agents, over HTTP: lists, puts and deletes to a
 * child under its lease, and questions to root candidates.  An exchange lives
 * until its reply, which is given back as a struct.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/registry_private.h"
#include "common/util.h"

#define REPLY_MAX   (256 * 1024)
#define EXCHANGE_MS 2000
#define CONNECT_MS  250
#define ITEMS_MAX   (4 * REGISTRY_ROWS)

const char registry_tasks_path[] = "/api/v1/peer/tasks";

struct exchange {
	struct exchange *next;
	struct registry *registry;
	struct peer_call *call;
	enum blocks_act act;
	uint64_t ref;
	struct tree_block head;
	struct endpoint to;
};

static void exchange_free(struct exchange *x)
{
	struct exchange **at = &x->registry->exchanges;

	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	peer_cancel(x->call);
	free(x);
}

void registry_exchanges_free(struct registry *r)
{
	while (r->exchanges)
		exchange_free(r->exchanges);
}

/* ---- replies ---- */

/* [id, generation, hash] */
static int row_parse(const struct json *v, struct blocks_item *out)
{
	return json_hex(json_at(v, 0), &out->id) ||
			       json_u64(json_at(v, 1), 1, UINT64_MAX,
					&out->generation) ||
			       json_hex(json_at(v, 2), &out->hash)
		       ? -EINVAL
		       : 0;
}

struct listing {
	struct blocks_msg m;
	struct blocks_item item[ITEMS_MAX];
	struct incoming in[ITEMS_MAX];
};

static int listing_parse(const struct exchange *x, const struct json *v,
			 struct listing *l)
{
	const struct json *list = json_get(v, "tasks");
	const char *s;
	size_t len, n = json_len(list);

	if (json_type(list) != JSON_ARRAY || n > ITEMS_MAX ||
	    json_str(json_get(v, "block"), BLOCK_TEXT - 1, &s, &len) ||
	    block_parse(s, &l->m.head) ||
	    !node_id_equal(&l->m.head.owner, &x->head.owner))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const struct json *row = json_at(list, i);

		if (x->act == BLOCKS_LIST) {
			if (row_parse(row, &l->item[i]))
				return -EINVAL;
			continue;
		}
		if (entry_parse(row, &l->in[i], false))
			return -EINVAL;
		l->item[i] = entry_item(&l->in[i].t, &l->in[i]);
	}
	l->m.item = l->item;
	l->m.n = (unsigned)n;
	return 0;
}

static void listed(struct exchange *x, const struct peer_reply *r)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct json *v = NULL;
	int ret = r->err ? r->err : r->status != 200 || !l ? -EPROTO : 0;

	if (!ret)
		ret = json_parse(r->body, r->len, &v);
	if (!ret)
		ret = listing_parse(x, v, l);
	blocks_done(x->registry->blocks, x->ref, ret, ret ? NULL : &l->m);
	json_free(v);
	if (l)
		explicit_bzero(l, sizeof(*l)); /* seeds */
	free(l);
}

/* What the other made of a put or delete; -EPROTO: nothing is known. */
static int word_parse(const struct peer_reply *r, enum blocks_word *out)
{
	struct json *v = NULL;
	const char *type = "";
	size_t len;

	if (r->status == 200 || r->status == 204) {
		*out = BLOCKS_DONE;
		return 0;
	}
	if (r->status == 507) {
		*out = BLOCKS_FULL;
		return 0;
	}
	if (r->status != 409 || json_parse(r->body, r->len, &v))
		return -EPROTO;
	(void)json_str(json_get(v, "type"), 64, &type, &len);
	*out = strcmp(type, "/problems/stale-epoch") == 0 ? BLOCKS_STALE
							  : BLOCKS_OTHER;
	json_free(v);
	return 0;
}

static void replied(void *arg, const struct peer_reply *r)
{
	struct exchange *x = arg;
	struct registry *reg = x->registry;
	struct blocks_msg m = { .act = x->act, .head = x->head };
	int ret;

	x->call = NULL;
	if (x->act == BLOCKS_LIST || x->act == BLOCKS_FETCH) {
		listed(x, r);
	} else {
		ret = r->err ? r->err : word_parse(r, &m.word);
		blocks_done(reg->blocks, x->ref, ret, ret ? NULL : &m);
	}
	exchange_free(x);
	if (reg->dirty)
		registry_save(reg);
}

/* ---- requests ---- */

static void path_write(const struct blocks_msg *m, char *out, size_t size)
{
	char text[BLOCK_TEXT], id[17];

	if (m->act == BLOCKS_LIST || m->act == BLOCKS_FETCH) {
		owner_format(&m->head.owner, text);
		snprintf(out, size, "%s?owner=%s%s", registry_tasks_path, text,
			 m->act == BLOCKS_FETCH ? "&full=1" : "");
		return;
	}
	block_format(&m->head, text);
	assert(m->act != BLOCKS_PUT || m->item);
	hex_u64(m->act == BLOCKS_PUT ? m->item->id : m->id, id);
	snprintf(out, size, "%s/%s?block=%s", registry_tasks_path, id, text);
}

static const struct child *child_of(const struct registry *r,
				    const struct node_id *id)
{
	const struct overlay *o = r->agent->overlay;

	for (unsigned i = 0; i < overlay_n_children(o); i++)
		if (node_id_equal(&overlay_child(o, i)->id, id))
			return overlay_child(o, i);
	return NULL;
}

/* 0 or -ENOMEM; m is borrowed. */
static int exchange_start(struct exchange *x, const struct blocks_msg *m,
			  const char *lease)
{
	static const enum http_method methods[] = {
		[BLOCKS_LIST] = HTTP_GET,
		[BLOCKS_FETCH] = HTTP_GET,
		[BLOCKS_PUT] = HTTP_PUT,
		[BLOCKS_DELETE] = HTTP_DELETE,
	};
	struct buf body = BUF_INIT;
	char path[64 + BLOCK_TEXT], line[96];
	struct peer_request rq = { .to = x->to,
				   .method = methods[m->act],
				   .path = path,
				   .timeout_ms = EXCHANGE_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX,
				   .headers = { PEER_API_HEADER,
						"X-Linnet-Deadline: 1500" } };

	path_write(m, path, sizeof(path));
	if (lease) {
		snprintf(line, sizeof(line), "X-Linnet-Lease: %s", lease);
		rq.headers[2] = line;
	}
	if (m->act == BLOCKS_PUT) {
		entry_write_put(&body, m->item->content, NULL, 0);
		rq.body = body.data;
		rq.len = body.len;
	}
	if (!body.failed)
		x->call =
			peer_start(x->registry->agent->peers, &rq, replied, x);
	/* the seed is in it */
	if (body.data)
		explicit_bzero(body.data, body.len);
	buf_fini(&body);
	return x->call ? 0 : -ENOMEM;
}

int registry_exchange(void *ctx, const struct node_id *id,
		      const struct endpoint *at, const struct blocks_msg *m,
		      uint64_t ref)
{
	struct registry *r = ctx;
	const struct child *child = id ? child_of(r, id) : NULL;
	struct exchange *x = child || at ? calloc(1, sizeof(*x)) : NULL;
	int ret;

	if (!x)
		return -ENOENT;
	x->registry = r;
	x->act = m->act;
	x->ref = ref;
	x->head = m->head;
	x->to = child ? child->ep : *at;
	x->next = r->exchanges;
	r->exchanges = x;
	ret = exchange_start(x, m, child ? child->lease : NULL);
	if (ret)
		exchange_free(x);
	return ret;
}
