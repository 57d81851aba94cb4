/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of refusals: status and words of the legacy form, status and
 * problem type of /api/v1.  Nothing of a request is repeated but names and
 * numbers that were checked.  No state.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "agent/errors.h"
#include "agent/json.h"
#include "common/util.h"

static const struct error_row rows[] = {
	[ERR_NONE] = { 200, 200, "", "about:blank", "OK", 0 },
	[ERR_MALFORMED] = { 400, 400, "malformed body", "bad-request",
			    "Malformed request", 0 },
	[ERR_REPEATED] = { 400, 400, "repeated field", "bad-request",
			   "Field given twice", 0 },
	[ERR_NO_TYPE] = { 400, 400, "no message type", "bad-request",
			  "No message type", 0 },
	[ERR_UNKNOWN_TYPE] = { 400, 400, "unknown message type", "bad-request",
			       "Unknown message type", 0 },
	[ERR_MISSING] = { 400, 400, "missing field:", "bad-request",
			  "Required member missing", 0 },
	[ERR_VALUE] = { 400, 422, "bad value:", "invalid-value",
			"Value not allowed", 0 },
	[ERR_UNKNOWN_FIELD] = { 400, 400, "unknown field:", "bad-request",
				"Unknown member", 0 },
	[ERR_UNKNOWN_SKETCH] = { 400, 404, "unknown sketch:", "unknown-task",
				 "No such sketch", 0 },
	[ERR_UNKNOWN_COUNTER] = { 400, 404, "unknown counter:", "unknown-task",
				  "No such counter", 0 },
	[ERR_NOT_PEER] = { 400, 422, "not a known peer:", "invalid-value",
			   "Not a known peer", 0 },
	[ERR_REFUSED] = { 400, 422, "refused:", "invalid-value", "Refused", 0 },
	[ERR_TOKEN] = { 401, 401, "token required", "unauthorized",
			"Token required", 0 },
	[ERR_FORBIDDEN] = { 403, 403, "not allowed", "forbidden", "Not allowed",
			    0 },
	[ERR_NOT_FOUND] = { 404, 404, "not found", "not-found", "Not found",
			    0 },
	[ERR_UNKNOWN_TASK] = { 404, 404, "unknown task", "unknown-task",
			       "No such task", 0 },
	[ERR_UNKNOWN_HOST] = { 404, 404, "unknown host", "unknown-host",
			       "No such host", 0 },
	[ERR_UNKNOWN_PROBE] = { 404, 404, "unknown probe", "unknown-probe",
				"No such probe", 0 },
	[ERR_WRONG_SKETCH] = { 400, 422, "wrong sketch", "wrong-sketch",
			       "The task keeps no sketch that answers this",
			       0 },
	[ERR_METHOD] = { 405, 405, "method", "method", "Method not allowed",
			 0 },
	[ERR_NOT_ACCEPTABLE] = { 406, 406, "not acceptable", "media-type",
				 "Not acceptable", 0 },
	[ERR_CONFLICT] = { 409, 409, "conflict:", "conflict", "Conflict", 0 },
	[ERR_MOVED] = { 409, 409, "moved", "moved", "Not under this lease", 0 },
	[ERR_STALE_EPOCH] = { 409, 409, "stale epoch", "stale-epoch",
			      "Epoch is older", 0 },
	[ERR_LENGTH] = { 411, 411, "length required", "bad-request",
			 "Content-Length required", 0 },
	[ERR_TOO_LARGE] = { 413, 413, "too large", "too-large", "Too large",
			    0 },
	[ERR_MEDIA_TYPE] = { 415, 415, "content type", "media-type",
			     "Content type not accepted", 0 },
	[ERR_EXPECT] = { 417, 417, "expectation", "bad-request",
			 "Expectation not known", 0 },
	[ERR_PROBE_BUSY] = { 429, 429, "probe busy", "probe-busy",
			     "A probe is running", 10 },
	[ERR_RATE] = { 429, 429, "too many requests", "rate-limit",
		       "Too many requests", 1 },
	[ERR_PROBE_FAILED] = { 500, 500, "probe failed:", "internal",
			       "Probe failed", 0 },
	[ERR_INTERNAL] = { 500, 500, "internal", "internal", "Internal error",
			   0 },
	[ERR_NOT_IMPLEMENTED] = { 501, 501, "not implemented", "unavailable",
				  "Not known to this version", 0 },
	[ERR_NO_MSNM] = { 501, 501, "this agent was built without msnm",
			  "unavailable", "Built without MSNM", 0 },
	[ERR_NO_MONITOR] = { 503, 503, "monitor not attached", "unavailable",
			     "Monitor not attached", 1 },
	[ERR_NO_HOST] = { 503, 503, "no host answered", "unavailable",
			  "No host answered", 1 },
	[ERR_UNAVAILABLE] = { 503, 503, "unavailable", "unavailable",
			      "Unavailable for the moment", 1 },
	[ERR_INCOMPLETE] = { 504, 504, "incomplete", "incomplete",
			     "Not every host answered", 0 },
	[ERR_LIMIT] = { 507, 507, "limit reached:", "limit-reached",
			"Limit reached", 0 },
	[ERR_LOOP] = { 508, 508, "loop", "loop", "Loop", 0 },
};
static_assert(ARRAY_SIZE(rows) == ERR_CODES, "one row for each error");

const struct error_row *error_row(enum error_code e)
{
	assert(e < ERR_CODES);
	return &rows[e];
}

void error_set(struct error *e, enum error_code code, const char *field,
	       const char *detail)
{
	e->code = code;
	snprintf(e->field, sizeof(e->field), "%s", field ? field : "");
	snprintf(e->detail, sizeof(e->detail), "%s", detail ? detail : "");
	e->n_more = 0;
}

void error_add(struct error *e, enum error_code code, const char *field,
	       const char *detail)
{
	if (e->code == ERR_NONE) {
		error_set(e, code, field, detail);
		return;
	}
	if (e->code != code || e->n_more == ERROR_MORE)
		return;
	snprintf(e->more[e->n_more].field, sizeof(e->more[0].field), "%s",
		 field);
	snprintf(e->more[e->n_more].detail, sizeof(e->more[0].detail), "%s",
		 detail);
	e->n_more++;
}

void error_put_text(struct buf *b, const struct error *e)
{
	const char *text = error_row(e->code)->text;
	size_t len = strlen(text);

	if (len == 0 || text[len - 1] != ':') {
		buf_printf(b, "error: %s", text);
		return;
	}
	if (!e->field[0] && !e->detail[0]) {
		buf_printf(b, "error: %.*s", (int)(len - 1), text);
		return;
	}
	buf_printf(b, "error: %s %s", text, e->field[0] ? e->field : e->detail);
	if (e->field[0] && e->detail[0])
		buf_printf(b, " (%s)", e->detail);
}

/* The sentence of a problem, in the words of the legacy form. */
static void put_detail(struct json_out *o, const struct error *e)
{
	struct buf b = BUF_INIT;

	error_put_text(&b, e);
	if (b.data)
		json_put_str(o, "detail", b.data + strlen("error: "));
	buf_fini(&b);
}

static void put_field(struct json_out *o, const char *field, const char *reason)
{
	json_open(o, NULL, '{');
	json_put_str(o, "field", field);
	json_put_str(o, "reason", reason);
	json_close(o, '}');
}

void error_put_problem(struct buf *b, const struct error *e,
		       const char *instance, const char *request_id,
		       const char *epoch)
{
	const struct error_row *row = error_row(e->code);
	struct json_out o;
	char type[64];

	snprintf(type, sizeof(type), "/problems/%s", row->type);
	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	json_put_str(&o, "type", type);
	json_put_str(&o, "title", row->title);
	json_put_u64(&o, "status", (uint64_t)row->status_v1);
	/* Of a bug of ours the client learns where to look, nothing more. */
	if (e->code != ERR_INTERNAL) {
		put_detail(&o, e);
		json_put_str(&o, "instance", instance);
	}
	json_put_str(&o, "request_id", request_id);
	if (epoch && row->status_v1 == 409)
		json_put_str(&o, "epoch", epoch);
	if (e->field[0] && e->code != ERR_INTERNAL) {
		json_open(&o, "errors", '[');
		put_field(&o, e->field, e->detail[0] ? e->detail : row->title);
		for (unsigned i = 0; i < e->n_more; i++)
			put_field(&o, e->more[i].field,
				  e->more[i].detail[0] ? e->more[i].detail
						       : row->title);
		json_close(&o, ']');
	}
	json_close(&o, '}');
}
