/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One exchange with the agent, and what the status of its reply means for the
 * exit status.  Data goes to standard output, everything else here to standard
 * error.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/cli.h"
#include "api/client.h"
#include "common/util.h"

#define MISSING_SHOWN 16

void complain(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* parts come from an agent: nothing that a terminal would obey */
	for (char *s = text; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
	fflush(stdout);
	fprintf(stderr, "linnet: %s\n", text);
}

void path_add(struct buf *b, const char *text)
{
	for (; *text; text++) {
		unsigned char ch = (unsigned char)*text;

		if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
		    (ch >= '0' && ch <= '9') || strchr("-._~,:", ch))
			buf_add(b, text, 1);
		else
			buf_printf(b, "%%%02X", ch);
	}
}

static int exit_of_status(int status)
{
	switch (status) {
	case 401:
	case 403:
		return CLI_DENIED;
	case 404:
		return CLI_NOT_FOUND;
	case 503:
	case 504:
		return CLI_UNREACHABLE;
	default:
		return CLI_FAILED;
	}
}

/* The agent refused: its own words, if it has some. */
static int refused(const struct cli *c, const struct client_reply *r)
{
	struct doc *d = doc_parse(r->body, r->len);
	struct doc *detail = doc_get(d, "detail");
	char text[DOC_TEXT_LEN];

	if (!detail)
		detail = doc_get(d, "title");
	if (detail)
		complain("%s (status %d)", doc_text(detail, text), r->status);
	else
		complain("the agent answered with status %d", r->status);
	if (c->opt.verbose && doc_get(d, "request_id"))
		complain("request %s",
			 doc_text(doc_get(d, "request_id"), text));
	doc_free(d);
	return exit_of_status(r->status);
}

static int not_sent(const struct cli *c, enum client_result result,
		    const struct client_reply *r)
{
	complain("%s: %s", c->opt.host, r->error);
	return result == CLIENT_UNREACHABLE || result == CLIENT_TIMEOUT
		       ? CLI_UNREACHABLE
		       : CLI_FAILED;
}

int exchange(struct cli *c, const char *method, const char *path,
	     const char *body, int accept, struct answer *an)
{
	uint64_t began_ms = clock_mono_ms();
	struct client_reply r;
	enum client_result result;
	int ret = 0;

	*an = (struct answer){ 0 };
	result = client_send(c->client, method, path, body, &r);
	if (c->opt.verbose)
		complain("%s %s: %d, %zu bytes, %llu ms", method, path,
			 r.status, r.len,
			 (unsigned long long)(clock_mono_ms() - began_ms));
	if (result != CLIENT_OK)
		ret = not_sent(c, result, &r);
	else if ((r.status < 200 || r.status > 299) && r.status != accept)
		ret = refused(c, &r);
	else if (r.len)
		an->doc = doc_parse(r.body, r.len);
	if (!ret && r.len && !an->doc) {
		complain("%s: the answer is not JSON", c->opt.host);
		ret = CLI_FAILED;
	}
	if (ret) {
		client_reply_fini(&r);
		return ret;
	}
	an->status = r.status;
	an->text = r.body;
	return 0;
}

int exchange_path(struct cli *c, const char *method, struct buf *path,
		  const char *body, int accept, struct answer *an)
{
	int ret = CLI_FAILED;

	*an = (struct answer){ 0 };
	if (path->failed || !path->data)
		complain("out of memory");
	else
		ret = exchange(c, method, path->data, body, accept, an);
	buf_fini(path);
	return ret;
}

void answer_fini(struct answer *an)
{
	doc_free(an->doc);
	free(an->text);
	*an = (struct answer){ 0 };
}

void answer_print(const struct answer *an)
{
	if (an->text && *an->text)
		puts(an->text);
}

int coverage_note(const struct cli *c, struct doc *meta)
{
	struct doc *cov = doc_get(meta, "coverage");
	struct doc *list = doc_get(cov, "missing");
	struct doc *warnings = doc_get(meta, "warnings");
	size_t n = MIN(doc_len(list), MISSING_SHOWN);
	uint64_t more = doc_count(doc_get(cov, "missing_more"));
	char a[DOC_TEXT_LEN], b[DOC_TEXT_LEN];
	struct buf text = BUF_INIT;

	if (!cov || doc_true(doc_get(cov, "complete")))
		return CLI_DONE;
	more += doc_len(list) - n;
	for (size_t i = 0; i < n; i++) {
		struct doc *row = doc_at(list, i);

		buf_printf(&text, "%s%s (%s)", i ? ", " : "",
			   doc_text(doc_get(row, "host"), a),
			   doc_text(doc_get(row, "reason"), b));
	}
	if (more)
		buf_printf(&text, "%s%llu more", n ? ", " : "",
			   (unsigned long long)more);
	note(c, "partial: %s of %s hosts answered%s%s",
	     doc_text(doc_get(cov, "hosts_answered"), a),
	     doc_text(doc_get(cov, "hosts_expected"), b),
	     text.data ? "; missing: " : "", text.data ? text.data : "");
	buf_fini(&text);
	for (size_t i = 0; i < doc_len(warnings); i++)
		note(c, "%s", doc_text(doc_at(warnings, i), a));
	return CLI_PARTIAL;
}

int table_finish(const struct cli *c, struct table *t)
{
	int ret = CLI_DONE;

	if (table_print(t, stdout, c->color)) {
		complain("out of memory");
		ret = CLI_FAILED;
	}
	table_fini(t);
	return ret;
}

void table_pair(struct table *t, const char *name, const char *value)
{
	if (!value)
		return;
	table_add(t, name);
	table_add(t, value);
}
