/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of a task's standing queries: names and query strings as in
 * /api/v1/tasks/ID/…, decoded by the same rows. */
#include "agent/standing_conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/fields.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

static const struct {
	const char *name;
	enum ask_kind kind;
	uint32_t needs; /* a sketch of the task */
	uint64_t takes;
} names[] = {
	{ "totals", ASK_TOTALS, 0, 0 },
	{ "distinct", ASK_DISTINCT, 1u << SKETCH_HLL, 0 },
	{ "top", ASK_TOP, 1u << SKETCH_TOPK,
	  FIELD(N) | FIELD(SHARE) | FIELD(TREE_BASE) },
};

static int args_parse(const char *s, size_t len, uint64_t takes,
		      struct standing_ask *out)
{
	struct error e = { .code = ERR_NONE };
	struct form form = { 0 };
	struct fields f;

	if (form_decode(s, len, FORM_VALUE_MAX, NULL, &form) ||
	    fields_unknown(&form, takes) ||
	    fields_decode(&form, takes, 0, &f, &e))
		return -EINVAL;
	out->share = f.threshold;
	out->n_top = fields_n_top(&f);
	out->base_tree = fields_base_tree(&f);
	return 0;
}

static int ask_parse(const char *s, size_t len, const struct task_spec *t,
		     struct standing_ask *out)
{
	const char *args = memchr(s, '?', len);
	size_t name = args ? (size_t)(args - s) : len;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i].name) != name ||
		    memcmp(names[i].name, s, name) != 0)
			continue;
		out->kind = names[i].kind;
		if (names[i].needs && !(t->kinds & names[i].needs))
			return -EINVAL;
		if (names[i].kind != ASK_TOP)
			return args ? -EINVAL : 0;
		return args_parse(args ? args + 1 : "",
				  args ? len - name - 1 : 0, names[i].takes,
				  out);
	}
	return -EINVAL;
}

static int number(const char *s, const char *end, uint64_t max, uint64_t *out)
{
	return parse_u64(s, (size_t)(end - s), 1, max, out);
}

static int alarm_parse(const char *s, const char *end,
		       struct standing_alarm *out)
{
	const char *over_end = memchr(s, '&', (size_t)(end - s));
	uint64_t hosts = 0;

	if (out->limit || end - s < 6 || memcmp(s, "over=", 5) != 0 ||
	    number(s + 5, over_end ? over_end : end, UINT64_MAX / 2,
		   &out->limit))
		return -EINVAL;
	if (over_end &&
	    (end - over_end < 8 || memcmp(over_end, "&hosts=", 7) != 0 ||
	     number(over_end + 7, end, 1u << 20, &hosts)))
		return -EINVAL;
	out->hosts = (uint32_t)hosts;
	return 0;
}

int standing_conf_parse(const char *text, const struct task_spec *t,
			struct standing_conf *out)
{
	struct standing_conf conf = { 0 };
	const char *s = text;
	size_t len;

	if (*s && t->window_ms < STANDING_WINDOW_MS)
		return -EINVAL;
	for (; *s; s += len + (s[len] == ' ')) {
		struct standing_ask *a = &conf.ask[conf.n];

		len = strcspn(s, " ");
		if (strncmp(s, "alarm?", 6) == 0) {
			if (alarm_parse(s + 6, s + len, &conf.alarm))
				return -EINVAL;
			continue;
		}
		if (conf.n == STANDING_ASKS || ask_parse(s, len, t, a))
			return -EINVAL;
		for (unsigned i = 0; i < conf.n; i++)
			if (conf.ask[i].kind == a->kind)
				return -EINVAL;
		conf.n++;
	}
	*out = conf;
	return 0;
}

bool standing_conf_of(const struct registry *r, const struct task *t,
		      struct standing_conf *out)
{
	return !t->is_sketch && t->params[0] &&
	       t->spec.kinds != TASK_FEATURES &&
	       !registry_is_local(r, t->spec.id) &&
	       !standing_conf_parse(t->params, &t->spec, out);
}

void standing_conf_hosts(char text[TASK_PARAMS_LEN], uint32_t hosts)
{
	char *s = strstr(text, "alarm?"), add[24];
	size_t len, n;

	if (!s || strstr(text, "&hosts="))
		return;
	n = (size_t)snprintf(add, sizeof(add), "&hosts=%u", hosts);
	s += strcspn(s, " ");
	len = strlen(s) + 1;
	if ((size_t)(s - text) + n + len > TASK_PARAMS_LEN)
		return;
	memmove(s + n, s, len);
	memcpy(s, add, n);
}
