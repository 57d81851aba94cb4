/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of features, and the rules of its compat block.
 *
 * The positions of a variable follow each other, so that a record is matched
 * variable by variable; of the 50 rows for a port two ranges are compared and
 * the others found in a short sorted list.  Constant data, nothing owned.
 */
#include "common/features.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

#define NUMBERS(...) (sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))

#define ROW(n, c, v, r, ...)                                           \
	{                                                              \
		.name = n, .compat_name = c, .variable = FEATURE_##v,  \
		.rule = FEATURE_##r, .n_values = NUMBERS(__VA_ARGS__), \
		.value = {                                             \
			__VA_ARGS__                                    \
		}                                                      \
	}
#define SAME(n, v, r, ...) ROW(n, n, v, r, __VA_ARGS__)
#define OTHER(n, v)                                                   \
	{                                                             \
		.name = n, .compat_name = n, .variable = FEATURE_##v, \
		.rule = FEATURE_NO_OTHER                              \
	}
#define HOST(n, v, r, m, t, words)                                    \
	{                                                             \
		.name = n, .compat_name = n, .variable = FEATURE_##v, \
		.rule = FEATURE_##r, .merge = FEATURE_##m,            \
		.transform = FEATURE_##t, .text = words               \
	}

/* p: "sport_" or "dport_" */
#define PORTS(p, v)                                                            \
	SAME(p "zero", v, EQUALS, 0), SAME(p "multiplex", v, EQUALS, 1),       \
		SAME(p "echo", v, EQUALS, 7), SAME(p "discard", v, EQUALS, 9), \
		SAME(p "daytime", v, EQUALS, 13),                              \
		SAME(p "quote", v, EQUALS, 17),                                \
		SAME(p "chargen", v, EQUALS, 19),                              \
		SAME(p "ftp_data", v, EQUALS, 20),                             \
		SAME(p "ftp_control", v, EQUALS, 21),                          \
		SAME(p "ssh", v, EQUALS, 22), SAME(p "telnet", v, EQUALS, 23), \
		SAME(p "smtp", v, EQUALS, 25), SAME(p "dns", v, EQUALS, 53),   \
		SAME(p "bootp", v, ONE_OF, 67, 68),                            \
		SAME(p "gopher", v, EQUALS, 70),                               \
		SAME(p "finger", v, EQUALS, 79),                               \
		SAME(p "http", v, EQUALS, 80),                                 \
		SAME(p "kerberos", v, EQUALS, 88),                             \
		SAME(p "pop3", v, EQUALS, 110),                                \
		SAME(p "nntp", v, EQUALS, 119), SAME(p "ntp", v, EQUALS, 123), \
		SAME(p "netbios", v, ONE_OF, 137, 138, 139),                   \
		SAME(p "imap4", v, EQUALS, 143),                               \
		SAME(p "snmp", v, EQUALS, 161),                                \
		SAME(p "ldap", v, EQUALS, 389),                                \
		SAME(p "https", v, EQUALS, 443),                               \
		SAME(p "mds", v, EQUALS, 445),                                 \
		SAME(p "kpasswd", v, EQUALS, 464),                             \
		SAME(p "smtp_ssl", v, EQUALS, 465),                            \
		SAME(p "syslog", v, EQUALS, 514),                              \
		ROW(p "smtp_sub", p "smtp", v, EQUALS, 587),                   \
		SAME(p "ldaps", v, EQUALS, 636),                               \
		SAME(p "cups", v, EQUALS, 631),                                \
		ROW(p "imaps", p "imap4", v, EQUALS, 993),                     \
		SAME(p "socks", v, EQUALS, 1080),                              \
		SAME(p "openvpn", v, EQUALS, 1194),                            \
		SAME(p "mssql", v, ONE_OF, 1433, 1434),                        \
		SAME(p "citrix", v, EQUALS, 1494),                             \
		SAME(p "oracle", v, EQUALS, 1521),                             \
		SAME(p "rapservice", v, EQUALS, 1530),                         \
		SAME(p "msnmessenger", v, EQUALS, 1863),                       \
		SAME(p "mgc", v, EQUALS, 3268),                                \
		SAME(p "mysql", v, EQUALS, 3306),                              \
		SAME(p "metasploit", v, EQUALS, 4444),                         \
		SAME(p "emule", v, EQUALS, 4662),                              \
		SAME(p "xmpp", v, EQUALS, 5222),                               \
		SAME(p "bittorrent", v, EQUALS, 6881),                         \
		SAME(p "http2", v, EQUALS, 8080),                              \
		SAME(p "reserved", v, CLOSED_RANGE, 0, 1023),                  \
		SAME(p "notreserved", v, CLOSED_RANGE, 1024, 65535)

/* clang-format off: a row a line */
static const struct feature features[FEATURES] = {
	SAME("src_ip_private", SRC_IP, EQUALS, FEATURE_PRIVATE),
	SAME("src_ip_public", SRC_IP, EQUALS, FEATURE_PUBLIC),
	SAME("dst_ip_private", DST_IP, EQUALS, FEATURE_PRIVATE),
	SAME("dst_ip_public", DST_IP, EQUALS, FEATURE_PUBLIC),
	PORTS("sport_", SRC_PORT),
	PORTS("dport_", DST_PORT),
	SAME("protocol_tcp", PROTOCOL, EQUALS, IPPROTO_TCP),
	SAME("protocol_udp", PROTOCOL, EQUALS, IPPROTO_UDP),
	SAME("protocol_icmp", PROTOCOL, EQUALS, IPPROTO_ICMP),
	SAME("protocol_igmp", PROTOCOL, EQUALS, IPPROTO_IGMP),
	OTHER("protocol_other", PROTOCOL),
	SAME("tcpflags_URG", TCP_FLAGS, FLAG, 0x20),
	SAME("tcpflags_ACK", TCP_FLAGS, FLAG, 0x10),
	SAME("tcpflags_PSH", TCP_FLAGS, FLAG, 0x08),
	SAME("tcpflags_RST", TCP_FLAGS, FLAG, 0x04),
	SAME("tcpflags_SYN", TCP_FLAGS, FLAG, 0x02),
	SAME("tcpflags_FIN", TCP_FLAGS, FLAG, 0x01),
	SAME("srctos_zero", SRC_TOS, EQUALS, 0),
	SAME("srctos_192", SRC_TOS, EQUALS, 192),
	OTHER("srctos_other", SRC_TOS),
	SAME("in_npackets_low", IN_PACKETS, CLOSED_RANGE, 3, 20),
	SAME("in_npackets_medium", IN_PACKETS, CLOSED_RANGE, 20, 100),
	SAME("in_npackets_high", IN_PACKETS, CLOSED_RANGE, 100, 1000),
	SAME("in_npackets_veryhigh", IN_PACKETS, CLOSED_RANGE, 1000,
	     FEATURE_NO_END),
	SAME("out_npackets_verylow", OUT_PACKETS, CLOSED_RANGE, 0, 3),
	SAME("out_npackets_low", OUT_PACKETS, CLOSED_RANGE, 3, 20),
	SAME("out_npackets_medium", OUT_PACKETS, CLOSED_RANGE, 20, 100),
	SAME("out_npackets_high", OUT_PACKETS, CLOSED_RANGE, 100, 1000),
	SAME("out_npackets_veryhigh", OUT_PACKETS, CLOSED_RANGE, 1000,
	     FEATURE_NO_END),
	SAME("in_nbytes_low", IN_BYTES, CLOSED_RANGE, 150, 1000),
	SAME("in_nbytes_medium", IN_BYTES, CLOSED_RANGE, 1000, 10000),
	SAME("in_nbytes_high", IN_BYTES, CLOSED_RANGE, 10000, 100000),
	SAME("in_nbytes_veryhigh", IN_BYTES, CLOSED_RANGE, 100000,
	     FEATURE_NO_END),
	SAME("out_nbytes_verylow", OUT_BYTES, CLOSED_RANGE, 0, 150),
	SAME("out_nbytes_low", OUT_BYTES, CLOSED_RANGE, 150, 1000),
	SAME("out_nbytes_medium", OUT_BYTES, CLOSED_RANGE, 1000, 10000),
	SAME("out_nbytes_high", OUT_BYTES, CLOSED_RANGE, 10000, 100000),
	SAME("out_nbytes_veryhigh", OUT_BYTES, CLOSED_RANGE, 100000,
	     FEATURE_NO_END),
	SAME("in_interface_1", IN_INTERFACE, EQUALS, 1),
	SAME("in_interface_2", IN_INTERFACE, EQUALS, 2),
	SAME("in_interface_3", IN_INTERFACE, EQUALS, 3),
	SAME("in_interface_65535", IN_INTERFACE, EQUALS, 65535),
	SAME("out_interface_1", OUT_INTERFACE, EQUALS, 1),
	SAME("out_interface_2", OUT_INTERFACE, EQUALS, 2),
	SAME("out_interface_3", OUT_INTERFACE, EQUALS, 3),
	SAME("out_interface_65535", OUT_INTERFACE, EQUALS, 65535),
	HOST("h_flows_out_new", FLOW, FIRST_SEEN, SUM, SQRT, "outbound"),
	HOST("h_flows_in_new", FLOW, FIRST_SEEN, SUM, SQRT, "inbound"),
	HOST("h_flows_fwd", FLOW, DIRECTION, SUM, SQRT, "forwarded"),
	HOST("h_bytes_out", BYTES, DIRECTION, SUM, LOG2, "outbound"),
	HOST("h_bytes_in", BYTES, DIRECTION, SUM, LOG2, "inbound"),
	HOST("h_udp_share", FLOW, PERMILLE, PARTS, NONE, "udp of tcp+udp"),
	HOST("h_syn_out_unanswered", HANDSHAKE, OUTCOME, SUM, SQRT,
	     "own SYN without any answer at the window end"),
	HOST("h_syn_in_refused", HANDSHAKE, OUTCOME, SUM, SQRT,
	     "peer SYN answered with RST by this host"),
	HOST("h_rst_in", PACKETS, COUNT, SUM, SQRT, "RST received"),
	HOST("h_icmp_unreach_in", PACKETS, COUNT, SUM, SQRT,
	     "ICMP or ICMPv6 destination unreachable received"),
	HOST("h_half_open_peak", HANDSHAKE, PEAK, MAX, SQRT,
	     "handshakes open at the same time"),
	HOST("h_handshake_ok", HANDSHAKE, OUTCOME, SUM, SQRT,
	     "SYN then SYN-ACK then ACK seen"),
	HOST("h_retrans_segments", PACKETS, COUNT, SUM, SQRT,
	     "outgoing data segment with a sequence number below the flow maximum"),
	HOST("h_dst_ips", SPREAD, DISTINCT, HLL, SQRT,
	     "remote addresses contacted"),
	HOST("h_dst_ports", SPREAD, DISTINCT, HLL, SQRT,
	     "remote ports contacted"),
	HOST("h_src_ips_in", SPREAD, DISTINCT, HLL, SQRT,
	     "remote addresses that sent first"),
	HOST("h_max_ports_per_peer", SPREAD, PEAK, MAX, SQRT,
	     "most destination ports towards one peer"),
	HOST("h_max_flows_per_peer", SPREAD, PEAK, MAX, SQRT,
	     "most flows with one peer"),
	HOST("h_top_peer_share", SPREAD, PERMILLE, PARTS, NONE,
	     "bytes of the largest peer of all bytes"),
	HOST("h_entropy_dports", SPREAD, PERMILLE, PARTS, NONE,
	     "entropy of destination ports over flows as a share of its maximum"),
	HOST("h_dns_queries", DNS, COUNT, SUM, SQRT, "queries sent"),
	HOST("h_dns_nxdomain_share", DNS, PERMILLE, PARTS, NONE,
	     "NXDOMAIN of all answers received"),
	HOST("h_dns_names", DNS, DISTINCT, HLL, SQRT,
	     "query names without their first label"),
	HOST("h_dns_longest_label", DNS, PEAK, MAX, NONE,
	     "longest label in a query in bytes"),
	HOST("h_regular_flows", FLOW, OUTCOME, SUM, SQRT,
	     "at least 8 packets with a coefficient of variation of gaps below 0.1"),
	HOST("h_dport_quic", FLOW, ONE_OF, SUM, NONE, "udp 443"),
	HOST("h_dport_dot", FLOW, ONE_OF, SUM, NONE, "tcp 853; udp 853"),
	HOST("h_dport_rdp", FLOW, ONE_OF, SUM, NONE, "tcp 3389; udp 3389"),
	HOST("h_dport_admin", FLOW, ONE_OF, SUM, NONE,
	     "tcp 5985; tcp 5986; tcp 6443; tcp 10250"),
	HOST("h_dport_highrisk", FLOW, ONE_OF, SUM, NONE,
	     "tcp 1337; tcp 4444; tcp 5555; tcp 31337"),
	HOST("h_served_ports", HANDSHAKE, DISTINCT, HLL, SQRT,
	     "local ports that answered a SYN with SYN-ACK"),
	HOST("h_served_ports_new", HANDSHAKE, COUNT, SUM, NONE,
	     "served ports not served in the 60 windows before"),
};
/* clang-format on */

/* Ports of the table and their row among the 50 of a variable, ascending. */
static const struct {
	uint16_t port;
	uint8_t row;
} ports[] = {
	{ 0, 0 },     { 1, 1 },     { 7, 2 },     { 9, 3 },     { 13, 4 },
	{ 17, 5 },    { 19, 6 },    { 20, 7 },    { 21, 8 },    { 22, 9 },
	{ 23, 10 },   { 25, 11 },   { 53, 12 },   { 67, 13 },   { 68, 13 },
	{ 70, 14 },   { 79, 15 },   { 80, 16 },   { 88, 17 },   { 110, 18 },
	{ 119, 19 },  { 123, 20 },  { 137, 21 },  { 138, 21 },  { 139, 21 },
	{ 143, 22 },  { 161, 23 },  { 389, 24 },  { 443, 25 },  { 445, 26 },
	{ 464, 27 },  { 465, 28 },  { 514, 29 },  { 587, 30 },  { 631, 32 },
	{ 636, 31 },  { 993, 33 },  { 1080, 34 }, { 1194, 35 }, { 1433, 36 },
	{ 1434, 36 }, { 1494, 37 }, { 1521, 38 }, { 1530, 39 }, { 1863, 40 },
	{ 3268, 41 }, { 3306, 42 }, { 4444, 43 }, { 4662, 44 }, { 5222, 45 },
	{ 6881, 46 }, { 8080, 47 },
};

enum {
	FIRST_SRC_IP = 0,
	FIRST_DST_IP = 2,
	FIRST_SRC_PORT = 4,
	FIRST_DST_PORT = 54,
	FIRST_PROTOCOL = 104,
	FIRST_TCP_FLAGS = 109,
	FIRST_SRC_TOS = 115,
	FIRST_IN_PACKETS = 118,
	FIRST_OUT_PACKETS = 122,
	FIRST_IN_BYTES = 127,
	FIRST_OUT_BYTES = 131,
	FIRST_IN_INTERFACE = 136,
	FIRST_OUT_INTERFACE = 140,
	RESERVED_ROW = 48, /* of a port variable; not reserved: the next */
	PORT_RESERVED_MAX = 1023,
	PORT_MAX = 65535,
};

const struct feature *feature_get(unsigned int position)
{
	assert(position < FEATURES);
	return &features[position];
}

int feature_find(const char *name, size_t len)
{
	for (int i = 0; i < FEATURES; i++) {
		if (strlen(features[i].name) == len &&
		    !memcmp(features[i].name, name, len))
			return i;
	}
	return -ENOENT;
}

/* Names of semantics and blocks */

static const char *const semantics_names[] = {
	[FEATURES_CSV] = "csv",
	[FEATURES_PACKETS] = "packets/1",
	[FEATURES_NETFLOW] = "netflow/1",
};
static_assert(ARRAY_SIZE(semantics_names) == FEATURES_SEMANTICS, "names");

static const char *const blocks_names[] = {
	[FEATURE_COMPAT] = "compat",
	[FEATURE_HOST] = "host",
	[FEATURE_BLOCKS] = "compat+host",
};

/* Index of the name in a list with holes, or -EINVAL. */
static int name_find(const char *const *names, size_t n, const char *s,
		     size_t len)
{
	for (size_t i = 0; i < n; i++) {
		if (names[i] && strlen(names[i]) == len &&
		    !memcmp(names[i], s, len))
			return (int)i;
	}
	return -EINVAL;
}

int features_semantics_parse(const char *s, size_t len,
			     enum feature_semantics *out)
{
	int i = name_find(semantics_names, ARRAY_SIZE(semantics_names), s, len);

	if (i < 0)
		return i;
	*out = (enum feature_semantics)i;
	return 0;
}

const char *features_semantics_name(enum feature_semantics s)
{
	assert(s < FEATURES_SEMANTICS);
	return semantics_names[s];
}

int features_blocks_parse(const char *s, size_t len, uint32_t *out)
{
	int i = name_find(blocks_names, ARRAY_SIZE(blocks_names), s, len);

	if (i < 0)
		return i;
	*out = (uint32_t)i;
	return 0;
}

const char *features_blocks_name(uint32_t blocks)
{
	assert(blocks && blocks <= FEATURE_BLOCKS);
	return blocks_names[blocks];
}

unsigned int features_count(uint32_t blocks)
{
	unsigned int n = 0;

	if (blocks & FEATURE_COMPAT)
		n += FEATURES_COMPAT;
	if (blocks & FEATURE_HOST)
		n += FEATURES - FEATURES_COMPAT;
	return n;
}

unsigned int features_first(uint32_t blocks)
{
	return blocks & FEATURE_COMPAT ? 0 : FEATURES_COMPAT;
}

double feature_transform(enum feature_transform t, double v)
{
	switch (t) {
	case FEATURE_SQRT:
		return sqrt(v);
	case FEATURE_LOG2:
		return log2(1 + v);
	case FEATURE_NONE:
		break;
	}
	return v;
}

/* Schema hash */

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

uint64_t features_schema_add(uint64_t hash, const char *name)
{
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * FNV_PRIME;
	return (hash ^ '\n') * FNV_PRIME;
}

uint64_t features_schema_begin(const char *semantics, uint32_t window_s)
{
	char number[16];
	uint64_t h;

	snprintf(number, sizeof(number), "%u", window_s);
	h = features_schema_add(FNV_BASIS, "msnm1");
	h = features_schema_add(h, semantics);
	return features_schema_add(h, number);
}

uint64_t features_schema(enum feature_semantics s, uint32_t window_s,
			 uint32_t blocks)
{
	unsigned int at = features_first(blocks);
	unsigned int end = at + features_count(blocks);
	uint64_t h;

	h = features_schema_begin(features_semantics_name(s), window_s);
	for (; at < end; at++)
		h = features_schema_add(h, features[at].name);
	return h;
}

/* Rules */

static bool rule_match(const struct feature *f, int64_t v)
{
	switch (f->rule) {
	case FEATURE_CLOSED_RANGE:
		return v >= f->value[0] && v <= f->value[1];
	case FEATURE_FLAG:
		return v & f->value[0];
	case FEATURE_EQUALS:
		return v == f->value[0];
	default:
		return false;
	}
}

/*
 * The rows of one variable, from first to before end; a last row "no other"
 * also matches where the value is absent.
 */
static void match_rows(const struct feature_record *r, unsigned int first,
		       unsigned int end, struct feature_set *out)
{
	enum feature_variable var = features[first].variable;
	bool present = r->present >> var & 1, any = false;

	for (unsigned int i = first; i < end; i++) {
		const struct feature *f = &features[i];

		if (f->rule == FEATURE_NO_OTHER
			    ? !any
			    : present && rule_match(f, r->value[var])) {
			feature_set_add(out, i);
			any = true;
		}
	}
}

static void match_port(const struct feature_record *r,
		       enum feature_variable var, unsigned int first,
		       struct feature_set *out)
{
	size_t low = 0, high = ARRAY_SIZE(ports);
	int64_t v = r->value[var];

	if (!(r->present >> var & 1) || v < 0 || v > PORT_MAX)
		return;
	feature_set_add(out, first + RESERVED_ROW + (v > PORT_RESERVED_MAX));
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (ports[mid].port < v)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < ARRAY_SIZE(ports) && ports[low].port == v)
		feature_set_add(out, first + ports[low].row);
}

void features_match(const struct feature_record *r, struct feature_set *out)
{
	match_rows(r, FIRST_SRC_IP, FIRST_DST_IP, out);
	match_rows(r, FIRST_DST_IP, FIRST_SRC_PORT, out);
	match_port(r, FEATURE_SRC_PORT, FIRST_SRC_PORT, out);
	match_port(r, FEATURE_DST_PORT, FIRST_DST_PORT, out);
	match_rows(r, FIRST_PROTOCOL, FIRST_TCP_FLAGS, out);
	match_rows(r, FIRST_TCP_FLAGS, FIRST_SRC_TOS, out);
	match_rows(r, FIRST_SRC_TOS, FIRST_IN_PACKETS, out);
	match_rows(r, FIRST_IN_PACKETS, FIRST_OUT_PACKETS, out);
	match_rows(r, FIRST_OUT_PACKETS, FIRST_IN_BYTES, out);
	match_rows(r, FIRST_IN_BYTES, FIRST_OUT_BYTES, out);
	match_rows(r, FIRST_OUT_BYTES, FIRST_IN_INTERFACE, out);
	match_rows(r, FIRST_IN_INTERFACE, FIRST_OUT_INTERFACE, out);
	match_rows(r, FIRST_OUT_INTERFACE, FEATURES_COMPAT, out);
}
