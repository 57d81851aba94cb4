/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of alarms, oldest first, bounded; see the header. */
#include "agent/msnm_alarm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

const char *msnm_alarm_name(enum msnm_alarm_kind k)
{
	static const char *const names[] = {
		[ALARM_Q] = "msnm.q",
		[ALARM_D] = "msnm.d",
		[ALARM_SOURCE_LOST] = "msnm.source_lost",
		[ALARM_SCHEMA] = "msnm.schema",
	};

	return names[k];
}

void msnm_alarms_fini(struct msnm_alarms *a)
{
	free(a->row);
	*a = (struct msnm_alarms){ 0 };
}

struct msnm_alarm *msnm_alarms_firing(const struct msnm_alarms *a,
				      enum msnm_alarm_kind k,
				      const char *source)
{
	for (size_t i = a->n; i-- > 0;)
		if (a->row[i].firing && a->row[i].kind == k &&
		    strcmp(a->row[i].source, source) == 0)
			return &a->row[i];
	return NULL;
}

/* The oldest that is over; where all fire, the oldest. */
static void drop_one(struct msnm_alarms *a)
{
	size_t i = 0;

	while (i < a->n && a->row[i].firing)
		i++;
	if (i == a->n)
		i = 0;
	memmove(&a->row[i], &a->row[i + 1], (a->n - i - 1) * sizeof(a->row[0]));
	a->n--;
}

static bool room(struct msnm_alarms *a)
{
	size_t size = a->size ? 2 * a->size : 8;
	struct msnm_alarm *row;

	if (a->n == MSNM_ALARMS)
		drop_one(a);
	if (a->n < a->size)
		return true;
	size = MIN(size, MSNM_ALARMS);
	row = reallocarray(a->row, size, sizeof(*row));
	if (!row)
		return false;
	a->row = row;
	a->size = size;
	return true;
}

struct msnm_alarm *msnm_alarms_raise(struct msnm_alarms *a,
				     enum msnm_alarm_kind k, const char *host,
				     const char *source, uint64_t interval)
{
	struct msnm_alarm *al = msnm_alarms_firing(a, k, source);

	if (!al) {
		if (!room(a))
			return NULL;
		al = &a->row[a->n++];
		*al = (struct msnm_alarm){ .id = ++a->next_id,
					   .kind = k,
					   .firing = true,
					   .first = interval,
					   .window_s = a->window_s,
					   .value = NAN,
					   .limit = NAN };
		snprintf(al->host, sizeof(al->host), "%s", host);
		snprintf(al->source, sizeof(al->source), "%s", source);
	}
	al->quiet = 0;
	al->last = interval;
	al->intervals++;
	return al;
}

void msnm_alarms_quiet(struct msnm_alarms *a, enum msnm_alarm_kind k,
		       const char *source)
{
	struct msnm_alarm *al = msnm_alarms_firing(a, k, source);

	if (al && ++al->quiet >= MSNM_QUIET)
		al->firing = false;
}

void msnm_alarms_resolve(struct msnm_alarms *a, enum msnm_alarm_kind k,
			 const char *source)
{
	struct msnm_alarm *al = msnm_alarms_firing(a, k, source);

	if (al)
		al->firing = false;
}

void msnm_alarms_end(struct msnm_alarms *a, enum msnm_alarm_kind before)
{
	for (size_t i = 0; i < a->n; i++)
		a->row[i].firing &= a->row[i].kind >= before;
}
