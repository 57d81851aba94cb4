/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every thousandth message takes the way over JSON that all messages take
 * between real agents: what the machine then gets was written and read.  Read
 * and written again it must be the same text.  So does what every thousandth
 * answer says of its hosts; the rest of questions and answers is of the daemon.
 */
#include <stdio.h>
#include <string.h>

#include "agent/json.h"
#include "agent/tree_json.h"
#include "common/json_out.h"
#include "sim.h"

#define EVERY 1000

static bool read_back(struct world *w, const struct tree_msg *m, bool reply,
		      const struct buf *text, struct tree_wire *out)
{
	int status = !reply               ? 0
		     : m->word == TREE_OK ? 200
					  : tree_word_status(m->word);

	if (!tree_wire_read(m->kind, status, text->data, text->len, out))
		return true;
	printf("%s\n", text->data);
	world_fail(w, "JSON is refused: %.60s", text->data);
	return false;
}

struct tree_msg *wire_through(struct world *w, const struct tree_msg *m,
			      bool reply)
{
	struct tree_wire in = { .m = *m }, out;
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct tree_msg *c = NULL;

	if (w->n_messages % EVERY)
		return NULL;
	tree_wire_write(&in, reply, &first);
	if (first.failed || !read_back(w, m, reply, &first, &out))
		goto out;
	if (!reply) { /* headers */
		out.m.epoch = m->epoch;
		out.m.lease = m->lease;
	}
	tree_wire_write(&out, reply, &second);
	if (second.failed || second.len != first.len ||
	    memcmp(first.data, second.data, first.len)) {
		printf("%s\n%s\n", first.data, second.data);
		world_fail(w, "JSON differs: %.60s", first.data);
	}
	c = msg_copy(w, &out.m);
	w->n_wired++;
	tree_wire_fini(&out);
out:
	buf_fini(&first);
	buf_fini(&second);
	return c;
}

static bool coverage_text(const struct coverage *c, struct buf *text)
{
	struct json_out o;

	json_out_init(&o, text);
	json_open(&o, NULL, '{');
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
	return !text->failed;
}

bool wire_coverage(struct world *w, const struct coverage *c,
		   struct coverage *out)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct json *v = NULL;
	bool same = false;

	if (w->n_messages % EVERY)
		return false;
	if (!coverage_text(c, &first) ||
	    json_parse(first.data, first.len, &v) ||
	    coverage_decode(json_get(v, "coverage"), out))
		world_fail(w, "JSON is refused: %.60s", first.data);
	else if (!coverage_text(out, &second) || second.len != first.len ||
		 memcmp(first.data, second.data, first.len))
		world_fail(w, "JSON differs: %.60s", first.data);
	else
		same = true;
	w->n_wired += same;
	json_free(v);
	buf_fini(&first);
	buf_fini(&second);
	return same;
}
