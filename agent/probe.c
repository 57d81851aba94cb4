/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes between two agents.  The asked agent reserves the responder on the
 * other host (POST peer/probe, which answers a nonce good for one probe), then
 *
 *   bw      opens a TCP connection, upgrades it with GET peer/probe/NONCE and
 *           writes until the time is over or 1 GiB is sent; the responder
 *           measures from its first to its last byte and writes one line of
 *           JSON back;
 *   jitter  sends a 200-byte datagram every 10 ms to the agent's port number
 *           and then fetches the responder's figures with GET peer/probe/NONCE.
 *
 * One probe at a time on a host, in either role.  Everything is bounded: each
 * role has one timer that ends it whatever happens, and moves a bounded number
 * of bytes per turn of the loop, so that the agent goes on answering.
 */
#include "agent/probe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probe_private.h"
#include "common/log.h"
#include "common/util.h"

#define HISTORY_MS (3600 * 1000)

static const char *const kind_names[] = {
	[PROBE_BW] = "bw",
	[PROBE_JITTER] = "jitter",
};
static_assert(ARRAY_SIZE(kind_names) == PROBE_KINDS, "a name for each kind");

const char *probe_kind_name(enum probe_kind k)
{
	return kind_names[k];
}

void probe_io_close(struct loop_io *io)
{
	int fd = io->fd;

	if (fd < 0)
		return;
	loop_io_del(io);
	close(fd);
}

uint8_t *probe_chunk_new(int prot)
{
	void *p = mmap(NULL, PROBE_CHUNK_BYTES, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void probe_chunk_free(uint8_t *chunk)
{
	if (chunk)
		munmap(chunk, PROBE_CHUNK_BYTES);
}

static int udp_open(struct probes *ps, const struct endpoint *ep, struct udp *u)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(ep, &ss);
	int one = 1;
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);
	int ret;

	if (fd < 0)
		return -errno;
	u->probes = ps;
	if ((ss.ss_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) ||
	    bind(fd, (struct sockaddr *)&ss, len)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	ret = loop_io_add(ps->agent->loop, &u->io, fd, EPOLLIN,
			  probe_train_receive, u);
	if (ret)
		close(fd);
	return ret;
}

int probes_open(struct probes **out, struct agent *a)
{
	struct probes *ps = calloc(1, sizeof(*ps));
	int ret = 0;

	if (!ps)
		return -ENOMEM;
	ps->agent = a;
	for (unsigned i = 0; i < CONF_LISTEN; i++)
		ps->udp[i].io = LOOP_IO_INIT;
	for (size_t i = 0; i < a->conf->n_listen && !ret; i++)
		ret = udp_open(ps, &a->conf->listen[i], &ps->udp[i]);
	if (ret) {
		log_errx("probe: cannot bind the UDP port of a listener: %s",
			 strerror(-ret));
		probes_free(ps);
		return ret;
	}
	*out = ps;
	return 0;
}

void probes_free(struct probes *ps)
{
	if (!ps)
		return;
	if (ps->sender) {
		ps->sender->done = NULL;
		probe_sender_finish(ps, "the agent stops");
	}
	if (ps->responder)
		probe_responder_finish(ps);
	for (unsigned i = 0; i < CONF_LISTEN; i++)
		probe_io_close(&ps->udp[i].io);
	free(ps);
}

bool probes_busy(const struct probes *ps)
{
	return ps->sender || ps->responder;
}

static bool probe_kept(const struct probe *p)
{
	return p->id && (p->state == PROBE_RUNNING ||
			 clock_wall_ms() - p->ended_ms < HISTORY_MS);
}

const struct probe *probe_find(const struct probes *ps, uint64_t id)
{
	for (unsigned i = 0; i < PROBE_HISTORY; i++)
		if (ps->history[i].id == id && probe_kept(&ps->history[i]))
			return &ps->history[i];
	return NULL;
}

unsigned probe_list(const struct probes *ps, const struct probe **out,
		    unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PROBE_HISTORY && n < max; i++) {
		const struct probe *p =
			&ps->history[(ps->n + i) % PROBE_HISTORY];

		if (probe_kept(p))
			out[n++] = p;
	}
	return n;
}

int probe_cancel(struct probes *ps, uint64_t id)
{
	for (unsigned i = 0; i < PROBE_HISTORY; i++) {
		struct probe *p = &ps->history[i];

		if (p->id != id || !probe_kept(p))
			continue;
		if (p->state == PROBE_RUNNING)
			probe_sender_finish(ps, "cancelled");
		p->id = 0;
		return 0;
	}
	return -ENOENT;
}
