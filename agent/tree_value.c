/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Values of the tree's messages as JSON: ids, numbers, epochs, addresses and
 * what lists are made of.  A reader checks type and bounds and writes nothing
 * but its own value.
 */
#include "agent/tree_value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

#define ADDRESSES 4 /* an agent may name so many of its own */
#define REAL_MAX  1e15

/* ---- values ---- */

static void put_id(struct json_out *o, const char *name, const void *v)
{
	char text[33];

	node_id_format(v, text);
	json_put_str(o, name, text);
}

static int get_id(const struct json *v, const struct field *f, void *out)
{
	const char *s;
	size_t len;

	(void)f;
	return json_str(v, 32, &s, &len) ? -EINVAL : node_id_parse(s, len, out);
}

static void put_u32(struct json_out *o, const char *name, const void *v)
{
	json_put_u64(o, name, *(const uint32_t *)v);
}

static int get_u32(const struct json *v, const struct field *f, void *out)
{
	uint64_t n;

	if (json_u64(v, f->min, f->max, &n))
		return -EINVAL;
	*(uint32_t *)out = (uint32_t)n;
	return 0;
}

static void put_u64(struct json_out *o, const char *name, const void *v)
{
	json_put_u64(o, name, *(const uint64_t *)v);
}

static int get_u64(const struct json *v, const struct field *f, void *out)
{
	return json_u64(v, f->min, f->max, out) ? -EINVAL : 0;
}

static void put_bool(struct json_out *o, const char *name, const void *v)
{
	json_put_bool(o, name, *(const bool *)v);
}

static int get_bool(const struct json *v, const struct field *f, void *out)
{
	(void)f;
	return json_bool(v, out) ? -EINVAL : 0;
}

static void put_hash(struct json_out *o, const char *name, const void *v)
{
	json_put_hex(o, name, *(const uint64_t *)v);
}

static int get_hash(const struct json *v, const struct field *f, void *out)
{
	(void)f;
	return json_hex(v, out) ? -EINVAL : 0;
}

static void put_epoch(struct json_out *o, const char *name, const void *v)
{
	char text[EPOCH_TEXT];

	epoch_format(v, text);
	json_put_str(o, name, text);
}

static int get_epoch(const struct json *v, const struct field *f, void *out)
{
	const char *s;
	size_t len;

	(void)f;
	return json_str(v, EPOCH_TEXT - 1, &s, &len) ? -EINVAL
						     : epoch_parse(s, out);
}

static void put_name(struct json_out *o, const char *name, const void *v)
{
	json_put_str(o, name, v);
}

static int get_name(const struct json *v, const struct field *f, void *out)
{
	const char *s;
	size_t len;

	if (json_str(v, f->max, &s, &len) || !name_chars(s, len))
		return -EINVAL;
	memcpy(out, s, len + 1);
	return 0;
}

static const char *const acts[] = {
	[TREE_GRANT_ASK] = "ask",
	[TREE_GRANT_CONFIRM] = "confirm",
	[TREE_GRANT_VOID] = "void",
};

static void put_act(struct json_out *o, const char *name, const void *v)
{
	json_put_str(o, name, acts[*(const enum tree_grant_act *)v]);
}

static int get_act(const struct json *v, const struct field *f, void *out)
{
	const char *s;
	size_t len;

	(void)f;
	if (json_str(v, 16, &s, &len))
		return -EINVAL;
	for (unsigned i = 0; i < ARRAY_SIZE(acts); i++) {
		if (strcmp(s, acts[i]) == 0) {
			*(enum tree_grant_act *)out = (enum tree_grant_act)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Offset of a clock and how far it may be wrong, in ms. */
static void put_clock(struct json_out *o, const char *name, const void *v)
{
	const double *d = v;

	json_open(o, name, '[');
	json_put_real(o, NULL, d[0]);
	json_put_real(o, NULL, d[1]);
	json_close(o, ']');
}

static int get_clock(const struct json *v, const struct field *f, void *out)
{
	double *d = out;

	(void)f;
	return json_len(v) != 2 ||
			       json_real(json_at(v, 0), -REAL_MAX, REAL_MAX,
					 &d[0]) ||
			       json_real(json_at(v, 1), 0, REAL_MAX, &d[1])
		       ? -EINVAL
		       : 0;
}

/* ---- addresses ---- */

static void put_endpoint(struct json_out *o, const char *name, const void *v)
{
	const struct endpoint *ep = v;
	char text[ENDPOINT_TEXT_LEN];

	if (!ep->port || addr_classify(&ep->addr) == ADDR_UNSPECIFIED) {
		json_put_null(o, name);
		return;
	}
	endpoint_format(ep, 0, text);
	json_put_str(o, name, text);
}

/* Literals of what an agent may have, with a port. */
static int get_endpoint(const struct json *v, const struct field *f, void *out)
{
	enum addr_class k;
	struct endpoint ep;
	const char *s;
	size_t len;

	(void)f;
	if (json_str(v, ENDPOINT_TEXT_LEN - 1, &s, &len) ||
	    endpoint_parse(s, len, 8000, &ep) || !ep.port)
		return -EINVAL;
	k = addr_classify(&ep.addr);
	if (k != ADDR_UNICAST && k != ADDR_LOOPBACK)
		return -EINVAL;
	*(struct endpoint *)out = ep;
	return 0;
}

static int get_endpoint_or_null(const struct json *v, const struct field *f,
				void *out)
{
	if (json_type(v) != JSON_NULL)
		return get_endpoint(v, f, out);
	memset(out, 0, sizeof(struct endpoint));
	return 0;
}

/*
 * Where an agent says that it listens, best first.  One that listens on all
 * addresses names the port alone, as ":8000"; whoever hears it knows the rest.
 */
static void put_addresses(struct json_out *o, const char *name, const void *v)
{
	const struct endpoint *ep = v;
	char text[16];

	json_open(o, name, '[');
	if (addr_classify(&ep->addr) == ADDR_UNSPECIFIED && ep->port) {
		snprintf(text, sizeof(text), ":%u", ep->port);
		json_put_str(o, NULL, text);
	} else if (ep->port) {
		put_endpoint(o, NULL, ep);
	}
	json_close(o, ']');
}

static int get_port(const struct json *v, struct endpoint *out)
{
	uint64_t port;
	const char *s;
	size_t len;

	if (json_str(v, 6, &s, &len) || s[0] != ':' ||
	    parse_u64(s + 1, len - 1, 1, UINT16_MAX, &port))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	out->port = (uint16_t)port;
	return 0;
}

static int get_addresses(const struct json *v, const struct field *f, void *out)
{
	struct endpoint ep[ADDRESSES] = { 0 };
	size_t n = json_len(v);

	if (json_type(v) != JSON_ARRAY || n > ADDRESSES)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (get_endpoint(json_at(v, i), f, &ep[i]) &&
		    get_port(json_at(v, i), &ep[i]))
			return -EINVAL;
	*(struct endpoint *)out = ep[0];
	return 0;
}

/* ---- elements of lists ---- */

static void put_peer(struct json_out *o, const char *name, const void *v)
{
	const struct tree_peer *p = v;

	json_open(o, name, '[');
	put_id(o, NULL, &p->id);
	put_endpoint(o, NULL, &p->ep);
	json_close(o, ']');
}

static int get_peer(const struct json *v, const struct field *f, void *out)
{
	struct tree_peer *p = out;

	return json_len(v) < 2 || get_id(json_at(v, 0), f, &p->id) ||
			       get_endpoint(json_at(v, 1), f, &p->ep)
		       ? -EINVAL
		       : 0;
}

static void put_block(struct json_out *o, const char *name, const void *v)
{
	static const struct node_id root;
	const struct tree_block *b = v;

	json_open(o, name, '[');
	if (node_id_equal(&b->owner, &root))
		json_put_str(o, NULL, "root");
	else
		put_id(o, NULL, &b->owner);
	json_put_u64(o, NULL, b->term);
	json_put_u64(o, NULL, b->index);
	put_hash(o, NULL, &b->hash);
	json_close(o, ']');
}

static int get_block(const struct json *v, const struct field *f, void *out)
{
	struct tree_block *b = out;
	const char *s;
	size_t len;

	memset(b, 0, sizeof(*b));
	if (json_len(v) < 4 || json_str(json_at(v, 0), 32, &s, &len) ||
	    (strcmp(s, "root") != 0 && node_id_parse(s, len, &b->owner)) ||
	    json_u64(json_at(v, 1), 0, UINT64_MAX, &b->term) ||
	    json_u64(json_at(v, 2), 0, UINT64_MAX, &b->index) ||
	    get_hash(json_at(v, 3), f, &b->hash))
		return -EINVAL;
	return 0;
}

/*
 * [id, parent or null, address or null, incarnation, lease or null, seen, up]
 * and, of a host that is no member any more, true; once more if it is none
 * because of one before it.
 */
static void put_row(struct json_out *o, const char *name, const void *v)
{
	static const struct node_id none;
	const struct tree_row *r = v;

	json_open(o, name, '[');
	put_id(o, NULL, &r->id);
	if (node_id_equal(&r->parent, &none))
		json_put_null(o, NULL);
	else
		put_id(o, NULL, &r->parent);
	put_endpoint(o, NULL, &r->ep);
	json_put_u64(o, NULL, r->incarnation);
	if (epoch_none(&r->lease))
		json_put_null(o, NULL);
	else
		put_epoch(o, NULL, &r->lease);
	json_put_u64(o, NULL, r->seen_ms);
	json_put_bool(o, NULL, r->up);
	if (r->gone)
		json_put_bool(o, NULL, true);
	if (r->with)
		json_put_bool(o, NULL, true);
	json_close(o, ']');
}

static int get_row(const struct json *v, const struct field *f, void *out)
{
	struct tree_row *r = out;

	memset(r, 0, sizeof(*r));
	return json_len(v) < 7 || get_id(json_at(v, 0), f, &r->id) ||
			       (json_type(json_at(v, 1)) != JSON_NULL &&
				get_id(json_at(v, 1), f, &r->parent)) ||
			       get_endpoint_or_null(json_at(v, 2), f, &r->ep) ||
			       json_u64(json_at(v, 3), 0, UINT64_MAX,
					&r->incarnation) ||
			       (json_type(json_at(v, 4)) != JSON_NULL &&
				get_epoch(json_at(v, 4), f, &r->lease)) ||
			       json_u64(json_at(v, 5), 0, TREE_TIME_MAX,
					&r->seen_ms) ||
			       json_bool(json_at(v, 6), &r->up) ||
			       (json_at(v, 7) &&
				json_bool(json_at(v, 7), &r->gone)) ||
			       (json_at(v, 8) &&
				json_bool(json_at(v, 8), &r->with))
		       ? -EINVAL
		       : 0;
}

const struct type type_id = { sizeof(struct node_id), put_id, get_id };
const struct type type_u32 = { sizeof(uint32_t), put_u32, get_u32 };
const struct type type_u64 = { sizeof(uint64_t), put_u64, get_u64 };
const struct type type_bool = { sizeof(bool), put_bool, get_bool };
const struct type type_hash = { sizeof(uint64_t), put_hash, get_hash };
const struct type type_epoch = { sizeof(struct epoch), put_epoch, get_epoch };
const struct type type_name = { 1, put_name, get_name };
const struct type type_act = { sizeof(enum tree_grant_act), put_act, get_act };
const struct type type_clock = { 2 * sizeof(double), put_clock, get_clock };
const struct type type_endpoint = { sizeof(struct endpoint), put_endpoint,
				    get_endpoint };
const struct type type_hop = { sizeof(struct endpoint), put_endpoint,
			       get_endpoint_or_null };
const struct type type_addresses = { sizeof(struct endpoint), put_addresses,
				     get_addresses };
const struct type type_peer = { sizeof(struct tree_peer), put_peer, get_peer };
const struct type type_block = { sizeof(struct tree_block), put_block,
				 get_block };
const struct type type_row = { sizeof(struct tree_row), put_row, get_row };
