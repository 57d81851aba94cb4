/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of request fields and their decoders. */
#include "agent/fields.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"

struct field_row {
	const char *name;
	const char *allowed;
	int (*decode)(struct fields *f, const char *s, size_t len);
};

static int word(const char *s, size_t len, const char *w)
{
	return len == strlen(w) && memcmp(s, w, len) == 0;
}

static int get_interface(struct fields *f, const char *s, size_t len)
{
	(void)len;
	if (strcasecmp(s, "INPUT") == 0)
		f->filter.dir = PACKET_IN;
	else if (strcasecmp(s, "OUTPUT") == 0)
		f->filter.dir = PACKET_OUT;
	else
		return -EINVAL;
	return 0;
}

static int get_proto(struct fields *f, const char *s, size_t len)
{
	if (word(s, len, "all"))
		return 0;
	return proto_parse(s, len, &f->filter.proto);
}

static int get_src(struct fields *f, const char *s, size_t len)
{
	f->filter.has_src = 1;
	return prefix_parse(s, len, &f->filter.src);
}

static int get_dst(struct fields *f, const char *s, size_t len)
{
	f->filter.has_dst = 1;
	return prefix_parse(s, len, &f->filter.dst);
}

static int get_sketch_id(struct fields *f, const char *s, size_t len)
{
	return parse_u64(s, len, 0, UINT64_MAX, &f->sketch_id);
}

static int get_key_type(struct fields *f, const char *s, size_t len)
{
	return key_type_parse(s, len, &f->key) || f->key == KEY_NONE ? -EINVAL
								     : 0;
}

static int get_counter_key(struct fields *f, const char *s, size_t len)
{
	if (len >= sizeof(f->counter_key))
		return -EINVAL;
	memcpy(f->counter_key, s, len + 1);
	return 0;
}

static int get_increment(struct fields *f, const char *s, size_t len)
{
	return increment_parse(s, len, &f->increment);
}

static int get_threshold(struct fields *f, const char *s, size_t len)
{
	return parse_real(s, len, 0, 1, &f->threshold);
}

static int get_base(struct fields *f, const char *s, size_t len)
{
	f->base_tree = word(s, len, "tree");
	return f->base_tree || word(s, len, "host") ? 0 : -EINVAL;
}

static int get_target(struct fields *f, const char *s, size_t len)
{
	(void)f;
	return word(s, len, "ACCEPT") ? 0 : -EINVAL;
}

static int get_agent(struct fields *f, const char *s, size_t len)
{
	return endpoint_parse(s, len, 8000, &f->agent);
}

static int get_probe_src(struct fields *f, const char *s, size_t len)
{
	return addr_parse(s, len, &f->probe_src);
}

static int get_probe_dst(struct fields *f, const char *s, size_t len)
{
	return addr_parse(s, len, &f->probe_dst);
}

static int get_duration(struct fields *f, const char *s, size_t len)
{
	return parse_real(s, len, 1, 10, &f->duration_s);
}

static int get_server_mode(struct fields *f, const char *s, size_t len)
{
	(void)f;
	return word(s, len, "tcp") || word(s, len, "udp") ? 0 : -EINVAL;
}

static int get_scope(struct fields *f, const char *s, size_t len)
{
	f->host_only = word(s, len, "host");
	return f->host_only || word(s, len, "tree") ? 0 : -EINVAL;
}

static int small_number(const char *s, size_t len, uint64_t max, uint32_t *out)
{
	uint64_t v;

	if (parse_u64(s, len, 1, max, &v))
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int get_n(struct fields *f, const char *s, size_t len)
{
	return small_number(s, len, 1024, &f->n);
}

static int get_limit(struct fields *f, const char *s, size_t len)
{
	return small_number(s, len, 1000, &f->limit);
}

static int get_cursor(struct fields *f, const char *s, size_t len)
{
	if (len >= sizeof(f->cursor))
		return -EINVAL;
	memcpy(f->cursor, s, len + 1);
	return 0;
}

static int get_timeout(struct fields *f, const char *s, size_t len)
{
	uint64_t ms;

	if (parse_duration(s, len, &ms) || ms < 50 || ms > 30000)
		return -EINVAL;
	f->timeout_ms = (uint32_t)ms;
	return 0;
}

static int get_require(struct fields *f, const char *s, size_t len)
{
	f->require_all = true;
	return word(s, len, "all") ? 0 : -EINVAL;
}

static int get_contributors(struct fields *f, const char *s, size_t len)
{
	f->contributors = true;
	return word(s, len, "children") ? 0 : -EINVAL;
}

static int get_flag(bool *out, const char *s, size_t len)
{
	*out = word(s, len, "1");
	return *out || word(s, len, "0") ? 0 : -EINVAL;
}

static int get_distinct(struct fields *f, const char *s, size_t len)
{
	return get_flag(&f->distinct, s, len);
}

static int get_verbose(struct fields *f, const char *s, size_t len)
{
	return get_flag(&f->verbose, s, len);
}

static int get_window(struct fields *f, const char *s, size_t len)
{
	f->window_ms = 0;
	return word(s, len, "last") ? 0 : time_parse(s, len, &f->window_ms);
}

/* What a parameter of MSNM takes is known to its row there. */
#define MSNM_FIELD(fn, id)                                         \
	static int fn(struct fields *f, const char *s, size_t len) \
	{                                                          \
		return msnm_conf_set(&f->msnm, id, s, len);        \
	}
MSNM_FIELD(get_msnm_enabled, MSNM_ENABLED)
MSNM_FIELD(get_msnm_window, MSNM_WINDOW)
MSNM_FIELD(get_msnm_blocks, MSNM_BLOCKS)
MSNM_FIELD(get_msnm_semantics, MSNM_SEMANTICS)
MSNM_FIELD(get_msnm_rows, MSNM_ROWS)
MSNM_FIELD(get_msnm_lv, MSNM_LV)
MSNM_FIELD(get_msnm_prep, MSNM_PREP)
MSNM_FIELD(get_msnm_alpha_q, MSNM_ALPHA_Q)
MSNM_FIELD(get_msnm_alpha_d, MSNM_ALPHA_D)
MSNM_FIELD(get_msnm_limits, MSNM_LIMITS)
MSNM_FIELD(get_msnm_clean, MSNM_CLEAN)
MSNM_FIELD(get_msnm_alarm, MSNM_ALARM)
MSNM_FIELD(get_msnm_missing, MSNM_MISSING)
MSNM_FIELD(get_msnm_max_imputed, MSNM_MAX_IMPUTED)
MSNM_FIELD(get_msnm_dynamic, MSNM_DYNAMIC)
MSNM_FIELD(get_msnm_batch, MSNM_BATCH)
MSNM_FIELD(get_msnm_half_life, MSNM_HALF_LIFE)
MSNM_FIELD(get_msnm_quarantine, MSNM_QUARANTINE)
MSNM_FIELD(get_msnm_children, MSNM_CHILDREN)

static int get_interval(struct fields *f, const char *s, size_t len)
{
	return parse_u64(s, len, 1, UINT64_C(1) << 40, &f->interval);
}

static int get_history(struct fields *f, const char *s, size_t len)
{
	return small_number(s, len, 1440, &f->history);
}

static int get_features(struct fields *f, const char *s, size_t len)
{
	return small_number(s, len, 50, &f->features);
}

static int get_flows(struct fields *f, const char *s, size_t len)
{
	return small_number(s, len, 200, &f->flows);
}

#define PROTO_ALLOWED "tcp, udp, icmp, icmpv6, sctp, all or 1..255"
#define PREFIX_ALLOWED \
	"IPv4 or IPv6 address or prefix A/n; src, dst and proto of one family"

static const struct field_row rows[] = {
	[F_INTERFACE] = { "interface", "INPUT or OUTPUT", get_interface },
	[F_PROTO] = { "proto", PROTO_ALLOWED, get_proto },
	[F_SRC] = { "src", PREFIX_ALLOWED, get_src },
	[F_DST] = { "dst", PREFIX_ALLOWED, get_dst },
	[F_SKETCH_ID] = { "sketch_id", "integer from 0", get_sketch_id },
	[F_KEY_TYPE] = { "counter_key_type", NULL, get_key_type },
	[F_COUNTER_KEY] = { "counter_key",
			    "a key of that type with addresses of one family, "
			    "key_num or real_time_key_num",
			    get_counter_key },
	[F_INCREMENT] = { "increment", "pkt, byte, bytes or segment",
			  get_increment },
	[F_THRESHOLD] = { "hitter_threshold", "real number 0..1",
			  get_threshold },
	[F_BASE] = { "hitter_base", "host or tree", get_base },
	[F_TARGET] = { "target", "ACCEPT", get_target },
	[F_AGENT] = { "agent_addr",
		      "IPv4 or IPv6 address, [v6]:port or v4:port", get_agent },
	[F_PROBE_SRC] = { "src", "IPv4 or IPv6 address of this agent",
			  get_probe_src },
	[F_PROBE_DST] = { "dst", "IPv4 or IPv6 address of a known peer",
			  get_probe_dst },
	[F_DURATION] = { "duration", "seconds 1..10", get_duration },
	[F_SERVER_MODE] = { "server_mode", "tcp or udp", get_server_mode },
	[F_SCOPE] = { "scope", "tree or host", get_scope },
	[F_N] = { "n", "1..1024", get_n },
	[F_SHARE] = { "threshold", "real number 0..1", get_threshold },
	[F_TREE_BASE] = { "base", "tree or host", get_base },
	[F_LIMIT] = { "limit", "1..1000", get_limit },
	[F_CURSOR] = { "cursor",
		       "meta.next_cursor of an answer, at most 60 s old",
		       get_cursor },
	[F_TIMEOUT] = { "timeout", "50ms..30s", get_timeout },
	[F_REQUIRE] = { "require", "all", get_require },
	[F_CONTRIBUTORS] = { "contributors", "children", get_contributors },
	[F_DISTINCT] = { "distinct", "0 or 1", get_distinct },
	[F_VERBOSE] = { "verbose", "0 or 1", get_verbose },
	[F_WINDOW] = { "window", "last, or a moment as 2026-01-31T23:59:59Z",
		       get_window },
	[F_MSNM_ENABLED] = { "enabled", "0 or 1", get_msnm_enabled },
	[F_MSNM_WINDOW] = { "window_s", "seconds 10..3600 that divide 86400",
			    get_msnm_window },
	[F_MSNM_BLOCKS] = { "blocks", "compat, host or compat+host",
			    get_msnm_blocks },
	[F_MSNM_SEMANTICS] = { "semantics", "packets/1 or netflow/1",
			       get_msnm_semantics },
	[F_MSNM_ROWS] = { "rows", "13..10080, at least 3 lv + 10",
			  get_msnm_rows },
	[F_MSNM_LV] = { "lv", "1..100 or auto", get_msnm_lv },
	[F_MSNM_PREP] = { "prep", "0, 1 or 2", get_msnm_prep },
	[F_MSNM_ALPHA_Q] = { "alpha_q", "real number 1e-9..0.5",
			     get_msnm_alpha_q },
	[F_MSNM_ALPHA_D] = { "alpha_d", "real number 1e-9..0.5",
			     get_msnm_alpha_d },
	[F_MSNM_LIMITS] = { "limits", "theory, empirical or max",
			    get_msnm_limits },
	[F_MSNM_CLEAN] = { "clean", "real number 0..0.5", get_msnm_clean },
	[F_MSNM_ALARM] = { "alarm",
			   "k:n:factor with 1 <= k <= n <= 64 and factor from 1",
			   get_msnm_alarm },
	[F_MSNM_MISSING] = { "missing", "tsr, average, zero or refuse",
			     get_msnm_missing },
	[F_MSNM_MAX_IMPUTED] = { "max_imputed", "real number 0..1",
				 get_msnm_max_imputed },
	[F_MSNM_DYNAMIC] = { "dynamic", "0 or 1", get_msnm_dynamic },
	[F_MSNM_BATCH] = { "batch", "3..1440, at least lv + 2",
			   get_msnm_batch },
	[F_MSNM_HALF_LIFE] = { "half_life_s", "seconds 60..31622400",
			       get_msnm_half_life },
	[F_MSNM_QUARANTINE] = { "quarantine", "real number 0..1000000, 0: off",
				get_msnm_quarantine },
	[F_MSNM_CHILDREN] = { "children", "0 or 1", get_msnm_children },
	[F_INTERVAL] = { "interval", "number of an interval", get_interval },
	[F_HISTORY] = { "history", "1..1440", get_history },
	[F_FEATURES] = { "features", "1..50", get_features },
	[F_FLOWS] = { "flows", "1..200", get_flows },
};
static_assert(ARRAY_SIZE(rows) == FIELDS, "a row for each field");
static_assert(FIELDS <= 64, "a bit for each field");
static_assert(F_INTERVAL - F_MSNM_ENABLED == MSNM_PARAMS, "a field for each");

const char *field_name(enum field_id id)
{
	return rows[id].name;
}

const char *field_allowed(enum field_id id)
{
	return rows[id].allowed ? rows[id].allowed : key_type_list();
}

static void field_bad(struct error *e, enum field_id id)
{
	error_add(e, ERR_VALUE, rows[id].name, field_allowed(id));
}

int fields_decode(const struct form *form, uint64_t takes, uint64_t needs,
		  struct fields *out, struct error *e)
{
	memset(out, 0, sizeof(*out));
	for (unsigned id = 0; id < FIELDS; id++) {
		uint64_t bit = UINT64_C(1) << id;
		const char *s;
		size_t len;

		if (!(takes & bit))
			continue;
		s = form_get(form, rows[id].name, &len);
		if (!s && (needs & bit))
			error_add(e, ERR_MISSING, rows[id].name, "");
		if (!s)
			continue;
		if (strlen(s) != len || rows[id].decode(out, s, len))
			field_bad(e, (enum field_id)id);
		out->set |= bit;
	}
	if (e->code == ERR_NONE && (takes & FIELDS_FILTER) &&
	    filter_normalize(&out->filter))
		field_bad(e, out->set & FIELD(DST) ? F_DST : F_SRC);
	return e->code == ERR_NONE ? 0 : -EINVAL;
}

const char *fields_unknown(const struct form *form, uint64_t takes)
{
	for (unsigned i = 0; i < form->n; i++) {
		bool known = false;

		for (unsigned id = 0; id < FIELDS && !known; id++)
			known = (takes & UINT64_C(1) << id) &&
				strcmp(form->pair[i].name, rows[id].name) == 0;
		if (!known)
			return form->pair[i].name;
	}
	return NULL;
}
