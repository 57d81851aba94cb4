// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Parts as typed columns, and back from hostile ones.  Numbers of rows travel
 * as varints (LEB128, shortest form), keys and hashes as concatenated bytes,
 * multi-byte values little-endian.  Every state has one form, and a form that
 * encode would not write is refused.  Columns that nobody knows are skipped.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/hllreg.h"
#include "common/sketch/ops.h"
#include "common/util.h"

#define VARINT_MAX 10
#define POINTS_MAX 65536

static const char *const names[] = {
	[PART_TOTALS] = "totals", [PART_POINTS] = "points",
	[PART_TOPK] = "topk",     [PART_EXACT] = "exact",
	[PART_HLL] = "hll",
};
static_assert(ARRAY_SIZE(names) == PART_KINDS, "a name per kind");

const char *part_kind_name(enum part_kind k)
{
	return names[k];
}

int part_kind_parse(const char *s, size_t len, enum part_kind *out)
{
	for (size_t i = 0; i < PART_KINDS; i++) {
		if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0) {
			*out = (enum part_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

void columns_free(struct columns *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		free(c->col[i].bytes);
	c->n = 0;
}

static void add_u64(struct columns *c, const char *name, uint64_t v)
{
	c->col[c->n].name = name;
	c->col[c->n].type = COLUMN_U64;
	c->col[c->n].u64 = v;
	c->n++;
}

/* Room of zero bytes; NULL: no memory. */
static uint8_t *add_bytes(struct columns *c, const char *name, size_t len)
{
	uint8_t *b = calloc(MAX(len, 1), 1);

	if (!b)
		return NULL;
	c->col[c->n].name = name;
	c->col[c->n].type = COLUMN_BYTES;
	c->col[c->n].bytes = b;
	c->col[c->n].len = len;
	c->n++;
	return b;
}

/* A member of n equal structs in an array, which may be NULL if n is 0. */
struct member {
	const void *array;
	size_t stride, offset;
};
#define MEMBER(array, m)                           \
	((struct member){ array, sizeof(*(array)), \
			  offsetof(__typeof__(*(array)), m) })

static void *member_at(struct member m, uint32_t i)
{
	return (char *)(uintptr_t)m.array + i * m.stride + m.offset;
}

static int add_varints(struct columns *c, const char *name, struct member m,
		       uint32_t n)
{
	uint8_t *b = add_bytes(c, name, (size_t)VARINT_MAX * n);
	size_t len = 0;

	if (!b)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t v;

		memcpy(&v, member_at(m, i), sizeof(v));
		for (; v >= 0x80; v >>= 7)
			b[len++] = (uint8_t)(v | 0x80);
		b[len++] = (uint8_t)v;
	}
	c->col[c->n - 1].len = len;
	return 0;
}

static int add_keys(struct columns *c, enum key_type t, struct member m,
		    uint32_t n)
{
	size_t len = key_len(t);
	uint8_t *b = add_bytes(c, "keys", len * n);

	if (!b)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		memcpy(b + len * i, member_at(m, i), len);
	return 0;
}

static int points_encode(const struct part *p, struct columns *c)
{
	const struct interval *v = p->points.v;
	uint32_t n = p->points.n, n_null = 0;
	uint64_t *null = calloc(MAX(n, 1), sizeof(*null));
	int ret = -ENOMEM;

	if (!null)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		if (v[i].saturated)
			null[n_null++] = i;
	if (add_varints(c, "lower", MEMBER(v, lower), n) < 0 ||
	    add_varints(c, "lower99", MEMBER(v, lower99), n) < 0 ||
	    add_varints(c, "upper", MEMBER(v, upper), n) < 0 ||
	    add_varints(c, "point", MEMBER(v, point), n) < 0 ||
	    add_varints(c, "null", (struct member){ null, 8, 0 }, n_null) < 0)
		goto out;
	ret = 0;
out:
	free(null);
	return ret;
}

static int topk_encode(const struct part *p, struct columns *c)
{
	const struct topk_row *r = p->topk.row;
	uint32_t n = p->topk.n;
	uint8_t *own;

	if (add_keys(c, p->params.key, MEMBER(r, key), n) < 0 ||
	    add_varints(c, "upper", MEMBER(r, upper), n) < 0 ||
	    add_varints(c, "err", MEMBER(r, err), n) < 0)
		return -ENOMEM;
	own = add_bytes(c, "own", (n + 7) / 8);
	if (!own)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		own[i / 8] |= (uint8_t)(r[i].own << i % 8);
	add_u64(c, "floor", p->topk.floor);
	return 0;
}

static int exact_encode(const struct part *p, struct columns *c)
{
	const struct exact_row *r = p->exact.row;
	uint32_t n = p->exact.n;

	if (add_keys(c, p->params.key, MEMBER(r, key), n) < 0 ||
	    add_varints(c, "value", MEMBER(r, value), n) < 0)
		return -ENOMEM;
	add_u64(c, "spilled", p->exact.spilled);
	add_u64(c, "evicted", p->exact.evicted);
	return 0;
}

/* Registers of 6 bits: number i in bits 6i … 6i + 5, lowest first. */
static void registers_pack(uint8_t *out, const uint8_t *reg, size_t m)
{
	for (size_t i = 0; i < m; i += 4, out += 3) {
		uint32_t v = (uint32_t)reg[i] | (uint32_t)reg[i + 1] << 6 |
			     (uint32_t)reg[i + 2] << 12 |
			     (uint32_t)reg[i + 3] << 18;

		out[0] = (uint8_t)v;
		out[1] = (uint8_t)(v >> 8);
		out[2] = (uint8_t)(v >> 16);
	}
}

static void registers_unpack(uint8_t *reg, const uint8_t *in, size_t m)
{
	for (size_t i = 0; i < m; i += 4, in += 3) {
		uint32_t v = (uint32_t)in[0] | (uint32_t)in[1] << 8 |
			     (uint32_t)in[2] << 16;

		for (int k = 0; k < 4; k++)
			reg[i + k] = v >> 6 * k & 63;
	}
}

static int hll_encode(const struct part *p, struct columns *c)
{
	size_t m = hllreg_count(p->params.hll_p);
	uint8_t *b = p->hll.reg
			     ? add_bytes(c, "reg", m * 6 / 8)
			     : add_bytes(c, "hash", (size_t)8 * p->hll.n_small);

	if (!b)
		return -ENOMEM;
	if (p->hll.reg)
		registers_pack(b, p->hll.reg, m);
	for (uint32_t i = 0; i < p->hll.n_small; i++) {
		uint64_t le = htole64(p->hll.small[i]);

		memcpy(b + (size_t)8 * i, &le, 8);
	}
	return 0;
}

int part_encode(const struct part *p, struct columns *out)
{
	struct columns c = { 0 };
	int ret = 0;

	switch (p->kind) {
	case PART_POINTS:
		ret = points_encode(p, &c);
		break;
	case PART_TOPK:
		ret = topk_encode(p, &c);
		break;
	case PART_EXACT:
		ret = exact_encode(p, &c);
		break;
	case PART_HLL:
		ret = hll_encode(p, &c);
		break;
	case PART_TOTALS:
	case PART_KINDS:
		break;
	}
	if (ret < 0) {
		columns_free(&c);
		return ret;
	}
	if (p->saturated)
		add_u64(&c, "sat", 1);
	*out = c;
	return 0;
}

struct bytes {
	const uint8_t *b;
	size_t len;
};

/* Number of a column: 0 found, -ENOENT, -EINVAL (twice, other type). */
static int find(const struct columns *c, const char *name,
		enum column_type type, uint32_t *out)
{
	int ret = -ENOENT;

	for (uint32_t i = 0; i < c->n; i++) {
		if (strcmp(c->col[i].name, name) != 0)
			continue;
		if (ret == 0 || c->col[i].type != type)
			return -EINVAL;
		*out = i;
		ret = 0;
	}
	return ret;
}

static int get_u64(const struct columns *c, const char *name, uint64_t *out)
{
	uint32_t i;

	if (find(c, name, COLUMN_U64, &i) < 0)
		return -EINVAL;
	*out = c->col[i].u64;
	return 0;
}

static int get_bytes(const struct columns *c, const char *name,
		     struct bytes *out)
{
	uint32_t i;

	if (find(c, name, COLUMN_BYTES, &i) < 0)
		return -EINVAL;
	*out = (struct bytes){ c->col[i].bytes, c->col[i].len };
	return 0;
}

static int varint_get(struct bytes *in, uint64_t *out)
{
	uint64_t v = 0;

	for (int i = 0; i < VARINT_MAX && in->len > 0; i++) {
		uint8_t b = *in->b++;

		in->len--;
		if (i == VARINT_MAX - 1 && b > 1)
			return -EINVAL;
		v |= (uint64_t)(b & 0x7f) << 7 * i;
		if (b & 0x80)
			continue;
		if (b == 0 && i > 0)
			return -EINVAL;
		*out = v;
		return 0;
	}
	return -EINVAL;
}

/* Exactly n varints, into n structs. */
static int get_varints(const struct columns *c, const char *name,
		       struct member m, uint32_t n)
{
	struct bytes in;

	if (get_bytes(c, name, &in) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t v;

		if (varint_get(&in, &v) < 0)
			return -EINVAL;
		memcpy(member_at(m, i), &v, sizeof(v));
	}
	return in.len == 0 ? 0 : -EINVAL;
}

static size_t varints_count(struct bytes in)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++)
		n += in.b[i] < 0x80;
	return n;
}

static int nulls_decode(struct part *p, const struct columns *in)
{
	struct interval *v = p->points.v;
	uint64_t at, last = 0;
	struct bytes null;

	if (get_bytes(in, "null", &null) < 0)
		return -EINVAL;
	for (bool first = true; null.len > 0; first = false) {
		if (varint_get(&null, &at) < 0 || at >= p->points.n ||
		    (!first && at <= last) || v[at].upper != UINT64_MAX)
			return -EINVAL;
		v[at].saturated = true;
		last = at;
	}
	return 0;
}

static int points_decode(struct part *p, const struct columns *in)
{
	struct interval *v;
	struct bytes lower;
	size_t n;

	if (get_bytes(in, "lower", &lower) < 0)
		return -EINVAL;
	n = varints_count(lower);
	if (n > POINTS_MAX)
		return -EINVAL;
	v = p->points.v = calloc(MAX(n, 1), sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->points.n = (uint32_t)n;
	if (get_varints(in, "lower", MEMBER(v, lower), p->points.n) < 0 ||
	    get_varints(in, "lower99", MEMBER(v, lower99), p->points.n) < 0 ||
	    get_varints(in, "upper", MEMBER(v, upper), p->points.n) < 0 ||
	    get_varints(in, "point", MEMBER(v, point), p->points.n) < 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (v[i].lower > v[i].upper || v[i].lower99 > v[i].upper ||
		    v[i].point > v[i].upper)
			return -EINVAL;
	return nulls_decode(p, in);
}

/* Checks the size; the rows' memory is the caller's next step. */
static int keys_count(const struct columns *in, const struct part *p,
		      uint32_t cap, uint32_t *out)
{
	size_t len = key_len(p->params.key);
	struct bytes keys;

	if (get_bytes(in, "keys", &keys) < 0 || len == 0 ||
	    keys.len % len != 0 || keys.len / len > cap)
		return -EINVAL;
	*out = (uint32_t)(keys.len / len);
	return 0;
}

static int get_keys(const struct columns *in, const struct part *p,
		    struct member m, uint32_t n)
{
	size_t len = key_len(p->params.key);
	struct bytes keys;

	if (get_bytes(in, "keys", &keys) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *k = keys.b + len * i;

		if (i > 0 && memcmp(k - len, k, len) >= 0)
			return -EINVAL;
		memcpy(member_at(m, i), k, len);
	}
	return 0;
}

/* Sums of lower bounds cannot exceed what was counted. */
static bool sum_exceeds(uint64_t *sum, uint64_t v, const struct part *p)
{
	bool over = false;

	*sum = u64_add_sat(*sum, v, &over);
	return !p->saturated && (over || *sum > p->totals.weight);
}

static int own_decode(struct part *p, const struct columns *in)
{
	uint32_t n = p->topk.n;
	struct bytes own;

	if (get_bytes(in, "own", &own) < 0 || own.len != (n + 7) / 8)
		return -EINVAL;
	if (n % 8 != 0 && own.b[n / 8] >> n % 8 != 0)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		p->topk.row[i].own = own.b[i / 8] >> i % 8 & 1;
	return 0;
}

static int topk_decode(struct part *p, const struct columns *in)
{
	uint64_t sum = 0;
	struct topk_row *r;
	uint32_t n;

	if (keys_count(in, p, p->params.topk_slots, &n) < 0)
		return -EINVAL;
	r = p->topk.row = calloc(MAX(n, 1), sizeof(*r));
	if (!r)
		return -ENOMEM;
	p->topk.n = n;
	p->topk.cap = MAX(n, 1);
	if (get_keys(in, p, MEMBER(r, key), n) < 0 ||
	    get_varints(in, "upper", MEMBER(r, upper), n) < 0 ||
	    get_varints(in, "err", MEMBER(r, err), n) < 0 ||
	    own_decode(p, in) < 0 || get_u64(in, "floor", &p->topk.floor) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		if (r[i].err > r[i].upper || r[i].err > p->topk.floor ||
		    sum_exceeds(&sum, r[i].upper - r[i].err, p))
			return -EINVAL;
	return 0;
}

static int exact_decode(struct part *p, const struct columns *in)
{
	struct exact_row *r;
	uint64_t sum = 0;
	uint32_t n;

	if (keys_count(in, p, p->params.exact_cap, &n) < 0)
		return -EINVAL;
	r = p->exact.row = calloc(MAX(n, 1), sizeof(*r));
	if (!r)
		return -ENOMEM;
	p->exact.n = n;
	p->exact.cap = MAX(n, 1);
	if (get_keys(in, p, MEMBER(r, key), n) < 0 ||
	    get_varints(in, "value", MEMBER(r, value), n) < 0 ||
	    get_u64(in, "spilled", &p->exact.spilled) < 0 ||
	    get_u64(in, "evicted", &p->exact.evicted) < 0 ||
	    sum_exceeds(&sum, p->exact.spilled, p))
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		if (r[i].value == 0 || sum_exceeds(&sum, r[i].value, p))
			return -EINVAL;
	return 0;
}

static int hll_decode_small(struct part *p, struct bytes in)
{
	uint64_t last = 0;

	if (in.len % 8 != 0 || in.len / 8 > hll_small_max(p->params.hll_p))
		return -EINVAL;
	p->hll.small = calloc(MAX(in.len / 8, 1), sizeof(*p->hll.small));
	if (!p->hll.small)
		return -ENOMEM;
	p->hll.n_small = (uint32_t)(in.len / 8);
	for (uint32_t i = 0; i < p->hll.n_small; i++) {
		uint64_t le;

		memcpy(&le, in.b + (size_t)8 * i, 8);
		p->hll.small[i] = le64toh(le);
		if (i > 0 && p->hll.small[i] <= last)
			return -EINVAL;
		last = p->hll.small[i];
	}
	return 0;
}

static int hll_decode(struct part *p, const struct columns *in)
{
	uint32_t hp = p->params.hll_p, i;
	bool small = find(in, "hash", COLUMN_BYTES, &i) != -ENOENT;
	bool dense = find(in, "reg", COLUMN_BYTES, &i) != -ENOENT;
	struct bytes b;

	if (hp < HLL_P_MIN || hp > HLL_P_MAX || small == dense ||
	    get_bytes(in, small ? "hash" : "reg", &b) < 0)
		return -EINVAL;
	if (small)
		return hll_decode_small(p, b);
	if (b.len != hllreg_count(hp) * 6 / 8)
		return -EINVAL;
	p->hll.reg = malloc(hllreg_count(hp));
	if (!p->hll.reg)
		return -ENOMEM;
	registers_unpack(p->hll.reg, b.b, hllreg_count(hp));
	for (size_t k = 0; k < hllreg_count(hp); k++)
		if (p->hll.reg[k] > hllreg_max(hp))
			return -EINVAL;
	return 0;
}

static int saturated_decode(struct part *p, const struct columns *in)
{
	uint32_t i;
	int ret = find(in, "sat", COLUMN_U64, &i);

	if (ret == -ENOENT)
		return 0;
	if (ret < 0 || in->col[i].u64 != 1)
		return -EINVAL;
	p->saturated = true;
	return 0;
}

int part_decode(struct part *p, const struct columns *in)
{
	int ret = saturated_decode(p, in);

	if (ret < 0)
		return ret;
	switch (p->kind) {
	case PART_POINTS:
		ret = points_decode(p, in);
		break;
	case PART_TOPK:
		ret = topk_decode(p, in);
		break;
	case PART_EXACT:
		ret = exact_decode(p, in);
		break;
	case PART_HLL:
		ret = hll_decode(p, in);
		break;
	case PART_TOTALS:
	case PART_KINDS:
		break;
	}
	if (ret < 0)
		part_clear(p);
	return ret;
}
