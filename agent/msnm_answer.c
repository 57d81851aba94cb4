/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSNM as clients read it.  One writer for both forms: that of POST / has 1
 * and 0 and leaves out what is not known, /api/v1 has booleans and null.  No
 * figure that is not finite is ever written.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/modelfile.h"
#include "agent/msnm_private.h"
#include "agent/registry.h"
#include "agent/v1.h"
#include "common/util.h"

void msnm_put_figure(struct json_out *o, const char *name, double v, bool v1)
{
	if (isfinite(v))
		json_put_real(o, name, v);
	else if (v1)
		json_put_null(o, name);
}

static void put_flag(struct json_out *o, const char *name, bool v, bool v1)
{
	if (v1)
		json_put_bool(o, name, v);
	else
		json_put_u64(o, name, v);
}

static void put_start(struct json_out *o, uint64_t interval, uint32_t window_s)
{
	char text[TIME_TEXT_LEN];

	time_format(interval * window_s * 1000, text);
	json_put_str(o, "start", text);
	json_put_u64(o, "window_s", window_s);
}

static void put_flags(struct json_out *o, const struct msnm_entry *en)
{
	static const char *const names[] = { "partial", "clock", "missed",
					     "overflow" };
	bool late = false;

	for (unsigned i = 0; i < en->n_child; i++)
		late |= en->child[i].late;
	json_open(o, "flags", '[');
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (en->quality & 1u << i)
			json_put_str(o, NULL, names[i]);
	if (en->n_missing)
		json_put_str(o, NULL, "imputed");
	if (late)
		json_put_str(o, NULL, "late");
	json_close(o, ']');
	json_put_u64(o, "missed_packets", en->missed);
	json_put_u64(o, "overflow", en->overflow);
}

static void top_name(const struct msnm_entry *en, const struct msnm_top *t,
		     char *out, size_t size)
{
	if (t->child < 0)
		snprintf(out, size, "%s", t->feature);
	else
		snprintf(out, size, "%c:%s", t->d ? 'd' : 'q',
			 en->child[t->child].host);
}

static void put_top(struct json_out *o, const struct msnm_entry *en)
{
	char name[72];

	json_open(o, "top", '[');
	for (unsigned i = 0; i < en->n_top; i++) {
		top_name(en, &en->top[i], name, sizeof(name));
		json_open(o, NULL, '[');
		json_put_str(o, NULL, name);
		json_put_real(o, NULL, en->top[i].value);
		json_close(o, ']');
	}
	json_close(o, ']');
}

static void put_model(struct json_out *o, const struct msnm_entry *en)
{
	json_open(o, "model", '{');
	json_put_hex(o, "id", en->used.id);
	json_put_u64(o, "generation", en->used.generation);
	json_put_u64(o, "revision", en->used.revision);
	modelfile_put_whole(o, "n", en->used.n);
	json_put_u64(o, "lv", en->used.lv);
	json_put_str(o, "stage", en->used.full ? "full" : "own");
	json_close(o, '}');
}

static const char *child_word(const struct msnm_child *c)
{
	if (!c->has)
		return missing_reason_name(c->why);
	if (c->late)
		return "late";
	return c->model ? "model" : msnm_state_name(c->state);
}

static void put_children(struct json_out *o, const struct msnm_entry *en)
{
	json_open(o, "children", '{');
	for (unsigned i = 0; i < en->n_child; i++)
		json_put_str(o, en->child[i].host, child_word(&en->child[i]));
	json_close(o, '}');
}

/* The alarm of a child that this one is, as it is there. */
static void put_passed(struct json_out *o, const struct msnm_entry *en, bool v1)
{
	if (en->via < 0 || !en->alarm) {
		if (v1)
			json_put_null(o, "passed");
		return;
	}
	json_open(o, "passed", '{');
	json_put_str(o, "by", en->child[en->via].host);
	json_put_str(o, "statistic", en->beyond.d ? "d" : "q");
	json_put_real(o, "value", en->beyond.value);
	json_put_real(o, "limit", en->beyond.limit);
	json_close(o, '}');
}

/* What there is of one interval. */
static void put_entry(struct json_out *o, const struct msnm *m,
		      const struct msnm_entry *en, bool v1)
{
	json_put_str(o, "state", msnm_state_name(en->state));
	json_put_u64(o, "interval", en->interval);
	put_start(o, en->interval, m->conf.window_s);
	msnm_put_figure(o, "q", en->has_stats ? en->q : NAN, v1);
	msnm_put_figure(o, "ucl_q", en->ucl_q, v1);
	msnm_put_figure(o, "d", en->has_stats ? en->d : NAN, v1);
	msnm_put_figure(o, "ucl_d", en->ucl_d, v1);
	msnm_put_figure(o, "novelty", en->has_stats ? en->novelty : NAN, v1);
	json_put_str(o, "over", detect_over_text(en->over));
	put_flag(o, "alarm", en->alarm, v1);
	put_passed(o, en, v1);
	put_top(o, en);
	put_flags(o, en);
	if (en->n_missing) {
		json_put_str(o, "imputed_by", detect_missing_text(en->by));
		msnm_put_figure(o, "imputed_share", en->share, v1);
	}
	if (en->used.id)
		put_model(o, en);
	else if (v1)
		json_put_null(o, "model");
	put_children(o, en);
}

/* How far this host is, whatever the interval. */
static void put_progress(struct json_out *o, const struct msnm *m, size_t have)
{
	if (!m->task.id)
		return;
	if (!m->e.model || msnm_engine_collects_full(&m->e)) {
		json_put_u64(o, "have", have);
		json_put_u64(o, "need", m->conf.rows);
	}
	if (m->e.problem[0])
		json_put_str(o, "problem", m->e.problem);
}

void msnm_put_status(struct json_out *o, const struct msnm *m,
		     const struct msnm_entry *en, size_t have, bool v1)
{
	json_put_str(o, "host", m->e.host);
	json_put_str(o, "phase", msnm_phase_name(msnm_phase_of(m)));
	put_progress(o, m, have);
	if (en) {
		put_entry(o, m, en, v1);
	} else if (m->task.id) {
		json_put_str(o, "state", msnm_state_name(MSNM_LEARNING));
		json_put_u64(o, "window_s", m->conf.window_s);
	}
}

void msnm_put_config(struct json_out *o, const struct msnm *m, bool v1)
{
	char text[PREFIX_TEXT_LEN], proto[8];
	const struct filter *f = &m->filter;

	msnm_conf_put(o, &m->conf, !v1);
	if (!m->both)
		json_put_str(o, "interface",
			     f->dir == PACKET_IN ? "INPUT" : "OUTPUT");
	else if (v1)
		json_put_null(o, "interface");
	proto_format(f->proto, proto);
	json_put_str(o, "proto", f->proto ? proto : "all");
	if (f->has_src)
		prefix_format(&f->src, text);
	if (f->has_src)
		json_put_str(o, "src", text);
	else if (v1)
		json_put_null(o, "src");
	if (f->has_dst)
		prefix_format(&f->dst, text);
	if (f->has_dst)
		json_put_str(o, "dst", text);
	else if (v1)
		json_put_null(o, "dst");
}

/* Hosts with blanks between them, as a list. */
static void put_path(struct json_out *o, const char *path)
{
	char host[ENDPOINT_TEXT_LEN];

	json_open(o, "path", '[');
	while (*path) {
		size_t len = strcspn(path, " ");

		snprintf(host, sizeof(host), "%.*s", (int)len, path);
		json_put_str(o, NULL, host);
		path += len + (path[len] != '\0');
	}
	json_close(o, ']');
}

void msnm_put_alarm(struct json_out *o, const struct msnm_alarm *al)
{
	json_open(o, NULL, '{');
	json_put_u64(o, "id", al->id);
	json_put_str(o, "kind", msnm_alarm_name(al->kind));
	json_put_str(o, "state", al->firing ? "firing" : "resolved");
	json_put_str(o, "host", al->host);
	if (al->source[0])
		json_put_str(o, "source", al->source);
	json_put_u64(o, "first", al->first);
	json_put_u64(o, "last", al->last);
	put_start(o, al->first, al->window_s);
	json_put_u64(o, "intervals", al->intervals);
	msnm_put_figure(o, "value", al->value, true);
	msnm_put_figure(o, "limit", al->limit, true);
	json_open(o, "top", '[');
	for (unsigned i = 0; i < al->n_top; i++) {
		json_open(o, NULL, '[');
		json_put_str(o, NULL, al->top[i].name);
		json_put_real(o, NULL, al->top[i].value);
		json_close(o, ']');
	}
	json_close(o, ']');
	put_path(o, al->path[0] ? al->path : al->host);
	if (al->detail[0])
		json_put_str(o, "detail", al->detail);
	json_close(o, '}');
}

static void put_cells(struct buf *b, const double *x, size_t n)
{
	char text[32];

	for (size_t i = 0; i < n; i++) {
		/* digits enough to read back the same */
		for (int digits = 15; digits <= 17; digits++) {
			double again;

			snprintf(text, sizeof(text), "%.*g", digits, x[i]);
			again = strtod(text, NULL);
			if (again >= x[i] && again <= x[i])
				break;
		}
		buf_printf(b, ",%s", isnan(x[i]) ? "" : text);
	}
}

void msnm_put_rows(struct buf *b, const struct msnm *m)
{
	const struct msnm_engine *e = &m->e;
	struct msnm_model shape = { .n_own = e->n_own,
				    .set = *msnm_engine_set(e) };
	size_t n = e->n_own + 2 * shape.set.n;
	double x[FEATURES + 2 * MSNM_CHILD];
	unsigned first = features_first(m->conf.blocks);

	buf_printf(b, "# linnet-features %s %u\ninterval",
		   features_semantics_name(
			   (enum feature_semantics)m->conf.semantics),
		   m->conf.window_s);
	for (size_t i = 0; i < e->n_own; i++)
		buf_printf(b, ",%s", feature_get(first + (unsigned)i)->name);
	for (unsigned i = 0; i < shape.set.n; i++)
		buf_printf(b, ",q:%s,d:%s", shape.set.child[i].host,
			   shape.set.child[i].host);
	buf_text(b, "\n");
	for (size_t i = 0; i < e->n; i++) {
		/* a cell without a figure is no cell to calibrate with */
		if (!msnm_entry_good(e->entry[i], &shape.set))
			continue;
		buf_printf(b, "%llu",
			   (unsigned long long)e->entry[i]->interval);
		msnm_entry_cells(e->entry[i], &shape, x);
		put_cells(b, x, n);
		buf_text(b, "\n");
	}
}
