/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting packets for features.
 *
 * A packet finds its flow's entry by one keyed hash and changes a few numbers
 * there; what a rule needs of many flows is left until the window is closed.
 * There are two tables.  When a window ends they change places: the full one is
 * closed a piece at a time, between packets, and stays until the next end, so
 * that a flow that goes on is known for one.
 *
 * Time.  A window ends when the clock says so, packets or not.  One that was
 * opened inside its interval is partial; one in which the clock was set, so
 * that wall and monotonic clock disagree by more than a tenth of it, says so.
 * A replay has the packets' time alone: it never goes back, and what it skips
 * were windows without traffic.
 *
 * All memory is one block of the owner.  Limits: cap records a window, what is
 * beyond is counted packet by packet; peaks of handshakes count those that
 * were active in their window; names in DNS as far as they were captured.
 */
#include "common/sketch/features.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/segment.h"
#include "common/sketch/features_private.h"
#include "common/sketch/hllreg.h"
#include "common/util.h"

#define ALIGN          64u
/* A slot of the index: entry + 1, generation of the table, part of the hash. */
#define ENTRY_BITS     17
#define ENTRY_MASK     ((1u << ENTRY_BITS) - 1)
#define GENERATION_MAX 127
#define TAG_SHIFT      24
#define SHIFT_PART     10 /* of a window: more is another length */
#define DNS_PORT       53
#define NAME_MAX_BYTES 255

enum {
	ICMP_UNREACHABLE = 3,
	ICMP6_UNREACHABLE = 1,
	DNS_HEADER = 12,
	DNS_RESPONSE = 0x80,
	DNS_RCODE = 0x0f,
	DNS_NXDOMAIN = 3,
	DNS_LABEL_MAX = 63,
	INTERFACE_LOOPBACK = 1, /* index of lo in every namespace */
};

/* Memory */

static size_t take(size_t *at, size_t bytes)
{
	size_t here = *at;

	*at = (here + bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	return here;
}

static uint32_t task_cap(const struct task_spec *t)
{
	return 1u << (t->records_log2 ? t->records_log2 : TASK_RECORDS_LOG2);
}

static size_t flows_bytes(void)
{
	return sizeof(struct features_flows) +
	       FEATURES_FLOWS * sizeof(struct features_flow);
}

/* Lays out the block; with base NULL its size is all that matters. */
static size_t layout(struct features *f, uint8_t *base, uint32_t cap)
{
	size_t at = 0, index = 2 * (size_t)cap * sizeof(uint32_t);
	struct features places = { 0 };

#define PLACE(member, bytes)                                         \
	do {                                                         \
		size_t here = take(&at, bytes);                      \
		places.member = base ? (void *)(base + here) : NULL; \
		if (base)                                            \
			f->member = places.member;                   \
	} while (0)
	(void)take(&at, sizeof(*f));
	PLACE(row, sizeof(*f->row));
	for (int i = 0; i < 2; i++) {
		PLACE(table[i].index, index);
		PLACE(table[i].entry, cap * sizeof(struct entry));
	}
	PLACE(peer, cap * sizeof(struct peer));
	PLACE(peer_index, index);
	PLACE(pair_index, index);
	PLACE(heap, FLOWS_LARGE * sizeof(struct heap_item));
	PLACE(served, SERVED * sizeof(uint64_t));
	for (int i = 0; i < WINDOWS; i++) {
		PLACE(window[i].row, sizeof(*f->row));
		PLACE(window[i].flows, flows_bytes());
	}
#undef PLACE
	return at;
}

size_t features_size(const struct task_spec *t)
{
	return layout(NULL, NULL, task_cap(t));
}

struct features *features_init(void *mem, const struct task_spec *t,
			       const struct hash_key *local, bool replay)
{
	struct features *f = mem;

	assert((uintptr_t)mem % ALIGN == 0);
	f->cap = task_cap(t);
	(void)layout(f, mem, f->cap);
	f->window_ms = t->window_ms;
	f->replay = replay;
	f->netflow = t->semantics == FEATURES_NETFLOW;
	f->schema = features_schema((enum feature_semantics)t->semantics,
				    t->window_ms / 1000, FEATURE_BLOCKS);
	f->fp = hash_fingerprint(&t->seed);
	f->seed = t->seed;
	f->local = *local;
	f->table[0].generation = f->table[1].generation = 1;
	return f;
}

/* Time */

static void window_open(struct features *f, uint64_t k, uint64_t wall_ms,
			uint64_t mono_ms, bool partial)
{
	memset(f->row, 0, sizeof(*f->row));
	f->row->magic = FEATURES_ROW_MAGIC;
	f->row->window_s = f->window_ms / 1000;
	f->row->schema = f->schema;
	f->row->fp = f->fp;
	f->row->interval = k;
	f->row->readers = 1;
	f->open = true;
	f->partial = partial;
	f->interval = k;
	f->opened_wall_ms = wall_ms;
	f->opened_mono_ms = mono_ms;
	f->half_open = 0;
}

/* True if the two clocks disagree about how long the window was. */
static bool clock_was_set(const struct features *f, uint64_t wall_ms,
			  uint64_t mono_ms)
{
	int64_t wall = (int64_t)(wall_ms - f->opened_wall_ms);
	int64_t mono = (int64_t)(mono_ms - f->opened_mono_ms);

	return llabs(wall - mono) * SHIFT_PART > mono;
}

static uint32_t window_quality(const struct features *f, uint64_t wall_ms,
			       uint64_t mono_ms)
{
	uint32_t q = f->partial ? FEATURES_PARTIAL : 0;

	if (clock_was_set(f, wall_ms, mono_ms))
		q |= FEATURES_CLOCK;
	return q;
}

/* Windows between two packets of a replay had none. */
static void replay_skip(struct features *f, uint64_t k)
{
	uint64_t next = f->interval + 1;

	for (next = MAX(next, k - MIN(k, FEATURES_KEPT)); next < k; next++) {
		f->follows = next == f->interval + 1;
		window_open(f, next, next * f->window_ms, next * f->window_ms,
			    false);
		close_begin(f, 0);
	}
}

void features_clock(struct features *f, uint64_t wall_ms, uint64_t mono_ms)
{
	uint64_t k = wall_ms / f->window_ms;
	bool late = wall_ms % f->window_ms > f->window_ms / SHIFT_PART;

	if (f->replay)
		mono_ms = wall_ms;
	f->wall_ms = wall_ms;
	if (!f->open) {
		window_open(f, k, wall_ms, mono_ms,
			    wall_ms % f->window_ms != 0);
		return;
	}
	if (k == f->interval || (f->replay && k < f->interval)) {
		f->now_ms = (uint32_t)(mono_ms - f->opened_mono_ms);
		return;
	}
	close_begin(f, window_quality(f, wall_ms, mono_ms));
	if (f->replay)
		replay_skip(f, k);
	f->follows = k == f->interval + 1;
	/* what a replay skips of a window had no packets */
	window_open(f, k, wall_ms, mono_ms, late && !f->replay);
	f->now_ms = 0;
}

void features_end(struct features *f)
{
	if (f->open) {
		close_begin(f, FEATURES_PARTIAL);
		f->follows = false;
		f->open = false;
	}
	while (features_turn(f))
		;
}

/* Flows */

void table_clear(const struct features *f, struct table *t)
{
	t->n = t->records = 0;
	if (t->generation++ < GENERATION_MAX)
		return;
	memset(t->index, 0, 2 * (size_t)f->cap * sizeof(*t->index));
	t->generation = 1;
}

/* What a slot of this flow has beside the entry. */
static uint32_t table_tag(const struct table *t, uint64_t hash)
{
	return (uint32_t)(hash >> 32) >> TAG_SHIFT << TAG_SHIFT |
	       t->generation << ENTRY_BITS;
}

static struct entry *table_probe(const struct features *f,
				 const struct table *t,
				 const struct flow_id *id, uint64_t hash,
				 uint32_t *slot)
{
	const uint32_t of_now = GENERATION_MAX << ENTRY_BITS;
	uint32_t mask = 2 * f->cap - 1, tag = table_tag(t, hash);

	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
		uint32_t v = t->index[i];
		struct entry *e;

		if ((v ^ tag) & of_now) {
			*slot = i;
			return NULL;
		}
		e = &t->entry[(v & ENTRY_MASK) - 1];
		if ((v & ~ENTRY_MASK) == tag &&
		    !memcmp(&e->id, id, sizeof(*id)))
			return e;
	}
}

struct entry *table_find(const struct features *f, const struct table *t,
			 const struct flow_id *id, uint64_t hash)
{
	uint32_t slot;

	return table_probe(f, t, id, hash, &slot);
}

static void handshake_open(struct features *f, struct entry *e)
{
	uint64_t *peak = &f->row->count[H_HALF_OPEN_PEAK];

	e->state |= FLOW_OPENING;
	f->half_open++;
	*peak = MAX(*peak, f->half_open);
}

static void handshake_end(struct features *f, struct entry *e)
{
	if (e->state & FLOW_OPENING)
		f->half_open--;
	e->state &= (uint8_t) ~(FLOW_OPENING | FLOW_ANSWERED | FLOW_SYN_OUT);
}

/* A flow that is new in this window: perhaps it was in the one before. */
static void entry_begin(struct features *f, struct entry *e,
			const struct flow_id *id, uint64_t hash,
			enum packet_dir dir)
{
	const struct table *before = &f->table[!f->current];
	const struct entry *old = NULL;

	*e = (struct entry){ .id = *id };
	if (f->follows && before->n)
		old = table_find(f, before, id, hash);
	if (!old) {
		e->state = FLOW_NEW;
		if (dir == PACKET_OUT)
			e->state |= FLOW_OUT_FIRST;
		return;
	}
	e->seq_end = old->seq_end;
	e->state = old->state & FLOW_CARRIED;
	if (e->state & FLOW_OPENING)
		handshake_open(f, e);
}

/* The packet's entry, new if need be; NULL: no room for its record. */
static struct entry *flow_entry(struct features *f, const struct flow_id *id,
				enum packet_dir dir)
{
	struct table *t = &f->table[f->current];
	uint64_t hash = siphash13(&f->local, id, sizeof(*id));
	uint32_t slot = 0;
	struct entry *e = table_probe(f, t, id, hash, &slot);

	if (e && e->side[dir].packets)
		return e;
	if (t->records == f->cap)
		return NULL;
	t->records++;
	if (e)
		return e;
	e = &t->entry[t->n++];
	t->index[slot] = table_tag(t, hash) | t->n;
	entry_begin(f, e, id, hash, dir);
	return e;
}

static void flow_identify(const struct packet *p, struct flow_id *id)
{
	bool out = p->dir == PACKET_OUT;

	*id = (struct flow_id){
		.local = out ? p->src : p->dst,
		.remote = out ? p->dst : p->src,
		.lport = out ? p->sport : p->dport,
		.rport = out ? p->dport : p->sport,
		.proto = p->proto,
	};
}

/* What TCP says */

static void served_port(struct features *f, uint16_t port)
{
	uint64_t now = f->interval + 1, *last = &f->served[port];
	uint8_t be[2] = { (uint8_t)(port >> 8), (uint8_t)port };

	if (*last == now)
		return;
	if (!*last || now < *last || now - *last > SERVED_FOR)
		f->row->count[H_SERVED_PORTS_NEW]++;
	*last = now;
	hllreg_insert(f->row->hll[HLL_SERVED_PORTS], FEATURES_HLL_P,
		      hash_domain(&f->seed, be, sizeof(be), HASH_KEY));
}

static void tcp_handshake(struct features *f, struct entry *e,
			  const struct packet *p)
{
	bool out = p->dir == PACKET_OUT;
	bool syn = p->tcp_flags & TCP_SYN, ack = p->tcp_flags & TCP_ACK;
	bool own = out == !!(e->state & FLOW_SYN_OUT); /* the opener's packet */

	if (p->tcp_flags & TCP_RST) {
		if (out && e->state & FLOW_OPENING &&
		    !(e->state & (FLOW_SYN_OUT | FLOW_ANSWERED)))
			e->state |= FLOW_REFUSED;
		handshake_end(f, e);
	} else if (syn && !ack) {
		e->side[p->dir].seen |= SIDE_SYN;
		if (e->state & FLOW_OPENING && own)
			return; /* once more */
		handshake_end(f, e);
		handshake_open(f, e);
		if (out)
			e->state |= FLOW_SYN_OUT;
	} else if (syn) {
		if (out)
			served_port(f, e->id.lport);
		if (e->state & FLOW_OPENING && !own)
			e->state |= FLOW_ANSWERED;
	} else if (ack && own && e->state & FLOW_ANSWERED) {
		e->state |= FLOW_OK;
		handshake_end(f, e);
	}
}

static void tcp_sequence(struct features *f, struct entry *e,
			 const struct packet *p)
{
	uint32_t payload =
		p->len_bytes > p->hdr_bytes ? p->len_bytes - p->hdr_bytes : 0;
	uint32_t end = p->tcp_seq + payload + !!(p->tcp_flags & TCP_SYN);
	int32_t ahead = (int32_t)(p->tcp_seq - e->seq_end);

	if (p->flags & PACKET_FRAGMENT)
		return;
	if (!(e->state & FLOW_SEQUENCE) || p->tcp_flags & TCP_SYN) {
		e->seq_end = end;
		e->state |= FLOW_SEQUENCE;
		return;
	}
	if (payload && ahead < 0) {
		f->row->count[H_RETRANS_SEGMENTS] += p->segments;
		e->side[PACKET_OUT].seen |= SIDE_RETRANS;
	}
	if ((int32_t)(end - e->seq_end) > 0)
		e->seq_end = end;
}

static void tcp_count(struct features *f, struct entry *e,
		      const struct packet *p)
{
	struct side *s = &e->side[p->dir];

	s->tcp_flags |= p->tcp_flags;
	if (p->dir == PACKET_IN && p->tcp_flags & TCP_RST)
		f->row->count[H_RST_IN]++;
	if (p->tcp_flags & (TCP_SYN | TCP_RST) || e->state & FLOW_ANSWERED)
		tcp_handshake(f, e, p);
	if (p->dir == PACKET_OUT)
		tcp_sequence(f, e, p);
}

/* What DNS says */

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
}

static void dns_name(struct features *f, const uint8_t *q, size_t len)
{
	uint64_t *longest = &f->row->count[H_DNS_LONGEST_LABEL];
	uint8_t rest[NAME_MAX_BYTES];
	size_t at = 0, n = 0;

	while (at < len && q[at] && q[at] <= DNS_LABEL_MAX) {
		size_t end = MIN(len, at + 1 + q[at]);
		bool first = at == 0;

		*longest = MAX(*longest, q[at]);
		for (; !first && at < end && n < sizeof(rest); at++)
			rest[n++] = lower(q[at]);
		at = end;
	}
	hllreg_insert(f->row->hll[HLL_DNS_NAMES], FEATURES_HLL_P,
		      siphash13(&f->seed, rest, n));
}

static void dns_count(struct features *f, struct entry *e,
		      const struct packet *p)
{
	const uint8_t *d = p->payload;
	bool answer;

	if (!d || p->payload_len < DNS_HEADER)
		return;
	answer = d[2] & DNS_RESPONSE;
	if (p->dir == PACKET_OUT && p->dport == DNS_PORT && !answer) {
		f->row->count[H_DNS_QUERIES]++;
		e->side[PACKET_OUT].seen |= SIDE_QUERY;
		dns_name(f, d + DNS_HEADER, p->payload_len - DNS_HEADER);
	} else if (p->dir == PACKET_IN && p->sport == DNS_PORT && answer) {
		f->row->parts.dns_answers++;
		f->row->parts.dns_nxdomain += (d[3] & DNS_RCODE) ==
					      DNS_NXDOMAIN;
	}
}

/* Packets */

static uint8_t interface_class(const struct packet *p, uint32_t uplink)
{
	if (!p->ifindex)
		return 0;
	if (p->ifindex == INTERFACE_LOOPBACK)
		return 1;
	return p->ifindex == uplink ? 2 : 3;
}

static void side_count(struct features *f, struct side *s,
		       const struct packet *p, uint32_t uplink)
{
	uint64_t gap = f->now_ms - s->last_ms;
	uint32_t room = UINT32_MAX - s->packets;

	if (!s->packets) {
		s->tos = p->tos;
		s->interface = interface_class(p, uplink);
		s->first_ms = f->now_ms;
		gap = 0;
	}
	s->packets += MIN(p->segments, room);
	s->buffers += s->buffers != UINT32_MAX;
	s->bytes += p->len_bytes + segment_hidden_bytes(p);
	s->gaps_sq += gap * gap;
	s->last_ms = f->now_ms;
}

static void icmp_count(struct features *f, struct entry *e,
		       const struct packet *p)
{
	uint8_t unreachable = p->family == 4 ? ICMP_UNREACHABLE
					     : ICMP6_UNREACHABLE;

	if (p->dir != PACKET_IN || p->icmp_type != unreachable)
		return;
	f->row->count[H_ICMP_UNREACH_IN]++;
	e->side[PACKET_IN].seen |= SIDE_UNREACH;
}

static void packet_count(struct features *f, struct entry *e,
			 const struct packet *p, uint32_t uplink)
{
	side_count(f, &e->side[p->dir], p, uplink);
	if (p->flags & PACKET_TCP)
		tcp_count(f, e, p);
	else if (p->proto == IPPROTO_UDP)
		dns_count(f, e, p);
	else if (p->flags & PACKET_ICMP)
		icmp_count(f, e, p);
}

/* A record of its own, which nothing that comes later will find. */
static void packet_overflow(struct features *f, const struct flow_id *id,
			    const struct packet *p, uint32_t uplink)
{
	struct entry e = { .id = *id };
	uint32_t half_open = f->half_open;

	e.state = p->dir == PACKET_OUT ? FLOW_NEW | FLOW_OUT_FIRST : FLOW_NEW;
	packet_count(f, &e, p, uplink);
	f->half_open = half_open;
	f->row->overflow++;
	close_count(f, &e, f->row);
}

void features_packet(struct features *f, const struct packet *p,
		     uint32_t uplink)
{
	enum packet_dir dir = (enum packet_dir)p->dir;
	struct flow_id id;
	struct entry *e;

	if (p->flags & PACKET_MALFORMED || !f->open)
		return;
	f->row->count[dir == PACKET_OUT ? H_BYTES_OUT : H_BYTES_IN] +=
		p->len_bytes + segment_hidden_bytes(p);
	flow_identify(p, &id);
	e = flow_entry(f, &id, dir);
	if (e)
		packet_count(f, e, p, uplink);
	else
		packet_overflow(f, &id, p, uplink);
}

int features_window(const struct features *f, uint64_t k,
		    const struct features_row **row,
		    const struct features_flows **flows, size_t *flows_len)
{
	for (uint32_t i = 0; i < WINDOWS; i++) {
		const struct window *w =
			&f->window[(f->newest + WINDOWS - i) % WINDOWS];

		if (!w->valid || w->row->interval != k)
			continue;
		*row = w->row;
		*flows = w->flows;
		*flows_len = sizeof(*w->flows) +
			     w->flows->n * sizeof(w->flows->flow[0]);
		return 0;
	}
	if ((f->open && k >= f->interval) ||
	    (f->closing.stage != CLOSE_IDLE &&
	     f->closing.window->row->interval == k))
		return -EAGAIN;
	return -ENOENT;
}
