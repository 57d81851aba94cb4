/* SPDX-License-Identifier: GPL-2.0-or-later */
/* linnet task: measurement tasks of the asked agent and its subtree. */
#include <stdio.h>

#include "api/cli/cli.h"
#include "common/util.h"

/* "in icmp src 10.0.0.0/8" */
static const char *filter_text(struct doc *filter, char out[DOC_TEXT_LEN])
{
	static const struct {
		const char *member, *before;
	} words[] = {
		{ "direction", "" },
		{ "proto", " " },
		{ "src", " src " },
		{ "dst", " dst " },
	};
	char text[DOC_TEXT_LEN];
	size_t len = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		struct doc *v = doc_get(filter, words[i].member);

		if (v && len < DOC_TEXT_LEN)
			len += (size_t)snprintf(out + len, DOC_TEXT_LEN - len,
						"%s%.*s", words[i].before,
						DOC_TEXT_LEN / 8,
						doc_text(v, text));
	}
	return out;
}

static const char *const list_members[] = { "id",        "name",  "key",
					    "increment", "state", "filter" };
static const char *const list_titles[] = { "ID",        "NAME",  "KEY",
					   "INCREMENT", "STATE", "FILTER" };

static const char *member_text(struct doc *task, const char *member,
			       char out[DOC_TEXT_LEN])
{
	struct doc *v = doc_get(task, member);

	if (doc_get(v, "direction"))
		return filter_text(v, out);
	if (doc_is(v, ""))
		v = NULL;
	return doc_text(v, out);
}

int verb_task_ls(struct cli *c)
{
	char text[DOC_TEXT_LEN];
	struct answer an;
	struct doc *list;
	struct table t;
	int ret = exchange(c, "GET", "/api/v1/tasks?limit=1000", NULL, 0, &an);

	if (ret)
		return ret;
	if (c->json) {
		answer_print(&an);
		goto out;
	}
	table_init(&t, ARRAY_SIZE(list_members));
	for (unsigned i = 0; i < t.n_columns; i++)
		t.title[i] = list_titles[i];
	list = doc_get(an.doc, "data");
	for (size_t row = 0; row < doc_len(list); row++)
		for (unsigned i = 0; i < t.n_columns; i++)
			table_add(&t, member_text(doc_at(list, row),
						  list_members[i], text));
	ret = table_finish(c, &t);
out:
	answer_fini(&an);
	return ret;
}

static int task_get(struct cli *c, struct answer *an)
{
	struct buf path = BUF_INIT;

	buf_text(&path, "/api/v1/tasks/");
	path_add(&path, c->args[0]);
	return exchange_path(c, "GET", &path, NULL, 0, an);
}

int verb_task_show(struct cli *c)
{
	static const char *const members[] = {
		"id",        "generation", "name",     "filter",  "key",
		"increment", "sketches",   "window_s", "created", "expires_s",
		"origin",    "sketch_id",  "state",
	};
	char text[DOC_TEXT_LEN];
	struct answer an;
	struct table t;
	int ret = task_get(c, &an);

	if (ret)
		return ret;
	if (c->json) {
		answer_print(&an);
	} else {
		table_init(&t, 2);
		for (unsigned i = 0; i < ARRAY_SIZE(members); i++)
			table_pair(&t, members[i],
				   member_text(doc_get(an.doc, "data"),
					       members[i], text));
		ret = table_finish(c, &t);
	}
	answer_fini(&an);
	return ret;
}

static struct doc *task_doc(const struct options *opt)
{
	struct doc *task = doc_new(), *filter = doc_new();

	doc_put_str(filter, "direction", opt->direction);
	doc_put_str(filter, "proto", opt->proto);
	doc_put_str(filter, "src", opt->src);
	doc_put_str(filter, "dst", opt->dst);
	doc_put(task, "filter", filter);
	doc_put_str(task, "key", opt->key);
	doc_put_str(task, "increment", opt->increment);
	doc_put_str(task, "name", opt->name);
	if (opt->expires_s)
		doc_put_u64(task, "expires_s", opt->expires_s);
	if (opt->window_ms)
		doc_put_real(task, "window_s", (double)opt->window_ms / 1000);
	return task;
}

/* Prints the id alone, for the next command. */
int verb_task_add(struct cli *c)
{
	char id[DOC_TEXT_LEN];
	struct buf path = BUF_INIT;
	struct doc *task;
	struct answer an;
	int ret;

	if (!c->opt.key) {
		complain("task add: needs --key TYPE (see --help)");
		return CLI_USAGE;
	}
	task = task_doc(&c->opt);
	buf_printf(&path, "/api/v1/tasks?scope=%s&timeout=%ums", c->opt.scope,
		   c->opt.timeout_ms);
	ret = exchange_path(c, "POST", &path, doc_print(task), 0, &an);
	doc_free(task);
	if (ret)
		return ret;
	if (c->json)
		answer_print(&an);
	else
		puts(doc_text(doc_get(an.doc, "data.id"), id));
	ret = coverage_note(c, doc_get(an.doc, "meta"));
	answer_fini(&an);
	return ret;
}

/* What would be removed, in one line or as the task's own envelope. */
static int removal_print(const struct cli *c, const struct answer *an)
{
	struct doc *task = doc_get(an->doc, "data");
	char id[DOC_TEXT_LEN], name[DOC_TEXT_LEN], filter[DOC_TEXT_LEN];

	if (c->json)
		answer_print(an);
	else
		printf("would remove %s, %s: %s\n",
		       doc_text(doc_get(task, "id"), id),
		       member_text(task, "name", name),
		       filter_text(doc_get(task, "filter"), filter));
	return CLI_DONE;
}

int verb_task_rm(struct cli *c)
{
	struct buf path = BUF_INIT;
	struct answer an;
	int ret;

	if (c->opt.dry_run) {
		ret = task_get(c, &an);
		ret = ret ? ret : removal_print(c, &an);
	} else {
		buf_text(&path, "/api/v1/tasks/");
		path_add(&path, c->args[0]);
		buf_printf(&path, "?timeout=%ums", c->opt.timeout_ms);
		ret = exchange_path(c, "DELETE", &path, NULL, 0, &an);
	}
	answer_fini(&an);
	return ret;
}
