/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of features, its schema hash, the rules of its compat block. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/features.h"
#include "common/util.h"

/* the table and recorded answers lie beside the source, where they do */
#define DATA   "../shared/data/msnm/"
#define GOLDEN "../shared/golden/msnm/"

static const char *const variables[] = {
	"src_ip",    "dst_ip",       "src_port",      "dst_port",    "protocol",
	"tcp_flags", "src_tos",      "in_packets",    "out_packets", "in_bytes",
	"out_bytes", "in_interface", "out_interface", "flow",        "bytes",
	"handshake", "packets",      "spread",        "dns",
};
static const char *const rules[] = {
	"equals",   "one_of",     "closed_range", "flag",
	"no_other", "first_seen", "direction",    "permille",
	"outcome",  "count",      "peak",         "distinct",
};
static const char *const merges[] = { "sum", "max", "hll", "parts" };
static const char *const transforms[] = { "none", "sqrt", "log2" };

static void number_print(struct buf *b, const struct feature *f, int64_t v)
{
	static const char *const classes[] = { "", "private", "public" };
	static const char *const protocols[] = {
		[1] = "ICMP", [2] = "IGMP", [6] = "TCP", [17] = "UDP"
	};
	static const char flags[] = "FSRPAU";

	if (f->variable <= FEATURE_DST_IP)
		buf_text(b, classes[v]);
	else if (f->variable == FEATURE_PROTOCOL)
		buf_text(b, protocols[v]);
	else if (f->variable == FEATURE_TCP_FLAGS)
		buf_printf(b, "%c", flags[__builtin_ctzll((uint64_t)v)]);
	else if (v == FEATURE_NO_END)
		buf_text(b, "inf");
	else
		buf_printf(b, "%lld", (long long)v);
}

static void row_print(struct buf *b, unsigned int i)
{
	const struct feature *f = feature_get(i);

	buf_printf(b, "%u,%s,%s,%s,%s,%s,", i,
		   i < FEATURES_COMPAT ? "compat" : "host", f->name,
		   f->compat_name, variables[f->variable], rules[f->rule]);
	if (f->text)
		buf_text(b, f->text);
	for (unsigned int v = 0; v < f->n_values; v++) {
		buf_text(b, v ? " " : "");
		number_print(b, f, f->value[v]);
	}
	buf_printf(b, ",%s,%s\n", merges[f->merge], transforms[f->transform]);
}

static void test_table(void **state)
{
	FILE *csv = fopen(DATA "features.csv", "r");
	char line[256];

	(void)state;
	if (!csv)
		skip();
	assert_non_null(fgets(line, sizeof(line), csv));
	for (unsigned int i = 0; i < FEATURES; i++) {
		struct buf b = BUF_INIT;

		row_print(&b, i);
		assert_non_null(fgets(line, sizeof(line), csv));
		assert_string_equal(b.data, line);
		buf_fini(&b);
	}
	assert_null(fgets(line, sizeof(line), csv));
	fclose(csv);
}

static void test_schema(void **state)
{
	uint64_t h = features_schema_begin("csv", 0);

	(void)state;
	for (unsigned int i = 0; i < FEATURES_COMPAT; i++)
		h = features_schema_add(h, feature_get(i)->compat_name);
	assert_true(h == UINT64_C(0x99b33c22a728485d));
	h = features_schema(FEATURES_PACKETS, 60, FEATURE_COMPAT);
	assert_true(h == UINT64_C(0x0b9e74f4c5ffd1e2));
	h = features_schema(FEATURES_PACKETS, 60, FEATURE_BLOCKS);
	assert_true(h == UINT64_C(0x9a5b4cc6179e18ab));
	assert_true(h != features_schema(FEATURES_NETFLOW, 60, FEATURE_BLOCKS));
	assert_true(h != features_schema(FEATURES_PACKETS, 10, FEATURE_BLOCKS));
}

static void test_names(void **state)
{
	enum feature_semantics s = FEATURES_CSV;
	uint32_t blocks = 0;

	(void)state;
	for (int i = 0; i < FEATURES; i++) {
		const char *name = feature_get((unsigned int)i)->name;

		assert_int_equal(feature_find(name, strlen(name)), i);
	}
	assert_int_equal(feature_find("sport_", 6), -ENOENT);
	assert_int_equal(features_semantics_parse("packets/1", 9, &s), 0);
	assert_int_equal(s, FEATURES_PACKETS);
	assert_int_equal(features_semantics_parse("packets/2", 9, &s), -EINVAL);
	assert_int_equal(features_blocks_parse("compat+host", 11, &blocks), 0);
	assert_int_equal(blocks, FEATURE_BLOCKS);
	assert_int_equal(features_blocks_parse("", 0, &blocks), -EINVAL);
	assert_int_equal(features_blocks_parse("all", 3, &blocks), -EINVAL);
	assert_string_equal(features_blocks_name(FEATURE_HOST), "host");
	assert_int_equal(features_count(FEATURE_HOST), 32);
	assert_int_equal(features_first(FEATURE_HOST), 144);
	assert_int_equal(features_count(FEATURE_BLOCKS), 176);
}

/* Rules, one row at a time, against the quick way of the module */

static bool slow_row(const struct feature *f, const struct feature_record *r,
		     bool any)
{
	int64_t v = r->value[f->variable];
	bool present = r->present >> f->variable & 1;

	if (f->rule == FEATURE_NO_OTHER)
		return !any;
	if (f->rule == FEATURE_CLOSED_RANGE)
		return present && v >= f->value[0] && v <= f->value[1];
	for (unsigned int i = 0; i < f->n_values && present; i++) {
		if (f->rule == FEATURE_FLAG ? (v & f->value[i]) != 0
					    : v == f->value[i])
			return true;
	}
	return false;
}

static void slow_match(const struct feature_record *r, struct feature_set *out)
{
	bool any[FEATURE_RECORD_VARIABLES] = { 0 };

	for (unsigned int i = 0; i < FEATURES_COMPAT; i++) {
		const struct feature *f = feature_get(i);

		if (slow_row(f, r, any[f->variable])) {
			any[f->variable] = true;
			feature_set_add(out, i);
		}
	}
}

static void same_match(const struct feature_record *r)
{
	struct feature_set quick = { { 0 } }, slow = { { 0 } };

	features_match(r, &quick);
	slow_match(r, &slow);
	assert_memory_equal(&quick, &slow, sizeof(quick));
}

static void test_rules(void **state)
{
	(void)state;
	for (int v = 0; v < FEATURE_RECORD_VARIABLES; v++) {
		for (int64_t x = -2; x < 110000; x++) {
			struct feature_record r = { 0 };

			feature_record_set(&r, (enum feature_variable)v, x);
			same_match(&r);
		}
	}
	same_match(&(struct feature_record){ 0 });
	for (int i = 0; i < 100000; i++) {
		struct feature_record r;

		random_bytes(&r, sizeof(r));
		for (int v = 0; v < FEATURE_RECORD_VARIABLES; v++)
			r.value[v] >>= r.value[v] & 63;
		same_match(&r);
	}
}

static bool matches(const struct feature_record *r, const char *name)
{
	struct feature_set set = { { 0 } };
	int i = feature_find(name, strlen(name));

	assert_true(i >= 0);
	features_match(r, &set);
	return feature_set_has(&set, (unsigned int)i);
}

/* Twenty packets are low and medium; a range without an end has none. */
static void test_both_ends(void **state)
{
	struct feature_record r = { 0 };

	(void)state;
	feature_record_set(&r, FEATURE_IN_PACKETS, 20);
	assert_true(matches(&r, "in_npackets_low"));
	assert_true(matches(&r, "in_npackets_medium"));
	feature_record_set(&r, FEATURE_IN_PACKETS, 3);
	assert_true(matches(&r, "in_npackets_low"));
	feature_record_set(&r, FEATURE_IN_PACKETS, 2);
	assert_false(matches(&r, "in_npackets_low"));
	feature_record_set(&r, FEATURE_OUT_BYTES, INT64_MAX);
	assert_true(matches(&r, "out_nbytes_veryhigh"));
	feature_record_set(&r, FEATURE_OUT_BYTES, 0);
	assert_true(matches(&r, "out_nbytes_verylow"));
	feature_record_set(&r, FEATURE_SRC_PORT, 1023);
	assert_true(matches(&r, "sport_reserved"));
	assert_false(matches(&r, "sport_notreserved"));
	feature_record_set(&r, FEATURE_SRC_PORT, 65536);
	assert_false(matches(&r, "sport_notreserved"));
}

static void test_no_other(void **state)
{
	struct feature_record r = { 0 };

	(void)state;
	assert_true(matches(&r, "protocol_other"));
	assert_true(matches(&r, "srctos_other"));
	feature_record_set(&r, FEATURE_PROTOCOL, 47);
	feature_record_set(&r, FEATURE_SRC_TOS, 192);
	assert_true(matches(&r, "protocol_other"));
	assert_false(matches(&r, "srctos_other"));
	feature_record_set(&r, FEATURE_PROTOCOL, 6);
	assert_false(matches(&r, "protocol_other"));
}

/* Flow records of another program, and the positions that it counted. */

struct golden {
	char *text, *flow, *want;
};

/* The next text in quotes at *at, cut out; NULL: a bracket ends the list. */
static char *next_string(char **at)
{
	char *s = strpbrk(*at, "\"]"), *end;

	if (!s || *s == ']')
		return NULL;
	end = strchr(s + 1, '"');
	*end = '\0';
	*at = end + 1;
	return s + 1;
}

static bool golden_open(struct golden *g)
{
	FILE *f = fopen(GOLDEN "faac_flows_60.json", "r");
	size_t n;

	if (!f)
		return false;
	g->text = calloc(1, 1 << 16);
	assert_non_null(g->text);
	n = fread(g->text, 1, (1 << 16) - 1, f);
	assert_true(n > 0);
	fclose(f);
	g->flow = strchr(strstr(g->text, "\"flows\""), '[') + 1;
	g->want = strchr(strstr(g->text, "\"nonzero_per_flow\""), '[') + 1;
	return true;
}

static enum feature_address golden_class(const char *addr)
{
	unsigned int a = 0, b = 0;

	assert_int_equal(sscanf(addr, "%u.%u.", &a, &b), 2);
	return a == 10 || (a == 172 && b / 16 == 1) || (a == 192 && b == 168)
		       ? FEATURE_PRIVATE
		       : FEATURE_PUBLIC;
}

static int64_t golden_proto(const char *name)
{
	static const struct {
		const char *name;
		int64_t proto;
	} protos[] = {
		{ "TCP", 6 }, { "UDP", 17 }, { "ICMP", 1 }, { "IGMP", 2 }
	};

	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		if (!strcmp(name, protos[i].name))
			return protos[i].proto;
	}
	return 255;
}

/* ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt,in,out */
static void golden_record(char *line, struct feature_record *r)
{
	static const enum feature_variable number[17] = {
		[5] = FEATURE_SRC_PORT,       [6] = FEATURE_DST_PORT,
		[10] = FEATURE_SRC_TOS,       [11] = FEATURE_IN_PACKETS,
		[12] = FEATURE_IN_BYTES,      [13] = FEATURE_OUT_PACKETS,
		[14] = FEATURE_OUT_BYTES,     [15] = FEATURE_IN_INTERFACE,
		[16] = FEATURE_OUT_INTERFACE,
	};
	static const char letters[] = "FSRPAU";
	int64_t flags = 0;
	char *cell;

	*r = (struct feature_record){ 0 };
	for (int i = 0; (cell = strsep(&line, ",")); i++) {
		if (i == 3 || i == 4)
			feature_record_set(
				r, i == 3 ? FEATURE_SRC_IP : FEATURE_DST_IP,
				golden_class(cell));
		else if (i == 7)
			feature_record_set(r, FEATURE_PROTOCOL,
					   golden_proto(cell));
		else if (number[i])
			feature_record_set(r, number[i],
					   strtoll(cell, NULL, 10));
		for (int l = 0; i == 8 && letters[l]; l++)
			flags |= strchr(cell, letters[l]) ? 1 << l : 0;
	}
	feature_record_set(r, FEATURE_TCP_FLAGS, flags);
}

static void test_golden_flows(void **state)
{
	struct golden g;
	char *line;
	int n = 0;

	(void)state;
	if (!golden_open(&g))
		skip();
	for (; (line = next_string(&g.flow)); n++) {
		struct feature_set got = { { 0 } }, want = { { 0 } };
		struct feature_record r;

		golden_record(line, &r);
		features_match(&r, &got);
		g.want = strchr(g.want, '[');
		while (*g.want != ']') {
			feature_set_add(&want,
					(unsigned int)strtoul(g.want + 1,
							      &g.want, 10));
			g.want += strspn(g.want, " \n");
		}
		assert_memory_equal(&got, &want, sizeof(got));
	}
	assert_int_equal(n, 60);
	free(g.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_both_ends),
		cmocka_unit_test(test_no_other),
		cmocka_unit_test(test_golden_flows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
