/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP server with handlers that only show what reached them: for tests of
 * the guard, of limits and of suspended requests without an agent around.
 *
 *	http_server PORT [TOKEN-FILE] [NAME]
 *
 * Listens on 127.0.0.1 and [::1]; writes a line "ready" to standard output;
 * ends at SIGTERM.  NAME is accepted in Host; 127.0.5.* are neighbours.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/form.h"
#include "agent/http.h"
#include "agent/json.h"
#include "common/log.h"
#include "common/util.h"

struct late {
	LIST_ENTRY(late) entry;
	struct loop_timer timer;
	struct http_request *rq;
};

struct server {
	LIST_HEAD(, late) late; /* requests that wait */
	struct loop *loop;
	struct http *http;
	struct loop_io io; /* of the upgraded connection */
	struct http_upgraded *upgraded;
};

/* What the handler was given, as JSON. */
static void echo(void *ctx, struct http_request *rq)
{
	struct http_reply r;
	struct json_out o;

	(void)ctx;
	http_reply_init(&r, 200, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "method", rq->method);
	json_put_str(&o, "path", rq->path);
	json_put_str(&o, "query", rq->query);
	json_put_str(&o, "segment", rq->segment[0]);
	json_put_u64(&o, "body_type", rq->body_type);
	json_put_u64(&o, "body_len", rq->body_len);
	json_put_u64(&o, "roles", rq->roles);
	json_close(&o, '}');
	http_send(rq, &r);
}

static void legacy(void *ctx, struct http_request *rq)
{
	struct form *f = malloc(sizeof(*f));
	struct error e = { 0 };
	enum error_code code;

	(void)ctx;
	if (!f)
		abort();
	code = rq->body_type == HTTP_BODY_JSON
		       ? form_decode_json(rq->body, rq->body_len, f)
		       : form_decode(rq->body, rq->body_len, FORM_VALUE_OLD,
				     NULL, f);
	if (code == ERR_NONE && !form_get(f, "type", NULL))
		code = ERR_NO_TYPE;
	error_set(&e, code, NULL, NULL);
	if (code == ERR_NONE)
		http_send_text(rq, 200, form_get(f, "type", NULL));
	else
		http_send_error(rq, &e);
	free(f);
}

static void late_free(struct late *late)
{
	loop_timer_cancel(&late->timer);
	LIST_REMOVE(late, entry);
	free(late);
}

static void late_answer(void *arg)
{
	struct late *late = arg;

	http_send_text(late->rq, 200, "late");
	late_free(late);
}

/* GET /late/MS */
static void wait_first(void *ctx, struct http_request *rq)
{
	struct server *s = ctx;
	struct late *late = calloc(1, sizeof(*late));
	uint64_t ms = 0;

	(void)parse_u64(rq->segment[0], strlen(rq->segment[0]), 0, 60000, &ms);
	if (!late)
		abort();
	late->rq = rq;
	LIST_INSERT_HEAD(&s->late, late, entry);
	if (loop_timer_in(s->loop, &late->timer, ms, late_answer, late) != 0)
		abort();
}

/* GET /large/BYTES */
static void large(void *ctx, struct http_request *rq)
{
	struct http_reply r;
	uint64_t n = 0;

	(void)ctx;
	(void)parse_u64(rq->segment[0], strlen(rq->segment[0]), 0, 1 << 24, &n);
	http_reply_init(&r, 200, HTTP_TEXT);
	while (n-- > 0)
		buf_text(&r.body, "x");
	http_send(rq, &r);
}

static void upgraded_ready(void *arg, uint32_t events)
{
	struct server *s = arg;
	char bytes[256];
	ssize_t n = recv(s->io.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	(void)events;
	if (n > 0 && send(s->io.fd, bytes, (size_t)n, MSG_NOSIGNAL) == n)
		return;
	loop_io_del(&s->io);
	http_upgrade_close(s->upgraded);
}

static void upgraded(void *arg, struct http_upgraded *u, int fd,
		     const void *early, size_t n_early)
{
	struct server *s = arg;

	s->upgraded = u;
	if (n_early > 0 && send(fd, early, n_early, MSG_NOSIGNAL) < 0)
		abort();
	if (loop_io_add(s->loop, &s->io, fd, EPOLLIN, upgraded_ready, s) != 0)
		abort();
}

static void upgrade(void *ctx, struct http_request *rq)
{
	http_upgrade(rq, "echo", upgraded, ctx);
}

static const struct http_route routes[] = {
	{ "/", HTTP_GET, ROLE_NONE, 0, 0, true, echo },
	{ "/", HTTP_POST, ROLE_IN_HANDLER, HTTP_BODY_FORM | HTTP_BODY_JSON,
	  65536, true, legacy },
	{ "/open", HTTP_GET, ROLE_NONE, 0, 0, false, echo },
	{ "/read", HTTP_GET | HTTP_HEAD, ROLE_READ, 0, 0, false, echo },
	{ "/change", HTTP_POST | HTTP_PUT, ROLE_CONFIG, HTTP_BODY_JSON, 65536,
	  false, echo },
	{ "/peer", HTTP_POST, ROLE_PEER, HTTP_BODY_JSON, 4 << 20, false, echo },
	{ "/items/*", HTTP_GET | HTTP_DELETE, ROLE_READ, 0, 0, false, echo },
	{ "/late/*", HTTP_GET, ROLE_READ, 0, 0, false, wait_first },
	{ "/large/*", HTTP_GET, ROLE_READ, 0, 0, false, large },
	{ "/upgrade", HTTP_GET, ROLE_READ, 0, 0, false, upgrade },
	{ "/api/v1/peer/hello", HTTP_GET, ROLE_NONE, 0, 0, false, echo },
	{ "/api/v1/peer/open", HTTP_GET, ROLE_PEER, 0, 0, false, echo },
	{ "/api/v1/peer/late/*", HTTP_GET, ROLE_PEER, 0, 0, false, wait_first },
};

static bool is_neighbour(void *ctx, const struct ip_addr *a)
{
	static const uint8_t first[3] = { 127, 0, 5 };

	(void)ctx;
	return addr_is_v4(a) && memcmp(a->b + 12, first, sizeof(first)) == 0;
}

static void stop(void *arg, int signo)
{
	struct server *s = arg;

	(void)signo;
	loop_stop(s->loop);
}

static int serve(struct server *s, uint16_t port, const char *token_file,
		 const char *name)
{
	static const char *const addrs[] = { "127.0.0.1", "::1" };
	const char *names[] = { name, NULL };
	struct endpoint listen[ARRAY_SIZE(addrs)];
	struct http_config config = {
		.listen = listen,
		.n_listen = ARRAY_SIZE(addrs),
		.server_names = names,
		.routes = routes,
		.n_routes = ARRAY_SIZE(routes),
		.ctx = s,
		.is_neighbour = is_neighbour,
	};
	char err[256];

	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		if (endpoint_parse(addrs[i], strlen(addrs[i]), port,
				   &listen[i]) != 0)
			abort();
	}
	if (auth_open(&config.auth, token_file, err) != 0) {
		log_errx("%s", err);
		return EXIT_CONFIG;
	}
	if (http_open(&s->http, s->loop, &config) != 0)
		return EXIT_FAILURE;
	printf("ready\n");
	fflush(stdout);
	loop_run(s->loop);
	loop_io_del(&s->io);
	http_close(s->http);
	while (!LIST_EMPTY(&s->late))
		late_free(LIST_FIRST(&s->late));
	auth_free(config.auth);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct server s = { .io = LOOP_IO_INIT };
	uint64_t port = 0;
	sigset_t set;
	int ret;

	log_init("http_server", LOG_LEVEL_WARN);
	if (argc < 2 ||
	    parse_u64(argv[1], strlen(argv[1]), 1, UINT16_MAX, &port) != 0)
		return EXIT_USAGE;
	s.loop = loop_new();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	if (!s.loop || loop_signals(s.loop, &set, stop, &s) != 0)
		return EXIT_FAILURE;
	ret = serve(&s, (uint16_t)port, argc > 2 && argv[2][0] ? argv[2] : NULL,
		    argc > 3 ? argv[3] : NULL);
	loop_free(s.loop);
	return ret;
}
