/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options: defaults, then the configuration file, then the command line; the
 * one file that knows libinih.  What each of them means is in conf_rows.c.
 *
 * The command line is read twice: first into a scratch copy, which checks it
 * and finds the file, then again over what the file said.  Then all together is
 * checked: who may ask, and how a place in the tree is found.  Any error is one
 * line that says what is allowed, and the program does not start.
 */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/conf_private.h"
#include "common/ctl.h"
#include "common/log.h"
#include "common/util.h"

#define CONF_QUERY_MS 2000
#define CONF_FANOUT   16
#define CONF_FORGET_H 24

static int key_set(struct conf_source *p, size_t row, const char *value,
		   char *error)
{
	char *words, *rest, *word;
	int ret = 0;

	if (!conf_keys[row].list) {
		if (p->seen & (uint64_t)1 << row)
			return conf_complain(error, "is given twice");
		p->seen |= (uint64_t)1 << row;
		return conf_keys[row].set(p, value, error);
	}
	words = rest = strdup(value);
	if (!words)
		return -ENOMEM;
	while (!ret && (word = strsep(&rest, " \t,")) != NULL) {
		if (*word)
			ret = conf_keys[row].set(p, word, error);
	}
	free(words);
	return ret;
}

/* The first complaint is kept: it is the one that the line number is of. */
static int key_found(void *user, const char *section, const char *name,
		     const char *value)
{
	struct conf_source *p = user;
	char error[ARGS_ERROR_LEN] = "bad value";

	if (section[0] && strcmp(section, "agent") != 0) {
		if (!p->error[0])
			snprintf(p->error, sizeof(p->error),
				 "unknown section [%s]", section);
		return 0;
	}
	for (size_t i = 0; i < conf_n_keys; i++) {
		if (strcmp(conf_keys[i].name, name) != 0)
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
	struct conf_source p = { .c = c };
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
	args_print(conf_options, conf_n_options, stdout);
}

int conf_load(struct conf *c, int argc, char **argv)
{
	struct conf scratch;
	struct conf_source first = { .c = &scratch }, second = { .c = c };
	int at, err;

	err = conf_defaults(&scratch) ? -EINVAL : conf_defaults(c);
	if (err)
		return EXIT_FAILURE;
	at = args_parse(conf_options, conf_n_options, argc, argv, &first);
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
	if (args_parse(conf_options, conf_n_options, argc, argv, &second) < 0)
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
