/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What children say to their parent of a window: read, written again, and
 * judged.  Whatever they say, an agent that is quiet has heard of no more than
 * its limit, and one that is over has; what it has at most is no less than what
 * it has at least; and who may say that it is sure has not met a child that is
 * not.
 *
 * Input: 2 bytes limit, 2 bytes own value, 1 byte how it is, then a message a
 * line, a child each; an empty line is a child that is silent.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/alarm_private.h"
#include "agent/json.h"
#include "common/util.h"

#define MUST(cond) ((cond) ? (void)0 : abort())
#define HEAD       5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool parse(const char *text, size_t len, struct alarm_message *out)
{
	struct json *v = NULL;
	bool good = !json_parse(text, len, &v) && !alarm_message_read(v, out);

	json_free(v);
	return good;
}

static void write_back(const struct alarm_message *m)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct alarm_message again;

	MUST(m->window > 0 && m->said.least <= m->said.most &&
	     m->said.most <= ALARM_VALUE_MAX);
	alarm_message_write(m, &first);
	MUST(!first.failed && parse(first.data, first.len, &again));
	alarm_message_write(&again, &second);
	MUST(first.len == second.len &&
	     !memcmp(first.data, second.data, first.len));
	buf_fini(&first);
	buf_fini(&second);
}

static void judge(const struct alarm_case *c)
{
	uint64_t least = c->own_known ? c->own : 0;
	bool sure = c->own_known && !c->lost;
	struct alarm_sum sum;
	enum alarm_verdict v = alarm_judge(c, &sum);

	for (unsigned i = 0; i < c->n; i++) {
		const struct alarm_child *x = &c->child[i];

		if (x->said && __builtin_add_overflow(least, x->least, &least))
			least = UINT64_MAX;
		sure &= x->said ? x->sure && !x->blind : x->heard;
	}
	MUST(sum.least == least && sum.least <= sum.most && sum.sure == sure);
	MUST((v == ALARM_OVER) == (least > c->limit));
	MUST(v != ALARM_QUIET || (sure && sum.most <= c->limit));
	MUST(v != ALARM_WAIT || !c->late);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct alarm_child child[OVERLAY_CHILDREN];
	struct alarm_case c = { .child = child };
	const char *s = (const char *)data + HEAD, *end;

	if (size < HEAD)
		return 0;
	c.limit = (uint64_t)(data[0] << 8 | data[1]);
	c.own = (uint64_t)(data[2] << 8 | data[3]);
	c.own_known = data[4] & 1;
	c.lost = data[4] & 2;
	c.late = data[4] & 4;
	for (size -= HEAD; size && c.n < OVERLAY_CHILDREN; s = end + 1) {
		struct alarm_child *x = &child[c.n];
		struct alarm_message m;

		end = memchr(s, '\n', size);
		end = end ? end : s + size - 1;
		size -= (size_t)(end + 1 - s);
		*x = (struct alarm_child){
			.share = alarm_share(c.limit, c.n, 4),
			.heard = !(data[4] & 8 << c.n % 4),
		};
		if (end > s && parse(s, (size_t)(end - s), &m)) {
			write_back(&m);
			x->said = true;
			x->sure = m.said.sure;
			x->blind = m.said.blind;
			x->least = m.said.least;
			x->most = m.said.most;
		}
		c.n++;
	}
	judge(&c);
	return 0;
}
