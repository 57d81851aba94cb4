/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree built by hand: each agent is a root until another one invites it, and
 * invites the children that clients or the configuration gave it.  What
 * clients added is in the state directory, so that a restart changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/member/member.h"
#include "agent/state.h"
#include "common/log.h"
#include "common/util.h"

#define CHILDREN_FILE "children.json"

struct member {
	const struct conf *conf;
	unsigned n;
	struct endpoint ep[TREE_CHILDREN]; /* added by clients */
};

static void load(struct member *m)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	const char *dir = m->conf->state_dir, *s;
	size_t len;

	if (!dir[0] || state_read(dir, CHILDREN_FILE, &b))
		return;
	if (!json_parse(b.data, b.len, &v))
		for (size_t i = 0; i < json_len(v) && m->n < TREE_CHILDREN; i++)
			if (!json_str(json_at(v, i), ENDPOINT_TEXT_LEN, &s,
				      &len) &&
			    !endpoint_parse(s, len, 8000, &m->ep[m->n]))
				m->n++;
	json_free(v);
	buf_fini(&b);
}

static void save(const struct member *m)
{
	const char *dir = m->conf->state_dir;
	char text[ENDPOINT_TEXT_LEN];
	struct buf b = BUF_INIT;
	struct json_out o;
	int ret;

	if (!dir[0])
		return;
	json_out_init(&o, &b);
	json_open(&o, NULL, '[');
	for (unsigned i = 0; i < m->n; i++) {
		endpoint_format(&m->ep[i], 0, text);
		json_put_str(&o, NULL, text);
	}
	json_close(&o, ']');
	ret = b.failed ? -ENOMEM
		       : state_write(dir, CHILDREN_FILE, b.data, b.len);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: children are not kept",
			  dir);
	buf_fini(&b);
}

int manual_open(struct member **out, const struct conf *c)
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->conf = c;
	load(m);
	*out = m;
	return 0;
}

static bool contains(const struct endpoint *list, size_t n,
		     const struct endpoint *ep)
{
	for (size_t i = 0; i < n; i++)
		if (endpoint_equal(&list[i], ep))
			return true;
	return false;
}

unsigned manual_children(const struct member *m,
			 struct endpoint out[TREE_CHILDREN])
{
	const struct conf *c = m->conf;
	unsigned n = (unsigned)MIN(c->n_children, TREE_CHILDREN);

	memcpy(out, c->children, n * sizeof(*out));
	for (unsigned i = 0; i < m->n && n < TREE_CHILDREN; i++)
		if (!contains(out, n, &m->ep[i]))
			out[n++] = m->ep[i];
	return n;
}

void manual_keep(struct member *m, const struct endpoint *ep, unsigned n)
{
	const struct conf *c = m->conf;
	struct endpoint keep[TREE_CHILDREN];
	unsigned n_keep = 0;
	bool same;

	for (unsigned i = 0; i < n; i++)
		if (!contains(c->children, c->n_children, &ep[i]))
			keep[n_keep++] = ep[i];
	same = n_keep == m->n;
	for (unsigned i = 0; i < n_keep && same; i++)
		same = endpoint_equal(&m->ep[i], &keep[i]);
	if (same)
		return;
	memcpy(m->ep, keep, n_keep * sizeof(*keep));
	m->n = n_keep;
	save(m);
}

static int manual_parents(struct member *m, struct endpoint *out, size_t max)
{
	(void)m;
	(void)out;
	(void)max;
	return 0;
}

static uint64_t manual_hash(struct member *m)
{
	(void)m;
	return 0;
}

static void manual_close(struct member *m)
{
	free(m);
}

const struct member_ops member_manual = {
	.name = "manual",
	.parents = manual_parents,
	.hash = manual_hash,
	.founds = true,
	.close = manual_close,
};
