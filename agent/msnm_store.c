/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What MSNM keeps in the state directory.  msnm-model.json is the model in
 * force, as the command reads and writes it.  msnm.json says for which filter
 * it was made, which generations of which children are its columns, and the
 * last parameters.  It is written first and has the model before and the model
 * to come: whenever the agent is killed, the model that is there is described.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/detect/modelfile.h"
#include "agent/json.h"
#include "agent/msnm_private.h"
#include "agent/state.h"
#include "common/log.h"
#include "common/util.h"

#define CONF_FILE  "msnm.json"
#define MODEL_FILE "msnm-model.json"

static uint64_t filter_id(const struct msnm *m)
{
	const struct hash_key key = { { 8 } };

	return siphash24(&key, &m->filter, sizeof(m->filter)) ^ m->both;
}

static void put_set(struct json_out *o, uint64_t id, const struct msnm_set *set)
{
	char text[33];

	json_open(o, NULL, '{');
	json_put_hex(o, "model", id);
	json_open(o, "children", '[');
	for (unsigned i = 0; i < set->n; i++) {
		json_open(o, NULL, '[');
		node_id_format(&set->child[i].id, text);
		json_put_str(o, NULL, text);
		json_put_str(o, NULL, set->child[i].host);
		json_put_u64(o, NULL, set->child[i].generation);
		json_close(o, ']');
	}
	json_close(o, ']');
	json_close(o, '}');
}

static int get_set(const struct json *v, struct msnm_set *out)
{
	const struct json *list = json_get(v, "children");
	const char *s;
	size_t len;

	memset(out, 0, sizeof(*out));
	if (json_type(list) != JSON_ARRAY || json_len(list) > MSNM_CHILD)
		return -EINVAL;
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *c = json_at(list, i);

		if (json_str(json_at(c, 0), 32, &s, &len) ||
		    node_id_parse(s, len, &out->child[i].id) ||
		    json_str(json_at(c, 1), sizeof(out->child[i].host) - 1, &s,
			     &len) ||
		    json_u64(json_at(c, 2), 0, UINT64_MAX,
			     &out->child[i].generation))
			return -EINVAL;
		memcpy(out->child[i].host, s, len + 1);
		out->n++;
	}
	return 0;
}

/* old: the model that is still there, or NULL. */
static int conf_write(struct msnm *m, const struct msnm_model *old,
		      const struct msnm_model *now)
{
	char text[MSNM_TEXT_LEN];
	struct buf b = BUF_INIT;
	struct json_out o;
	int ret;

	msnm_conf_text(&m->conf, text);
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "v", 1);
	json_put_str(&o, "params", text);
	json_put_hex(&o, "filter", filter_id(m));
	json_put_u64(&o, "generation", m->e.generation);
	json_open(&o, "models", '[');
	/* what was refused is not said to be for the filter of now */
	if (old && !m->refused)
		put_set(&o, old->id, &old->set);
	if (now)
		put_set(&o, now->id, &now->set);
	json_close(&o, ']');
	json_close(&o, '}');
	ret = b.failed ? -ENOMEM
		       : state_write(m->agent->conf->state_dir, CONF_FILE,
				     b.data, b.len);
	buf_fini(&b);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "msnm: %s is not kept",
			  CONF_FILE);
	return ret;
}

static void model_path(const struct msnm *m, char *out, size_t size)
{
	snprintf(out, size, "%s/%s", m->agent->conf->state_dir, MODEL_FILE);
}

void msnm_store_conf(struct msnm *m)
{
	if (m->agent->conf->state_dir[0])
		(void)conf_write(m, m->stored, m->e.model);
}

void msnm_store_model(struct msnm *m)
{
	char path[320];
	int ret;

	if (!m->agent->conf->state_dir[0])
		return;
	model_path(m, path, sizeof(path));
	ret = conf_write(m, m->stored, m->e.model);
	if (!ret)
		ret = modelfile_save(path, m->e.model->m);
	if (ret) {
		log_write(LOG_LEVEL_WARN, ret < 0 ? -ret : 0,
			  "msnm: the model is not kept");
		return;
	}
	msnm_model_drop(m->stored);
	m->stored = msnm_model_ref(m->e.model);
	m->refused = false;
}

void msnm_store_forget(struct msnm *m)
{
	char path[320];

	if (!m->stored)
		return;
	model_path(m, path, sizeof(path));
	if (unlink(path) && errno != ENOENT)
		log_warn("msnm: %s stays", path);
	msnm_model_drop(m->stored);
	m->stored = NULL;
	m->refused = false;
}

/* The parameters and which children the model of this id has. */
static int conf_read(struct msnm *m, uint64_t model, struct msnm_set *set)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	struct msnm_conf conf;
	uint64_t id, filter, generation;
	const struct json *list;
	const char *s;
	size_t len;
	int ret = state_read(m->agent->conf->state_dir, CONF_FILE, &b);

	if (ret)
		return ret;
	ret = -EINVAL;
	if (json_parse(b.data, b.len, &v) ||
	    json_str(json_get(v, "params"), MSNM_TEXT_LEN, &s, &len) ||
	    msnm_conf_parse(&conf, s) ||
	    json_hex(json_get(v, "filter"), &filter) ||
	    json_u64(json_get(v, "generation"), 0, UINT64_MAX, &generation))
		goto out;
	conf.enabled = false;
	m->conf = conf;
	m->e.generation = generation;
	m->stored_filter = filter;
	ret = -ENOENT;
	list = json_get(v, "models");
	for (size_t i = 0; i < json_len(list) && ret; i++) {
		const struct json *one = json_at(list, i);

		if (!json_hex(json_get(one, "model"), &id) && id == model)
			ret = get_set(one, set);
	}
out:
	json_free(v);
	buf_fini(&b);
	return ret;
}

/* What a killed agent left beside the model while it wrote a new one. */
static void leftovers_remove(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (strncmp(e->d_name, MODEL_FILE ".", sizeof(MODEL_FILE)) ==
			    0 &&
		    len > 4 && strcmp(e->d_name + len - 4, ".tmp") == 0)
			(void)unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

void msnm_store_load(struct msnm *m)
{
	struct detect_model *model = NULL;
	char path[320], why[MODELFILE_WHY_LEN] = "cannot be read";
	struct msnm_set set = { 0 };
	int ret;

	if (!m->agent->conf->state_dir[0])
		return;
	leftovers_remove(m->agent->conf->state_dir);
	model_path(m, path, sizeof(path));
	ret = modelfile_load(path, &model, why);
	if (ret && ret != -ENOENT) {
		log_warnx("msnm: %s: %s, not used", path, why);
		snprintf(m->e.problem, sizeof(m->e.problem), "%.150s", why);
	}
	ret = conf_read(m, model ? detect_model_id(model) : 0, &set);
	if (!model)
		return;
	m->loaded_known = !ret && model->m > 2 * set.n;
	if (!m->loaded_known)
		set.n = 0;
	m->loaded = msnm_model_new(model, &set);
	if (m->loaded)
		m->stored = msnm_model_ref(m->loaded);
}

/* The task is known: the loaded model is for its rows, or is not. */
void msnm_store_apply(struct msnm *m)
{
	struct msnm_model *loaded = m->loaded;
	char why[160] = "schema: the model is of another filter";
	bool fits;

	m->loaded = NULL;
	if (!loaded)
		return;
	/* its columns are those of the children it knew */
	m->e.want = loaded->set;
	fits = msnm_engine_fits(&m->e, loaded->m, why, sizeof(why));
	if (fits && !m->loaded_known)
		snprintf(why, sizeof(why),
			 "schema: whose rows the model is of is not known");
	if (fits && m->loaded_known && filter_id(m) == m->stored_filter) {
		msnm_engine_swap(&m->e, loaded);
		return;
	}
	m->refused = true;
	msnm_engine_refuse(&m->e, why);
	log_warnx("msnm: the model is not used: %s", why);
	m->e.want = (struct msnm_set){ 0 };
	msnm_model_drop(loaded);
}
