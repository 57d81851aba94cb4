/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the command share: options, one exchange, verbs. */
#ifndef LINNET_CLI_H
#define LINNET_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cli/doc.h"
#include "api/cli/msnm.h"
#include "api/cli/table.h"
#include "common/args.h"
#include "common/buf.h"

enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_PARTIAL = 3,     /* answered, but not by every host */
	CLI_NOT_FOUND = 4,   /* no such task, host, probe */
	CLI_UNREACHABLE = 5, /* or timed out, or nobody could answer */
	CLI_DENIED = 6,      /* token, role, mode of the token file */
	CLI_OUTPUT = 74,     /* the output cannot be written */
	CLI_CONFIG = 78,     /* the environment, or an input, is not valid */
	CLI_INTERRUPTED = 130,
};

enum cli_output {
	OUTPUT_AUTO,
	OUTPUT_TABLE,
	OUTPUT_JSON
};

/* Options as given; NULL and 0: not given. */
struct options {
	/* of every verb */
	const char *host, *token_file, *scope;
	uint32_t timeout_ms, watch_ms;
	enum cli_output output;
	bool quiet, verbose, no_color, help, version;
	/* of some */
	const char *direction, *proto, *src, *dst, *key, *increment, *name;
	const char *n, *threshold, *base, *moment;
	uint64_t expires_s, window_ms;
	double duration_s;
	bool dry_run;
	struct msnm_options msnm;
};

struct cli {
	struct options opt;
	const char **args; /* what follows the verb */
	unsigned n_args;
	struct client *client;
	bool json, color;
};

/* One row of the table of verbs. */
struct verb {
	const char *words; /* "query top" */
	const char *usage; /* of what follows, "ID" */
	const char *help;  /* one line */
	unsigned min_args, max_args;
	const struct arg_row *options; /* ends with an empty row; NULL: none */
	bool offline;                  /* asks no agent */
	bool repeats;                  /* takes --watch */
	int (*run)(struct cli *c);
};

/* ---- options.c: tables that end with an empty row ---- */
extern const struct arg_row global_options[];
extern const struct arg_row task_add_options[];
extern const struct arg_row dry_run_options[];
extern const struct arg_row top_options[];
extern const struct arg_row window_options[];
extern const struct arg_row probe_options[];

/* ---- target.c: which agent, as whom ---- */
/*
 * "10.0.0.5", "host:8000", "http://host" -> URL (caller frees) in *url.
 * 0, -EINVAL or -ENOMEM.
 */
int target_url(const char *text, char **url);
/*
 * The token in a file that only its owner can read (caller frees); NULL after
 * a line that says what is wrong.
 */
char *target_token(const char *path);

/* ---- exchange.c ---- */
struct answer {
	char *text;      /* as it came */
	struct doc *doc; /* NULL: nothing came back (204) */
	int status;
};
/*
 * One exchange.  0 with *an to be freed, also for statuses in accept (0: only
 * 2xx); else an enum cli_exit, after one line that says why.
 */
int exchange(struct cli *c, const char *method, const char *path,
	     const char *body, int accept, struct answer *an);
/* The same with a path that was built, which is freed. */
int exchange_path(struct cli *c, const char *method, struct buf *path,
		  const char *body, int accept, struct answer *an);
void answer_fini(struct answer *an);
/* "linnet: text" on standard error; a note only without -q. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define note(c, ...)                           \
	do {                                   \
		if (!(c)->opt.quiet)           \
			complain(__VA_ARGS__); \
	} while (0)
/* Adds text to a path, escaped. */
void path_add(struct buf *b, const char *text);
/* Prints the envelope. */
void answer_print(const struct answer *an);
/* Names missing hosts.  CLI_DONE or CLI_PARTIAL. */
int coverage_note(const struct cli *c, struct doc *meta);
/* Prints and frees a table.  CLI_DONE or CLI_FAILED. */
int table_finish(const struct cli *c, struct table *t);
/* A line of a table with two columns; value NULL: the line is left out. */
void table_pair(struct table *t, const char *name, const char *value);

/* ---- verbs ---- */
int verb_status(struct cli *c);
int verb_version(struct cli *c);
int verb_task_ls(struct cli *c);
int verb_task_show(struct cli *c);
int verb_task_add(struct cli *c);
int verb_task_rm(struct cli *c);
int verb_query_top(struct cli *c);
int verb_query_key(struct cli *c);
int verb_query_distinct(struct cli *c);
int verb_query_realtime(struct cli *c);
int verb_query_total(struct cli *c);
int verb_overlay_show(struct cli *c);
int verb_overlay_add(struct cli *c);
int verb_overlay_rm(struct cli *c);
int verb_overlay_drain(struct cli *c);
int verb_overlay_accept(struct cli *c);
int verb_probe_bw(struct cli *c);
int verb_probe_jitter(struct cli *c);
int verb_token_new(struct cli *c);

#endif
