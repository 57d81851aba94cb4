/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet overlay: the tree of agents.  The asked agent knows who is below it;
 * what each is, those say themselves, if they are heard.
 */
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define DEPTH_MAX   16
#define STATE_LEN   64
#define OVERLAY_URL "/api/v1/overlay"

struct tree {
	struct table table;
	struct doc *members; /* list of all hosts */
	struct doc *agents;  /* what each of them said of itself; NULL: who
			      * was asked would not tell */
	struct doc *heard;   /* meta of that, with its coverage */
	bool whole;          /* nobody is down */
};

static const char *tasks_text(unsigned depth, struct doc *more,
			      char text[DOC_TEXT_LEN])
{
	if (!depth)
		return doc_text(doc_get(more, "tasks"), text);
	doc_text(doc_get(more, "tasks_same"), text);
	return strcmp(text, "yes") == 0  ? "same"
	       : strcmp(text, "no") == 0 ? "differ"
					 : text;
}

static struct doc *member_find(struct doc *members, struct doc *id)
{
	char text[DOC_TEXT_LEN];

	doc_text(id, text);
	for (size_t i = 0; i < doc_len(members); i++)
		if (doc_is(doc_get(doc_at(members, i), "node_id"), text))
			return doc_at(members, i);
	return NULL;
}

/*
 * A line: host, state, hosts of its subtree; latency of its parent's last beat,
 * whether it holds its parent's tasks, version; when it was seen.  beat: what
 * the asked agent knows of itself or a child, if that one says nothing now.
 */
static void host_add(struct tree *t, unsigned depth, struct doc *host,
		     const char *state, struct doc *beat)
{
	struct doc *agent = member_find(t->agents, doc_get(host, "node_id"));
	struct doc *more = doc_get(agent, "tasks_hash") ? agent : beat;
	char name[DOC_TEXT_LEN], text[DOC_TEXT_LEN + 2 * DEPTH_MAX];

	snprintf(text, sizeof(text), "%*s%s", (int)(2 * depth), "",
		 doc_text(doc_get(host, "host"), name));
	table_add(&t->table, text);
	table_add(&t->table, state);
	table_add(&t->table, doc_text(doc_get(host, "hosts"), name));
	table_add(&t->table, doc_text(doc_get(more, "latency_ms"), name));
	table_add(&t->table, tasks_text(depth, more, name));
	table_add(&t->table, doc_text(doc_get(more, "version"), name));
	table_add(&t->table, doc_text(doc_get(host, "last_seen"), name));
	t->whole &= strcmp(state, "up") == 0 || depth == 0;
}

static void below_add(struct tree *t, unsigned depth, struct doc *parent_id)
{
	char id[DOC_TEXT_LEN], state[DOC_TEXT_LEN];

	if (!parent_id || depth > DEPTH_MAX)
		return;
	doc_text(parent_id, id);
	for (size_t i = 0; i < doc_len(t->members); i++) {
		struct doc *m = doc_at(t->members, i);

		if (!doc_is(doc_get(m, "parent"), id))
			continue;
		host_add(t, depth, m, doc_text(doc_get(m, "state"), state),
			 NULL);
		below_add(t, depth + 1, doc_get(m, "node_id"));
	}
}

static void child_add(struct tree *t, struct doc *child)
{
	char state[DOC_TEXT_LEN], why[DOC_TEXT_LEN], text[2 * STATE_LEN];

	doc_text(doc_get(child, "state"), state);
	snprintf(text, sizeof(text), "%.*s", STATE_LEN, state);
	if (doc_get(child, "refused"))
		snprintf(text, sizeof(text), "%.*s: %.*s", STATE_LEN / 2, state,
			 STATE_LEN, doc_text(doc_get(child, "refused"), why));
	host_add(t, 1, child, text, child);
	below_add(t, 2, doc_get(child, "node_id"));
}

/* Members below this agent that are no children of it (any more, or yet). */
static void lost_add(struct tree *t, struct doc *self, struct doc *children)
{
	char id[DOC_TEXT_LEN], state[DOC_TEXT_LEN];

	doc_text(doc_get(self, "node_id"), id);
	for (size_t i = 0; i < doc_len(t->members); i++) {
		struct doc *m = doc_at(t->members, i);

		if (!doc_is(doc_get(m, "parent"), id) ||
		    member_find(children, doc_get(m, "node_id")))
			continue;
		host_add(t, 1, m, doc_text(doc_get(m, "state"), state), NULL);
		below_add(t, 2, doc_get(m, "node_id"));
	}
}

/* Who is asked, and all that it knows of below it. */
static void tree_lines(const struct cli *c, struct tree *t, struct doc *data)
{
	struct doc *children = doc_get(data, "children");
	struct doc *self = member_find(t->members, doc_get(data, "node_id"));
	uint64_t hosts = 1;

	table_init(&t->table, 7);
	t->table.title[0] = "HOST";
	t->table.title[1] = "STATE";
	t->table.title[2] = "HOSTS";
	t->table.title[3] = "LATENCY_MS";
	t->table.title[4] = "TASKS";
	t->table.title[5] = "VERSION";
	t->table.title[6] = "LAST_SEEN";
	t->table.right[2] = t->table.right[3] = true;
	host_add(t, 0, self, doc_get(data, "parent") ? "asked" : "root", data);
	for (size_t i = 0; i < doc_len(children); i++) {
		child_add(t, doc_at(children, i));
		hosts += doc_count(doc_get(doc_at(children, i), "hosts"));
	}
	lost_add(t, self, children);
	/* an agent that is not the root knows all hosts, but not all parents */
	if (!c->json && hosts > t->table.n / t->table.n_columns)
		note(c, "%llu hosts further down are not shown: ask the root",
		     (unsigned long long)(hosts -
					  t->table.n / t->table.n_columns));
}

/* As lines, or as one document of all three with the coverage of agents. */
static int tree_print(const struct cli *c, struct answer *an, struct tree *t)
{
	struct doc *data = doc_get(an->doc, "data");
	struct doc *coverage = doc_get(t->heard, "coverage");
	int ret = CLI_DONE;

	tree_lines(c, t, data);
	if (c->json) {
		table_fini(&t->table);
		doc_put(data, "members", doc_share(t->members));
		doc_put(data, "agents", doc_share(t->agents));
		doc_put(doc_get(an->doc, "meta"), "coverage",
			doc_share(coverage));
		puts(doc_print(an->doc));
		t->whole &= !coverage ||
			    doc_true(doc_get(coverage, "complete"));
	} else {
		ret = table_finish(c, &t->table);
		t->whole &= coverage_note(c, t->heard) == CLI_DONE;
	}
	return ret ? ret : t->whole ? CLI_DONE : CLI_PARTIAL;
}

/*
 * A list, all its pages in one; empty if the agent is too old to have it.
 * meta: of its last page, or NULL.
 */
static int list_get(struct cli *c, const char *name, struct doc **out,
		    struct doc **meta)
{
	struct doc *all = doc_list_new();
	char cursor[DOC_TEXT_LEN] = "";
	struct answer an;
	int ret = 0;

	*out = NULL;
	do {
		struct buf path = BUF_INIT;

		buf_text(&path, OVERLAY_URL);
		buf_text(&path, name);
		buf_text(&path, "?limit=1000");
		if (*cursor) {
			buf_text(&path, "&cursor=");
			path_add(&path, cursor);
		}
		ret = exchange_path(c, "GET", &path, NULL, 404, &an);
		if (ret)
			break;
		*cursor = '\0';
		if (doc_get(an.doc, "meta.next_cursor"))
			doc_text(doc_get(an.doc, "meta.next_cursor"), cursor);
		if (an.status == 200)
			doc_list_join(all, doc_get(an.doc, "data"));
		if (meta && an.status == 200 && !*cursor)
			*meta = doc_share(doc_get(an.doc, "meta"));
		answer_fini(&an);
	} while (*cursor);
	if (ret)
		doc_free(all);
	else
		*out = all;
	return ret;
}

int verb_overlay_show(struct cli *c)
{
	struct tree t = { 0 };
	struct answer an;
	int ret = exchange(c, "GET", OVERLAY_URL, NULL, 0, &an);

	if (ret)
		return ret;
	ret = list_get(c, "/members", &t.members, NULL);
	/* the tree is shown without, too */
	if (!ret)
		(void)list_get(c, "/agents", &t.agents, &t.heard);
	t.whole = t.agents;
	if (!ret)
		ret = tree_print(c, &an, &t);
	doc_free(t.members);
	doc_free(t.agents);
	doc_free(t.heard);
	answer_fini(&an);
	return ret;
}

int verb_overlay_add(struct cli *c)
{
	struct doc *body = doc_new();
	struct answer an;
	int ret;

	doc_put_str(body, "host", c->args[0]);
	ret = exchange(c, "POST", OVERLAY_URL "/children", doc_print(body), 0,
		       &an);
	doc_free(body);
	if (ret)
		return ret;
	if (c->json)
		answer_print(&an);
	else
		note(c, an.status == 201 ? "added" : "was there already");
	answer_fini(&an);
	return CLI_DONE;
}

/* The child that the argument names, by address or id. */
static int child_find(struct cli *c)
{
	char host[DOC_TEXT_LEN], hosts[DOC_TEXT_LEN];
	struct doc *children;
	struct answer an;
	int ret = exchange(c, "GET", OVERLAY_URL, NULL, 0, &an);

	if (ret)
		return ret;
	children = doc_get(an.doc, "data.children");
	ret = CLI_NOT_FOUND;
	for (size_t i = 0; i < doc_len(children); i++) {
		struct doc *child = doc_at(children, i);

		if (!doc_is(doc_get(child, "host"), c->args[0]) &&
		    !doc_is(doc_get(child, "node_id"), c->args[0]))
			continue;
		if (c->json)
			puts(doc_print(child));
		else
			printf("would remove %s and what is below it: "
			       "%s hosts\n",
			       doc_text(doc_get(child, "host"), host),
			       doc_text(doc_get(child, "hosts"), hosts));
		ret = CLI_DONE;
	}
	if (ret)
		complain("no such child");
	answer_fini(&an);
	return ret;
}

int verb_overlay_rm(struct cli *c)
{
	struct buf path = BUF_INIT;
	struct answer an;
	int ret;

	if (c->opt.dry_run)
		return child_find(c);
	buf_text(&path, OVERLAY_URL "/children/");
	path_add(&path, c->args[0]);
	ret = exchange_path(c, "DELETE", &path, NULL, 0, &an);
	answer_fini(&an);
	return ret;
}

/* A change of the asked agent itself. */
static int place_change(struct cli *c, const char *path, const char *done)
{
	struct answer an;
	int ret = exchange(c, "POST", path, NULL, 0, &an);

	if (ret)
		return ret;
	note(c, "%s", done);
	answer_fini(&an);
	return CLI_DONE;
}

int verb_overlay_drain(struct cli *c)
{
	return place_change(c, OVERLAY_URL "/drain", "it leaves the tree");
}

int verb_overlay_accept(struct cli *c)
{
	return place_change(c, OVERLAY_URL "/accept",
			    "the hosts known now are all there are");
}
