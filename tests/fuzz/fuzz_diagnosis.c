/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F8: the diagnosis that a child sends: parsed and written again as it is
 * passed up.  Taken: what is written reads back to the same, and no figure of
 * it is anything but a number or null.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/msnm_diag.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As msnm_answer.c does, which needs all of the agent. */
void msnm_put_figure(struct json_out *o, const char *name, double v, bool v1)
{
	if (isfinite(v))
		json_put_real(o, name, v);
	else if (v1)
		json_put_null(o, name);
}

static void write_out(struct buf *b, const struct msnm_diagnosis *d)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	msnm_diagnosis_put(&o, d, true);
	json_close(&o, '}');
	MUST(!b->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msnm_diagnosis *d = calloc(1, sizeof(*d));
	struct buf once = BUF_INIT, twice = BUF_INIT;
	struct json *v = NULL, *back = NULL;
	char path[64];

	MUST(d);
	if (json_parse((const char *)data, size, &v) ||
	    msnm_diagnosis_parse(v, d))
		goto out;
	msnm_diagnosis_path(d, path, sizeof(path));
	MUST(strlen(path) < sizeof(path));
	write_out(&once, d);
	MUST(!json_parse(once.data, once.len, &back));
	MUST(!msnm_diagnosis_parse(back, d));
	write_out(&twice, d);
	MUST(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
out:
	json_free(v);
	json_free(back);
	buf_fini(&once);
	buf_fini(&twice);
	free(d);
	return 0;
}
