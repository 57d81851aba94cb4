/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls to other agents: whose sockets are whose, and what they are for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/hello.h"
#include "agent/peer.h"
#include "common/loop.h"
#include "common/util.h"

#define FILLERS 4
#define TOKEN   "0123456789abcdef0123456789abcdef"

struct world {
	struct loop *loop;
	struct loop_timer timer;
	struct peers *peers;
	struct endpoint to;
	int err;
	uint32_t elapsed_ms; /* of the first that was over */
	unsigned under_way;
};

/* Who connects hears nothing. */
static int listen_open(struct endpoint *ep, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage ss;
	socklen_t len;

	addr_from_v4(&ep->addr, "\x7f\0\0\1");
	ep->port = 0;
	len = endpoint_to_sockaddr(ep, &ss);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(endpoint_from_sockaddr((struct sockaddr *)&ss, ep), 0);
	return fd;
}

/* A listener that takes nobody (any more). */
static int deaf_open(struct endpoint *ep, int filler[FILLERS])
{
	int fd = listen_open(ep, 0);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(ep, &ss);

	for (unsigned i = 0; i < FILLERS; i++) {
		filler[i] = socket(
			AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&ss, len);
	}
	return fd;
}

static void call_over(void *arg, const struct peer_reply *r)
{
	struct world *w = arg;

	w->err = r->err;
	if (!w->elapsed_ms)
		w->elapsed_ms = MAX(r->elapsed_ms, 1);
	if (!--w->under_way)
		loop_stop(w->loop);
}

static void call_start(struct world *w, const struct endpoint *to, bool fresh)
{
	const struct peer_request rq = { .to = *to,
					 .method = HTTP_GET,
					 .path = "/livez",
					 .timeout_ms = 200,
					 .connect_ms = 100,
					 .reply_max = 1024,
					 .fresh = fresh };

	assert_non_null(peer_start(w->peers, &rq, call_over, w));
	w->under_way++;
}

static int call(struct world *w, const struct endpoint *to, bool fresh)
{
	call_start(w, to, fresh);
	assert_int_equal(loop_run(w->loop), 0);
	return w->err;
}

/* A new connection ends those that are idle; nothing else. */
static void test_sockets_of_others(void **state)
{
	struct world w = { .loop = loop_new() };
	int filler[FILLERS], pair[8], deaf;
	struct endpoint to;
	char byte = 'x';

	(void)state;
	assert_int_equal(peers_open(&w.peers, w.loop, NULL, NULL, 0), 0);
	deaf = deaf_open(&to, filler);
	assert_int_equal(call(&w, &to, false), -EHOSTUNREACH);
	assert_false(peer_idle(w.peers, &to));
	/* these have the descriptor that the call had */
	for (unsigned i = 0; i < ARRAY_SIZE(pair); i += 2)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, &pair[i]),
				 0);
	assert_int_equal(call(&w, &to, true), -EHOSTUNREACH);
	for (unsigned i = 0; i < ARRAY_SIZE(pair); i += 2) {
		assert_int_equal(send(pair[i], &byte, 1, MSG_NOSIGNAL), 1);
		assert_int_equal(recv(pair[i + 1], &byte, 1, MSG_DONTWAIT), 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(pair); i++)
		close(pair[i]);
	for (unsigned i = 0; i < FILLERS; i++)
		close(filler[i]);
	close(deaf);
	peers_free(w.peers);
	loop_free(w.loop);
}

static void call_fresh(void *arg)
{
	struct world *w = arg;

	call_start(w, &w->to, true);
}

/* One that is connecting is not idle. */
static void test_connecting(void **state)
{
	struct world w = { .loop = loop_new() };
	int filler[FILLERS], deaf;

	(void)state;
	assert_int_equal(peers_open(&w.peers, w.loop, NULL, NULL, 0), 0);
	deaf = deaf_open(&w.to, filler);
	assert_int_equal(loop_timer_in(w.loop, &w.timer, 20, call_fresh, &w),
			 0);
	assert_int_equal(call(&w, &w.to, false), -EHOSTUNREACH);
	assert_true(w.elapsed_ms >= 100);
	for (unsigned i = 0; i < FILLERS; i++)
		close(filler[i]);
	close(deaf);
	peers_free(w.peers);
	loop_free(w.loop);
}

/* Calls of w prove TOKEN, and want the proof of it. */
static void peers_with_token(struct world *w)
{
	char path[] = "/tmp/test_peer_XXXXXX";
	int token = mkstemp(path);

	assert_int_equal(write(token, TOKEN, strlen(TOKEN)), strlen(TOKEN));
	close(token);
	assert_int_equal(peers_open(&w->peers, w->loop, path, NULL, 0), 0);
	unlink(path);
}

/* Whoever is silent from hello on does not have the time of the message. */
static void test_hello_silent(void **state)
{
	struct world w = { .loop = loop_new() };
	struct peer_request rq = { .method = HTTP_GET,
				   .path = "/livez",
				   .timeout_ms = 2000,
				   .connect_ms = 100,
				   .hello_ms = 100,
				   .reply_max = 1024 };
	int deaf;

	(void)state;
	peers_with_token(&w);
	/* it is connected to by the kernel */
	deaf = listen_open(&rq.to, 4);
	assert_non_null(peer_start(w.peers, &rq, call_over, &w));
	w.under_way++;
	assert_int_equal(loop_run(w.loop), 0);
	assert_int_equal(w.err, -ETIMEDOUT);
	assert_in_range(w.elapsed_ms, 100, 1000);
	close(deaf);
	peers_free(w.peers);
	loop_free(w.loop);
}

/*
 * What never was a connection is no host there, whichever time was over first;
 * what was one is late.
 */
static void test_too_late(void **state)
{
	const struct {
		uint32_t timeout_ms, connect_ms, hello_ms;
	} c[] = { { 100, 300, 0 }, { 300, 100, 0 }, { 300, 300, 100 } };
	int filler[FILLERS], fd[2];
	struct endpoint to[2];

	(void)state;
	fd[0] = deaf_open(&to[0], filler);
	fd[1] = listen_open(&to[1], 16);
	for (unsigned i = 0; i < 4 * ARRAY_SIZE(c); i++) {
		struct world w = { .loop = loop_new() };
		bool token = i & 1, silent = i & 2;
		struct peer_request rq = { .to = to[silent],
					   .method = HTTP_GET,
					   .path = "/livez",
					   .timeout_ms = c[i / 4].timeout_ms,
					   .connect_ms = c[i / 4].connect_ms,
					   .hello_ms = c[i / 4].hello_ms,
					   .reply_max = 1024 };

		if (token)
			peers_with_token(&w);
		else
			assert_int_equal(
				peers_open(&w.peers, w.loop, NULL, NULL, 0), 0);
		assert_non_null(peer_start(w.peers, &rq, call_over, &w));
		w.under_way++;
		assert_int_equal(loop_run(w.loop), 0);
		assert_int_equal(w.err, silent ? -ETIMEDOUT : -EHOSTUNREACH);
		peers_free(w.peers);
		loop_free(w.loop);
	}
	for (unsigned i = 0; i < FILLERS; i++)
		close(filler[i]);
	close(fd[0]);
	close(fd[1]);
}

/* Who answers: to hello with the proof, to all else with nothing in it. */
struct server {
	struct endpoint ep;
	struct loop *loop;
	struct loop_io listener, line;
	char in[4096];
	size_t len;
	unsigned lines, hellos, messages;
	struct peer_call *leave; /* once hello is here; NULL: nothing */
};

static void server_proof(const struct server *s, const char *hello,
			 struct buf *out)
{
	struct tree_wire w = { .m.kind = TREE_HELLO, .has_proof = true }, rq;

	assert_int_equal(
		tree_wire_read(TREE_HELLO, 0, hello, strlen(hello), &rq), 0);
	memcpy(w.m.u.hello.overlay, "linnet", sizeof("linnet"));
	w.m.u.hello.id.b[0] = 1;
	hello_proof(TOKEN, rq.nonce, &w.m.u.hello.id, &s->ep, w.proof);
	tree_wire_fini(&rq);
	tree_wire_write(&w, true, out);
}

static void server_answer(struct server *s, const char *body)
{
	bool hello = strstr(s->in, " " HELLO_PATH " ");
	struct buf b = BUF_INIT;
	char text[4096];
	int n;

	s->hellos += hello;
	s->messages += !hello;
	if (hello && s->leave)
		peer_leave(s->leave, 1000, 1024);
	if (hello)
		server_proof(s, body, &b);
	n = snprintf(text, sizeof(text),
		     "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", b.len,
		     b.len ? b.data : "");
	assert_int_equal(send(s->line.fd, text, (size_t)n, MSG_NOSIGNAL), n);
	s->len = 0;
	buf_fini(&b);
}

static void server_read(void *arg, uint32_t events)
{
	struct server *s = arg;
	ssize_t n =
		read(s->line.fd, s->in + s->len, sizeof(s->in) - 1 - s->len);
	const char *body, *length;

	(void)events;
	assert_true(n > 0);
	s->len += (size_t)n;
	s->in[s->len] = '\0';
	body = strstr(s->in, "\r\n\r\n");
	length = strstr(s->in, "Content-Length: ");
	if (body &&
	    (!length || strlen(body + 4) == strtoul(length + 16, NULL, 10)))
		server_answer(s, body + 4);
}

static void server_accept(void *arg, uint32_t events)
{
	struct server *s = arg;
	int fd = accept(s->listener.fd, NULL, NULL);

	(void)events;
	assert_true(fd >= 0);
	assert_int_equal(s->lines++, 0);
	assert_int_equal(
		loop_io_add(s->loop, &s->line, fd, EPOLLIN, server_read, s), 0);
}

static void server_open(struct server *s, struct loop *l)
{
	*s = (struct server){ .loop = l,
			      .listener = LOOP_IO_INIT,
			      .line = LOOP_IO_INIT };
	assert_int_equal(loop_io_add(l, &s->listener, listen_open(&s->ep, 4),
				     EPOLLIN, server_accept, s),
			 0);
}

static void server_close(struct server *s)
{
	int listener = s->listener.fd, line = s->line.fd;

	loop_io_del(&s->listener);
	loop_io_del(&s->line);
	close(listener);
	close(line);
}

/* A call that is left before its message went never sends it; the connection
 * has seen hello and serves the next. */
static void test_left_in_hello(void **state)
{
	struct world w = { .loop = loop_new() };
	struct peer_request rq = { .method = HTTP_GET,
				   .path = "/livez",
				   .timeout_ms = 2000,
				   .connect_ms = 1000,
				   .reply_max = 1024 };
	static struct server s;

	(void)state;
	peers_with_token(&w);
	server_open(&s, w.loop);
	rq.to = s.ep;
	s.leave = peer_start(w.peers, &rq, call_over, &w);
	assert_non_null(s.leave);
	w.under_way++;
	assert_int_equal(loop_run(w.loop), 0);
	assert_int_equal(w.err, -ETIMEDOUT);
	assert_in_range(w.elapsed_ms, 0, 900);
	assert_int_equal(s.hellos, 1);
	assert_int_equal(s.messages, 0);
	assert_true(peer_idle(w.peers, &s.ep));
	s.leave = NULL;
	assert_int_equal(call(&w, &s.ep, false), 0);
	assert_int_equal(s.hellos, 1);
	assert_int_equal(s.messages, 1);
	server_close(&s);
	peers_free(w.peers);
	loop_free(w.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets_of_others),
		cmocka_unit_test(test_connecting),
		cmocka_unit_test(test_hello_silent),
		cmocka_unit_test(test_too_late),
		cmocka_unit_test(test_left_in_hello),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
