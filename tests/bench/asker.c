// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Asks many agents without a tree, as cheaply as a client can: it looks for the
 * end of an answer and reads nothing in it.
 *
 *   asker turn|star FILE PATH ROUNDS [keep]
 *
 * FILE has an IPv4 address a line, all with port 8000.  turn: one after the
 * other; star: all at once.  Each request has a new connection; with keep they
 * stay, and a round before the first is not shown.  A round is a line
 * "MILLISECONDS ANSWERS", where only those with status 200 count.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/util.h"

#define HOSTS_MAX 4096
#define PORT      8000
#define WAIT_MS   5000

struct host {
	struct sockaddr_in sin;
	int fd; /* -1: not connected */
	char request[512];
	int len;
	char head[4096]; /* of the answer, with NUL */
	size_t n_head, left;
	bool whole_head;
};

struct asker {
	struct host *host;
	size_t n;
	int epoll_fd;
	bool keep;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void hosts_read(struct asker *a, const char *file, const char *path)
{
	FILE *f = fopen(file, "re");
	char line[64];

	if (!f)
		die(file);
	while (a->n < HOSTS_MAX && fgets(line, sizeof(line), f)) {
		struct host *h = &a->host[a->n++];

		line[strcspn(line, "\n")] = '\0';
		h->fd = -1;
		h->sin.sin_family = AF_INET;
		h->sin.sin_port = htons(PORT);
		if (inet_pton(AF_INET, line, &h->sin.sin_addr) != 1)
			die(line);
		h->len = snprintf(h->request, sizeof(h->request),
				  "GET %s HTTP/1.1\r\nHost: %s:%d\r\n\r\n",
				  path, line, PORT);
	}
	fclose(f);
}

static void host_close(struct host *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

/* Loopback: connected, or refused, when connect() returns. */
static void host_ask(struct asker *a, struct host *h)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = h };

	h->n_head = h->left = 0;
	h->whole_head = false;
	if (h->fd < 0) {
		h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (h->fd < 0 ||
		    connect(h->fd, (void *)&h->sin, sizeof(h->sin)) ||
		    epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, h->fd, &ev))
			die("connect");
	}
	if (send(h->fd, h->request, (size_t)h->len, MSG_NOSIGNAL) != h->len)
		die("send");
}

/* The length of the body follows the head. */
static void head_take(struct host *h)
{
	static const char length[] = "Content-Length: ";
	char *end, *at;

	h->head[h->n_head] = '\0';
	end = strstr(h->head, "\r\n\r\n");
	at = strstr(h->head, length);
	if (!end || !at)
		return;
	h->whole_head = true;
	h->left = strtoul(at + sizeof(length) - 1, NULL, 10);
	h->left -= MIN(h->left, h->n_head - (size_t)(end + 4 - h->head));
}

/* True: the answer is whole, or the connection ended. */
static bool host_read(struct host *h)
{
	static char body[1 << 16];
	ssize_t n;

	if (h->whole_head) {
		n = recv(h->fd, body, MIN(sizeof(body), h->left), 0);
		h->left -= (size_t)MAX(n, 0);
	} else {
		n = recv(h->fd, h->head + h->n_head,
			 sizeof(h->head) - 1 - h->n_head, 0);
		h->n_head += (size_t)MAX(n, 0);
		head_take(h);
	}
	if (n <= 0)
		host_close(h);
	return n <= 0 || (h->whole_head && !h->left);
}

/* Until n answers are there; how many have status 200. */
static size_t answers_wait(struct asker *a, size_t n)
{
	struct epoll_event ev[64];
	size_t good = 0;

	while (n > 0) {
		int ready = epoll_wait(a->epoll_fd, ev, 64, WAIT_MS);

		if (ready <= 0)
			break;
		for (int i = 0; i < ready; i++) {
			struct host *h = ev[i].data.ptr;

			if (!host_read(h))
				continue;
			n--;
			good += h->fd >= 0 &&
				!strncmp(h->head, "HTTP/1.1 200", 12);
			if (!a->keep)
				host_close(h);
		}
	}
	return good;
}

static void round_run(struct asker *a, bool star, bool show)
{
	uint64_t began = clock_mono_ns();
	size_t good = 0;

	for (size_t i = 0; i < a->n; i++) {
		host_ask(a, &a->host[i]);
		if (!star)
			good += answers_wait(a, 1);
	}
	if (star)
		good = answers_wait(a, a->n);
	if (show)
		printf("%.3f %zu\n", (double)(clock_mono_ns() - began) / 1e6,
		       good);
}

int main(int argc, char **argv)
{
	struct asker a = { .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	bool star = argc > 4 && !strcmp(argv[1], "star");
	uint64_t rounds;

	a.host = calloc(HOSTS_MAX, sizeof(*a.host));
	if (!a.host || a.epoll_fd < 0)
		die("asker");
	if (argc < 5 || (!star && strcmp(argv[1], "turn")) ||
	    parse_u64(argv[4], strlen(argv[4]), 1, 100000, &rounds)) {
		fputs("usage: asker turn|star FILE PATH ROUNDS [keep]\n",
		      stderr);
		return EXIT_USAGE;
	}
	a.keep = argc > 5 && !strcmp(argv[5], "keep");
	hosts_read(&a, argv[2], argv[3]);
	if (a.keep)
		round_run(&a, star, false);
	while (rounds-- > 0)
		round_run(&a, star, true);
	free(a.host);
	return 0;
}
