/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions: what a walk reaches the world by, with a part that names the
 * hosts in it, and the judge of each answer.
 *
 * The judge knows who must be in a complete answer (all members, as the ledger
 * has them, from start to end) and who must be in any (hosts that no fault
 * touched, on a path that none touched, and where nobody had to wait for a
 * way).  A host that comes twice is seen when two parts meet.
 */
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define NAMED_MAX UINT32_C(20000) /* agents; above, parts only count */
#define LATE_US   (100 * MS)
#define LEAST_MS  20        /* with less, those below are not asked */
#define TAKEN_US  (10 * MS) /* a way that is free is taken in less */

struct names {
	uint64_t hosts, sum;
	uint64_t bits[]; /* who is in it */
};

/*
 * A request: ask; a reply: word, coverage, part.  One that flies has a tail for
 * what it borrows: the question and the ids of via, or the coverage without the
 * room for tops that are not there.
 */
struct ask_msg {
	union {
		const struct walk_ask *ask;
		const struct coverage *coverage; /* NULL: none */
	};
	struct names *part;
	enum tree_word word;
	uint32_t len;
	alignas(8) uint8_t tail[];
};

/* All ways of a child were in use. */
struct wait {
	uint64_t end_us;  /* it may be asked until then; 0: it waits for none */
	uint64_t free_us; /* since then there is a way, and it is not taken */
	uint32_t next;    /* of those that wait, or NOBODY */
};

/* A query at the agent that was asked. */
struct asked {
	struct asked *next;
	struct world *w;
	uint32_t agent;
	struct walk_query *query;
	struct walk_scope scope;
	uint8_t id[16];
	uint64_t start_us, end_us;
	bool lies; /* somebody lied meanwhile */
	bool root; /* the one asked, when it was */
	bool *must, *healthy;
	bool *sent;
	struct wait *wait; /* for a way to each */
	uint32_t waits;    /* the last that began to wait, or NOBODY */
};

static struct asked *asked_find(const struct world *w, const uint8_t id[16])
{
	struct asked *q = w->queries;

	while (q && memcmp(q->id, id, sizeof(q->id)) != 0)
		q = q->next;
	return q;
}

/* ---- parts ---- */

static size_t words_of(const struct world *w)
{
	return w->n <= NAMED_MAX ? (w->n + 63) / 64 : 0;
}

static struct names *names_new(const struct world *w)
{
	struct names *p = calloc(1, sizeof(*p) + words_of(w) * 8);

	if (!p)
		abort();
	return p;
}

static struct names *names_copy(const struct world *w, const struct names *from)
{
	struct names *p = names_new(w);

	memcpy(p, from, sizeof(*p) + words_of(w) * 8);
	return p;
}

static bool names_has(const struct names *p, uint32_t agent)
{
	return p && (p->bits[agent / 64] >> agent % 64 & 1);
}

static void names_add(const struct world *w, struct names *p, uint32_t agent)
{
	p->hosts++;
	p->sum += agent;
	if (words_of(w))
		p->bits[agent / 64] |= UINT64_C(1) << agent % 64;
}

/* ---- messages ---- */

static struct ask_msg *ask_fly(const struct ask_msg *m, size_t len)
{
	struct ask_msg *c = malloc(sizeof(*c) + len);

	if (!c)
		abort();
	*c = *m;
	c->len = (uint32_t)len;
	return c;
}

static struct ask_msg *ask_fly_reply(struct world *w, const struct ask_msg *m)
{
	const struct coverage *cov = m->coverage;
	struct coverage wired;
	struct ask_msg *c;

	if (cov && wire_coverage(w, cov, &wired))
		cov = &wired;
	c = ask_fly(m, cov ? offsetof(struct coverage, missing) +
				       cov->n_missing * sizeof(cov->missing[0])
			   : 0);
	if (cov)
		memcpy(c->tail, cov, c->len);
	c->part = m->part ? names_copy(w, m->part) : NULL;
	return c;
}

static void *ask_copy(struct world *w, const void *from, bool reply)
{
	const struct ask_msg *m = from;
	size_t via = reply ? 0 : m->ask->n_via * sizeof(*m->ask->via);
	struct walk_ask *ask;
	struct ask_msg *c;

	if (reply)
		return ask_fly_reply(w, m);
	c = ask_fly(m, sizeof(*ask) + via);
	ask = (struct walk_ask *)c->tail;
	*ask = *m->ask;
	ask->via = memcpy(ask + 1, m->ask->via, via);
	c->ask = ask;
	return c;
}

static void ask_msg_free(struct world *w, void *msg)
{
	struct ask_msg *m = msg;

	(void)w;
	if (m)
		free(m->part);
	free(m);
}

/* A wrong part: too many, a wrong digest, a sibling's, itself twice. */
static void lie(struct world *w, uint32_t agent, struct coverage *c,
		struct names *part)
{
	switch (chance_below(&w->chance, 4)) {
	case 0:
		c->answered++;
		break;
	case 1:
		c->digest ^= chance_u64(&w->chance) | 1;
		break;
	case 2:
		c->answered++;
		part->hosts++;
		c->digest += coverage_digest(
			"linnet", &w->agent[(agent + 1) % w->n].disk.id);
		break;
	default:
		c->answered *= 2;
		c->digest *= 2;
		part->hosts *= 2;
		break;
	}
}

/* Whose question a liar will answer under this handle. */
static void remember(struct world *w, uint64_t handle, const uint8_t id[16])
{
	struct lied *l = &w->lied[w->n_lied++ % LIED];

	l->handle = handle;
	memcpy(l->id, id, sizeof(l->id));
}

static void mark_lie(struct world *w, uint64_t handle)
{
	struct asked *q;

	for (size_t i = 0; i < LIED; i++) {
		if (w->lied[i].handle != handle)
			continue;
		q = asked_find(w, w->lied[i].id);
		if (q)
			q->lies = true;
	}
}

#define NOT_COUNTED UINT32_MAX

static uint32_t not_own(uint32_t ways)
{
	return ways - MIN(ways, WALK_WAYS_OWN);
}

/* Counts the ways of this agent's children; how many are of those that all
 * share. */
static uint32_t ways_count(struct world *w, uint32_t from)
{
	uint32_t shared = 0;

	net_asks(w, from, w->ledger.asks);
	for (uint32_t i = 0; i < w->n; i++)
		shared += not_own(w->ledger.asks[i].all);
	return shared;
}

/* All ways of this child are in use, and so are those that all share (how
 * many of them, counted once, or NOT_COUNTED); what it left itself is not
 * counted for it. */
static bool ways_full(struct world *w, uint32_t from, uint32_t to,
		      uint32_t *shared)
{
	const struct net_asks *asks = &w->ledger.asks[to];
	uint32_t n;

	if (*shared == NOT_COUNTED)
		*shared = ways_count(w, from);
	n = asks->all - asks->left;
	return n >= WALK_WAYS_MAX ||
	       (n >= WALK_WAYS_OWN &&
		*shared - not_own(asks->all) + not_own(n) >= WALK_WAYS_SPARE);
}

/* Those whom this agent, which has the question now, may ask later. */
static void mark_waits(struct world *w, struct asked *q, uint32_t agent,
		       uint32_t budget_ms)
{
	const struct tree *t = w->agent[agent].tree;
	uint32_t shared = NOT_COUNTED;

	for (unsigned i = 0; q && q->healthy && i < tree_n_children(t); i++) {
		struct tree_child c;
		uint32_t to;

		tree_child_at(t, i, &c);
		to = agent_at(w, &c.ep);
		if (to == NOBODY || !q->healthy[to] || q->sent[to] ||
		    q->wait[to].end_us || !ways_full(w, agent, to, &shared))
			continue;
		q->wait[to].end_us = w->now_us + budget_ms * MS * 9 / 10;
		q->wait[to].next = q->waits;
		q->waits = to;
	}
}

/* It waits, and not because a way that it could have was not taken. */
static bool has_to_wait(const struct world *w, const struct wait *x)
{
	return x->end_us &&
	       (!x->free_us || w->now_us < x->free_us + TAKEN_US ||
		x->free_us + TAKEN_US + 2 * LEAST_MS * MS > x->end_us);
}

/* The ways of this agent's children may be others now. */
static void see_ways(struct world *w, uint32_t agent)
{
	uint32_t shared = NOT_COUNTED;

	for (struct asked *q = w->queries; q; q = q->next)
		for (uint32_t i = q->waits; i != NOBODY; i = q->wait[i].next) {
			struct wait *x = &q->wait[i];

			if (!x->end_us || q->sent[i] ||
			    w->agent[i].parent != agent || !has_to_wait(w, x))
				continue;
			if (ways_full(w, agent, i, &shared))
				x->free_us = 0;
			else if (!x->free_us)
				x->free_us = w->now_us;
		}
}

static char question; /* there is but one */

static void ask_reply_word(struct world *w, uint32_t from, uint64_t handle,
			   enum tree_word word)
{
	struct ask_msg m = { .word = word };

	net_reply(w, from, handle, &m);
}

static void ask_request(struct world *w, uint32_t to, uint32_t from,
			const void *msg, uint64_t handle)
{
	const struct ask_msg *m = msg;
	enum tree_word word = walk_admit(w->agent[to].walk, m->ask);

	world_note(w, to, from,
		   word == TREE_OK ? "is asked" : tree_word_name(word));
	if (w->agent[to].liar)
		remember(w, handle, m->ask->query);
	if (word != TREE_OK)
		ask_reply_word(w, to, handle, word);
	else
		walk_request(w->agent[to].walk, m->ask, &question, handle);
	if (word == TREE_OK)
		mark_waits(w, asked_find(w, m->ask->query), to,
			   m->ask->budget_ms);
}

static void ask_done(struct world *w, uint32_t from, uint32_t to, uint64_t ref,
		     int err, void *msg)
{
	struct ask_msg *m = msg;
	struct walk_got got = { .err = err };
	struct coverage c = { 0 };

	world_note(w, from, to,
		   err                  ? strerror(-err)
		   : m->word != TREE_OK ? tree_word_name(m->word)
					: "has its answer");
	if (m) {
		got.word = m->word;
		got.part = m->part;
		m->part = NULL;
		if (m->coverage)
			got.coverage = memcpy(&c, m->tail, m->len);
	}
	walk_done(w->agent[from].walk, ref, &got);
	see_ways(w, from);
}

const struct proto proto_ask = {
	.copy = ask_copy,
	.free = ask_msg_free,
	.request = ask_request,
	.done = ask_done,
	.costs = true,
};

/* ---- what a walk reaches ---- */

static uint32_t index_of(const struct agent *a)
{
	return (uint32_t)(a - a->w->agent);
}

static uint64_t env_now(void *ctx)
{
	const struct agent *a = ctx;

	return (a->w->now_us + a->mono_us) / MS;
}

static void draw_query_id(struct agent *a, uint8_t out[16])
{
	for (int i = 0; i < 2; i++) {
		uint64_t r = chance_u64(&a->chance);

		memcpy(out + 8 * i, &r, 8);
	}
}

static void env_timer(void *ctx, uint64_t at_ms)
{
	agent_timer(ctx, WALK_TIMER, at_ms);
}

static int env_send(void *ctx, const struct walk_send *s)
{
	struct agent *a = ctx;
	struct walk_ask ask = {
		.round = s->round,
		.lease = s->to->lease,
		.as_of = s->as_of,
		.budget_ms = s->fresh ? s->told_fresh_ms : s->told_ms,
		.n_via = s->n_via,
		.via = s->via,
	};
	struct ask_msg m = { .ask = &ask };
	struct asked *q = asked_find(a->w, s->query);
	uint32_t to = agent_at(a->w, &s->to->ep);
	int err;

	if (q && q->sent && to != NOBODY) {
		q->sent[to] = true;
		q->wait[to].free_us = 0;
	}
	memcpy(ask.query, s->query, sizeof(ask.query));
	err = net_send(a->w, &proto_ask, index_of(a), &s->to->ep, &m,
		       s->limit_ms, s->fresh, s->ref);
	see_ways(a->w, index_of(a));
	return err;
}

static void env_leave(void *ctx, uint64_t ref)
{
	struct agent *a = ctx;

	net_leave(a->w, &proto_ask, index_of(a), ref, WALK_LATE_MS);
	see_ways(a->w, index_of(a));
}

static void env_cancel(void *ctx, uint64_t ref)
{
	struct agent *a = ctx;

	net_cancel(a->w, &proto_ask, index_of(a), ref);
}

static void env_reply(void *ctx, uint64_t ref, enum tree_word word,
		      const struct coverage *c, const void *part)
{
	struct agent *a = ctx;
	struct ask_msg m = { .word = word, .coverage = c };
	struct coverage wrong;

	/* copied when it is sent */
	m.part = (struct names *)part;
	if (a->liar && part) {
		m.part = names_copy(a->w, part);
		wrong = *c;
		m.coverage = &wrong;
		lie(a->w, index_of(a), &wrong, m.part);
		mark_lie(a->w, ref);
	}
	net_reply(a->w, index_of(a), ref, &m);
	if (m.part != part)
		free(m.part);
}

static void env_suspect(void *ctx, const struct node_id *id)
{
	struct agent *a = ctx;

	tree_suspect(a->tree, id);
}

static void env_rejected(void *ctx, const struct walk_child *c, const char *why)
{
	struct agent *a = ctx;

	world_note(a->w, index_of(a), agent_at(a->w, &c->ep), why);
}

static const struct walk_env env = {
	.now_ms = env_now,
	.timer = env_timer,
	.send = env_send,
	.leave = env_leave,
	.cancel = env_cancel,
	.reply = env_reply,
	.suspect = env_suspect,
	.rejected = env_rejected,
};

static size_t op_reply_cap(const void *q)
{
	(void)q;
	return 64 << 10;
}

static int op_read(void *ctx, void *q, uint64_t ref)
{
	struct agent *a = ctx;

	(void)q;
	world_push(a->w, a->w->now_us + a->w->conf.read_us, EV_READ,
		   index_of(a), ref);
	return 0;
}

/* walk_read_done() ignores what it does not wait for. */
static void op_read_cancel(void *ctx, void *q)
{
	(void)ctx, (void)q;
}

void ask_read(struct world *w, const struct event *e)
{
	struct agent *a = &w->agent[e->agent];
	struct names *p = names_new(w);
	struct ctl_loss loss = { 0 };
	struct coverage c;
	uint64_t wall = agent_wall_ms(a);

	names_add(w, p, e->agent);
	if (a->parent != NOBODY && tooth_bites(w, TOOTH_DOUBLE))
		p->bits[a->parent / 64] |= UINT64_C(1) << a->parent % 64;
	coverage_answered(&c, "linnet", tree_self(a->tree), &loss, wall, wall);
	walk_read_done(a->walk, e->arg, MISSING_NONE, p, &c);
}

static enum missing_reason op_check(void *ctx, const void *q, const void *part,
				    const struct coverage *c, const char **why)
{
	const struct names *p = part;

	(void)ctx, (void)q;
	if ((p ? p->hosts : 0) == c->answered)
		return MISSING_NONE;
	*why = "part and coverage differ";
	return MISSING_REJECTED;
}

static int op_merge(void *ctx, void *q, const struct node_id *id,
		    const struct coverage *c, void **acc, void *in)
{
	struct agent *a = ctx;
	struct world *w = a->w;
	struct names *to = *acc, *p = in;

	(void)q, (void)id, (void)c;
	if (!in)
		return 0;
	if (!to) {
		*acc = in;
		return 0;
	}
	for (size_t i = 0; i < words_of(w); i++) {
		if (to->bits[i] & p->bits[i]) {
			w->asked.doubles++;
			world_fail(
				w, "O2: agent %u adds a host twice (%u)",
				index_of(a),
				(unsigned)(i * 64 +
					   (unsigned)__builtin_ctzll(
						   to->bits[i] & p->bits[i])));
		}
		to->bits[i] |= p->bits[i];
	}
	to->hosts += p->hosts;
	to->sum += p->sum;
	free(p);
	return 0;
}

static size_t op_size(const void *part)
{
	(void)part;
	return sizeof(struct names);
}

static void op_free_question(void *ctx, void *q)
{
	(void)ctx, (void)q;
}

static const struct walk_ops ops = {
	.reply_cap = op_reply_cap,
	.read = op_read,
	.read_cancel = op_read_cancel,
	.check = op_check,
	.merge = op_merge,
	.free_part = free,
	.part_size = op_size,
	.free_question = op_free_question,
};

struct walk *ask_new(struct world *w, uint32_t agent)
{
	struct walk_conf conf = {
		.overlay = "linnet",
		.env = &env,
		.ops = &ops,
		.ctx = &w->agent[agent],
		.view = &walk_tree_view,
		.tree = w->agent[agent].tree,
	};
	struct walk *walk = walk_new(&conf);

	if (!walk)
		abort();
	return walk;
}

void ask_forget(struct world *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		struct agent *a = &w->agent[i];

		if (!a->tree || walk_running(a->walk))
			continue;
		walk_free(a->walk);
		a->walk = ask_new(w, i);
	}
}

/* ---- who must be in it ---- */

/* No fault is at this agent now. */
static bool sound(const struct agent *a)
{
	return agent_runs(a) && !a->slow_us && !a->group && !a->cut_in &&
	       !a->cut_out && !a->liar;
}

/* On long or uncertain ways a short question may be too short. */
static bool net_sound(const struct world *w, const struct asked *q)
{
	const struct net *net = &w->net;
	bool quick = net->latency_us <= MS && net->reorder <= 0;

	return net->loss <= 0 && net->spike <= 0 &&
	       (quick || q->end_us - q->start_us > SECOND);
}

/*
 * What a child is told at least of the time that its parent was: four fifths,
 * less the way; the clock counts whole milliseconds.  With less than 20 ms
 * nobody asks those below: a deep tree and little time do not go together.
 */
static uint32_t told_ms(uint32_t budget_ms, const struct tree_child *c)
{
	uint32_t left = budget_ms - MIN(budget_ms, 2);

	return (left - MIN(left / 8, c->rtt_us / 1000)) * 8 / 10;
}

/* All below whom the question reaches if nothing happens meanwhile. */
static void mark_healthy(struct world *w, struct asked *q, uint32_t agent,
			 uint32_t budget_ms, unsigned level)
{
	const struct agent *a = &w->agent[agent];
	unsigned n = tree_n_children(a->tree);

	q->healthy[agent] = true;
	if (budget_ms < LEAST_MS + 2)
		return;
	for (unsigned i = 0; i < n && level < TREE_LEVELS; i++) {
		struct tree_child c;
		uint32_t to;

		tree_child_at(a->tree, i, &c);
		to = agent_at(w, &c.ep);
		if (to != NOBODY && c.state == CHILD_UP &&
		    w->agent[to].parent == agent && sound(&w->agent[to]) &&
		    !epoch_compare(&c.lease, &w->agent[to].lease) &&
		    epoch_compare(&c.lease, &q->scope.as_of) <= 0)
			mark_healthy(w, q, to, told_ms(budget_ms, &c),
				     level + 1);
	}
}

static bool undisturbed(const struct world *w, const struct asked *q,
			uint32_t agent)
{
	for (unsigned s = 0; s <= TREE_LEVELS; s++) {
		if (w->agent[agent].disturbed_us >= q->start_us ||
		    has_to_wait(w, &q->wait[agent]))
			return false;
		if (agent == q->agent)
			return true;
		agent = w->agent[agent].parent;
		if (agent == NOBODY)
			return false;
	}
	return false;
}

/* A root need not know what becomes of those that it was made to forget. */
static bool is_member(const struct world *w, const struct asked *q, uint32_t i)
{
	return w->agent[i].member &&
	       !(w->agent[i].removed & root_bit(q->agent));
}

static void judge_hosts(struct world *w, const struct asked *q,
			const struct names *p, const struct walk_report *r,
			bool complete)
{
	bool calm = w->disturbed_us < q->start_us && net_sound(w, q);

	for (uint32_t i = 0; i < w->n; i++) {
		if (names_has(p, i))
			continue;
		if (complete && q->must[i] && is_member(w, q, i))
			world_fail(w,
				   "O3: agent %u, asked %.3f s before, says "
				   "complete of %u without %u, a member",
				   q->agent,
				   (double)(w->now_us - q->start_us) / 1e6,
				   q->scope.expected, i);
		if (calm && q->healthy[i] && undisturbed(w, q, i))
			world_fail(
				w,
				"O5: agent %u, asked %.3f s before with %.3f "
				"s, has no answer of %u, of %u %u missing",
				q->agent,
				(double)(w->now_us - q->start_us) / 1e6,
				(double)(q->end_us - q->start_us) / 1e6, i,
				r->expected, r->expected - r->answered);
	}
}

/*
 * Where all that are missing are named, none of them is in the answer; else one
 * may be that moved.
 */
static void judge_names(struct world *w, const struct asked *q,
			const struct names *p, const struct walk_report *r)
{
	uint32_t n;
	const struct tree_row *row = tree_rows(w->agent[q->agent].tree, &n);

	for (uint32_t i = 0; i < r->n_missing && !r->missing_more; i++) {
		const struct node_id *id = &row[r->missing[i].row].id;
		uint32_t other = agent_of_id(w, id);

		/* and not under another id */
		if (other < w->n && names_has(p, other) &&
		    node_id_equal(id, &w->agent[other].disk.id))
			world_fail(w,
				   "O3: agent %u names %u as missing, %s, "
				   "which is among the %u of %u",
				   q->agent, other,
				   missing_reason_name(r->missing[i].reason),
				   r->answered, r->expected);
	}
}

static void asked_drop(struct asked *q)
{
	struct asked **at = &q->w->queries;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	free(q->must);
	free(q->healthy);
	free(q->sent);
	free(q->wait);
	free(q);
}

static void took(struct world *w, uint64_t us)
{
	struct ask_stats *s = &w->asked;

	s->took_us = grow(s->took_us, &s->max_took, s->n_took + 1,
			  sizeof(*s->took_us));
	s->took_us[s->n_took++] = us;
}

/* Lies about an answer that was right. */
static void teeth_part(struct world *w, struct asked *q, struct names *p,
		       bool complete)
{
	uint32_t last = w->n - 1;

	if (tooth_bites(w, TOOTH_COUNT))
		p->hosts++;
	if (tooth_bites(w, TOOTH_LATE))
		q->end_us -= 3 * SECOND;
	if (complete && names_has(p, last) && tooth_bites(w, TOOTH_WRONG)) {
		p->bits[last / 64] &= ~(UINT64_C(1) << last % 64);
		q->healthy[last] = false;
	}
	if (!complete && names_has(p, last) && q->healthy[last] &&
	    tooth_bites(w, TOOTH_MISSING))
		p->bits[last / 64] &= ~(UINT64_C(1) << last % 64);
}

static void asked_done(void *arg, void *part, const struct coverage *c)
{
	struct asked *q = arg;
	struct world *w = q->w;
	const struct agent *a = &w->agent[q->agent];
	struct walk_report r;
	struct names *p = part;

	walk_report(a->walk, c, &q->scope, &r);
	if (p && words_of(w))
		teeth_part(w, q, p, r.complete && q->root);
	for (uint32_t i = 0; i < c->n_missing; i++)
		world_note(w, q->agent, agent_of_id(w, &c->missing[i].id),
			   missing_reason_name(c->missing[i].reason));
	w->asked.answered++;
	w->asked.complete += r.complete;
	w->asked.partial += !r.complete;
	took(w, w->now_us - q->start_us);
	if (r.answered != (p ? p->hosts : 0))
		world_fail(w, "O3: %u answered, %u in the part", r.answered,
			   p ? (unsigned)p->hosts : 0);
	if (r.expected != r.answered + r.n_missing + r.missing_more)
		world_fail(w, "O3: %u answered and %u missing of %u",
			   r.answered, r.n_missing + r.missing_more,
			   r.expected);
	if (w->now_us > q->end_us + LATE_US && a->disturbed_us < q->start_us)
		world_fail(w, "O4: agent %u answered %u ms after its budget",
			   q->agent, (unsigned)((w->now_us - q->end_us) / MS));
	if (r.complete && q->lies)
		world_fail(w, "O5: complete with a lie in it");
	if (p && !q->lies)
		judge_names(w, q, p, &r);
	/* with an empty disk it cannot know that there are others */
	if (q->must)
		judge_hosts(w, q, p, &r,
			    r.complete && q->root &&
				    !(a->amnesia && q->scope.expected == 1));
	free(part);
	asked_drop(q);
}

bool ask_start(struct world *w, uint32_t agent, uint32_t budget_ms)
{
	struct agent *a = &w->agent[agent];
	struct walk_options opt = { .round = 1, .budget_ms = budget_ms };
	struct asked *q;

	if (!agent_runs(a))
		return false;
	q = calloc(1, sizeof(*q));
	if (!q)
		abort();
	q->w = w;
	q->agent = agent;
	q->root = a->root;
	q->waits = NOBODY;
	q->start_us = w->now_us;
	q->end_us = w->now_us + budget_ms * MS;
	walk_scope(a->walk, false, &q->scope);
	opt.as_of = q->scope.as_of;
	draw_query_id(a, opt.query);
	memcpy(q->id, opt.query, sizeof(q->id));
	if (words_of(w)) {
		q->must = calloc(w->n, sizeof(bool));
		q->healthy = calloc(w->n, sizeof(bool));
		q->sent = calloc(w->n, sizeof(bool));
		q->wait = calloc(w->n, sizeof(*q->wait));
		if (!q->must || !q->healthy || !q->sent || !q->wait)
			abort();
		for (uint32_t i = 0; i < w->n; i++)
			q->must[i] = is_member(w, q, i);
		if (sound(a))
			mark_healthy(w, q, agent, budget_ms, 0);
	}
	world_note(w, agent, NOBODY, "asks all below");
	q->next = w->queries;
	w->queries = q;
	w->asked.asked++;
	q->query = walk_start(a->walk, &opt, &question, asked_done, q);
	if (q->query)
		mark_waits(w, q, agent, budget_ms);
	else
		asked_drop(q);
	ledger_touch(w, agent);
	return true;
}

void ask_ended(struct world *w, uint32_t agent)
{
	struct asked *q = w->queries, *next;

	for (; q; q = next) {
		next = q->next;
		if (q->agent != agent)
			continue;
		w->asked.dropped++;
		asked_drop(q);
	}
}

void ask_free(struct world *w)
{
	while (w->queries)
		asked_drop(w->queries);
	free(w->asked.took_us);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t ask_took(struct world *w, double quantile)
{
	struct ask_stats *s = &w->asked;

	if (!s->n_took)
		return 0;
	qsort(s->took_us, s->n_took, sizeof(*s->took_us), by_size);
	return s->took_us[(uint32_t)(quantile * (s->n_took - 1))];
}
