/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet query: one row per question says which resource answers it and which
 * members of an item become columns.
 */
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "common/util.h"

#define QUERY_COLUMNS 7
#define LIST_MAX      1000 /* items of one page */
#define STRING_(x)    #x
#define STRING(x)     STRING_(x)

struct question {
	const char *resource;
	struct {
		const char *title, *member;
		bool text;
	} column[QUERY_COLUMNS];
};

static const struct question top = {
	"top",
	{ { "RANK", "rank", false },
	  { "KEY", "key", true },
	  { "ESTIMATE", "estimate", false },
	  { "LOWER", "lower", false },
	  { "UPPER", "upper", false },
	  { "SHARE", "share", false },
	  { "CERTAIN", "certain", true } },
};
static const struct question points = {
	"estimate",
	{ { "KEY", "key", true },
	  { "ESTIMATE", "estimate", false },
	  { "LOWER", "lower", false },
	  { "UPPER", "upper", false } },
};
static const struct question distinct = {
	"distinct",
	{ { "ESTIMATE", "estimate", false },
	  { "LOWER", "lower", false },
	  { "UPPER", "upper", false } },
};
static const struct question realtime = {
	"realtime",
	{ { "KEY", "key", true }, { "VALUE", "value", false } },
};
static const struct question totals = {
	"totals",
	{ { "PACKETS", "packets", false },
	  { "BYTES", "bytes", false },
	  { "SEGMENTS", "segments", false },
	  { "HIDDEN_BYTES", "hidden_bytes", false } },
};

static void item_add(struct table *t, const struct question *q,
		     struct doc *item)
{
	char text[DOC_TEXT_LEN];

	for (unsigned i = 0; i < t->n_columns; i++) {
		struct doc *v = doc_get(item, q->column[i].member);

		if (strcmp(q->column[i].member, "share") == 0)
			snprintf(text, sizeof(text), "%.2f%%",
				 100 * doc_real(v));
		else
			doc_text(v, text);
		table_add(t, text);
	}
}

static int items_print(const struct cli *c, const struct question *q,
		       struct doc *data)
{
	struct table t;
	unsigned n = 0;

	while (n < QUERY_COLUMNS && q->column[n].title)
		n++;
	table_init(&t, n);
	for (unsigned i = 0; i < n; i++) {
		t.title[i] = q->column[i].title;
		t.right[i] = !q->column[i].text;
	}
	if (doc_get(data, q->column[0].member))
		item_add(&t, q, data); /* one object, not a list */
	for (size_t i = 0; i < doc_len(data); i++)
		item_add(&t, q, doc_at(data, i));
	return table_finish(c, &t);
}

/* How true the answer is, in one line; more only where there is more. */
static void quality_note(const struct cli *c, struct doc *meta)
{
	static const char *const parts[] = { "unit", "window.seconds",
					     "window.start", "algorithm",
					     "error.max" };
	uint64_t missed = doc_count(doc_get(meta, "loss.missed.packets"));
	char text[ARRAY_SIZE(parts)][DOC_TEXT_LEN];

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		doc_text(doc_get(meta, parts[i]), text[i]);
	if (!c->json)
		note(c,
		     "%.16s, %.16s s since %.32s; %.16s, error at most %.24s",
		     text[0], text[1], text[2], text[3], text[4]);
	if (missed)
		note(c, "%llu packets were not counted",
		     (unsigned long long)missed);
	if (doc_is(doc_get(meta, "recall"), "best_effort"))
		note(c, "a key above the threshold may be absent");
	if (doc_count(doc_get(meta, "truncated")))
		note(c, "%s keys are in no line",
		     doc_text(doc_get(meta, "truncated"), text[0]));
	if (doc_get(meta, "next_cursor"))
		note(c, "there are more keys than these " STRING(LIST_MAX));
}

static void param_add(struct buf *path, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(path, "&%s=", name);
	path_add(path, value);
}

static void path_make(const struct cli *c, const struct question *q,
		      struct buf *path)
{
	buf_text(path, "/api/v1/tasks/");
	path_add(path, c->args[0]);
	buf_printf(path, "/%s?scope=%s&timeout=%ums", q->resource, c->opt.scope,
		   c->opt.timeout_ms);
	for (unsigned i = 1; i < c->n_args; i++)
		param_add(path, "key", c->args[i]);
	if (q == &top || q == &realtime)
		param_add(path, "limit", STRING(LIST_MAX));
	param_add(path, "window", c->opt.moment);
	if (q == &top) {
		param_add(path, "n", c->opt.n);
		param_add(path, "threshold", c->opt.threshold);
		param_add(path, "base", c->opt.base);
	}
}

static int query(struct cli *c, const struct question *q)
{
	struct buf path = BUF_INIT;
	struct answer an;
	int ret, partial;

	path_make(c, q, &path);
	ret = exchange_path(c, "GET", &path, NULL, 0, &an);
	if (ret)
		return ret;
	if (c->json)
		answer_print(&an);
	else
		ret = items_print(c, q, doc_get(an.doc, "data"));
	quality_note(c, doc_get(an.doc, "meta"));
	partial = coverage_note(c, doc_get(an.doc, "meta"));
	answer_fini(&an);
	return ret ? ret : partial;
}

int verb_query_top(struct cli *c)
{
	return query(c, &top);
}

int verb_query_key(struct cli *c)
{
	return query(c, &points);
}

int verb_query_distinct(struct cli *c)
{
	return query(c, &distinct);
}

int verb_query_realtime(struct cli *c)
{
	return query(c, &realtime);
}

int verb_query_total(struct cli *c)
{
	return query(c, &totals);
}
