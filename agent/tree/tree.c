/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of the machine, who gets which event, what others read, draining.
 *
 * An agent is detached, attached to a parent under a lease, or a root.  All
 * that changes this is in link.c (the parent is lost, a grant is taken) and
 * reign.c (it begins or ends to be a root); seek.c looks for a parent while it
 * is detached.  Whoever sends owns the ref of the answer; low bits of a ref
 * say whose it is, so that an answer that nobody waits for finds nobody.
 */
#include "agent/tree/tree.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "agent/tree/private.h"

#define DRAIN_STEP_MS 250
#define DRAIN_MS      10000
#define DRAIN_TELL_MS 4000 /* of them, at a root */
#define DRAIN_BEAT_MS 1100 /* each level hears of it with a beat */

/* ---- messages ---- */

void msg_init(struct tree_msg *m, enum tree_kind kind)
{
	memset(m, 0, sizeof(*m));
	m->kind = kind;
}

bool tree_target_valid(const struct endpoint *ep)
{
	enum addr_class k = addr_classify(&ep->addr);

	return ep->port && (k == ADDR_UNICAST || k == ADDR_LOOPBACK);
}

/* What listens on loopback alone may be for this host's users alone. */
static bool may_call(const struct tree *t, const struct endpoint *to)
{
	return tree_target_valid(to) &&
	       (t->conf->loopback || addr_classify(&to->addr) != ADDR_LOOPBACK);
}

uint64_t tree_send(struct tree *t, enum op op, unsigned slot,
		   const struct endpoint *to, struct tree_msg *m,
		   uint32_t limit_ms, bool fresh)
{
	uint64_t ref = ++t->refs << 16 | slot << 8 | op;

	if (!may_call(t, to))
		return 0;
	m->epoch = t->seen;
	return t->env->send(t->ctx, to, m, limit_ms, fresh, ref) ? 0 : ref;
}

void tree_cancel(struct tree *t, uint64_t *ref)
{
	if (*ref)
		t->env->cancel(t->ctx, *ref);
	*ref = 0;
}

void tree_reply(struct tree *t, uint64_t ref, struct tree_msg *m)
{
	m->epoch = t->seen;
	t->env->reply(t->ctx, ref, m);
}

void tree_refuse(struct tree *t, uint64_t ref, enum tree_kind kind,
		 enum tree_word w)
{
	struct tree_msg m;

	msg_init(&m, kind);
	m.word = w;
	tree_reply(t, ref, &m);
}

static bool addr_zero(const struct ip_addr *a)
{
	return addr_classify(a) == ADDR_UNSPECIFIED;
}

bool tree_address(const struct tree *t, const struct endpoint *said,
		  const struct endpoint *from, struct endpoint *out)
{
	*out = *said;
	if (addr_zero(&out->addr) && from)
		out->addr = from->addr;
	return may_call(t, out);
}

/* ---- life ---- */

struct tree *tree_new(const struct tree_conf *conf,
		      const struct tree_stored *stored,
		      const struct tree_env *env, void *ctx)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->conf = conf;
	t->env = env;
	t->ctx = ctx;
	t->self = stored->id;
	t->incarnation = stored->incarnation;
	t->seen = t->held = stored->seen;
	t->term = stored->term;
	t->stored_fleet = stored->fleet;
	t->place = PLACE_DETACHED;
	t->dirty = t->hash_dirty = true;
	t->path = calloc(1, sizeof(*t->path));
	t->cap_path = 1;
	/* their hash is the root's to say */
	if (!t->path ||
	    (stored->n_members &&
	     rows_members_set(t, stored->members, stored->n_members, 0))) {
		free(t->path);
		free(t);
		return NULL;
	}
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	seek_stop(t);
	climb_drop_all(t);
	tree_cancel(t, &t->please);
	reign_end(t);
	branch_free_all(t);
	rows_free(t);
	free(t->path);
	free(t);
}

void tree_start(struct tree *t)
{
	t->started = true;
	rows_list(t);
	if (!t->conf->provider->founds || reign_begin(t))
		seek_start(t, NULL, random_below(t, 50));
	for (unsigned i = 0; i < t->n_children; i++)
		branch_start(t, t->child[i], 0);
}

int tree_store(struct tree *t)
{
	struct tree_stored s = { .id = t->self,
				 .incarnation = t->incarnation,
				 .seen = t->seen,
				 .term = t->term,
				 .fleet = t->stored_fleet };

	if (reign_candidate(t)) {
		s.members = t->members;
		s.n_members = t->n_members;
	}
	return t->env->store(t->ctx, &s);
}

bool tree_forgets(const struct tree *t, uint64_t since_ms)
{
	return t->conf->forget_ms && !t->conf->provider->expected &&
	       now_ms(t) - since_ms >= t->conf->forget_ms;
}

/* ---- events ---- */

static void serve_hello(struct tree *t, uint64_t ref)
{
	struct tree_msg m;

	msg_init(&m, TREE_HELLO);
	m.u.hello.id = t->self;
	m.u.hello.incarnation = t->incarnation;
	memcpy(m.u.hello.overlay, t->conf->overlay,
	       strnlen(t->conf->overlay, sizeof(m.u.hello.overlay) - 1));
	m.u.hello.leaving = t->draining || t->place == PLACE_LEFT;
	m.u.hello.root = t->place == PLACE_ROOT && !m.u.hello.leaving;
	m.u.hello.rooted = tree_rooted(t) && !m.u.hello.leaving;
	if (m.u.hello.rooted)
		m.u.hello.root_ep = tree_root_address(t);
	if (m.u.hello.root)
		m.lease = t->reign_epoch;
	tree_reply(t, ref, &m);
}

void tree_see(struct tree *t, const struct epoch *e)
{
	bool other = e->term != t->seen.term || e->root != t->seen.root;

	if (!epoch_valid(e) || epoch_compare(e, &t->seen) <= 0)
		return;
	t->seen = *e;
	/* whoever restarts must not take an older one for the newest */
	if (other)
		(void)tree_store(t);
}

void tree_request(struct tree *t, const struct endpoint *from,
		  const struct tree_msg *m, uint64_t ref)
{
	if (m->kind == TREE_HELLO) {
		serve_hello(t, ref);
		return;
	}
	/* a beat is answered in any case: by who it is now */
	if ((t->place == PLACE_LEFT || !t->started) && m->kind != TREE_BEAT) {
		tree_refuse(t, ref, m->kind, TREE_DETACHED);
		return;
	}
	switch (m->kind) {
	case TREE_HELLO:
		break;
	case TREE_INVITE:
		seek_invited(t, from, m, ref);
		break;
	case TREE_JOIN:
		climb_join(t, from, m, ref);
		break;
	case TREE_GRANT:
		climb_grant(t, m, ref);
		break;
	case TREE_BEAT:
		link_beat(t, from, m, ref);
		break;
	case TREE_PLEASE:
		branch_please(t, m, ref);
		break;
	case TREE_LEAVE:
		branch_leave(t, m, ref);
		break;
	case TREE_ROWS:
		rows_serve(t, m, ref);
		break;
	case TREE_ANNOUNCE:
		rows_announced(t, m, ref);
		break;
	case TREE_KINDS:
		tree_refuse(t, ref, m->kind, TREE_BAD);
		break;
	}
}

void tree_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m)
{
	switch ((enum op)(ref & 0xff)) {
	case OP_CHILD:
	case OP_SIDE:
		branch_done(t, ref, err, m);
		break;
	case OP_CLIMB:
		climb_done(t, ref, err, m);
		break;
	case OP_SEEK:
		seek_done(t, ref, err, m);
		break;
	case OP_PLEASE:
		link_done(t, ref, err, m);
		break;
	case OP_REIGN:
		candidates_done(t, ref, err, m);
		break;
	case OP_LEAVE:
		event(t, TREE_EVENT_DRAINED, NULL);
		break;
	case OP_TWIN:
		rows_twin_done(t, ref, err, m);
		break;
	case OP_NONE:
		break;
	}
}

static void drain_step(struct tree *t);

void tree_timer(struct tree *t, uint32_t id)
{
	if (t->place == PLACE_LEFT)
		return;
	switch (id) {
	case TIMER_SEEK:
		seek_timer(t);
		break;
	case TIMER_PARENT:
		link_timer(t);
		break;
	case TIMER_REIGN:
		candidates_timer(t);
		break;
	case TIMER_ADD:
		byhand_timer(t);
		break;
	case TIMER_DRAIN:
		drain_step(t);
		break;
	default:
		assert(id >= TIMER_CHILD && id < TREE_TIMERS);
		branch_timer(t, id - TIMER_CHILD);
		break;
	}
}

/* ---- draining ---- */

static void leave(struct tree *t)
{
	uint64_t ref = 0;
	struct tree_msg m;

	if (t->place == PLACE_ATTACHED) {
		msg_init(&m, TREE_LEAVE);
		m.lease = t->lease;
		m.u.leave.id = t->self;
		ref = tree_send(t, OP_LEAVE, 0, &t->path[t->n_path - 1].ep, &m,
				HELLO_LIMIT_MS, false);
		link_detach(t);
	}
	seek_stop(t);
	reign_end(t);
	t->place = PLACE_LEFT;
	if (!ref)
		event(t, TREE_EVENT_DRAINED, NULL);
}

/*
 * Who of those below becomes the root expects all that were announced: this
 * one leaves once they know that it is not among them.
 */
static bool drain_tells(struct tree *t)
{
	uint64_t took = now_ms(t) + DRAIN_MS - t->drain_ms;

	if (t->place != PLACE_ROOT || t->conf->n_roots < 2 ||
	    took >= DRAIN_TELL_MS)
		return false;
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		if (b->joined && !b->lost && b->pub.state == CHILD_UP &&
		    b->members_said != rows_members_hash(t))
			return true;
	}
	return took < (uint64_t)tree_height(t) * DRAIN_BEAT_MS;
}

/* The children go one after the other; whoever has not gone then stays. */
static void drain_step(struct tree *t)
{
	bool tells = drain_tells(t), any = false;
	struct branch *next = NULL;

	for (unsigned i = 0; i < t->n_children; i++) {
		struct branch *b = t->child[i];

		if (!b->joined || b->lost || b->pub.state != CHILD_UP)
			continue;
		any = true;
		if (!b->drain && !next)
			next = b;
	}
	if (!any || now_ms(t) >= t->drain_ms) {
		leave(t);
		return;
	}
	if (next && !tells) {
		next->drain = true;
		if (!next->ref)
			branch_start(t, next, 0);
	}
	timer_at(t, TIMER_DRAIN, now_ms(t) + DRAIN_STEP_MS);
}

void tree_drain(struct tree *t)
{
	if (t->draining)
		return;
	t->draining = true;
	t->drain_ms = now_ms(t) + DRAIN_MS;
	timer_at(t, TIMER_DRAIN, now_ms(t));
	if (t->place != PLACE_ROOT)
		return;
	t->announce_due = true;
	t->reign->announced_ms = 0;
	branch_news(t);
}

/* ---- what others read ---- */

unsigned tree_level(const struct tree *t)
{
	return t->place == PLACE_ATTACHED ? t->n_path : 0;
}

bool tree_may_grant(const struct tree *t)
{
	return !t->draining && tree_rooted(t);
}

bool tree_in_path(const struct tree *t, const struct node_id *id)
{
	for (unsigned i = 0; t->place == PLACE_ATTACHED && i < t->n_path; i++)
		if (id_equal(&t->path[i].id, id))
			return true;
	return false;
}

uint32_t tree_hosts(const struct tree *t)
{
	uint32_t n = 1;

	for (unsigned i = 0; i < t->n_children; i++)
		if (branch_counts(t->child[i]))
			n += t->child[i]->pub.hosts;
	return hosts_told(n);
}

uint32_t tree_height(const struct tree *t)
{
	uint32_t h = 0;

	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		if (b->until_ms)
			h = MAX(h, b->granted_height + 1);
		else if (b->joined && !b->lost)
			h = MAX(h, b->pub.height + 1);
	}
	return h;
}

void tree_fill_mover(const struct tree *t, struct tree_mover *m)
{
	memset(m, 0, sizeof(*m));
	m->id = t->self;
	m->incarnation = t->incarnation;
	m->ep = t->conf->self;
	m->hosts = tree_hosts(t);
	m->height = tree_height(t);
	m->fleet = t->fleet;
	m->seen = t->seen;
	memcpy(m->rack, t->conf->rack,
	       strnlen(t->conf->rack, sizeof(m->rack) - 1));
	memcpy(m->overlay, t->conf->overlay,
	       strnlen(t->conf->overlay, sizeof(m->overlay) - 1));
}

struct endpoint tree_root_address(const struct tree *t)
{
	return t->place == PLACE_ROOT ? t->conf->self : t->path[0].ep;
}

const struct node_id *tree_self(const struct tree *t)
{
	return &t->self;
}

bool tree_is_root(const struct tree *t)
{
	return t->place == PLACE_ROOT;
}

bool tree_detached(const struct tree *t)
{
	return t->place == PLACE_DETACHED || t->place == PLACE_LEFT;
}

bool tree_tasks_same(const struct tree *t)
{
	return t->place == PLACE_ROOT ||
	       (t->place == PLACE_ATTACHED && t->beaten && t->tasks_same);
}

bool tree_unheard(const struct tree *t)
{
	return t->place == PLACE_ATTACHED && !t->beaten && reign_candidate(t);
}

bool tree_rooted(const struct tree *t)
{
	return t->place == PLACE_ROOT ||
	       (t->place == PLACE_ATTACHED && t->rooted);
}

const struct endpoint *tree_parent(const struct tree *t)
{
	return t->place == PLACE_ATTACHED ? &t->path[t->n_path - 1].ep : NULL;
}

unsigned tree_path(const struct tree *t, struct node_id out[TREE_LEVELS])
{
	unsigned n = tree_level(t);

	for (unsigned i = 0; i < n; i++)
		out[i] = t->path[i].id;
	return n;
}

struct epoch tree_lease(const struct tree *t)
{
	return t->place == PLACE_ATTACHED ? t->lease : (struct epoch){ 0 };
}

uint64_t tree_lease_ms(const struct tree *t)
{
	return t->lease_ms;
}

struct epoch tree_epoch(const struct tree *t)
{
	return t->seen;
}

uint32_t tree_clock_err_ms(const struct tree *t)
{
	double err = fabs(t->offset_ms) + t->error_ms;

	if (t->place != PLACE_ATTACHED)
		return 0;
	return err < UINT32_MAX ? (uint32_t)ceil(err) : UINT32_MAX;
}

unsigned tree_n_children(const struct tree *t)
{
	return t->n_children;
}

void tree_child_at(const struct tree *t, unsigned i, struct tree_child *out)
{
	const struct branch *b = t->child[i];

	*out = b->pub;
	out->rows_known = branch_known(b);
	out->most = branch_most(t, b);
}

bool tree_under(const struct tree *t, const struct epoch *lease)
{
	return t->place == PLACE_ATTACHED &&
	       epoch_compare(lease, &t->lease) == 0;
}

enum tree_word tree_admit(struct tree *t, const struct epoch *lease,
			  const struct epoch *as_of)
{
	if (!tree_under(t, lease))
		return TREE_MOVED;
	if (as_of && epoch_compare(&t->lease, as_of) > 0)
		return TREE_MOVED;
	/* its next lease must not fit the same question again */
	if (as_of)
		tree_see(t, as_of);
	return TREE_OK;
}

#ifdef TREE_CHECK
static void check_children(const struct tree *t)
{
	uint64_t slots = 0, rows = 0;

	assert(t->n_children <= TREE_CHILDREN);
	for (unsigned i = 0; i < t->n_children; i++) {
		const struct branch *b = t->child[i];

		assert(!(slots & (uint64_t)1 << b->slot));
		slots |= (uint64_t)1 << b->slot;
		assert(!b->joined || !id_equal(&b->pub.id, &t->self));
		for (unsigned j = 0; j < i; j++)
			assert(!id_equal(&b->pub.id, &t->child[j]->pub.id));
		rows += b->n_rows;
	}
	assert(rows <= TREE_MEMBERS);
	assert(slots == t->slots);
}

void tree_check(const struct tree *t)
{
	struct tree *w = (struct tree *)t; /* remembers what it saw last */

	check_children(t);
	assert(t->n_path <= TREE_LEVELS);
	for (unsigned i = 0; i < tree_level(t); i++) /* O1 */
		assert(!id_equal(&t->path[i].id, &t->self));
	if (t->place == PLACE_ATTACHED) {
		assert(t->n_path && !epoch_none(&t->lease));
		assert(epoch_compare(&t->lease, &t->held) == 0);
	}
	assert((t->place == PLACE_ROOT) ? t->reign && !t->seek : true);
	assert(epoch_compare(&t->held, &t->seen) <= 0);
	assert(epoch_compare(&t->reign_epoch, &t->seen) <= 0);
	/* O6 */
	assert(epoch_compare(&t->check_seen, &t->seen) <= 0);
	assert(epoch_compare(&t->check_held, &t->held) <= 0);
	w->check_seen = t->seen;
	w->check_held = t->held;
}
#endif
