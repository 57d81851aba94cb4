/* SPDX-License-Identifier: GPL-2.0-or-later */
/* linnet status, linnet version: what the asked agent says about itself. */
#include <stdio.h>

#include "api/cli/cli.h"
#include "common/util.h"

static const struct {
	const char *name, *path;
} lines[] = {
	{ "host", "host" },
	{ "node", "node_id" },
	{ "version", "version" },
	{ "started", "started" },
	{ "overlay", "overlay.role" },
	{ "parent", "overlay.parent" },
	{ "children", "overlay.children" },
	{ "hosts", "overlay.hosts_expected" },
	{ "epoch", "overlay.epoch" },
	{ "monitor", "monitor.state" },
	{ "capture", "monitor.backend" },
	{ "readers", "monitor.readers" },
	{ "rules", "monitor.rules" },
	{ "matched packets", "monitor.loss.matched" },
	{ "missed packets", "monitor.loss.missed" },
	{ "tasks", "tasks" },
	{ "memory bytes", "memory_bytes" },
	{ "probe", "probe" },
};

static void checks_add(struct table *t, struct doc *checks)
{
	char text[DOC_TEXT_LEN];

	for (size_t i = 0; i < doc_len(checks); i++) {
		struct doc *row = doc_at(checks, i);

		if (!doc_true(doc_get(row, "ok")))
			table_pair(t, "not ready",
				   doc_text(doc_get(row, "detail"), text));
	}
}

static int status_print(const struct cli *c, struct doc *data,
			struct doc *checks)
{
	struct doc *warnings = doc_get(data, "warnings");
	char text[DOC_TEXT_LEN];
	struct table t;

	table_init(&t, 2);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		table_pair(&t, lines[i].name,
			   doc_text(doc_get(data, lines[i].path), text));
	for (size_t i = 0; i < doc_len(warnings); i++)
		table_pair(&t, "warning", doc_text(doc_at(warnings, i), text));
	checks_add(&t, checks);
	return table_finish(c, &t);
}

/* Not ready is a failure: scripts and health checks look at nothing else. */
int verb_status(struct cli *c)
{
	struct answer an, ready;
	int ret = exchange(c, "GET", "/api/v1/status", NULL, 0, &an);

	if (ret)
		return ret;
	ret = exchange(c, "GET", "/readyz?verbose=1", NULL, 503, &ready);
	if (ret)
		goto out;
	if (c->json && !c->opt.quiet)
		answer_print(&an);
	else if (!c->opt.quiet)
		ret = status_print(c, doc_get(an.doc, "data"), ready.doc);
	if (!ret && ready.status != 200) {
		note(c, "the agent is not ready");
		ret = CLI_FAILED;
	}
	answer_fini(&ready);
out:
	answer_fini(&an);
	return ret;
}

int verb_version(struct cli *c)
{
	char text[DOC_TEXT_LEN];
	struct answer an;
	struct table t;
	int ret;

	if (!c->json)
		printf("linnet  " LINNET_VERSION "\n");
	ret = exchange(c, "GET", "/api/v1/version", NULL, 0, &an);
	if (ret)
		return ret;
	if (c->json) {
		answer_print(&an);
	} else {
		table_init(&t, 2);
		table_pair(&t, "agent",
			   doc_text(doc_get(an.doc, "data.version"), text));
		table_pair(&t, "api",
			   doc_text(doc_get(an.doc, "data.api"), text));
		ret = table_finish(c, &t);
	}
	answer_fini(&an);
	return ret;
}
