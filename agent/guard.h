/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a request must look like before anybody reads its body: framing,
 * Host, the rules for browsers, content type and length.  Knows no library.
 */
#ifndef LINNET_GUARD_H
#define LINNET_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/errors.h"
#include "agent/http.h"
#include "common/addr.h"

struct guard_text {
	const char *s;
	size_t len;
};

/* What one walk over all headers found; values are borrowed. */
struct guard {
	bool malformed;
	bool cross_site;     /* Sec-Fetch-Site of another origin */
	bool expect_unknown; /* Expect, but not 100-continue */
	bool coded;          /* Content-Encoding, but not identity */
	unsigned n_host, n_length, n_coding, n_origin, n_type;
	struct guard_text host, length, origin, type;
};
void guard_header(struct guard *g, const char *name, size_t name_len,
		  const char *value, size_t value_len);

/* The request's first line and where it came in. */
struct guard_request {
	const char *method;
	enum http_method known; /* 0: a method we do not know */
	bool http_1_0;
	struct endpoint local;
	const char *const *server_names; /* NULL-ended */
};
/* Malformed, Host, Origin, Sec-Fetch-Site: ERR_NONE, MALFORMED, FORBIDDEN. */
enum error_code guard_check_origin(const struct guard *g,
				   const struct guard_request *rq);
/* Length and expectation; *length: bytes of the body to come. */
enum error_code guard_check_framing(const struct guard *g,
				    const struct guard_request *rq,
				    uint64_t *length);
/* What the route takes; *type: how the body is read. */
enum error_code guard_check_body(const struct guard *g,
				 const struct http_route *route,
				 uint64_t length, enum http_body *type);

#endif
