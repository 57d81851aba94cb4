/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child says of a window, as it travels:
 *
 *   {"task", "task_hash", "window", "least", "most", "sure", "blind"}
 *
 * Reading is strict: whatever is in the struct then can be.
 */
#include <errno.h>

#include "agent/alarm_private.h"
#include "agent/json.h"

#define WINDOW_MAX ((uint64_t)1 << 48)

void alarm_message_write(const struct alarm_message *m, struct buf *out)
{
	struct json_out o;

	json_out_init(&o, out);
	json_open(&o, NULL, '{');
	json_put_hex(&o, "task", m->task);
	json_put_hex(&o, "task_hash", m->task_hash);
	json_put_u64(&o, "window", m->window);
	json_put_u64(&o, "least", m->said.least);
	json_put_u64(&o, "most", m->said.most);
	json_put_bool(&o, "sure", m->said.sure);
	json_put_bool(&o, "blind", m->said.blind);
	json_close(&o, '}');
}

int alarm_message_read(const struct json *v, struct alarm_message *out)
{
	struct alarm_message m = { 0 };
	struct alarm_said *s = &m.said;

	if (json_hex(json_get(v, "task"), &m.task) ||
	    json_hex(json_get(v, "task_hash"), &m.task_hash) ||
	    json_u64(json_get(v, "window"), 1, WINDOW_MAX, &m.window) ||
	    json_u64(json_get(v, "least"), 0, ALARM_VALUE_MAX, &s->least) ||
	    json_u64(json_get(v, "most"), s->least, ALARM_VALUE_MAX,
		     &s->most) ||
	    json_bool(json_get(v, "sure"), &s->sure) ||
	    json_bool(json_get(v, "blind"), &s->blind))
		return -EINVAL;
	*out = m;
	return 0;
}
