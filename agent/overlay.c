/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree's machine in this agent: made here with its configuration, its
 * provider of members and what of the world it may use; read here by the rest
 * of the agent; changed here by clients, after their addresses were checked.
 */
#include "agent/overlay.h"

#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "agent/registry.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/util.h"

#define ADD_MS  900
#define HOUR_MS 3600000ull

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

/* What clients and the log read; those not here are the machine's words. */
static const char *word_text(enum tree_word w)
{
	switch (w) {
	case TREE_SELF:
		return "this host itself";
	case TREE_CYCLE:
		return "an ancestor";
	case TREE_PARENT:
		return "has another parent";
	case TREE_DOUBLE:
		return "a child already";
	case TREE_OVERLAY:
		return "another overlay";
	case TREE_VERSION:
		return "another version";
	case TREE_DEEP:
		return "too deep";
	case TREE_DENIED:
		return "not its parent";
	default:
		return tree_word_name(w);
	}
}

/* ---- the world ---- */

static uint64_t env_now(void *ctx)
{
	(void)ctx;
	return clock_mono_ms();
}

static uint64_t env_wall(void *ctx)
{
	(void)ctx;
	return clock_wall_ms();
}

static uint64_t env_random(void *ctx)
{
	(void)ctx;
	return random_u64();
}

static void alarm_rings(void *arg)
{
	struct alarm *a = arg;

	tree_timer(a->o->tree, a->id);
}

static void env_timer(void *ctx, uint32_t id, uint64_t at_ms)
{
	struct overlay *o = ctx;
	struct alarm *a = &o->alarm[id];

	assert(id < TREE_TIMERS);
	if (at_ms == UINT64_MAX)
		loop_timer_cancel(&a->timer);
	else if (loop_timer_at(o->agent->loop, &a->timer, MAX(at_ms, 1),
			       alarm_rings, a))
		log_errx("no memory for a timer of the tree");
}

static unsigned env_blocks(void *ctx, struct tree_block out[TREE_BLOCKS])
{
	const struct overlay *o = ctx;

	return registry_blocks(o->agent, out);
}

static void env_blocks_heard(void *ctx, const struct node_id *child,
			     const struct tree_block *b, unsigned n)
{
	struct overlay *o = ctx;

	registry_blocks_heard(o->agent, child, b, n);
}

/* The log names each change once. */
static void child_changed(struct overlay *o, const struct node_id *id)
{
	char text[ENDPOINT_TEXT_LEN];
	unsigned at = TREE_CHILDREN, n = tree_n_children(o->tree);
	struct tree_child c = { 0 };

	for (unsigned i = 0; i < n; i++) {
		tree_child_at(o->tree, i, &c);
		if (node_id_equal(&c.id, id))
			break;
		memset(&c, 0, sizeof(c));
	}
	if (!c.ep.port || (c.state != CHILD_UP && c.state != CHILD_DOWN))
		return;
	for (unsigned i = TREE_CHILDREN; i-- > 0;)
		if (node_id_equal(&o->told[i].id, id))
			at = i;
	for (unsigned i = 0; at == TREE_CHILDREN && i < at; i++)
		if (o->told[i].state == CHILD_EXPECTED)
			at = i;
	if (at == TREE_CHILDREN)
		at = random_u64() % TREE_CHILDREN;
	else if (node_id_equal(&o->told[at].id, id) &&
		 o->told[at].state == c.state)
		return;
	if (!node_id_equal(&o->told[at].id, id))
		o->told[at] = (struct told){ .id = *id };
	o->told[at].state = c.state;
	endpoint_format(&c.ep, 8000, text);
	log_info("child %s is %s", text, child_state_name(c.state));
}

/* Who has another list of hosts is elsewhere in its own tree than in ours. */
void overlay_beaten(struct overlay *o, const struct endpoint *ep,
		    const struct tree_msg *m)
{
	uint64_t hash = m->u.beaten.list_hash;
	struct told *told = NULL;
	char text[ENDPOINT_TEXT_LEN];

	if (!o->ops->hash || hash == o->ops->hash(o->member))
		hash = 0;
	for (unsigned i = 0; i < TREE_CHILDREN; i++)
		if (node_id_equal(&o->told[i].id, &m->u.beaten.id))
			told = &o->told[i];
	if (!told || told->list_hash == hash)
		return;
	told->list_hash = hash;
	endpoint_format(ep, 8000, text);
	if (hash)
		log_warnx("child %s has another list of hosts", text);
}

/* Clients' children outlive this process; those of the configuration do, too. */
static void children_keep(struct overlay *o)
{
	struct endpoint ep[TREE_CHILDREN];
	struct tree_child c;
	unsigned n = 0;

	for (unsigned i = 0; i < tree_n_children(o->tree); i++) {
		tree_child_at(o->tree, i, &c);
		if (c.by_hand)
			ep[n++] = c.ep;
	}
	manual_keep(o->member, ep, n);
}

static void parent_changed(struct overlay *o)
{
	const struct endpoint *p = tree_parent(o->tree);
	bool root = tree_is_root(o->tree);
	char text[ENDPOINT_TEXT_LEN];
	struct endpoint now = { 0 };

	if (p)
		now = *p;
	if (root == o->was_root && endpoint_equal(&now, &o->parent))
		return;
	o->was_root = root;
	o->parent = now;
	if (p)
		endpoint_format(p, 8000, text);
	if (p)
		log_info("parent is %s", text);
	else if (root)
		log_info("this agent is a root");
	else
		log_info("no parent: looking for another");
}

/* Not from inside the machine. */
static void tell_drained(struct overlay *o)
{
	if (o->drained)
		loop_timer_in(o->agent->loop, &o->leave, 0, o->drained,
			      o->drained_arg);
}

static void env_event(void *ctx, enum tree_event e, const struct node_id *id)
{
	struct overlay *o = ctx;

	if (e == TREE_EVENT_CHILD && id)
		child_changed(o, id);
	if (e == TREE_EVENT_CHILD && o->tree)
		peers_expect(o->agent->peers, tree_n_children(o->tree));
	if (e == TREE_EVENT_CHILD && o->started && o->ops == &member_manual)
		children_keep(o);
	if (e == TREE_EVENT_PARENT) {
		parent_changed(o);
		registry_place(o->agent);
	}
	if (e == TREE_EVENT_DRAINED) {
		o->left = true;
		tell_drained(o);
	}
}

static const struct tree_env env = {
	.now_ms = env_now,
	.wall_ms = env_wall,
	.random = env_random,
	.send = overlay_send,
	.cancel = overlay_cancel,
	.reply = overlay_reply,
	.timer = env_timer,
	.store = overlay_store,
	.blocks = env_blocks,
	.blocks_heard = env_blocks_heard,
	.event = env_event,
};

/* ---- making it ---- */

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

/* As others were told it; the address zero: where it calls from. */
static void find_self(struct overlay *o)
{
	const struct conf *c = o->agent->conf;

	if (o->ops == &member_static) {
		o->self = static_self(o->member);
		return;
	}
	for (unsigned i = 0; i < o->n_roots; i++) {
		if (overlay_is_endpoint(c, &o->roots[i])) {
			o->self = o->roots[i];
			return;
		}
	}
	if (!overlay_address(c, &o->self))
		o->self = (struct endpoint){ .port = c->port };
}

static int member_open(struct overlay *o)
{
	const struct conf *c = o->agent->conf;
	int ret;

	if (c->list_file[0]) {
		o->ops = &member_static;
		ret = static_open(&o->member, c, overlay_is_endpoint);
	} else if (c->n_seeds) {
		o->ops = &member_join;
		ret = join_open(&o->member, c, overlay_is_endpoint);
	} else {
		o->ops = &member_manual;
		ret = manual_open(&o->member, c);
	}
	if (ret)
		return ret;
	o->n_roots = (unsigned)c->n_roots;
	memcpy(o->roots, c->roots, c->n_roots * sizeof(o->roots[0]));
	/* somebody must begin: the first that all know */
	if (!o->n_roots && o->ops == &member_static)
		o->roots[o->n_roots++] = static_first(o->member);
	else if (!o->n_roots && o->ops == &member_join)
		o->roots[o->n_roots++] = c->seeds[0];
	return 0;
}

int overlay_check(const struct conf *c)
{
	struct member *m;
	int ret = 0;

	if (c->list_file[0])
		ret = static_open(&m, c, overlay_is_endpoint);
	if (c->list_file[0] && !ret)
		member_static.close(m);
	return ret;
}

int overlay_open(struct overlay **out, struct agent *a)
{
	const struct conf *c = a->conf;
	struct overlay *o = calloc(1, sizeof(*o));
	int ret;

	if (!o)
		return -ENOMEM;
	o->agent = a;
	for (unsigned i = 0; i < TREE_TIMERS; i++) {
		o->alarm[i].o = o;
		o->alarm[i].id = i;
	}
	ret = member_open(o);
	if (!ret)
		ret = overlay_identity(o);
	if (ret)
		goto fail;
	find_self(o);
	o->conf = (struct tree_conf){ .overlay = c->overlay_name,
				      .rack = c->rack,
				      .version = LINNET_VERSION,
				      .self = o->self,
				      .provider = o->ops,
				      .member = o->member,
				      .roots = o->roots,
				      .n_roots = o->n_roots,
				      .parents = c->parents,
				      .n_parents = (unsigned)c->n_parents,
				      .fanout = c->fanout,
				      .forget_ms = c->forget_h * HOUR_MS };
	ret = -ENOMEM;
	o->tree = tree_new(&o->conf, &o->stored, &env, o);
	if (!o->tree)
		goto fail;
	*out = o;
	return 0;
fail:
	overlay_free(o);
	return ret;
}

void overlay_start(struct overlay *o)
{
	struct endpoint kept[TREE_CHILDREN];
	unsigned n = 0;

	tree_start(o->tree);
	/* nobody waits for these, so that none is dropped when it refuses */
	if (o->ops == &member_manual)
		n = manual_children(o->member, kept);
	for (unsigned i = 0; i < n; i++)
		tree_add(o->tree, &kept[i], 0, NULL, NULL);
	o->started = true;
}

static void adding_free(struct adding *ad);

struct adding {
	struct adding *next, **at;
	struct overlay *o;
	struct endpoint ep;
	struct error e; /* ERR_NONE: it is a child, or will be */
	bool created;
	struct loop_timer timer;
	void (*done)(void *arg, const struct error *e, bool created);
	void *arg;
};

void overlay_free(struct overlay *o)
{
	if (!o)
		return;
	/* it cancels and settles what is on its way */
	if (o->tree)
		tree_free(o->tree);
	overlay_send_free(o);
	overlay_serve_free(o);
	while (o->adding)
		adding_free(o->adding);
	for (unsigned i = 0; i < TREE_TIMERS; i++)
		loop_timer_cancel(&o->alarm[i].timer);
	loop_timer_cancel(&o->closed);
	loop_timer_cancel(&o->leave);
	if (o->member)
		o->ops->close(o->member);
	free(o);
}

struct tree *overlay_tree(const struct overlay *o)
{
	return o->tree;
}

/* ---- reading ---- */

const struct node_id *overlay_self(const struct overlay *o)
{
	return tree_self(o->tree);
}

uint64_t overlay_incarnation(const struct overlay *o)
{
	return o->stored.incarnation;
}

uint64_t overlay_epoch(const struct overlay *o)
{
	return tree_epoch(o->tree).n;
}

uint64_t overlay_term(const struct overlay *o)
{
	return tree_epoch(o->tree).term;
}

void overlay_epoch_text(const struct overlay *o, char out[EPOCH_TEXT])
{
	struct epoch e = tree_epoch(o->tree);

	epoch_format(&e, out);
}

uint32_t overlay_clock_err_ms(const struct overlay *o)
{
	return tree_clock_err_ms(o->tree);
}

bool overlay_is_root(const struct overlay *o)
{
	return tree_is_root(o->tree);
}

bool overlay_rooted(const struct overlay *o)
{
	return tree_is_root(o->tree) || tree_rooted(o->tree);
}

size_t overlay_roots(const struct overlay *o, const struct endpoint **out)
{
	*out = o->roots;
	return o->n_roots;
}

const char *overlay_provider(const struct overlay *o)
{
	return o->ops->name;
}

struct endpoint overlay_endpoint(const struct overlay *o)
{
	struct endpoint ep = o->self;

	if (addr_classify(&ep.addr) == ADDR_UNSPECIFIED &&
	    !interface_address(&ep.addr))
		addr_from_v4(&ep.addr, (const uint8_t[]){ 127, 0, 0, 1 });
	return ep;
}

const struct endpoint *overlay_parent(const struct overlay *o)
{
	return tree_parent(o->tree);
}

const char *overlay_lease(const struct overlay *o)
{
	/* the text is made when it is asked for */
	char *text = ((struct overlay *)o)->lease;
	struct epoch e = tree_lease(o->tree);

	text[0] = '\0';
	if (!epoch_none(&e))
		epoch_format(&e, text);
	return text;
}

bool overlay_under(const struct overlay *o, const char *lease)
{
	return lease && lease[0] && strcmp(lease, overlay_lease(o)) == 0;
}

enum tree_word overlay_admit(const struct overlay *o, const struct epoch *lease,
			     const struct epoch *as_of)
{
	return tree_admit(o->tree, lease, as_of);
}

unsigned overlay_path(const struct overlay *o, struct node_id out[OVERLAY_HOPS])
{
	return tree_path(o->tree, out);
}

unsigned overlay_n_children(const struct overlay *o)
{
	return tree_n_children(o->tree);
}

const struct child *overlay_child(const struct overlay *o, unsigned i)
{
	struct child *out = &((struct overlay *)o)->child[i];
	struct tree_child c;

	tree_child_at(o->tree, i, &c);
	memset(out, 0, sizeof(*out));
	out->ep = c.ep;
	out->id = c.id;
	out->incarnation = c.incarnation;
	out->state = c.state;
	if (c.refused != TREE_OK)
		snprintf(out->refused, sizeof(out->refused), "%s",
			 word_text(c.refused));
	out->last_seen_ms = c.seen_ms;
	out->hosts = c.hosts;
	out->height = c.height;
	if (!epoch_none(&c.lease))
		epoch_format(&c.lease, out->lease);
	out->why = c.err == -ETIMEDOUT ? MISSING_TIMEOUT : MISSING_UNREACHABLE;
	if (c.refused == TREE_DENIED)
		out->why = MISSING_DENIED;
	else if (c.refused == TREE_VERSION || c.err == -EPROTO)
		out->why = MISSING_INCOMPATIBLE;
	out->rows_known = c.rows_known;
	out->rtt_us = c.rtt_us;
	out->tasks_same = c.tasks_same;
	memcpy(out->version, c.version, sizeof(out->version));
	return out;
}

void overlay_suspect(struct overlay *o, const struct node_id *id)
{
	tree_suspect(o->tree, id);
}

const struct tree_row *overlay_rows(const struct overlay *o, unsigned *n)
{
	return tree_rows(o->tree, n);
}

uint32_t overlay_expected(const struct overlay *o)
{
	return tree_expected(o->tree);
}

const struct tree_peer *overlay_members(const struct overlay *o, unsigned *n)
{
	/* its own rows are newer than what it announced of them */
	*n = 0;
	return tree_is_root(o->tree) ? NULL : tree_members(o->tree, n);
}

static bool same_host(const struct endpoint *ep, const struct ip_addr *a,
		      struct endpoint *out)
{
	if (!addr_equal(&ep->addr, a))
		return false;
	*out = *ep;
	return true;
}

bool overlay_known_peer(const struct overlay *o, const struct ip_addr *a,
			struct endpoint *ep)
{
	const struct conf *c = o->agent->conf;
	const struct endpoint *parent = tree_parent(o->tree);
	const struct tree_peer *m;
	const struct tree_row *r;
	struct tree_child child;
	unsigned n;

	for (unsigned i = 0; i < tree_n_children(o->tree); i++) {
		tree_child_at(o->tree, i, &child);
		if (same_host(&child.ep, a, ep))
			return true;
	}
	if (parent && same_host(parent, a, ep))
		return true;
	m = tree_members(o->tree, &n);
	for (unsigned i = 0; i < n; i++)
		if (same_host(&m[i].ep, a, ep))
			return true;
	r = tree_rows(o->tree, &n);
	for (unsigned i = 0; i < n; i++)
		if (same_host(&r[i].ep, a, ep))
			return true;
	for (size_t i = 0; i < c->n_parents; i++)
		if (same_host(&c->parents[i], a, ep))
			return true;
	for (size_t i = 0; i < c->n_peers; i++) {
		if (prefix_contains(&c->peers[i], a)) {
			*ep = (struct endpoint){ *a, c->port };
			return true;
		}
	}
	return false;
}

/* ---- changes by clients ---- */

static const char *address_refused(const struct overlay *o,
				   const struct endpoint *ep)
{
	const struct conf *c = o->agent->conf;
	struct node_id path[TREE_LEVELS];
	bool loopback = false, own_port = false;

	for (size_t i = 0; i < c->n_listen; i++) {
		loopback |= addr_classify(&c->listen[i].addr) == ADDR_LOOPBACK;
		own_port |= c->listen[i].port == ep->port;
	}
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
		if (!loopback)
			return "loopback address";
		break;
	case ADDR_UNICAST:
		break;
	}
	if (own_port && overlay_is_self(o, &ep->addr))
		return "this host itself";
	if (tree_parent(o->tree) && endpoint_equal(tree_parent(o->tree), ep))
		return "an ancestor";
	return tree_path(o->tree, path) == TREE_LEVELS ? "too deep" : NULL;
}

static void adding_free(struct adding *ad)
{
	*ad->at = ad->next;
	if (ad->next)
		ad->next->at = ad->at;
	loop_timer_cancel(&ad->timer);
	free(ad);
}

static void adding_over(void *arg)
{
	struct adding *ad = arg;

	ad->done(ad->arg, ad->e.code == ERR_NONE ? NULL : &ad->e, ad->created);
	adding_free(ad);
}

/* From the loop: the caller is not there yet, or not any more. */
static void adding_end(struct adding *ad)
{
	loop_timer_in(ad->o->agent->loop, &ad->timer, 0, adding_over, ad);
}

static void added(void *arg, enum tree_word w, bool created)
{
	struct adding *ad = arg;
	struct overlay *o = ad->o;

	ad->created = created;
	if (w == TREE_FULL)
		error_set(&ad->e, ERR_LIMIT, "", "children");
	else if (w == TREE_DENIED && overlay_unproven(o, &ad->ep))
		error_set(&ad->e, ERR_REFUSED, "", "no proof of identity");
	else if (w != TREE_OK && w != TREE_WAIT)
		error_set(&ad->e, ERR_REFUSED, "", word_text(w));
	adding_end(ad);
}

void overlay_add(struct agent *a, const struct endpoint *ep,
		 void (*done)(void *arg, const struct error *e, bool created),
		 void *arg)
{
	struct overlay *o = a->overlay;
	struct adding *ad = calloc(1, sizeof(*ad));
	const char *why = address_refused(o, ep);

	if (!ad) {
		struct error e;

		/* the one case where nothing can be kept for later */
		error_set(&e, ERR_INTERNAL, "", "");
		done(arg, &e, false);
		return;
	}
	ad->o = o;
	ad->ep = *ep;
	ad->done = done;
	ad->arg = arg;
	ad->next = o->adding;
	if (ad->next)
		ad->next->at = &ad->next;
	ad->at = &o->adding;
	o->adding = ad;
	if (why) {
		error_set(&ad->e, ERR_REFUSED, "", why);
		adding_end(ad);
		return;
	}
	tree_add(o->tree, ep, ADD_MS, added, ad);
}

int overlay_remove(struct agent *a, const struct endpoint *ep,
		   const struct node_id *id)
{
	return tree_remove(a->overlay->tree, ep, id);
}

void overlay_drain(struct overlay *o, void (*drained)(void *arg), void *arg)
{
	o->drained = drained;
	o->drained_arg = arg;
	if (o->left)
		tell_drained(o); /* a client asked for it before */
	else
		tree_drain(o->tree);
}

void overlay_accept(struct overlay *o)
{
	tree_accept_rows(o->tree);
}
