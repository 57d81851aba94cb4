/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks of this agent on disk: rows, and the heads of the blocks they
 * belong to.  What cannot be used any more is left out; its block is then not
 * whole, and whoever owns it brings the rest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/msnm.h"
#include "agent/registry_private.h"
#include "agent/state.h"
#include "common/log.h"
#include "common/util.h"

#define TASKS_FILE "tasks.json"
#define VERSION    2 /* of the file */

static void block_write(struct json_out *o, const struct block *k)
{
	char text[33];

	json_open(o, NULL, '[');
	owner_format(&k->head.owner, text);
	json_put_str(o, NULL, text);
	json_put_u64(o, NULL, k->head.term);
	json_put_u64(o, NULL, k->head.index);
	json_put_hex(o, NULL, k->want);
	json_close(o, ']');
}

void registry_save(struct registry *r)
{
	const char *dir = r->agent->conf->state_dir;
	struct buf b = BUF_INIT;
	struct json_out o;
	int ret;

	r->dirty = false;
	msnm_tasks_changed(r->agent);
	if (!dir[0])
		return;
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "v", VERSION);
	json_put_u64(&o, "next_alias", r->next_alias);
	json_put_u64(&o, "next_order", r->next_order);
	json_open(&o, "blocks", '[');
	for (unsigned i = 0; i < blocks_count(r->blocks); i++)
		block_write(&o, blocks_at(r->blocks, i));
	json_close(&o, ']');
	json_open(&o, "tasks", '[');
	for (unsigned i = 0; i < r->n; i++)
		entry_write(&o, NULL, r->row[i], true);
	json_close(&o, ']');
	json_close(&o, '}');
	ret = b.failed ? -ENOMEM : state_write(dir, TASKS_FILE, b.data, b.len);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: tasks are not kept", dir);
	r->persisted = !ret;
	if (b.data)
		explicit_bzero(b.data, b.len);
	buf_fini(&b);
}

/* False: its time was over while nobody looked. */
static bool still_lives(struct incoming *in)
{
	uint64_t now = clock_wall_ms(), end;

	if (!in->t.expires_s)
		return true;
	end = in->t.created_ms + (uint64_t)in->t.expires_s * 1000;
	if (end <= now)
		return false;
	in->left_ms = MIN(in->left_ms, end - now);
	return true;
}

/* Those that can be used: their number. */
static unsigned tasks_parse(const struct json *list, struct incoming *out)
{
	unsigned n = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		bool twice = false;

		if (entry_parse(json_at(list, i), &out[n], true)) {
			log_warnx("%s: a task that cannot be used", TASKS_FILE);
			continue;
		}
		for (unsigned k = 0; k < n; k++)
			twice |= out[k].t.spec.id == out[n].t.spec.id;
		out[n].kept = true;
		if (!twice && still_lives(&out[n]))
			n++;
	}
	return n;
}

static int block_load(struct registry *r, const struct json *v,
		      struct incoming *in, unsigned n)
{
	struct blocks_item item[REGISTRY_ROWS];
	struct tree_block head = { 0 };
	unsigned n_items = 0;
	uint64_t want;
	const char *s;
	size_t len;

	if (json_str(json_at(v, 0), 32, &s, &len) ||
	    owner_parse(s, len, &head.owner) ||
	    json_u64(json_at(v, 1), 0, UINT64_MAX, &head.term) ||
	    json_u64(json_at(v, 2), 0, UINT64_MAX, &head.index) ||
	    json_hex(json_at(v, 3), &want))
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		if (in[i].local || !node_id_equal(&in[i].t.owner, &head.owner))
			continue;
		item[n_items] = entry_item(&in[i].t, &in[i]);
		item[n_items].term = head.term;
		item[n_items++].index = head.index;
	}
	return blocks_restore(r->blocks, &head, want, item, n_items);
}

static int registry_restore(struct registry *r, const struct json *v)
{
	const struct json *list = json_get(v, "tasks");
	const struct json *heads = json_get(v, "blocks");
	uint64_t version, alias, order;
	struct incoming *in;
	unsigned n;
	int ret = 0;

	if (json_u64(json_get(v, "v"), VERSION, VERSION, &version) ||
	    json_u64(json_get(v, "next_alias"), 0, UINT64_MAX / 2, &alias) ||
	    json_u64(json_get(v, "next_order"), 0, UINT64_MAX / 2, &order) ||
	    json_len(list) > REGISTRY_ROWS || json_len(heads) > BLOCKS_MAX)
		return -EINVAL;
	in = calloc(json_len(list) + 1, sizeof(*in));
	if (!in)
		return -ENOMEM;
	n = tasks_parse(list, in);
	for (size_t i = 0; i < json_len(heads) && !ret; i++)
		ret = block_load(r, json_at(heads, i), in, n);
	for (unsigned i = 0; i < n && !ret; i++)
		if (in[i].local && !entry_add(r, &in[i]))
			ret = -ENOMEM;
	r->next_alias = alias;
	r->next_order = order;
	explicit_bzero(in, json_len(list) * sizeof(*in));
	free(in);
	return ret;
}

int registry_load(struct registry *r)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	int ret = state_read(r->agent->conf->state_dir, TASKS_FILE, &b);

	if (ret)
		return ret;
	if (json_parse(b.data, b.len, &v) || registry_restore(r, v)) {
		log_warnx("%s: has another form, not used", TASKS_FILE);
		ret = -EINVAL;
	} else {
		log_info("%u tasks and sketches from %s", r->n, TASKS_FILE);
	}
	json_free(v);
	explicit_bzero(b.data, b.size);
	buf_fini(&b);
	return ret;
}
