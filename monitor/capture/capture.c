/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of capture back ends, and the command line's way to name one.
 */
#include "monitor/capture/capture.h"

#include <errno.h>
#include <string.h>

#include "common/util.h"

static const struct {
	const struct capture_ops *ops;
	bool file; /* wants ":FILE" */
} backends[] = {
	{ &capture_nfqueue, false },
	{ &capture_pcap, true },
};

int capture_parse(const char *text, struct capture_config *c)
{
	size_t len = strcspn(text, ":");

	for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
		const char *name = backends[i].ops->name;

		if (len != strlen(name) || memcmp(text, name, len) != 0)
			continue;
		if (backends[i].file != (text[len] == ':' && text[len + 1]))
			return -EINVAL;
		if (!backends[i].file && text[len])
			return -EINVAL;
		c->ops = backends[i].ops;
		c->path = backends[i].file ? text + len + 1 : NULL;
		return 0;
	}
	return -EINVAL;
}
