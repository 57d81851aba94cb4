/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Models as text; the one file of the library that knows json-c, and only for
 * reading.  Numbers are written with as many digits as it takes to read the
 * same double again; what is not defined is null.
 *
 * Reading takes nothing for granted: first the form (members, types, lengths,
 * ranges), then the numbers by detect_model_check(), then the hash of the
 * schema and the id.  Members that are not known are refused, so that loading
 * and saving never loses one.
 */
#include "agent/detect/modelfile.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "common/json_out.h"
#include "common/utf8.h"
#include "common/util.h"

#define FORMAT       "linnet-msnm-model"
#define VERSION      1
#define DEPTH        8
#define NUMBER_BYTES 5 /* of the shortest number in a list: "0.0, " */
#define WHOLE_MAX    9007199254740992.0 /* 2^53 */
#define ALPHA_MAX    0.5

static const char *const active_names[] = {
	[DETECT_THEORY] = "theory",
	[DETECT_EMPIRICAL] = "empirical",
	[DETECT_MAX] = "max",
};
static const char *const method_names[] = {
	[DETECT_Q_UNDEFINED] = NULL,
	[DETECT_Q_JM] = "jm",
	[DETECT_Q_BOX] = "box",
};
/* The order of the bits of enum detect_quality. */
static const char *const quality_names[] = { "few_rows", "cleaned",
					     "ill_conditioned" };

/* ---- writing ---- */

void modelfile_put_quality(struct json_out *o, unsigned quality)
{
	json_open(o, "quality", '[');
	for (size_t i = 0; i < ARRAY_SIZE(quality_names); i++)
		if (quality >> i & 1)
			json_put_str(o, NULL, quality_names[i]);
	json_close(o, ']');
}

void modelfile_put_whole(struct json_out *o, const char *name, double v)
{
	if (v >= 0 && v <= WHOLE_MAX && !islessgreater(v, floor(v)))
		json_put_u64(o, name, (uint64_t)v);
	else
		json_put_real(o, name, v);
}

static void put_word(struct json_out *o, const char *name, const char *word)
{
	if (word)
		json_put_str(o, name, word);
	else
		json_put_null(o, name);
}

static void put_schema(struct json_out *o, const struct detect_model *model)
{
	json_open(o, "schema", '{');
	json_put_hex(o, "hash", model->schema.hash);
	json_put_str(o, "semantics", model->schema.semantics);
	json_put_u64(o, "window_s", model->schema.window_s);
	json_open(o, "names", '[');
	for (size_t i = 0; i < model->m; i++)
		json_put_str(o, NULL, model->schema.names[i]);
	json_close(o, ']');
	json_close(o, '}');
}

static void put_numbers(struct json_out *o, const struct detect_model *model)
{
	const size_t m = model->m;

	if (model->alpha_q < model->alpha_d ||
	    model->alpha_q > model->alpha_d) {
		json_put_real(o, "alpha_q", model->alpha_q);
		json_put_real(o, "alpha_d", model->alpha_d);
	} else {
		json_put_real(o, "alpha", model->alpha_q);
	}
	json_put_u64(o, "phase", model->phase);
	json_put_reals(o, "mean", model->mean, m);
	json_put_reals(o, "scale", model->scale, m);
	json_open(o, "constant", '[');
	for (size_t i = 0; i < m; i++)
		if (model->constant[i])
			json_put_u64(o, NULL, i);
	json_close(o, ']');
	json_put_reals(o, "eigenvalues", model->eigenvalues, model->rank);
	json_open(o, "loadings", '[');
	for (size_t i = 0; i < model->rank; i++)
		json_put_reals(o, NULL, &model->loadings[i * m], m);
	json_close(o, ']');
}

static void put_limits(struct json_out *o, const struct detect_limits *l)
{
	const char *method = method_names[l->q_method];

	json_open(o, "limits", '{');
	json_put_str(o, "active", active_names[l->active]);
	json_put_real(o, "ucl_q", l->ucl_q);
	json_put_real(o, "ucl_d", l->ucl_d);
	json_open(o, "q", '{');
	json_put_str(o, "status", method ? "ok" : "undefined");
	put_word(o, "method", method);
	json_put_real(o, "jm", l->q_jm);
	json_put_real(o, "box", l->q_box);
	json_put_reals(o, "theta", l->theta, ARRAY_SIZE(l->theta));
	json_put_real(o, "h0", l->h0);
	json_put_real(o, "empirical", l->q_empirical);
	json_close(o, '}');
	json_open(o, "d", '{');
	json_put_str(o, "status", "ok");
	json_put_real(o, "phase1", l->d_phase1);
	json_put_real(o, "phase2", l->d_phase2);
	json_put_real(o, "empirical", l->d_empirical);
	json_close(o, '}');
	json_close(o, '}');
}

static void put_rows(struct json_out *o, const struct detect_model *model)
{
	json_open(o, "exceed", '{');
	json_put_u64(o, "q", model->exceed.q);
	json_put_u64(o, "d", model->exceed.d);
	json_close(o, '}');
	json_open(o, "rows", '{');
	json_put_u64(o, "read", model->rows_read);
	json_put_u64(o, "used", model->rows_used);
	json_open(o, "dropped", '[');
	for (size_t i = 0; i < model->n_dropped; i++)
		json_put_u64(o, NULL, model->dropped[i]);
	json_close(o, ']');
	json_close(o, '}');
	modelfile_put_quality(o, model->quality);
}

int modelfile_format(const struct detect_model *model, struct buf *out)
{
	char created[TIME_TEXT_LEN];
	struct json_out o;

	if ((model->rank + 2) * model->m > MODELFILE_BYTES_MAX / NUMBER_BYTES)
		return MODELFILE_LARGE;
	json_out_init(&o, out);
	json_open(&o, NULL, '{');
	json_put_str(&o, "format", FORMAT);
	json_put_u64(&o, "version", VERSION);
	json_put_hex(&o, "id", detect_model_id(model));
	time_format(model->created_ms, created);
	json_put_str(&o, "created", created);
	put_schema(&o, model);
	modelfile_put_whole(&o, "n", model->n);
	json_put_u64(&o, "m", model->m);
	json_put_u64(&o, "prep", model->prep);
	json_put_u64(&o, "lv", model->lv);
	json_put_u64(&o, "rank", model->rank);
	put_numbers(&o, model);
	put_limits(&o, &model->limits);
	put_rows(&o, model);
	json_put_u64(&o, "generation", model->generation);
	json_put_u64(&o, "revision", model->revision);
	json_close(&o, '}');
	buf_text(out, "\n");
	if (out->failed)
		return -ENOMEM;
	return out->len > MODELFILE_BYTES_MAX ? MODELFILE_LARGE : 0;
}

/* ---- reading ---- */

struct reader {
	struct detect_model *model;
	size_t n_members; /* of the root that were asked for and there */
	char *why;
};

static int refuse(const struct reader *r, const char *member, const char *text)
{
	snprintf(r->why, MODELFILE_WHY_LEN, "%s: %s", member, text);
	return MODELFILE_BAD;
}

/* A member of this type; NULL after refusing. */
static struct json_object *get(struct reader *r, struct json_object *o,
			       const char *name, enum json_type type)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v)) {
		refuse(r, name, "is missing");
		return NULL;
	}
	r->n_members++;
	if (json_object_is_type(v, type))
		return v;
	refuse(r, name, "is of another type");
	return NULL;
}

static bool is_number(struct json_object *v)
{
	return (json_object_is_type(v, json_type_double) ||
		json_object_is_type(v, json_type_int)) &&
	       isfinite(json_object_get_double(v));
}

static int get_real(struct reader *r, struct json_object *o, const char *name,
		    bool may_be_null, double *out)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v))
		return refuse(r, name, "is missing");
	r->n_members++;
	if (!v && may_be_null) {
		*out = NAN;
		return 0;
	}
	if (!is_number(v))
		return refuse(r, name, "is not a number");
	*out = json_object_get_double(v);
	return 0;
}

/* A whole number in [min, max], max <= 2^53. */
static int whole_of(struct reader *r, struct json_object *v, const char *name,
		    double min, double max, uint64_t *out)
{
	double d = json_object_is_type(v, json_type_int)
			   ? json_object_get_double(v)
			   : -1;

	if (!(d >= min && d <= max))
		return refuse(r, name, "is out of range");
	*out = (uint64_t)d;
	return 0;
}

static int get_whole(struct reader *r, struct json_object *o, const char *name,
		     double min, double max, uint64_t *out)
{
	struct json_object *v = get(r, o, name, json_type_int);

	return v ? whole_of(r, v, name, min, max, out) : MODELFILE_BAD;
}

static const char *get_text(struct reader *r, struct json_object *o,
			    const char *name)
{
	struct json_object *v = get(r, o, name, json_type_string);
	const char *s = v ? json_object_get_string(v) : NULL;

	if (s && strlen(s) == (size_t)json_object_get_string_len(v) &&
	    utf8_is_text(s, strlen(s)))
		return s;
	if (s)
		refuse(r, name, "is not plain text");
	return NULL;
}

static int get_hex(struct reader *r, struct json_object *o, const char *name,
		   uint64_t *out)
{
	const char *s = get_text(r, o, name);

	if (!s)
		return MODELFILE_BAD;
	return hex_parse_u64(s, strlen(s), out)
		       ? refuse(r, name, "is not 16 digits")
		       : 0;
}

/* The place of a word in a list, whose NULL is null. */
static int get_word(struct reader *r, struct json_object *o, const char *name,
		    const char *const *words, size_t n, size_t *out)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v))
		return refuse(r, name, "is missing");
	r->n_members++;
	for (size_t i = 0; i < n; i++) {
		if (words[i] ? json_object_is_type(v, json_type_string) &&
				       strcmp(json_object_get_string(v),
					      words[i]) == 0
			     : !v) {
			*out = i;
			return 0;
		}
	}
	return refuse(r, name, "is not a word that is known");
}

static int reals_of(struct reader *r, struct json_object *v, const char *name,
		    double *out, size_t n)
{
	if (!json_object_is_type(v, json_type_array) ||
	    json_object_array_length(v) != n)
		return refuse(r, name, "has not as many numbers as it should");
	for (size_t i = 0; i < n; i++) {
		struct json_object *x = json_object_array_get_idx(v, i);

		if (!is_number(x))
			return refuse(r, name, "holds what is not a number");
		out[i] = json_object_get_double(x);
	}
	return 0;
}

static int get_reals(struct reader *r, struct json_object *o, const char *name,
		     double *out, size_t n)
{
	struct json_object *v = get(r, o, name, json_type_array);

	return v ? reals_of(r, v, name, out, n) : MODELFILE_BAD;
}

static int get_created(struct reader *r, struct json_object *o, uint64_t *ms)
{
	const char *s = get_text(r, o, "created"), *rest;
	char again[TIME_TEXT_LEN];
	struct tm tm = { 0 };
	time_t t;

	if (!s)
		return MODELFILE_BAD;
	rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	t = timegm(&tm);
	if (rest && t >= 0 && strlen(rest) == 5) {
		*ms = (uint64_t)t * 1000 + (uint64_t)(rest[1] - '0') * 100 +
		      (uint64_t)(rest[2] - '0') * 10 +
		      (uint64_t)(rest[3] - '0');
		time_format(*ms, again);
		if (strcmp(s, again) == 0)
			return 0;
	}
	return refuse(r, "created", "is not a time");
}

static int get_schema(struct reader *r, struct json_object *root)
{
	struct json_object *o = get(r, root, "schema", json_type_object), *list;
	struct detect_model *model = r->model;
	const char *semantics = o ? get_text(r, o, "semantics") : NULL;
	char **names = NULL;
	uint64_t hash, window_s;
	int ret;

	if (!semantics || get_hex(r, o, "hash", &hash) ||
	    get_whole(r, o, "window_s", 0, UINT32_MAX, &window_s))
		return MODELFILE_BAD;
	list = get(r, o, "names", json_type_array);
	if (!list)
		return MODELFILE_BAD;
	if (json_object_array_length(list) != model->m)
		return refuse(r, "names", "are not one for each column");
	if (strlen(semantics) >= sizeof(model->schema.semantics))
		return refuse(r, "semantics", "is too long");
	names = calloc(model->m, sizeof(*names));
	if (!names)
		return -ENOMEM;
	ret = 0;
	for (size_t i = 0; i < model->m && !ret; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *s = json_object_is_type(v, json_type_string)
					? json_object_get_string(v)
					: "";

		names[i] = (char *)(uintptr_t)s;
		if (!*s || !utf8_is_text(s, strlen(s)) ||
		    strlen(s) != (size_t)json_object_get_string_len(v))
			ret = refuse(r, "names", "one is no name");
	}
	if (!ret)
		ret = detect_model_set_schema(model, semantics,
					      (uint32_t)window_s, names);
	free(names);
	if (!ret && model->schema.hash != hash)
		ret = refuse(r, "schema", "the hash is another");
	return ret;
}

static int get_alpha(struct reader *r, struct json_object *o)
{
	struct detect_model *model = r->model;
	int ret;

	if (json_object_object_get_ex(o, "alpha", NULL)) {
		ret = get_real(r, o, "alpha", false, &model->alpha_q);
		model->alpha_d = model->alpha_q;
	} else {
		ret = get_real(r, o, "alpha_q", false, &model->alpha_q);
		if (!ret)
			ret = get_real(r, o, "alpha_d", false, &model->alpha_d);
	}
	if (!ret && !(model->alpha_q > 0 && model->alpha_q <= ALPHA_MAX &&
		      model->alpha_d > 0 && model->alpha_d <= ALPHA_MAX))
		ret = refuse(r, "alpha", "is out of range");
	return ret;
}

/* Ascending positions of [0, below) -> flags, numbers or both. */
static int get_positions(struct reader *r, struct json_object *o,
			 const char *name, double below, bool *flags,
			 uint32_t *numbers)
{
	struct json_object *list = get(r, o, name, json_type_array);
	double least = 0;
	size_t n = list ? json_object_array_length(list) : 0;

	if (!list)
		return MODELFILE_BAD;
	for (size_t i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		uint64_t at;
		int ret = whole_of(r, v, name, least, below - 1, &at);

		if (ret)
			return ret;
		if (flags)
			flags[at] = true;
		if (numbers)
			numbers[i] = (uint32_t)at;
		least = (double)at + 1;
	}
	return 0;
}

static int get_numbers(struct reader *r, struct json_object *o)
{
	struct detect_model *model = r->model;
	struct json_object *list;
	uint64_t prep, lv, phase;

	if (get_real(r, o, "n", false, &model->n) ||
	    get_whole(r, o, "prep", 0, 2, &prep) ||
	    get_whole(r, o, "lv", 1, (double)model->rank, &lv) ||
	    get_alpha(r, o) || get_whole(r, o, "phase", 1, 2, &phase) ||
	    get_reals(r, o, "mean", model->mean, model->m) ||
	    get_reals(r, o, "scale", model->scale, model->m) ||
	    get_positions(r, o, "constant", (double)model->m, model->constant,
			  NULL) ||
	    get_reals(r, o, "eigenvalues", model->eigenvalues, model->rank))
		return MODELFILE_BAD;
	if (!(model->n - (double)lv >= 2))
		return refuse(r, "n", "is less than lv + 2");
	model->prep = (unsigned)prep;
	model->lv = lv;
	model->phase = (unsigned)phase;
	list = get(r, o, "loadings", json_type_array);
	if (!list)
		return MODELFILE_BAD;
	if (json_object_array_length(list) != model->rank)
		return refuse(r, "loadings", "are not one list for each rank");
	for (size_t i = 0; i < model->rank; i++)
		if (reals_of(r, json_object_array_get_idx(list, i), "loadings",
			     &model->loadings[i * model->m], model->m))
			return MODELFILE_BAD;
	return 0;
}

static int get_limits(struct reader *r, struct json_object *root)
{
	static const char *const status_names[] = { "ok", "undefined" };
	struct json_object *o = get(r, root, "limits", json_type_object);
	struct json_object *q = o ? get(r, o, "q", json_type_object) : NULL;
	struct json_object *d = q ? get(r, o, "d", json_type_object) : NULL;
	struct detect_limits *l = &r->model->limits;
	size_t active, method, status;

	if (!d ||
	    get_word(r, o, "active", active_names, ARRAY_SIZE(active_names),
		     &active) ||
	    get_real(r, o, "ucl_q", true, &l->ucl_q) ||
	    get_real(r, o, "ucl_d", false, &l->ucl_d) ||
	    get_word(r, q, "method", method_names, ARRAY_SIZE(method_names),
		     &method) ||
	    get_word(r, q, "status", status_names, 2, &status))
		return MODELFILE_BAD;
	if ((status == 1) != (method == DETECT_Q_UNDEFINED))
		return refuse(r, "limits", "status and method disagree");
	l->active = (enum detect_active)active;
	l->q_method = (enum detect_q_method)method;
	if (get_real(r, q, "jm", true, &l->q_jm) ||
	    get_real(r, q, "box", true, &l->q_box) ||
	    get_reals(r, q, "theta", l->theta, ARRAY_SIZE(l->theta)) ||
	    get_real(r, q, "h0", true, &l->h0) ||
	    get_real(r, q, "empirical", true, &l->q_empirical) ||
	    get_word(r, d, "status", status_names, 1, &status) ||
	    get_real(r, d, "phase1", true, &l->d_phase1) ||
	    get_real(r, d, "phase2", true, &l->d_phase2) ||
	    get_real(r, d, "empirical", true, &l->d_empirical))
		return MODELFILE_BAD;
	return 0;
}

static int get_quality(struct reader *r, struct json_object *root)
{
	struct json_object *list = get(r, root, "quality", json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;
	unsigned bit = 0;

	if (!list)
		return MODELFILE_BAD;
	for (size_t i = 0; i < n; i++, bit++) {
		const char *s = json_object_get_string(
			json_object_array_get_idx(list, i));

		while (bit < ARRAY_SIZE(quality_names) &&
		       (!s || strcmp(s, quality_names[bit]) != 0))
			bit++;
		if (bit == ARRAY_SIZE(quality_names))
			return refuse(r, "quality", "a word that is not known");
		r->model->quality |= 1u << bit;
	}
	return 0;
}

static int get_rows(struct reader *r, struct json_object *root)
{
	struct json_object *e = get(r, root, "exceed", json_type_object);
	struct json_object *o = get(r, root, "rows", json_type_object);
	struct detect_model *model = r->model;
	uint64_t q, d, all, used;

	if (!e || !o || get_whole(r, e, "q", 0, WHOLE_MAX, &q) ||
	    get_whole(r, e, "d", 0, WHOLE_MAX, &d) ||
	    get_whole(r, o, "read", 0, WHOLE_MAX, &all) ||
	    get_whole(r, o, "used", 0, WHOLE_MAX, &used) ||
	    get_positions(r, o, "dropped", UINT32_MAX, NULL, model->dropped) ||
	    get_quality(r, root) ||
	    get_whole(r, root, "generation", 0, WHOLE_MAX,
		      &model->generation) ||
	    get_whole(r, root, "revision", 0, WHOLE_MAX, &model->revision))
		return MODELFILE_BAD;
	model->exceed.q = q;
	model->exceed.d = d;
	model->rows_read = all;
	model->rows_used = used;
	return 0;
}

/* Whether every member there is was asked for. */
static int check_members(const struct reader *r, struct json_object *root)
{
	static const char *const inner[] = { "schema", "limits", "exceed",
					     "rows" };
	size_t n = (size_t)json_object_object_length(root);
	struct json_object *o, *limits;

	for (size_t i = 0; i < ARRAY_SIZE(inner); i++) {
		json_object_object_get_ex(root, inner[i], &o);
		n += (size_t)json_object_object_length(o);
	}
	json_object_object_get_ex(root, "limits", &limits);
	json_object_object_get_ex(limits, "q", &o);
	n += (size_t)json_object_object_length(o);
	json_object_object_get_ex(limits, "d", &o);
	n += (size_t)json_object_object_length(o);
	if (n != r->n_members)
		return refuse(r, "model", "a member that is not known");
	return 0;
}

/* The form, and an empty model of its dimensions. */
static int get_head(struct reader *r, struct json_object *root, uint64_t *id)
{
	const char *format = get_text(r, root, "format");
	struct json_object *rows, *dropped;
	uint64_t version, m, rank;

	if (!format)
		return MODELFILE_BAD;
	if (strcmp(format, FORMAT) != 0)
		return refuse(r, "format", "is not " FORMAT);
	if (get_whole(r, root, "version", 0, WHOLE_MAX, &version))
		return MODELFILE_BAD;
	if (version != VERSION)
		return refuse(r, "version", "is not known");
	if (get_hex(r, root, "id", id) ||
	    get_whole(r, root, "m", 1, DETECT_MAX_COLUMNS, &m) ||
	    get_whole(r, root, "rank", 1, (double)m, &rank))
		return MODELFILE_BAD;
	if (!json_object_object_get_ex(root, "rows", &rows) ||
	    !json_object_object_get_ex(rows, "dropped", &dropped) ||
	    !json_object_is_type(dropped, json_type_array))
		return refuse(r, "rows", "no list of dropped rows");
	r->model = detect_model_new(m, rank, json_object_array_length(dropped));
	return r->model ? 0 : -ENOMEM;
}

static int read_model(struct reader *r, struct json_object *root)
{
	uint64_t id;
	int ret = get_head(r, root, &id);

	if (!ret)
		ret = get_created(r, root, &r->model->created_ms);
	if (!ret)
		ret = get_schema(r, root);
	if (!ret)
		ret = get_numbers(r, root);
	if (!ret)
		ret = get_limits(r, root);
	if (!ret)
		ret = get_rows(r, root);
	if (!ret)
		ret = check_members(r, root);
	if (ret)
		return ret;
	ret = detect_model_check(r->model);
	if (ret > 0)
		return refuse(r, "model", detect_error_text(ret));
	if (!ret && detect_model_id(r->model) != id)
		return refuse(r, "id", "does not belong to the numbers");
	return ret;
}

int modelfile_parse(const char *text, size_t len, struct detect_model **model,
		    char why[MODELFILE_WHY_LEN])
{
	struct reader r = { .why = why };
	struct json_tokener *tok;
	struct json_object *root;
	int ret;

	if (len > MODELFILE_BYTES_MAX) {
		refuse(&r, "model", "is too large");
		return MODELFILE_LARGE;
	}
	tok = json_tokener_new_ex(DEPTH);
	if (!tok)
		return -ENOMEM;
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT |
					    JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) != json_tokener_success ||
	    !json_object_is_type(root, json_type_object))
		ret = refuse(&r, "model", "is not a JSON object");
	else
		ret = read_model(&r, root);
	json_tokener_free(tok);
	json_object_put(root);
	if (ret)
		detect_model_free(r.model);
	else
		*model = r.model;
	return ret;
}
