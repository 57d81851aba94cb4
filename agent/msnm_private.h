/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the parts of MSNM that know the loop and other agents. */
#ifndef LINNET_MSNM_PRIVATE_H
#define LINNET_MSNM_PRIVATE_H

#include "agent/agent.h"
#include "agent/msnm.h"
#include "agent/msnm_engine.h"
#include "agent/msnm_worker.h"
#include "agent/query.h"
#include "common/sketch/features.h"

struct msnm_gather;
struct msnm_wait;
struct msnm_drill;
struct msnm_change;

struct msnm {
	struct agent *agent;
	struct msnm_engine e;
	struct msnm_conf conf;      /* in force, or the last one */
	char params[MSNM_TEXT_LEN]; /* of the task, that conf was made of */
	struct filter filter;
	bool both;
	struct task_spec task; /* id 0: MSNM is off */
	struct loop_timer tick;
	uint64_t next; /* interval to be gathered */
	struct msnm_gather *gather;
	struct msnm_wait *waits;
	struct msnm_drill *drills;
	struct msnm_change *changes;
	struct msnm_worker *worker;
	struct msnm_model *stored; /* as in the state directory */
	struct msnm_model *loaded; /* until the task is known */
	bool loaded_known;         /* which rows it is for */
	uint64_t stored_filter;    /* the loaded one is for */
	bool refused;              /* the stored one is not for these rows */
	unsigned lost;             /* intervals of this host without a row */
	struct {
		struct node_id id;
		char host[54];
		unsigned lost;
	} child[MSNM_CHILD];
	unsigned n_child;
};

/* msnm.c */
enum msnm_phase msnm_phase_of(const struct msnm *m);
/* No better model of its children is being learnt: a parent may use this. */
bool msnm_settled(const struct msnm *m);
/* Whether *next, another one after a jump, is due while now is open. */
bool msnm_due(uint64_t *next, uint64_t now);
/* Milliseconds to gather an interval in, at this depth of the tree. */
uint32_t msnm_budget_ms(const struct msnm_conf *c, unsigned depth);
/* Whether a calibration was begun; have: rows it takes; *e why not. */
bool msnm_calibrate(struct msnm *m, size_t *have, size_t *need,
		    struct error *e);
/* In force from the next row on, and kept; takes model. */
void msnm_model_use(struct msnm *m, struct msnm_model *model);

/* msnm_gather.c: what is known of one interval when it is judged */
struct msnm_gather_result {
	uint64_t k;
	bool has_row;
	enum missing_reason why; /* there is no row */
	uint32_t quality;
	uint64_t missed, overflow;
	double x[FEATURES];
	unsigned n;
	struct msnm_child child[MSNM_CHILD]; /* sorted by id */
	struct coverage coverage;
};
/*
 * Reads row k and asks the children; done is called once, never from inside
 * this call, within the budget.  NULL: no memory.
 */
struct msnm_gather *
msnm_gather_start(struct msnm *m, uint64_t k,
		  void (*done)(struct msnm *m, struct msnm_gather_result *r));
void msnm_gather_free(struct msnm_gather *g);
/* Who gave nothing, this host's monitor first, and alarms of it (msnm.c). */
void msnm_sources_check(struct msnm *m, const struct msnm_gather_result *r);

/* msnm_row.c: a closed window of this host's monitor */
struct msnm_row_result {
	int status; /* 0; -EAGAIN: not closed yet; -ENODATA: gone; -errno */
	uint32_t quality;
	uint64_t missed, overflow;
	double x[FEATURES];               /* those of the blocks */
	const struct features_flow *flow; /* of all readers; borrowed */
	size_t n_flows;
};
struct msnm_row;
/* done is called once, never from inside this call.  NULL: no memory. */
struct msnm_row *msnm_row_read(struct msnm *m, uint64_t k, bool flows,
			       void (*done)(void *arg,
					    const struct msnm_row_result *r),
			       void *arg);
void msnm_row_cancel(struct msnm_row *r); /* NULL is allowed */

/* msnm_peer.c: POST /api/v1/peer/msnm */
/* A child's reply about k and earlier ones; 0 or -EINVAL. */
int msnm_peer_parse(const struct json *v, struct msnm *m, uint64_t k,
		    struct msnm_child *out, struct coverage *cov);
/* Interval k was judged, or will not be: who waits for it is answered. */
void msnm_peer_judged(struct msnm *m, uint64_t k);
void msnm_peer_free(struct msnm *m);
void msnm_peer_serve(void *ctx, struct http_request *rq);
void msnm_peer_diagnosis(void *ctx, struct http_request *rq);

/* msnm_answer.c; have: rows stored for the next model, counted by the caller */
void msnm_put_status(struct json_out *o, const struct msnm *m,
		     const struct msnm_entry *en, size_t have, bool v1);
void msnm_put_config(struct json_out *o, const struct msnm *m, bool v1);
void msnm_put_alarm(struct json_out *o, const struct msnm_alarm *al);
void msnm_put_rows(struct buf *b, const struct msnm *m);
/* A figure; legacy: left out where v1 has null. */
void msnm_put_figure(struct json_out *o, const char *name, double v, bool v1);

/* msnm_store.c: the state directory */
void msnm_store_load(struct msnm *m);
void msnm_store_model(struct msnm *m);
void msnm_store_conf(struct msnm *m);
void msnm_store_apply(struct msnm *m);
void msnm_store_forget(struct msnm *m); /* it is for other rows now */

/* msnm_diag.c; below: a child that comes first is asked in its turn */
#define MSNM_FEATURES_MAX 50
#define MSNM_FLOWS_MAX    200
struct msnm_diagnosis;
struct msnm_drill *
msnm_drill_start(struct msnm *m, uint64_t k, bool below, unsigned features,
		 unsigned flows, uint32_t budget_ms,
		 void (*done)(void *arg, const struct msnm_diagnosis *d),
		 void *arg);
/* Ends it with what is known now. */
void msnm_drill_end(struct msnm_drill *d);
/* The hosts of its path with blanks between them. */
void msnm_diagnosis_path(const struct msnm_diagnosis *d, char *out,
			 size_t size);
void msnm_diagnosis_put(struct json_out *o, const struct msnm_diagnosis *d,
			bool v1);

/* msnm_change.c: configuration */
/* Fields that were given, onto what is in force; answers rq by done. */
void msnm_change_start(struct msnm *m, struct http_request *rq,
		       const struct fields *f, uint32_t budget_ms, bool v1);
void msnm_changes_free(struct msnm *m);

#endif
