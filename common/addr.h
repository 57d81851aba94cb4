/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses, prefixes, endpoints.  Every address is 16 bytes in network order;
 * IPv4 a.b.c.d is held as ::ffff:a.b.c.d, and text "::ffff:a.b.c.d" means the
 * IPv4 address.  IPv6 is written as RFC 5952 says.
 */
#ifndef LINNET_ADDR_H
#define LINNET_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct ip_addr {
	uint8_t b[16];
};

struct ip_prefix {
	struct ip_addr addr; /* host bits zero */
	uint8_t len; /* 0..128 of the 16 bytes: IPv4 a.b.c.d/n has 96 + n */
};

struct endpoint {
	struct ip_addr addr;
	uint16_t port; /* host order */
};

#define ADDR_TEXT_LEN     46 /* with NUL */
#define PREFIX_TEXT_LEN   50
#define ENDPOINT_TEXT_LEN 54 /* "[v6]:port" */

bool addr_is_v4(const struct ip_addr *a);
bool addr_equal(const struct ip_addr *a, const struct ip_addr *b);
void addr_from_v4(struct ip_addr *a, const void *in4); /* 4 bytes */

/*
 * Literal of len bytes; strict: four decimal octets without leading zeros, or
 * an IPv6 literal without zone.  0 or -EINVAL.
 */
int addr_parse(const char *s, size_t len, struct ip_addr *out);
void addr_format(const struct ip_addr *a, char out[ADDR_TEXT_LEN]);

/* "A" or "A/n"; host bits are cleared.  0 or -EINVAL. */
int prefix_parse(const char *s, size_t len, struct ip_prefix *out);
/* "A/n", without "/n" for a single host. */
void prefix_format(const struct ip_prefix *p, char out[PREFIX_TEXT_LEN]);
bool prefix_contains(const struct ip_prefix *p, const struct ip_addr *a);
bool prefix_covers(const struct ip_prefix *outer,
		   const struct ip_prefix *inner);

/* "A", "A:port", "[v6]", "[v6]:port", "v6" alone.  0 or -EINVAL. */
int endpoint_parse(const char *s, size_t len, uint16_t default_port,
		   struct endpoint *out);
/* The port is left out when it equals default_port (0: always written). */
void endpoint_format(const struct endpoint *e, uint16_t default_port,
		     char out[ENDPOINT_TEXT_LEN]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/* What an address may be used for. */
enum addr_class {
	ADDR_UNICAST,
	ADDR_LOOPBACK,
	ADDR_UNSPECIFIED,
	ADDR_LINK_LOCAL,
	ADDR_MULTICAST,
	ADDR_BROADCAST, /* 255.255.255.255 */
};
enum addr_class addr_classify(const struct ip_addr *a);

/* IPv4 becomes AF_INET.  Returns the sockaddr's length. */
socklen_t endpoint_to_sockaddr(const struct endpoint *e,
			       struct sockaddr_storage *ss);
/* 0, or -EAFNOSUPPORT for another family. */
int endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *out);

#endif
