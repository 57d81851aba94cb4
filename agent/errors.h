/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What clients are told when something is refused: one table. */
#ifndef LINNET_ERRORS_H
#define LINNET_ERRORS_H

enum error_code {
	ERR_NONE,
	ERR_MALFORMED,       /* 400 malformed body */
	ERR_REPEATED,        /* 400 repeated field */
	ERR_NO_TYPE,         /* 400 no message type */
	ERR_UNKNOWN_TYPE,    /* 400 unknown message type */
	ERR_MISSING,         /* 400 missing field: F */
	ERR_VALUE,           /* 400 legacy, 422 v1: bad value: F (ALLOWED) */
	ERR_UNKNOWN_FIELD,   /* 400, v1 only */
	ERR_UNKNOWN_SKETCH,  /* 400 unknown sketch: N */
	ERR_UNKNOWN_COUNTER, /* 400 unknown counter: K */
	ERR_NOT_PEER,        /* 400 not a known peer: F */
	ERR_REFUSED,         /* 400 refused: REASON */
	ERR_TOKEN,           /* 401 token required */
	ERR_FORBIDDEN,       /* 403 not allowed */
	ERR_NOT_FOUND,       /* 404 */
	ERR_UNKNOWN_TASK,    /* 404, v1 */
	ERR_UNKNOWN_HOST,    /* 404, v1 */
	ERR_UNKNOWN_PROBE,   /* 404, v1 */
	ERR_WRONG_SKETCH,    /* 422, v1: the task keeps no such sketch */
	ERR_METHOD,          /* 405 */
	ERR_NOT_ACCEPTABLE,  /* 406 */
	ERR_CONFLICT,        /* 409 */
	ERR_MOVED,           /* 409, peers: not under this lease */
	ERR_STALE_EPOCH,     /* 409, peers */
	ERR_LENGTH,          /* 411 length required */
	ERR_TOO_LARGE,       /* 413 too large */
	ERR_MEDIA_TYPE,      /* 415 content type */
	ERR_EXPECT,          /* 417 */
	ERR_PROBE_BUSY,      /* 429 probe busy, Retry-After */
	ERR_RATE,            /* 429 too many requests, Retry-After */
	ERR_PROBE_FAILED,    /* 500 probe failed: REASON */
	ERR_INTERNAL,        /* 500 internal */
	ERR_NOT_IMPLEMENTED, /* 501 */
	ERR_NO_MSNM,         /* 501 this agent was built without msnm */
	ERR_NO_MONITOR,      /* 503 monitor not attached */
	ERR_NO_HOST,         /* 503 no host answered */
	ERR_UNAVAILABLE,     /* 503 starting, stopping, busy */
	ERR_INCOMPLETE,      /* 504 require=all */
	ERR_LIMIT,           /* 507 limit reached: WHAT */
	ERR_LOOP,            /* 508 */
	ERR_CODES
};

struct error_row {
	int status;        /* of the legacy form */
	int status_v1;     /* of /api/v1 */
	const char *text;  /* legacy words after "error: "; error_put_text() */
	const char *type;  /* /problems/… */
	const char *title; /* of the problem document */
	int retry_after_s; /* 0: none */
};
const struct error_row *error_row(enum error_code e);

#define ERROR_MORE 9

/* One refusal; field and detail are ours or checked names, never raw input. */
struct error {
	enum error_code code;
	char field[65];   /* F, K, N, WHAT; "" where none */
	char detail[160]; /* ALLOWED, REASON; "" where none */
	unsigned n_more;  /* further fields that are refused for the same */
	struct {
		char field[65], detail[160];
	} more[ERROR_MORE];
};
void error_set(struct error *e, enum error_code code, const char *field,
	       const char *detail);
/* The first refusal is the one; later ones of its code name their field too. */
void error_add(struct error *e, enum error_code code, const char *field,
	       const char *detail);

struct buf;
/* "error: bad value: F (ALLOWED)": where text ends with ":" they follow. */
void error_put_text(struct buf *b, const struct error *e);
/*
 * Problem document of RFC 9457; instance is the path that was asked.  epoch: of
 * a conflict between agents, the highest known here; or NULL.
 */
void error_put_problem(struct buf *b, const struct error *e,
		       const char *instance, const char *request_id,
		       const char *epoch);

#endif
