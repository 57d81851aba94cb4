/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A diagnosis as a value: flows ranked by the counters that made the row, and
 * the object to and from JSON, so that what a child found can be passed on.
 */
#include "agent/msnm_diag.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "common/util.h"

/* ---- flows ---- */

struct ranked {
	const struct features_flow *flow;
	double score;
};

static int ranked_order(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->score > y->score || x->score < y->score)
		return x->score > y->score ? -1 : 1;
	if (x->flow->bytes != y->flow->bytes)
		return x->flow->bytes > y->flow->bytes ? -1 : 1;
	return key_compare(KEY_FLOW, &x->flow->key, &y->flow->key);
}

static void flow_put(struct msnm_diagnosis *out, const struct ranked *in,
		     const struct msnm_rank *rank, unsigned n_rank)
{
	const struct features_flow *f = in->flow;
	unsigned at = out->n_flows++;

	key_format(KEY_FLOW, &f->key, out->flow[at].key);
	out->flow[at].packets = f->packets;
	out->flow[at].bytes = f->bytes;
	out->flow[at].score = in->score;
	out->flow[at].flags = f->tcp_flags;
	out->flow[at].n_counters = 0;
	for (unsigned i = 0; i < n_rank; i++)
		if (feature_set_has(&f->matched, rank[i].position))
			out->flow[at].counter[out->flow[at].n_counters++] =
				rank[i].position;
}

void msnm_flows_rank(struct msnm_diagnosis *out,
		     const struct features_flow *flow, size_t n,
		     const struct msnm_rank *rank, unsigned n_rank,
		     unsigned most)
{
	struct ranked *r = calloc(MAX(n, 1), sizeof(*r));
	size_t found = 0;

	if (!r) {
		snprintf(out->reason, sizeof(out->reason), "no memory");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		double score = 0;

		for (unsigned k = 0; k < n_rank; k++)
			if (feature_set_has(&flow[i].matched, rank[k].position))
				score += rank[k].weight;
		if (score > 0)
			r[found++] =
				(struct ranked){ &flow[i], fmin(score, 1) };
	}
	qsort(r, found, sizeof(*r), ranked_order);
	for (size_t i = 0; i < found && out->n_flows < most; i++)
		flow_put(out, &r[i], rank, n_rank);
	out->truncated = found - out->n_flows;
	free(r);
}

/* ---- to JSON ---- */

void msnm_diagnosis_path(const struct msnm_diagnosis *d, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < d->n_path; i++) {
		size_t len = strlen(d->path[i]) + (n > 0);

		/* what does not fit as a whole is left out */
		if (n + len >= size)
			break;
		snprintf(out + n, size - n, "%s%s", n ? " " : "", d->path[i]);
		n += len;
	}
}

static void put_flags(struct json_out *o, uint8_t flags)
{
	static const char letters[] = "FSRPAUEC";
	char text[9];
	unsigned n = 0;

	for (unsigned i = 8; i-- > 0;)
		if (flags & 1u << i)
			text[n++] = letters[i];
	text[n] = '\0';
	json_put_str(o, "flags", text);
}

static void put_flows(struct json_out *o, const struct msnm_diagnosis *d)
{
	json_open(o, "flows", '[');
	for (unsigned i = 0; i < d->n_flows; i++) {
		json_open(o, NULL, '{');
		json_put_str(o, "key", d->flow[i].key);
		json_put_u64(o, "packets", d->flow[i].packets);
		json_put_u64(o, "bytes", d->flow[i].bytes);
		put_flags(o, d->flow[i].flags);
		json_put_real(o, "score", d->flow[i].score);
		json_open(o, "counters", '[');
		for (unsigned k = 0; k < d->flow[i].n_counters; k++)
			json_put_str(o, NULL,
				     feature_get(d->flow[i].counter[k])->name);
		json_close(o, ']');
		json_close(o, '}');
	}
	json_close(o, ']');
	json_put_u64(o, "truncated", d->truncated);
}

void msnm_diagnosis_put(struct json_out *o, const struct msnm_diagnosis *d,
			bool v1)
{
	json_put_u64(o, "interval", d->interval);
	json_open(o, "path", '[');
	for (unsigned i = 0; i < d->n_path; i++)
		json_put_str(o, NULL, d->path[i]);
	json_close(o, ']');
	json_put_str(o, "host", d->host);
	if (d->known) {
		json_put_str(o, "statistic", d->d ? "d" : "q");
		msnm_put_figure(o, "value", d->value, v1);
		msnm_put_figure(o, "limit", d->limit, v1);
	}
	json_open(o, "top", '[');
	for (unsigned i = 0; i < d->n_top; i++) {
		json_open(o, NULL, '{');
		json_put_str(o, "name", d->top[i].name);
		msnm_put_figure(o, "value", d->top[i].value, v1);
		msnm_put_figure(o, "mean", d->top[i].mean, v1);
		json_put_str(o, "by",
			     detect_by_text(d->d ? DETECT_BY_OMEDA
						 : DETECT_BY_RESIDUAL));
		msnm_put_figure(o, "contribution", d->top[i].contribution, v1);
		json_close(o, '}');
	}
	json_close(o, ']');
	put_flows(o, d);
	if (d->reason[0])
		json_put_str(o, "reason", d->reason);
}

/* ---- from JSON ---- */

/* 0 or -EINVAL; absent or too long is refused. */
static int get_text(const struct json *v, char *out, size_t size)
{
	const char *s;
	size_t len;

	if (json_str(v, size - 1, &s, &len))
		return -EINVAL;
	memcpy(out, s, len + 1);
	return 0;
}

/* null: not defined. */
static int get_figure(const struct json *obj, const char *name, double *out)
{
	const struct json *v = json_get(obj, name);

	*out = NAN;
	if (json_type(v) == JSON_NULL)
		return 0;
	return json_real(v, -DBL_MAX, DBL_MAX, out);
}

static int get_top(const struct json *list, struct msnm_diagnosis *d)
{
	if (json_type(list) != JSON_ARRAY || json_len(list) > MSNM_FEATURES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *t = json_at(list, i);

		if (get_text(json_get(t, "name"), d->top[i].name,
			     sizeof(d->top[i].name)) ||
		    get_figure(t, "value", &d->top[i].value) ||
		    get_figure(t, "mean", &d->top[i].mean) ||
		    get_figure(t, "contribution", &d->top[i].contribution))
			return -EINVAL;
		d->n_top++;
	}
	return 0;
}

static uint8_t flags_of(const char *s)
{
	static const char letters[] = "FSRPAUEC";
	uint8_t flags = 0;

	for (; *s; s++) {
		const char *at = strchr(letters, *s);

		if (at)
			flags |= (uint8_t)(1u << (at - letters));
	}
	return flags;
}

static int get_flow(const struct json *f, struct msnm_diagnosis *d)
{
	const struct json *list = json_get(f, "counters");
	unsigned at = d->n_flows++;
	struct flow_key key;
	char name[72];

	if (get_text(json_get(f, "key"), d->flow[at].key,
		     sizeof(d->flow[at].key)) ||
	    key_parse(KEY_FLOW, d->flow[at].key, strlen(d->flow[at].key),
		      &key) ||
	    json_u64(json_get(f, "packets"), 0, UINT64_MAX,
		     &d->flow[at].packets) ||
	    json_u64(json_get(f, "bytes"), 0, UINT64_MAX, &d->flow[at].bytes) ||
	    json_real(json_get(f, "score"), 0, 1, &d->flow[at].score) ||
	    get_text(json_get(f, "flags"), name, sizeof(name)) ||
	    json_len(list) > DIAG_COUNTERS)
		return -EINVAL;
	d->flow[at].flags = flags_of(name);
	for (size_t i = 0; i < json_len(list); i++) {
		int position = -1;

		if (!get_text(json_at(list, i), name, sizeof(name)))
			position = feature_find(name, strlen(name));
		if (position < 0)
			return -EINVAL;
		d->flow[at].counter[d->flow[at].n_counters++] =
			(uint16_t)position;
	}
	return 0;
}

int msnm_diagnosis_parse(const struct json *v, struct msnm_diagnosis *d)
{
	const struct json *path = json_get(v, "path");
	const struct json *flows = json_get(v, "flows");
	char word[8];

	memset(d, 0, sizeof(*d));
	if (json_u64(json_get(v, "interval"), 1, UINT64_MAX, &d->interval) ||
	    json_type(path) != JSON_ARRAY || json_len(path) > OVERLAY_HOPS ||
	    get_text(json_get(v, "host"), d->host, sizeof(d->host)) ||
	    json_len(flows) > MSNM_FLOWS_MAX ||
	    json_u64(json_get(v, "truncated"), 0, UINT64_MAX, &d->truncated))
		return -EINVAL;
	for (size_t i = 0; i < json_len(path); i++)
		if (get_text(json_at(path, i), d->path[d->n_path++],
			     sizeof(d->path[0])))
			return -EINVAL;
	if (json_get(v, "statistic")) {
		if (get_text(json_get(v, "statistic"), word, sizeof(word)) ||
		    get_figure(v, "value", &d->value) ||
		    get_figure(v, "limit", &d->limit))
			return -EINVAL;
		d->known = true;
		d->d = word[0] == 'd';
	}
	if (json_get(v, "reason") &&
	    get_text(json_get(v, "reason"), d->reason, sizeof(d->reason)))
		return -EINVAL;
	for (size_t i = 0; i < json_len(flows); i++)
		if (get_flow(json_at(flows, i), d))
			return -EINVAL;
	return get_top(json_get(v, "top"), d);
}
