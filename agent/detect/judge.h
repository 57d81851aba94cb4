/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Judging a row against a model, and the rule that makes an alarm of it. */
#ifndef LINNET_DETECT_JUDGE_H
#define LINNET_DETECT_JUDGE_H

#include "agent/detect/model.h"

enum detect_over { /* bits: DETECT_OVER_Q | DETECT_OVER_D is "qd" */
	DETECT_OVER_NONE = 0,
	DETECT_OVER_Q = 1,
	DETECT_OVER_D = 2,
};

struct detect_stats {
	double q, d, novelty; /* finite; at most DBL_MAX */
	unsigned over;        /* bits */
};

/*
 * Judges the m cells of x.  Writes the standardised row to z and the residual
 * to e, m doubles each, both of the caller; allocates nothing.  Values of z
 * beyond 1e150 are taken as that.  0, DETECT_VALUE (a cell is NAN or infinite;
 * *out is unchanged).
 */
int detect_judge(const struct detect_model *model, const double *x, double *z,
		 double *e, struct detect_stats *out);

/* "none", "q", "d", "qd". */
const char *detect_over_text(unsigned bits);

/* Whether q or d is above `factor` times its limit; never for factor 0. */
bool detect_beyond(const struct detect_model *model,
		   const struct detect_stats *stats, double factor);

/*
 * An alarm: the row is over, and either one statistic is above factor times
 * its limit or at least k of the last n rows, this one included, are over.
 */
struct detect_rule {
	unsigned k, n; /* 1 <= k <= n <= 64 */
	double factor; /* at least 1 */
};

#define DETECT_RULE_DEFAULT \
	{                   \
		2, 3, 3.0   \
	}
#define DETECT_RULE_LEN 48

/* "2:3:3" -> rule; 0 or DETECT_OPTION. */
int detect_rule_parse(const char *text, struct detect_rule *rule);
/* The rule as text that parses to the same; returns out. */
char *detect_rule_format(const struct detect_rule *rule,
			 char out[DETECT_RULE_LEN]);

/* The last rows, newest in bit 0; starts as 0. */
struct detect_history {
	uint64_t over;
};

/*
 * Notes a row and says whether it is an alarm.  stats NULL: a row without
 * statistics, which counts as not over.  The caller drops the answer in states
 * that cannot alarm.
 */
bool detect_rule_step(const struct detect_rule *rule,
		      struct detect_history *history,
		      const struct detect_model *model,
		      const struct detect_stats *stats);

#endif
