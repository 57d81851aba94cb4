/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's HTTP service: the route tables of all modules in one, the names
 * it answers to, who has the room kept for neighbours.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/alarm.h"
#include "agent/messages.h"
#include "agent/msnm.h"
#include "agent/overlay.h"
#include "agent/probe.h"
#include "agent/query.h"
#include "agent/registry.h"
#include "agent/roster.h"
#include "agent/service.h"
#include "common/util.h"

struct service {
	struct agent *agent;
	struct http_route *routes;
	size_t n_routes;
	const char *names[CONF_NAMES + 1]; /* NULL-ended */
};

/* All routes in one table, what agents ask each other all the time first. */
static int routes_collect(struct service *s)
{
	const struct {
		const struct http_route *rows;
		size_t n;
	} tables[] = {
		{ query_routes, query_n_routes },
		{ overlay_routes, overlay_n_routes },
		{ message_routes, message_n_routes },
		{ answer_routes, answer_n_routes },
		{ alarm_routes, alarm_n_routes },
		{ v1_routes, v1_n_routes },
		{ resource_routes, resource_n_routes },
		{ overlay_api_routes, overlay_api_n_routes },
		{ roster_routes, roster_n_routes },
		{ registry_routes, registry_n_routes },
		{ probe_routes, probe_n_routes },
		{ msnm_routes, msnm_n_routes },
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		n += tables[i].n;
	s->routes = calloc(n, sizeof(*s->routes));
	if (!s->routes)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		memcpy(s->routes + s->n_routes, tables[i].rows,
		       tables[i].n * sizeof(*s->routes));
		s->n_routes += tables[i].n;
	}
	return 0;
}

static bool is_neighbour(void *ctx, const struct ip_addr *a)
{
	const struct agent *agent = ctx;

	return overlay_is_neighbour(agent->overlay, a);
}

static void epoch(void *ctx, char out[EPOCH_TEXT])
{
	const struct agent *agent = ctx;

	overlay_epoch_text(agent->overlay, out);
}

static void connection_closed(void *ctx, uint64_t connection)
{
	const struct agent *agent = ctx;

	overlay_connection_closed(agent->overlay, connection);
}

void service_close(struct service *s)
{
	if (!s)
		return;
	http_close(s->agent->http);
	s->agent->http = NULL;
	free(s->routes);
	free(s);
}

int service_open(struct service **out, struct agent *a)
{
	const struct conf *conf = a->conf;
	struct service *s = calloc(1, sizeof(*s));
	struct http_config config = {
		.listen = conf->listen,
		.n_listen = conf->n_listen,
		.auth = a->auth,
		.ctx = a,
		.closed = connection_closed,
		.is_neighbour = is_neighbour,
		.epoch = epoch,
	};
	int err;

	if (!s)
		return -ENOMEM;
	s->agent = a;
	for (size_t i = 0; i < conf->n_server_names; i++)
		s->names[i] = conf->server_name[i];
	err = routes_collect(s);
	if (!err) {
		config.server_names = s->names;
		config.routes = s->routes;
		config.n_routes = s->n_routes;
		err = http_open(&a->http, a->loop, &config);
	}
	if (err) {
		service_close(s);
		return err;
	}
	*out = s;
	return 0;
}
