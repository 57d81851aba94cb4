/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making answers: headers, text lines, refusals in the form of their route.
 * What sends them is in http.c.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "agent/http_private.h"
#include "common/log.h"

void http_reply_init(struct http_reply *r, int status, const char *type)
{
	r->status = status;
	r->type = type;
	r->body = BUF_INIT;
	r->n = 0;
}

void http_reply_header(struct http_reply *r, const char *name,
		       const char *value)
{
	assert(r->n < HTTP_HEADERS);
	snprintf(r->header[r->n].name, sizeof(r->header[0].name), "%s", name);
	snprintf(r->header[r->n].value, sizeof(r->header[0].value), "%s",
		 value);
	r->n++;
}

static bool reply_has(const struct http_reply *r, const char *name)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (strcmp(r->header[i].name, name) == 0)
			return true;
	}
	return false;
}

void http_send_text(struct http_request *rq, int status, const char *text)
{
	struct http_reply r;

	http_reply_init(&r, status, HTTP_TEXT);
	buf_text(&r.body, text);
	http_send(rq, &r);
}

void http_send_error(struct http_request *rq, const struct error *e)
{
	struct http_reply r;

	http_reply_init(&r, 0, NULL);
	http_send_error_with(rq, e, &r);
}

void http_send_error_with(struct http_request *rq, const struct error *e,
			  struct http_reply *r)
{
	const struct error_row *row = error_row(e->code);
	char seconds[12], epoch[EPOCH_TEXT];

	buf_reset(&r->body);
	r->status = rq->legacy ? row->status : row->status_v1;
	r->type = rq->legacy ? HTTP_TEXT : HTTP_PROBLEM;
	error_put_text(&r->body, e);
	if (r->status >= 500 && r->status != 503 && r->body.data)
		log_warnx("request %s: %s", rq->id, r->body.data);
	else if (r->body.data)
		log_debug("request %s: %s", rq->id, r->body.data);
	if (!rq->legacy) {
		buf_reset(&r->body);
		error_put_problem(&r->body, e, rq->path, rq->id,
				  http_epoch(rq, epoch) ? epoch : NULL);
	}
	if (row->retry_after_s > 0 && !reply_has(r, "Retry-After")) {
		snprintf(seconds, sizeof(seconds), "%d", row->retry_after_s);
		http_reply_header(r, "Retry-After", seconds);
	}
	if (e->code == ERR_TOKEN)
		http_reply_header(r, "WWW-Authenticate",
				  "Bearer realm=\"linnet\"");
	http_send(rq, r);
}
