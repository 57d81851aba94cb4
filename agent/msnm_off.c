/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An agent that was built without the libraries of MSNM: it spreads the task
 * like any other and says that it does not judge.
 */
#include "agent/agent.h"
#include "agent/msnm.h"
#include "common/util.h"

static void refuse(void *ctx, struct http_request *rq)
{
	struct error e;

	(void)ctx;
	error_set(&e, ERR_NO_MSNM, "", "");
	http_send_error(rq, &e);
}

int msnm_open(struct msnm **out, struct agent *a)
{
	(void)a;
	*out = NULL;
	return 0;
}

void msnm_free(struct msnm *m)
{
	(void)m;
}

void msnm_tasks_changed(struct agent *a)
{
	(void)a;
}

void msnm_message(struct agent *a, struct http_request *rq,
		  enum msnm_message what, const struct fields *f,
		  uint32_t budget_ms)
{
	(void)what;
	(void)f;
	(void)budget_ms;
	refuse(a, rq);
}

#define ALL (HTTP_GET | HTTP_HEAD | HTTP_POST | HTTP_PUT | HTTP_PATCH)
#define REFUSED(path, need, which)                                     \
	{                                                              \
		.pattern = path, .methods = which, .role = need,       \
		.bodies = HTTP_BODY_JSON, .body_max = (size_t)1 << 20, \
		.fn = refuse                                           \
	}

const struct http_route msnm_routes[] = {
	REFUSED("/api/v1/msnm", ROLE_READ, ALL),
	REFUSED("/api/v1/msnm/*", ROLE_READ, ALL),
	REFUSED("/api/v1/alerts", ROLE_READ, ALL),
	REFUSED("/api/v1/peer/msnm", ROLE_PEER, HTTP_POST),
	REFUSED("/api/v1/peer/msnm/diagnosis", ROLE_PEER, HTTP_POST),
};
const size_t msnm_n_routes = ARRAY_SIZE(msnm_routes);
