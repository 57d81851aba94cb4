/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judging a row: one pass to standardise it, two for each latent variable.
 * The residual is made, and Q is its square sum: |z|^2 - |t|^2 would lose all
 * digits where z is large.  Nothing is allocated; time is m * lv.
 */
#include "agent/detect/judge.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

#define Z_MAX 1e150 /* squares of m such values have a sum */

/* Four sums side by side: one would wait for each addition to end. */
static double dot(const double *a, const double *b, size_t n)
{
	double s[4] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		s[0] += a[i] * b[i];
		s[1] += a[i + 1] * b[i + 1];
		s[2] += a[i + 2] * b[i + 2];
		s[3] += a[i + 3] * b[i + 3];
	}
	for (; i < n; i++)
		s[0] += a[i] * b[i];
	return (s[0] + s[1]) + (s[2] + s[3]);
}

static unsigned over(const struct detect_model *model,
		     const struct detect_stats *s, double factor)
{
	/* false where a limit is NAN */
	return (s->q > factor * model->limits.ucl_q ? DETECT_OVER_Q : 0u) |
	       (s->d > factor * model->limits.ucl_d ? DETECT_OVER_D : 0u);
}

int detect_judge(const struct detect_model *model, const double *x, double *z,
		 double *e, struct detect_stats *out)
{
	const size_t m = model->m;
	struct detect_stats s = { 0 };

	for (size_t j = 0; j < m; j++) {
		double v = (x[j] - model->mean[j]) / model->scale[j];

		if (!isfinite(x[j]))
			return DETECT_VALUE;
		if (!(fabs(v) <= Z_MAX))
			v = copysign(Z_MAX, v);
		z[j] = e[j] = v;
		if (model->constant[j])
			s.novelty += v * v;
	}
	for (size_t a = 0; a < model->lv; a++) {
		const double *p = model->loadings + a * m;
		const double t = dot(p, z, m);

		for (size_t j = 0; j < m; j++)
			e[j] -= t * p[j];
		s.d += t * (t / model->eigenvalues[a]);
	}
	s.q = dot(e, e, m);
	s.d = fmin(s.d, DBL_MAX);
	s.over = over(model, &s, 1);
	*out = s;
	return DETECT_OK;
}

const char *detect_over_text(unsigned bits)
{
	static const char *const text[] = { "none", "q", "d", "qd" };

	return text[bits & 3];
}

bool detect_beyond(const struct detect_model *model,
		   const struct detect_stats *stats, double factor)
{
	return factor > 0 && over(model, stats, factor) != DETECT_OVER_NONE;
}

int detect_rule_parse(const char *text, struct detect_rule *rule)
{
	const char *first = strchr(text, ':');
	const char *second = first ? strchr(first + 1, ':') : NULL;
	uint64_t k, n;
	double factor;

	if (!second)
		return DETECT_OPTION;
	if (parse_u64(first + 1, (size_t)(second - first - 1), 1, 64, &n) ||
	    parse_u64(text, (size_t)(first - text), 1, n, &k) ||
	    parse_real(second + 1, strlen(second + 1), 1, 1e6, &factor))
		return DETECT_OPTION;
	*rule = (struct detect_rule){ (unsigned)k, (unsigned)n, factor };
	return DETECT_OK;
}

char *detect_rule_format(const struct detect_rule *rule,
			 char out[DETECT_RULE_LEN])
{
	/* the shortest of the texts that read back to the same */
	for (int digits = 1; digits <= 17; digits++) {
		struct detect_rule again;

		snprintf(out, DETECT_RULE_LEN, "%u:%u:%.*g", rule->k, rule->n,
			 digits, rule->factor);
		if (!detect_rule_parse(out, &again) &&
		    again.factor >= rule->factor &&
		    again.factor <= rule->factor)
			break;
	}
	return out;
}

bool detect_rule_step(const struct detect_rule *rule,
		      struct detect_history *history,
		      const struct detect_model *model,
		      const struct detect_stats *stats)
{
	const bool is_over = stats && stats->over != DETECT_OVER_NONE;
	const uint64_t last = UINT64_MAX >> (64 - rule->n);

	history->over = history->over << 1 | (is_over ? 1 : 0);
	if (!is_over)
		return false;
	return detect_beyond(model, stats, rule->factor) ||
	       (unsigned)__builtin_popcountll(history->over & last) >= rule->k;
}
