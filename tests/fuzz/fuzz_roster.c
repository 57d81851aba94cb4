/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child says of the agents below it: read; what was taken is written
 * and read again the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/roster.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse(const char *text, size_t len, struct roster *out)
{
	struct json *v = NULL;
	int ret = json_parse(text, len, &v);

	ret = ret ? -EINVAL : roster_read(v, out);
	json_free(v);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct roster r, again;
	int ret = parse((const char *)data, size, &r);

	MUST(ret == 0 || ret == -EINVAL);
	if (ret)
		return 0;
	MUST(r.n <= ROSTER_AGENTS && r.agent);
	for (uint32_t i = 0; i < r.n; i++)
		MUST(strnlen(r.agent[i].version, sizeof(r.agent[i].version)) <=
		     TREE_VERSION_LEN);
	roster_write(&r, &first);
	MUST(!first.failed && !parse(first.data, first.len, &again));
	roster_write(&again, &second);
	MUST(first.len == second.len &&
	     !memcmp(first.data, second.data, first.len));
	roster_fini(&again);
	roster_fini(&r);
	buf_fini(&first);
	buf_fini(&second);
	return 0;
}
