/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tasks as JSON, between agents and in the state file.  The seed is in it: the
 * file is ours alone, the role peer is asked for, and nothing else sees it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/msnm_conf.h"
#include "agent/registry_private.h"
#include "agent/standing_conf.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

#define WALL_MAX      ((uint64_t)1 << 48)
#define FEATURES_NAME "features"

/* ---- blocks ---- */

static const struct node_id of_root; /* zero */

void owner_format(const struct node_id *id, char out[33])
{
	if (node_id_equal(id, &of_root))
		snprintf(out, 33, "root");
	else
		node_id_format(id, out);
}

int owner_parse(const char *s, size_t len, struct node_id *out)
{
	if (len == 4 && memcmp(s, "root", 4) == 0) {
		*out = of_root;
		return 0;
	}
	return node_id_parse(s, len, out);
}

void block_format(const struct tree_block *b, char out[BLOCK_TEXT])
{
	char owner[33];

	owner_format(&b->owner, owner);
	snprintf(out, BLOCK_TEXT, "%s.%" PRIu64 ".%" PRIu64 ".%016" PRIx64,
		 owner, b->term, b->index, b->hash);
}

int block_parse(const char *s, struct tree_block *out)
{
	const char *dot[3];
	struct tree_block b;

	for (unsigned i = 0; i < ARRAY_SIZE(dot); i++) {
		dot[i] = s ? strchr(i ? dot[i - 1] + 1 : s, '.') : NULL;
		if (!dot[i])
			return -EINVAL;
	}
	if (owner_parse(s, (size_t)(dot[0] - s), &b.owner) ||
	    parse_u64(dot[0] + 1, (size_t)(dot[1] - dot[0] - 1), 0, UINT64_MAX,
		      &b.term) ||
	    parse_u64(dot[1] + 1, (size_t)(dot[2] - dot[1] - 1), 0, UINT64_MAX,
		      &b.index) ||
	    hex_parse_u64(dot[2] + 1, strlen(dot[2] + 1), &b.hash))
		return -EINVAL;
	*out = b;
	return 0;
}

/* ---- tasks ---- */

void task_put_filter(struct json_out *o, const struct filter *f, bool peer)
{
	char text[PREFIX_TEXT_LEN], proto[8];

	json_put_str(o, "direction", f->dir == PACKET_IN ? "in" : "out");
	if (peer) {
		json_put_u64(o, "family", f->family);
		json_put_u64(o, "proto", f->proto);
	} else if (f->proto) {
		proto_format(f->proto, proto);
		json_put_str(o, "proto", proto);
	}
	if (f->has_src) {
		prefix_format(&f->src, text);
		json_put_str(o, "src", text);
	}
	if (f->has_dst) {
		prefix_format(&f->dst, text);
		json_put_str(o, "dst", text);
	}
}

void entry_write(struct json_out *o, const char *name, const struct entry *e,
		 bool state)
{
	const struct task *t = state ? &e->t : entry_travels(e);
	uint64_t now = clock_mono_ms();
	char seed[33], owner[33];

	hex_encode(t->spec.seed.b, sizeof(t->spec.seed.b), seed);
	json_open(o, name, '{');
	json_put_hex(o, "id", t->spec.id);
	json_put_u64(o, "generation", t->spec.generation);
	json_put_str(o, "name", t->name);
	json_open(o, "filter", '{');
	task_put_filter(o, &t->spec.filter, true);
	json_close(o, '}');
	json_put_str(o, "key", key_type_name((enum key_type)t->spec.key));
	json_put_str(o, "increment",
		     increment_name((enum increment)t->spec.increment));
	json_open(o, "sketches", '[');
	for (unsigned k = 0; k < SKETCH_KINDS; k++)
		if (t->spec.kinds & 1u << k)
			json_put_str(o, NULL, sketch_name((enum sketch_kind)k));
	if (t->spec.kinds == TASK_FEATURES)
		json_put_str(o, NULL, FEATURES_NAME);
	json_close(o, ']');
	if (t->spec.kinds == TASK_FEATURES) {
		json_put_bool(o, "both", t->spec.both);
		json_put_u64(o, "semantics", t->spec.semantics);
		json_put_str(o, "params", t->params);
	} else if (t->params[0]) {
		json_put_str(o, "standing", t->params);
	}
	json_put_u64(o, "window_ms", t->spec.window_ms);
	json_put_str(o, "seed", seed);
	json_put_u64(o, "created_ms", t->created_ms);
	json_put_u64(o, "expires_s", t->expires_s);
	if (t->expires_s) /* one that has ended has no time left */
		json_put_u64(o, "left_ms",
			     e->expire_ms > now ? e->expire_ms - now : 1);
	json_put_str(o, "origin", t->origin == ORIGIN_V1 ? "v1" : "legacy");
	json_put_bool(o, "is_sketch", t->is_sketch);
	json_put_hex(o, "sketch", t->sketch);
	json_put_real(o, "threshold", t->threshold);
	if (state) {
		owner_format(&t->owner, owner);
		json_put_str(o, "owner", owner);
		json_put_u64(o, "alias", t->alias);
		json_put_u64(o, "order", t->order);
		json_put_bool(o, "local", e->local);
		if (t->has_here)
			json_put_real(o, "threshold_here", t->threshold_here);
	}
	json_close(o, '}');
}

static int get_prefix(const struct json *f, const char *name, uint8_t *has,
		      struct ip_prefix *out)
{
	const struct json *v = json_get(f, name);
	const char *s;
	size_t len;

	if (!v)
		return 0;
	*has = 1;
	return json_str(v, PREFIX_TEXT_LEN, &s, &len)
		       ? -EINVAL
		       : prefix_parse(s, len, out);
}

static int get_filter(const struct json *f, struct filter *out)
{
	uint64_t family, proto;
	const char *s;
	size_t len;

	if (json_str(json_get(f, "direction"), 8, &s, &len) ||
	    (strcmp(s, "in") != 0 && strcmp(s, "out") != 0) ||
	    json_u64(json_get(f, "family"), 0, 6, &family) ||
	    json_u64(json_get(f, "proto"), 0, 255, &proto))
		return -EINVAL;
	out->dir = s[0] == 'i' ? PACKET_IN : PACKET_OUT;
	out->family = (uint8_t)family;
	out->proto = (uint8_t)proto;
	if (get_prefix(f, "src", &out->has_src, &out->src) ||
	    get_prefix(f, "dst", &out->has_dst, &out->dst))
		return -EINVAL;
	return 0;
}

static int get_sketches(const struct json *a, uint32_t *kinds)
{
	enum sketch_kind k;
	const char *s;
	size_t len;

	if (json_type(a) != JSON_ARRAY || json_len(a) > SKETCH_KINDS)
		return -EINVAL;
	for (size_t i = 0; i < json_len(a); i++) {
		if (json_str(json_at(a, i), 32, &s, &len))
			return -EINVAL;
		if (strcmp(s, FEATURES_NAME) == 0)
			*kinds |= TASK_FEATURES;
		else if (sketch_parse(s, len, &k))
			return -EINVAL;
		else
			*kinds |= 1u << k;
	}
	return 0;
}

/* What only the task of MSNM has. */
static int get_features(const struct json *v, struct task *out)
{
	struct msnm_conf conf;
	uint64_t semantics;
	const char *s;
	bool both;
	size_t len;

	if (json_bool(json_get(v, "both"), &both) ||
	    json_u64(json_get(v, "semantics"), 0, UINT8_MAX, &semantics) ||
	    json_str(json_get(v, "params"), sizeof(out->params) - 1, &s,
		     &len) ||
	    msnm_conf_parse(&conf, s) ||
	    conf.window_s * 1000 != out->spec.window_ms ||
	    conf.semantics != semantics)
		return -EINVAL;
	out->spec.both = both;
	out->spec.semantics = (uint8_t)semantics;
	memcpy(out->params, s, len + 1);
	return 0;
}

/* Questions about its windows. */
static int get_standing(const struct json *v, struct task *out)
{
	struct standing_conf conf;
	const char *s;
	size_t len;

	if (!v)
		return 0;
	if (json_str(v, sizeof(out->params) - 1, &s, &len) ||
	    standing_conf_parse(s, &out->spec, &conf))
		return -EINVAL;
	memcpy(out->params, s, len + 1);
	return 0;
}

static int get_spec(const struct json *v, struct task_spec *out)
{
	enum increment inc;
	enum key_type key;
	uint64_t window;
	const char *s;
	size_t len;

	if (json_hex(json_get(v, "id"), &out->id) ||
	    json_u64(json_get(v, "generation"), 1, UINT64_MAX,
		     &out->generation) ||
	    get_filter(json_get(v, "filter"), &out->filter) ||
	    json_str(json_get(v, "key"), 32, &s, &len) ||
	    key_type_parse(s, len, &key) ||
	    json_str(json_get(v, "increment"), 32, &s, &len) ||
	    increment_parse(s, len, &inc) ||
	    get_sketches(json_get(v, "sketches"), &out->kinds) ||
	    json_u64(json_get(v, "window_ms"), 0, UINT32_MAX, &window) ||
	    json_str(json_get(v, "seed"), 32, &s, &len) ||
	    hex_decode(s, len, out->seed.b, sizeof(out->seed.b)))
		return -EINVAL;
	out->key = (uint8_t)key;
	out->increment = (uint8_t)inc;
	out->window_ms = (uint32_t)window;
	return 0;
}

static int get_state(const struct json *v, struct incoming *e)
{
	const struct json *here = json_get(v, "threshold_here");
	const char *s;
	size_t len;

	if (json_str(json_get(v, "owner"), 32, &s, &len) ||
	    owner_parse(s, len, &e->t.owner) ||
	    json_u64(json_get(v, "alias"), 0, UINT64_MAX / 2, &e->t.alias) ||
	    json_u64(json_get(v, "order"), 0, UINT64_MAX / 2, &e->t.order) ||
	    json_bool(json_get(v, "local"), &e->local) ||
	    (here && json_real(here, 0, 1, &e->t.threshold_here)))
		return -EINVAL;
	e->t.has_here = here != NULL;
	return 0;
}

int entry_parse(const struct json *v, struct incoming *out, bool state)
{
	struct incoming e = { 0 };
	struct task *t = &e.t;
	uint64_t expires;
	const char *s;
	size_t len;

	if (get_spec(v, &t->spec) ||
	    (t->spec.kinds == TASK_FEATURES
		     ? get_features(v, t)
		     : get_standing(json_get(v, "standing"), t)) ||
	    !task_valid(&t->spec) ||
	    json_str(json_get(v, "name"), 64, &s, &len) || !name_chars(s, len))
		return -EINVAL;
	memcpy(t->name, s, len);
	if (json_u64(json_get(v, "created_ms"), 0, WALL_MAX, &t->created_ms) ||
	    json_u64(json_get(v, "expires_s"), 0, EXPIRES_MAX, &expires) ||
	    json_str(json_get(v, "origin"), 8, &s, &len) ||
	    (strcmp(s, "v1") != 0 && strcmp(s, "legacy") != 0) ||
	    json_bool(json_get(v, "is_sketch"), &t->is_sketch) ||
	    json_hex(json_get(v, "sketch"), &t->sketch) ||
	    json_real(json_get(v, "threshold"), 0, 1, &t->threshold))
		return -EINVAL;
	t->origin = s[0] == 'v' ? ORIGIN_V1 : ORIGIN_LEGACY;
	t->expires_s = (uint32_t)expires;
	if (expires && json_u64(json_get(v, "left_ms"), 1,
				(uint64_t)EXPIRES_MAX * 1000, &e.left_ms))
		return -EINVAL;
	if (t->is_sketch && (t->spec.kinds || t->spec.key || t->sketch))
		return -EINVAL;
	if (state && get_state(v, &e))
		return -EINVAL;
	*out = e;
	return 0;
}
