/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One packet, parsed once: from raw bytes that start at the IP header to the
 * fields that keys and filters use.  Pure and bounded: any bytes are allowed.
 */
#ifndef LINNET_PACKET_H
#define LINNET_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

enum packet_dir {
	PACKET_IN,
	PACKET_OUT,
	PACKET_DIRS
};

enum packet_flag {
	PACKET_PORTS = 1 << 0,     /* sport and dport are valid */
	PACKET_MALFORMED = 1 << 1, /* yields no key: see packet_parse() */
	PACKET_FRAGMENT = 1 << 2,  /* any fragment, the first included */
	PACKET_GSO = 1 << 3,       /* super-packet: set by the back end */
	PACKET_TCP = 1 << 4,       /* tcp_flags and tcp_seq are valid */
	PACKET_ICMP = 1 << 5,      /* icmp_type is valid; ICMPv6 too */
};

struct packet {
	struct ip_addr src, dst;
	uint16_t sport, dport; /* host order; 0 without PACKET_PORTS */
	uint8_t family;        /* 4, 6; 0 when malformed before the version */
	uint8_t proto;         /* of the last header reached */
	uint8_t dir;           /* enum packet_dir, set by the caller */
	uint8_t flags;         /* enum packet_flag */
	uint8_t tcp_flags;     /* as on the wire: FIN 1, SYN 2, RST 4, ACK 16 */
	uint8_t tos;           /* or traffic class, all eight bits */
	uint8_t icmp_type;
	uint16_t hdr_bytes; /* IP and transport headers, as far as known */
	uint32_t len_bytes; /* network-layer length as the kernel says */
	uint32_t segments; /* wire packets, estimated; 1 if not a super-packet */
	uint32_t tcp_seq;
	uint32_t ifindex; /* came in or leaves by; 0: not known; the caller's */
	/* what UDP carries, as far as captured; borrowed, NULL: nothing */
	const uint8_t *payload;
	size_t payload_len;
};

/*
 * Fills p from caplen bytes at data; len_bytes is the kernel's length of the
 * packet (>= what the header says or not: the header is not trusted for it).
 * p->dir, p->ifindex and PACKET_GSO are the caller's and kept; segments
 * becomes 1.
 * Ports: TCP, UDP, UDP-Lite, SCTP, DCCP, only in unfragmented packets and
 * first fragments.  IPv6 extension headers (hop-by-hop, routing, destination,
 * fragment, AH) are followed, at most 20.
 * Malformed: no IP version 4 or 6, header length or total length impossible,
 * the IP header, an extension header or the ports not within caplen, an IPv6
 * header with an IPv4-mapped address.  A length field of 0 is possible only in
 * super-packets and jumbograms.  A TCP data offset below 5 hides no port and is
 * taken for 5.
 */
void packet_parse(struct packet *p, const uint8_t *data, size_t caplen,
		  uint32_t len_bytes);

/*
 * Never measured, whatever the back end (the nfqueue rules say the same): TCP
 * and UDP with agent_port at either end; TCP with management_port at either
 * end, but for the opening SYN.
 */
bool packet_protected(const struct packet *p, uint16_t agent_port,
		      uint16_t management_port);

#endif
