/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a window of features, in pieces that packets can wait for.
 *
 * First each entry is counted in every feature that its records match, and for
 * its peer; a heap of the records with most bytes is kept on the way.  Then
 * those are marked, and a last pass copies them and an even sample of the
 * others to the window's list.  The row is readable when all of that is done.
 *
 * Features of a connection (how it began, what became of it) count once; they
 * belong to the record of the side that began it.
 */
#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include "common/sketch/features_private.h"
#include "common/sketch/hllreg.h"
#include "common/util.h"

#define SLICE       128   /* entries a turn */
#define SLICE_MARK  512   /* records of the heap */
#define SLICE_SLOTS 16384 /* of each of two indexes */

#define REGULAR_PACKETS 8
#define REGULAR_CV      0.1
#define LOCAL_INTERFACE 65535

static const struct {
	uint8_t proto; /* 0: TCP and UDP */
	uint16_t port;
	uint8_t feature;
} services[] = {
	{ IPPROTO_UDP, 443, H_DPORT_QUIC },
	{ 0, 853, H_DPORT_DOT },
	{ 0, 3389, H_DPORT_RDP },
	{ IPPROTO_TCP, 5985, H_DPORT_ADMIN },
	{ IPPROTO_TCP, 5986, H_DPORT_ADMIN },
	{ IPPROTO_TCP, 6443, H_DPORT_ADMIN },
	{ IPPROTO_TCP, 10250, H_DPORT_ADMIN },
	{ IPPROTO_TCP, 1337, H_DPORT_HIGHRISK },
	{ IPPROTO_TCP, 4444, H_DPORT_HIGHRISK },
	{ IPPROTO_TCP, 5555, H_DPORT_HIGHRISK },
	{ IPPROTO_TCP, 31337, H_DPORT_HIGHRISK },
};

/* What a record says to the rules of the compat block */

static enum feature_address class_v4(const uint8_t *b)
{
	if (b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
	    (b[0] == 192 && b[1] == 168))
		return FEATURE_PRIVATE;
	/* this network, loopback, and from multicast on */
	if (b[0] == 0 || b[0] == 127 || b[0] >= 224)
		return FEATURE_NEITHER;
	if ((b[0] == 169 && b[1] == 254) ||
	    (b[0] == 100 && (b[1] & 0xc0) == 64))
		return FEATURE_NEITHER;
	return FEATURE_PUBLIC;
}

static enum feature_address class_v6(const struct ip_addr *a)
{
	if ((a->b[0] & 0xfe) == 0xfc)
		return FEATURE_PRIVATE;
	return addr_classify(a) == ADDR_UNICAST ? FEATURE_PUBLIC
						: FEATURE_NEITHER;
}

static enum feature_address address_class(const struct features *f,
					  const struct ip_addr *a)
{
	if (addr_is_v4(a))
		return class_v4(a->b + 12);
	return f->netflow ? FEATURE_NEITHER : class_v6(a);
}

static void record_ports(struct feature_record *r, const struct entry *e,
			 enum packet_dir dir, bool icmp)
{
	bool out = dir == PACKET_OUT;

	feature_record_set(r, FEATURE_SRC_PORT,
			   out ? e->id.lport : e->id.rport);
	if (!icmp)
		feature_record_set(r, FEATURE_DST_PORT,
				   out ? e->id.rport : e->id.lport);
}

static void record_interfaces(struct feature_record *r, const struct side *s,
			      enum packet_dir dir)
{
	enum feature_variable there = FEATURE_IN_INTERFACE;
	enum feature_variable here = FEATURE_OUT_INTERFACE;

	if (dir == PACKET_OUT) {
		there = FEATURE_OUT_INTERFACE;
		here = FEATURE_IN_INTERFACE;
	}
	feature_record_set(r, here, LOCAL_INTERFACE);
	if (s->interface)
		feature_record_set(r, there, s->interface);
}

static void match_compat(const struct features *f, const struct entry *e,
			 enum packet_dir dir, struct feature_set *out)
{
	const struct side *s = &e->side[dir], *back = &e->side[!dir];
	bool v4 = addr_is_v4(&e->id.local), icmp6;
	uint8_t proto = e->id.proto;
	struct feature_record r = { 0 };

	icmp6 = proto == IPPROTO_ICMPV6;
	if (icmp6 && !f->netflow)
		proto = IPPROTO_ICMP;
	feature_record_set(&r,
			   dir == PACKET_OUT ? FEATURE_SRC_IP : FEATURE_DST_IP,
			   address_class(f, &e->id.local));
	feature_record_set(&r,
			   dir == PACKET_OUT ? FEATURE_DST_IP : FEATURE_SRC_IP,
			   address_class(f, &e->id.remote));
	record_ports(&r, e, dir, icmp6 || (v4 && proto == IPPROTO_ICMP));
	feature_record_set(&r, FEATURE_PROTOCOL, proto);
	feature_record_set(&r, FEATURE_TCP_FLAGS, s->tcp_flags);
	feature_record_set(&r, FEATURE_SRC_TOS, s->tos);
	feature_record_set(&r, FEATURE_IN_PACKETS, s->packets);
	feature_record_set(&r, FEATURE_IN_BYTES, (int64_t)s->bytes);
	feature_record_set(&r, FEATURE_OUT_PACKETS,
			   f->netflow ? 0 : back->packets);
	feature_record_set(&r, FEATURE_OUT_BYTES,
			   f->netflow ? 0 : (int64_t)back->bytes);
	record_interfaces(&r, s, dir);
	features_match(&r, out);
}

/* What an entry says to those of the host block */

static bool has_ports(const struct entry *e)
{
	return e->id.proto == IPPROTO_TCP || e->id.proto == IPPROTO_UDP;
}

/* Of the side that did not begin. */
static uint16_t service_port(const struct entry *e)
{
	return e->state & FLOW_OUT_FIRST ? e->id.rport : e->id.lport;
}

static bool side_regular(const struct side *s)
{
	double gaps = (double)s->buffers - 1;
	double sum = (double)(s->last_ms - s->first_ms);

	if (s->buffers < REGULAR_PACKETS || sum == 0)
		return false;
	/* variance < (CV * mean)^2, all times gaps^2 */
	return gaps * (double)s->gaps_sq - sum * sum <
	       REGULAR_CV * REGULAR_CV * sum * sum;
}

static void match_flow(const struct entry *e, struct feature_set *out)
{
	const struct side *in = &e->side[PACKET_IN];
	const struct side *sent = &e->side[PACKET_OUT];
	bool tcp = e->id.proto == IPPROTO_TCP;

	if (e->state & FLOW_NEW)
		feature_set_add(out, e->state & FLOW_OUT_FIRST
					     ? H_FLOWS_OUT_NEW
					     : H_FLOWS_IN_NEW);
	if (sent->seen & SIDE_SYN && !in->packets)
		feature_set_add(out, H_SYN_OUT_UNANSWERED);
	if (e->state & FLOW_REFUSED)
		feature_set_add(out, H_SYN_IN_REFUSED);
	if (e->state & FLOW_OK)
		feature_set_add(out, H_HANDSHAKE_OK);
	if (side_regular(in) || side_regular(sent))
		feature_set_add(out, H_REGULAR_FLOWS);
	for (size_t i = 0; has_ports(e) && i < ARRAY_SIZE(services); i++) {
		uint8_t proto = services[i].proto;

		if (services[i].port == service_port(e) &&
		    (!proto || (proto == IPPROTO_TCP) == tcp))
			feature_set_add(out, services[i].feature);
	}
}

/* The record that stands for the whole connection. */
static enum packet_dir first_side(const struct entry *e)
{
	enum packet_dir d = e->state & FLOW_OUT_FIRST ? PACKET_OUT : PACKET_IN;

	return e->side[d].packets ? d : (enum packet_dir) !d;
}

/* Counted packet by packet: here only to say which records show it. */
static void match_packets(const struct entry *e, enum packet_dir dir,
			  struct feature_set *out)
{
	const struct side *s = &e->side[dir];

	feature_set_add(out, dir == PACKET_OUT ? H_BYTES_OUT : H_BYTES_IN);
	if (dir == PACKET_IN && s->tcp_flags & TCP_RST)
		feature_set_add(out, H_RST_IN);
	if (s->seen & SIDE_UNREACH)
		feature_set_add(out, H_ICMP_UNREACH_IN);
	if (s->seen & SIDE_RETRANS)
		feature_set_add(out, H_RETRANS_SEGMENTS);
	if (s->seen & SIDE_QUERY)
		feature_set_add(out, H_DNS_QUERIES);
}

void close_match(const struct features *f, const struct entry *e,
		 enum packet_dir dir, struct feature_set *out)
{
	match_compat(f, e, dir, out);
	match_packets(e, dir, out);
	if (dir == first_side(e))
		match_flow(e, out);
}

/* Counting */

static void count_set(const struct feature_set *set, struct features_row *row)
{
	for (unsigned int w = 0; w < ARRAY_SIZE(set->w); w++) {
		for (uint64_t rest = set->w[w]; rest; rest &= rest - 1)
			row->count[w * 64 + (unsigned)__builtin_ctzll(rest)]++;
	}
}

static void count_spread(const struct features *f, const struct entry *e,
			 struct features_row *row)
{
	bool out = e->state & FLOW_OUT_FIRST;
	uint16_t port = service_port(e);
	uint8_t be[2] = { (uint8_t)(port >> 8), (uint8_t)port };

	hllreg_insert(row->hll[out ? HLL_DST_IPS : HLL_SRC_IPS_IN],
		      FEATURES_HLL_P,
		      hash_domain(&f->seed, &e->id.remote, sizeof(e->id.remote),
				  HASH_KEY));
	if (e->id.proto == IPPROTO_TCP)
		row->parts.flows_tcp++;
	else if (e->id.proto == IPPROTO_UDP)
		row->parts.flows_udp++;
	if (!has_ports(e))
		return;
	if (out)
		hllreg_insert(row->hll[HLL_DST_PORTS], FEATURES_HLL_P,
			      hash_domain(&f->seed, be, sizeof(be), HASH_KEY));
	/* well-known ports have a bin each */
	if (port >= FEATURES_PORT_BINS / 2)
		port = FEATURES_PORT_BINS / 2 + port % (FEATURES_PORT_BINS / 2);
	row->ports[port] += row->ports[port] != UINT32_MAX;
}

void close_count(const struct features *f, const struct entry *e,
		 struct features_row *row)
{
	struct feature_set set;

	for (int d = 0; d < PACKET_DIRS; d++) {
		if (!e->side[d].packets)
			continue;
		set = (struct feature_set){ 0 };
		match_compat(f, e, (enum packet_dir)d, &set);
		count_set(&set, row);
		row->records++;
		row->parts.bytes += e->side[d].bytes;
	}
	set = (struct feature_set){ 0 };
	match_flow(e, &set);
	count_set(&set, row);
	count_spread(f, e, row);
}

/* Peers */

static struct peer *peer_of(struct features *f, const struct table *t,
			    const struct entry *e)
{
	struct closing *c = &f->closing;
	uint64_t h = siphash13(&f->local, &e->id.remote, sizeof(e->id.remote));
	uint32_t i = (uint32_t)h & c->index_mask;

	for (; f->peer_index[i]; i = (i + 1) & c->index_mask) {
		struct peer *p = &f->peer[f->peer_index[i] - 1];

		if (addr_equal(&t->entry[p->entry].id.remote, &e->id.remote))
			return p;
	}
	f->peer_index[i] = ++c->peers;
	f->peer[c->peers - 1] =
		(struct peer){ .entry = (uint32_t)(e - t->entry) };
	return &f->peer[c->peers - 1];
}

/* True if the peer was not yet contacted on this port. */
static bool pair_is_new(struct features *f, const struct table *t,
			const struct entry *e)
{
	struct {
		struct ip_addr remote;
		uint16_t port;
		uint8_t zero[6];
	} pair = { e->id.remote, e->id.rport, { 0 } };
	uint64_t h = siphash13(&f->local, &pair, sizeof(pair));
	uint32_t mask = f->closing.index_mask, i = (uint32_t)h & mask;

	for (; f->pair_index[i]; i = (i + 1) & mask) {
		const struct entry *o = &t->entry[f->pair_index[i] - 1];

		if (o->id.rport == e->id.rport &&
		    addr_equal(&o->id.remote, &e->id.remote))
			return false;
	}
	f->pair_index[i] = (uint32_t)(e - t->entry) + 1;
	return true;
}

static void peer_count(struct features *f, const struct table *t,
		       const struct entry *e, struct features_row *row)
{
	struct peer *p = peer_of(f, t, e);
	uint64_t *most_ports = &row->count[H_MAX_PORTS_PER_PEER];
	uint64_t *most_flows = &row->count[H_MAX_FLOWS_PER_PEER];

	p->flows++;
	p->bytes += e->side[PACKET_IN].bytes + e->side[PACKET_OUT].bytes;
	if (has_ports(e) && e->state & FLOW_OUT_FIRST && pair_is_new(f, t, e))
		p->ports++;
	*most_ports = MAX(*most_ports, p->ports);
	*most_flows = MAX(*most_flows, p->flows);
	row->parts.bytes_top = MAX(row->parts.bytes_top, p->bytes);
}

/* The largest records */

static void heap_sink(struct features *f, struct heap_item item)
{
	struct heap_item *h = f->heap;
	uint32_t n = f->closing.heap_n, i = 0;

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && h[child + 1].bytes < h[child].bytes)
			child++;
		if (h[child].bytes >= item.bytes)
			break;
		h[i] = h[child];
		i = child;
	}
	h[i] = item;
}

static void heap_add(struct features *f, uint64_t bytes, uint32_t record)
{
	struct heap_item item = { bytes, record }, *h = f->heap;
	uint32_t i = f->closing.heap_n;

	if (i == FLOWS_LARGE) {
		if (bytes > h[0].bytes)
			heap_sink(f, item);
		return;
	}
	f->closing.heap_n++;
	for (; i && h[(i - 1) / 2].bytes > bytes; i = (i - 1) / 2)
		h[i] = h[(i - 1) / 2];
	h[i] = item;
}

/* Stages */

static void stage_count(struct features *f, struct table *t, uint32_t i)
{
	struct features_row *row = f->closing.window->row;
	const struct entry *e = &t->entry[i];

	close_count(f, e, row);
	peer_count(f, t, e, row);
	if (t->records <= FEATURES_FLOWS)
		return;
	for (uint32_t d = 0; d < PACKET_DIRS; d++) {
		if (e->side[d].packets)
			heap_add(f, e->side[d].bytes, i << 1 | d);
	}
}

static void stage_mark(struct features *f, struct table *t, uint32_t i)
{
	uint32_t record = f->heap[i].record;

	t->entry[record >> 1].side[record & 1].seen |= SIDE_LARGE;
}

static void stage_clear(struct features *f, uint32_t i)
{
	f->peer_index[i] = f->pair_index[i] = 0;
}

static void keep(struct features *f, const struct entry *e, enum packet_dir dir)
{
	struct features_flows *list = f->closing.window->flows;
	struct features_flow *flow = &list->flow[list->n++];
	const struct side *s = &e->side[dir];
	bool out = dir == PACKET_OUT;
	struct packet p = {
		.src = out ? e->id.local : e->id.remote,
		.dst = out ? e->id.remote : e->id.local,
		.sport = out ? e->id.lport : e->id.rport,
		.dport = out ? e->id.rport : e->id.lport,
		.proto = e->id.proto,
	};

	assert(list->n <= FEATURES_FLOWS);
	*flow = (struct features_flow){
		.packets = s->packets,
		.bytes = s->bytes,
		.tcp_flags = s->tcp_flags,
		.tos = s->tos,
		.dir = (uint8_t)dir,
	};
	(void)key_build(KEY_FLOW, &p, &flow->key);
	close_match(f, e, dir, &flow->matched);
}

static void stage_keep(struct features *f, const struct table *t, uint32_t i)
{
	const struct entry *e = &t->entry[i];
	uint32_t rest = t->records - f->closing.heap_n;

	for (int d = 0; d < PACKET_DIRS; d++) {
		const struct side *s = &e->side[d];

		if (!s->packets)
			continue;
		if (t->records > FEATURES_FLOWS && !(s->seen & SIDE_LARGE)) {
			f->closing.spread += FEATURES_FLOWS - FLOWS_LARGE;
			if (f->closing.spread < rest)
				continue;
			f->closing.spread -= rest;
		}
		keep(f, e, (enum packet_dir)d);
	}
}

static void close_end(struct features *f)
{
	struct window *w = f->closing.window;

	w->valid = true;
	f->newest = (uint32_t)(w - f->window);
	f->closing.stage = CLOSE_IDLE;
}

/* How many steps the stage has, and how many make a turn. */
static uint32_t stage_steps(const struct features *f, const struct table *t,
			    uint32_t *slice)
{
	switch (f->closing.stage) {
	case CLOSE_CLEAR:
		*slice = SLICE_SLOTS;
		return f->closing.index_mask + 1;
	case CLOSE_MARK:
		*slice = SLICE_MARK;
		return f->closing.heap_n;
	default:
		*slice = SLICE;
		return t->n;
	}
}

static void stage_step(struct features *f, struct table *t, uint32_t i)
{
	switch (f->closing.stage) {
	case CLOSE_CLEAR:
		stage_clear(f, i);
		break;
	case CLOSE_COUNT:
		stage_count(f, t, i);
		break;
	case CLOSE_MARK:
		stage_mark(f, t, i);
		break;
	case CLOSE_KEEP:
		stage_keep(f, t, i);
		break;
	case CLOSE_IDLE:
		break;
	}
}

bool features_turn(struct features *f)
{
	struct closing *c = &f->closing;
	struct table *t = &f->table[!f->current];
	uint32_t steps, slice, end;

	if (c->stage == CLOSE_IDLE)
		return false;
	steps = stage_steps(f, t, &slice);
	end = MIN(steps, c->at + slice);
	for (; c->at < end; c->at++)
		stage_step(f, t, c->at);
	if (c->at < steps)
		return true;
	c->at = 0;
	if (c->stage++ == CLOSE_KEEP)
		close_end(f);
	return c->stage != CLOSE_IDLE;
}

static uint32_t index_size(uint32_t n)
{
	uint32_t size = 2;

	while (size < 2 * n)
		size *= 2;
	return size;
}

void close_begin(struct features *f, uint32_t quality)
{
	const struct table *t = &f->table[f->current];
	uint32_t slots = index_size(t->n);
	struct window *w;

	/* windows are long; only a replay comes here too early */
	while (features_turn(f))
		;
	w = &f->window[(f->newest + 1) % WINDOWS];
	w->valid = false;
	memcpy(w->row, f->row, sizeof(*w->row));
	w->row->quality = quality;
	if (w->row->overflow)
		w->row->quality |= FEATURES_OVERFLOW;
	*w->flows = (struct features_flows){
		.magic = FEATURES_FLOW_MAGIC,
		.interval = w->row->interval,
		.records = t->records,
	};
	f->closing = (struct closing){
		.stage = CLOSE_CLEAR,
		.index_mask = slots - 1,
		.window = w,
	};
	f->current = !f->current;
	table_clear(f, &f->table[f->current]);
}
