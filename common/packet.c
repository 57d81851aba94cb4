/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packet parser: bytes that a stranger chose, read once, in the hot path.
 *
 * A cursor walks the headers; its end is the captured length, cut down to the
 * datagram once the IP header has said how long that is, so that neither a
 * short capture nor padding behind the datagram is ever taken for a header.
 * Every read goes through cursor_take().  Nothing is allocated or kept.
 *
 * Limits: IPv6 only follows extension headers, at most EXT_HEADERS_MAX; tunnels
 * are not looked into; fragments are not put together.
 */
#include "common/packet.h"

#include <stdbool.h>
#include <string.h>

#include "common/util.h"

enum {
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	EXT_HEADER = 8, /* the shortest */
	EXT_HEADERS_MAX = 20,
	TCP_HEADER = 20,
	TCP_UP_TO_FLAGS = 14,
	UDP_AFTER_PORTS = 4,
	IP_LENGTH_MAX = 65535, /* what the 16-bit length fields can say */
};

enum {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16
};

/* Header bytes of the protocols that begin with two ports; others 0. */
static const uint8_t port_header[256] = {
	[IPPROTO_TCP] = TCP_HEADER, [IPPROTO_UDP] = 8,   [IPPROTO_UDPLITE] = 8,
	[IPPROTO_SCTP] = 12,        [IPPROTO_DCCP] = 12,
};

static const bool is_extension[256] = {
	[IPPROTO_HOPOPTS] = true, [IPPROTO_ROUTING] = true,
	[IPPROTO_DSTOPTS] = true, [IPPROTO_FRAGMENT] = true,
	[IPPROTO_AH] = true,
};

struct cursor {
	const uint8_t *data;
	size_t at, end; /* at <= end */
};

/* The next n bytes, or NULL (nothing is consumed) when there are fewer. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *at;

	if (c->end - c->at < n)
		return NULL;
	at = c->data + c->at;
	c->at += n;
	return at;
}

static inline uint16_t get_be16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t get_be32(const uint8_t *b)
{
	return (uint32_t)get_be16(b) << 16 | get_be16(b + 2);
}

static inline void get_ipv6(struct ip_addr *a, const uint8_t *b)
{
	memcpy(a->b, b, sizeof(a->b));
}

/* Ends the cursor where the datagram ends; it stands behind its header. */
static bool cursor_limit(struct cursor *c, uint32_t total, uint32_t len_bytes)
{
	if (total < c->at || total > len_bytes)
		return false;
	c->end = MIN(c->end, total);
	return true;
}

/* What a rule may ask of protocols without ports; short ones ask nothing. */
static void parse_icmp(struct packet *p, struct cursor *c)
{
	uint8_t own = p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	const uint8_t *h = p->proto == own ? cursor_take(c, 1) : NULL;

	if (!h)
		return;
	p->flags |= PACKET_ICMP;
	p->icmp_type = h[0];
}

static void parse_payload(struct packet *p, struct cursor *c)
{
	if (p->proto != IPPROTO_UDP || !cursor_take(c, UDP_AFTER_PORTS))
		return;
	p->payload = c->data + c->at;
	p->payload_len = c->end - c->at;
}

static bool parse_transport(struct packet *p, struct cursor *c)
{
	unsigned int hdr = port_header[p->proto];
	const uint8_t *h;

	if (!hdr) {
		parse_icmp(p, c);
		return true;
	}
	h = cursor_take(c, 4);
	if (!h)
		return false;
	p->sport = get_be16(h);
	p->dport = get_be16(h + 2);
	p->flags |= PACKET_PORTS;

	/* a tiny first fragment may end before the flags: still keyed */
	if (p->proto == IPPROTO_TCP && cursor_take(c, TCP_UP_TO_FLAGS - 4)) {
		p->flags |= PACKET_TCP;
		p->tcp_flags = h[13];
		p->tcp_seq = get_be32(h + 4);
		hdr = MAX(hdr, (h[12] >> 4) * 4u);
	}
	parse_payload(p, c);
	p->hdr_bytes = (uint16_t)(p->hdr_bytes + hdr);
	return true;
}

static bool parse_ipv4(struct packet *p, struct cursor *c)
{
	const uint8_t *h = cursor_take(c, IPV4_HEADER);
	uint32_t total, header;
	uint16_t fragment;

	if (!h)
		return false;
	p->tos = h[1];
	p->proto = h[9];
	addr_from_v4(&p->src, h + 12);
	addr_from_v4(&p->dst, h + 16);

	header = (h[0] & 15) * 4u;
	if (header < IPV4_HEADER || !cursor_take(c, header - IPV4_HEADER))
		return false;
	p->hdr_bytes = (uint16_t)header;

	/* a super-packet may be longer than the field can say: 0 then */
	total = get_be16(h + 2);
	if (!total && (p->flags & PACKET_GSO || p->len_bytes > IP_LENGTH_MAX))
		total = p->len_bytes;
	if (!cursor_limit(c, total, p->len_bytes))
		return false;

	fragment = get_be16(h + 6) & 0x3fff; /* more fragments, offset */
	if (fragment)
		p->flags |= PACKET_FRAGMENT;
	if (fragment & 0x1fff)
		return true;
	return parse_transport(p, c);
}

/*
 * Walks the extension headers up to the transport header.  *first: this packet
 * has that header, it is not a later fragment.
 */
static bool skip_extensions(struct packet *p, struct cursor *c, bool *first)
{
	for (unsigned int n = 0; is_extension[p->proto]; n++) {
		const uint8_t *h = cursor_take(c, EXT_HEADER);
		uint32_t len = EXT_HEADER;
		uint16_t fragment;

		if (!h || n == EXT_HEADERS_MAX)
			return false;
		if (p->proto == IPPROTO_FRAGMENT) {
			fragment = get_be16(h + 2) & 0xfff9; /* offset, more */
			if (fragment)
				p->flags |= PACKET_FRAGMENT;
			*first = fragment <= 1;
		} else if (p->proto == IPPROTO_AH) {
			len = (h[1] + 2) * 4u;
		} else {
			len = (h[1] + 1) * 8u;
		}
		if (len > EXT_HEADER && !cursor_take(c, len - EXT_HEADER))
			return false;
		p->proto = h[0];
		p->hdr_bytes = (uint16_t)c->at;
		if (!*first)
			break;
	}
	return true;
}

static bool parse_ipv6(struct packet *p, struct cursor *c)
{
	const uint8_t *h = cursor_take(c, IPV6_HEADER);
	uint32_t total;
	bool first = true;

	if (!h)
		return false;
	p->tos = (uint8_t)(get_be16(h) >> 4);
	p->proto = h[6];
	p->hdr_bytes = IPV6_HEADER;
	get_ipv6(&p->src, h + 8);
	get_ipv6(&p->dst, h + 24);
	/* nobody may speak in the name of an IPv4 host this way */
	if (addr_is_v4(&p->src) || addr_is_v4(&p->dst))
		return false;

	/* 0: a jumbogram, or a super-packet that the kernel did not label */
	total = IPV6_HEADER + get_be16(h + 4);
	if (total == IPV6_HEADER &&
	    (p->flags & PACKET_GSO ||
	     p->len_bytes > IPV6_HEADER + IP_LENGTH_MAX))
		total = p->len_bytes;
	if (!cursor_limit(c, total, p->len_bytes))
		return false;

	if (!skip_extensions(p, c, &first))
		return false;
	return !first || parse_transport(p, c);
}

void packet_parse(struct packet *p, const uint8_t *data, size_t caplen,
		  uint32_t len_bytes)
{
	struct cursor c = { .data = data, .end = caplen };
	bool ok = false;

	*p = (struct packet){
		.dir = p->dir,
		.flags = p->flags & PACKET_GSO,
		.ifindex = p->ifindex,
		.len_bytes = len_bytes,
		.segments = 1,
	};
	if (c.end && data[0] >> 4 == 4) {
		p->family = 4;
		ok = parse_ipv4(p, &c);
	} else if (c.end && data[0] >> 4 == 6) {
		p->family = 6;
		ok = parse_ipv6(p, &c);
	}
	if (!ok)
		p->flags |= PACKET_MALFORMED;
}

bool packet_protected(const struct packet *p, uint16_t agent_port,
		      uint16_t management_port)
{
	const uint8_t syn_mask = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK;

	if (!(p->flags & PACKET_PORTS))
		return false;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		return false;
	if (p->sport == agent_port || p->dport == agent_port)
		return true;
	if (p->proto != IPPROTO_TCP)
		return false;
	if (p->sport != management_port && p->dport != management_port)
		return false;
	return (p->tcp_flags & syn_mask) != TCP_SYN;
}
