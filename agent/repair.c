/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repair of one child: its beat said another hash of its tasks than ours.  Its
 * list is compared with our rows; what is gone is deleted, what differs is
 * put, one after the other.  The child passes each on to its own children.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/registry_private.h"
#include "common/util.h"

#define REPLY_MAX  (64 * 1024)
#define REPAIR_MS  2000
#define CONNECT_MS 250
#define ROWS_MAX   (4 * REGISTRY_ROWS)

struct repair {
	struct repair *next;
	struct registry *registry;
	struct node_id child;
	struct endpoint ep;
	char lease[64];
	struct peer_call *call;
	uint64_t gone[ROWS_MAX], put[REGISTRY_ROWS];
	unsigned n_gone, n_put;
};

static void repair_free(struct repair *p)
{
	struct repair **at = &p->registry->repairs;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	peer_cancel(p->call);
	free(p);
}

static void repair_step(struct repair *p);

static void repair_done(void *arg, const struct peer_reply *r)
{
	struct repair *p = arg;

	p->call = NULL;
	/* what it refuses is tried again with a later beat */
	if (r->err || r->status == 409)
		repair_free(p);
	else
		repair_step(p);
}

static void repair_send(struct repair *p, enum http_method method,
			const char *path, const struct buf *body,
			void (*done)(void *, const struct peer_reply *))
{
	struct peer_request rq = { .to = p->ep,
				   .method = method,
				   .path = path,
				   .body = body ? body->data : NULL,
				   .len = body ? body->len : 0,
				   .timeout_ms = REPAIR_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX };
	char lease[96];

	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s", p->lease);
	rq.headers[0] = "X-Linnet-Api: 1.0";
	rq.headers[1] = "X-Linnet-Deadline: 1500";
	rq.headers[2] = lease;
	p->call = peer_start(p->registry->agent->peers, &rq, done, p);
	if (!p->call)
		repair_free(p);
}

/* Deletes first, so that there is room for what is put. */
static void repair_step(struct repair *p)
{
	struct buf b = BUF_INIT;
	const struct entry *e = NULL;
	char path[64], id[17];

	while (!p->n_gone && p->n_put && !e)
		e = entry_find(p->registry, p->put[--p->n_put]);
	if (!p->n_gone && !e) {
		repair_free(p);
		return;
	}
	hex_u64(e ? e->t.spec.id : p->gone[--p->n_gone], id);
	snprintf(path, sizeof(path), "/api/v1/peer/tasks/%s", id);
	if (!e) {
		repair_send(p, HTTP_DELETE, path, NULL, repair_done);
		return;
	}
	entry_write_put(&b, e, NULL, 0);
	if (b.failed)
		repair_free(p);
	else
		repair_send(p, HTTP_PUT, path, &b, repair_done);
	/* the seed is in it */
	if (b.data)
		explicit_bzero(b.data, b.len);
	buf_fini(&b);
}

/* What the child has and we do not, and the other way round. */
static int repair_compare(struct repair *p, const struct json *list)
{
	struct registry *r = p->registry;
	bool same[REGISTRY_ROWS] = { 0 };
	uint64_t id, hash;
	const char *s;
	size_t len, n = json_len(list);

	if (json_type(list) != JSON_ARRAY || n > ROWS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const struct json *row = json_at(list, i);
		bool ours = false;

		if (json_str(json_at(row, 0), 16, &s, &len) ||
		    hex_parse_u64(s, len, &id) ||
		    json_str(json_at(row, 2), 16, &s, &len) ||
		    hex_parse_u64(s, len, &hash))
			return -EINVAL;
		for (unsigned k = 0; k < r->n; k++) {
			if (r->row[k]->local || r->row[k]->t.spec.id != id)
				continue;
			ours = true;
			same[k] = entry_hash(r->row[k]) == hash;
		}
		if (!ours)
			p->gone[p->n_gone++] = id;
	}
	/* taken from the end: the oldest, sketches before counters, go first */
	for (unsigned k = r->n; k-- > 0;)
		if (!same[k] && !r->row[k]->local)
			p->put[p->n_put++] = r->row[k]->t.spec.id;
	return 0;
}

static void repair_listed(void *arg, const struct peer_reply *r)
{
	struct repair *p = arg;
	struct json *v = NULL;

	p->call = NULL;
	if (r->status != 200 || json_parse(r->body, r->len, &v) ||
	    repair_compare(p, json_get(v, "tasks")))
		repair_free(p);
	else
		repair_step(p);
	json_free(v);
}

void registry_repair_child(struct agent *a, const struct node_id *child)
{
	struct registry *r = a->registry;
	const struct child *c = NULL;
	struct repair *p;

	/* a change that is under way explains the difference */
	if (r->ops)
		return;
	for (p = r->repairs; p; p = p->next)
		if (node_id_equal(&p->child, child))
			return;
	for (unsigned i = 0; i < overlay_n_children(a->overlay); i++)
		if (node_id_equal(&overlay_child(a->overlay, i)->id, child))
			c = overlay_child(a->overlay, i);
	p = c ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return;
	p->registry = r;
	p->child = *child;
	p->ep = c->ep;
	snprintf(p->lease, sizeof(p->lease), "%s", c->lease);
	p->next = r->repairs;
	r->repairs = p;
	repair_send(p, HTTP_GET, "/api/v1/peer/tasks", NULL, repair_listed);
}

void repairs_free(struct registry *r)
{
	while (r->repairs)
		repair_free(r->repairs);
}
