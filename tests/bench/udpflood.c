/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 64-byte UDP datagrams as fast as one thread sends them, and the count of
 * those that arrive.  A datagram is charged to its sender until the receiving
 * host is done with it, even across a veth pair; a sender's buffer that is
 * never full stands for a sender on another machine.
 *
 *   udpflood send ADDR PORT SECONDS [RATE]   prints the number sent
 *   udpflood recv ADDR PORT                  until SIGTERM, prints the number
 *
 * RATE is in datagrams a second, a call each; without it 64 a call, no pause.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "common/addr.h"
#include "common/util.h"

#define BATCH 64
#define BYTES 64

static volatile sig_atomic_t stop;

static void on_term(int signo)
{
	(void)signo;
	stop = 1;
}

static void batch_init(struct mmsghdr *m, struct iovec *iov, char *data)
{
	memset(m, 0, sizeof(*m) * BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ data, BYTES };
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
}

static uint64_t flood(int fd, struct mmsghdr *m, double seconds)
{
	uint64_t end = clock_mono_ns() + (uint64_t)(seconds * 1e9), sent = 0;

	while (clock_mono_ns() < end) {
		int n = sendmmsg(fd, m, BATCH, 0);

		if (n > 0)
			sent += (uint64_t)n;
	}
	return sent;
}

/* Never ahead of the clock; how far behind it, the number tells. */
static uint64_t pace(int fd, struct mmsghdr *m, double seconds, double rate)
{
	uint64_t start = clock_mono_ns(), sent = 0;

	for (;;) {
		double past = (double)(clock_mono_ns() - start) / 1e9;

		if (past >= seconds)
			return sent;
		if ((double)sent < rate * past && sendmmsg(fd, m, 1, 0) == 1)
			sent++;
	}
}

static uint64_t count(int fd, struct mmsghdr *m)
{
	/* is seldom woken: not its turns on a processor are measured */
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct sigaction sa = { .sa_handler = on_term };
	uint64_t got = 0;

	sigaction(SIGTERM, &sa, NULL);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = recvmmsg(fd, m, BATCH, MSG_DONTWAIT, NULL);

		if (n > 0)
			got += (uint64_t)n;
		else if (stop)
			return got;
		else
			nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	static struct mmsghdr m[BATCH];
	static struct iovec iov[BATCH];
	static char data[BYTES];
	struct sockaddr_storage ss;
	struct endpoint ep;
	uint64_t port, n;
	double seconds = 0, rate = 0;
	int fd, size = 8 << 20, send = argc >= 5;
	socklen_t len;

	if (argc < 4 || argc > 6 ||
	    addr_parse(argv[2], strlen(argv[2]), &ep.addr) ||
	    parse_u64(argv[3], strlen(argv[3]), 1, UINT16_MAX, &port) ||
	    (send && parse_real(argv[4], strlen(argv[4]), 0, 60, &seconds)) ||
	    (argc == 6 &&
	     parse_real(argv[5], strlen(argv[5]), 1, 1e8, &rate))) {
		fprintf(stderr, "usage: udpflood send|recv ADDR PORT"
				" [SECONDS [RATE]]\n");
		return 64;
	}
	ep.port = (uint16_t)port;
	len = endpoint_to_sockaddr(&ep, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM, 0);
	batch_init(m, iov, data);
	setsockopt(fd, SOL_SOCKET, send ? SO_SNDBUFFORCE : SO_RCVBUFFORCE,
		   &size, sizeof(size));
	if (fd < 0 || (send ? connect(fd, (struct sockaddr *)&ss, len)
			    : bind(fd, (struct sockaddr *)&ss, len))) {
		perror("udpflood");
		return 1;
	}
	if (!send)
		n = count(fd, m);
	else if (rate > 0)
		n = pace(fd, m, seconds, rate);
	else
		n = flood(fd, m, seconds);
	printf("%llu\n", (unsigned long long)n);
	return 0;
}
