/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to other agents on libcurl, the one file that knows it.  Its multi
 * interface runs inside our loop: it says which sockets and which time it
 * waits for, and is told what happened.
 *
 * Nothing is followed: no redirect, no proxy, no environment, no name is
 * resolved.  Headers and body have caps that are counted as bytes come, all
 * bodies together have one too.
 *
 * A transfer belongs to its call (peer.c), to which its callbacks write what
 * comes; sockets are made and judged in peer_line.c.
 */
#include "agent/peer_private.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/tree/walk_env.h"
#include "common/util.h"

#define HEADERS_MAX       (16 * 1024)
#define HELD_MAX          ((size_t)64 << 20)
#define HOST_CONNECTIONS  20
/*
 * As many as questions may have, one more for each child, and some: beyond it
 * the library would close whichever is idle, and a child whose beats' one is
 * closed looks for its parent.  Those of a burst go when they were idle.
 */
#define CHILD_CONNECTIONS (WALK_WAYS_OWN + 1)
#define CONNECTIONS       (WALK_WAYS_SPARE + 16)
#define IDLE_S            4L /* a server of ours closes after 5 */
#define SPARES            16

static_assert(WALK_WAYS_MAX < HOST_CONNECTIONS,
	      "a beat does not wait for what is asked");

struct transfers {
	struct peers *peers;
	CURLM *multi;
	struct loop_timer timer;
	/* handles that are over: one is dear to make and to free */
	CURL *spare[SPARES];
	unsigned n_spare;
};

/* A socket that the library waits for. */
struct watch {
	struct loop_io io;
	struct transfers *transfers;
	curl_socket_t fd;
};

struct transfer {
	struct transfers *of;
	CURL *easy;
	struct curl_slist *headers;
	size_t reply_max;
	char error[CURL_ERROR_SIZE];
};

/* ---- how it ended ---- */

static int connect_errno(const struct peer_call *c)
{
	long e = 0;

	curl_easy_getinfo(call_transfer(c)->easy, CURLINFO_OS_ERRNO, &e);
	return e == ECONNREFUSED ? -ECONNREFUSED : -EHOSTUNREACH;
}

static int curl_errno(const struct peer_call *c, CURLcode code)
{
	if (c->refused)
		return c->refused;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		return connect_errno(c);
	case CURLE_OPERATION_TIMEDOUT:
		return c->connected ? -ETIMEDOUT : -EHOSTUNREACH;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
		return -ECONNRESET;
	case CURLE_FILESIZE_EXCEEDED:
		return -EMSGSIZE;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_WRITE_ERROR:
		return -ENOMEM;
	default:
		return -EPROTO;
	}
}

/* ---- sockets and time ---- */

static void collect(struct transfers *t)
{
	struct CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(t->multi, &left))) {
		struct peer_call *c = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		call_over(c, curl_errno(c, m->data.result));
	}
}

static void socket_ready(void *arg, uint32_t events)
{
	struct watch *w = arg; /* may be gone after the action */
	struct transfers *t = w->transfers;
	int bits = 0, running;

	if (events & EPOLLIN)
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(t->multi, w->fd, bits, &running);
	collect(t);
}

static int socket_watch(CURL *easy, curl_socket_t fd, int what, void *arg,
			void *sockp)
{
	struct transfers *t = arg;
	struct watch *w = sockp;
	uint32_t events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w)
			loop_io_del(&w->io);
		free(w);
		curl_multi_assign(t->multi, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (w)
		return loop_io_mod(&w->io, events) ? -1 : 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -1;
	w->io = LOOP_IO_INIT;
	w->transfers = t;
	w->fd = fd;
	if (loop_io_add(t->peers->loop, &w->io, fd, events, socket_ready, w)) {
		free(w);
		return -1;
	}
	curl_multi_assign(t->multi, fd, w);
	return 0;
}

static void time_up(void *arg)
{
	struct transfers *t = arg;
	int running;

	curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(t);
}

static int time_watch(CURLM *multi, long timeout_ms, void *arg)
{
	struct transfers *t = arg;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_cancel(&t->timer);
	else if (loop_timer_in(t->peers->loop, &t->timer, (uint64_t)timeout_ms,
			       time_up, t))
		return -1;
	return 0;
}

/* ---- what a transfer may do ---- */

static curl_socket_t socket_open(void *arg, curlsocktype purpose,
				 struct curl_sockaddr *sa)
{
	struct peer_call *c = arg;

	if (purpose == CURLSOCKTYPE_IPCXN)
		return line_open(c, &sa->addr);
	c->refused = -EACCES;
	return CURL_SOCKET_BAD;
}

static int socket_close(void *arg, curl_socket_t fd)
{
	return line_close(arg, fd);
}

static int request_begins(void *arg, char *ip, char *local_ip, int port,
			  int local_port)
{
	(void)ip;
	(void)local_ip;
	(void)port;
	return line_take(arg, local_port) ? CURL_PREREQFUNC_OK
					  : CURL_PREREQFUNC_ABORT;
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
	struct peer_call *c = arg;

	(void)data;
	c->header_bytes += size * n;
	if (c->header_bytes <= HEADERS_MAX)
		return size * n;
	c->refused = -EMSGSIZE;
	return 0;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
	struct peer_call *c = arg;
	size_t len = size * n;

	if (c->body.len + len > call_transfer(c)->reply_max)
		c->refused = -EMSGSIZE;
	else if (len > HELD_MAX - c->peers->held)
		c->refused = -ENOBUFS;
	else
		buf_add(&c->body, data, len);
	if (c->refused || c->body.failed)
		return 0;
	c->peers->held += len;
	return len;
}

/* ---- one request ---- */

/* It forgets all of its request but the connections, which are no one's. */
static void easy_put(struct transfers *t, CURL *easy)
{
	if (!easy)
		return;
	if (t->n_spare == SPARES) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	t->spare[t->n_spare++] = easy;
}

static CURL *easy_take(struct transfers *t)
{
	return t->n_spare ? t->spare[--t->n_spare] : curl_easy_init();
}

void transfer_free(struct transfer **at)
{
	struct transfer *t = *at;

	if (!t)
		return;
	easy_put(t->of, t->easy);
	curl_slist_free_all(t->headers);
	free(t);
	*at = NULL;
}

static int header_add(struct transfer *t, const char *line)
{
	struct curl_slist *l = curl_slist_append(t->headers, line);

	if (!l)
		return -ENOMEM;
	t->headers = l;
	return 0;
}

static int set_headers(struct transfer *t, const struct peer_request *rq,
		       const char *token)
{
	char auth[HELLO_TOKEN_MAX + 32];
	int ret = header_add(t, "Accept: application/json");

	if (!ret)
		ret = header_add(t, "Expect:");
	if (!ret && rq->body)
		ret = header_add(t, "Content-Type: application/json");
	if (!ret && token[0]) {
		snprintf(auth, sizeof(auth), "Authorization: Bearer %s", token);
		ret = header_add(t, auth);
		explicit_bzero(auth, sizeof(auth));
	}
	for (size_t i = 0;
	     !ret && i < ARRAY_SIZE(rq->headers) && rq->headers[i]; i++)
		ret = header_add(t, rq->headers[i]);
	return ret;
}

static void set_method(CURL *e, const struct peer_request *rq)
{
	if (rq->method == HTTP_GET || rq->method == HTTP_DELETE) {
		curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
		if (rq->method == HTTP_DELETE)
			curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE");
		return;
	}
	if (rq->method == HTTP_PUT)
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "PUT");
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->len);
	curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, rq->body ? rq->body : "");
}

static int set_options(struct peer_call *c, struct transfer *t,
		       const struct peer_request *rq)
{
	char to[ENDPOINT_TEXT_LEN], url[ENDPOINT_TEXT_LEN + 256];
	CURL *e = t->easy;
	bool failed;

	endpoint_format(&rq->to, 0, to);
	snprintf(url, sizeof(url), "http://%s%s", to, rq->path);
	failed =
		curl_easy_setopt(e, CURLOPT_URL, url) ||
		curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http") ||
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*") ||
		curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) ||
		curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) ||
		curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L) ||
		curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
				 (long)CURL_HTTP_VERSION_1_1) ||
		curl_easy_setopt(e, CURLOPT_USERAGENT,
				 "linnet/" LINNET_VERSION) ||
		curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)rq->timeout_ms) ||
		curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
				 (long)rq->connect_ms) ||
		curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, IDLE_S) ||
		curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE,
				 (curl_off_t)rq->reply_max) ||
		curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, socket_open) ||
		curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, c) ||
		curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION,
				 socket_close) ||
		curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, c->peers) ||
		curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, request_begins) ||
		curl_easy_setopt(e, CURLOPT_PREREQDATA, c) ||
		curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header) ||
		curl_easy_setopt(e, CURLOPT_HEADERDATA, c) ||
		curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) ||
		curl_easy_setopt(e, CURLOPT_WRITEDATA, c) ||
		curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error) ||
		curl_easy_setopt(e, CURLOPT_PRIVATE, c) ||
		curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers) ||
		curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, (long)rq->fresh);
	set_method(e, rq);
	return failed ? -ENOMEM : 0;
}

struct transfer *transfer_new(struct peer_call *c,
			      const struct peer_request *rq, const char *token)
{
	struct transfer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->of = c->peers->transfers;
	t->easy = easy_take(t->of);
	t->reply_max = rq->reply_max;
	if (!t->easy || set_headers(t, rq, token) || set_options(c, t, rq))
		transfer_free(&t);
	return t;
}

int transfer_start(struct peers *p, struct transfer *t)
{
	return curl_multi_add_handle(p->transfers->multi, t->easy) ? -ENOMEM
								   : 0;
}

void transfer_stop(struct peers *p, struct transfer *t)
{
	curl_multi_remove_handle(p->transfers->multi, t->easy);
}

void transfer_cap(struct transfer *t, size_t reply_max)
{
	t->reply_max = MIN(t->reply_max, reply_max);
}

int transfer_status(const struct transfer *t)
{
	long status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

const char *transfer_error(const struct transfer *t)
{
	return t->error;
}

/* ---- all together ---- */

int transfers_open(struct peers *p)
{
	struct transfers *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->peers = p;
	p->transfers = t;
	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	t->multi = curl_multi_init();
	if (!t->multi ||
	    curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION,
			      socket_watch) ||
	    curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t) ||
	    curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, time_watch) ||
	    curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t) ||
	    curl_multi_setopt(t->multi, CURLMOPT_PIPELINING,
			      (long)CURLPIPE_NOTHING) ||
	    curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS,
			      (long)CONNECTIONS) ||
	    curl_multi_setopt(t->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
			      (long)HOST_CONNECTIONS))
		return -ENOMEM;
	return 0;
}

void peers_expect(struct peers *p, unsigned n_children)
{
	curl_multi_setopt(p->transfers->multi, CURLMOPT_MAXCONNECTS,
			  CHILD_CONNECTIONS * (long)n_children + CONNECTIONS);
}

void transfers_close(struct peers *p)
{
	struct transfers *t = p->transfers;

	if (!t)
		return;
	while (t->n_spare)
		curl_easy_cleanup(t->spare[--t->n_spare]);
	if (t->multi)
		curl_multi_cleanup(t->multi);
	loop_timer_cancel(&t->timer);
	free(t);
	p->transfers = NULL;
	curl_global_cleanup();
}
