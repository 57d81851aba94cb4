// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Traffic for tests in network namespaces.
 *
 *   flowgen send ADDR PORT RATE COUNT SIZE   numbered UDP datagrams
 *   flowgen recv ADDR PORT FILE              records them until SIGTERM
 *   flowgen tcpsend ADDR PORT SECONDS        as much TCP as goes through
 *   flowgen tcprecv ADDR PORT FILE           records it until SIGTERM
 *   flowgen spray FILE RATE                  raw IP packets of a file
 *
 * A datagram starts with its number and the time it was sent (u64, u64 ns).
 * A record is three u64: number (tcprecv: bytes), sent, received.  The file of
 * spray holds u16 length, then the packet from its IP header, both families
 * mixed.  Senders print what they did as JSON on standard output; receivers
 * print "ready".  Times are of the wall clock, the same for both ends.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/util.h"

#define PERIOD_NS 200000u /* senders wake up at most this often */
#define BATCH     64

static volatile sig_atomic_t stop;

static void on_term(int signo)
{
	(void)signo;
	stop = 1;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t number(const char *s)
{
	uint64_t v = 0;

	if (parse_u64(s, strlen(s), 0, UINT64_MAX, &v)) {
		fprintf(stderr, "flowgen: not a number: %s\n", s);
		exit(EXIT_USAGE);
	}
	return v;
}

static struct endpoint endpoint_arg(const char *addr, const char *port)
{
	struct endpoint e = { 0 };

	if (addr_parse(addr, strlen(addr), &e.addr)) {
		fprintf(stderr, "flowgen: not an address: %s\n", addr);
		exit(EXIT_USAGE);
	}
	e.port = (uint16_t)number(port);
	return e;
}

static int socket_open(const struct endpoint *e, int type, bool bound)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(e, &ss);
	int on = 1, big = 32 << 20;
	int fd = socket(ss.ss_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (type == SOCK_DGRAM) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	}
	if (bound ? bind(fd, (void *)&ss, len) : connect(fd, (void *)&ss, len))
		die(bound ? "bind" : "connect");
	return fd;
}

/* Waits until packet i of a stream with this rate is due. */
static void pace(uint64_t start, uint64_t i, uint64_t rate)
{
	uint64_t due = start + i * 1000000000u / rate;
	uint64_t now = now_ns(CLOCK_MONOTONIC);
	struct timespec ts;

	if (due <= now)
		return;
	if (rate > 1000000000u / PERIOD_NS && due - now < PERIOD_NS)
		due = now + PERIOD_NS;
	ts.tv_sec = (time_t)(due / 1000000000u);
	ts.tv_nsec = (long)(due % 1000000000u);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void report(uint64_t sent, uint64_t errors, uint64_t began)
{
	printf("{\"sent\": %llu, \"errors\": %llu, \"began\": %llu, "
	       "\"ended\": %llu}\n",
	       (unsigned long long)sent, (unsigned long long)errors,
	       (unsigned long long)began,
	       (unsigned long long)now_ns(CLOCK_REALTIME));
}

static int cmd_send(char **argv)
{
	struct endpoint to = endpoint_arg(argv[0], argv[1]);
	uint64_t rate = number(argv[2]), count = number(argv[3]);
	size_t size = MAX(number(argv[4]), 16u);
	int fd = socket_open(&to, SOCK_DGRAM, false);
	uint64_t began = now_ns(CLOCK_REALTIME), errors = 0, i;
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	uint64_t *data = calloc(1, size + 16);

	if (!data)
		die("calloc");
	for (i = 0; i < count && !stop; i++) {
		pace(start, i, rate);
		data[0] = i;
		data[1] = now_ns(CLOCK_REALTIME);
		/* ECONNREFUSED belongs to an earlier one: send again. */
		if (send(fd, data, size, 0) < 0 && send(fd, data, size, 0) < 0)
			errors++;
	}
	report(i, errors, began);
	free(data);
	return errors ? 1 : 0;
}

static void record(FILE *f, uint64_t what, uint64_t sent)
{
	uint64_t words[3] = { what, sent, now_ns(CLOCK_REALTIME) };

	if (fwrite(words, sizeof(words), 1, f) != 1)
		die("fwrite");
}

static FILE *record_open(const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		die(path);
	/* The receiver's own delay must not look like the network's. */
	setpriority(PRIO_PROCESS, 0, -15);
	puts("ready");
	fflush(stdout);
	return f;
}

static int cmd_recv(char **argv)
{
	struct endpoint at = endpoint_arg(argv[0], argv[1]);
	int fd = socket_open(&at, SOCK_DGRAM, true);
	FILE *f = record_open(argv[2]);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static uint64_t data[8192];

	while (!stop) {
		if (poll(&p, 1, 20) == 0)
			fflush(f);
		while (recv(fd, data, sizeof(data), MSG_DONTWAIT) >= 16)
			record(f, data[0], data[1]);
	}
	return fclose(f) ? 1 : 0;
}

static int cmd_tcpsend(char **argv)
{
	struct endpoint to = endpoint_arg(argv[0], argv[1]);
	int fd = socket_open(&to, SOCK_STREAM, false);
	uint64_t began = now_ns(CLOCK_REALTIME), sent = 0;
	uint64_t end = now_ns(CLOCK_MONOTONIC) + number(argv[2]) * 1000000000u;
	static char data[1 << 18];

	while (!stop && now_ns(CLOCK_MONOTONIC) < end) {
		ssize_t n = send(fd, data, sizeof(data), MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		sent += (uint64_t)n;
	}
	report(sent, 0, began);
	return 0;
}

static int cmd_tcprecv(char **argv)
{
	struct endpoint at = endpoint_arg(argv[0], argv[1]);
	int fd = socket_open(&at, SOCK_STREAM, true);
	static char data[1 << 18];
	uint64_t last, sum = 0;
	FILE *f = NULL;
	ssize_t n;
	int c;

	if (listen(fd, 1))
		die("listen");
	f = record_open(argv[2]);
	c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (c < 0)
		return stop ? 0 : 1;
	last = now_ns(CLOCK_REALTIME);
	record(f, 0, 0);
	while (!stop && (n = recv(c, data, sizeof(data), 0)) > 0) {
		sum += (uint64_t)n;
		/* A record a millisecond is fine enough to find a gap. */
		if (now_ns(CLOCK_REALTIME) - last < 1000000)
			continue;
		record(f, sum, last);
		last = now_ns(CLOCK_REALTIME);
		sum = 0;
	}
	record(f, sum, last);
	return fclose(f) ? 1 : 0;
}

static void raw_address(const uint8_t *pkt, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (pkt[0] >> 4 == 4) {
		struct sockaddr_in *sin = (void *)ss;

		sin->sin_family = AF_INET;
		memcpy(&sin->sin_addr, pkt + 16, 4);
	} else {
		struct sockaddr_in6 *sin6 = (void *)ss;

		sin6->sin6_family = AF_INET6;
		memcpy(&sin6->sin6_addr, pkt + 24, 16);
	}
}

static int cmd_spray(char **argv)
{
	FILE *f = fopen(argv[0], "re");
	uint64_t rate = number(argv[1]), i, errors = 0;
	uint64_t began = now_ns(CLOCK_REALTIME);
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	int on = 1, big = 32 << 20;
	int fd4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	int fd6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	static uint8_t pkt[65536];
	struct sockaddr_storage ss;
	uint16_t len;

	if (!f || fd4 < 0 || fd6 < 0)
		die("spray");
	setsockopt(fd6, IPPROTO_IPV6, 36 /* IPV6_HDRINCL */, &on, sizeof(on));
	setsockopt(fd4, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	setsockopt(fd6, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	for (i = 0; !stop && fread(&len, sizeof(len), 1, f) == 1; i++) {
		bool v4;

		if (fread(pkt, len, 1, f) != 1)
			die("spray: short file");
		v4 = pkt[0] >> 4 == 4;
		pace(start, i, rate);
		raw_address(pkt, &ss);
		if (sendto(v4 ? fd4 : fd6, pkt, len, 0, (void *)&ss,
			   v4 ? sizeof(struct sockaddr_in)
			      : sizeof(struct sockaddr_in6)) < 0 &&
		    !errors++)
			perror("sendto");
	}
	report(i, errors, began);
	fclose(f);
	return errors ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*fn)(char **argv);
	} commands[] = {
		{ "send", 5, cmd_send },       { "recv", 3, cmd_recv },
		{ "tcpsend", 3, cmd_tcpsend }, { "tcprecv", 3, cmd_tcprecv },
		{ "spray", 2, cmd_spray },
	};
	struct sigaction sa = { .sa_handler = on_term };

	sigaction(SIGTERM, &sa, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (argc == commands[i].args + 2 &&
		    !strcmp(argv[1], commands[i].name))
			return commands[i].fn(argv + 2);
	fputs("usage: flowgen send|recv|tcpsend|tcprecv|spray …\n", stderr);
	return EXIT_USAGE;
}
