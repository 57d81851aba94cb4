/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections towards other agents: which are open, to whom, and over which of
 * them the other end has proved that it knows our token.
 *
 * The library opens, keeps and closes them, and it chooses which one a message
 * takes.  It asks here for each socket, and once more before the first byte
 * goes out: the token must not go where nothing is proven.  It does not tell
 * of sockets that were never connected, and a descriptor that it closed may be
 * another file's by now: each line remembers the cookie of its socket, which
 * belongs to no other.
 */
#include "agent/peer_private.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

int peers_bind(const struct peers *p, int fd, const struct endpoint *to)
{
	struct endpoint from = { .port = 0 };
	struct sockaddr_storage ss;
	unsigned n = 0;
	int one = 1;

	for (size_t i = 0; i < p->n_listen; i++) {
		const struct ip_addr *a = &p->listen[i].addr;

		if (addr_is_v4(a) == addr_is_v4(&to->addr) &&
		    addr_classify(a) == addr_classify(&to->addr) &&
		    !(n && addr_equal(a, &from.addr))) {
			from.addr = *a;
			n++;
		}
	}
	if (n != 1)
		return 0;
	/* the port is chosen when the other end is known: there are more */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&ss,
		    endpoint_to_sockaddr(&from, &ss))
		       ? -errno
		       : 0;
}

/* Of all sockets since the machine began; 0: there is none. */
static uint64_t socket_cookie(int fd)
{
	socklen_t len = sizeof(uint64_t);
	uint64_t cookie = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len))
		return 0;
	return cookie;
}

static bool line_alive(const struct line *l)
{
	return socket_cookie(l->fd) == l->cookie;
}

static void line_drop(struct peers *p, struct line **at)
{
	struct line *line = *at;

	*at = line->next;
	for (struct peer_call *c = p->calls; c; c = c->next)
		if (c->line == line)
			c->line = NULL;
	free(line);
}

/* The library does not tell of sockets that never were connected. */
static void lines_check(struct peers *p)
{
	struct line **at = &p->lines;

	while (*at) {
		if (line_alive(*at))
			at = &(*at)->next;
		else
			line_drop(p, at);
	}
}

int line_open(struct peer_call *c, const struct sockaddr *addr)
{
	struct peers *p = c->peers;
	struct endpoint to;
	struct line *line;

	if (endpoint_from_sockaddr(addr, &to) || !endpoint_equal(&to, &c->to) ||
	    (addr_classify(&to.addr) != ADDR_UNICAST &&
	     addr_classify(&to.addr) != ADDR_LOOPBACK)) {
		c->refused = -EACCES;
		return -1;
	}
	if (call_needs_proof(c)) {
		c->unproven = true;
		return -1;
	}
	lines_check(p);
	line = calloc(1, sizeof(*line));
	if (!line)
		return -1;
	line->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC,
			  IPPROTO_TCP);
	if (line->fd >= 0 && peers_bind(p, line->fd, &to)) {
		close(line->fd);
		line->fd = -1;
	}
	if (line->fd < 0) {
		free(line);
		return -1;
	}
	line->cookie = socket_cookie(line->fd);
	line->to = to;
	line->next = p->lines;
	p->lines = line;
	c->line = line; /* so that nobody takes it for an idle one */
	c->opened = true;
	return line->fd;
}

static struct line *line_find(const struct peers *p, const struct endpoint *to,
			      int local_port)
{
	for (struct line *l = p->lines; l; l = l->next) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct endpoint local;

		if (endpoint_equal(&l->to, to) && line_alive(l) &&
		    !getsockname(l->fd, (struct sockaddr *)&ss, &len) &&
		    !endpoint_from_sockaddr((struct sockaddr *)&ss, &local) &&
		    local.port == local_port)
			return l;
	}
	return NULL;
}

bool line_take(struct peer_call *c, int local_port)
{
	c->line = line_find(c->peers, &c->to, local_port);
	if (call_needs_proof(c) && (!c->line || !c->line->proven)) {
		c->unproven = true;
		return false;
	}
	c->connected = true;
	return true;
}

int line_close(struct peers *p, int fd)
{
	struct line **at = &p->lines;

	while (*at && (*at)->fd != fd)
		at = &(*at)->next;
	if (*at)
		line_drop(p, at);
	return close(fd);
}

int lines_idle(const struct peers *p, const struct endpoint *to)
{
	int n = 0;

	for (const struct line *l = p->lines; l; l = l->next)
		n += endpoint_equal(&l->to, to) && !l->shut &&
		     (l->proven || !p->token[0]) && line_alive(l);
	for (const struct peer_call *c = p->calls; c; c = c->next)
		n -= endpoint_equal(&c->to, to) && !c->hello;
	return n;
}

bool peer_idle(const struct peers *p, const struct endpoint *to)
{
	return lines_idle(p, to) > 0;
}

/* The library finds them closed and takes them for no other call. */
void lines_shut(struct peers *p, const struct endpoint *to)
{
	for (struct line *l = p->lines; l; l = l->next) {
		bool used = !endpoint_equal(&l->to, to) || !line_alive(l);

		for (struct peer_call *c = p->calls; c && !used; c = c->next)
			used = c->line == l;
		if (!used && !shutdown(l->fd, SHUT_RDWR))
			l->shut = true;
	}
}

void lines_free(struct peers *p)
{
	while (p->lines)
		line_drop(p, &p->lines);
}
