/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options: a row each, in a table for every verb and one for each verb
 * that has its own.  Values that the agent checks are passed on as they are.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define TIMEOUT_MIN_MS 50
#define TIMEOUT_MAX_MS 30000
#define WATCH_MIN_MS   100
#define WATCH_MAX_MS   86400000

/* An option that is kept as text, or that is only given or not. */
#define TEXT_OPTION(member)                                   \
	static int set_##member(void *ctx, const char *value, \
				char error[ARGS_ERROR_LEN])   \
	{                                                     \
		(void)error;                                  \
		((struct cli *)ctx)->opt.member = value;      \
		return 0;                                     \
	}
#define FLAG_OPTION(member)                                   \
	static int set_##member(void *ctx, const char *value, \
				char error[ARGS_ERROR_LEN])   \
	{                                                     \
		(void)value;                                  \
		(void)error;                                  \
		((struct cli *)ctx)->opt.member = true;       \
		return 0;                                     \
	}

TEXT_OPTION(host)
TEXT_OPTION(token_file)
TEXT_OPTION(proto)
TEXT_OPTION(src)
TEXT_OPTION(dst)
TEXT_OPTION(key)
TEXT_OPTION(increment)
TEXT_OPTION(name)
TEXT_OPTION(n)
TEXT_OPTION(threshold)
TEXT_OPTION(base)
TEXT_OPTION(moment)
FLAG_OPTION(quiet)
FLAG_OPTION(verbose)
FLAG_OPTION(no_color)
FLAG_OPTION(help)
FLAG_OPTION(version)
FLAG_OPTION(dry_run)

/* A duration within bounds, which error names if it is not. */
static int duration_take(const char *value, uint64_t min_ms, uint64_t max_ms,
			 const char *allowed, uint64_t *ms,
			 char error[ARGS_ERROR_LEN])
{
	if (!parse_duration(value, strlen(value), ms) && *ms >= min_ms &&
	    *ms <= max_ms)
		return 0;
	snprintf(error, ARGS_ERROR_LEN, "must be %s", allowed);
	return -EINVAL;
}

static int set_scope(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;

	snprintf(error, ARGS_ERROR_LEN, "must be tree or host");
	c->opt.scope = value;
	return strcmp(value, "tree") == 0 || strcmp(value, "host") == 0
		       ? 0
		       : -EINVAL;
}

static int set_timeout(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;
	uint64_t ms;
	int ret = duration_take(value, TIMEOUT_MIN_MS, TIMEOUT_MAX_MS,
				"50ms..30s", &ms, error);

	if (!ret)
		c->opt.timeout_ms = (uint32_t)ms;
	return ret;
}

static int set_output(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;

	snprintf(error, ARGS_ERROR_LEN, "must be table or json");
	if (strcmp(value, "table") == 0)
		c->opt.output = OUTPUT_TABLE;
	else if (strcmp(value, "json") == 0)
		c->opt.output = OUTPUT_JSON;
	else
		return -EINVAL;
	return 0;
}

static int set_watch(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;
	uint64_t ms = 2000;
	int ret = value ? duration_take(value, WATCH_MIN_MS, WATCH_MAX_MS,
					"100ms..24h", &ms, error)
			: 0;

	if (!ret)
		c->opt.watch_ms = (uint32_t)ms;
	return ret;
}

static int set_direction(struct cli *c, const char *word,
			 char error[ARGS_ERROR_LEN])
{
	snprintf(error, ARGS_ERROR_LEN, "either --in or --out");
	if (c->opt.direction && strcmp(c->opt.direction, word) != 0)
		return -EINVAL;
	c->opt.direction = word;
	return 0;
}

static int set_in(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	(void)value;
	return set_direction(ctx, "in", error);
}

static int set_out(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	(void)value;
	return set_direction(ctx, "out", error);
}

static int set_expires(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;
	uint64_t ms;
	int ret = duration_take(value, 1000, UINT32_MAX * UINT64_C(1000),
				"1s or more", &ms, error);

	if (!ret)
		c->opt.expires_s = ms / 1000;
	return ret;
}

static int set_window(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;

	return duration_take(value, 100, 3600000, "100ms..1h",
			     &c->opt.window_ms, error);
}

static int set_duration(void *ctx, const char *value,
			char error[ARGS_ERROR_LEN])
{
	struct cli *c = ctx;
	uint64_t ms;
	int ret = duration_take(value, 1000, 10000, "1s..10s", &ms, error);

	if (!ret)
		c->opt.duration_s = (double)ms / 1000;
	return ret;
}

const struct arg_row global_options[] = {
	{ "host", 'H', "URL",
	  "agent to ask: ADDRESS, ADDRESS:PORT or http://NAME:PORT\n"
	  "(LINNET_HOST, else http://127.0.0.1:8000)",
	  set_host },
	{ "token-file", 0, "FILE",
	  "file of mode 0600 that holds the token (LINNET_TOKEN_FILE)",
	  set_token_file },
	{ "scope", 0, "tree|host", "whole subtree, or this host alone (tree)",
	  set_scope },
	{ "timeout", 0, "TIME", "budget of a query, 50ms..30s (2s)",
	  set_timeout },
	{ "output", 'o', "table|json",
	  "form of the answer (table on a terminal, else json)", set_output },
	{ "watch", 0, "[=TIME]", "repeat until interrupted (every 2s)",
	  set_watch },
	{ "quiet", 'q', NULL, "no notes on standard error", set_quiet },
	{ "verbose", 'v', NULL, "show each exchange on standard error",
	  set_verbose },
	{ "no-color", 0, NULL, "no colour on a terminal (NO_COLOR)",
	  set_no_color },
	{ "help", 'h', NULL, "show this help, or that of a verb", set_help },
	{ "version", 'V', NULL, "show the version of this command",
	  set_version },
	{ 0 },
};

const struct arg_row task_add_options[] = {
	{ "in", 0, NULL, "packets that the host receives (default)", set_in },
	{ "out", 0, NULL, "packets that it sends", set_out },
	{ "proto", 0, "PROTO", "tcp, udp, icmp, icmpv6, sctp or 1..255 (any)",
	  set_proto },
	{ "src", 0, "PREFIX", "sender, IPv4 or IPv6, A or A/n (any)", set_src },
	{ "dst", 0, "PREFIX", "receiver, likewise (any)", set_dst },
	{ "key", 0, "TYPE",
	  "what is counted together: src, dst, src_dst, sport, dport,\n"
	  "src_dport, dst_dport, 5-tuple; none for a plain counter",
	  set_key },
	{ "increment", 0, "UNIT", "pkt, byte or segment (pkt)", set_increment },
	{ "name", 0, "NAME", "name of the task", set_name },
	{ "expires", 0, "TIME", "delete the task after this time (never)",
	  set_expires },
	{ "window", 0, "TIME", "count in windows of 100ms..1h (since it began)",
	  set_window },
	{ 0 },
};

#define WINDOW_OPTION                                                       \
	{                                                                   \
		"window", 0, "last|MOMENT",                                 \
			"of a task with windows: the last closed one, or "  \
			"that of\na moment as 2026-01-31T23:59:59Z (last)", \
			set_moment                                          \
	}

const struct arg_row window_options[] = {
	WINDOW_OPTION,
	{ 0 },
};

const struct arg_row dry_run_options[] = {
	{ "dry-run", 0, NULL, "say what would be removed, change nothing",
	  set_dry_run },
	{ 0 },
};

const struct arg_row top_options[] = {
	{ "n", 'n', "N", "at most this many keys, 1..1000 (10)", set_n },
	{ "threshold", 0, "SHARE", "only keys above this share, 0..1 (0)",
	  set_threshold },
	{ "base", 0, "tree|host",
	  "share of the whole scope, or of one host's total (tree)", set_base },
	WINDOW_OPTION,
	{ 0 },
};

const struct arg_row probe_options[] = {
	{ "duration", 0, "TIME", "1s..10s (3s)", set_duration },
	{ 0 },
};
