/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The option table: it reads the command line and prints the help.  Names of
 * users become numbers here, before anything else happens, so that an unknown
 * one is refused while nothing has to be undone.  Strings belong to argv.
 */
#include "monitor/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/args.h"
#include "common/log.h"
#include "common/user.h"
#include "common/util.h"

#define QUEUE_DEFAULT      7000
#define AGENT_PORT         8000
#define MANAGEMENT_PORT    22
#define USER_DEFAULT       "linnet-monitor"
#define AGENT_USER_DEFAULT "linnet-agent"

/* 0, or -EINVAL with what is allowed. */
static int number(const char *value, uint64_t min, uint64_t max, uint64_t *out,
		  char error[ARGS_ERROR_LEN])
{
	if (!parse_u64(value, strlen(value), min, max, out))
		return 0;
	snprintf(error, ARGS_ERROR_LEN, "%" PRIu64 " to %" PRIu64, min, max);
	return -EINVAL;
}

static int port(const char *value, uint16_t *out, char error[ARGS_ERROR_LEN])
{
	uint64_t v;
	int err = number(value, 1, UINT16_MAX, &v, error);

	if (!err)
		*out = (uint16_t)v;
	return err;
}

static int set_instance(void *ctx, const char *value,
			char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	if (instance_check(value)) {
		snprintf(error, ARGS_ERROR_LEN,
			 "1 to 16 of a-z, 0-9 and - are allowed");
		return -EINVAL;
	}
	snprintf(o->instance, sizeof(o->instance), "%s", value);
	return 0;
}

static int set_capture(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	if (capture_parse(value, &o->config.capture)) {
		snprintf(error, ARGS_ERROR_LEN, "nfqueue or pcap:FILE");
		return -EINVAL;
	}
	return 0;
}

static int set_readers(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;
	uint64_t v;

	int err = number(value, 1, CTL_READERS, &v, error);

	if (!err)
		o->config.names.queues = (uint16_t)v;
	return err;
}

static int set_check(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)value;
	(void)error;
	o->config.mode = SUPERVISOR_CHECK;
	return 0;
}

static int set_remove(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)value;
	(void)error;
	o->config.mode = SUPERVISOR_REMOVE;
	return 0;
}

static int set_user(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)error;
	o->user = value;
	return 0;
}

static int set_agent_user(void *ctx, const char *value,
			  char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)error;
	o->agent_user = value;
	return 0;
}

static int set_agent_port(void *ctx, const char *value,
			  char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	return port(value, &o->config.names.agent_port, error);
}

static int set_management_port(void *ctx, const char *value,
			       char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	return port(value, &o->config.names.management_port, error);
}

static int set_queue(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;
	uint64_t v;
	int err = number(value, 0, UINT16_MAX, &v, error);

	if (!err)
		o->config.names.queue_first = (uint16_t)v;
	return err;
}

static int set_ready_fd(void *ctx, const char *value,
			char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;
	uint64_t v;
	int err = number(value, 0, INT16_MAX, &v, error);

	if (!err)
		o->config.ready_fd = (int)v;
	return err;
}

static int set_level(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	if (log_level_parse(value, &o->level) != 0) {
		snprintf(error, ARGS_ERROR_LEN, LOG_LEVELS);
		return -EINVAL;
	}
	return 0;
}

static int set_version(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)value;
	(void)error;
	o->version = true;
	return 0;
}

static int set_help(void *ctx, const char *value, char error[ARGS_ERROR_LEN])
{
	struct options *o = ctx;

	(void)value;
	(void)error;
	o->help = true;
	return 0;
}

static const struct arg_row rows[] = {
	{ .name = "instance",
	  .value = "NAME",
	  .set = set_instance,
	  .help = "name of this monitor (default: of the network namespace)" },
	{ .name = "capture",
	  .value = "BACKEND",
	  .set = set_capture,
	  .help = "nfqueue (default), or pcap:FILE to replay a file" },
	{ .name = "readers",
	  .value = "N",
	  .set = set_readers,
	  .help = "processes that count, 1 to 8 (default 1)" },
	{ .name = "check",
	  .set = set_check,
	  .help = "say whether this host has what is needed, and exit" },
	{ .name = "remove-rules",
	  .set = set_remove,
	  .help = "remove what an earlier monitor left, and exit" },
	{ .name = "user",
	  .value = "USER",
	  .set = set_user,
	  .help = "NAME or UID[:GID] to run as, when started as root\n"
		  "(default " USER_DEFAULT ")" },
	{ .name = "agent-user",
	  .value = "USER",
	  .set = set_agent_user,
	  .help = "NAME or UID that may use the control socket, besides root\n"
		  "(default " AGENT_USER_DEFAULT ")" },
	{ .name = "agent-port",
	  .value = "PORT",
	  .set = set_agent_port,
	  .help = "port that is never measured (default 8000)" },
	{ .name = "management-port",
	  .value = "PORT",
	  .set = set_management_port,
	  .help = "TCP port whose connections are not measured (default 22)" },
	{ .name = "queue-num",
	  .value = "N",
	  .set = set_queue,
	  .help = "first netfilter queue (default 7000)" },
	{ .name = "ready-fd",
	  .value = "FD",
	  .set = set_ready_fd,
	  .help = "write a byte to this descriptor when serving" },
	{ .name = "log-level",
	  .value = "LEVEL",
	  .set = set_level,
	  .help = "error, warning, info (default) or debug" },
	{ .name = "version",
	  .letter = 'V',
	  .set = set_version,
	  .help = "print the version and exit" },
	{ .name = "help",
	  .letter = 'h',
	  .set = set_help,
	  .help = "print this help and exit" },
};

void options_print(void)
{
	printf("Usage: linnet-monitor [OPTION]...\n"
	       "Counts the packets of this host for linnet-agent.\n\n");
	args_print(rows, ARRAY_SIZE(rows), stdout);
}

int options_parse(struct options *o, int argc, char **argv)
{
	struct ruleset_names *names = &o->config.names;
	int n;

	*o = (struct options){ .level = LOG_LEVEL_INFO };
	o->config.ready_fd = -1;
	o->config.capture.ops = &capture_nfqueue;
	o->config.capture.file_fd = -1;
	names->queue_first = QUEUE_DEFAULT;
	names->queues = 1;
	names->agent_port = AGENT_PORT;
	names->management_port = MANAGEMENT_PORT;
	n = args_parse(rows, ARRAY_SIZE(rows), argc, argv, o);
	if (n < 0)
		return EXIT_USAGE;
	if (n < argc) {
		fprintf(stderr, "%s: takes no operand: %s\n", argv[0], argv[n]);
		return EXIT_USAGE;
	}
	if (names->queue_first + names->queues > UINT16_MAX + 1) {
		fprintf(stderr, "%s: the last queue is 65535\n", argv[0]);
		return EXIT_USAGE;
	}
	if (names->queues > o->config.capture.ops->readers_max) {
		fprintf(stderr, "%s: --readers: at most %u with %s\n", argv[0],
			o->config.capture.ops->readers_max,
			o->config.capture.ops->name);
		return EXIT_USAGE;
	}
	o->config.capture.queue_first = names->queue_first;
	o->config.capture.agent_port = names->agent_port;
	o->config.capture.management_port = names->management_port;
	return 0;
}

static int resolve_user(struct options *o)
{
	const char *name = o->user ? o->user : USER_DEFAULT;
	int err;

	if (geteuid() != 0)
		return 0;
	err = user_resolve(name, &o->config.uid, &o->config.gid);
	if (err) {
		log_errx("no user %s to run as (see --user)", name);
		return EXIT_PERMISSION;
	}
	if (o->config.uid == 0) {
		log_errx("--user %s is root: will not stay root", name);
		return EXIT_PERMISSION;
	}
	return 0;
}

int options_resolve(struct options *o)
{
	const char *agent = o->agent_user ? o->agent_user : AGENT_USER_DEFAULT;
	gid_t gid;
	int err;

	if (!o->instance[0]) {
		err = instance_default(o->instance);
		if (err) {
			log_write(LOG_LEVEL_ERR, -err, "network namespace");
			return EXIT_MECHANISM;
		}
	}
	o->config.names.instance = o->instance;
	err = user_resolve(agent, &o->config.agent_uid, &gid);
	if (err && o->agent_user) {
		log_errx("no user %s (see --agent-user)", agent);
		return EXIT_PERMISSION;
	}
	if (err)
		log_debug("no user %s: the control socket is root's", agent);
	return resolve_user(o);
}
