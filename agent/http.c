/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP server on libmicrohttpd; the one file that knows the library.
 *
 * One daemon a listener, none with a thread: each has an epoll descriptor that
 * sits in our loop, and runs at the end of every turn.  A connection is a
 * struct http_conn (http_conn.c); a request is a struct exchange, made when
 * its first line is there and freed when the library has done with it.  Whether
 * a handler sees it is decided in http_admit.c.  A handler that does not answer
 * at once leaves its connection suspended; the answer resumes it.  A suspended
 * connection has no time limit here: whoever keeps a request has a timer that
 * ends it.
 *
 * The library limits idle time and the size of headers.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "agent/http_private.h"
#include "agent/peer.h"
#include "agent/route.h"
#include "common/log.h"
#include "common/util.h"

#define HTTP_LISTENERS 8
#define HTTP_IDLE_S    5
#define HTTP_MEMORY    16384 /* of a connection: limits its headers */

enum exchange_state {
	EXCHANGE_START,     /* headers not seen yet */
	EXCHANGE_BODY,      /* accepted, body is coming */
	EXCHANGE_HANDLER,   /* a handler, or the guard, has it */
	EXCHANGE_SUSPENDED, /* whoever the handler gave it to has it */
	EXCHANGE_READY,     /* the answer waits for the library */
	EXCHANGE_SENT,      /* the library has the answer */
};

struct http_upgraded {
	struct MHD_UpgradeResponseHandle *handle; /* NULL: not upgraded */
	void (*fn)(void *arg, struct http_upgraded *u, int fd,
		   const void *early, size_t n_early);
	void *arg;
};

struct exchange {
	struct http_request rq;
	struct http *http;
	struct http_conn *conn;
	struct MHD_Connection *mhd;
	const struct http_route *route;
	enum exchange_state state;
	bool refused; /* by the guard: the connection ends with the answer */
	char *target; /* path and query, cut at the '?' */
	struct buf body;
	struct MHD_Response *response;
	unsigned status;
	struct http_upgraded upgraded;
};

struct listener {
	struct MHD_Daemon *daemon;
	struct loop_io io;
	int fd; /* ours once the daemon is quiesced */
};

struct http {
	struct http_config config;
	struct loop *loop;
	struct listener listener[HTTP_LISTENERS];
	size_t n_listeners;
	struct http_conns conns;
	struct http_gate gate;
};

/* Connections */

static enum MHD_Result conn_accept(void *cls, const struct sockaddr *sa,
				   socklen_t len)
{
	struct http *h = cls;
	struct endpoint ep;

	(void)len;
	if (endpoint_from_sockaddr(sa, &ep) != 0)
		return MHD_NO;
	return http_conns_room(&h->conns, &ep.addr) ? MHD_YES : MHD_NO;
}

static struct http_conn *conn_new(struct http *h, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *client = MHD_get_connection_info(
		mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const union MHD_ConnectionInfo *fd =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

	if (!client || !fd)
		return NULL;
	return http_conn_add(&h->conns, fd->connect_fd, client->client_addr);
}

static void exchange_free(struct exchange *x)
{
	if (!x)
		return;
	if (x->conn->exchange == x)
		x->conn->exchange = NULL;
	if (x->state == EXCHANGE_SUSPENDED)
		http_conn_resume(&x->http->conns, x->conn);
	x->conn->upgraded = false;
	if (x->response)
		MHD_destroy_response(x->response);
	buf_fini(&x->body);
	free(x->target);
	free(x);
}

static void conn_notify(void *cls, struct MHD_Connection *mhd,
			void **socket_context,
			enum MHD_ConnectionNotificationCode code)
{
	struct http *h = cls;
	struct http_conn *c = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = conn_new(h, mhd);
	} else if (c) {
		if (h->config.closed && !h->gate.stopping)
			h->config.closed(h->config.ctx, c->number);
		exchange_free(c->exchange);
		http_conn_del(&h->conns, c);
		*socket_context = NULL;
	}
}

/* Requests come in */

/* Called with the raw target, before the library takes it to pieces. */
static void *exchange_new(void *cls, const char *target,
			  struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_conn *c = info ? info->socket_context : NULL;
	struct exchange *x;
	char *query;

	if (!c)
		return NULL;
	exchange_free(c->exchange);
	x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->http = cls;
	x->conn = c;
	x->mhd = mhd;
	x->target = strdup(target);
	if (!x->target) {
		free(x);
		return NULL;
	}
	query = strchr(x->target, '?');
	if (query)
		*query++ = '\0';
	c->exchange = x;
	x->rq.path = x->target;
	x->rq.query = query ? query : "";
	x->rq.body = "";
	x->rq.client = c->client;
	x->rq.local = c->local;
	x->rq.connection = c->number;
	x->rq.began_ms = clock_mono_ms();
	x->rq.legacy = strcmp(x->rq.path, "/") == 0;
	x->rq.conn = x;
	return x;
}

static void exchange_done(void *cls, struct MHD_Connection *mhd, void **con_cls,
			  enum MHD_RequestTerminationCode toe)
{
	struct exchange *x = *con_cls;

	(void)cls;
	(void)mhd;
	(void)toe;
	if (!x)
		return;
	x->conn->since_ms = clock_mono_ms();
	exchange_free(x);
	*con_cls = NULL;
}

static enum MHD_Result guard_walk(void *cls, enum MHD_ValueKind kind,
				  const char *name, size_t name_len,
				  const char *value, size_t value_len)
{
	(void)kind;
	guard_header(cls, name, name_len, value ? value : "", value_len);
	return MHD_YES;
}

/* Gives the answer to the library. */
static enum MHD_Result exchange_queue(struct exchange *x)
{
	enum MHD_Result ret;

	if (!x->response)
		return MHD_NO;
	x->state = EXCHANGE_SENT;
	ret = MHD_queue_response(x->mhd, x->status, x->response);
	MHD_destroy_response(x->response);
	x->response = NULL;
	return ret;
}

static enum MHD_Result exchange_begin(struct exchange *x, const char *method,
				      const char *version)
{
	struct http *h = x->http;
	struct http_head head = {
		.first = { .method = method,
			   .known = method_parse(method),
			   .http_1_0 = !strcmp(version, MHD_HTTP_VERSION_1_0),
			   .local = x->conn->local,
			   .server_names = h->config.server_names },
		.spare = x->conn->spare,
	};
	unsigned allowed = 0;
	enum error_code e;

	http_request_id(&x->rq);
	(void)MHD_get_connection_values_n(x->mhd, MHD_HEADER_KIND, guard_walk,
					  &head.guard);
	e = http_admit(&h->gate, &head, &x->rq, &x->route, &allowed);
	if (e == ERR_NONE) {
		x->conn->peer |= x->route->role == ROLE_PEER;
		x->state = EXCHANGE_BODY;
		return MHD_YES;
	}
	x->state = EXCHANGE_HANDLER;
	x->refused = true;
	http_refuse(&x->rq, e, allowed);
	return exchange_queue(x);
}

static enum MHD_Result exchange_body(struct exchange *x, const char *data,
				     size_t *size)
{
	/* Content-Length was within the limit; what comes must be, too. */
	if (*size > x->route->body_max - x->body.len)
		return MHD_NO;
	buf_add(&x->body, data, *size);
	*size = 0;
	return x->body.failed ? MHD_NO : MHD_YES;
}

static enum MHD_Result exchange_run(struct exchange *x)
{
	struct http *h = x->http;
	struct error busy = { .code = ERR_UNAVAILABLE };

	x->state = EXCHANGE_HANDLER;
	x->rq.body = x->body.data ? x->body.data : "";
	x->rq.body_len = x->body.len;
	if (http_query_room(&h->conns, x->conn, x->route->role))
		x->route->fn(h->config.ctx, &x->rq);
	else
		http_send_error(&x->rq, &busy);
	if (x->state == EXCHANGE_READY)
		return exchange_queue(x);
	x->state = EXCHANGE_SUSPENDED;
	http_conn_keep(&h->conns, x->conn, x->route->role);
	MHD_suspend_connection(x->mhd);
	return MHD_YES;
}

static enum MHD_Result http_handle(void *cls, struct MHD_Connection *mhd,
				   const char *url, const char *method,
				   const char *version, const char *data,
				   size_t *size, void **con_cls)
{
	struct exchange *x = *con_cls;

	(void)cls;
	(void)mhd;
	(void)url;
	if (!x)
		return MHD_NO;
	switch (x->state) {
	case EXCHANGE_START:
		return exchange_begin(x, method, version);
	case EXCHANGE_BODY:
		return *size > 0 ? exchange_body(x, data, size)
				 : exchange_run(x);
	case EXCHANGE_READY:
		return exchange_queue(x);
	default:
		return MHD_NO;
	}
}

/* Answers go out */

const char *http_header(const struct http_request *rq, const char *name)
{
	const struct exchange *x = rq->conn;

	return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

/* Takes the answer; without one (no memory) the connection will be closed. */
static void exchange_answer(struct exchange *x, unsigned status,
			    struct MHD_Response *response)
{
	bool suspended = x->state == EXCHANGE_SUSPENDED;

	assert(suspended || x->state == EXCHANGE_HANDLER);
	x->status = status;
	x->response = response;
	x->state = EXCHANGE_READY;
	if (suspended) {
		http_conn_resume(&x->http->conns, x->conn);
		MHD_resume_connection(x->mhd);
	}
}

/* What every answer carries. */
static bool response_add_common(struct MHD_Response *response,
				const struct exchange *x)
{
	const struct {
		const char *name, *value;
	} headers[] = {
		{ "X-Request-Id", x->rq.id },
		{ "Cache-Control", "no-store" },
		{ "X-Content-Type-Options", "nosniff" },
		{ "Content-Security-Policy",
		  "default-src 'self'; frame-ancestors 'none'" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		if (MHD_add_response_header(response, headers[i].name,
					    headers[i].value) != MHD_YES)
			return false;
	}
	return !x->refused || MHD_add_response_header(response, "Connection",
						      "close") == MHD_YES;
}

bool http_epoch(const struct http_request *rq, char out[EPOCH_TEXT])
{
	const struct exchange *x = rq->conn;
	const struct http_config *config = &x->http->config;

	if (!config->epoch || !(rq->roles & ROLE_PEER) || !x->route ||
	    !route_between_agents(x->route))
		return false;
	config->epoch(config->ctx, out);
	return true;
}

/* What every answer between agents carries. */
static bool response_add_peer(struct MHD_Response *response,
			      const struct exchange *x)
{
	char epoch[EPOCH_TEXT];

	if (!x->route || !route_between_agents(x->route))
		return true;
	return MHD_add_response_header(response, "X-Linnet-Api", PEER_API) ==
		       MHD_YES &&
	       (!http_epoch(&x->rq, epoch) ||
		MHD_add_response_header(response, "X-Linnet-Epoch", epoch) ==
			MHD_YES);
}

void http_send(struct http_request *rq, struct http_reply *r)
{
	struct exchange *x = rq->conn;
	struct MHD_Response *response = NULL;
	size_t len = 0;
	char *body = buf_steal(&r->body, &len);
	bool ok;

	if (body)
		response = MHD_create_response_from_buffer(
			len, body, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(body);
		exchange_answer(x, 0, NULL);
		return;
	}
	ok = response_add_common(response, x) && response_add_peer(response, x);
	if (r->type)
		ok = ok && MHD_add_response_header(response, "Content-Type",
						   r->type) == MHD_YES;
	for (unsigned i = 0; i < r->n; i++)
		ok = ok &&
		     MHD_add_response_header(response, r->header[i].name,
					     r->header[i].value) == MHD_YES;
	if (!ok) {
		MHD_destroy_response(response);
		response = NULL;
	}
	exchange_answer(x, (unsigned)r->status, response);
}

/* Upgrades */

static void upgrade_ready(void *cls, struct MHD_Connection *mhd, void *con_cls,
			  const char *early, size_t n_early, MHD_socket fd,
			  struct MHD_UpgradeResponseHandle *handle)
{
	struct exchange *x = con_cls;

	(void)cls;
	(void)mhd;
	x->upgraded.handle = handle;
	x->conn->upgraded = true;
	x->upgraded.fn(x->upgraded.arg, &x->upgraded, fd, early, n_early);
}

void http_upgrade(struct http_request *rq, const char *word,
		  void (*fn)(void *arg, struct http_upgraded *u, int fd,
			     const void *early, size_t n_early),
		  void *arg)
{
	struct exchange *x = rq->conn;
	struct MHD_Response *response =
		MHD_create_response_for_upgrade(upgrade_ready, NULL);

	x->upgraded.fn = fn;
	x->upgraded.arg = arg;
	if (response &&
	    (MHD_add_response_header(response, "Upgrade", word) != MHD_YES ||
	     !response_add_common(response, x))) {
		MHD_destroy_response(response);
		response = NULL;
	}
	exchange_answer(x, MHD_HTTP_SWITCHING_PROTOCOLS, response);
}

void http_upgrade_close(struct http_upgraded *u)
{
	struct MHD_UpgradeResponseHandle *handle = u->handle;

	/* The handle keeps its place: the sweep must still leave it alone. */
	(void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

/* The server */

/* Fields are decoded once, by our own decoder: %00 must not cut a text. */
static size_t unescape_nothing(void *cls, struct MHD_Connection *mhd, char *s)
{
	(void)cls;
	(void)mhd;
	return strlen(s);
}

static int http_timeout(void *arg)
{
	const struct http *h = arg;
	int bound = -1;

	for (size_t i = 0; i < h->n_listeners; i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		if (MHD_get_timeout(h->listener[i].daemon, &ms) != MHD_YES)
			continue;
		if (bound < 0 || ms < (unsigned)bound)
			bound = (int)MIN(ms, INT32_MAX);
	}
	return bound;
}

static void http_run(void *arg)
{
	struct http *h = arg;

	for (size_t i = 0; i < h->n_listeners; i++)
		(void)MHD_run(h->listener[i].daemon);
}

/* The wait ends; http_run() follows in the same turn. */
static void listener_ready(void *arg, uint32_t events)
{
	(void)arg;
	(void)events;
}

static struct MHD_Daemon *daemon_start(struct http *h, int fd)
{
	return MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0,
		conn_accept, h, http_handle, h, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT,
		/* with those that give way and are not closed yet */
		(unsigned)(HTTP_CONNS + 2 * HTTP_CONNS_SPARE),
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK,
		unescape_nothing, NULL, MHD_OPTION_URI_LOG_CALLBACK,
		exchange_new, h, MHD_OPTION_NOTIFY_CONNECTION, conn_notify, h,
		MHD_OPTION_NOTIFY_COMPLETED, exchange_done, NULL,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static int listener_open(struct http *h, const struct endpoint *ep)
{
	struct listener *l = &h->listener[h->n_listeners];
	const union MHD_DaemonInfo *info;
	char text[ENDPOINT_TEXT_LEN];
	int err;

	endpoint_format(ep, 0, text);
	l->io = LOOP_IO_INIT;
	l->fd = http_listen(ep);
	if (l->fd < 0) {
		log_errx("cannot listen on %s: %s", text,
			 strerrordesc_np(-l->fd));
		return l->fd;
	}
	l->daemon = daemon_start(h, l->fd);
	if (!l->daemon) {
		log_errx("cannot serve on %s", text);
		close(l->fd);
		return -ENOMEM;
	}
	h->n_listeners++;
	info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -ENOTSUP;
	err = loop_io_add(h->loop, &l->io, info->epoll_fd, EPOLLIN,
			  listener_ready, h);
	if (err)
		return err;
	log_info("listening on %s", text);
	return 0;
}

int http_open(struct http **out, struct loop *l, const struct http_config *c)
{
	struct http *h;
	int err = 0;

	if (c->n_listen > HTTP_LISTENERS)
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->config = *c;
	h->loop = l;
	h->conns.loop = l;
	h->conns.config = &h->config;
	h->gate.config = &h->config;
	limit_init(&h->gate.rate, 1000);
	limit_init(&h->gate.hellos, 1000);
	for (size_t i = 0; i < c->n_listen && !err; i++)
		err = listener_open(h, &c->listen[i]);
	if (err) {
		http_close(h);
		return err;
	}
	loop_set_hook(l, http_timeout, http_run, h);
	*out = h;
	return 0;
}

void http_quiesce(struct http *h)
{
	h->gate.stopping = true;
	for (size_t i = 0; i < h->n_listeners; i++) {
		struct listener *l = &h->listener[i];

		if (l->fd < 0)
			continue;
		(void)MHD_quiesce_daemon(l->daemon);
		close(l->fd);
		l->fd = -1;
	}
}

/* The library must not find a suspended connection when it is stopped. */
static void conns_release(struct http *h)
{
	for (struct http_conn *c = h->conns.first; c; c = c->next) {
		struct exchange *x = c->exchange;

		if (x && x->state == EXCHANGE_SUSPENDED)
			exchange_answer(x, 0, NULL);
		if (x && x->upgraded.handle)
			http_upgrade_close(&x->upgraded);
	}
}

void http_close(struct http *h)
{
	if (!h)
		return;
	http_quiesce(h);
	loop_set_hook(h->loop, NULL, NULL, NULL);
	conns_release(h);
	for (size_t i = 0; i < h->n_listeners; i++) {
		loop_io_del(&h->listener[i].io);
		MHD_stop_daemon(h->listener[i].daemon);
	}
	loop_timer_cancel(&h->conns.sweep);
	free(h);
}

unsigned http_pending(const struct http *h)
{
	return h->conns.n_kept;
}
