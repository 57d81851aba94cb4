/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections of the HTTP server, and the limits that its library has no
 * means for: connections from an address, time for a whole request (shutdown()
 * makes the library close the connection), clients' questions that take time.
 * Some connections are kept for neighbours in the tree, so that a busy agent
 * still answers them.  Who is at a neighbour's address is not known when they
 * come: no address has many of these either, nothing but what is between agents
 * is answered over them, and one over which no peer has asked yet gives way.
 *
 * A connection lives from accept to close, in one list; a list of 288 needs no
 * index.  The descriptor is the library's.  One timer looks at all; none runs
 * while there is no connection.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http_private.h"
#include "common/util.h"

#define CONNS_ADDR       32
#define CONNS_SPARE_ADDR 16 /* on top */
#define QUESTIONS        48 /* of clients; the tree has its own room */
#define QUESTIONS_ADDR   16
#define BACKLOG          128
#define REQUEST_MS       10000

int http_listen(const struct endpoint *ep)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(ep, &ss);
	const int one = 1;
	int fd, err;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (ss.ss_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) <
		     0) ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* a: NULL for all. */
static unsigned conns_from(const struct http_conns *cs, const struct ip_addr *a,
			   bool spare)
{
	unsigned n = 0;

	for (const struct http_conn *c = cs->first; c; c = c->next)
		n += c->spare == spare && !c->closing &&
		     (!a || addr_equal(&c->client.addr, a));
	return n;
}

static bool common_room(const struct http_conns *cs, const struct ip_addr *a)
{
	return conns_from(cs, NULL, false) < HTTP_CONNS &&
	       conns_from(cs, a, false) < CONNS_ADDR;
}

/* The spare one that waits longest for a peer to ask over it; or NULL. */
static struct http_conn *conn_to_give_way(const struct http_conns *cs,
					  const struct ip_addr *a)
{
	struct http_conn *oldest = NULL;

	for (struct http_conn *c = cs->first; c; c = c->next) {
		if (!c->spare || c->peer || c->kept || c->closing ||
		    (a && !addr_equal(&c->client.addr, a)))
			continue;
		if (!oldest || c->since_ms <= oldest->since_ms)
			oldest = c;
	}
	return oldest;
}

static bool spare_room(struct http_conns *cs, const struct ip_addr *a)
{
	struct http_conn *c;

	if (conns_from(cs, a, true) >= CONNS_SPARE_ADDR)
		c = conn_to_give_way(cs, a);
	else if (conns_from(cs, NULL, true) >= HTTP_CONNS_SPARE)
		c = conn_to_give_way(cs, NULL);
	else
		return true;
	if (!c)
		return false;
	c->closing = true;
	shutdown(c->fd, SHUT_RDWR);
	return true;
}

bool http_conns_room(struct http_conns *cs, const struct ip_addr *a)
{
	const struct http_config *config = cs->config;

	return common_room(cs, a) ||
	       (config->is_neighbour && config->is_neighbour(config->ctx, a) &&
		spare_room(cs, a));
}

/*
 * Ends what takes too long; the library notices the end and cleans up.  No
 * time begins earlier than it did, so there is nothing to see before the
 * first of them is over.
 */
static void conns_sweep(void *arg)
{
	struct http_conns *cs = arg;
	uint64_t now = clock_mono_ms(), next = now + REQUEST_MS;

	for (struct http_conn *c = cs->first; c; c = c->next) {
		uint64_t end = c->since_ms + REQUEST_MS;

		if (c->kept || c->upgraded)
			continue;
		if (end <= now)
			shutdown(c->fd, SHUT_RDWR);
		else
			next = MIN(next, end);
	}
	/* A timer that has just fired left room for itself: it cannot fail. */
	if (cs->n > 0)
		(void)loop_timer_at(cs->loop, &cs->sweep, next, conns_sweep,
				    cs);
}

static int conns_watch(struct http_conns *cs)
{
	if (cs->sweep.at_ms != 0)
		return 0;
	return loop_timer_in(cs->loop, &cs->sweep, REQUEST_MS, conns_sweep, cs);
}

struct http_conn *http_conn_add(struct http_conns *cs, int fd,
				const struct sockaddr *client)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct http_conn *c;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->fd = fd;
	c->since_ms = clock_mono_ms();
	if (endpoint_from_sockaddr(client, &c->client) != 0 ||
	    endpoint_from_sockaddr((struct sockaddr *)&ss, &c->local) != 0 ||
	    conns_watch(cs) != 0) {
		free(c);
		return NULL;
	}
	c->spare = !common_room(cs, &c->client.addr);
	c->number = ++cs->n_accepted;
	c->next = cs->first;
	if (c->next)
		c->next->prev = c;
	cs->first = c;
	cs->n++;
	return c;
}

void http_conn_del(struct http_conns *cs, struct http_conn *c)
{
	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else
		cs->first = c->next;
	cs->n--;
	free(c);
}

/* What needs no identity takes no time, what agents ask of each other is
 * limited where it is answered. */
static bool is_question(enum role role)
{
	return role != ROLE_NONE && role != ROLE_PEER;
}

void http_conn_keep(struct http_conns *cs, struct http_conn *c, enum role role)
{
	c->kept = true;
	c->question = is_question(role);
	cs->n_kept++;
	cs->n_questions += c->question;
}

void http_conn_resume(struct http_conns *cs, struct http_conn *c)
{
	c->kept = false;
	c->since_ms = clock_mono_ms();
	cs->n_kept--;
	cs->n_questions -= c->question;
	c->question = false;
}

bool http_query_room(const struct http_conns *cs, const struct http_conn *c,
		     enum role role)
{
	unsigned from = 0;

	if (!is_question(role))
		return true;
	for (const struct http_conn *o = cs->first; o; o = o->next)
		from += o->question &&
			addr_equal(&o->client.addr, &c->client.addr);
	return cs->n_questions < QUESTIONS && from < QUESTIONS_ADDR;
}
