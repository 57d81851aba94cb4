/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree's machine in this agent: made here with its configuration, its
 * provider of members and what of the world it may use; changed here by
 * clients, after their addresses were checked.
 */
#include "agent/overlay.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/util.h"

#define ADD_MS  900
#define HOUR_MS 3600000ull

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

static void timer_rings(void *arg)
{
	struct overlay_timer *t = arg;

	tree_timer(t->o->tree, t->id);
}

static void env_timer(void *ctx, uint32_t id, uint64_t at_ms)
{
	struct overlay *o = ctx;
	struct overlay_timer *t = &o->timer[id];

	assert(id < TREE_TIMERS);
	if (at_ms == UINT64_MAX)
		loop_timer_cancel(&t->timer);
	else if (loop_timer_at(o->agent->loop, &t->timer, MAX(at_ms, 1),
			       timer_rings, t))
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
	if (!node_id_equal(&o->told[at].id, id))
		o->told[at] = (struct told){ .id = *id };
	endpoint_format(&c.ep, 8000, text);
	if (c.crowded && !o->told[at].crowded)
		log_warnx("child %s tells of more hosts than are believed: "
			  "rejected",
			  text);
	else if (!c.crowded && o->told[at].crowded)
		log_info("child %s is rejected no more", text);
	o->told[at].crowded = c.crowded;
	if (o->told[at].state == c.state)
		return;
	o->told[at].state = c.state;
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

static bool listens_on_loopback(const struct conf *c)
{
	for (size_t i = 0; i < c->n_listen; i++)
		if (addr_classify(&c->listen[i].addr) == ADDR_LOOPBACK)
			return true;
	return false;
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
		o->timer[i].o = o;
		o->timer[i].id = i;
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
				      .loopback = listens_on_loopback(c),
				      .forget_ms = c->forget_h * HOUR_MS };
	ret = -ENOMEM;
	o->tree = tree_new(&o->conf, &o->stored, &env, o);
	free((void *)o->stored.members); /* it has its own */
	o->stored.members = NULL;
	o->stored.n_members = 0;
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
		loop_timer_cancel(&o->timer[i].timer);
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

/* ---- changes by clients ---- */

static const char *address_refused(const struct overlay *o,
				   const struct endpoint *ep)
{
	const struct conf *c = o->agent->conf;
	struct node_id path[TREE_LEVELS];
	bool own_port = false;

	for (size_t i = 0; i < c->n_listen; i++)
		own_port |= c->listen[i].port == ep->port;
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
		if (!o->conf.loopback)
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
		error_set(&ad->e, ERR_REFUSED, "", overlay_word_text(w));
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
