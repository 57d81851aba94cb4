/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What packets become in a row of features, rule by rule. */
#include <stdio.h>

#include "tests/unit/features_case.h"

enum {
	FIN = 1,
	SYN = 2,
	RST = 4,
	PSH = 8,
	ACK = 16,
	URG = 32,
};

/* name=value of all that is not 0, before transforms */
static void expect(const struct features_row *row, const char *want)
{
	char got[4096];
	size_t n = 0;

	got[0] = '\0';
	for (unsigned int i = 0; i < FEATURES; i++) {
		const char *name = feature_get(i)->name;
		uint64_t v = case_value(row, name);

		if (v)
			n += (size_t)snprintf(got + n, sizeof(got) - n,
					      "%s=%lu ", name, v);
	}
	assert_string_equal(got, want);
}

static struct features *begin(void)
{
	struct task_spec t = case_task();

	return case_begin(&t);
}

static void test_no_traffic(void **state)
{
	struct features *f = begin();

	(void)state;
	expect(case_close(f), "");
	assert_int_equal(case_row(f, FIRST)->quality, 0);
	free(f);
}

/* A connection that was opened, used and reset, and one that was refused. */
static void test_connections(void **state)
{
	struct features *f = begin();
	struct packet data;

	(void)state;
	case_count(f, case_tcp(PACKET_OUT, "10.0.0.2", 40000, 80, SYN));
	case_count(f, case_tcp(PACKET_IN, "10.0.0.2", 40000, 80, SYN | ACK));
	data = case_tcp(PACKET_OUT, "10.0.0.2", 40000, 80, ACK);
	data.tcp_seq = 1;
	case_count(f, data);
	data.len_bytes = 140;
	data.tcp_flags = ACK | PSH;
	case_count(f, data);
	case_count(f, case_tcp(PACKET_IN, "10.0.0.2", 40000, 80, RST));
	/* 1.2.3.4 is refused */
	case_count(f, case_tcp(PACKET_IN, "1.2.3.4", 8080, 1024, SYN));
	case_count(f, case_tcp(PACKET_OUT, "1.2.3.4", 8080, 1024, RST | ACK));
	expect(case_close(f),
	       "src_ip_private=3 src_ip_public=1 "
	       "dst_ip_private=3 dst_ip_public=1 "
	       "sport_http=1 sport_http2=1 sport_reserved=1 "
	       "sport_notreserved=3 "
	       "dport_http=1 dport_http2=1 dport_reserved=1 "
	       "dport_notreserved=3 protocol_tcp=4 "
	       "tcpflags_ACK=3 tcpflags_PSH=1 tcpflags_RST=2 tcpflags_SYN=3 "
	       "srctos_zero=4 in_npackets_low=1 "
	       "out_npackets_verylow=4 out_npackets_low=1 "
	       "in_nbytes_low=1 out_nbytes_verylow=3 out_nbytes_low=1 "
	       "in_interface_2=2 in_interface_65535=2 "
	       "out_interface_2=2 out_interface_65535=2 "
	       "h_flows_out_new=1 h_flows_in_new=1 "
	       "h_bytes_out=260 h_bytes_in=120 "
	       "h_syn_in_refused=1 h_rst_in=1 h_half_open_peak=1 "
	       "h_handshake_ok=1 h_dst_ips=1 h_dst_ports=1 h_src_ips_in=1 "
	       "h_max_ports_per_peer=1 h_max_flows_per_peer=1 "
	       "h_top_peer_share=789 h_entropy_dports=1000 ");
	free(f);
}

static void test_ipv6_icmp(void **state)
{
	struct features *f = begin();
	struct packet p = case_packet(PACKET_OUT, "2001:db8::7", 58, 0, 0);

	(void)state;
	p.flags |= PACKET_ICMP;
	p.icmp_type = 128;
	p.tos = 192;
	p.ifindex = 3;
	case_count(f, p);
	p = case_packet(PACKET_IN, "fe80::2", 58, 0, 0);
	p.flags |= PACKET_ICMP;
	p.icmp_type = 1;
	p.tos = 4;
	p.ifindex = 0;
	case_count(f, p);
	/* GRE */
	case_count(f, case_packet(PACKET_IN, "100.64.0.9", 47, 0, 0));
	expect(case_close(f),
	       "src_ip_private=1 dst_ip_private=2 dst_ip_public=1 "
	       "sport_zero=3 sport_reserved=3 "
	       "dport_zero=1 dport_reserved=1 "
	       "protocol_icmp=2 protocol_other=1 "
	       "srctos_zero=1 srctos_192=1 srctos_other=1 "
	       "out_npackets_verylow=3 out_nbytes_verylow=3 "
	       "in_interface_2=1 in_interface_65535=1 "
	       "out_interface_3=1 out_interface_65535=2 "
	       "h_flows_out_new=1 h_flows_in_new=2 "
	       "h_bytes_out=40 h_bytes_in=80 h_icmp_unreach_in=1 "
	       "h_dst_ips=1 h_src_ips_in=2 h_max_flows_per_peer=1 "
	       "h_top_peer_share=333 ");
	free(f);
}

/* What an exporter without reverse counting would say of the same. */
static void test_netflow(void **state)
{
	struct task_spec t = case_task();
	struct features *f;
	const struct features_row *row;

	(void)state;
	t.semantics = FEATURES_NETFLOW;
	f = case_begin(&t);
	for (int i = 0; i < 5; i++) {
		case_count(f, case_packet(PACKET_OUT, "fd00::2", 17, 5, 53));
		case_count(f, case_packet(PACKET_IN, "fd00::2", 17, 5, 53));
		case_count(f, case_packet(PACKET_IN, "fd00::2", 58, 0, 0));
	}
	row = case_close(f);
	assert_int_equal(case_value(row, "src_ip_private"), 0);
	assert_int_equal(case_value(row, "dst_ip_private"), 0);
	assert_int_equal(case_value(row, "protocol_icmp"), 0);
	assert_int_equal(case_value(row, "protocol_other"), 1);
	assert_int_equal(case_value(row, "out_npackets_verylow"), 3);
	assert_int_equal(case_value(row, "out_nbytes_verylow"), 3);
	assert_int_equal(case_value(row, "in_npackets_low"), 3);
	assert_int_equal(case_value(row, "dport_zero"), 0);
	free(f);
}

static void test_address_classes(void **state)
{
	static const struct {
		const char *addr;
		int private, public;
	} cases[] = {
		{ "10.255.0.1", 1, 0 },   { "11.0.0.1", 0, 1 },
		{ "172.15.0.1", 0, 1 },   { "172.16.0.1", 1, 0 },
		{ "172.31.255.1", 1, 0 }, { "172.32.0.1", 0, 1 },
		{ "192.168.3.4", 1, 0 },  { "192.167.3.4", 0, 1 },
		{ "127.0.0.2", 0, 0 },    { "169.254.1.1", 0, 0 },
		{ "224.0.0.251", 0, 0 },  { "255.255.255.255", 0, 0 },
		{ "100.64.0.1", 0, 0 },   { "100.127.255.1", 0, 0 },
		{ "100.128.0.1", 0, 1 },  { "0.0.0.0", 0, 0 },
		{ "fc00::1", 1, 0 },      { "fdff::1", 1, 0 },
		{ "2001:db8::1", 0, 1 },  { "fe80::1", 0, 0 },
		{ "ff02::1", 0, 0 },      { "::1", 0, 0 },
		{ "::", 0, 0 },           { "64:ff9b::808:808", 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct features *f = begin();
		const struct features_row *row;

		case_count(f, case_packet(PACKET_IN, cases[i].addr, 17, 1, 2));
		row = case_close(f);
		assert_int_equal(case_value(row, "src_ip_private"),
				 cases[i].private);
		assert_int_equal(case_value(row, "src_ip_public"),
				 cases[i].public);
		free(f);
	}
}

/* A super-packet counts as what travelled, and so moves no bin. */
static void test_segments(void **state)
{
	struct features *a = begin(), *b = begin();
	struct packet p = case_tcp(PACKET_OUT, "10.0.0.2", 5000, 443, ACK);

	(void)state;
	for (int i = 0; i < 30; i++) {
		p.len_bytes = 1440;
		case_count(a, p);
		p.tcp_seq += 1400;
	}
	p.tcp_seq = 0;
	p.flags |= PACKET_GSO;
	p.len_bytes = 30 * 1400 + 40;
	p.segments = 30;
	case_count(b, p);
	assert_memory_equal(case_close(a)->count, case_close(b)->count,
			    sizeof(case_close(a)->count));
	assert_int_equal(case_value(case_row(a, FIRST), "in_npackets_medium"),
			 1);
	assert_int_equal(case_flows(a, FIRST)->flow[0].bytes, 30 * 1440);
	assert_int_equal(case_flows(b, FIRST)->flow[0].bytes, 30 * 1440);
	free(a);
	free(b);
}

static void test_handshakes(void **state)
{
	struct features *f = begin();
	const struct features_row *row;

	(void)state;
	/* three at once; one is answered by nobody, one only by SYN-ACK */
	for (uint16_t port = 1; port <= 3; port++)
		case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", port, 22, SYN));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 1, 22, SYN));
	case_count(f, case_tcp(PACKET_IN, "9.9.9.9", 2, 22, SYN | ACK));
	case_count(f, case_tcp(PACKET_IN, "9.9.9.9", 3, 22, SYN | ACK));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 3, 22, ACK));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 3, 22, ACK));
	/* our own RST refuses nothing that we began, or had answered */
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 2, 22, RST));
	case_count(f, case_tcp(PACKET_IN, "9.9.9.8", 80, 7, SYN));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.8", 80, 7, SYN | ACK));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.8", 80, 7, RST));
	row = case_close(f);
	assert_int_equal(case_value(row, "h_half_open_peak"), 3);
	assert_int_equal(case_value(row, "h_syn_out_unanswered"), 1);
	assert_int_equal(case_value(row, "h_handshake_ok"), 1);
	assert_int_equal(case_value(row, "h_syn_in_refused"), 0);
	assert_int_equal(case_value(row, "h_served_ports"), 1);
	assert_int_equal(case_value(row, "h_served_ports_new"), 1);
	free(f);
}

/* A connection that goes on is neither new nor forgotten. */
static void test_next_window(void **state)
{
	struct features *f = begin();
	const struct features_row *row;
	struct packet p = case_tcp(PACKET_OUT, "9.9.9.9", 1, 22, SYN);

	(void)state;
	case_count(f, p);
	p = case_tcp(PACKET_OUT, "9.9.9.7", 2, 22, ACK);
	p.len_bytes = 1040;
	case_count(f, p);
	case_close(f);
	case_count(f, case_tcp(PACKET_IN, "9.9.9.9", 1, 22, SYN | ACK));
	case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 1, 22, ACK));
	case_count(f, p); /* once more */
	case_time(f, 2 * WINDOW_MS);
	case_finish(f);
	row = case_row(f, FIRST + 1);
	assert_int_equal(case_value(row, "h_flows_out_new"), 0);
	assert_int_equal(case_value(row, "h_flows_in_new"), 0);
	assert_int_equal(case_value(row, "h_handshake_ok"), 1);
	assert_int_equal(case_value(row, "h_half_open_peak"), 1);
	assert_int_equal(case_value(row, "h_retrans_segments"), 1);
	assert_int_equal(case_value(row, "h_dst_ips"), 2);
	assert_int_equal(case_value(row, "h_src_ips_in"), 0);
	/* silent for one window: new again */
	case_time(f, 3 * WINDOW_MS);
	case_count(f, p);
	case_time(f, 4 * WINDOW_MS);
	case_finish(f);
	row = case_row(f, FIRST + 3);
	assert_int_equal(case_value(row, "h_flows_out_new"), 1);
	assert_int_equal(case_value(row, "h_retrans_segments"), 0);
	free(f);
}

static void test_retransmissions(void **state)
{
	struct features *f = begin();
	struct packet p = case_tcp(PACKET_OUT, "9.9.9.9", 1, 22, ACK);
	/* offsets from just below the end of the sequence space */
	static const struct {
		uint32_t at, len;
	} sent[] = {
		{ 0, 1000 },
		{ 1000, 1000 },
		{ 1000, 1000 } /* again */,
		{ 2000, 0 },
		{ 1999, 0 } /* keep-alive */,
		{ 2000, 10 },
		{ 500, 1600 } /* again, and more */,
		{ 2100, 10 },
	};
	const struct features_row *row;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sent); i++) {
		p.tcp_seq = UINT32_MAX - 1500 + sent[i].at;
		p.len_bytes = 40 + sent[i].len;
		case_count(f, p);
	}
	/* what others send again is not ours */
	p = case_tcp(PACKET_IN, "9.9.9.9", 1, 22, ACK);
	p.tcp_seq = UINT32_MAX - 1500;
	p.len_bytes = 1000;
	case_count(f, p);
	row = case_close(f);
	assert_int_equal(case_value(row, "h_retrans_segments"), 2);
	free(f);
}

static void dns(struct features *f, enum packet_dir dir, uint8_t flags0,
		uint8_t flags1, const char *labels)
{
	uint8_t msg[12 + 128] = { 0, 1, flags0, flags1, 0, 1 };
	struct packet p = case_packet(dir, "10.0.0.53", 17, 5353, 53);

	memcpy(msg + 12, labels, strlen(labels) + 1);
	p.payload = msg;
	p.payload_len = 12 + strlen(labels) + 1 + 4;
	case_count(f, p);
}

static void test_dns(void **state)
{
	struct features *f = begin();
	const struct features_row *row;
	struct packet p;

	(void)state;
	dns(f, PACKET_OUT, 1, 0, "\3www\7example\3org");
	dns(f, PACKET_OUT, 1, 0, "\4mail\7EXAMPLE\3org");
	dns(f, PACKET_OUT, 1, 0, "\1a\22averyverylonglabel\3net");
	dns(f, PACKET_IN, 0x81, 0x80, "\3www\7example\3org");
	dns(f, PACKET_IN, 0x81, 0x83, "\4mail\7example\3org");
	dns(f, PACKET_IN, 0x81, 0x82, "\4mail\7example\3org");
	dns(f, PACKET_OUT, 0x81, 0x83, "\4mail\7example\3org"); /* no query */
	dns(f, PACKET_IN, 1, 0, "\4mail\7example\3org");        /* no answer */
	/* cut short, in the header and in the name */
	p = case_packet(PACKET_OUT, "10.0.0.53", 17, 5353, 53);
	p.payload = (const uint8_t *)"\0\1\1\0\0\1\0\0\0\0\0";
	p.payload_len = 11;
	case_count(f, p);
	p.payload = (const uint8_t *)"\0\1\1\0\0\1\0\0\0\0\0\0\77abc";
	p.payload_len = 16;
	case_count(f, p);
	row = case_close(f);
	assert_int_equal(case_value(row, "h_dns_queries"), 4);
	assert_int_equal(case_value(row, "h_dns_nxdomain_share"), 333);
	/* example.org, …label.net, and the one without an end */
	assert_int_equal(case_value(row, "h_dns_names"), 3);
	assert_int_equal(case_value(row, "h_dns_longest_label"), 63);
	assert_int_equal(case_value(row, "protocol_udp"), 2);
	free(f);
}

static void test_regular(void **state)
{
	struct features *f = begin();
	const struct features_row *row;

	(void)state;
	for (uint64_t i = 0; i < 8; i++) {
		case_time(f, 5000 * i + i % 2 * 100);
		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", 17, 1, 9));
		/* one too few; others too uneven */
		if (i)
			case_count(f, case_packet(PACKET_OUT, "9.9.9.2", 17, 1,
						  9));
		case_time(f, 5000 * i + i % 2 * 1200);
		case_count(f, case_packet(PACKET_OUT, "9.9.9.3", 17, 1, 9));
	}
	/* all at once */
	for (int i = 0; i < 20; i++)
		case_count(f, case_packet(PACKET_OUT, "9.9.9.4", 17, 1, 9));
	row = case_close(f);
	assert_int_equal(case_value(row, "h_regular_flows"), 1);
	free(f);
}

static void test_services(void **state)
{
	static const struct {
		uint8_t proto;
		uint16_t port;
		const char *name;
	} cases[] = {
		{ 17, 443, "h_dport_quic" },
		{ 6, 853, "h_dport_dot" },
		{ 17, 853, "h_dport_dot" },
		{ 6, 3389, "h_dport_rdp" },
		{ 17, 3389, "h_dport_rdp" },
		{ 6, 5985, "h_dport_admin" },
		{ 6, 5986, "h_dport_admin" },
		{ 6, 6443, "h_dport_admin" },
		{ 6, 10250, "h_dport_admin" },
		{ 6, 1337, "h_dport_highrisk" },
		{ 6, 4444, "h_dport_highrisk" },
		{ 6, 5555, "h_dport_highrisk" },
		{ 6, 31337, "h_dport_highrisk" },
	};
	static const char *const names[] = { "h_dport_quic", "h_dport_dot",
					     "h_dport_rdp", "h_dport_admin",
					     "h_dport_highrisk" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t proto = cases[i].proto;
		struct features *f = begin();
		const struct features_row *row;

		/* as client and as server; replies change nothing */
		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", proto, 5,
					  cases[i].port));
		case_count(f, case_packet(PACKET_IN, "9.9.9.1", proto, 5,
					  cases[i].port));
		case_count(f, case_packet(PACKET_IN, "9.9.9.2", proto,
					  cases[i].port, 6));
		/* the port at the other end, and another protocol */
		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", proto,
					  cases[i].port, 5));
		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", 132, 5,
					  cases[i].port));
		row = case_close(f);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			assert_int_equal(case_value(row, names[k]),
					 strcmp(names[k], cases[i].name) ? 0
									 : 2);
		free(f);
	}
	{
		struct features *f = begin();

		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", 6, 5, 443));
		case_count(f, case_packet(PACKET_OUT, "9.9.9.1", 17, 5, 4444));
		expect(case_close(f),
		       "src_ip_private=2 dst_ip_public=2 sport_reserved=2 "
		       "dport_https=1 dport_metasploit=1 dport_reserved=1 "
		       "dport_notreserved=1 protocol_tcp=1 protocol_udp=1 "
		       "srctos_zero=2 out_npackets_verylow=2 "
		       "out_nbytes_verylow=2 in_interface_65535=2 "
		       "out_interface_2=2 h_flows_out_new=2 h_bytes_out=80 "
		       "h_udp_share=500 h_dst_ips=1 h_dst_ports=2 "
		       "h_max_ports_per_peer=2 h_max_flows_per_peer=2 "
		       "h_top_peer_share=1000 h_entropy_dports=1000 ");
		free(f);
	}
}

static void test_spread(void **state)
{
	struct features *f = begin();
	const struct features_row *row;
	char peer[16];

	(void)state;
	/* 300 ports of one peer, three times; one port of 50 others */
	for (uint16_t i = 0; i < 900; i++)
		case_count(f, case_tcp(PACKET_OUT, "10.0.0.2",
				       (uint16_t)(5000 + i / 300),
				       (uint16_t)(1 + i % 300), SYN));
	for (int i = 0; i < 50; i++) {
		struct packet p;

		snprintf(peer, sizeof(peer), "10.0.1.%d", i);
		p = case_tcp(PACKET_IN, peer, 22, 6000, SYN);
		p.len_bytes = i == 7 ? 4000 : 40;
		case_count(f, p);
	}
	row = case_close(f);
	assert_int_equal(case_value(row, "h_max_ports_per_peer"), 300);
	assert_int_equal(case_value(row, "h_max_flows_per_peer"), 900);
	assert_int_equal(case_value(row, "h_dst_ips"), 1);
	assert_in_range(case_value(row, "h_dst_ports"), 285, 315);
	assert_in_range(case_value(row, "h_src_ips_in"), 48, 52);
	assert_int_equal(case_value(row, "h_syn_out_unanswered"), 900);
	assert_int_equal(case_value(row, "h_half_open_peak"), 950);
	/* 36,000 of 41,960 bytes */
	assert_int_equal(case_value(row, "h_top_peer_share"), 858);
	/* 299 ports 3 times, one 53 times: 8.08 of log2(950) = 9.89 bits */
	assert_int_equal(case_value(row, "h_entropy_dports"), 816);
	free(f);
}

/* What a peer was asked in one window is forgotten in the next. */
static void test_peers_begin_anew(void **state)
{
	struct features *f = begin();

	(void)state;
	for (uint64_t k = 0; k < 4; k++) {
		for (uint16_t port = 1; port <= 5; port++)
			case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 1000,
					       port, SYN));
		case_time(f, (k + 1) * WINDOW_MS);
		case_finish(f);
		assert_int_equal(case_value(case_row(f, FIRST + k),
					    "h_max_ports_per_peer"),
				 5);
		assert_int_equal(case_value(case_row(f, FIRST + k),
					    "h_max_flows_per_peer"),
				 5);
	}
	free(f);
}

/* Served again after 60 windows without: new. */
static void test_served_ports(void **state)
{
	struct features *f = begin();
	const struct {
		uint64_t window;
		int fresh;
	} steps[] = { { 0, 1 }, { 1, 0 }, { 61, 0 }, { 122, 1 }, { 123, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct features_row *row;
		uint64_t k = steps[i].window;

		case_time(f, k * WINDOW_MS);
		for (int n = 0; n < 3; n++)
			case_count(f, case_tcp(PACKET_OUT, "9.9.9.9", 80, 5,
					       SYN | ACK));
		case_time(f, (k + 1) * WINDOW_MS);
		case_finish(f);
		row = case_row(f, FIRST + k);
		assert_int_equal(case_value(row, "h_served_ports"), 1);
		assert_int_equal(case_value(row, "h_served_ports_new"),
				 steps[i].fresh);
	}
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_traffic),
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_ipv6_icmp),
		cmocka_unit_test(test_netflow),
		cmocka_unit_test(test_address_classes),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_handshakes),
		cmocka_unit_test(test_next_window),
		cmocka_unit_test(test_retransmissions),
		cmocka_unit_test(test_dns),
		cmocka_unit_test(test_regular),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_peers_begin_anew),
		cmocka_unit_test(test_served_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
