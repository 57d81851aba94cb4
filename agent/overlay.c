/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who this agent is and whom it knows: identity and incarnation (kept in the
 * state directory), its children, what clients add and remove.  Rows of the
 * subtree are rows.c's, beats and invitations beat.c's, the way up adopt.c's.
 */
#include "agent/overlay.h"

#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <math.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "agent/state.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/util.h"

#define NODE_FILE     "node.json"
#define ADD_MS        900
#define CHILDREN_FILE "children.json"

static const char *const state_names[] = {
	[CHILD_EXPECTED] = "expected",
	[CHILD_UP] = "up",
	[CHILD_SUSPECT] = "suspect",
	[CHILD_DOWN] = "down",
};

const char *child_state_name(enum child_state s)
{
	return state_names[s];
}

/* ---- ids, hashes as text ---- */

void put_id(struct json_out *o, const char *name, const struct node_id *id)
{
	char text[33];

	node_id_format(id, text);
	json_put_str(o, name, text);
}

int get_id(const struct json *v, struct node_id *out)
{
	const char *s;
	size_t len;

	return json_str(v, 32, &s, &len) ? -EINVAL : node_id_parse(s, len, out);
}

void put_hash(struct json_out *o, const char *name, uint64_t v)
{
	char text[17];

	hex_u64(v, text);
	json_put_str(o, name, text);
}

int get_hash(const struct json *v, uint64_t *out)
{
	const char *s;
	size_t len;

	return json_str(v, 16, &s, &len) ? -EINVAL : hex_parse_u64(s, len, out);
}

uint64_t node_id_head(const struct node_id *id)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | id->b[i];
	return v;
}

/* ---- addresses ---- */

bool overlay_address(const struct overlay *o, struct endpoint *out)
{
	const struct conf *c = o->agent->conf;
	const struct endpoint *found = NULL;

	for (size_t i = 0; i < c->n_listen; i++) {
		enum addr_class k = addr_classify(&c->listen[i].addr);

		if (k == ADDR_UNSPECIFIED)
			return false;
		if (!found || k == ADDR_UNICAST)
			found = &c->listen[i];
		if (k == ADDR_UNICAST)
			break;
	}
	if (found)
		*out = *found;
	return found;
}

/* First address of an interface that is up: what a listener on all has. */
static bool interface_address(struct ip_addr *out)
{
	struct ifaddrs *list, *i;
	struct endpoint ep;
	bool found = false;

	if (getifaddrs(&list))
		return false;
	for (i = list; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) ||
		    endpoint_from_sockaddr(i->ifa_addr, &ep) ||
		    addr_classify(&ep.addr) != ADDR_UNICAST)
			continue;
		*out = ep.addr;
		found = true;
	}
	freeifaddrs(list);
	return found;
}

struct endpoint overlay_endpoint(const struct overlay *o)
{
	struct endpoint ep = { .port = o->agent->conf->port };

	if (!overlay_address(o, &ep) && !interface_address(&ep.addr))
		addr_from_v4(&ep.addr, (const uint8_t[]){ 127, 0, 0, 1 });
	return ep;
}

bool overlay_is_self(const struct overlay *o, const struct ip_addr *a)
{
	const struct conf *c = o->agent->conf;
	struct ifaddrs *list, *i;
	struct endpoint ep;
	bool found = false;

	for (size_t k = 0; k < c->n_listen; k++)
		if (addr_equal(&c->listen[k].addr, a))
			return true;
	if (getifaddrs(&list))
		return false;
	for (i = list; i && !found; i = i->ifa_next)
		found = i->ifa_addr &&
			!endpoint_from_sockaddr(i->ifa_addr, &ep) &&
			addr_equal(&ep.addr, a);
	freeifaddrs(list);
	return found;
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

static int node_load(struct overlay *o, const char *dir)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	uint64_t machine, last;
	int ret = state_read(dir, NODE_FILE, &b);

	if (ret)
		return ret;
	ret = json_parse(b.data, b.len, &v);
	if (!ret &&
	    (get_id(json_get(v, "node_id"), &o->self) ||
	     get_hash(json_get(v, "machine"), &machine) ||
	     json_u64(json_get(v, "incarnation"), 0, UINT64_MAX / 2, &last)))
		ret = -EINVAL;
	if (!ret && machine != machine_hash()) {
		log_warnx("state of another machine: a new identity is drawn");
		ret = -ENOENT;
	}
	if (!ret)
		o->incarnation = MAX(o->incarnation, last + 1);
	json_free(v);
	buf_fini(&b);
	return ret;
}

static int node_save(struct overlay *o, const char *dir)
{
	struct buf b = BUF_INIT;
	struct json_out out;
	int ret;

	json_out_init(&out, &b);
	json_open(&out, NULL, '{');
	put_id(&out, "node_id", &o->self);
	put_hash(&out, "machine", machine_hash());
	json_put_u64(&out, "incarnation", o->incarnation);
	json_close(&out, '}');
	ret = b.failed ? -ENOMEM : state_write(dir, NODE_FILE, b.data, b.len);
	buf_fini(&b);
	return ret;
}

static void identity_open(struct overlay *o)
{
	const char *dir = o->agent->conf->state_dir;
	int ret;

	o->incarnation = clock_wall_ms();
	if (!dir[0] || node_load(o, dir))
		random_bytes(o->self.b, sizeof(o->self.b));
	/* a term is never used twice: it rises with each start */
	o->epoch = (struct epoch){ o->incarnation, node_id_head(&o->self), 1 };
	if (!dir[0])
		return;
	ret = node_save(o, dir);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: identity is not kept",
			  dir);
}

/* ---- children ---- */

static void adding_free(struct adding *ad)
{
	struct adding **at = &ad->o->adding;

	while (*at != ad)
		at = &(*at)->next;
	*at = ad->next;
	loop_timer_cancel(&ad->timer);
	if (ad->b)
		ad->b->adding = NULL;
	free(ad);
}

static void adding_over(void *arg)
{
	struct adding *ad = arg;

	ad->done(ad->arg, ad->e.code == ERR_NONE ? NULL : &ad->e, ad->created);
	adding_free(ad);
}

void adding_settle(struct branch *b, const char *why)
{
	struct adding *ad = b->adding;

	if (!ad)
		return;
	b->adding = NULL;
	ad->b = NULL;
	if (why)
		error_set(&ad->e, ERR_REFUSED, "", why);
	loop_timer_in(ad->o->agent->loop, &ad->timer, 0, adding_over, ad);
}

static void derived_id(const struct endpoint *ep, struct node_id *out)
{
	struct hash_key key = { { 3 } };
	uint64_t half[2];
	uint8_t text[18];

	memcpy(text, ep->addr.b, 16);
	text[16] = (uint8_t)(ep->port >> 8);
	text[17] = (uint8_t)ep->port;
	half[0] = siphash24(&key, text, sizeof(text));
	key.b[1] = 1;
	half[1] = siphash24(&key, text, sizeof(text));
	memcpy(out->b, half, sizeof(out->b));
}

struct branch *branch_new(struct overlay *o, const struct endpoint *ep)
{
	struct branch *b;

	if (o->n_children == OVERLAY_CHILDREN)
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->o = o;
	b->pub.ep = *ep;
	b->pub.why = MISSING_UNREACHABLE;
	derived_id(ep, &b->pub.id);
	o->child[o->n_children++] = b;
	o->dirty = true;
	return b;
}

void branch_drop(struct branch *b)
{
	struct overlay *o = b->o;
	unsigned i = 0;

	while (o->child[i] != b)
		i++;
	memmove(&o->child[i], &o->child[i + 1],
		(o->n_children - i - 1) * sizeof(o->child[0]));
	o->n_children--;
	o->dirty = true;
	peer_cancel(b->call);
	peer_cancel(b->side);
	loop_timer_cancel(&b->timer);
	if (b->adding)
		b->adding->b = NULL;
	free(b->rows);
	free(b->page);
	free(b);
}

void overlay_save(struct overlay *o)
{
	const char *dir = o->agent->conf->state_dir;
	struct buf b = BUF_INIT;
	struct json_out out;
	int ret;

	if (!dir[0])
		return;
	json_out_init(&out, &b);
	json_open(&out, NULL, '[');
	for (unsigned i = 0; i < o->n_children; i++) {
		char text[ENDPOINT_TEXT_LEN];

		if (!o->child[i]->by_hand)
			continue;
		endpoint_format(&o->child[i]->pub.ep, 0, text);
		json_put_str(&out, NULL, text);
	}
	json_close(&out, ']');
	ret = b.failed ? -ENOMEM
		       : state_write(dir, CHILDREN_FILE, b.data, b.len);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: children are not kept",
			  dir);
	buf_fini(&b);
}

static struct branch *branch_at(struct overlay *o, const struct endpoint *ep)
{
	for (unsigned i = 0; i < o->n_children; i++)
		if (endpoint_equal(&o->child[i]->pub.ep, ep))
			return o->child[i];
	return NULL;
}

static void children_load(struct overlay *o)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;

	if (!o->agent->conf->state_dir[0] ||
	    state_read(o->agent->conf->state_dir, CHILDREN_FILE, &b))
		return;
	if (!json_parse(b.data, b.len, &v)) {
		for (size_t i = 0; i < json_len(v); i++) {
			struct endpoint ep;
			struct branch *c;
			const char *s;
			size_t len;

			if (json_str(json_at(v, i), ENDPOINT_TEXT_LEN, &s,
				     &len) ||
			    endpoint_parse(s, len, 8000, &ep) ||
			    branch_at(o, &ep))
				continue;
			c = branch_new(o, &ep);
			if (c)
				c->by_hand = true;
		}
	}
	json_free(v);
	buf_fini(&b);
}

int overlay_open(struct overlay **out, struct agent *a)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->agent = a;
	o->dirty = true;
	identity_open(o);
	for (size_t i = 0; i < a->conf->n_children; i++) {
		if (branch_at(o, &a->conf->children[i]))
			continue;
		if (!branch_new(o, &a->conf->children[i])) {
			overlay_free(o);
			return -ENOMEM;
		}
	}
	children_load(o);
	*out = o;
	return 0;
}

void overlay_start(struct overlay *o)
{
	for (unsigned i = 0; i < o->n_children; i++)
		branch_start(o->child[i], 0);
}

void overlay_free(struct overlay *o)
{
	if (!o)
		return;
	while (o->n_children)
		branch_drop(o->child[o->n_children - 1]);
	while (o->adding)
		adding_free(o->adding);
	loop_timer_cancel(&o->parent_timer);
	free(o->rows);
	free(o->rows_up);
	free(o->members);
	free(o);
}

/* ---- reading ---- */

const struct node_id *overlay_self(const struct overlay *o)
{
	return &o->self;
}

uint64_t overlay_incarnation(const struct overlay *o)
{
	return o->incarnation;
}

uint64_t overlay_epoch(const struct overlay *o)
{
	overlay_rows_update((struct overlay *)o);
	return o->epoch.n;
}

void overlay_epoch_text(const struct overlay *o, char out[64])
{
	overlay_rows_update((struct overlay *)o);
	epoch_format(&o->epoch, out);
}

uint32_t overlay_clock_err_ms(const struct overlay *o)
{
	double err = fabs(o->offset_ms) + o->error_ms;

	if (!o->n_path)
		return 0;
	return err < UINT32_MAX ? (uint32_t)ceil(err) : UINT32_MAX;
}

bool overlay_is_root(const struct overlay *o)
{
	return !o->n_path;
}

const struct endpoint *overlay_parent(const struct overlay *o)
{
	return o->n_path ? &o->parent : NULL;
}

const char *overlay_lease(const struct overlay *o)
{
	return o->n_path ? o->lease : "";
}

unsigned overlay_path(const struct overlay *o, struct node_id out[OVERLAY_HOPS])
{
	memcpy(out, o->path, o->n_path * sizeof(*out));
	return o->n_path;
}

unsigned overlay_n_children(const struct overlay *o)
{
	return o->n_children;
}

const struct child *overlay_child(const struct overlay *o, unsigned i)
{
	return &o->child[i]->pub;
}

void overlay_suspect(struct overlay *o, const struct node_id *id)
{
	for (unsigned i = 0; i < o->n_children; i++) {
		struct branch *b = o->child[i];

		if (node_id_equal(&b->pub.id, id) && b->invited && !b->call &&
		    !b->failures)
			branch_start(b, 0);
	}
}

/* ---- changes by clients ---- */

static const char *address_refused(const struct overlay *o,
				   const struct endpoint *ep)
{
	const struct conf *c = o->agent->conf;
	bool own_port = false;

	switch (addr_classify(&ep->addr)) {
	case ADDR_UNSPECIFIED:
		return "unspecified address";
	case ADDR_LINK_LOCAL:
		return "link-local address";
	case ADDR_MULTICAST:
		return "multicast address";
	case ADDR_BROADCAST:
		return "broadcast address";
	case ADDR_LOOPBACK:
		for (size_t i = 0; i < c->n_listen; i++)
			if (addr_classify(&c->listen[i].addr) == ADDR_LOOPBACK)
				goto host;
		return "loopback address";
	case ADDR_UNICAST:
		break;
	}
host:
	for (size_t i = 0; i < c->n_listen; i++)
		own_port |= c->listen[i].port == ep->port;
	if (own_port && overlay_is_self(o, &ep->addr))
		return "this host itself";
	if (o->n_path && endpoint_equal(&o->parent, ep))
		return "an ancestor";
	return NULL;
}

/* Told at once, from the loop: a refusal, or that it was there. */
static void adding_at_once(struct adding *ad, enum error_code code,
			   const char *field, const char *detail)
{
	if (code != ERR_NONE)
		error_set(&ad->e, code, field, detail);
	loop_timer_in(ad->o->agent->loop, &ad->timer, 0, adding_over, ad);
}

void overlay_add(struct agent *a, const struct endpoint *ep,
		 void (*done)(void *arg, const struct error *e, bool created),
		 void *arg)
{
	struct overlay *o = a->overlay;
	struct adding *ad = calloc(1, sizeof(*ad));
	const char *why = address_refused(o, ep);
	struct branch *b = branch_at(o, ep);

	if (!ad) {
		struct error e;

		/* the one case where nothing can be kept for later */
		error_set(&e, ERR_INTERNAL, "", "");
		done(arg, &e, false);
		return;
	}
	ad->o = o;
	ad->done = done;
	ad->arg = arg;
	ad->next = o->adding;
	o->adding = ad;
	if (why) {
		adding_at_once(ad, ERR_REFUSED, "", why);
		return;
	}
	if (b) {
		adding_at_once(ad, ERR_NONE, "", "");
		return;
	}
	if (o->n_children == OVERLAY_CHILDREN) {
		adding_at_once(ad, ERR_LIMIT, "", "children");
		return;
	}
	b = branch_new(o, ep);
	if (!b) {
		adding_at_once(ad, ERR_INTERNAL, "", "");
		return;
	}
	ad->created = b->by_hand = true;
	ad->b = b;
	b->adding = ad;
	overlay_save(o);
	branch_start(b, 0);
	/* not running yet: accepted, and expected from now on */
	loop_timer_in(a->loop, &ad->timer, ADD_MS, adding_over, ad);
}

int overlay_remove(struct agent *a, const struct endpoint *ep,
		   const struct node_id *id)
{
	struct overlay *o = a->overlay;

	for (unsigned i = 0; i < o->n_children; i++) {
		struct branch *b = o->child[i];

		if (ep ? !endpoint_equal(&b->pub.ep, ep)
		       : !id || !node_id_equal(&b->pub.id, id))
			continue;
		adding_settle(b, "removed meanwhile");
		branch_drop(b);
		overlay_save(o);
		return 0;
	}
	return -ENOENT;
}
