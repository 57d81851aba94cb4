/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree as the rest of the agent reads it: nothing here changes it.  What is
 * told is the machine's, as it is now.
 */
#include "agent/overlay.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "common/util.h"

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

const char *overlay_word_text(enum tree_word w)
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
	case TREE_DETACHED:
		return "not in a tree";
	case TREE_FULL:
		return "too many children";
	case TREE_LOOP:
		return "too many hops";
	case TREE_BAD:
		return "malformed";
	default:
		return tree_word_name(w);
	}
}

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

bool overlay_unheard(const struct overlay *o)
{
	return tree_unheard(o->tree);
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
			 overlay_word_text(c.refused));
	else if (c.crowded)
		snprintf(out->refused, sizeof(out->refused),
			 "more hosts than are believed");
	out->last_seen_ms = c.seen_ms;
	out->hosts = c.hosts;
	out->height = c.height;
	if (!epoch_none(&c.lease))
		epoch_format(&c.lease, out->lease);
	out->why = c.err == -ETIMEDOUT ? MISSING_TIMEOUT : MISSING_UNREACHABLE;
	if (c.crowded)
		out->why = MISSING_REJECTED;
	else if (c.refused == TREE_DENIED)
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

bool overlay_is_neighbour(const struct overlay *o, const struct ip_addr *a)
{
	const struct endpoint *parent = tree_parent(o->tree);
	struct tree_child child;

	if (parent && addr_equal(&parent->addr, a))
		return true;
	for (unsigned i = 0; i < o->n_roots; i++)
		if (addr_equal(&o->roots[i].addr, a))
			return true;
	for (unsigned i = 0; i < tree_n_children(o->tree); i++) {
		tree_child_at(o->tree, i, &child);
		if (addr_equal(&child.ep.addr, a))
			return true;
	}
	return false;
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
