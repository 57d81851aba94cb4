/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree's messages as JSON: there and back, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/tree_json.h"
#include "agent/tree_value.h"
#include "common/util.h"

#define TEXT_MAX 16384

static struct node_id id_of(uint8_t n)
{
	struct node_id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static struct endpoint ep_of(uint8_t n)
{
	struct endpoint ep = { .port = (uint16_t)(8000 + n) };

	addr_from_v4(&ep.addr, (const uint8_t[]){ 10, 0, 0, n });
	return ep;
}

static void fill_mover(struct tree_mover *m)
{
	m->id = id_of(7);
	m->incarnation = 1795222860001;
	m->ep = ep_of(9);
	m->hosts = 5;
	m->height = 1;
	m->fleet = 9;
	m->descend = true;
	m->nonce = UINT64_MAX;
	m->seen = (struct epoch){ 7, 0x9f3c0d215b6e4a10, 50 };
	snprintf(m->rack, sizeof(m->rack), "r7");
	snprintf(m->overlay, sizeof(m->overlay), "linnet");
}

static void fill_beat(struct tree_msg *m)
{
	m->u.beat.seq = 812;
	m->u.beat.rooted = m->u.beat.drain = m->u.beat.down = true;
	m->u.beat.n_path = TREE_LEVELS_MAX;
	m->u.beat.n_blocks = 2;
	m->u.beat.n_uncles = TREE_UNCLES;
	m->u.beat.n_roots = 5;
	m->u.beat.fleet = 1024;
	for (uint8_t i = 0; i < TREE_LEVELS_MAX; i++) {
		m->u.beat.path[i] = id_of(i);
		if (i != 3)
			m->u.beat.up[i] = ep_of(i);
	}
	m->u.beat.blocks[0] = (struct tree_block){ .term = 7, .hash = 3 };
	m->u.beat.blocks[1] = (struct tree_block){ id_of(5), UINT64_MAX, 1, 2 };
	for (uint8_t i = 0; i < TREE_UNCLES; i++)
		m->u.beat.uncles[i] = (struct tree_peer){ id_of(i), ep_of(i) };
	for (uint8_t i = 0; i < 5; i++)
		m->u.beat.roots[i] = ep_of(i);
	m->u.beat.members_hash = 1;
	m->u.beat.list_hash = 2;
	m->u.beat.rows_most = 1u << 20;
	m->u.beat.offset_ms = -0.1;
	m->u.beat.error_ms = 1e-17;
	m->u.beat.t1_ms = 1795222860123;
}

static void fill_beaten(struct tree_msg *m)
{
	m->u.beaten.id = id_of(5);
	m->u.beaten.incarnation = 1795222801007;
	m->u.beaten.hosts = 1u << 20;
	m->u.beaten.height = 16;
	m->u.beaten.rows_hash = 0x8d1f;
	m->u.beaten.n_blocks = 1;
	m->u.beaten.blocks[0].index = 12;
	m->u.beaten.t2_ms = 1795222860124;
	m->u.beaten.t3_ms = 1795222860125;
	memcpy(m->u.beaten.version, "0.1.0", 6);
}

static void fill_granted(struct tree_msg *m)
{
	m->u.granted.granted = true;
	m->u.granted.lease = (struct epoch){ 7, 1, 53 };
	m->u.granted.nonce = 0xd3;
	m->u.granted.ttl_ms = 2000;
	m->u.granted.n_path = 2;
	m->u.granted.path[0] = id_of(9);
	m->u.granted.path[1] = id_of(5);
}

static void fill_request(struct tree_wire *w)
{
	struct tree_msg *m = &w->m;

	switch (m->kind) {
	case TREE_HELLO:
		w->has_nonce = true;
		memset(w->nonce, 0xab, sizeof(w->nonce));
		break;
	case TREE_INVITE:
		m->u.invite.id = id_of(1);
		m->u.invite.ep = ep_of(1);
		snprintf(m->u.invite.overlay, 65, "linnet");
		break;
	case TREE_JOIN:
		fill_mover(&m->u.join.mover);
		break;
	case TREE_GRANT:
		m->u.grant.act = TREE_GRANT_CONFIRM;
		fill_mover(&m->u.grant.mover);
		m->u.grant.acceptor = id_of(5);
		m->u.grant.grant = (struct epoch){ 1, 2, 3 };
		m->u.grant.level = 3;
		m->u.grant.n_via = TREE_VIA;
		for (uint8_t i = 0; i < TREE_VIA; i++)
			m->u.grant.via[i] = id_of(i);
		break;
	case TREE_BEAT:
		fill_beat(m);
		break;
	case TREE_PLEASE:
	case TREE_LEAVE:
		m->u.please.id = id_of(3);
		m->u.please.incarnation = 5;
		break;
	case TREE_ROWS:
		m->u.rows.offset = 4096;
		break;
	case TREE_ANNOUNCE:
	case TREE_KINDS:
		break;
	}
}

static void fill_reply(struct tree_wire *w)
{
	struct tree_msg *m = &w->m;

	switch (m->kind) {
	case TREE_HELLO:
		m->u.hello.id = id_of(1);
		m->u.hello.incarnation = 5;
		snprintf(m->u.hello.overlay, 65, "linnet");
		m->u.hello.root = m->u.hello.rooted = true;
		m->u.hello.leaving = true;
		m->u.hello.root_ep = ep_of(2);
		w->has_proof = true;
		memset(w->proof, 0xcd, sizeof(w->proof));
		break;
	case TREE_INVITE:
		m->u.invite.id = id_of(1);
		break;
	case TREE_JOIN:
		fill_granted(m);
		break;
	case TREE_GRANT:
		m->u.granted.n_try = TREE_TRIES;
		for (uint8_t i = 0; i < TREE_TRIES; i++)
			m->u.granted.try[i] =
				(struct tree_peer){ id_of(i), ep_of(i) };
		m->u.granted.root_ep = ep_of(2);
		break;
	case TREE_BEAT:
		fill_beaten(m);
		w->alarm_ms = 1795222861000;
		break;
	default:
		break;
	}
}

static const struct tree_row rows[] = {
	{ .id = { { 1 } }, .seen_ms = 9, .up = true, .incarnation = 3 },
	{ .id = { { 2 } },
	  .parent = { { 1 } },
	  .lease = { 1, 2, 3 },
	  .gone = true },
	{ .id = { { 3 } }, .parent = { { 1 } }, .gone = true, .with = true },
};
static const struct tree_peer peers[] = { { .id = { { 1 } } },
					  { .id = { { 2 } } },
					  { .id = { { 3 } } } };

/* Lists that messages borrow: addresses are no constants. */
static struct tree_row own_rows[ARRAY_SIZE(rows)];
static struct tree_peer own_peers[ARRAY_SIZE(peers)];

static void fill_lists(struct tree_msg *m, bool reply)
{
	memcpy(own_rows, rows, sizeof(rows));
	memcpy(own_peers, peers, sizeof(peers));
	for (uint8_t i = 0; i < ARRAY_SIZE(rows); i++)
		own_rows[i].ep = own_peers[i].ep = ep_of(i);
	if (m->kind == TREE_ROWS && reply) {
		m->u.rows.hash = 0xfe;
		m->u.rows.next = 3;
		m->u.rows.n = 3;
		m->u.rows.row = own_rows;
	} else if (m->kind == TREE_ANNOUNCE) {
		m->u.announce.hash = 0xfe;
		m->u.announce.n = 2;
		m->u.announce.peer = own_peers;
	}
}

static struct tree_wire sample(enum tree_kind kind, bool reply)
{
	struct tree_wire w;

	memset(&w, 0, sizeof(w));
	w.m.kind = kind;
	if (reply)
		fill_reply(&w);
	else
		fill_request(&w);
	fill_lists(&w.m, reply);
	return w;
}

static void write_text(const struct tree_wire *w, bool reply, char *out)
{
	struct buf b = BUF_INIT;

	tree_wire_write(w, reply, &b);
	assert_false(b.failed);
	assert_true(b.len < TEXT_MAX);
	memcpy(out, b.data, b.len + 1);
	buf_fini(&b);
}

static int read_text(enum tree_kind kind, bool reply, const char *text,
		     struct tree_wire *w)
{
	return tree_wire_read(kind, reply ? 200 : 0, text, strlen(text), w);
}

static bool borrows(enum tree_kind kind)
{
	return kind == TREE_ROWS || kind == TREE_ANNOUNCE;
}

static void check_round_trip(enum tree_kind kind, bool reply)
{
	struct tree_wire a = sample(kind, reply), b;
	static char first[TEXT_MAX], second[TEXT_MAX];

	a.m.epoch = (struct epoch){ 9, 8, 7 };
	a.m.lease = (struct epoch){ 9, 8, 6 };
	write_text(&a, reply, first);
	assert_int_equal(read_text(kind, reply, first, &b), 0);
	if (!reply) {
		assert_true(epoch_none(&b.m.epoch) && epoch_none(&b.m.lease));
		b.m.epoch = a.m.epoch;
		b.m.lease = a.m.lease;
	}
	write_text(&b, reply, second);
	assert_string_equal(first, second);
	if (!borrows(kind))
		assert_memory_equal(&a.m, &b.m, sizeof(a.m));
	assert_true(a.has_nonce == b.has_nonce && a.has_proof == b.has_proof);
	assert_int_equal(a.alarm_ms, b.alarm_ms);
	tree_wire_fini(&b);
}

static void test_round_trip(void **state)
{
	(void)state;
	for (int k = 0; k < TREE_KINDS; k++) {
		check_round_trip((enum tree_kind)k, false);
		check_round_trip((enum tree_kind)k, true);
	}
}

/* As long as it can be, it is taken. */
static void test_longest_beat(void **state)
{
	struct tree_wire w = { .m.kind = TREE_BEAT }, got;
	struct tree_msg *m = &w.m;
	struct endpoint ep = { .port = 65535 };
	struct tree_block block = { .term = UINT64_MAX,
				    .index = UINT64_MAX,
				    .hash = UINT64_MAX };
	struct buf b = BUF_INIT;

	(void)state;
	memset(ep.addr.b, 0x2f, sizeof(ep.addr.b));
	block.owner = id_of(0xff);
	m->u.beat.seq = UINT64_MAX;
	m->u.beat.drain = true;
	m->u.beat.fleet = 1u << 20;
	m->u.beat.rows_most = 1u << 20;
	m->u.beat.n_path = m->u.beat.n_blocks = TREE_LEVELS_MAX;
	for (unsigned i = 0; i < TREE_LEVELS_MAX; i++) {
		m->u.beat.path[i] = id_of(0xff);
		m->u.beat.up[i] = ep;
		m->u.beat.blocks[i] = block;
	}
	m->u.beat.n_uncles = TREE_UNCLES;
	for (unsigned i = 0; i < TREE_UNCLES; i++)
		m->u.beat.uncles[i] = (struct tree_peer){ id_of(0xff), ep };
	m->u.beat.n_roots = ARRAY_SIZE(m->u.beat.roots);
	for (unsigned i = 0; i < ARRAY_SIZE(m->u.beat.roots); i++)
		m->u.beat.roots[i] = ep;
	m->u.beat.members_hash = m->u.beat.list_hash = UINT64_MAX;
	m->u.beat.offset_ms = -1.2345678901234567e-300;
	m->u.beat.error_ms = 1.2345678901234567e-300;
	m->u.beat.t1_ms = TREE_TIME_MAX;
	tree_wire_write(&w, false, &b);
	assert_false(b.failed);
	assert_int_equal(tree_wire_read(TREE_BEAT, 0, b.data, b.len, &got), 0);
	assert_memory_equal(&got.m, m, sizeof(*m));
	assert_in_range(b.len, 1, TREE_BODY_MAX);
	tree_wire_fini(&got);
	buf_fini(&b);
}

static void test_refusals_travel(void **state)
{
	static char text[TEXT_MAX];
	struct tree_wire w, got;

	(void)state;
	for (int k = TREE_OK + 2; k < TREE_WORDS; k++) {
		memset(&w, 0, sizeof(w));
		w.m.word = (enum tree_word)k;
		w.m.epoch = (struct epoch){ 9, 8, 7 };
		write_text(&w, true, text);
		assert_int_equal(tree_wire_read(TREE_BEAT,
						tree_word_status(w.m.word),
						text, strlen(text), &got),
				 0);
		assert_int_equal(got.m.word, k);
		assert_memory_equal(&got.m.epoch, &w.m.epoch,
				    sizeof(w.m.epoch));
	}
	/* who it is that is not under this lease */
	memset(&w, 0, sizeof(w));
	w.m.kind = TREE_BEAT;
	w.m.word = TREE_MOVED;
	w.m.lease = (struct epoch){ 9, 8, 7 };
	w.m.u.beaten.id = id_of(3);
	w.m.u.beaten.incarnation = 5;
	write_text(&w, true, text);
	assert_int_equal(
		tree_wire_read(TREE_BEAT, 409, text, strlen(text), &got), 0);
	assert_memory_equal(&got.m, &w.m, sizeof(w.m));
	/* of something that is no agent of ours */
	assert_int_equal(tree_wire_read(TREE_BEAT, 401, "<html>", 6, &got), 0);
	assert_int_equal(got.m.word, TREE_DENIED);
	assert_int_equal(tree_wire_read(TREE_BEAT, 503, "", 0, &got), 0);
	assert_int_equal(got.m.word, TREE_BUSY);
	assert_int_equal(tree_wire_read(TREE_BEAT, 200, "<html>", 6, &got),
			 -EINVAL);
}

/* ---- every member of every message with values that it cannot have ---- */

static const char *value_end(const char *s)
{
	int depth = 0;

	for (bool text = false;; s++) {
		if (*s == '"' && s[-1] != '\\')
			text = !text;
		else if (!text && strchr("[{", *s))
			depth++;
		else if (!text && depth && strchr("]}", *s))
			depth--;
		else if (!text && !depth && strchr(",}]", *s))
			return s;
	}
}

/* text with the value at this place replaced; NULL: the member left out. */
static void replace(const char *text, const char *name_at, const char *value_at,
		    const char *with, char *out)
{
	const char *end = value_end(value_at);

	if (with) {
		snprintf(out, TEXT_MAX, "%.*s%s%s", (int)(value_at - text),
			 text, with, end);
		return;
	}
	if (*end == ',')
		end += 2;
	else if (name_at[-1] == ' ')
		name_at -= 2;
	snprintf(out, TEXT_MAX, "%.*s%s", (int)(name_at - text), text, end);
}

static bool fits(enum tree_kind kind, bool reply, const char *text)
{
	struct tree_wire w;
	int ret = read_text(kind, reply, text, &w);

	assert_true(ret == 0 || ret == -EINVAL);
	if (!ret)
		tree_wire_fini(&w);
	return !ret;
}

/* What may stand for this value besides: the one that is there said so. */
static bool same_type(const char *was, const char *bad)
{
	return (*was == '[' && strcmp(bad, "[]") == 0) ||
	       ((*was == 't' || *was == 'f') && strcmp(bad, "true") == 0) ||
	       (*was >= '0' && *was <= '9' && strcmp(bad, "1") == 0);
}

static void check_member(enum tree_kind kind, bool reply, const char *text,
			 const char *name_at)
{
	static const char *const bad[] = {

		"true",
		"1",
		"-1",
		"1.5",
		"1e300",
		"18446744073709551616",
		"\"\"",
		"\"\\u0000\"",
		"\"zz\"",
		"[]",
		"[[]]",
		"[null]",
		"[1]",
		"{}",
		"{\"x\": 1}",
		("\"0123456789012345678901234567890123456789012345678901234567"
		 "89012345678901234567890123456789\""),
	};
	const char *value_at = strchr(name_at, ':') + 2;
	static char changed[TEXT_MAX];
	bool absent;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		bool name = strncmp(name_at, "\"overlay", 8) == 0 ||
			    strncmp(name_at, "\"rack", 5) == 0 ||
			    strncmp(name_at, "\"version", 8) == 0;

		if (same_type(value_at, bad[i]) ||
		    (name && (strcmp(bad[i], "\"\"") == 0 ||
			      strcmp(bad[i], "\"zz\"") == 0)))
			continue;
		replace(text, name_at, value_at, bad[i], changed);
		if (fits(kind, reply, changed))
			fail_msg("taken: %s", changed);
	}
	replace(text, name_at, value_at, NULL, changed);
	absent = fits(kind, reply, changed);
	replace(text, name_at, value_at, "null", changed);
	assert_true(fits(kind, reply, changed) == absent);
}

static void check_malformed(enum tree_kind kind, bool reply)
{
	struct tree_wire w = sample(kind, reply);
	static char text[TEXT_MAX], more[2 * TEXT_MAX + 32];

	write_text(&w, reply, text);
	for (const char *s = text; (s = strstr(s, "\": ")); s++) {
		const char *name = s;

		while (name[-1] != '"')
			name--;
		check_member(kind, reply, text, name - 1);
	}
	/* twice, cut, nothing, another type, and what a newer agent adds */
	if (strlen(text) > 2) {
		snprintf(more, sizeof(more), "{%.*s, %s",
			 (int)(strlen(text) - 2), text + 1, text + 1);
		assert_false(fits(kind, reply, more));
		snprintf(more, sizeof(more), "{\"newer\": [{}], %s", text + 1);
		assert_true(fits(kind, reply, more));
	}
	for (size_t n = 0; n < strlen(text); n++) {
		snprintf(more, sizeof(more), "%.*s", (int)n, text);
		assert_false(fits(kind, reply, more));
	}
	assert_false(fits(kind, reply, "[]"));
	assert_false(fits(kind, reply, "null"));
}

static void test_malformed(void **state)
{
	(void)state;
	for (int k = 0; k < TREE_KINDS; k++) {
		check_malformed((enum tree_kind)k, false);
		check_malformed((enum tree_kind)k, true);
	}
}

/* The same value with another number, list or address. */
static void check_text(enum tree_kind kind, bool reply, const char *was,
		       const char *with, bool fine)
{
	static char text[TEXT_MAX], changed[TEXT_MAX];
	struct tree_wire w = sample(kind, reply);
	const char *at;

	write_text(&w, reply, text);
	at = strstr(text, was);
	assert_non_null(at);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text,
		 with, at + strlen(was));
	if (fits(kind, reply, changed) != fine)
		fail_msg("%s: %s", fine ? "refused" : "taken", changed);
}

static void test_bounds(void **state)
{
	static const char *const addresses[] = {
		"0.0.0.0:8000",   "255.255.255.255:1",
		"224.0.0.1:1",    "169.254.169.254:80",
		"[fe80::1]:1",    "[ff02::1]:1",
		"[::]:1",         "10.0.0.1:0",
		"10.0.0.1:65536", "host:1",
		"2852039166:1",   "0xa9fea9fe:1",
		"010.0.0.1:1",    ":0",
		":99999",         ":x",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++)
		check_text(TREE_JOIN, false, "10.0.0.9:8009", addresses[i],
			   false);
	check_text(TREE_JOIN, false, "10.0.0.9:8009", ":8009", true);
	check_text(TREE_JOIN, false, "10.0.0.9:8009", "[2001:db8::1]:1", true);
	check_text(TREE_JOIN, false, "10.0.0.9:8009", "127.0.0.1:1", true);
	check_text(TREE_JOIN, false, "\"hosts\": 5", "\"hosts\": 0", false);
	check_text(TREE_JOIN, false, "\"hosts\": 5", "\"hosts\": 1048577",
		   false);
	check_text(TREE_JOIN, false, "\"height\": 1", "\"height\": 17", false);
	check_text(TREE_JOIN, false, "\"linnet\"", "\"lin net\"", false);
	check_text(TREE_JOIN, false, "7.9f3c0d215b6e4a10.50", "7.9f3c.50",
		   false);
	check_text(TREE_GRANT, false, "\"confirm\"", "\"other\"", false);
	check_text(TREE_GRANT, false, "\"via\": [",
		   "\"via\": [\"00000000000000000000000000000000\", ", false);
	check_text(TREE_BEAT, false, "\"path\": [",
		   "\"path\": [\"00000000000000000000000000000000\", ", false);
	check_text(TREE_BEAT, false, "\"up\": [", "\"up\": [null, ", false);
	check_text(TREE_BEAT, false, "\"root\"", "\"boot\"", false);
	check_text(TREE_BEAT, true, "\"height\": 16", "\"height\": 17", false);
	check_text(TREE_JOIN, true, "\"ttl_ms\": 2000", "\"ttl_ms\": 60001",
		   false);
	check_text(TREE_ROWS, true, "9, true]", "9, 1]", false);
	check_text(TREE_ROWS, true, "9, true]", "9, true, 1]", false);
	check_text(TREE_ROWS, true, "9, true]", "9, true, false, 1]", false);
	check_text(TREE_ROWS, true, "9, true]",
		   "9, true, false, false, \"newer\"]", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_longest_beat),
		cmocka_unit_test(test_refusals_travel),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
