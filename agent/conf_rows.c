/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The settings, one function each: what it allows, and where it goes.  The
 * options of the command line and the keys of the file are two tables of rows
 * that share them.
 *
 * Lists are filled an element a call; each source begins them anew, so that a
 * list on the command line replaces the list of the file.  Values are copied.
 * What is refused ends the program: nothing is undone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/conf_private.h"
#include "common/ctl.h"
#include "common/log.h"
#include "common/util.h"

int conf_complain(char *error, const char *allowed)
{
	snprintf(error, ARGS_ERROR_LEN, "%s", allowed);
	return -EINVAL;
}

static int store_text(char *out, size_t size, const char *value, char *error)
{
	size_t len = strlen(value);

	if (len == 0 || len >= size) {
		snprintf(error, ARGS_ERROR_LEN, "must have 1 to %zu bytes",
			 size - 1);
		return -EINVAL;
	}
	memcpy(out, value, len + 1);
	return 0;
}

/* A row that comes first from its source empties the list. */
static size_t list_room(struct conf_source *p, enum conf_list list, size_t *n)
{
	if (!p->replaced[list])
		*n = 0;
	p->replaced[list] = true;
	return *n;
}

/* One address a call; names and what no agent can have are refused. */
static int add_endpoint(struct conf_source *p, enum conf_list list,
			struct endpoint *out, size_t *n, size_t max,
			const char *value, char *error)
{
	struct endpoint ep;
	enum addr_class class;

	if (endpoint_parse(value, strlen(value), CONF_PORT, &ep) != 0 ||
	    ep.port == 0)
		return conf_complain(error, "must be ADDR or ADDR:PORT, "
					    "[ADDR]:PORT for IPv6");
	class = addr_classify(&ep.addr);
	if (class == ADDR_MULTICAST || class == ADDR_BROADCAST ||
	    (class == ADDR_UNSPECIFIED && list != CONF_LIST_LISTEN) ||
	    class == ADDR_LINK_LOCAL)
		return conf_complain(error, "no agent can have this address");
	if (list_room(p, list, n) == max)
		return conf_complain(error, "too many of them");
	out[(*n)++] = ep;
	return 0;
}

static int set_listen(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return add_endpoint(p, CONF_LIST_LISTEN, p->c->listen, &p->c->n_listen,
			    CONF_LISTEN, value, error);
}

static int set_parent(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return add_endpoint(p, CONF_LIST_PARENTS, p->c->parents,
			    &p->c->n_parents, CONF_CHILDREN, value, error);
}

static int set_child(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return add_endpoint(p, CONF_LIST_CHILDREN, p->c->children,
			    &p->c->n_children, CONF_CHILDREN, value, error);
}

static int set_seed(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return add_endpoint(p, CONF_LIST_SEEDS, p->c->seeds, &p->c->n_seeds,
			    CONF_CHILDREN, value, error);
}

static int set_root(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return add_endpoint(p, CONF_LIST_ROOTS, p->c->roots, &p->c->n_roots,
			    CONF_ROOTS, value, error);
}

static int set_peer(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	struct ip_prefix prefix;

	if (prefix_parse(value, strlen(value), &prefix) != 0)
		return conf_complain(error, "must be ADDR or ADDR/LENGTH");
	if (list_room(p, CONF_LIST_PEERS, &p->c->n_peers) == CONF_PEERS)
		return conf_complain(error, "too many of them");
	p->c->peers[p->c->n_peers++] = prefix;
	return 0;
}

static int set_server_name(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	size_t at = list_room(p, CONF_LIST_NAMES, &p->c->n_server_names);

	if (at == CONF_NAMES)
		return conf_complain(error, "too many of them");
	if (store_text(p->c->server_name[at], sizeof(p->c->server_name[0]),
		       value, error) != 0)
		return -EINVAL;
	p->c->n_server_names++;
	return 0;
}

static int set_instance(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	if (instance_check(value) != 0)
		return conf_complain(error, "must be 1 to 16 of a-z, 0-9, -");
	return store_text(p->c->instance, sizeof(p->c->instance), value, error);
}

/* An option without a value means yes. */
static int store_yes(bool *out, const char *value, char *error)
{
	if (value && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return conf_complain(error, "must be yes or no");
	*out = !value || strcmp(value, "yes") == 0;
	return 0;
}

static int set_insecure(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_yes(&p->c->insecure, value, error);
}

static int set_token_file(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->token_file, sizeof(p->c->token_file), value,
			  error);
}

static int set_peer_token_file(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->peer_token_file, sizeof(p->c->peer_token_file),
			  value, error);
}

static int set_state_dir(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->state_dir, sizeof(p->c->state_dir), value,
			  error);
}

static int set_user(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->user, sizeof(p->c->user), value, error);
}

static int set_monitor_user(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->monitor_user, sizeof(p->c->monitor_user), value,
			  error);
}

/* What travels between agents as a name. */
static int store_name(char *out, size_t size, const char *value, char *error)
{
	if (!name_chars(value, strlen(value)))
		return conf_complain(error,
				     "must be of A-Z, a-z, 0-9, . _ : -");
	return store_text(out, size, value, error);
}

static int set_overlay_name(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_name(p->c->overlay_name, sizeof(p->c->overlay_name), value,
			  error);
}

static int set_rack(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_name(p->c->rack, sizeof(p->c->rack), value, error);
}

static int set_list(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_text(p->c->list_file, sizeof(p->c->list_file), value,
			  error);
}

static int set_fanout(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	uint64_t n;

	if (parse_u64(value, strlen(value), 2, CONF_CHILDREN, &n) != 0)
		return conf_complain(error, "must be 2 to 64");
	p->c->fanout = (uint32_t)n;
	return 0;
}

static int set_forget_h(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	uint64_t hours;

	if (parse_u64(value, strlen(value), 0, 8760, &hours) != 0)
		return conf_complain(error, "must be 0 (never) to 8760 hours");
	p->c->forget_h = (uint32_t)hours;
	return 0;
}

static int set_drain(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	return store_yes(&p->c->drain, value, error);
}

static int set_query_ms(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	uint64_t ms;

	if (parse_u64(value, strlen(value), 50, 30000, &ms) != 0)
		return conf_complain(error, "must be 50 to 30000");
	p->c->query_ms = (uint32_t)ms;
	return 0;
}

static int set_ready_fd(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;
	uint64_t fd;

	if (parse_u64(value, strlen(value), 0, INT32_MAX, &fd) != 0)
		return conf_complain(error, "must be a descriptor's number");
	p->c->ready_fd = (int)fd;
	return 0;
}

static int set_log_level(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	if (log_level_parse(value, &p->c->log_level) != 0)
		return conf_complain(error, "must be " LOG_LEVELS);
	return 0;
}

static int set_config(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	(void)error;
	p->config = value;
	return 0;
}

static int set_check(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	(void)value;
	(void)error;
	p->c->check = true;
	return 0;
}

static int set_help(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	(void)value;
	(void)error;
	p->help = true;
	return 0;
}

static int set_version(void *ctx, const char *value, char *error)
{
	struct conf_source *p = ctx;

	(void)value;
	(void)error;
	p->version = true;
	return 0;
}

const struct arg_row conf_options[] = {
	{ "listen", 0, "ADDR[:PORT]",
	  "serve here (127.0.0.1:8000); may be repeated", set_listen },
	{ "insecure", 0, NULL,
	  "let every caller do everything: closed labs only", set_insecure },
	{ "token-file", 0, "FILE", "tokens of callers; who has none is refused",
	  set_token_file },
	{ "peer-token-file", 0, "FILE", "own token towards other agents",
	  set_peer_token_file },
	{ "parent", 0, "ADDR[:PORT]", "obey only this parent; may be repeated",
	  set_parent },
	{ "child", 0, "ADDR[:PORT]", "a child of this agent; may be repeated",
	  set_child },
	{ "list", 0, "FILE", "every host's address: the tree is laid out by it",
	  set_list },
	{ "seed", 0, "ADDR[:PORT]",
	  "join the tree that this member is in; may be repeated", set_seed },
	{ "root", 0, "ADDR[:PORT]",
	  "may be the root of the tree; in order, may be repeated", set_root },
	{ "fanout", 0, "N", "children that an agent aims at, 2 to 64 (16)",
	  set_fanout },
	{ "rack", 0, "NAME", "children of the same rack are preferred",
	  set_rack },
	{ "forget-h", 0, "HOURS",
	  "expect a lost host no more after so long, 0: never (24)",
	  set_forget_h },
	{ "drain", 0, NULL, "leave the tree in order when stopped", set_drain },
	{ "state-dir", 0, "DIR", "keep tasks and children across restarts",
	  set_state_dir },
	{ "instance", 0, "NAME", "name shared with the monitor of this host",
	  set_instance },
	{ "config", 0, "FILE", "configuration file, see linnet.conf(5)",
	  set_config },
	{ "check", 0, NULL, "say what would be done and end", set_check },
	{ "user", 0, "NAME|UID[:GID]",
	  "when started as root, become this user (linnet-agent)", set_user },
	{ "monitor-user", 0, "NAME|UID",
	  "user of the monitor, besides root (linnet-monitor)",
	  set_monitor_user },
	{ "ready-fd", 0, "N", "write a byte to this descriptor when serving",
	  set_ready_fd },
	{ "log-level", 0, "LEVEL", "error, warning, info (default) or debug",
	  set_log_level },
	{ "version", 'V', NULL, "print the version and end", set_version },
	{ "help", 'h', NULL, "print this and end", set_help },
};
const size_t conf_n_options = ARRAY_SIZE(conf_options);

const struct conf_key conf_keys[] = {
	{ "listen", true, set_listen },
	{ "insecure", false, set_insecure },
	{ "token_file", false, set_token_file },
	{ "peer_token_file", false, set_peer_token_file },
	{ "parents", true, set_parent },
	{ "children", true, set_child },
	{ "peers", true, set_peer },
	{ "list", false, set_list },
	{ "seeds", true, set_seed },
	{ "roots", true, set_root },
	{ "fanout", false, set_fanout },
	{ "rack", false, set_rack },
	{ "forget_h", false, set_forget_h },
	{ "drain", false, set_drain },
	{ "server_names", true, set_server_name },
	{ "state_dir", false, set_state_dir },
	{ "instance", false, set_instance },
	{ "overlay_name", false, set_overlay_name },
	{ "query_ms", false, set_query_ms },
	{ "user", false, set_user },
	{ "monitor_user", false, set_monitor_user },
	{ "log_level", false, set_log_level },
};
const size_t conf_n_keys = ARRAY_SIZE(conf_keys);
