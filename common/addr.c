/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses, prefixes, endpoints: text, sockets, classes.  inet_pton() reads
 * the literals; it takes no zone and no leading zero in an octet.  IPv6 is
 * written here, because inet_ntop() writes ::1:0 as ::0.1.0.0.  Pure functions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/addr.h"
#include "common/util.h"

#define V4_BITS 96 /* bits in front of an IPv4 address */

static const uint8_t v4_head[12] = { [10] = 0xff, [11] = 0xff };

bool addr_is_v4(const struct ip_addr *a)
{
	return memcmp(a->b, v4_head, sizeof(v4_head)) == 0;
}

bool addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

void addr_from_v4(struct ip_addr *a, const void *in4)
{
	memcpy(a->b, v4_head, sizeof(v4_head));
	memcpy(a->b + sizeof(v4_head), in4, 4);
}

int addr_parse(const char *s, size_t len, struct ip_addr *out)
{
	char text[ADDR_TEXT_LEN];
	struct in6_addr in6;
	struct in_addr in4;

	if (len >= sizeof(text) || memchr(s, '\0', len))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, &in4) == 1)
		addr_from_v4(out, &in4);
	else if (inet_pton(AF_INET6, text, &in6) == 1)
		memcpy(out->b, &in6, sizeof(out->b));
	else
		return -EINVAL;
	return 0;
}

/*
 * The longest run of at least two zero groups, the first of equal ones:
 * returns its length, 0 if there is none.
 */
static size_t zero_run(const uint16_t group[8], size_t *start)
{
	size_t best = 1, n = 0;

	for (size_t i = 0; i < 8; i++) {
		n = group[i] == 0 ? n + 1 : 0;
		if (n > best) {
			best = n;
			*start = i + 1 - n;
		}
	}
	return best > 1 ? best : 0;
}

static void addr_format_v6(const struct ip_addr *a, char out[ADDR_TEXT_LEN])
{
	uint16_t group[8];
	size_t run, start = 8, n = 0;

	for (size_t i = 0; i < 8; i++)
		group[i] = (uint16_t)(a->b[2 * i] << 8 | a->b[2 * i + 1]);
	run = zero_run(group, &start);
	for (size_t i = 0; i < 8; i++) {
		if (run > 0 && i == start) {
			n += (size_t)snprintf(out + n, ADDR_TEXT_LEN - n, "::");
			i += run - 1;
			continue;
		}
		n += (size_t)snprintf(out + n, ADDR_TEXT_LEN - n, "%s%x",
				      i == 0 || i == start + run ? "" : ":",
				      group[i]);
	}
}

/* Most addresses there are, in every message: not by printf(). */
static void addr_format_v4(const struct ip_addr *a, char *out)
{
	for (size_t i = 12; i < 16; i++) {
		uint8_t n = a->b[i];

		if (n >= 100)
			*out++ = (char)('0' + n / 100);
		if (n >= 10)
			*out++ = (char)('0' + n / 10 % 10);
		*out++ = (char)('0' + n % 10);
		*out++ = i < 15 ? '.' : '\0';
	}
}

void addr_format(const struct ip_addr *a, char out[ADDR_TEXT_LEN])
{
	if (addr_is_v4(a))
		addr_format_v4(a, out);
	else
		addr_format_v6(a, out);
}

/* The bits of byte i that belong to a prefix of len bits. */
static uint8_t prefix_mask(unsigned int len, unsigned int i)
{
	unsigned int n = len > 8 * i ? MIN(len - 8 * i, 8) : 0;

	return (uint8_t)(0xff00 >> n);
}

int prefix_parse(const char *s, size_t len, struct ip_prefix *out)
{
	const char *slash = memchr(s, '/', len);
	size_t addr_len = slash ? (size_t)(slash - s) : len;
	uint64_t bits = 128;
	bool dotted = !memchr(s, ':', addr_len);
	struct ip_prefix p;

	if (addr_parse(s, addr_len, &p.addr))
		return -EINVAL;
	if (slash && parse_u64(slash + 1, len - addr_len - 1, 0,
			       dotted ? 128 - V4_BITS : 128, &bits))
		return -EINVAL;
	if (slash && dotted)
		bits += V4_BITS;
	/* ::ffff:0:0/80 would be neither IPv4 nor IPv6. */
	if (addr_is_v4(&p.addr) && bits < V4_BITS)
		return -EINVAL;
	for (unsigned int i = 0; i < sizeof(p.addr.b); i++)
		p.addr.b[i] &= prefix_mask((unsigned int)bits, i);
	p.len = (uint8_t)bits;
	*out = p;
	return 0;
}

void prefix_format(const struct ip_prefix *p, char out[PREFIX_TEXT_LEN])
{
	int skip = addr_is_v4(&p->addr) ? V4_BITS : 0;
	size_t n;

	addr_format(&p->addr, out);
	n = strlen(out);
	if (p->len < 128)
		snprintf(out + n, PREFIX_TEXT_LEN - n, "/%d", p->len - skip);
}

bool prefix_contains(const struct ip_prefix *p, const struct ip_addr *a)
{
	unsigned int whole = p->len / 8;

	if (memcmp(p->addr.b, a->b, whole) != 0)
		return false;
	if (whole < sizeof(a->b) &&
	    ((p->addr.b[whole] ^ a->b[whole]) & prefix_mask(p->len, whole)))
		return false;
	/* A short IPv6 prefix, ::/0 above all, has no IPv4 address in it. */
	return p->len >= V4_BITS || !addr_is_v4(a);
}

bool prefix_covers(const struct ip_prefix *outer, const struct ip_prefix *inner)
{
	return outer->len <= inner->len && prefix_contains(outer, &inner->addr);
}

int endpoint_parse(const char *s, size_t len, uint16_t default_port,
		   struct endpoint *out)
{
	const char *end = s + len, *host = s, *host_end, *colon;
	bool bracket = len > 0 && s[0] == '[';
	struct endpoint e = { .port = default_port };
	uint64_t port;

	if (bracket) {
		host++;
		host_end = memchr(s, ']', len);
		if (!host_end)
			return -EINVAL;
		colon = host_end + 1;
		if (!memchr(host, ':', (size_t)(host_end - host)))
			return -EINVAL;
	} else {
		colon = memchr(s, ':', len);
		/* Two colons: an IPv6 literal without port. */
		if (!colon || memchr(colon + 1, ':', (size_t)(end - colon - 1)))
			colon = end;
		host_end = colon;
	}
	if (addr_parse(host, (size_t)(host_end - host), &e.addr))
		return -EINVAL;
	if (colon < end) {
		if (*colon != ':' ||
		    parse_u64(colon + 1, (size_t)(end - colon - 1), 1,
			      UINT16_MAX, &port))
			return -EINVAL;
		e.port = (uint16_t)port;
	}
	*out = e;
	return 0;
}

void endpoint_format(const struct endpoint *e, uint16_t default_port,
		     char out[ENDPOINT_TEXT_LEN])
{
	bool bracket = !addr_is_v4(&e->addr);
	char text[ADDR_TEXT_LEN];

	addr_format(&e->addr, text);
	if (default_port != 0 && e->port == default_port)
		snprintf(out, ENDPOINT_TEXT_LEN, "%s", text);
	else
		snprintf(out, ENDPOINT_TEXT_LEN, bracket ? "[%s]:%u" : "%s:%u",
			 text, e->port);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && addr_equal(&a->addr, &b->addr);
}

static enum addr_class addr_classify_v4(const uint8_t b[4])
{
	static const uint8_t ones[4] = { 255, 255, 255, 255 };
	static const uint8_t zeros[4];

	if (memcmp(b, zeros, 4) == 0)
		return ADDR_UNSPECIFIED;
	if (memcmp(b, ones, 4) == 0)
		return ADDR_BROADCAST;
	if (b[0] == 127)
		return ADDR_LOOPBACK;
	if (b[0] == 169 && b[1] == 254)
		return ADDR_LINK_LOCAL;
	return b[0] >> 4 == 14 ? ADDR_MULTICAST : ADDR_UNICAST;
}

enum addr_class addr_classify(const struct ip_addr *a)
{
	if (addr_is_v4(a))
		return addr_classify_v4(a->b + sizeof(v4_head));
	if (memcmp(a->b, &in6addr_any, sizeof(a->b)) == 0)
		return ADDR_UNSPECIFIED;
	if (memcmp(a->b, &in6addr_loopback, sizeof(a->b)) == 0)
		return ADDR_LOOPBACK;
	if (a->b[0] == 0xfe && a->b[1] >> 6 == 2)
		return ADDR_LINK_LOCAL;
	return a->b[0] == 0xff ? ADDR_MULTICAST : ADDR_UNICAST;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e,
			       struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in4 = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (addr_is_v4(&e->addr)) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(e->port);
		memcpy(&in4->sin_addr, e->addr.b + sizeof(v4_head), 4);
		return sizeof(*in4);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(e->port);
	memcpy(&in6->sin6_addr, e->addr.b, sizeof(e->addr.b));
	return sizeof(*in6);
}

int endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *out)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)sa;

	switch (sa->sa_family) {
	case AF_INET:
		addr_from_v4(&out->addr, &in4->sin_addr);
		out->port = ntohs(in4->sin_port);
		return 0;
	case AF_INET6:
		memcpy(out->addr.b, &in6->sin6_addr, sizeof(out->addr.b));
		out->port = ntohs(in6->sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}
