/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet probe: starts a probe at the asked agent, waits for its end, prints
 * the result.  The agent ends a probe by itself; waiting longer is useless.
 */
#include <stdio.h>
#include <time.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define POLL_MS  200
#define GRACE_MS 5000 /* beyond the duration: reserving, result */

static const char *const bw_members[] = { "kind",         "src",
					  "dst",          "result.mbytes_per_s",
					  "result.bytes", "result.seconds" };
static const char *const bw_titles[] = { "KIND",     "SRC",   "DST",
					 "MBYTES/S", "BYTES", "SECONDS" };
static const char *const jitter_members[] = { "kind",
					      "src",
					      "dst",
					      "result.jitter_ms",
					      "result.sent",
					      "result.received",
					      "result.reordered" };
static const char *const jitter_titles[] = { "KIND",      "SRC",  "DST",
					     "JITTER_MS", "SENT", "RECEIVED",
					     "REORDERED" };

struct probe_view {
	const char *kind;
	unsigned n;
	const char *const *members, *const *titles;
};

static int result_print(const struct cli *c, const struct probe_view *v,
			struct doc *data)
{
	char text[DOC_TEXT_LEN];
	struct table t;

	table_init(&t, v->n);
	for (unsigned i = 0; i < v->n; i++) {
		t.title[i] = v->titles[i];
		t.right[i] = i > 2;
		table_add(&t, doc_text(doc_get(data, v->members[i]), text));
	}
	return table_finish(c, &t);
}

/* Reads the probe until it is no longer running. */
static int probe_wait(struct cli *c, const char *id, struct answer *an)
{
	uint64_t until_ms = clock_mono_ms() +
			    (uint64_t)(c->opt.duration_s * 1000) + GRACE_MS;
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
	int ret;

	for (;;) {
		struct buf path = BUF_INIT;

		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		buf_text(&path, "/api/v1/probes/");
		path_add(&path, id);
		ret = exchange_path(c, "GET", &path, NULL, 0, an);
		if (ret || !doc_is(doc_get(an->doc, "data.state"), "running"))
			return ret;
		answer_fini(an);
		if (clock_mono_ms() > until_ms) {
			complain("the probe does not end");
			return CLI_UNREACHABLE;
		}
	}
}

static int probe(struct cli *c, const struct probe_view *v)
{
	struct doc *body = doc_new();
	char id[DOC_TEXT_LEN];
	struct answer an;
	int ret;

	if (!(c->opt.duration_s > 0))
		c->opt.duration_s = 3;
	doc_put_str(body, "kind", v->kind);
	doc_put_str(body, "src", c->args[0]);
	doc_put_str(body, "dst", c->args[1]);
	doc_put_real(body, "duration_s", c->opt.duration_s);
	ret = exchange(c, "POST", "/api/v1/probes", doc_print(body), 0, &an);
	doc_free(body);
	if (ret)
		return ret;
	doc_text(doc_get(an.doc, "data.id"), id);
	answer_fini(&an);
	ret = probe_wait(c, id, &an);
	if (ret)
		return ret;
	if (c->json)
		answer_print(&an);
	if (!doc_is(doc_get(an.doc, "data.state"), "done")) {
		complain("the probe failed: %s",
			 doc_text(doc_get(an.doc, "data.error"), id));
		ret = CLI_FAILED;
	} else if (!c->json) {
		ret = result_print(c, v, doc_get(an.doc, "data"));
	}
	answer_fini(&an);
	return ret;
}

int verb_probe_bw(struct cli *c)
{
	static const struct probe_view v = { "bw", ARRAY_SIZE(bw_members),
					     bw_members, bw_titles };

	return probe(c, &v);
}

int verb_probe_jitter(struct cli *c)
{
	static const struct probe_view v = { "jitter",
					     ARRAY_SIZE(jitter_members),
					     jitter_members, jitter_titles };

	return probe(c, &v);
}
