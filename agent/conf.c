/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options: defaults, then the configuration file, then the command line; the
 * one file that knows libinih.
 *
 * Both sources have a table of rows that share their functions.  The command
 * line is read twice: first into a scratch copy, which checks it and finds the
 * file, then again over what the file said.  A list on the command line
 * replaces the list of the file.
 */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/conf.h"
#include "common/args.h"
#include "common/ctl.h"
#include "common/log.h"
#include "common/util.h"

#define CONF_PORT     8000
#define CONF_QUERY_MS 2000
#define CONF_FANOUT   16
#define CONF_FORGET_H 24

enum list {
	LIST_LISTEN,
	LIST_PARENTS,
	LIST_CHILDREN,
	LIST_PEERS,
	LIST_NAMES,
	LIST_SEEDS,
	LIST_ROOTS,
	LISTS
};

struct parse {
	struct conf *c;
	const char *config; /* --config */
	bool help, version;
	bool replaced[LISTS]; /* the list was begun by this source */
	/* of the file: */
	uint64_t seen; /* bits of keys that come once */
	char error[256];
};

static int complain(char *error, const char *allowed)
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
static size_t list_room(struct parse *p, enum list list, size_t *n)
{
	if (!p->replaced[list])
		*n = 0;
	p->replaced[list] = true;
	return *n;
}

/* One address a call; names and what no agent can have are refused. */
static int add_endpoint(struct parse *p, enum list list, struct endpoint *out,
			size_t *n, size_t max, const char *value, char *error)
{
	struct endpoint ep;
	enum addr_class class;

	if (endpoint_parse(value, strlen(value), CONF_PORT, &ep) != 0 ||
	    ep.port == 0)
		return complain(error, "must be ADDR or ADDR:PORT, "
				       "[ADDR]:PORT for IPv6");
	class = addr_classify(&ep.addr);
	if (class == ADDR_MULTICAST || class == ADDR_BROADCAST ||
	    (class == ADDR_UNSPECIFIED && list != LIST_LISTEN) ||
	    class == ADDR_LINK_LOCAL)
		return complain(error, "no agent can have this address");
	if (list_room(p, list, n) == max)
		return complain(error, "too many of them");
	out[(*n)++] = ep;
	return 0;
}

static int set_listen(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return add_endpoint(p, LIST_LISTEN, p->c->listen, &p->c->n_listen,
			    CONF_LISTEN, value, error);
}

static int set_parent(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return add_endpoint(p, LIST_PARENTS, p->c->parents, &p->c->n_parents,
			    CONF_CHILDREN, value, error);
}

static int set_child(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return add_endpoint(p, LIST_CHILDREN, p->c->children, &p->c->n_children,
			    CONF_CHILDREN, value, error);
}

static int set_seed(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return add_endpoint(p, LIST_SEEDS, p->c->seeds, &p->c->n_seeds,
			    CONF_CHILDREN, value, error);
}

static int set_root(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return add_endpoint(p, LIST_ROOTS, p->c->roots, &p->c->n_roots,
			    CONF_ROOTS, value, error);
}

static int set_peer(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	struct ip_prefix prefix;

	if (prefix_parse(value, strlen(value), &prefix) != 0)
		return complain(error, "must be ADDR or ADDR/LENGTH");
	if (list_room(p, LIST_PEERS, &p->c->n_peers) == CONF_PEERS)
		return complain(error, "too many of them");
	p->c->peers[p->c->n_peers++] = prefix;
	return 0;
}

static int set_server_name(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	size_t at = list_room(p, LIST_NAMES, &p->c->n_server_names);

	if (at == CONF_NAMES)
		return complain(error, "too many of them");
	if (store_text(p->c->server_name[at], sizeof(p->c->server_name[0]),
		       value, error) != 0)
		return -EINVAL;
	p->c->n_server_names++;
	return 0;
}

static int set_instance(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	if (instance_check(value) != 0)
		return complain(error, "must be 1 to 16 of a-z, 0-9, -");
	return store_text(p->c->instance, sizeof(p->c->instance), value, error);
}

/* An option without a value means yes. */
static int store_yes(bool *out, const char *value, char *error)
{
	if (value && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return complain(error, "must be yes or no");
	*out = !value || strcmp(value, "yes") == 0;
	return 0;
}

static int set_insecure(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_yes(&p->c->insecure, value, error);
}

static int set_token_file(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->token_file, sizeof(p->c->token_file), value,
			  error);
}

static int set_peer_token_file(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->peer_token_file, sizeof(p->c->peer_token_file),
			  value, error);
}

static int set_state_dir(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->state_dir, sizeof(p->c->state_dir), value,
			  error);
}

static int set_user(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->user, sizeof(p->c->user), value, error);
}

static int set_monitor_user(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->monitor_user, sizeof(p->c->monitor_user), value,
			  error);
}

/* What travels between agents as a name. */
static int store_name(char *out, size_t size, const char *value, char *error)
{
	if (!name_chars(value, strlen(value)))
		return complain(error, "must be of A-Z, a-z, 0-9, . _ : -");
	return store_text(out, size, value, error);
}

static int set_overlay_name(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_name(p->c->overlay_name, sizeof(p->c->overlay_name), value,
			  error);
}

static int set_rack(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_name(p->c->rack, sizeof(p->c->rack), value, error);
}

static int set_list(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_text(p->c->list_file, sizeof(p->c->list_file), value,
			  error);
}

static int set_fanout(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	uint64_t n;

	if (parse_u64(value, strlen(value), 2, CONF_CHILDREN, &n) != 0)
		return complain(error, "must be 2 to 64");
	p->c->fanout = (uint32_t)n;
	return 0;
}

static int set_forget_h(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	uint64_t hours;

	if (parse_u64(value, strlen(value), 0, 8760, &hours) != 0)
		return complain(error, "must be 0 (never) to 8760 hours");
	p->c->forget_h = (uint32_t)hours;
	return 0;
}

static int set_drain(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	return store_yes(&p->c->drain, value, error);
}

static int set_query_ms(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	uint64_t ms;

	if (parse_u64(value, strlen(value), 50, 30000, &ms) != 0)
		return complain(error, "must be 50 to 30000");
	p->c->query_ms = (uint32_t)ms;
	return 0;
}

static int set_ready_fd(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;
	uint64_t fd;

	if (parse_u64(value, strlen(value), 0, INT32_MAX, &fd) != 0)
		return complain(error, "must be a descriptor's number");
	p->c->ready_fd = (int)fd;
	return 0;
}

static int set_log_level(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	if (log_level_parse(value, &p->c->log_level) != 0)
		return complain(error, "must be " LOG_LEVELS);
	return 0;
}

static int set_config(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	(void)error;
	p->config = value;
	return 0;
}

static int set_check(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	(void)value;
	(void)error;
	p->c->check = true;
	return 0;
}

static int set_help(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	(void)value;
	(void)error;
	p->help = true;
	return 0;
}

static int set_version(void *ctx, const char *value, char *error)
{
	struct parse *p = ctx;

	(void)value;
	(void)error;
	p->version = true;
	return 0;
}

static const struct arg_row options[] = {
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

/* Keys of the file; lists take several words, and may come several times. */
static const struct {
	const char *name;
	bool list;
	int (*set)(void *ctx, const char *value, char error[ARGS_ERROR_LEN]);
} keys[] = {
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

static int key_set(struct parse *p, size_t row, const char *value, char *error)
{
	char *words, *rest, *word;
	int ret = 0;

	if (!keys[row].list) {
		if (p->seen & (uint64_t)1 << row)
			return complain(error, "is given twice");
		p->seen |= (uint64_t)1 << row;
		return keys[row].set(p, value, error);
	}
	words = rest = strdup(value);
	if (!words)
		return -ENOMEM;
	while (!ret && (word = strsep(&rest, " \t,")) != NULL) {
		if (*word)
			ret = keys[row].set(p, word, error);
	}
	free(words);
	return ret;
}

/* The first complaint is kept: it is the one that the line number is of. */
static int key_found(void *user, const char *section, const char *name,
		     const char *value)
{
	struct parse *p = user;
	char error[ARGS_ERROR_LEN] = "bad value";

	if (section[0] && strcmp(section, "agent") != 0) {
		if (!p->error[0])
			snprintf(p->error, sizeof(p->error),
				 "unknown section [%s]", section);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(keys[i].name, name) != 0)
			continue;
		if (key_set(p, i, value, error) == 0)
			return 1;
		if (!p->error[0])
			snprintf(p->error, sizeof(p->error), "%s: %s", name,
				 error);
		return 0;
	}
	if (!p->error[0])
		snprintf(p->error, sizeof(p->error), "unknown key %s", name);
	return 0;
}

static int file_load(struct conf *c, const char *path)
{
	struct parse p = { .c = c };
	FILE *f = fopen(path, "re");
	struct stat st;
	int line;

	if (!f || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode)) {
		fprintf(stderr, "linnet-agent: %s: %s\n", path,
			f ? "must be a regular file" : strerrordesc_np(errno));
		if (f)
			fclose(f);
		return EXIT_CONFIG;
	}
	line = ini_parse_file(f, key_found, &p);
	fclose(f);
	if (line == 0)
		return 0;
	fprintf(stderr, "linnet-agent: %s, line %d: %s\n", path, line,
		p.error[0] ? p.error : "not KEY = VALUE in 198 bytes");
	return EXIT_CONFIG;
}

static int conf_defaults(struct conf *c)
{
	static const char loopback[] = "127.0.0.1";
	const char *state_dir = getenv("STATE_DIRECTORY");

	memset(c, 0, sizeof(*c));
	c->ready_fd = -1;
	c->log_level = LOG_LEVEL_INFO;
	c->query_ms = CONF_QUERY_MS;
	c->fanout = CONF_FANOUT;
	c->forget_h = CONF_FORGET_H;
	c->n_listen = 1;
	snprintf(c->user, sizeof(c->user), "linnet-agent");
	snprintf(c->monitor_user, sizeof(c->monitor_user), "linnet-monitor");
	snprintf(c->overlay_name, sizeof(c->overlay_name), "linnet");
	/* The service manager names one directory, or several with colons. */
	if (state_dir && !strchr(state_dir, ':'))
		snprintf(c->state_dir, sizeof(c->state_dir), "%s", state_dir);
	return endpoint_parse(loopback, strlen(loopback), CONF_PORT,
			      &c->listen[0]);
}

/* Whoever serves more than this host must say who may ask. */
static int conf_check_access(struct conf *c)
{
	char text[ENDPOINT_TEXT_LEN];

	if (c->token_file[0]) {
		if (c->insecure)
			fprintf(stderr, "linnet-agent: insecure has no effect "
					"with a token file\n");
		c->insecure = false;
		return 0;
	}
	for (size_t i = 0; i < c->n_listen && !c->insecure; i++) {
		if (addr_classify(&c->listen[i].addr) == ADDR_LOOPBACK)
			continue;
		endpoint_format(&c->listen[i], 0, text);
		fprintf(stderr,
			"linnet-agent: listening on %s needs --token-file FILE "
			"(token_file = FILE), or --insecure (insecure = yes) "
			"in a closed lab\n",
			text);
		return EXIT_CONFIG;
	}
	return 0;
}

/* One way to find a place in the tree. */
static int conf_check_tree(const struct conf *c)
{
	const char *why = NULL;

	if (c->list_file[0] && c->n_seeds)
		why = "list and seeds exclude each other";
	else if (c->n_children && (c->list_file[0] || c->n_seeds))
		why = "children are for a tree that is built by hand: not "
		      "with list or seeds";
	else if (c->n_roots && !c->list_file[0] && !c->n_seeds)
		why = "roots are for a tree that is not built by hand: with "
		      "list or seeds";
	if (!why)
		return 0;
	fprintf(stderr, "linnet-agent: %s\n", why);
	return EXIT_CONFIG;
}

static void print_help(void)
{
	printf("Usage: linnet-agent [OPTION]...\n"
	       "Answers questions about the traffic of this host and of the "
	       "hosts below it.\n\n");
	args_print(options, ARRAY_SIZE(options), stdout);
}

int conf_load(struct conf *c, int argc, char **argv)
{
	struct conf scratch;
	struct parse first = { .c = &scratch }, second = { .c = c };
	int at, err;

	err = conf_defaults(&scratch) ? -EINVAL : conf_defaults(c);
	if (err)
		return EXIT_FAILURE;
	at = args_parse(options, ARRAY_SIZE(options), argc, argv, &first);
	if (at < 0)
		return EXIT_USAGE;
	if (at < argc) {
		fprintf(stderr, "linnet-agent: %s: no operand is expected\n",
			argv[at]);
		return EXIT_USAGE;
	}
	if (first.help)
		print_help();
	if (first.version && !first.help)
		printf("linnet-agent %s\n", LINNET_VERSION);
	if (first.help || first.version)
		return 1;
	if (first.config) {
		err = file_load(c, first.config);
		if (err)
			return err;
	}
	/* It was correct a moment ago; only how it meets the file is new. */
	if (args_parse(options, ARRAY_SIZE(options), argc, argv, &second) < 0)
		return EXIT_USAGE;
	c->port = c->listen[0].port;
	if (!c->instance[0] && instance_default(c->instance) != 0) {
		fprintf(stderr, "linnet-agent: no network namespace to take "
				"an instance name from: use --instance\n");
		return EXIT_CONFIG;
	}
	err = conf_check_tree(c);
	return err ? err : conf_check_access(c);
}

static void print_endpoints(const char *what, const struct endpoint *ep,
			    size_t n)
{
	char text[ENDPOINT_TEXT_LEN];

	for (size_t i = 0; i < n; i++) {
		endpoint_format(&ep[i], 0, text);
		printf("%s %s\n", what, text);
	}
}

void conf_print(const struct conf *c)
{
	char text[PREFIX_TEXT_LEN];

	printf("instance %s\n", c->instance);
	print_endpoints("listen", c->listen, c->n_listen);
	printf("tokens %s\n", c->token_file[0] ? c->token_file
			      : c->insecure    ? "none: insecure"
					       : "none: loopback only");
	print_endpoints("parent", c->parents, c->n_parents);
	print_endpoints("child", c->children, c->n_children);
	printf("tree %s\n", c->list_file[0] ? "by list"
			    : c->n_seeds    ? "by joining"
					    : "by hand");
	if (c->list_file[0])
		printf("list %s\n", c->list_file);
	print_endpoints("seed", c->seeds, c->n_seeds);
	print_endpoints("root", c->roots, c->n_roots);
	printf("fanout %u\n", c->fanout);
	if (c->rack[0])
		printf("rack %s\n", c->rack);
	if (c->forget_h)
		printf("forget after %u h\n", c->forget_h);
	else
		printf("forget never\n");
	printf("drain %s\n", c->drain ? "yes" : "no");
	for (size_t i = 0; i < c->n_peers; i++) {
		prefix_format(&c->peers[i], text);
		printf("peer %s\n", text);
	}
	for (size_t i = 0; i < c->n_server_names; i++)
		printf("server name %s\n", c->server_name[i]);
	printf("state %s\n", c->state_dir[0] ? c->state_dir : "not kept");
}
