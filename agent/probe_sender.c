/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The asked agent's role in a probe: it reserves the responder, opens a stream
 * or sends a train, and takes the figures.  One timer ends it whatever happens.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/json.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/probe_private.h"
#include "common/util.h"

#define DATAGRAM_MS 10
#define RESERVE_MS  1000 /* for the responder's answer */
#define SETTLE_MS   200  /* for the last datagram to arrive */

void probe_sender_finish(struct probes *ps, const char *failure)
{
	struct sender *s = ps->sender;
	struct probe *p = s->probe;

	ps->sender = NULL;
	peer_cancel(s->call);
	probe_io_close(&s->io);
	loop_timer_cancel(&s->end);
	loop_timer_cancel(&s->tick);
	loop_timer_cancel(&s->limit);
	probe_chunk_free(s->chunk);
	p->ended_ms = clock_wall_ms();
	p->state = failure ? PROBE_FAILED : PROBE_DONE;
	if (failure && p->error.code == ERR_NONE)
		error_set(&p->error, ERR_PROBE_FAILED, "", failure);
	if (s->done)
		s->done(s->arg, p);
	free(s);
}

static void sender_overdue(void *arg)
{
	probe_sender_finish(arg, "the peer did not answer in time");
}

/* The responder's figures.  0 or -EINVAL. */
static int result_take(struct probe *p, const char *text, size_t len)
{
	struct probe_result *r = &p->result;
	struct json *v = NULL;
	uint64_t received, reordered;
	int ret = json_parse(text, len, &v);

	if (!ret && p->kind == PROBE_BW) {
		ret = json_u64(json_get(v, "bytes"), 1, PROBE_BYTES_MAX * 2,
			       &r->bytes) ||
		      json_real(json_get(v, "seconds"), 1e-9, 3600,
				&r->seconds);
		if (!ret)
			r->mbytes_per_s =
				(double)r->bytes / 0x1p20 / r->seconds;
	} else if (!ret) {
		ret = json_u64(json_get(v, "received"), 0, UINT32_MAX,
			       &received) ||
		      json_u64(json_get(v, "reordered"), 0, UINT32_MAX,
			       &reordered) ||
		      json_real(json_get(v, "jitter_ms"), 0, 1e6,
				&r->jitter_ms);
		r->received = ret ? 0 : (uint32_t)received;
		r->reordered = ret ? 0 : (uint32_t)reordered;
	}
	json_free(v);
	return ret ? -EINVAL : 0;
}

static void stream_end(void *arg)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;

	if (s->shut)
		return;
	s->shut = true;
	loop_timer_cancel(&s->end);
	shutdown(s->io.fd, SHUT_WR);
	loop_io_mod(&s->io, EPOLLIN);
}

static void stream_write(struct probes *ps)
{
	struct sender *s = ps->sender;

	for (unsigned i = 0; i < PROBE_CHUNKS_PER_TURN; i++) {
		uint64_t left = PROBE_BYTES_MAX - s->bytes;
		ssize_t n = send(s->io.fd, s->chunk,
				 MIN(left, PROBE_CHUNK_BYTES),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			probe_sender_finish(ps, "the peer closed the stream");
			return;
		}
		s->bytes += (uint64_t)n;
		if (s->bytes >= PROBE_BYTES_MAX) {
			stream_end(ps);
			return;
		}
	}
}

/* The head of the upgrade's answer is complete: stream, or give up. */
static void stream_begin(struct probes *ps, char *end)
{
	struct sender *s = ps->sender;
	uint64_t ms = (uint64_t)(s->probe->duration_s * 1000);

	if (strncmp(s->in, "HTTP/1.1 101 ", 13) != 0) {
		probe_sender_finish(ps, "the peer refused the stream");
		return;
	}
	s->in_len -= (size_t)(end - s->in);
	memmove(s->in, end, s->in_len + 1);
	s->streaming = true;
	s->began_ms = clock_mono_ms();
	loop_timer_in(ps->agent->loop, &s->end, ms, stream_end, ps);
	loop_io_mod(&s->io, EPOLLIN | EPOLLOUT);
}

/* Bytes from the responder: the upgrade's head, at the end the figures. */
static void stream_read(struct probes *ps)
{
	struct sender *s = ps->sender;
	ssize_t n = recv(s->io.fd, s->in + s->in_len,
			 sizeof(s->in) - 1 - s->in_len, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		s->in_len += (size_t)n;
		s->in[s->in_len] = '\0';
		end = s->streaming ? NULL : strstr(s->in, "\r\n\r\n");
		if (end)
			stream_begin(ps, end + 4);
		return;
	}
	if (n == 0 && s->streaming && !result_take(s->probe, s->in, s->in_len))
		probe_sender_finish(ps, NULL);
	else
		probe_sender_finish(ps, "the peer ended the stream");
}

static void stream_io(void *arg, uint32_t events)
{
	struct probes *ps = arg;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		stream_read(ps);
	if (ps->sender && (events & EPOLLOUT) && ps->sender->streaming &&
	    !ps->sender->shut)
		stream_write(ps);
}

static void stream_connected(void *arg, uint32_t events)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;
	char head[512], host[ENDPOINT_TEXT_LEN], nonce[33];
	int err = 0, fd = s->io.fd, len;
	socklen_t err_len = sizeof(err);

	(void)events;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len);
	endpoint_format(&s->to, 0, host);
	hex_encode(s->nonce.b, sizeof(s->nonce.b), nonce);
	len = snprintf(head, sizeof(head),
		       "GET /api/v1/peer/probe/%s HTTP/1.1\r\n"
		       "Host: %s\r\nConnection: Upgrade\r\n"
		       "Upgrade: linnet-probe\r\n\r\n",
		       nonce, host);
	if (err ||
	    send(fd, head, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len) {
		probe_sender_finish(ps, "no connection to the peer");
		return;
	}
	loop_io_del(&s->io);
	if (loop_io_add(ps->agent->loop, &s->io, fd, EPOLLIN, stream_io, ps)) {
		close(fd);
		probe_sender_finish(ps, "out of memory");
	}
}

/* A non-blocking socket connecting to the peer, handled by fn. */
static int sender_connect(struct probes *ps, int type, uint32_t events,
			  void (*fn)(void *arg, uint32_t events))
{
	struct sender *s = ps->sender;
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(&s->to, &ss);
	int fd = socket(ss.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (peers_bind(ps->agent->peers, fd, &s->to) ||
	    (connect(fd, (struct sockaddr *)&ss, len) &&
	     errno != EINPROGRESS) ||
	    loop_io_add(ps->agent->loop, &s->io, fd, events, fn, ps)) {
		close(fd);
		return -EHOSTUNREACH;
	}
	return 0;
}

static void result_fetched(void *arg, const struct peer_reply *r)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;

	s->call = NULL;
	if (r->status != 200 || result_take(s->probe, r->body, r->len))
		probe_sender_finish(ps, "the peer gave no result");
	else if (!s->probe->result.received)
		probe_sender_finish(ps, "no datagram arrived");
	else
		probe_sender_finish(ps, NULL);
}

static void result_fetch(void *arg)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;
	char path[80], nonce[33];
	struct peer_request rq = { .to = s->to,
				   .method = HTTP_GET,
				   .path = path,
				   .timeout_ms = RESERVE_MS,
				   .connect_ms = RESERVE_MS / 2,
				   .reply_max = 4096 };

	hex_encode(s->nonce.b, sizeof(s->nonce.b), nonce);
	snprintf(path, sizeof(path), "/api/v1/peer/probe/%s", nonce);
	s->call = peer_start(ps->agent->peers, &rq, result_fetched, ps);
	if (!s->call)
		probe_sender_finish(ps, "out of memory");
}

/* One datagram every 10 ms by the clock, not by the sum of waits. */
static void train_send(void *arg)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;
	union {
		struct datagram d;
		uint8_t b[PROBE_DATAGRAM_BYTES];
	} msg = { 0 };

	msg.d.nonce = s->nonce;
	msg.d.seq = s->seq++;
	msg.d.sent_ns = clock_mono_ns();
	if (send(s->io.fd, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		s->probe->result.sent++;
	if (s->seq < s->n_datagrams)
		loop_timer_at(ps->agent->loop, &s->tick,
			      s->began_ms + (uint64_t)s->seq * DATAGRAM_MS,
			      train_send, ps);
	else
		loop_timer_in(ps->agent->loop, &s->tick, SETTLE_MS,
			      result_fetch, ps);
}

static void train_error(void *arg, uint32_t events)
{
	struct probes *ps = arg;
	int err;
	socklen_t len = sizeof(err);

	(void)events; /* a refused datagram: fetching the result will tell */
	getsockopt(ps->sender->io.fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

static void sender_go(struct probes *ps)
{
	struct sender *s = ps->sender;
	int ret;

	if (s->probe->kind == PROBE_JITTER) {
		ret = sender_connect(ps, SOCK_DGRAM, 0, train_error);
		s->n_datagrams =
			(uint32_t)(s->probe->duration_s * 1000 / DATAGRAM_MS);
		s->began_ms = clock_mono_ms();
		if (!ret) {
			train_send(ps);
			return;
		}
	} else {
		s->chunk = probe_chunk_new(PROT_READ);
		ret = s->chunk ? sender_connect(ps, SOCK_STREAM, EPOLLOUT,
						stream_connected)
			       : -ENOMEM;
	}
	if (ret)
		probe_sender_finish(ps, "no connection to the peer");
}

static void reserved(void *arg, const struct peer_reply *r)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;
	struct json *v = NULL;
	const char *text = "";
	size_t len = 0;

	s->call = NULL;
	if (r->status == 429) {
		error_set(&s->probe->error, ERR_PROBE_BUSY, "",
			  "the peer has a probe running");
		probe_sender_finish(ps, "");
		return;
	}
	if (r->status != 200 || json_parse(r->body, r->len, &v) ||
	    json_str(json_get(v, "nonce"), 32, &text, &len) ||
	    hex_decode(text, len, s->nonce.b, sizeof(s->nonce.b))) {
		json_free(v);
		probe_sender_finish(ps, r->status ? "the peer refused the probe"
						  : "the peer does not answer");
		return;
	}
	json_free(v);
	sender_go(ps);
}

static struct probe *history_slot(struct probes *ps)
{
	return &ps->history[ps->n % PROBE_HISTORY];
}

static int sender_reserve(struct probes *ps)
{
	struct sender *s = ps->sender;
	struct peer_request rq = { .to = s->to,
				   .method = HTTP_POST,
				   .path = "/api/v1/peer/probe",
				   .timeout_ms = RESERVE_MS,
				   .connect_ms = RESERVE_MS / 2,
				   .reply_max = 4096 };
	char body[96];

	rq.len = (size_t)snprintf(body, sizeof(body),
				  "{\"kind\": \"%s\", \"duration_s\": %.3f}",
				  probe_kind_name(s->probe->kind),
				  s->probe->duration_s);
	rq.body = body;
	s->call = peer_start(ps->agent->peers, &rq, reserved, ps);
	return s->call ? 0 : -ENOMEM;
}

int probe_start(struct agent *a, enum probe_kind kind,
		const struct ip_addr *dst, double duration_s, uint64_t *id,
		struct error *e, void (*done)(void *arg, const struct probe *p),
		void *arg)
{
	struct probes *ps = a->probes;
	struct endpoint to;
	struct probe *p;

	if (!overlay_known_peer(a->overlay, dst, &to) ||
	    overlay_is_self(a->overlay, dst)) {
		error_set(e, ERR_NOT_PEER, "dst", "");
		return -EINVAL;
	}
	if (probes_busy(ps)) {
		error_set(e, ERR_PROBE_BUSY, "", "one probe at a time");
		return -EBUSY;
	}
	ps->sender = calloc(1, sizeof(*ps->sender));
	if (!ps->sender) {
		error_set(e, ERR_INTERNAL, "", "");
		return -ENOMEM;
	}
	p = history_slot(ps);
	*p = (struct probe){ .id = random_u64() | 1,
			     .kind = kind,
			     .src = overlay_endpoint(a->overlay),
			     .dst = to,
			     .duration_s = duration_s,
			     .began_ms = clock_wall_ms() };
	*ps->sender = (struct sender){ .probe = p,
				       .to = to,
				       .io = LOOP_IO_INIT,
				       .done = done,
				       .arg = arg };
	loop_timer_in(a->loop, &ps->sender->limit,
		      (uint64_t)(duration_s * 1000) + PROBE_GRACE_MS,
		      sender_overdue, ps);
	if (sender_reserve(ps)) {
		ps->sender->done = NULL;
		probe_sender_finish(ps, "out of memory");
		error_set(e, ERR_INTERNAL, "", "");
		return -ENOMEM;
	}
	ps->n++;
	*id = p->id;
	return 0;
}
