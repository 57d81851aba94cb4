/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alarms: one object from the first alarmed interval until three judged ones
 * were not over.  The last 1,000 are kept; those that fire are never dropped.
 */
#ifndef LINNET_MSNM_ALARM_H
#define LINNET_MSNM_ALARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSNM_ALARMS 1000
#define MSNM_QUIET  3 /* judged intervals that resolve */
#define MSNM_LOST   2 /* intervals without a value */
#define ALARM_TOP   8
#define ALARM_NAME  64

enum msnm_alarm_kind {
	ALARM_Q,
	ALARM_D,
	ALARM_SOURCE_LOST,
	ALARM_SCHEMA,
	ALARM_KINDS
};
const char *msnm_alarm_name(enum msnm_alarm_kind k);

struct msnm_alarm {
	uint64_t id;
	enum msnm_alarm_kind kind;
	bool firing;
	unsigned quiet;  /* intervals not over, since */
	char host[54];   /* where it was seen */
	char source[54]; /* source_lost: who */
	uint64_t first, last, intervals;
	uint32_t window_s;   /* of their numbers */
	double value, limit; /* the largest seen; NAN: none */
	unsigned n_top;
	struct {
		char name[ALARM_NAME];
		double value;
	} top[ALARM_TOP];
	uint64_t worst; /* interval of value and top */
	char path[256]; /* hosts from here down to it, with blanks */
	char detail[160];
};

struct msnm_alarms {
	struct msnm_alarm *row; /* oldest first */
	size_t n, size;
	uint64_t next_id;
	uint32_t window_s; /* of intervals that are raised now */
};

void msnm_alarms_fini(struct msnm_alarms *a);
/* The one that fires, or NULL. */
struct msnm_alarm *msnm_alarms_firing(const struct msnm_alarms *a,
				      enum msnm_alarm_kind k,
				      const char *source);
/* It, or a new one that fires from interval k on; NULL: no memory. */
struct msnm_alarm *msnm_alarms_raise(struct msnm_alarms *a,
				     enum msnm_alarm_kind k, const char *host,
				     const char *source, uint64_t interval);
/* It was not over in this judged interval. */
void msnm_alarms_quiet(struct msnm_alarms *a, enum msnm_alarm_kind k,
		       const char *source);
void msnm_alarms_resolve(struct msnm_alarms *a, enum msnm_alarm_kind k,
			 const char *source);
/* All of the kinds before this one: nobody judges any more. */
void msnm_alarms_end(struct msnm_alarms *a, enum msnm_alarm_kind before);

#endif
