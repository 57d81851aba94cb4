/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flow keys: packet -> bytes -> text and back.
 *
 * Two tables say everything: fields[] where a field lies in struct packet and
 * how it looks, key_types[] which fields make a key.  To add a field or a key
 * type, add a row.  Pure functions; the caller owns all memory.
 *
 * Limits: at most KEY_FIELDS_MAX fields and KEY_MAX_LEN bytes a key.
 */
#include "common/key.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

enum form {
	FORM_ADDR,
	FORM_PORT,
	FORM_PROTO
};

static const uint8_t form_len[] = {
	[FORM_ADDR] = 16,
	[FORM_PORT] = 2,
	[FORM_PROTO] = 1,
};

enum field {
	SRC,
	DST,
	SPORT,
	DPORT,
	PROTO,
	FIELDS
};

static const struct {
	uint8_t form;   /* enum form */
	uint8_t offset; /* in struct packet */
} fields[] = {
	[SRC] = { FORM_ADDR, offsetof(struct packet, src) },
	[DST] = { FORM_ADDR, offsetof(struct packet, dst) },
	[SPORT] = { FORM_PORT, offsetof(struct packet, sport) },
	[DPORT] = { FORM_PORT, offsetof(struct packet, dport) },
	[PROTO] = { FORM_PROTO, offsetof(struct packet, proto) },
};
static_assert(ARRAY_SIZE(fields) == FIELDS, "a row for each field");

#define KEY_FIELDS_MAX 5

struct key_row {
	const char *name, *alias;
	uint8_t len;
	bool needs_ports; /* packets without ports are unkeyed */
	uint8_t n;
	uint8_t field[KEY_FIELDS_MAX];
};

static const struct key_row key_types[] = {
	/* type           name         alias   len ports  n  fields */
	[KEY_NONE] = { "none", NULL, 0, false, 0, { 0 } },
	[KEY_SRC] = { "src", NULL, 16, false, 1, { SRC } },
	[KEY_DST] = { "dst", NULL, 16, false, 1, { DST } },
	[KEY_SRC_DST] = { "src_dst", NULL, 32, false, 2, { SRC, DST } },
	[KEY_SPORT] = { "sport", NULL, 2, true, 1, { SPORT } },
	[KEY_DPORT] = { "dport", NULL, 2, true, 1, { DPORT } },
	[KEY_SRC_DPORT] = { "src_dport", NULL, 18, true, 2, { SRC, DPORT } },
	[KEY_DST_DPORT] = { "dst_dport", NULL, 18, true, 2, { DST, DPORT } },
	[KEY_FLOW] = { "5-tuple",
		       "flow",
		       37,
		       false,
		       5,
		       { SRC, DST, SPORT, DPORT, PROTO } },
};
static_assert(ARRAY_SIZE(key_types) == KEY_TYPES, "a row for each key type");

static const struct {
	const char *name;
	uint8_t proto;
} protocols[] = {
	{ "tcp", IPPROTO_TCP },   { "udp", IPPROTO_UDP },
	{ "icmp", IPPROTO_ICMP }, { "icmpv6", IPPROTO_ICMPV6 },
	{ "sctp", IPPROTO_SCTP },
};

/* Compares len bytes with a name. */
static bool text_is(const char *s, size_t len, const char *name)
{
	return name && strlen(name) == len && !memcmp(s, name, len);
}

const char *key_type_name(enum key_type t)
{
	assert(t < KEY_TYPES);
	return key_types[t].name;
}

int key_type_parse(const char *s, size_t len, enum key_type *out)
{
	for (unsigned int t = 0; t < KEY_TYPES; t++) {
		if (text_is(s, len, key_types[t].name) ||
		    text_is(s, len, key_types[t].alias)) {
			*out = (enum key_type)t;
			return 0;
		}
	}
	return -EINVAL;
}

const char *key_type_list(void)
{
	return "src dst src_dst sport dport src_dport dst_dport 5-tuple";
}

size_t key_len(enum key_type t)
{
	assert(t < KEY_TYPES);
	return key_types[t].len;
}

size_t key_stored_len(enum key_type t)
{
	return (key_len(t) + 7) / 8 * 8;
}

bool key_build(enum key_type t, const struct packet *p, struct flow_key *out)
{
	const struct key_row *row = &key_types[t];
	uint8_t *at;

	if (p->flags & PACKET_MALFORMED && t != KEY_NONE)
		return false;
	if (row->needs_ports && !(p->flags & PACKET_PORTS))
		return false;
	*out = (struct flow_key){ 0 };
	at = (uint8_t *)out->w;
	for (unsigned int i = 0; i < row->n; i++) {
		const void *from =
			(const uint8_t *)p + fields[row->field[i]].offset;
		uint16_t port;

		switch ((enum form)fields[row->field[i]].form) {
		case FORM_ADDR:
			memcpy(at, from, 16);
			at += 16;
			break;
		case FORM_PORT:
			memcpy(&port, from, 2);
			port = htons(port);
			memcpy(at, &port, 2);
			at += 2;
			break;
		case FORM_PROTO:
			memcpy(at, from, 1);
			at += 1;
			break;
		}
	}
	return true;
}

static int field_parse(enum form form, const char *s, size_t len, uint8_t *out)
{
	struct ip_addr addr;
	uint64_t number;
	int r = 0;

	switch (form) {
	case FORM_ADDR:
		r = addr_parse(s, len, &addr);
		if (!r)
			memcpy(out, addr.b, sizeof(addr.b));
		break;
	case FORM_PORT:
		r = parse_u64(s, len, 0, 65535, &number);
		if (!r) {
			out[0] = (uint8_t)(number >> 8);
			out[1] = (uint8_t)number;
		}
		break;
	case FORM_PROTO:
		/* 0 is no protocol to filter by, but packets carry it */
		if (text_is(s, len, "0"))
			out[0] = 0;
		else
			r = proto_parse(s, len, out);
		break;
	}
	return r ? -EINVAL : 0;
}

int key_parse(enum key_type t, const char *s, size_t len, struct flow_key *out)
{
	const struct key_row *row = &key_types[t];
	struct flow_key key = { 0 };
	uint8_t *at = (uint8_t *)key.w, *first = at;

	assert(t < KEY_TYPES);
	for (unsigned int i = 0; i < row->n; i++) {
		enum form form = (enum form)fields[row->field[i]].form;
		const char *comma = len ? memchr(s, ',', len) : NULL;
		size_t n = comma ? (size_t)(comma - s) : len;

		/* a comma exactly where another field follows */
		if (!comma != (i + 1u == row->n))
			return -EINVAL;
		if (field_parse(form, s, n, at))
			return -EINVAL;
		/* no packet has addresses of both families */
		if (form == FORM_ADDR &&
		    addr_is_v4((const struct ip_addr *)at) !=
			    addr_is_v4((const struct ip_addr *)first))
			return -EINVAL;
		at += form_len[form];
		n += comma ? 1 : 0;
		s += n;
		len -= n;
	}
	if (len)
		return -EINVAL;
	*out = key;
	return 0;
}

static void field_format(enum form form, const uint8_t *in,
			 char out[ADDR_TEXT_LEN])
{
	struct ip_addr addr;

	switch (form) {
	case FORM_ADDR:
		memcpy(addr.b, in, sizeof(addr.b));
		addr_format(&addr, out);
		break;
	case FORM_PORT:
		snprintf(out, ADDR_TEXT_LEN, "%u", in[0] * 256u + in[1]);
		break;
	case FORM_PROTO:
		proto_format(in[0], out);
		break;
	}
}

void key_format(enum key_type t, const struct flow_key *k,
		char out[KEY_TEXT_LEN])
{
	const struct key_row *row = &key_types[t];
	const uint8_t *at = (const uint8_t *)k->w;
	char text[ADDR_TEXT_LEN];
	size_t pos = 0, n;

	assert(t < KEY_TYPES);
	for (unsigned int i = 0; i < row->n; i++) {
		enum form form = (enum form)fields[row->field[i]].form;

		field_format(form, at, text);
		at += form_len[form];
		if (i)
			out[pos++] = ',';
		n = strlen(text);
		memcpy(out + pos, text, n);
		pos += n;
	}
	out[pos] = '\0';
}
/* two addresses, two ports, a protocol, with their commas and NUL */
static_assert(2 * ADDR_TEXT_LEN + 2 * 6 + 8 <= KEY_TEXT_LEN, "key text");

int key_compare(enum key_type t, const struct flow_key *a,
		const struct flow_key *b)
{
	const struct key_row *row = &key_types[t];
	bool a_v4, b_v4;

	/* all addresses of a key are of one family */
	if (row->n && fields[row->field[0]].form == FORM_ADDR) {
		a_v4 = addr_is_v4((const struct ip_addr *)a->w);
		b_v4 = addr_is_v4((const struct ip_addr *)b->w);
		if (a_v4 != b_v4)
			return a_v4 ? -1 : 1;
	}
	return memcmp(a->w, b->w, key_len(t));
}

int proto_parse(const char *s, size_t len, uint8_t *out)
{
	uint64_t number;

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (text_is(s, len, protocols[i].name)) {
			*out = protocols[i].proto;
			return 0;
		}
	}
	if (parse_u64(s, len, 1, 255, &number))
		return -EINVAL;
	*out = (uint8_t)number;
	return 0;
}

void proto_format(uint8_t proto, char out[8])
{
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (protocols[i].proto == proto) {
			snprintf(out, 8, "%s", protocols[i].name);
			return;
		}
	}
	snprintf(out, 8, "%u", proto);
}
