/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A roster as it travels from child to parent. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/roster.h"

#define LATENCY_MAX 60000

void roster_fini(struct roster *r)
{
	free(r->agent);
	*r = (struct roster){ 0 };
}

static void agent_put(struct json_out *o, const struct roster_agent *a)
{
	char id[33];

	node_id_format(&a->id, id);
	json_open(o, NULL, '{');
	json_put_str(o, "node_id", id);
	if (a->version[0])
		json_put_str(o, "version", a->version);
	json_put_u64(o, "tasks", a->tasks);
	json_put_hex(o, "tasks_hash", a->tasks_hash);
	if (a->same != ROSTER_ALONE)
		json_put_bool(o, "tasks_same", a->same == ROSTER_SAME);
	if (a->has_latency)
		json_put_u64(o, "latency_ms", a->latency_ms);
	json_close(o, '}');
}

void roster_write(const struct roster *r, struct buf *out)
{
	struct json_out o;

	json_out_init(&o, out);
	json_open(&o, NULL, '{');
	json_open(&o, "agents", '[');
	for (uint32_t i = 0; i < r->n; i++)
		agent_put(&o, &r->agent[i]);
	json_close(&o, ']');
	coverage_encode(&o, "coverage", &r->coverage);
	json_close(&o, '}');
}

static int agent_get(const struct json *v, struct roster_agent *out)
{
	const struct json *version = json_get(v, "version");
	const struct json *same = json_get(v, "tasks_same");
	const struct json *latency = json_get(v, "latency_ms");
	const char *s = "";
	uint64_t tasks, ms = 0;
	bool equal = false;
	size_t len = 0;

	if (json_str(json_get(v, "node_id"), 32, &s, &len) ||
	    node_id_parse(s, len, &out->id) ||
	    json_u64(json_get(v, "tasks"), 0, UINT32_MAX, &tasks) ||
	    json_hex(json_get(v, "tasks_hash"), &out->tasks_hash))
		return -EINVAL;
	len = 0;
	if ((version && json_str(version, TREE_VERSION_LEN, &s, &len)) ||
	    (same && json_bool(same, &equal)) ||
	    (latency && json_u64(latency, 0, LATENCY_MAX, &ms)))
		return -EINVAL;
	memcpy(out->version, s, len);
	out->tasks = (uint32_t)tasks;
	out->same = !same ? ROSTER_ALONE : equal ? ROSTER_SAME : ROSTER_DIFFER;
	out->has_latency = latency;
	out->latency_ms = (uint32_t)ms;
	return 0;
}

int roster_read(const struct json *v, struct roster *out)
{
	const struct json *list = json_get(v, "agents");
	size_t n = json_len(list);
	struct roster r = { 0 };

	if (json_type(list) != JSON_ARRAY || n > ROSTER_AGENTS ||
	    coverage_decode(json_get(v, "coverage"), &r.coverage))
		return -EINVAL;
	r.agent = calloc(n ? n : 1, sizeof(*r.agent));
	if (!r.agent)
		return -ENOMEM;
	for (; r.n < n; r.n++) {
		if (agent_get(json_at(list, r.n), &r.agent[r.n])) {
			roster_fini(&r);
			return -EINVAL;
		}
	}
	*out = r;
	return 0;
}
