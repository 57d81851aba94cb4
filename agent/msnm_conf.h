/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What MSNM is told: the task's part (window, filter, counting) and the
 * detector's.  One row a parameter; requests, JSON bodies, what agents send
 * each other and the state file use the same rows.
 */
#ifndef LINNET_MSNM_CONF_H
#define LINNET_MSNM_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/impute.h"
#include "agent/detect/judge.h"
#include "agent/errors.h"
#include "common/buf.h"
#include "common/task.h"

struct json;
struct json_out;

struct msnm_conf {
	bool enabled, dynamic, children;
	uint32_t window_s, blocks;
	uint32_t semantics; /* enum feature_semantics */
	uint32_t rows;      /* behind a model */
	uint32_t lv;        /* DETECT_LV_AUTO: by ckf */
	uint32_t prep, batch, half_life_s;
	double alpha_q, alpha_d, clean, max_imputed, quarantine;
	uint32_t limits;  /* enum detect_active */
	uint32_t missing; /* enum detect_missing */
	struct detect_rule alarm;
};

/* In the order of F_MSNM_… of fields.h. */
enum msnm_param {
	MSNM_ENABLED,
	MSNM_WINDOW,
	MSNM_BLOCKS,
	MSNM_SEMANTICS,
	MSNM_ROWS,
	MSNM_LV,
	MSNM_PREP,
	MSNM_ALPHA_Q,
	MSNM_ALPHA_D,
	MSNM_LIMITS,
	MSNM_CLEAN,
	MSNM_ALARM,
	MSNM_MISSING,
	MSNM_MAX_IMPUTED,
	MSNM_DYNAMIC,
	MSNM_BATCH,
	MSNM_HALF_LIFE,
	MSNM_QUARANTINE,
	MSNM_CHILDREN,
	MSNM_PARAMS
};

#define MSNM_ROWS_MAX 10080u
/* Longest text of msnm_conf_text() with its NUL. */
#define MSNM_TEXT_LEN 512

/* What is in force when nothing is said. */
void msnm_conf_default(struct msnm_conf *c);
/* One parameter from text; 0 or -EINVAL, c unchanged then. */
int msnm_conf_set(struct msnm_conf *c, enum msnm_param p, const char *s,
		  size_t len);
/* Takes the parameters whose bits 1 << enum msnm_param are set. */
void msnm_conf_take(struct msnm_conf *c, const struct msnm_conf *from,
		    uint32_t which);
/* What only two parameters together can break; ERR_NONE or *e is set. */
int msnm_conf_check(const struct msnm_conf *c, struct error *e);
const char *msnm_param_name(enum msnm_param p);

/* "name=value …": all parameters but enabled, to and from; 0 or -EINVAL. */
void msnm_conf_text(const struct msnm_conf *c, char out[MSNM_TEXT_LEN]);
int msnm_conf_parse(struct msnm_conf *c, const char *text);
/* Members in an open object; legacy: booleans are 1 and 0. */
void msnm_conf_put(struct json_out *o, const struct msnm_conf *c, bool legacy);
/*
 * A member of a JSON object -> text that msnm_conf_set() reads, exact types.
 * 0 or -EINVAL.
 */
int msnm_member_text(enum msnm_param p, const struct json *v, char *out,
		     size_t size);
/* Its member is true or false. */
bool msnm_param_is_bool(enum msnm_param p);

/* The task that counts for c with this filter; both: its mirror, too. */
void msnm_conf_task(const struct msnm_conf *c, const struct filter *f,
		    bool both, struct task_spec *out);
/* Rows of both have the same columns and meaning. */
bool msnm_conf_same_rows(const struct msnm_conf *a, const struct msnm_conf *b);

#endif
