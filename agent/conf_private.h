/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the options share: conf.c reads the sources, conf_rows.c
 * has the settings.
 */
#ifndef LINNET_CONF_PRIVATE_H
#define LINNET_CONF_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/conf.h"
#include "common/args.h"

#define CONF_PORT 8000

enum conf_list {
	CONF_LIST_LISTEN,
	CONF_LIST_PARENTS,
	CONF_LIST_CHILDREN,
	CONF_LIST_PEERS,
	CONF_LIST_NAMES,
	CONF_LIST_SEEDS,
	CONF_LIST_ROOTS,
	CONF_LISTS
};

/* One source of settings, being read. */
struct conf_source {
	struct conf *c;
	const char *config; /* --config */
	bool help, version;
	bool replaced[CONF_LISTS]; /* the list was begun by this source */
	/* of the file: */
	uint64_t seen; /* bits of keys that come once */
	char error[256];
};

/* Says what is allowed; -EINVAL. */
int conf_complain(char *error, const char *allowed);

/* A key of the file; lists take several words, and may come several times. */
struct conf_key {
	const char *name;
	bool list;
	int (*set)(void *ctx, const char *value, char error[ARGS_ERROR_LEN]);
};
/* ctx of both: struct conf_source. */
extern const struct conf_key conf_keys[];
extern const size_t conf_n_keys;
extern const struct arg_row conf_options[];
extern const size_t conf_n_options;

#endif
