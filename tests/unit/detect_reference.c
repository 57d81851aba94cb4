/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second, slow way to everything that test_detect.c compares.  Singular
 * values by one-sided Jacobi rotations: plain, and accurate to the smallest.
 */
#include "detect_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double ref_noise(uint64_t *seed)
{
	uint64_t x = (*seed += UINT64_C(0x9e3779b97f4a7c15));

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return (double)(x >> 11) * 0x1p-52 - 1;
}

/* --- decomposition ------------------------------------------------------- */

static long double work[REF_COLUMNS][REF_ROWS]; /* by column */

/* Makes two columns orthogonal; false if they are already. */
static bool rotate(struct reference *r, size_t n, size_t i, size_t j)
{
	long double a = 0, b = 0, g = 0, t, zeta, c, s;

	for (size_t k = 0; k < n; k++) {
		a += work[i][k] * work[i][k];
		b += work[j][k] * work[j][k];
		g += work[i][k] * work[j][k];
	}
	if (fabsl(g) <= 1e-19L * sqrtl(a * b) || g * g <= 0)
		return false;
	zeta = (b - a) / (2 * g);
	t = copysignl(1, zeta) / (fabsl(zeta) + sqrtl(1 + zeta * zeta));
	c = 1 / sqrtl(1 + t * t);
	s = c * t;
	for (size_t k = 0; k < n; k++) {
		const long double x = work[i][k], y = work[j][k];

		work[i][k] = c * x - s * y;
		work[j][k] = s * x + c * y;
	}
	for (size_t k = 0; k < r->m; k++) {
		const long double x = r->p[i][k], y = r->p[j][k];

		r->p[i][k] = c * x - s * y;
		r->p[j][k] = s * x + c * y;
	}
	return true;
}

static void swap_components(struct reference *r, size_t a, size_t b)
{
	for (size_t k = 0; k < r->m; k++) {
		const long double x = r->p[a][k];

		r->p[a][k] = r->p[b][k];
		r->p[b][k] = x;
	}
	const long double l = r->l[a];

	r->l[a] = r->l[b];
	r->l[b] = l;
}

static void decompose(struct reference *r, size_t n)
{
	bool turned = true;

	memset(r->p, 0, sizeof(r->p));
	for (size_t j = 0; j < r->m; j++)
		r->p[j][j] = 1;
	for (int sweep = 0; turned && sweep < 60; sweep++) {
		turned = false;
		for (size_t i = 0; i < r->m; i++) {
			for (size_t j = i + 1; j < r->m; j++)
				turned |= rotate(r, n, i, j);
		}
	}
	for (size_t j = 0; j < r->m; j++) {
		r->l[j] = 0;
		for (size_t k = 0; k < n; k++)
			r->l[j] += work[j][k] * work[j][k];
		r->l[j] /= r->n - 1;
	}
	for (size_t a = 0; a < r->m; a++) {
		size_t most = a, at = 0;

		for (size_t b = a + 1; b < r->m; b++)
			most = r->l[b] > r->l[most] ? b : most;
		swap_components(r, a, most);
		for (size_t k = 1; k < r->m; k++)
			at = fabsl(r->p[a][k]) >
					     fabsl(r->p[a][at]) * (1 + 1e-9L)
				     ? k
				     : at;
		for (size_t k = 0; r->p[a][at] < 0 && k <= r->m; k++) {
			if (k == at)
				continue;
			if (k == r->m)
				r->p[a][at] = -r->p[a][at];
			else
				r->p[a][k] = -r->p[a][k];
		}
	}
}

void ref_fit(struct reference *r, const double *rows, const double *weight,
	     size_t n, size_t m, unsigned prep, size_t lv)
{
	*r = (struct reference){ .m = m, .lv = lv };
	for (size_t i = 0; i < n; i++)
		r->n += weight ? weight[i] : 1;
	for (size_t j = 0; j < m; j++) {
		long double sum = 0, square = 0, most = 0, sd;

		for (size_t i = 0; i < n; i++) {
			sum += (weight ? weight[i] : 1.0L) * rows[i * m + j];
			most = fmaxl(most, fabsl(rows[i * m + j]));
		}
		r->mean[j] = prep ? sum / r->n : 0;
		for (size_t i = 0; i < n; i++)
			square += (weight ? weight[i] : 1.0L) *
				  powl(rows[i * m + j] - sum / r->n, 2);
		sd = sqrtl(square / (r->n - 1));
		r->constant[j] = prep ? sd <= 1e-10L * most : most <= 0;
		r->scale[j] = 1;
		if (prep == 2)
			r->scale[j] = r->constant[j] ? sqrtl(1 / (2 * r->n - 1))
						     : sd;
		r->c += !r->constant[j];
		for (size_t i = 0; i < n; i++)
			work[j][i] = r->constant[j]
					     ? 0
					     : sqrtl(weight ? weight[i] : 1) *
						       (rows[i * m + j] -
							r->mean[j]) /
						       r->scale[j];
	}
	decompose(r, n);
	while (r->rank < m && r->l[r->rank] > 1e-26L * r->l[0])
		r->rank++;
}

void ref_judge(const struct reference *r, const double *x, struct ref_stats *s)
{
	*s = (struct ref_stats){ 0 };
	for (size_t j = 0; j < r->m; j++) {
		s->z[j] = (x[j] - r->mean[j]) / r->scale[j];
		s->square += s->z[j] * s->z[j];
		s->novelty += r->constant[j] ? s->z[j] * s->z[j] : 0;
	}
	for (size_t a = 0; a < r->lv; a++) {
		long double t = 0;

		for (size_t j = 0; j < r->m; j++)
			t += r->constant[j] ? 0 : r->p[a][j] * s->z[j];
		for (size_t j = 0; j < r->m; j++)
			s->u[j] += r->constant[j] ? 0 : t * r->p[a][j];
		s->d += t * t / r->l[a];
	}
	for (size_t j = 0; j < r->m; j++)
		s->q += powl(s->z[j] - s->u[j], 2);
}

void ref_limits(const struct reference *r, long double z, long double chi2,
		struct ref_limits *o)
{
	*o = (struct ref_limits){ 0 };
	for (size_t a = r->lv; a < r->rank; a++) {
		for (int k = 0; k < 3; k++)
			o->theta[k] += powl(r->l[a], k + 1);
	}
	o->h0 = 1 - 2 * o->theta[0] * o->theta[2] / (3 * powl(o->theta[1], 2));
	o->df = o->theta[0] * o->theta[0] / o->theta[1];
	o->box = o->theta[1] / o->theta[0] * chi2;
	o->jm = o->theta[0] *
		powl(z * o->h0 * sqrtl(2 * o->theta[1]) / o->theta[0] + 1 +
			     o->theta[1] * o->h0 * (o->h0 - 1) /
				     (o->theta[0] * o->theta[0]),
		     1 / o->h0);
}

/* --- missing values ------------------------------------------------------ */

/* k x = b by elimination with pivots; x replaces b. */
static void eliminate(size_t n, long double k[][REF_COLUMNS], long double *b)
{
	for (size_t i = 0; i < n; i++) {
		size_t at = i;

		for (size_t j = i; j < n; j++)
			at = fabsl(k[j][i]) > fabsl(k[at][i]) ? j : at;
		for (size_t j = 0; j < n; j++) {
			const long double x = k[i][j];

			k[i][j] = k[at][j];
			k[at][j] = x;
		}
		const long double x = b[i];

		b[i] = b[at];
		b[at] = x;
		for (size_t j = 0; j < n; j++) {
			const long double f = k[j][i] / k[i][i];

			if (j == i)
				continue;
			for (size_t y = i; y < n; y++)
				k[j][y] -= f * k[i][y];
			b[j] -= f * b[i];
		}
	}
	for (size_t i = 0; i < n; i++)
		b[i] /= k[i][i];
}

void ref_impute(const struct reference *r, const double *x, long double *filled)
{
	static long double s[REF_COLUMNS][REF_COLUMNS];
	static long double k[REF_COLUMNS][REF_COLUMNS];
	long double w[REF_COLUMNS] = { 0 };

	memset(s, 0, sizeof(s));
	memset(k, 0, sizeof(k));
	for (size_t i = 0; i < r->m; i++) {
		for (size_t j = 0; j < r->m; j++) {
			for (size_t a = 0; a < r->rank; a++)
				s[i][j] += r->p[a][i] * r->l[a] * r->p[a][j];
		}
	}
	for (size_t a = 0; a < r->lv; a++) {
		for (size_t i = 0; i < r->m; i++) {
			if (isnan(x[i]) || r->constant[i])
				continue;
			w[a] += r->p[a][i] * (x[i] - r->mean[i]) / r->scale[i];
			for (size_t j = 0; j < r->m; j++) {
				for (size_t b = 0; b < r->lv && !isnan(x[j]);
				     b++)
					k[a][b] += r->p[a][i] * s[i][j] *
						   r->p[b][j];
			}
		}
	}
	eliminate(r->lv, k, w);
	for (size_t j = 0; j < r->m; j++) {
		long double z = 0;

		/* S_UO P_OA w */
		for (size_t i = 0; i < r->m; i++) {
			for (size_t a = 0; a < r->lv && !isnan(x[i]); a++) {
				long double t = 0;

				for (size_t b = 0; b < r->lv; b++)
					t += r->p[b][j] * r->l[b] * r->p[b][i];
				z += t * r->p[a][i] * w[a];
			}
		}
		filled[j] = isnan(x[j]) ? r->mean[j] + r->scale[j] * z : x[j];
	}
}

/* --- distributions ------------------------------------------------------- */

long double ref_normal(long double x)
{
	return erfcl(x / sqrtl(2)) / 2;
}

/* Upper incomplete gamma: a series below the mean, Lentz' fraction above. */
long double ref_chi2(long double x, long double df)
{
	const long double a = df / 2, y = x / 2;
	const long double front = expl(-y + a * logl(y) - lgammal(a));
	long double term = 1 / a, sum = term, b, c, d, h;

	if (y < a + 1) {
		for (int i = 1; i < 100000 && term > 1e-21L * sum; i++) {
			term *= y / (a + i);
			sum += term;
		}
		return 1 - front * sum;
	}
	b = y + 1 - a;
	c = 1e300L;
	d = h = 1 / b;
	for (int i = 1; i < 100000; i++) {
		const long double an = -i * (i - a);

		b += 2;
		d = 1 / (an * d + b);
		c = b + an / c;
		h *= d * c;
		if (fabsl(d * c - 1) < 1e-19L)
			break;
	}
	return front * h;
}

/* The fraction of the incomplete beta function. */
static long double beta_fraction(long double x, long double a, long double b)
{
	long double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), h = d;

	for (int i = 1; i < 100000; i++) {
		const long double even =
			i * (b - i) * x / ((a + 2 * i - 1) * (a + 2 * i));
		const long double odd = -(a + i) * (a + b + i) * x /
					((a + 2 * i) * (a + 2 * i + 1));

		d = 1 / (1 + even * d);
		c = 1 + even / c;
		h *= d * c;
		d = 1 / (1 + odd * d);
		c = 1 + odd / c;
		h *= d * c;
		if (fabsl(d * c - 1) < 1e-19L)
			break;
	}
	return h;
}

long double ref_beta(long double x, long double a, long double b)
{
	const long double front =
		expl(lgammal(a + b) - lgammal(a) - lgammal(b) + a * logl(x) +
		     b * log1pl(-x));

	if (x < (a + 1) / (a + b + 2))
		return 1 - front * beta_fraction(x, a, b) / a;
	return front * beta_fraction(1 - x, b, a) / b;
}
