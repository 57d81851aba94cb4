/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the tree as JSON.  One table says for each message which members
 * it has, of which type, within which bounds; writing and reading both follow
 * it, so that they cannot differ.
 *
 * A member that may be absent is left out when it is zero and zero when it is
 * left out.  Nothing that is read becomes an index unchecked: the only numbers
 * that do are lengths of lists, and those are bounded by what holds them.
 */
#include "agent/tree_json.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/tree_value.h"
#include "common/util.h"

#define TTL_MAX     60000
#define MEMBERS_MAX 4096
#define PROBLEMS    "/problems/"

/* ---- messages ---- */

#define AT(member) .at = offsetof(struct tree_msg, u.member)
#define M(member)  .at = offsetof(struct tree_mover, member)
#define HOSTS      .min = 1, .max = 1u << 20
#define HEIGHT     .max = TREE_LEVELS_MAX - 1
#define ANY        .max = UINT64_MAX
#define MAYBE      .optional = true
#define LIST(n)    .list = true, .count = offsetof(struct tree_msg, u.n)
#define END                  \
	{                    \
		.name = NULL \
	}

static const struct field mover_fields[] = {
	{ "node_id", &type_id, M(id) },
	{ "incarnation", &type_u64, M(incarnation), ANY },
	{ "addr", &type_addresses, M(ep) },
	{ "overlay", &type_name, M(overlay), .max = 64 },
	{ "hosts", &type_u32, M(hosts), HOSTS },
	{ "height", &type_u32, M(height), HEIGHT },
	{ "nonce", &type_hash, M(nonce) },
	{ "fleet", &type_u32, M(fleet), MAYBE, .max = 1u << 20 },
	{ "descend", &type_bool, M(descend), MAYBE },
	{ "seen", &type_epoch, M(seen), MAYBE },
	{ "rack", &type_name, M(rack), MAYBE, .max = 32 },
	END,
};

static const struct field hello_reply[] = {
	{ "node_id", &type_id, AT(hello.id) },
	{ "incarnation", &type_u64, AT(hello.incarnation), MAYBE, ANY },
	{ "overlay", &type_name, AT(hello.overlay), .max = 64 },
	{ "root", &type_bool, AT(hello.root), MAYBE },
	{ "rooted", &type_bool, AT(hello.rooted), MAYBE },
	{ "leaving", &type_bool, AT(hello.leaving), MAYBE },
	{ "root_addr", &type_endpoint, AT(hello.root_ep), MAYBE },
	END,
};

static const struct field invite_fields[] = {
	{ "node_id", &type_id, AT(invite.id) },
	{ "addr", &type_addresses, AT(invite.ep), MAYBE },
	{ "overlay", &type_name, AT(invite.overlay), MAYBE, .max = 64 },
	END,
};

static const struct field grant_fields[] = {
	{ "act", &type_act, AT(grant.act), MAYBE },
	{ "acceptor", &type_id, AT(grant.acceptor) },
	{ "grant", &type_epoch, AT(grant.grant), MAYBE },
	{ "level", &type_u32, AT(grant.level), MAYBE, .max = TREE_LEVELS_MAX },
	{ "via", &type_id, AT(grant.via), LIST(grant.n_via), .max = TREE_VIA },
	END,
};

static const struct field granted_fields[] = {
	{ "lease", &type_epoch, AT(granted.lease) },
	{ "nonce", &type_hash, AT(granted.nonce) },
	{ "ttl_ms", &type_u32, AT(granted.ttl_ms), .max = TTL_MAX },
	{ "path", &type_id, AT(granted.path), LIST(granted.n_path),
	  .max = TREE_LEVELS_MAX },
	END,
};

static const struct field try_fields[] = {
	{ "try", &type_peer, AT(granted.try), MAYBE, LIST(granted.n_try),
	  .max = TREE_TRIES },
	{ "root", &type_endpoint, AT(granted.root_ep), MAYBE },
	END,
};

static const struct field beat_fields[] = {
	{ "seq", &type_u64, AT(beat.seq), ANY },
	{ "rooted", &type_bool, AT(beat.rooted) },
	{ "drain", &type_bool, AT(beat.drain), MAYBE },
	{ "down", &type_bool, AT(beat.down), MAYBE },
	{ "path", &type_id, AT(beat.path), LIST(beat.n_path), .min = 1,
	  .max = TREE_LEVELS_MAX },
	{ "up", &type_hop, AT(beat.up), MAYBE, LIST(beat.n_path), .same = true,
	  .max = TREE_LEVELS_MAX },
	{ "fleet", &type_u32, AT(beat.fleet), MAYBE, .max = 1u << 20 },
	{ "blocks", &type_block, AT(beat.blocks), MAYBE, LIST(beat.n_blocks),
	  .max = TREE_LEVELS_MAX },
	{ "uncles", &type_peer, AT(beat.uncles), MAYBE, LIST(beat.n_uncles),
	  .max = TREE_UNCLES },
	{ "roots", &type_endpoint, AT(beat.roots), MAYBE, LIST(beat.n_roots),
	  .max = 5 },
	{ "members_hash", &type_hash, AT(beat.members_hash), MAYBE },
	{ "list_hash", &type_hash, AT(beat.list_hash), MAYBE },
	{ "rows_most", &type_u32, AT(beat.rows_most), MAYBE, .max = 1u << 20 },
	{ "offset_ms", &type_clock, AT(beat.offset_ms), MAYBE },
	{ "t1_ms", &type_u64, AT(beat.t1_ms), .max = TREE_TIME_MAX },
	END,
};

static const struct field beat_reply[] = {
	{ "node_id", &type_id, AT(beaten.id) },
	{ "incarnation", &type_u64, AT(beaten.incarnation), ANY },
	{ "hosts", &type_u32, AT(beaten.hosts), HOSTS },
	{ "height", &type_u32, AT(beaten.height), HEIGHT },
	{ "rows_hash", &type_hash, AT(beaten.rows_hash) },
	{ "whole", &type_bool, AT(beaten.whole), MAYBE },
	{ "members_hash", &type_hash, AT(beaten.members_hash), MAYBE },
	{ "list_hash", &type_hash, AT(beaten.list_hash), MAYBE },
	{ "blocks", &type_block, AT(beaten.blocks), MAYBE,
	  LIST(beaten.n_blocks), .max = TREE_LEVELS_MAX },
	{ "t2_ms", &type_u64, AT(beaten.t2_ms), .max = TREE_TIME_MAX },
	{ "t3_ms", &type_u64, AT(beaten.t3_ms), .max = TREE_TIME_MAX },
	{ "version", &type_name, AT(beaten.version), MAYBE,
	  .max = TREE_VERSION_LEN },
	END,
};

/* Who refused a beat, and why it is not under this lease. */
static const struct field beat_refused[] = {
	{ "node_id", &type_id, AT(beaten.id), MAYBE },
	{ "incarnation", &type_u64, AT(beaten.incarnation), MAYBE, ANY },
	END,
};

static const struct field please_fields[] = {
	{ "node_id", &type_id, AT(please.id) },
	{ "incarnation", &type_u64, AT(please.incarnation), MAYBE, ANY },
	END,
};

static const struct field leave_fields[] = {
	{ "node_id", &type_id, AT(leave.id) },
	{ "incarnation", &type_u64, AT(leave.incarnation), MAYBE, ANY },
	END,
};

static const struct field rows_fields[] = {
	{ "offset", &type_u32, AT(rows.offset), MAYBE, .max = 1u << 20 },
	END,
};

static const struct field rows_reply[] = {
	{ "rows_hash", &type_hash, AT(rows.hash) },
	{ "offset", &type_u32, AT(rows.offset), MAYBE, .max = 1u << 20 },
	{ "next", &type_u32, AT(rows.next), MAYBE, .max = 1u << 20 },
	{ "rows", &type_row, AT(rows.row), LIST(rows.n), .borrowed = true,
	  .max = TREE_ROWS_PAGE },
	END,
};

static const struct field announce_fields[] = {
	{ "members_hash", &type_hash, AT(announce.hash), MAYBE },
	{ "members", &type_peer, AT(announce.peer), MAYBE, LIST(announce.n),
	  .borrowed = true, .max = MEMBERS_MAX },
	END,
};

static const struct field nothing[] = { END };

static const struct field *const requests[TREE_KINDS] = {
	[TREE_HELLO] = nothing,
	[TREE_INVITE] = invite_fields,
	[TREE_JOIN] = nothing,
	[TREE_GRANT] = grant_fields,
	[TREE_BEAT] = beat_fields,
	[TREE_PLEASE] = please_fields,
	[TREE_LEAVE] = leave_fields,
	[TREE_ROWS] = rows_fields,
	[TREE_ANNOUNCE] = announce_fields,
};

static const struct field *const replies[TREE_KINDS] = {
	[TREE_HELLO] = hello_reply,
	[TREE_INVITE] = invite_fields,
	[TREE_JOIN] = nothing,
	[TREE_GRANT] = nothing,
	[TREE_BEAT] = beat_reply,
	[TREE_PLEASE] = nothing,
	[TREE_LEAVE] = nothing,
	[TREE_ROWS] = rows_reply,
	[TREE_ANNOUNCE] = announce_fields,
};

/* ---- tables at work ---- */

static unsigned count_of(const struct field *f, const void *base)
{
	unsigned n;

	memcpy(&n, (const char *)base + f->count, sizeof(n));
	return (unsigned)MIN(n, f->max);
}

static const char *list_of(const struct field *f, const void *base)
{
	const char *at = (const char *)base + f->at, *list;

	if (!f->borrowed)
		return at;
	memcpy(&list, at, sizeof(list));
	return list;
}

static bool is_zero(const struct field *f, const void *base)
{
	const char *at = (const char *)base + f->at;

	if (f->list)
		return !count_of(f, base);
	for (size_t i = 0; i < f->type->size; i++)
		if (at[i])
			return false;
	return true;
}

static void put_fields(struct json_out *o, const struct field *f,
		       const void *base)
{
	for (; f->name; f++) {
		if (f->optional && is_zero(f, base))
			continue;
		if (!f->list) {
			f->type->put(o, f->name, (const char *)base + f->at);
			continue;
		}
		json_open(o, f->name, '[');
		for (unsigned i = 0; i < count_of(f, base); i++)
			f->type->put(o, NULL,
				     list_of(f, base) + i * f->type->size);
		json_close(o, ']');
	}
}

/* own: where the memory of a list goes that the struct only points to. */
static int get_list(const struct json *v, const struct field *f, void *base,
		    void **own)
{
	unsigned n = (unsigned)json_len(v);
	char *at = (char *)base + f->at;

	if (json_type(v) != JSON_ARRAY || json_len(v) > f->max || n < f->min ||
	    (f->same && n != count_of(f, base)))
		return -EINVAL;
	if (f->borrowed) {
		assert(own);
		*own = calloc(MAX(n, 1), f->type->size);
		if (!*own)
			return -ENOMEM;
		memcpy(at, own, sizeof(*own));
		at = *own;
	}
	for (unsigned i = 0; i < n; i++)
		if (f->type->get(json_at(v, i), f, at + i * f->type->size))
			return -EINVAL;
	memcpy((char *)base + f->count, &n, sizeof(n));
	return 0;
}

static int get_fields(const struct json *v, const struct field *f, void *base,
		      void **own)
{
	int ret = 0;

	for (; f->name && !ret; f++) {
		const struct json *m = json_get(v, f->name);

		if (!m && f->optional)
			continue;
		ret = f->list ? get_list(m, f, base, own)
			      : f->type->get(m, f, (char *)base + f->at);
	}
	return ret;
}

/* ---- what the tables do not say ---- */

static void put_bytes(struct json_out *o, const char *name, const uint8_t *b,
		      size_t n)
{
	char hex[2 * TREE_PROOF + 1];

	hex_encode(b, n, hex);
	json_put_str(o, name, hex);
}

static int get_bytes(const struct json *v, uint8_t *out, size_t n, bool *there)
{
	const char *s;
	size_t len;

	*there = v;
	return v && (json_str(v, 2 * n, &s, &len) || hex_decode(s, len, out, n))
		       ? -EINVAL
		       : 0;
}

/* A grant, or where else to try. */
static void put_granted(struct json_out *o, const struct tree_msg *m)
{
	if (!m->u.granted.granted) {
		put_fields(o, try_fields, m);
		return;
	}
	json_open(o, "grant", '{');
	put_fields(o, granted_fields, m);
	json_close(o, '}');
}

static int get_granted(const struct json *v, struct tree_msg *m)
{
	const struct json *grant = json_get(v, "grant");

	if (!grant)
		return get_fields(v, try_fields, m, NULL);
	if (json_type(grant) != JSON_OBJECT)
		return -EINVAL;
	m->u.granted.granted = true;
	return get_fields(grant, granted_fields, m, NULL);
}

static void put_problem(struct json_out *o, const struct tree_msg *m)
{
	char type[64];

	snprintf(type, sizeof(type), PROBLEMS "%s", tree_word_name(m->word));
	json_put_str(o, "type", type);
	json_put_u64(o, "status", (uint64_t)tree_word_status(m->word));
	if (m->kind == TREE_BEAT)
		put_fields(o, beat_refused, m);
}

/* The word, or what the status alone says. */
static enum tree_word get_problem(const struct json *v, int status)
{
	enum tree_word w;
	const char *s;
	size_t len;

	if (!json_str(json_get(v, "type"), 63, &s, &len) &&
	    strncmp(s, PROBLEMS, strlen(PROBLEMS)) == 0 &&
	    !tree_word_parse(s + strlen(PROBLEMS), &w) &&
	    tree_word_status(w) == status)
		return w;
	return tree_word_of_status(status);
}

static bool grants(enum tree_kind k, bool reply)
{
	return reply && (k == TREE_JOIN || k == TREE_GRANT);
}

void tree_wire_write(const struct tree_wire *w, bool reply, struct buf *out)
{
	const struct tree_msg *m = &w->m;
	struct json_out o;

	json_out_init(&o, out);
	json_open(&o, NULL, '{');
	if (reply && m->word != TREE_OK) {
		put_problem(&o, m);
	} else {
		put_fields(&o, (reply ? replies : requests)[m->kind], m);
		if (!reply && m->kind == TREE_JOIN)
			put_fields(&o, mover_fields, &m->u.join.mover);
		if (!reply && m->kind == TREE_GRANT) {
			json_open(&o, "mover", '{');
			put_fields(&o, mover_fields, &m->u.grant.mover);
			json_close(&o, '}');
		}
		if (grants(m->kind, reply))
			put_granted(&o, m);
		if (w->has_nonce)
			put_bytes(&o, "nonce", w->nonce, sizeof(w->nonce));
		if (w->has_proof)
			put_bytes(&o, "proof", w->proof, sizeof(w->proof));
		if (w->alarm_ms)
			json_put_u64(&o, "alarm_ms", w->alarm_ms);
	}
	if (reply && !epoch_none(&m->epoch))
		type_epoch.put(&o, "epoch", &m->epoch);
	if (reply && !epoch_none(&m->lease))
		type_epoch.put(&o, "lease", &m->lease);
	json_close(&o, '}');
}

static int get_request(const struct json *v, struct tree_wire *w)
{
	struct tree_msg *m = &w->m;
	int ret = get_fields(v, requests[m->kind], m, &w->own);

	if (!ret && m->kind == TREE_HELLO)
		ret = get_bytes(json_get(v, "nonce"), w->nonce,
				sizeof(w->nonce), &w->has_nonce);
	if (!ret && m->kind == TREE_JOIN)
		ret = get_fields(v, mover_fields, &m->u.join.mover, NULL);
	if (!ret && m->kind == TREE_GRANT)
		ret = get_fields(json_get(v, "mover"), mover_fields,
				 &m->u.grant.mover, NULL);
	return ret;
}

static int get_reply(const struct json *v, int status, struct tree_wire *w)
{
	struct tree_msg *m = &w->m;
	int ret;

	if (status != 200) {
		m->word = get_problem(v, status);
		return m->kind == TREE_BEAT
			       ? get_fields(v, beat_refused, m, NULL)
			       : 0;
	}
	ret = get_fields(v, replies[m->kind], m, &w->own);
	if (!ret && grants(m->kind, true))
		ret = get_granted(v, m);
	if (!ret && m->kind == TREE_HELLO)
		ret = get_bytes(json_get(v, "proof"), w->proof,
				sizeof(w->proof), &w->has_proof);
	if (!ret && m->kind == TREE_BEAT && json_get(v, "alarm_ms"))
		ret = json_u64(json_get(v, "alarm_ms"), 1, TREE_TIME_MAX,
			       &w->alarm_ms);
	return ret;
}

int tree_wire_read(enum tree_kind kind, int status, const char *text,
		   size_t len, struct tree_wire *w)
{
	struct json *v = NULL;
	int ret = json_parse(text, len, &v);

	memset(w, 0, sizeof(*w));
	w->m.kind = kind;
	if (ret == -ENOMEM)
		goto out;
	if (!ret && json_type(v) != JSON_OBJECT)
		ret = -EINVAL;
	if (ret && status && status != 200) {
		json_free(v); /* a refusal by something else */
		v = NULL;
		ret = 0;
	}
	if (!ret)
		ret = status ? get_reply(v, status, w) : get_request(v, w);
	if (!ret && status && json_get(v, "epoch"))
		ret = type_epoch.get(json_get(v, "epoch"), NULL, &w->m.epoch);
	if (!ret && status && json_get(v, "lease"))
		ret = type_epoch.get(json_get(v, "lease"), NULL, &w->m.lease);
	if (ret)
		tree_wire_fini(w);
out:
	json_free(v);
	return ret == 0 || ret == -ENOMEM ? ret : -EINVAL;
}

void tree_wire_fini(struct tree_wire *w)
{
	free(w->own);
	w->own = NULL;
}
