/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flow keys: which fields of a packet are counted together.  A key is binary,
 * of fixed length per type: its fields in the order of the type's row, network
 * byte order, addresses 16 bytes, ports 2, protocol 1; stored zero-padded to a
 * multiple of 8.  Key order is the order of the bytes.
 */
#ifndef LINNET_KEY_H
#define LINNET_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/packet.h"

enum key_type {
	KEY_NONE, /* a plain counter: no key, totals only */
	KEY_SRC,
	KEY_DST,
	KEY_SRC_DST,
	KEY_SPORT,
	KEY_DPORT,
	KEY_SRC_DPORT,
	KEY_DST_DPORT,
	KEY_FLOW, /* "5-tuple" */
	KEY_TYPES
};

#define KEY_MAX_LEN  40  /* stored bytes of the longest key */
#define KEY_TEXT_LEN 128 /* longest text with NUL */

struct flow_key {
	uint64_t w[KEY_MAX_LEN / 8]; /* bytes in memory order, not numbers */
};

/* Name as answers write it ("5-tuple"). */
const char *key_type_name(enum key_type t);
/* Accepts aliases ("flow") and "none"; 0 or -EINVAL. */
int key_type_parse(const char *s, size_t len, enum key_type *out);
/* "src dst src_dst …", for error texts and manuals; no "none". */
const char *key_type_list(void);
/* Bytes that count (37 for flow) and bytes stored (40). */
size_t key_len(enum key_type t);
size_t key_stored_len(enum key_type t);

/*
 * Builds the key; false: the packet yields none (malformed; no ports in a type
 * with a port, 5-tuple aside, where they are 0).  KEY_NONE: true, empty key.
 */
bool key_build(enum key_type t, const struct packet *p, struct flow_key *out);

/* Text "10.0.0.6,8008" <-> key.  0 or -EINVAL. */
int key_parse(enum key_type t, const char *s, size_t len, struct flow_key *out);
void key_format(enum key_type t, const struct flow_key *k,
		char out[KEY_TEXT_LEN]);
/* IPv4 before IPv6, then byte order, of two keys of one type: <0, 0, >0. */
int key_compare(enum key_type t, const struct flow_key *a,
		const struct flow_key *b);

/* Protocol names: tcp udp icmp icmpv6 sctp, else a number 1..255. */
int proto_parse(const char *s, size_t len, uint8_t *out);
void proto_format(uint8_t proto, char out[8]);

#endif
