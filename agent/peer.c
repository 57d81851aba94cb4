/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP towards other agents; the one file that knows libcurl, whose multi
 * interface runs inside our loop: it says which sockets and which time it
 * waits for, and is told what happened.
 *
 * Whatever a peer does costs bounded time and memory: every call has a timer
 * of ours, headers and body have caps that are counted as bytes come, all
 * bodies together have one too.  Nothing is followed: no redirect, no proxy,
 * no environment, no name is resolved.
 *
 * Our token is told to nobody who did not prove that it knows it.  The proof is
 * one of a connection: on each new one goes hello first, without the token, and
 * the message after it on the same.  Which connection a message takes is the
 * library's choice, so that it is looked at once more before the first byte.
 *
 * A call belongs to its caller until its callback ran or it was cancelled.
 */
#include "agent/peer.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/hello.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/util.h"

#define HEADERS_MAX      (16 * 1024)
#define HELD_MAX         ((size_t)64 << 20)
#define HOST_CONNECTIONS 16
#define CONNECTIONS      16 /* kept besides one for each child */
#define IDLE_S           4L /* a server of ours closes after 5 */
#define HELLO_MAX        4096
#define TRIES            4 /* connections lost to others or to the server */

/* A connection, in use or kept for the next call. */
struct line {
	struct line *next;
	curl_socket_t fd;
	uint64_t cookie; /* of the socket: the descriptor may be another's */
	struct endpoint to;
	bool proven; /* the other end knows our token */
	bool shut;   /* by us: it is not used any more */
};

struct peers {
	struct loop *loop;
	struct line *lines;
	CURLM *multi;
	const struct endpoint *listen;
	size_t n_listen;
	struct loop_timer timer;
	char token[HELLO_TOKEN_MAX + 1]; /* "" none */
	struct peer_call *calls;
	size_t held; /* bytes of all bodies */
};

/* A socket that the library waits for. */
struct watch {
	struct loop_io io;
	struct peers *peers;
	curl_socket_t fd;
};

/* One request. */
struct transfer {
	CURL *easy; /* NULL: none */
	struct curl_slist *headers;
	size_t reply_max;
};

/* A message, and hello before it while that is under way. */
struct peer_call {
	struct peer_call *next, **at;
	struct peers *peers;
	struct transfer hello, message;
	uint8_t nonce[TREE_NONCE];
	unsigned tries;
	struct loop_timer timer;
	struct endpoint to;
	struct line *line; /* that it goes over */
	struct buf body;
	size_t header_bytes;
	uint32_t connect_ms;
	uint64_t began_ms;
	bool fresh;
	bool opened, connected; /* a new socket; any connection */
	bool unproven;          /* not over this connection without hello */
	int refused;            /* -errno that a callback of ours decided on */
	char error[CURL_ERROR_SIZE];
	void (*done)(void *arg, const struct peer_reply *r);
	void *arg;
};

/* ---- sockets and time ---- */

static void transfer_over(struct peer_call *c, int err);
static int curl_errno(const struct peer_call *c, CURLcode code);

static void collect(struct peers *p)
{
	struct CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(p->multi, &left))) {
		struct peer_call *c = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		transfer_over(c, curl_errno(c, m->data.result));
	}
}

static void socket_ready(void *arg, uint32_t events)
{
	struct watch *w = arg; /* may be gone after the action */
	struct peers *p = w->peers;
	int bits = 0, running;

	if (events & EPOLLIN)
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(p->multi, w->fd, bits, &running);
	collect(p);
}

static int socket_watch(CURL *easy, curl_socket_t fd, int what, void *arg,
			void *sockp)
{
	struct peers *p = arg;
	struct watch *w = sockp;
	uint32_t events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w)
			loop_io_del(&w->io);
		free(w);
		curl_multi_assign(p->multi, fd, NULL);
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
	w->peers = p;
	w->fd = fd;
	if (loop_io_add(p->loop, &w->io, fd, events, socket_ready, w)) {
		free(w);
		return -1;
	}
	curl_multi_assign(p->multi, fd, w);
	return 0;
}

static void time_up(void *arg)
{
	struct peers *p = arg;
	int running;

	curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(p);
}

static int time_watch(CURLM *multi, long timeout_ms, void *arg)
{
	struct peers *p = arg;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_cancel(&p->timer);
	else if (loop_timer_in(p->loop, &p->timer, (uint64_t)timeout_ms,
			       time_up, p))
		return -1;
	return 0;
}

/* ---- what a call may do ---- */

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

static const struct transfer *transfer(const struct peer_call *c)
{
	return c->hello.easy ? &c->hello : &c->message;
}

/* Its token goes only where it is known. */
static bool needs_proof(const struct peer_call *c)
{
	return c->peers->token[0] && !c->hello.easy;
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

/* Only to the address that was meant, and never to one that is no host. */
static curl_socket_t socket_open(void *arg, curlsocktype purpose,
				 struct curl_sockaddr *sa)
{
	struct peer_call *c = arg;
	struct endpoint to;
	struct line *line;

	if (purpose != CURLSOCKTYPE_IPCXN ||
	    endpoint_from_sockaddr(&sa->addr, &to) ||
	    !endpoint_equal(&to, &c->to) ||
	    (addr_classify(&to.addr) != ADDR_UNICAST &&
	     addr_classify(&to.addr) != ADDR_LOOPBACK)) {
		c->refused = -EACCES;
		return CURL_SOCKET_BAD;
	}
	if (needs_proof(c)) {
		c->unproven = true;
		return CURL_SOCKET_BAD;
	}
	lines_check(c->peers);
	line = calloc(1, sizeof(*line));
	if (!line)
		return CURL_SOCKET_BAD;
	line->fd =
		socket(sa->family, sa->socktype | SOCK_CLOEXEC, sa->protocol);
	if (line->fd >= 0 && peers_bind(c->peers, line->fd, &to)) {
		close(line->fd);
		line->fd = -1;
	}
	if (line->fd < 0) {
		free(line);
		return CURL_SOCKET_BAD;
	}
	line->cookie = socket_cookie(line->fd);
	line->to = to;
	line->next = c->peers->lines;
	c->peers->lines = line;
	c->line = line; /* so that nobody takes it for an idle one */
	c->opened = true;
	return line->fd;
}

static int socket_close(void *arg, curl_socket_t fd)
{
	struct peers *p = arg;
	struct line **at = &p->lines;

	while (*at && (*at)->fd != fd)
		at = &(*at)->next;
	if (*at)
		line_drop(p, at);
	return close(fd);
}

static int lines_idle(const struct peers *p, const struct endpoint *to)
{
	int n = 0;

	for (const struct line *l = p->lines; l; l = l->next)
		n += endpoint_equal(&l->to, to) && !l->shut &&
		     (l->proven || !p->token[0]) && line_alive(l);
	for (const struct peer_call *c = p->calls; c; c = c->next)
		n -= endpoint_equal(&c->to, to) && !c->hello.easy;
	return n;
}

bool peer_idle(const struct peers *p, const struct endpoint *to)
{
	return lines_idle(p, to) > 0;
}

/* The library finds them closed and takes them for no other call. */
static void lines_shut(struct peers *p, const struct endpoint *to)
{
	for (struct line *l = p->lines; l; l = l->next) {
		bool used = !endpoint_equal(&l->to, to) || !line_alive(l);

		for (struct peer_call *c = p->calls; c && !used; c = c->next)
			used = c->line == l;
		if (!used && !shutdown(l->fd, SHUT_RDWR))
			l->shut = true;
	}
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

static int request_begins(void *arg, char *ip, char *local_ip, int port,
			  int local_port)
{
	struct peer_call *c = arg;

	(void)ip;
	(void)local_ip;
	(void)port;
	c->line = line_find(c->peers, &c->to, local_port);
	if (needs_proof(c) && (!c->line || !c->line->proven)) {
		c->unproven = true;
		return CURL_PREREQFUNC_ABORT;
	}
	c->connected = true;
	return CURL_PREREQFUNC_OK;
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

	if (len > transfer(c)->reply_max - c->body.len)
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

static int connect_errno(const struct peer_call *c)
{
	long e = 0;

	curl_easy_getinfo(transfer(c)->easy, CURLINFO_OS_ERRNO, &e);
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

/* ---- calls ---- */

static void transfer_free(struct transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	*t = (struct transfer){ 0 };
}

/* Out of the library and the list; memory stays. */
static void call_detach(struct peer_call *c)
{
	if (!c->at)
		return;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
	loop_timer_cancel(&c->timer);
	curl_multi_remove_handle(c->peers->multi, transfer(c)->easy);
	c->peers->held -= c->body.len;
}

static void call_free(struct peer_call *c)
{
	call_detach(c);
	transfer_free(&c->hello);
	transfer_free(&c->message);
	buf_fini(&c->body);
	free(c);
}

static void call_finish(struct peer_call *c, int err)
{
	struct peer_reply r = { .err = err,
				.reused = !c->opened,
				.elapsed_ms = (uint32_t)(clock_mono_ms() -
							 c->began_ms) };
	long status = 0;

	if (!err) {
		curl_easy_getinfo(transfer(c)->easy, CURLINFO_RESPONSE_CODE,
				  &status);
		r.status = (int)status;
	} else {
		char to[ENDPOINT_TEXT_LEN];

		endpoint_format(&c->to, 8000, to);
		log_debug("peer %s: %s", to,
			  c->error[0] ? c->error : strerrordesc_np(-err));
	}
	call_detach(c);
	r.body = err || !c->body.data ? "" : c->body.data;
	r.len = err ? 0 : c->body.len;
	c->done(c->arg, &r);
	call_free(c);
}

static void call_expired(void *arg)
{
	struct peer_call *c = arg;

	call_finish(c, c->opened && !c->connected ? -EHOSTUNREACH : -ETIMEDOUT);
}

static int header_add(struct transfer *t, const char *line)
{
	struct curl_slist *l = curl_slist_append(t->headers, line);

	if (!l)
		return -ENOMEM;
	t->headers = l;
	return 0;
}

/* token: "" none */
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

static int set_options(struct peer_call *c, const struct transfer *t,
		       const struct peer_request *rq)
{
	char to[ENDPOINT_TEXT_LEN], url[ENDPOINT_TEXT_LEN + 256];
	CURL *e = t->easy;
	bool failed;

	endpoint_format(&rq->to, 0, to);
	snprintf(url, sizeof(url), "http://%s%s", to, rq->path);
	failed = curl_easy_setopt(e, CURLOPT_URL, url) ||
		 curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") ||
		 curl_easy_setopt(e, CURLOPT_PROXY, "") ||
		 curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) ||
		 curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) ||
		 curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L) ||
		 curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
				  (long)CURL_HTTP_VERSION_1_1) ||
		 curl_easy_setopt(e, CURLOPT_USERAGENT,
				  "linnet/" LINNET_VERSION) ||
		 curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
				  (long)MIN(rq->connect_ms, rq->timeout_ms)) ||
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
		 curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error) ||
		 curl_easy_setopt(e, CURLOPT_PRIVATE, c) ||
		 curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers) ||
		 curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, (long)rq->fresh);
	set_method(e, rq);
	return failed ? -ENOMEM : 0;
}

static int transfer_make(struct peer_call *c, struct transfer *t,
			 const struct peer_request *rq, const char *token)
{
	t->easy = curl_easy_init();
	t->reply_max = rq->reply_max;
	if (t->easy && !set_headers(t, rq, token) && !set_options(c, t, rq))
		return 0;
	transfer_free(t);
	return -ENOMEM;
}

/* ---- hello before the token ---- */

static int hello_make(struct peer_call *c)
{
	struct peer_request rq = { .to = c->to,
				   .method = HTTP_POST,
				   .path = HELLO_PATH,
				   .timeout_ms = c->connect_ms,
				   .connect_ms = c->connect_ms,
				   .reply_max = HELLO_MAX,
				   .headers = { PEER_API_HEADER },
				   .fresh = c->fresh };
	struct buf b = BUF_INIT;
	int ret = -ENOMEM;

	random_bytes(c->nonce, sizeof(c->nonce));
	hello_write(c->nonce, &b);
	rq.body = b.data;
	rq.len = b.len;
	if (!b.failed)
		ret = transfer_make(c, &c->hello, &rq, "");
	buf_fini(&b);
	return ret;
}

/* The message, or hello if it cannot go over what is there. */
static int call_go(struct peer_call *c, bool idle)
{
	struct peers *p = c->peers;

	if (c->fresh)
		lines_shut(p, &c->to);
	if (p->token[0] && (c->fresh || !idle)) {
		if (hello_make(c))
			return -ENOMEM;
		c->opened = c->connected = false;
	}
	c->fresh = c->unproven = false;
	c->line = NULL;
	if (!curl_multi_add_handle(p->multi, transfer(c)->easy))
		return 0;
	transfer_free(&c->hello);
	return -ENOMEM;
}

static void call_again(struct peer_call *c, bool idle)
{
	curl_multi_remove_handle(c->peers->multi, transfer(c)->easy);
	transfer_free(&c->hello);
	c->peers->held -= c->body.len;
	buf_fini(&c->body);
	c->header_bytes = 0;
	if (call_go(c, idle))
		call_finish(c, -ENOMEM);
}

/*
 * What anybody may say who has proved nothing: that it will not talk to us.
 * All else is said of who is at this address.
 */
static bool is_refusal(long status)
{
	static const short refusals[] = { 401, 403, 404, 405, 429, 501, 503 };

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (refusals[i] == status)
			return true;
	return false;
}

/* Its answer is the right proof: the message, over the same connection. */
static void hello_over(struct peer_call *c)
{
	const char *body = c->body.data ? c->body.data : "";
	const struct peers *p = c->peers;
	long status = 0;
	int err;

	curl_easy_getinfo(c->hello.easy, CURLINFO_RESPONSE_CODE, &status);
	if (is_refusal(status)) {
		c->peers->held -= c->body.len;
		buf_fini(&c->body);
		call_finish(c, 0);
		return;
	}
	err = status != 200 ? -EPROTO
			    : hello_check(p->token, c->nonce, &c->to, body,
					  c->body.len);
	if (err) {
		call_finish(c, err);
		return;
	}
	if (c->line)
		c->line->proven = true;
	call_again(c, true);
}

static void transfer_over(struct peer_call *c, int err)
{
	/* what is idle has one in it less: this call */
	if (c->unproven && ++c->tries < TRIES)
		call_again(c, lines_idle(c->peers, &c->to) >= 0);
	else if (c->unproven)
		call_finish(c, -ECONNRESET);
	else if (c->hello.easy && !err)
		hello_over(c);
	else
		call_finish(c, err);
}

struct peer_call *
peer_start(struct peers *p, const struct peer_request *rq,
	   void (*done)(void *arg, const struct peer_reply *r), void *arg)
{
	struct peer_call *c = calloc(1, sizeof(*c));
	struct peer_request message = *rq;

	if (!c)
		return NULL;
	c->peers = p;
	c->to = rq->to;
	c->connect_ms = rq->connect_ms;
	c->fresh = rq->fresh;
	c->began_ms = clock_mono_ms();
	c->done = done;
	c->arg = arg;
	/* with a token hello is what opens one */
	message.fresh &= !p->token[0];
	if (transfer_make(c, &c->message, &message, p->token) ||
	    loop_timer_in(p->loop, &c->timer, rq->timeout_ms, call_expired, c))
		goto fail;
	if (call_go(c, peer_idle(p, &c->to)))
		goto fail;
	c->next = p->calls;
	if (c->next)
		c->next->at = &c->next;
	c->at = &p->calls;
	p->calls = c;
	return c;
fail:
	loop_timer_cancel(&c->timer);
	call_free(c);
	return NULL;
}

void peer_cancel(struct peer_call *c)
{
	if (c)
		call_free(c);
}

/* ---- all together ---- */

int peers_open(struct peers **out, struct loop *l, const char *token_file,
	       const struct endpoint *listen, size_t n_listen)
{
	struct peers *p = calloc(1, sizeof(*p));
	int ret = -ENOMEM;

	if (!p)
		return -ENOMEM;
	p->loop = l;
	p->listen = listen;
	p->n_listen = n_listen;
	if (token_file && token_file[0]) {
		ret = hello_token_read(token_file, p->token);
		if (ret)
			goto fail;
		ret = -ENOMEM;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		goto fail;
	p->multi = curl_multi_init();
	if (!p->multi ||
	    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION,
			      socket_watch) ||
	    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p) ||
	    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, time_watch) ||
	    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p) ||
	    curl_multi_setopt(p->multi, CURLMOPT_PIPELINING,
			      (long)CURLPIPE_NOTHING) ||
	    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS,
			      (long)CONNECTIONS) ||
	    curl_multi_setopt(p->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
			      (long)HOST_CONNECTIONS))
		goto fail;
	*out = p;
	return 0;
fail:
	peers_free(p);
	return ret;
}

void peers_expect(struct peers *p, unsigned n_children)
{
	curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS,
			  (long)n_children + CONNECTIONS);
}

void peers_free(struct peers *p)
{
	if (!p)
		return;
	while (p->calls)
		call_free(p->calls);
	if (p->multi)
		curl_multi_cleanup(p->multi);
	while (p->lines)
		line_drop(p, &p->lines);
	loop_timer_cancel(&p->timer);
	explicit_bzero(p->token, sizeof(p->token));
	free(p);
	curl_global_cleanup();
}

const char *peers_token(const struct peers *p)
{
	return p->token[0] ? p->token : NULL;
}
