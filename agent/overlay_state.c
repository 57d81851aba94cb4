/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who this agent is: identity, incarnation, epochs that must never go back, in
 * one file of the state directory; its addresses.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/json.h"
#include "agent/overlay_private.h"
#include "agent/state.h"
#include "agent/tree_value.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/util.h"

#define NODE_FILE "node.json"

/* ---- addresses ---- */

bool overlay_address(const struct conf *c, struct endpoint *out)
{
	const struct endpoint *found = NULL;

	for (size_t i = 0; i < c->n_listen; i++) {
		enum addr_class k = addr_classify(&c->listen[i].addr);

		if (k == ADDR_UNSPECIFIED)
			break;
		if (!found || k == ADDR_UNICAST)
			found = &c->listen[i];
		if (k == ADDR_UNICAST)
			break;
	}
	if (found && addr_classify(&c->listen[0].addr) != ADDR_UNSPECIFIED) {
		*out = *found;
		return true;
	}
	return false;
}

static bool is_interface(const struct ip_addr *a)
{
	struct ifaddrs *list, *i;
	struct endpoint ep;
	bool found = false;

	if (getifaddrs(&list))
		return false;
	for (i = list; i && !found; i = i->ifa_next)
		found = i->ifa_addr &&
			!endpoint_from_sockaddr(i->ifa_addr, &ep) &&
			addr_equal(&ep.addr, a);
	freeifaddrs(list);
	return found;
}

bool overlay_is_endpoint(const struct conf *c, const struct endpoint *ep)
{
	for (size_t i = 0; i < c->n_listen; i++) {
		if (c->listen[i].port != ep->port)
			continue;
		if (addr_equal(&c->listen[i].addr, &ep->addr) ||
		    (addr_classify(&c->listen[i].addr) == ADDR_UNSPECIFIED &&
		     is_interface(&ep->addr)))
			return true;
	}
	return false;
}

bool overlay_is_self(const struct overlay *o, const struct ip_addr *a)
{
	const struct conf *c = o->agent->conf;

	for (size_t i = 0; i < c->n_listen; i++)
		if (addr_equal(&c->listen[i].addr, a))
			return true;
	return is_interface(a);
}

/* ---- identity ---- */

/* Of the machine: a copied state directory must not copy the identity. */
static uint64_t machine_hash(void)
{
	const struct hash_key key = { { 2 } };
	char text[64];
	FILE *f = fopen("/etc/machine-id", "re");
	size_t n = 0;

	if (f) {
		n = fread(text, 1, sizeof(text), f);
		fclose(f);
	}
	return siphash24(&key, text, n);
}

static int get_id(const struct json *v, struct node_id *out)
{
	const char *s;
	size_t len;

	return json_str(v, 32, &s, &len) ? -EINVAL : node_id_parse(s, len, out);
}

/* Epochs came to the file later than the rest. */
static int get_epochs(const struct json *v, struct tree_stored *s)
{
	const struct json *term = json_get(v, "term");
	const struct json *fleet = json_get(v, "fleet");
	const struct json *seen = json_get(v, "seen");
	const char *text;
	uint64_t n = 0;
	size_t len;

	if (fleet && json_u64(fleet, 0, TREE_MEMBERS, &n))
		return -EINVAL;
	s->fleet = (uint32_t)n;
	/* those that cannot be came from a liar: whoever keeps them joins
	 * nobody, and its next root numbers above all that it really had */
	if ((term && json_u64(term, 0, EPOCH_MAX, &s->term)) ||
	    (seen && (json_str(seen, EPOCH_TEXT - 1, &text, &len) ||
		      epoch_parse(text, &s->seen)))) {
		log_warnx("epochs that cannot be are forgotten");
		s->term = 0;
		s->seen = (struct epoch){ 0 };
	}
	return 0;
}

/* Whom a candidate knew; they are the caller's to free. */
static void get_members(const struct json *list, struct tree_stored *s)
{
	size_t n = MIN(json_len(list), (size_t)TREE_NAMED);
	struct tree_peer *p = calloc(MAX(n, 1), sizeof(*p));

	s->members = p;
	for (size_t i = 0; p && i < n; i++)
		if (!type_peer.get(json_at(list, i), NULL, &p[s->n_members]))
			s->n_members++;
}

static int node_load(const char *dir, struct tree_stored *out)
{
	struct tree_stored s = { 0 };
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	uint64_t machine;
	int ret = state_read(dir, NODE_FILE, &b);

	if (ret)
		return ret;
	ret = json_parse(b.data, b.len, &v);
	if (!ret && (get_id(json_get(v, "node_id"), &s.id) ||
		     json_hex(json_get(v, "machine"), &machine) ||
		     json_u64(json_get(v, "incarnation"), 0, UINT64_MAX / 2,
			      &s.incarnation) ||
		     get_epochs(v, &s)))
		ret = -EINVAL;
	if (!ret && machine != machine_hash()) {
		log_warnx("state of another machine: a new identity is drawn");
		ret = -ENOENT;
	}
	if (!ret)
		get_members(json_get(v, "members"), &s);
	if (!ret)
		*out = s;
	json_free(v);
	buf_fini(&b);
	return ret;
}

int overlay_store(void *ctx, const struct tree_stored *s)
{
	struct overlay *o = ctx;
	const char *dir = o->agent->conf->state_dir;
	char id[33], seen[EPOCH_TEXT];
	struct buf b = BUF_INIT;
	struct json_out out;
	int ret;

	o->stored = *s;
	o->stored.members = NULL; /* the tree's own */
	o->stored.n_members = 0;
	if (!dir[0])
		return 0;
	node_id_format(&s->id, id);
	epoch_format(&s->seen, seen);
	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	json_put_str(&out, "node_id", id);
	json_put_hex(&out, "machine", machine_hash());
	json_put_u64(&out, "incarnation", s->incarnation);
	json_put_str(&out, "seen", seen);
	json_put_u64(&out, "term", s->term);
	json_put_u64(&out, "fleet", s->fleet);
	json_open(&out, "members", '[');
	for (uint32_t i = 0; i < s->n_members; i++)
		type_peer.put(&out, NULL, &s->members[i]);
	json_close(&out, ']');
	json_close(&out, '}');
	ret = b.failed ? -ENOMEM : state_write(dir, NODE_FILE, b.data, b.len);
	buf_fini(&b);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: identity is not kept",
			  dir);
	return ret;
}

/*
 * There is none, what is there is none and never will be, or the directory is
 * not ours: then the new one is for this run, and takes the place of no other.
 */
static bool needs_new(const char *dir, int err)
{
	return err == -ENOENT || err == -EINVAL || err == -EBADMSG ||
	       err == -EFBIG || err == -ELOOP || access(dir, R_OK | X_OK);
}

int overlay_identity(struct overlay *o)
{
	const char *dir = o->agent->conf->state_dir;
	struct tree_stored s = { 0 };
	int ret = dir[0] ? node_load(dir, &s) : -ENOENT;

	/* who it was may be read the next time */
	if (ret && !needs_new(dir, ret))
		return ret;
	if (ret)
		random_bytes(s.id.b, sizeof(s.id.b));
	s.incarnation = MAX(s.incarnation + 1, clock_wall_ms());
	(void)overlay_store(o, &s);
	o->stored.members = s.members;
	o->stored.n_members = s.n_members;
	return 0;
}
