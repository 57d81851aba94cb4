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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/jitter.h"
#include "agent/json.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "common/log.h"
#include "common/util.h"

#define HISTORY         64
#define HISTORY_MS      (3600 * 1000)
#define BYTES_MAX       (UINT64_C(1) << 30)
#define CHUNK_BYTES     (128 * 1024)
#define CHUNKS_PER_TURN 8
#define DATAGRAM_BYTES  200
#define DATAGRAM_MS     10
#define GRACE_MS        2000 /* beyond the duration, for both roles */
#define RESERVE_MS      1000 /* for the responder's answer */
#define NONCE_MS        5000 /* to begin after reserving */
#define SETTLE_MS       200  /* for the last datagram to arrive */

struct nonce {
	uint8_t b[16];
};

/* A datagram of the jitter train; the rest is zero. */
struct datagram {
	struct nonce nonce;
	uint32_t seq, reserved;
	uint64_t sent_ns;
};

struct sender {
	struct probe *probe;
	struct endpoint to;
	struct nonce nonce;
	struct peer_call *call;
	struct loop_io io;
	struct loop_timer end, tick, limit;
	bool streaming, shut;
	uint64_t bytes, began_ms;
	uint32_t seq, n_datagrams;
	uint8_t *chunk;
	char in[1024]; /* reply head, then result line */
	size_t in_len;
	void (*done)(void *arg, const struct probe *p);
	void *arg;
};

struct responder {
	enum probe_kind kind;
	struct nonce nonce;
	struct loop_timer limit;
	bool started;
	uint32_t duration_ms;
	uint64_t until_ms; /* monotonic, of a train */
	/* bw */
	struct http_upgraded *up;
	struct loop_io io;
	uint64_t bytes, first_ns, last_ns;
	uint8_t *chunk;
	/* jitter */
	struct jitter jitter;
};

struct probes {
	struct agent *agent;
	struct probe history[HISTORY];
	unsigned n; /* probes ever started */
	struct sender *sender;
	struct responder *responder;
	struct udp {
		struct loop_io io;
		struct probes *probes;
	} udp[CONF_LISTEN];
};

static const char *const kind_names[] = {
	[PROBE_BW] = "bw",
	[PROBE_JITTER] = "jitter",
};
static_assert(ARRAY_SIZE(kind_names) == PROBE_KINDS, "a name for each kind");

const char *probe_kind_name(enum probe_kind k)
{
	return kind_names[k];
}

static void io_close(struct loop_io *io)
{
	int fd = io->fd;

	if (fd < 0)
		return;
	loop_io_del(io);
	close(fd);
}

/* Memory for the stream, only while there is one; NULL: none. */
static uint8_t *chunk_new(int prot)
{
	void *p = mmap(NULL, CHUNK_BYTES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	return p == MAP_FAILED ? NULL : p;
}

static void chunk_free(uint8_t *chunk)
{
	if (chunk)
		munmap(chunk, CHUNK_BYTES);
}

/* ---- sender ---- */

static void sender_finish(struct probes *ps, const char *failure)
{
	struct sender *s = ps->sender;
	struct probe *p = s->probe;

	ps->sender = NULL;
	peer_cancel(s->call);
	io_close(&s->io);
	loop_timer_cancel(&s->end);
	loop_timer_cancel(&s->tick);
	loop_timer_cancel(&s->limit);
	chunk_free(s->chunk);
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
	sender_finish(arg, "the peer did not answer in time");
}

/* The responder's figures.  0 or -EINVAL. */
static int result_take(struct probe *p, const char *text, size_t len)
{
	struct probe_result *r = &p->result;
	struct json *v = NULL;
	uint64_t received, reordered;
	int ret = json_parse(text, len, &v);

	if (!ret && p->kind == PROBE_BW) {
		ret = json_u64(json_get(v, "bytes"), 1, BYTES_MAX * 2,
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

	for (unsigned i = 0; i < CHUNKS_PER_TURN; i++) {
		uint64_t left = BYTES_MAX - s->bytes;
		ssize_t n = send(s->io.fd, s->chunk, MIN(left, CHUNK_BYTES),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			sender_finish(ps, "the peer closed the stream");
			return;
		}
		s->bytes += (uint64_t)n;
		if (s->bytes >= BYTES_MAX) {
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
		sender_finish(ps, "the peer refused the stream");
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
		sender_finish(ps, NULL);
	else
		sender_finish(ps, "the peer ended the stream");
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
		sender_finish(ps, "no connection to the peer");
		return;
	}
	loop_io_del(&s->io);
	if (loop_io_add(ps->agent->loop, &s->io, fd, EPOLLIN, stream_io, ps)) {
		close(fd);
		sender_finish(ps, "out of memory");
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
		sender_finish(ps, "the peer gave no result");
	else if (!s->probe->result.received)
		sender_finish(ps, "no datagram arrived");
	else
		sender_finish(ps, NULL);
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
		sender_finish(ps, "out of memory");
}

/* One datagram every 10 ms by the clock, not by the sum of waits. */
static void train_send(void *arg)
{
	struct probes *ps = arg;
	struct sender *s = ps->sender;
	union {
		struct datagram d;
		uint8_t b[DATAGRAM_BYTES];
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
		s->chunk = chunk_new(PROT_READ);
		ret = s->chunk ? sender_connect(ps, SOCK_STREAM, EPOLLOUT,
						stream_connected)
			       : -ENOMEM;
	}
	if (ret)
		sender_finish(ps, "no connection to the peer");
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
		sender_finish(ps, "");
		return;
	}
	if (r->status != 200 || json_parse(r->body, r->len, &v) ||
	    json_str(json_get(v, "nonce"), 32, &text, &len) ||
	    hex_decode(text, len, s->nonce.b, sizeof(s->nonce.b))) {
		json_free(v);
		sender_finish(ps, r->status ? "the peer refused the probe"
					    : "the peer does not answer");
		return;
	}
	json_free(v);
	sender_go(ps);
}

static struct probe *history_slot(struct probes *ps)
{
	return &ps->history[ps->n % HISTORY];
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
				  kind_names[s->probe->kind],
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
		      (uint64_t)(duration_s * 1000) + GRACE_MS, sender_overdue,
		      ps);
	if (sender_reserve(ps)) {
		ps->sender->done = NULL;
		sender_finish(ps, "out of memory");
		error_set(e, ERR_INTERNAL, "", "");
		return -ENOMEM;
	}
	ps->n++;
	*id = p->id;
	return 0;
}

/* ---- responder ---- */

static void responder_finish(struct probes *ps)
{
	struct responder *r = ps->responder;

	ps->responder = NULL;
	loop_io_del(&r->io);
	if (r->up)
		http_upgrade_close(r->up);
	loop_timer_cancel(&r->limit);
	chunk_free(r->chunk);
	free(r);
}

static void responder_overdue(void *arg)
{
	responder_finish(arg);
}

/* The sender is through: one line with the figures, then close. */
static void sink_finish(struct probes *ps)
{
	struct responder *r = ps->responder;
	double seconds = (double)(r->last_ns - r->first_ns) / 1e9;
	char line[96];
	int len = snprintf(line, sizeof(line),
			   "{\"bytes\": %llu, \"seconds\": %.9f}",
			   (unsigned long long)r->bytes, seconds);

	if (send(r->io.fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("probe: the sender is gone");
	responder_finish(ps);
}

static void sink_io(void *arg, uint32_t events)
{
	struct probes *ps = arg;
	struct responder *r = ps->responder;

	(void)events;
	for (unsigned i = 0; i < CHUNKS_PER_TURN; i++) {
		/* copied as a program that wants the bytes would have it */
		ssize_t n = recv(r->io.fd, r->chunk, CHUNK_BYTES, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			sink_finish(ps);
			return;
		}
		r->last_ns = clock_mono_ns();
		if (!r->bytes)
			r->first_ns = r->last_ns;
		r->bytes += (uint64_t)n;
		if (r->bytes > BYTES_MAX * 2) {
			responder_finish(ps);
			return;
		}
	}
}

static void sink_begin(void *arg, struct http_upgraded *u, int fd,
		       const void *early, size_t n_early)
{
	struct probes *ps = arg;
	struct responder *r = ps->responder;

	(void)early;
	if (!r || r->up) {
		http_upgrade_close(u);
		return;
	}
	r->up = u;
	r->bytes = n_early;
	r->first_ns = r->last_ns = clock_mono_ns();
	r->chunk = chunk_new(PROT_READ | PROT_WRITE);
	if (!r->chunk ||
	    loop_io_add(ps->agent->loop, &r->io, fd, EPOLLIN, sink_io, ps))
		responder_finish(ps);
}

/* A train that stands still is over before its time: its sender gave up. */
static void train_goes_on(struct probes *ps)
{
	struct responder *r = ps->responder;
	uint64_t until = MIN(r->until_ms, clock_mono_ms() + GRACE_MS);

	loop_timer_at(ps->agent->loop, &r->limit, until, responder_overdue, ps);
}

static void train_receive(void *arg, uint32_t events)
{
	struct udp *u = arg;
	struct responder *r = u->probes->responder;
	struct datagram d;

	(void)events;
	for (unsigned i = 0; i < 64; i++) {
		ssize_t n =
			recv(u->io.fd, &d, sizeof(d), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0)
			return;
		if (!r || r->kind != PROBE_JITTER || n != DATAGRAM_BYTES ||
		    !equal_const_time(&d.nonce, &r->nonce, sizeof(d.nonce)))
			continue;
		jitter_add(&r->jitter, d.seq, d.sent_ns, clock_mono_ns());
		train_goes_on(u->probes);
	}
}

static int reserve_parse(const struct http_request *rq, enum probe_kind *kind,
			 double *duration_s)
{
	struct json *v = NULL;
	const char *text;
	size_t len;
	int ret = -EINVAL;

	if (json_parse(rq->body, rq->body_len, &v) ||
	    json_str(json_get(v, "kind"), 16, &text, &len) ||
	    json_real(json_get(v, "duration_s"), 1, 10, duration_s))
		goto out;
	for (*kind = 0; *kind < PROBE_KINDS; (*kind)++) {
		if (strcmp(text, kind_names[*kind]) == 0) {
			ret = 0;
			break;
		}
	}
out:
	json_free(v);
	return ret;
}

static void post_reserve(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct probes *ps = a->probes;
	struct responder *r;
	enum probe_kind kind;
	struct http_reply reply;
	struct json_out o;
	double duration_s;
	struct error e;
	char nonce[33];

	error_set(&e, ERR_MALFORMED, "", "");
	if (reserve_parse(rq, &kind, &duration_s)) {
		http_send_error(rq, &e);
		return;
	}
	error_set(&e, ERR_PROBE_BUSY, "", "one probe at a time");
	r = probes_busy(ps) ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		http_send_error(rq, &e);
		return;
	}
	r->kind = kind;
	r->io = LOOP_IO_INIT;
	r->duration_ms = (uint32_t)(duration_s * 1000);
	r->until_ms = clock_mono_ms() + r->duration_ms + GRACE_MS;
	random_bytes(r->nonce.b, sizeof(r->nonce.b));
	ps->responder = r;
	/* a stream has to begin in time; a train ends with its result */
	loop_timer_in(a->loop, &r->limit,
		      kind == PROBE_BW ? NONCE_MS : r->duration_ms + GRACE_MS,
		      responder_overdue, ps);
	hex_encode(r->nonce.b, sizeof(r->nonce.b), nonce);
	http_reply_init(&reply, 200, HTTP_JSON);
	json_out_init(&o, &reply.body);
	json_open(&o, NULL, '{');
	json_put_str(&o, "nonce", nonce);
	json_close(&o, '}');
	http_send(rq, &reply);
}

static void send_jitter(struct probes *ps, struct http_request *rq)
{
	const struct jitter *j = &ps->responder->jitter;
	struct http_reply reply;
	struct json_out o;

	http_reply_init(&reply, 200, HTTP_JSON);
	json_out_init(&o, &reply.body);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "received", j->received);
	json_put_u64(&o, "reordered", j->reordered);
	json_put_fixed(&o, "jitter_ms", j->ns / 1e6, 6);
	json_close(&o, '}');
	responder_finish(ps);
	http_send(rq, &reply);
}

/* The nonce is the right to this probe, once. */
static void get_nonce(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct probes *ps = a->probes;
	struct responder *r = ps->responder;
	const char *up = http_header(rq, "Upgrade");
	struct nonce nonce;
	struct error e;

	if (!r || r->started ||
	    hex_decode(rq->segment[0], strlen(rq->segment[0]), nonce.b,
		       sizeof(nonce.b)) ||
	    !equal_const_time(&nonce, &r->nonce, sizeof(nonce))) {
		error_set(&e, ERR_UNKNOWN_PROBE, "", "");
		http_send_error(rq, &e);
		return;
	}
	if (r->kind == PROBE_JITTER) {
		send_jitter(ps, rq);
		return;
	}
	if (!up || strcmp(up, "linnet-probe") != 0) {
		error_set(&e, ERR_MALFORMED, "Upgrade", "linnet-probe");
		http_send_error(rq, &e);
		return;
	}
	r->started = true;
	loop_timer_in(a->loop, &r->limit, r->duration_ms + GRACE_MS,
		      responder_overdue, ps);
	http_upgrade(rq, "linnet-probe", sink_begin, ps);
}

/* ---- both ---- */

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
	ret = loop_io_add(ps->agent->loop, &u->io, fd, EPOLLIN, train_receive,
			  u);
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
		sender_finish(ps, "the agent stops");
	}
	if (ps->responder)
		responder_finish(ps);
	for (unsigned i = 0; i < CONF_LISTEN; i++)
		io_close(&ps->udp[i].io);
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
	for (unsigned i = 0; i < HISTORY; i++)
		if (ps->history[i].id == id && probe_kept(&ps->history[i]))
			return &ps->history[i];
	return NULL;
}

unsigned probe_list(const struct probes *ps, const struct probe **out,
		    unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HISTORY && n < max; i++) {
		const struct probe *p = &ps->history[(ps->n + i) % HISTORY];

		if (probe_kept(p))
			out[n++] = p;
	}
	return n;
}

int probe_cancel(struct probes *ps, uint64_t id)
{
	for (unsigned i = 0; i < HISTORY; i++) {
		struct probe *p = &ps->history[i];

		if (p->id != id || !probe_kept(p))
			continue;
		if (p->state == PROBE_RUNNING)
			sender_finish(ps, "cancelled");
		p->id = 0;
		return 0;
	}
	return -ENOENT;
}

const struct http_route probe_routes[] = {
	{ .pattern = "/api/v1/peer/probe",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 4096,
	  .fn = post_reserve },
	{ .pattern = "/api/v1/peer/probe/*",
	  .methods = HTTP_GET,
	  .role = ROLE_NONE,
	  .fn = get_nonce },
};
const size_t probe_n_routes = ARRAY_SIZE(probe_routes);
