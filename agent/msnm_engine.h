/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The detector of one host: rows in, judgements out.  It knows no clock, no
 * socket and no other agent: intervals come by number, what children said is
 * handed in.  It keeps the last entries, the model in force and the alarms.
 */
#ifndef LINNET_MSNM_ENGINE_H
#define LINNET_MSNM_ENGINE_H

#include "agent/msnm_alarm.h"
#include "agent/msnm_entry.h"

struct msnm_job;

struct msnm_engine {
	struct msnm_conf conf;
	char host[54]; /* of this agent, for alarms */
	size_t n_own;
	struct msnm_entry **entry; /* oldest first */
	size_t n, size;
	struct msnm_model *model;
	struct msnm_set want; /* children that a full model would have */
	bool want_full;       /* they are all there and settled */
	unsigned alone;       /* rows since there was a child */
	uint64_t generation;  /* of the last model */
	uint64_t rows;        /* judged since the start */
	uint64_t wait_from;   /* dynamic: this many had their turn */
	uint64_t failed_at;   /* this many when no model could be made; 0: no */
	struct detect_history history;
	uint64_t last; /* interval judged last; 0: none */
	bool schema;   /* a model is there, of other rows */
	char problem[160];
	struct msnm_alarms alarms;
};

int msnm_engine_init(struct msnm_engine *e, const struct msnm_conf *c,
		     const char *host);
void msnm_engine_fini(struct msnm_engine *e);
/* Other parameters; rows and model go if they mean something else now. */
int msnm_engine_configure(struct msnm_engine *e, const struct msnm_conf *c,
			  bool anew);

/*
 * The row of interval k (n_own values; NULL: there is none), after that of an
 * earlier one, with what the children said (n, copied).  The entry, or NULL: no
 * memory.
 */
struct msnm_entry *msnm_engine_row(struct msnm_engine *e, uint64_t k,
				   uint32_t quality, uint64_t missed,
				   uint64_t overflow, const double *x,
				   const struct msnm_child *child, unsigned n);
/* Intervals passed without a row. */
void msnm_engine_gap(struct msnm_engine *e, uint64_t k);
/* By number; NULL: not kept. */
struct msnm_entry *msnm_engine_find(const struct msnm_engine *e, uint64_t k);
const struct msnm_entry *msnm_engine_last(const struct msnm_engine *e);
/* A value of a child that came after its interval was judged. */
void msnm_engine_late(struct msnm_engine *e, uint64_t k,
		      const struct msnm_child *c);

/* Rows that a calibration would take now; full: complete ones of the set. */
size_t msnm_engine_have(const struct msnm_engine *e, bool full);
/* Children that are columns of a calibration that is asked for now. */
const struct msnm_set *msnm_engine_set(const struct msnm_engine *e);
/* The stage that is being collected for is that with child columns. */
bool msnm_engine_collects_full(const struct msnm_engine *e);
/*
 * Something to do aside: a first model, the full one, a batch; or, asked, a
 * calibration now.  NULL: nothing (or no memory).
 */
struct msnm_job *msnm_engine_job(struct msnm_engine *e, bool asked);
/* The model is in force from the next row on; takes m. */
void msnm_engine_swap(struct msnm_engine *e, struct msnm_model *m);
/* A model is there that is not for these rows: says so until one is. */
void msnm_engine_refuse(struct msnm_engine *e, const char *why);
/* The model fits what is counted here; else why, in words. */
bool msnm_engine_fits(const struct msnm_engine *e, const struct detect_model *m,
		      char *why, size_t size);

#endif
