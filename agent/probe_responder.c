/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other agent's role in a probe: a nonce is the right to one, which is
 * measured here and told to its sender.  One timer ends it whatever happens.
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
#include "agent/probe_private.h"
#include "common/log.h"
#include "common/util.h"

#define NONCE_MS 5000 /* to begin after reserving */

void probe_responder_finish(struct probes *ps)
{
	struct responder *r = ps->responder;

	ps->responder = NULL;
	loop_io_del(&r->io);
	if (r->up)
		http_upgrade_close(r->up);
	loop_timer_cancel(&r->limit);
	probe_chunk_free(r->chunk);
	free(r);
}

static void responder_overdue(void *arg)
{
	probe_responder_finish(arg);
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
	probe_responder_finish(ps);
}

static void sink_io(void *arg, uint32_t events)
{
	struct probes *ps = arg;
	struct responder *r = ps->responder;

	(void)events;
	for (unsigned i = 0; i < PROBE_CHUNKS_PER_TURN; i++) {
		/* copied as a program that wants the bytes would have it */
		ssize_t n = recv(r->io.fd, r->chunk, PROBE_CHUNK_BYTES,
				 MSG_DONTWAIT);

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
		if (r->bytes > PROBE_BYTES_MAX * 2) {
			probe_responder_finish(ps);
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
	r->chunk = probe_chunk_new(PROT_READ | PROT_WRITE);
	if (!r->chunk ||
	    loop_io_add(ps->agent->loop, &r->io, fd, EPOLLIN, sink_io, ps))
		probe_responder_finish(ps);
}

/* A train that stands still is over before its time: its sender gave up. */
static void train_goes_on(struct probes *ps)
{
	struct responder *r = ps->responder;
	uint64_t until = MIN(r->until_ms, clock_mono_ms() + PROBE_GRACE_MS);

	loop_timer_at(ps->agent->loop, &r->limit, until, responder_overdue, ps);
}

void probe_train_receive(void *arg, uint32_t events)
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
		if (!r || r->kind != PROBE_JITTER ||
		    n != PROBE_DATAGRAM_BYTES ||
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
		if (strcmp(text, probe_kind_name(*kind)) == 0) {
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
	r->until_ms = clock_mono_ms() + r->duration_ms + PROBE_GRACE_MS;
	random_bytes(r->nonce.b, sizeof(r->nonce.b));
	ps->responder = r;
	/* a stream has to begin in time; a train ends with its result */
	loop_timer_in(a->loop, &r->limit,
		      kind == PROBE_BW ? NONCE_MS
				       : r->duration_ms + PROBE_GRACE_MS,
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
	probe_responder_finish(ps);
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
	loop_timer_in(a->loop, &r->limit, r->duration_ms + PROBE_GRACE_MS,
		      responder_overdue, ps);
	http_upgrade(rq, "linnet-probe", sink_begin, ps);
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
