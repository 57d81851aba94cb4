/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the detector keeps and hands out: what a child said, a model with its
 * children, an entry for each interval.
 */
#ifndef LINNET_MSNM_ENTRY_H
#define LINNET_MSNM_ENTRY_H

#include "agent/coverage.h"
#include "agent/detect/diagnose.h"
#include "agent/msnm_conf.h"

#define MSNM_HISTORY 1440 /* entries that may be asked for */
#define MSNM_MODELS  64   /* the youngest of them keep their model */
#define MSNM_CHILD   64
#define MSNM_ALONE   3 /* rows without any child: there are none now */

enum msnm_state {
	MSNM_OK,
	MSNM_LEARNING,
	MSNM_WARMING,
	MSNM_SUPPRESSED,
	MSNM_STATES
};
const char *msnm_state_name(enum msnm_state s);
int msnm_state_parse(const char *s, enum msnm_state *out);

enum msnm_phase {
	MSNM_OFF,
	MSNM_COLLECTING,
	MSNM_CALIBRATING,
	MSNM_WATCHING
};
const char *msnm_phase_name(enum msnm_phase p);

/* A statistic so far over its limit that it is an alarm by itself. */
struct msnm_beyond {
	bool is, d; /* d: D, else Q */
	double value, limit;
};

/* What a child said of one interval.  Figures that are not defined are NAN. */
struct msnm_child {
	struct node_id id;
	char host[54];
	bool has; /* it judged the interval; else why is set */
	bool late, settled;
	enum missing_reason why;
	bool model; /* not used: the model knows another generation of it */
	enum msnm_state state;
	double q, ucl_q, d, ucl_d;
	uint64_t generation, revision;
	struct msnm_beyond beyond; /* there, or below it */
};

/* The children that are columns of a model, sorted by id. */
struct msnm_set {
	unsigned n;
	struct {
		struct node_id id;
		char host[54];
		uint64_t generation;
	} child[MSNM_CHILD];
};

/* A model and which columns it has; shared, counted, never changed. */
struct msnm_model {
	unsigned refs;
	struct detect_model *m;
	uint64_t id;
	size_t n_own; /* columns before those of children */
	struct msnm_set set;
};
/* Takes m; NULL: no memory, m is freed. */
struct msnm_model *msnm_model_new(struct detect_model *m,
				  const struct msnm_set *set);
struct msnm_model *msnm_model_ref(struct msnm_model *m);
void msnm_model_drop(struct msnm_model *m); /* NULL is allowed */
bool msnm_model_full(const struct msnm_model *m);

/* What is left of a child when an entry is so old that nobody asks for it. */
struct msnm_cell {
	struct node_id id;
	uint64_t generation;
	double q, d; /* cells of the row; NAN: missing */
};

/* A counter, or a statistic of the entry's child, that made the row. */
struct msnm_top {
	int16_t child; /* index in the entry; -1: a counter of this host */
	bool d;        /* of a child: d, else q */
	const char *feature;
	double value;
};

struct msnm_entry {
	uint64_t interval;
	uint64_t number;  /* of rows here: grows though the clock is set back */
	uint32_t quality; /* enum features_quality */
	uint64_t missed, overflow;
	bool no_row; /* of this host: there is what children said, no more */
	/* judgement */
	enum msnm_state state;
	bool has_stats, alarm;
	double q, d, novelty, ucl_q, ucl_d; /* NAN: not defined */
	unsigned over;
	size_t n_missing;
	enum detect_missing by;
	double share;
	enum detect_by top_by;
	unsigned n_top;
	struct msnm_top top[DETECT_TOP];
	struct msnm_beyond beyond; /* the farthest, here or below */
	int16_t via;               /* index of the child it is of; -1: none */
	struct msnm_model *model;  /* NULL: none, or too long ago */
	struct {
		uint64_t id, generation, revision;
		double n;
		size_t lv;
		bool full;
	} used; /* id 0: none */
	struct coverage coverage;
	struct msnm_child
		*child; /* NULL: too old, there is cell in place of it */
	struct msnm_cell *cell;
	unsigned n_child;
	size_t n_own;
	double x[];
};

/* The full row of an entry for a model; NAN where a child is missing. */
void msnm_entry_cells(const struct msnm_entry *en, const struct msnm_model *m,
		      double *x);
/* It may be learnt as a row with the columns of these children. */
bool msnm_entry_good(const struct msnm_entry *en, const struct msnm_set *set);
/* log1p(v / limit); NAN where there is no limit or no value. */
double msnm_ratio(double v, double limit);
/* By id; NULL: none, or the entry is too old. */
const struct msnm_child *msnm_entry_child(const struct msnm_entry *en,
					  const struct node_id *id);
/* It is too old to be asked for: it is a row for a calibration, no more. */
void msnm_entry_shrink(struct msnm_entry *en);
void msnm_entry_free(struct msnm_entry *en);

#endif
