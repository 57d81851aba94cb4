/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of linnet-monitor. */
#ifndef LINNET_MONITOR_OPTIONS_H
#define LINNET_MONITOR_OPTIONS_H

#include "common/log.h"
#include "monitor/supervisor.h"

struct options {
	struct supervisor_config config;
	char instance[17];
	const char *user, *agent_user; /* NULL: the default names */
	enum log_level level;
	bool help, version;
};

/*
 * Reads the command line into o, with defaults.  0, or an exit code after one
 * line on standard error.
 */
int options_parse(struct options *o, int argc, char **argv);
/* Users to numbers, the default instance.  0 or an exit code, as above. */
int options_resolve(struct options *o);
void options_print(void); /* --help */

#endif
