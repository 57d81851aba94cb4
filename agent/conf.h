/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the agent: command line over configuration file over defaults. */
#ifndef LINNET_CONF_H
#define LINNET_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/log.h"

#define CONF_LISTEN   8
#define CONF_CHILDREN 64
#define CONF_PEERS    64
#define CONF_NAMES    8
#define CONF_ROOTS    5

struct conf {
	char instance[17];
	struct endpoint listen[CONF_LISTEN];
	size_t n_listen;
	uint16_t port; /* of the first listener: the agent port of peers */
	bool insecure;
	char token_file[256], peer_token_file[256];
	char state_dir[256]; /* "": nothing is kept */
	struct endpoint parents[CONF_CHILDREN];
	size_t n_parents;
	struct endpoint children[CONF_CHILDREN];
	size_t n_children;
	struct ip_prefix peers[CONF_PEERS]; /* probe targets besides members */
	size_t n_peers;
	char server_name[CONF_NAMES][65];
	size_t n_server_names;
	char user[65], monitor_user[65];
	char overlay_name[65]; /* "linnet" */
	char list_file[256];   /* every host's address; "": none */
	struct endpoint seeds[CONF_CHILDREN]; /* members to join at */
	size_t n_seeds;
	struct endpoint roots[CONF_ROOTS]; /* who may be the root, in order */
	size_t n_roots;
	uint32_t fanout;   /* children aimed at, 16 */
	char rack[33];     /* preferred among equals, or "" */
	uint32_t forget_h; /* hours until a lost host is forgotten; 0: never */
	bool drain;        /* leave the tree in order when stopped */
	uint32_t query_ms; /* default budget, 2,000 */
	int ready_fd;      /* -1: none */
	enum log_level log_level;
	bool check; /* --check: say what would be done, exit */
};

/*
 * Parses argv and --config.  0: go on; 1: done (--help, --version); else an
 * exit code (usage 64, configuration 78) after one line that says what is
 * allowed.
 */
int conf_load(struct conf *c, int argc, char **argv);
/* What --check says: the settings in force, a line each. */
void conf_print(const struct conf *c);

#endif
