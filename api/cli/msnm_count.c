/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet msnm count: flow records, as an exporter of NetFlow wrote them, into
 * the counters of one row.  Amounts are taken as given, both ways.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/cli/cli.h"
#include "common/addr.h"
#include "common/features.h"
#include "common/json_out.h"
#include "common/util.h"

#define ROOM 1024

struct count {
	struct msnm_input in;
	size_t column[FEATURE_RECORD_VARIABLES]; /* by variable */
	uint64_t counter[FEATURES_COMPAT];
	struct feature_set *set; /* of each record, until a file is read */
	size_t n, room;
};

/* A cell -> the value of a variable; false: absent. */
typedef bool (*cell_fn)(const char *cell, int64_t *value);

static bool cell_integer(const char *s, int64_t *value)
{
	bool minus = *s == '-';
	uint64_t v = 0;

	s += minus || *s == '+';
	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > INT64_MAX / 16)
			return false;
	}
	*value = minus ? -(int64_t)v : (int64_t)v;
	return true;
}

/* IPv6 is in no class: exporters with these rules knew none. */
static bool cell_address(const char *s, int64_t *value)
{
	struct ip_addr a;
	const uint8_t *b = a.b + 12;

	if (addr_parse(s, strlen(s), &a) || !addr_is_v4(&a))
		return false;
	/* this network, loopback, from multicast on, link-local, shared */
	if (b[0] == 0 || b[0] == 127 || b[0] >= 224 ||
	    (b[0] == 169 && b[1] == 254) ||
	    (b[0] == 100 && (b[1] & 0xc0) == 64))
		return false;
	if (b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
	    (b[0] == 192 && b[1] == 168))
		*value = FEATURE_PRIVATE;
	else
		*value = FEATURE_PUBLIC;
	return true;
}

static bool cell_protocol(const char *s, int64_t *value)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {
		{ "TCP", IPPROTO_TCP },
		{ "UDP", IPPROTO_UDP },
		{ "ICMP", IPPROTO_ICMP },
		{ "IGMP", IPPROTO_IGMP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcasecmp(s, names[i].name) == 0) {
			*value = names[i].number;
			return true;
		}
	}
	return false;
}

static bool cell_flags(const char *s, int64_t *value)
{
	static const char letters[] = "FSRPAU"; /* as bits, from the lowest */

	*value = 0;
	for (; *s; s++) {
		const char *at = strchr(letters, *s);

		if (at)
			*value |= INT64_C(1) << (at - letters);
	}
	return true;
}

static const struct {
	const char *name;
	enum feature_variable variable;
	cell_fn take;
} columns[] = {
	{ "sa", FEATURE_SRC_IP, cell_address },
	{ "da", FEATURE_DST_IP, cell_address },
	{ "sp", FEATURE_SRC_PORT, cell_integer },
	{ "dp", FEATURE_DST_PORT, cell_integer },
	{ "pr", FEATURE_PROTOCOL, cell_protocol },
	{ "flg", FEATURE_TCP_FLAGS, cell_flags },
	{ "stos", FEATURE_SRC_TOS, cell_integer },
	{ "ipkt", FEATURE_IN_PACKETS, cell_integer },
	{ "ibyt", FEATURE_IN_BYTES, cell_integer },
	{ "opkt", FEATURE_OUT_PACKETS, cell_integer },
	{ "obyt", FEATURE_OUT_BYTES, cell_integer },
	{ "in", FEATURE_IN_INTERFACE, cell_integer },
	{ "out", FEATURE_OUT_INTERFACE, cell_integer },
};

static int find_columns(struct count *k)
{
	const struct csv *csv = &k->in.csv;

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		size_t at = 0;

		while (at < csv->n_columns &&
		       strcmp(csv->names[at], columns[i].name) != 0)
			at++;
		if (at == csv->n_columns) {
			complain("%s:%ju:%zu: there is no column %s",
				 k->in.name, (uintmax_t)csv->header_line,
				 at + 1, columns[i].name);
			return CLI_CONFIG;
		}
		k->column[i] = at;
	}
	return 0;
}

static void count_record(struct count *k, struct feature_set *set)
{
	struct feature_record record = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		int64_t value;

		if (columns[i].take(k->in.csv.cells[k->column[i]], &value))
			feature_record_set(&record, columns[i].variable, value);
	}
	*set = (struct feature_set){ 0 };
	features_match(&record, set);
	for (unsigned int i = 0; i < FEATURES_COMPAT; i++)
		k->counter[i] += feature_set_has(set, i);
}

static int print_record(uint64_t number, const struct feature_set *set,
			bool now)
{
	struct buf text = BUF_INIT;
	struct json_out o;
	int ret;

	json_out_init(&o, &text);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "record", number);
	json_open(&o, "nonzero", '[');
	for (unsigned int i = 0; i < FEATURES_COMPAT; i++)
		if (feature_set_has(set, i))
			json_put_u64(&o, NULL, i);
	json_close(&o, ']');
	json_close(&o, '}');
	buf_text(&text, "\n");
	ret = msnm_print(&text, now);
	buf_fini(&text);
	return ret;
}

static int print_sum(const struct count *k)
{
	struct buf text = BUF_INIT;
	struct json_out o;
	int ret;

	json_out_init(&o, &text);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "records", k->in.csv.n_rows);
	json_open(&o, "counters", '[');
	for (unsigned int i = 0; i < FEATURES_COMPAT; i++)
		json_put_u64(&o, NULL, k->counter[i]);
	json_close(&o, ']');
	json_close(&o, '}');
	buf_text(&text, "\n");
	ret = msnm_print(&text, true);
	buf_fini(&text);
	return ret;
}

/* Kept until the file is known to be good. */
static int keep(struct count *k, const struct feature_set *set)
{
	if (k->n == k->room) {
		size_t room = 2 * k->room + ROOM;
		struct feature_set *more =
			reallocarray(k->set, room, sizeof(*more));

		if (!more) {
			complain("out of memory");
			return CLI_FAILED;
		}
		k->set = more;
		k->room = room;
	}
	k->set[k->n++] = *set;
	return 0;
}

static int count_all(struct count *k)
{
	const bool each = k->in.c->opt.msnm.per_record;
	struct feature_set set;
	int ret = find_columns(k);

	while (!ret && !(ret = msnm_next_text(&k->in))) {
		count_record(k, &set);
		if (each && k->in.stream)
			ret = print_record(k->in.csv.n_rows - 1, &set, true);
		else if (each)
			ret = keep(k, &set);
	}
	if (ret != MSNM_END)
		return ret;
	ret = 0;
	for (size_t i = 0; i < k->n && !ret; i++)
		ret = print_record(i, &k->set[i], false);
	return ret ? ret : print_sum(k);
}

int verb_msnm_count(struct cli *c)
{
	struct count k = { 0 };
	int ret;

	if (msnm_need(c->opt.msnm.input, "--input"))
		return CLI_USAGE;
	signal(SIGPIPE, SIG_IGN);
	ret = msnm_open(&k.in, c, CSV_TEXT);
	if (!ret)
		ret = count_all(&k);
	msnm_close(&k.in);
	free(k.set);
	return ret;
}
