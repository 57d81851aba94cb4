/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet-monitor counts the packets of this host for its agent.  Options in,
 * exit status out; everything between is the supervisor's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "monitor/options.h"
#include "monitor/supervisor.h"

/* Descriptors 0 to 2 must not become something else's. */
static bool standard_files(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int main(int argc, char **argv)
{
	struct options o;
	int code;

	if (!standard_files())
		return EXIT_MECHANISM;
	code = options_parse(&o, argc, argv);
	if (code)
		return code;
	if (o.help) {
		options_print();
		return 0;
	}
	if (o.version) {
		printf("linnet-monitor " LINNET_VERSION "\n");
		return 0;
	}
	log_init("linnet-monitor", o.level);
	umask(077);
	code = options_resolve(&o);
	if (code)
		return code;
	return supervisor_run(&o.config);
}
