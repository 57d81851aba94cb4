/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets from a capture file, replayed as fast as they are counted, with
 * their own time.  The file is opened once, before privileges are given up;
 * each pass reads it from its beginning.
 *
 * A packet's length is what the kernel would say at the IP layer: the link
 * header and Ethernet's padding do not count.  Packets that the capture rules
 * would leave out are left out here; frames without IP, and link layers that
 * are not known, are skipped.
 *
 * Limits: regular files only; the direction is known only where the link layer
 * says "outgoing"; whatever is longer than an Ethernet frame is taken for a
 * super-packet, as the file does not say.
 */
#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/segment.h"
#include "common/util.h"
#include "monitor/capture/capture.h"

#define TURN_PACKETS 256
#define TAGS_MAX     4
#define CLOCK_MAX_S  (UINT64_C(1) << 33) /* year 2242 */

enum {
	ETHERTYPE_IP4 = 0x0800,
	ETHERTYPE_IP6 = 0x86dd,
	PPP_IP4 = 0x0021,
	PPP_IP6 = 0x0057,
	SLL_OUTGOING = 4,
};

/* A frame on its way to its IP header. */
struct frame {
	const uint8_t *data;
	size_t caplen, len; /* what is left, captured and on the wire */
	enum packet_dir dir;
};

static uint16_t get_be16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static const uint8_t *frame_take(struct frame *f, size_t n)
{
	const uint8_t *at = f->data;

	if (f->caplen < n || f->len < n)
		return NULL;
	f->data += n;
	f->caplen -= n;
	f->len -= n;
	return at;
}

/* True if an IP header follows, behind any VLAN tags. */
static bool link_ethertype(struct frame *f, uint16_t type)
{
	for (int i = 0; i < TAGS_MAX; i++) {
		const uint8_t *tag;

		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			break;
		tag = frame_take(f, 4);
		if (!tag)
			return false;
		type = get_be16(tag + 2);
	}
	return type == ETHERTYPE_IP4 || type == ETHERTYPE_IP6;
}

static bool link_ethernet(struct frame *f)
{
	const uint8_t *h = frame_take(f, 14);

	return h && link_ethertype(f, get_be16(h + 12));
}

static bool link_raw(struct frame *f)
{
	(void)f;
	return true;
}

/* The family as the writing system numbers it, in its byte order. */
static bool link_loopback(struct frame *f)
{
	const uint8_t *h = frame_take(f, 4);
	unsigned int family;

	if (!h)
		return false;
	family = h[0] ? h[0] : h[3];
	return family == 2 || family == 10 || family == 24 || family == 28 ||
	       family == 30;
}

static bool link_sll(struct frame *f)
{
	const uint8_t *h = frame_take(f, 16);

	if (!h)
		return false;
	if (get_be16(h) == SLL_OUTGOING)
		f->dir = PACKET_OUT;
	return link_ethertype(f, get_be16(h + 14));
}

static bool link_sll2(struct frame *f)
{
	const uint8_t *h = frame_take(f, 20);

	if (!h)
		return false;
	if (h[10] == SLL_OUTGOING)
		f->dir = PACKET_OUT;
	return link_ethertype(f, get_be16(h));
}

static bool link_chdlc(struct frame *f)
{
	const uint8_t *h = frame_take(f, 4);

	return h && link_ethertype(f, get_be16(h + 2));
}

static bool link_ppp(struct frame *f)
{
	const uint8_t *h;
	uint16_t protocol;

	if (f->caplen >= 1 && (f->data[0] == 0x0f || f->data[0] == 0x8f))
		return link_chdlc(f);
	if (f->caplen >= 2 && get_be16(f->data) == 0xff03)
		(void)frame_take(f, 2);
	h = frame_take(f, 2);
	if (!h)
		return false;
	protocol = get_be16(h);
	return protocol == PPP_IP4 || protocol == PPP_IP6;
}

static const struct {
	int type;
	bool (*strip)(struct frame *f); /* true: f begins with IP */
} links[] = {
	{ DLT_EN10MB, link_ethernet }, { DLT_RAW, link_raw },
	{ DLT_IPV4, link_raw },        { DLT_IPV6, link_raw },
	{ DLT_NULL, link_loopback },   { DLT_LOOP, link_loopback },
	{ DLT_LINUX_SLL, link_sll },   { DLT_LINUX_SLL2, link_sll2 },
	{ DLT_C_HDLC, link_chdlc },    { DLT_PPP, link_ppp },
	{ DLT_PPP_SERIAL, link_ppp },
};

/* Begins a pass with a stream of its own; NULL with a reason. */
static pcap_t *pcap_begin(int file_fd, char reason[PCAP_ERRBUF_SIZE])
{
	int fd = lseek(file_fd, 0, SEEK_SET) == 0
			 ? fcntl(file_fd, F_DUPFD_CLOEXEC, 0)
			 : -1;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
	pcap_t *p;

	if (!f) {
		snprintf(reason, PCAP_ERRBUF_SIZE, "%s",
			 strerrordesc_np(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	p = pcap_fopen_offline(f, reason);
	if (!p)
		fclose(f);
	return p;
}

static int pcap_prepare(struct capture_config *c)
{
	int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char reason[PCAP_ERRBUF_SIZE] = "";
	struct stat st;
	pcap_t *p;

	if (fd < 0) {
		log_err("%s", c->path);
		return EXIT_USAGE;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		log_errx("%s: not a regular file", c->path);
		close(fd);
		return EXIT_USAGE;
	}
	p = pcap_begin(fd, reason);
	if (!p) {
		log_errx("%s: %s", c->path, reason);
		close(fd);
		return EXIT_USAGE;
	}
	pcap_close(p);
	c->file_fd = fd;
	return 0;
}

static int pcap_open_reader(struct capture *c, uint32_t reader)
{
	(void)reader;
	c->fd = -1;
	return 0;
}

static int pcap_rewind(struct capture *c)
{
	char reason[PCAP_ERRBUF_SIZE] = "";

	if (c->state)
		pcap_close(c->state);
	c->state = pcap_begin(c->config->file_fd, reason);
	if (!c->state) {
		log_errx("%s: %s", c->config->path, reason);
		return -EIO;
	}
	c->busy = true;
	c->skipped = 0;
	return 0;
}

/* The length that a kernel would give to the packet at the IP layer. */
static uint32_t ip_length(const struct frame *f)
{
	size_t total = f->len;

	if (f->caplen >= 20 && f->data[0] >> 4 == 4 &&
	    get_be16(f->data + 2) >= 20)
		total = get_be16(f->data + 2);
	/* a payload of 0 may be a jumbogram's */
	if (f->caplen >= 40 && f->data[0] >> 4 == 6 &&
	    (get_be16(f->data + 4) > 0 || f->data[6] != IPPROTO_HOPOPTS))
		total = 40u + get_be16(f->data + 4);
	return (uint32_t)(total <= f->len ? total : f->len);
}

static bool frame_strip(struct frame *f, int type)
{
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (links[i].type == type)
			return links[i].strip(f) && f->len > 0;
	}
	return false;
}

static void pcap_count(struct capture *c, const struct pcap_pkthdr *h,
		       const uint8_t *data)
{
	struct frame f = {
		.data = data,
		.caplen = h->caplen,
		.len = MAX(h->len, h->caplen),
		.dir = PACKET_IN,
	};
	struct packet p = { 0 };
	uint32_t len_bytes;

	if (!frame_strip(&f, pcap_datalink(c->state))) {
		c->skipped++;
		return;
	}
	len_bytes = ip_length(&f);
	p.dir = (uint8_t)f.dir;
	p.flags = len_bytes > SEGMENT_MTU_DEFAULT ? PACKET_GSO : 0;
	packet_parse(&p, f.data, f.caplen, len_bytes);
	if (packet_protected(&p, c->config->agent_port,
			     c->config->management_port)) {
		c->protected_packets++;
		return;
	}
	/* a file may claim any time: keep it a time */
	if (h->ts.tv_sec >= 0 && (uint64_t)h->ts.tv_sec < CLOCK_MAX_S &&
	    h->ts.tv_usec >= 0)
		c->sink->clock(c->sink->arg,
			       (uint64_t)h->ts.tv_sec * 1000 +
				       (uint64_t)h->ts.tv_usec / 1000);
	c->sink->packet(c->sink->arg, &p);
}

static int pcap_turn(struct capture *c)
{
	struct pcap_pkthdr *h;
	const uint8_t *data;
	int rc = 1;

	for (int i = 0; i < TURN_PACKETS && rc == 1; i++) {
		rc = pcap_next_ex(c->state, &h, &data);
		if (rc == 1)
			pcap_count(c, h, data);
	}
	if (rc == 1)
		return 0;
	if (rc == PCAP_ERROR)
		log_warnx("%s: %s; what came before is counted",
			  c->config->path, pcap_geterr(c->state));
	if (c->skipped)
		log_info("%s: %ju frames skipped, without IP or of a link "
			 "layer that is not known",
			 c->config->path, (uintmax_t)c->skipped);
	pcap_close(c->state);
	c->state = NULL;
	c->busy = false;
	return 0;
}

/* What the C library and libpcap need to read from an open descriptor. */
static const int pcap_syscalls[] = {
	SYS_lseek,
	SYS_newfstatat,
	SYS_fstat,
	0,
};

const struct capture_ops capture_pcap = {
	.name = "pcap",
	.replay = true,
	.readers_max = 1,
	.syscalls = pcap_syscalls,
	.prepare = pcap_prepare,
	.open = pcap_open_reader,
	.turn = pcap_turn,
	.rewind = pcap_rewind,
};
