/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Towards the children.  Each child has one timer and at most one message on
 * its way:  hello (who are you? without our token) -> invite (our lease) ->
 * a beat every second.  Silence makes it suspect, then a try on a new
 * connection decides that it is down; a refused connection decides faster.
 * Beats go on and revive it.  Beside them the child's rows are fetched, and
 * members announced, when the hashes in beats differ.
 *
 * What a child says of its subtree is checked: rows hang together below it,
 * no id comes twice, ours does not come at all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/util.h"

#define CONNECT_MS   250
#define REFUSED_MS   250 /* pause before a refused child is tried again */
#define LATE_MS      250 /* our own timer: then nothing is concluded */
#define RETRY_MAX_MS 10000
#define CLOCK_AGE_MS 0.2 /* a second adds this to what is unsure */
#define SIDE_MS      2000
#define REPLY_MAX    (64 * 1024)
#define ROWS_REPLY   ((size_t)4 << 20)
#define MEMBERS_MAX  4096

void branch_start(struct branch *b, uint64_t delay_ms)
{
	loop_timer_in(b->o->agent->loop, &b->timer, delay_ms, branch_step, b);
}

static void beat_later(struct branch *b)
{
	/* +-5 %: agents that started together do not stay together */
	branch_start(b, BEAT_MS * 19 / 20 + random_u64() % (BEAT_MS / 10));
}

/* Not in the tree yet: from once a second to once in ten. */
static void retry_later(struct branch *b)
{
	b->retry_ms = b->retry_ms ? MIN(b->retry_ms * 5 / 4, RETRY_MAX_MS)
				  : BEAT_MS;
	branch_start(b, b->retry_ms * 3 / 4 + random_u64() % (b->retry_ms / 2));
}

static const char *name_of(const struct branch *b, char text[ENDPOINT_TEXT_LEN])
{
	endpoint_format(&b->pub.ep, 8000, text);
	return text;
}

static void set_state(struct branch *b, enum child_state s)
{
	char text[ENDPOINT_TEXT_LEN];

	if (b->pub.state == s)
		return;
	if (s == CHILD_UP || s == CHILD_DOWN)
		log_info("child %s is %s", name_of(b, text),
			 child_state_name(s));
	b->pub.state = s;
	b->o->dirty = true;
}

/* It does not want, or must not: not expected, tried again rarely. */
static void refused(struct branch *b, const char *why)
{
	char text[ENDPOINT_TEXT_LEN];

	if (strcmp(b->pub.refused, why) != 0)
		log_warnx("child %s refused: %s", name_of(b, text), why);
	snprintf(b->pub.refused, sizeof(b->pub.refused), "%s", why);
	b->invited = false;
	b->pub.state = CHILD_EXPECTED;
	b->o->dirty = true;
	if (b->adding) {
		struct overlay *o = b->o;

		adding_settle(b, why);
		branch_drop(b);
		overlay_save(o);
		return;
	}
	retry_later(b);
}

/* ---- messages ---- */

void put_path(struct json_out *out, const struct overlay *o)
{
	json_open(out, "path", '[');
	for (unsigned i = 0; i < o->n_path; i++)
		put_id(out, NULL, &o->path[i]);
	put_id(out, NULL, &o->self);
	json_close(out, ']');
}

static int send_body(struct branch *b, const char *path, struct buf *body,
		     bool bare, void (*done)(void *, const struct peer_reply *))
{
	char epoch[EPOCH_TEXT], epoch_line[EPOCH_TEXT + 24];
	char lease_line[EPOCH_TEXT + 24];
	struct peer_request rq = { .to = b->pub.ep,
				   .method = HTTP_POST,
				   .path = path,
				   .body = body->data,
				   .len = body->len,
				   .timeout_ms = BEAT_LIMIT_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX,
				   .fresh = b->fresh,
				   .bare = bare };

	overlay_epoch_text(b->o, epoch);
	snprintf(epoch_line, sizeof(epoch_line), "X-Linnet-Epoch: %s", epoch);
	snprintf(lease_line, sizeof(lease_line), "X-Linnet-Lease: %s",
		 b->pub.lease);
	rq.headers[0] = "X-Linnet-Api: 1.0";
	rq.headers[1] = epoch_line;
	rq.headers[2] = b->pub.lease[0] ? lease_line : NULL;
	b->sent_ms = clock_mono_ms();
	if (!body->failed)
		b->call = peer_start(b->o->agent->peers, &rq, done, b);
	buf_fini(body);
	return b->call ? 0 : -ENOMEM;
}

/* The object in a reply (caller frees), or NULL. */
static struct json *reply_object(const struct peer_reply *r)
{
	struct json *v = NULL;

	if (r->err || json_parse(r->body, r->len, &v))
		return NULL;
	if (json_type(v) == JSON_OBJECT)
		return v;
	json_free(v);
	return NULL;
}

/* Why the first messages failed; the child stays expected. */
static void not_yet(struct branch *b, const struct peer_reply *r)
{
	char text[ENDPOINT_TEXT_LEN];
	enum missing_reason why = r->err == -ETIMEDOUT ? MISSING_TIMEOUT
				  : r->err             ? MISSING_UNREACHABLE
				  : r->status == 401 || r->status == 403
					  ? MISSING_DENIED
					  : MISSING_INCOMPATIBLE;

	if (why != b->pub.why &&
	    (why == MISSING_DENIED || why == MISSING_INCOMPATIBLE))
		log_warnx("child %s: %s (HTTP %d)", name_of(b, text),
			  missing_reason_name(why), r->status);
	b->pub.why = why;
	if (b->pub.state != CHILD_DOWN)
		set_state(b, CHILD_EXPECTED);
	retry_later(b);
}

/* The word of a 409, "" if there is none. */
static void reason_of(const struct json *v, char out[32])
{
	const char *s;
	size_t len;

	out[0] = '\0';
	if (!json_str(json_get(v, "reason"), 31, &s, &len))
		snprintf(out, 32, "%s", s);
}

static bool in_path(const struct overlay *o, const struct node_id *id)
{
	for (unsigned i = 0; i < o->n_path; i++)
		if (node_id_equal(&o->path[i], id))
			return true;
	return false;
}

static const char *id_refused(const struct branch *b, const struct node_id *id)
{
	const struct overlay *o = b->o;

	if (node_id_equal(id, &o->self))
		return "this host itself";
	if (in_path(o, id))
		return "an ancestor";
	for (unsigned i = 0; i < o->n_children; i++)
		if (o->child[i] != b && o->child[i]->pub.last_seen_ms &&
		    node_id_equal(&o->child[i]->pub.id, id))
			return "a child already";
	return NULL;
}

/* It knows our token: else it gets none. */
static bool proof_right(const struct branch *b, const struct json *v,
			const struct node_id *id)
{
	uint8_t want[32], got[32];
	const char *s;
	size_t len;

	if (!overlay_proof(b->o, b->nonce, id, &b->pub.ep, want))
		return true;
	return !json_str(json_get(v, "proof"), 64, &s, &len) &&
	       !hex_decode(s, len, got, sizeof(got)) &&
	       equal_const_time(want, got, sizeof(got));
}

static void say_invite(struct branch *b);

static void hello_done(void *arg, const struct peer_reply *r)
{
	struct branch *b = arg;
	struct json *v = reply_object(r);
	const char *name, *why = NULL;
	struct node_id id;
	char word[32];
	size_t len;

	b->call = NULL;
	if (r->status == 409) {
		reason_of(v, word);
		refused(b, word[0] ? word : "refused");
		goto out;
	}
	if (r->status != 200 || get_id(json_get(v, "node_id"), &id) ||
	    json_str(json_get(v, "overlay"), 64, &name, &len)) {
		not_yet(b, r);
		goto out;
	}
	if (strcmp(name, b->o->agent->conf->overlay_name) != 0)
		why = "another overlay";
	else if (!proof_right(b, v, &id))
		why = "no proof of identity";
	else
		why = id_refused(b, &id);
	if (why) {
		refused(b, why);
		goto out;
	}
	if (!node_id_equal(&b->pub.id, &id)) {
		b->pub.id = id;
		b->pub.reported = false;
		b->n_rows = 0;
		b->rows_hash = 0;
		b->pub.rows_known = false;
		b->o->dirty = true;
	}
	say_invite(b);
out:
	json_free(v);
}

static void say_hello(struct branch *b)
{
	struct buf body = BUF_INIT;
	struct json_out o;
	char nonce[33];

	random_bytes(b->nonce, sizeof(b->nonce));
	hex_encode(b->nonce, sizeof(b->nonce), nonce);
	json_out_init(&o, &body);
	json_open(&o, NULL, '{');
	json_put_str(&o, "nonce", nonce);
	json_close(&o, '}');
	if (send_body(b, "/api/v1/peer/hello", &body, true, hello_done))
		retry_later(b);
}

static void put_address(struct json_out *o, const struct overlay *ov)
{
	char text[ENDPOINT_TEXT_LEN];
	struct endpoint ep;

	json_open(o, "addr", '[');
	if (overlay_address(ov, &ep)) {
		endpoint_format(&ep, 0, text);
		json_put_str(o, NULL, text);
	}
	json_close(o, ']');
	json_put_u64(o, "port", ov->agent->conf->port);
}

static void invite_done(void *arg, const struct peer_reply *r)
{
	struct branch *b = arg;
	struct json *v = reply_object(r);
	struct node_id id;
	char why[32];

	b->call = NULL;
	if (r->status == 409) {
		reason_of(v, why);
		refused(b, why[0] ? why : "refused");
	} else if (r->status != 200 || get_id(json_get(v, "node_id"), &id) ||
		   !node_id_equal(&id, &b->pub.id)) {
		not_yet(b, r);
	} else {
		b->invited = true;
		/* it passes on answers of hosts that we ask it for anew */
		b->rows_hash = 0;
		b->pub.rows_known = false;
		b->pub.refused[0] = '\0';
		b->retry_ms = 0;
		b->failures = 0;
		branch_start(b, 0);
	}
	json_free(v);
}

static void say_invite(struct branch *b)
{
	struct overlay *o = b->o;
	struct epoch lease = { o->incarnation, o->epoch.root, ++o->leases };
	struct buf body = BUF_INIT;
	struct json_out out;

	/* of our own, whoever the root is: the same parent never repeats it */
	lease.root = node_id_head(&o->self);
	epoch_format(&lease, b->pub.lease);
	json_out_init(&out, &body);
	json_open(&out, NULL, '{');
	json_put_str(&out, "overlay", o->agent->conf->overlay_name);
	put_path(&out, o);
	put_address(&out, o);
	json_close(&out, '}');
	if (send_body(b, "/api/v1/peer/invite", &body, false, invite_done))
		retry_later(b);
}

/* ---- beats ---- */

static void rows_fetch(struct branch *b, uint32_t offset);
static void members_tell(struct branch *b);

static void beat_failed(struct branch *b, const struct peer_reply *r)
{
	uint64_t took = clock_mono_ms() - b->sent_ms;
	bool no = r->err == -ECONNREFUSED;

	b->fresh = false;
	if (r->err == -ETIMEDOUT && took > BEAT_LIMIT_MS + LATE_MS) {
		branch_start(b, 0); /* we were not there ourselves */
		return;
	}
	b->failures++;
	b->pub.why = r->err == -ETIMEDOUT || !r->err ? MISSING_TIMEOUT
						     : MISSING_UNREACHABLE;
	if (b->failures >= 3 || (no && b->failures >= 2)) {
		set_state(b, CHILD_DOWN);
		beat_later(b);
		return;
	}
	if (b->pub.state == CHILD_UP)
		set_state(b, CHILD_SUSPECT);
	b->fresh = b->failures == 2;
	if (b->fresh)
		branch_start(b, 0);
	else if (no)
		branch_start(b, REFUSED_MS);
	else
		beat_later(b);
}

static void blocks_say(struct json_out *out, const struct agent *a)
{
	struct tree_block row[TREE_LEVELS_MAX];

	blocks_write(out, row, registry_blocks(a, row));
}

static void blocks_hear(struct branch *b, const struct json *v)
{
	struct tree_block row[TREE_LEVELS_MAX];
	unsigned n;

	if (!blocks_read(json_get(v, "blocks"), row, &n))
		registry_blocks_heard(b->o->agent, &b->pub.id, row, n);
}

/*
 * Four stamps: the offset is known to half of the time on the way.  A sample
 * that knows less is not taken, until the better one is too old.
 */
static void clock_sample(struct branch *b, const struct json *v)
{
	uint64_t t2, t3, t4 = clock_wall_ms();
	double offset, error;

	if (json_u64(json_get(v, "t2_ms"), 0, (uint64_t)1 << 48, &t2) ||
	    json_u64(json_get(v, "t3_ms"), t2, (uint64_t)1 << 48, &t3))
		return;
	offset = ((double)t2 - (double)b->t1_ms + (double)t3 - (double)t4) / 2;
	error = ((double)t4 - (double)b->t1_ms - (double)(t3 - t2)) / 2 + 1;
	b->error_ms += CLOCK_AGE_MS;
	if (error < 0 || (b->pub.last_seen_ms && error > b->error_ms))
		return;
	b->offset_ms = offset;
	b->error_ms = error;
}

static int beat_read(struct branch *b, const struct json *v)
{
	uint64_t inc, hosts, height, hash, members = 0;
	struct node_id id;

	if (get_id(json_get(v, "node_id"), &id) ||
	    json_u64(json_get(v, "incarnation"), 0, UINT64_MAX, &inc) ||
	    json_u64(json_get(v, "hosts"), 1, ROWS_MAX, &hosts) ||
	    json_u64(json_get(v, "height"), 0, OVERLAY_HOPS, &height) ||
	    get_hash(json_get(v, "rows_hash"), &hash))
		return -EINVAL;
	if (!node_id_equal(&id, &b->pub.id))
		return -ESTALE;
	get_hash(json_get(v, "members_hash"), &members);
	b->pub.incarnation = inc;
	b->pub.height = (uint32_t)height;
	b->rows_said = hash;
	b->members_said = members;
	b->pub.rows_known = b->n_rows && b->rows_hash == hash;
	b->pub.hosts = b->pub.rows_known ? b->n_rows : (uint32_t)hosts;
	return 0;
}

static void beat_done(void *arg, const struct peer_reply *r)
{
	struct branch *b = arg;
	struct json *v = reply_object(r);
	char why[32];

	b->call = NULL;
	if (r->status == 409) {
		reason_of(v, why);
		b->invited = false;
		if (strcmp(why, "moved") == 0)
			branch_start(b, 0);
		else
			refused(b, why[0] ? why : "refused");
		goto out;
	}
	if (r->status == 401 || r->status == 403) {
		b->invited = false;
		not_yet(b, r);
		goto out;
	}
	if (r->status != 200 || beat_read(b, v)) {
		if (r->status == 200)
			b->invited = false; /* another one answers there */
		beat_failed(b, r);
		goto out;
	}
	b->failures = 0;
	b->fresh = false;
	clock_sample(b, v);
	b->pub.last_seen_ms = clock_wall_ms();
	b->o->dirty = true;
	set_state(b, CHILD_UP);
	adding_settle(b, NULL);
	blocks_hear(b, v);
	if (!b->side && !b->pub.rows_known)
		rows_fetch(b, 0);
	if (!b->side && b->members_said != overlay_members_hash(b->o))
		members_tell(b);
	beat_later(b);
out:
	json_free(v);
}

static void say_beat(struct branch *b)
{
	struct overlay *o = b->o;
	struct buf body = BUF_INIT;
	struct json_out out;
	unsigned fleet;

	overlay_members(o, &fleet);
	json_out_init(&out, &body);
	json_open(&out, NULL, '{');
	json_put_u64(&out, "seq", ++b->seq);
	json_put_bool(&out, "rooted", true);
	put_path(&out, o);
	json_put_u64(&out, "fleet", fleet);
	blocks_say(&out, o->agent);
	put_hash(&out, "members_hash", overlay_members_hash(o));
	/* of its clock against the root's, as far as it was measured */
	json_open(&out, "offset_ms", '[');
	json_put_fixed(&out, NULL, o->offset_ms + b->offset_ms, 1);
	json_put_fixed(&out, NULL, o->error_ms + b->error_ms, 1);
	json_close(&out, ']');
	b->t1_ms = clock_wall_ms();
	json_put_u64(&out, "t1_ms", b->t1_ms);
	json_close(&out, '}');
	if (send_body(b, "/api/v1/peer/beat", &body, false, beat_done))
		beat_later(b);
}

void branch_step(void *arg)
{
	struct branch *b = arg;

	if (b->call)
		return; /* its answer arms the timer */
	if (b->invited)
		say_beat(b);
	else
		say_hello(b);
}

/* ---- rows of its subtree ---- */

static int row_parse(const struct json *v, struct row *out)
{
	uint64_t age = 0, now = clock_wall_ms();
	const char *s;
	size_t len;

	if (json_type(v) != JSON_ARRAY || json_len(v) != 6 ||
	    get_id(json_at(v, 0), &out->m.id) ||
	    get_id(json_at(v, 1), &out->m.parent) ||
	    json_str(json_at(v, 2), ENDPOINT_TEXT_LEN, &s, &len) ||
	    endpoint_parse(s, len, 8000, &out->m.ep) ||
	    json_u64(json_at(v, 3), 0, UINT64_MAX, &out->m.incarnation) ||
	    json_bool(json_at(v, 5), &out->up))
		return -EINVAL;
	if (json_type(json_at(v, 4)) != JSON_NULL &&
	    json_u64(json_at(v, 4), 0, now, &age))
		return -EINVAL;
	out->m.last_seen_ms = json_type(json_at(v, 4)) == JSON_NULL ? 0
								    : now - age;
	return 0;
}

/* Each row below one before it, no id above us, the child's own first. */
static bool rows_valid(const struct branch *b, const struct row *r, uint32_t n)
{
	struct node_id stack[OVERLAY_HOPS + 1];
	unsigned depth = 1;

	if (!n || !node_id_equal(&r[0].m.id, &b->pub.id))
		return false;
	stack[0] = r[0].m.id;
	for (uint32_t i = 1; i < n; i++) {
		enum addr_class k = addr_classify(&r[i].m.ep.addr);

		if ((k != ADDR_UNICAST && k != ADDR_LOOPBACK) ||
		    node_id_equal(&r[i].m.id, &b->o->self) ||
		    in_path(b->o, &r[i].m.id))
			return false;
		while (depth &&
		       !node_id_equal(&stack[depth - 1], &r[i].m.parent))
			depth--;
		if (!depth || depth > OVERLAY_HOPS)
			return false;
		for (unsigned k2 = 0; k2 < depth; k2++)
			if (node_id_equal(&stack[k2], &r[i].m.id))
				return false;
		stack[depth++] = r[i].m.id;
	}
	return true;
}

static void page_drop(struct branch *b)
{
	free(b->page);
	b->page = NULL;
	b->n_page = 0;
}

/* Adds a page; 0, or -errno. */
static int page_take(struct branch *b, const struct json *rows)
{
	size_t n = json_len(rows);
	struct row *p;

	if (json_type(rows) != JSON_ARRAY || n == 0 || n > ROWS_PAGE ||
	    b->n_page + n > ROWS_MAX)
		return -EINVAL;
	p = reallocarray(b->page, b->n_page + n, sizeof(*p));
	if (!p)
		return -ENOMEM;
	b->page = p;
	for (size_t i = 0; i < n; i++) {
		if (row_parse(json_at(rows, i), &p[b->n_page]))
			return -EINVAL;
		b->n_page++;
	}
	return 0;
}

static void rows_taken(struct branch *b, uint64_t hash)
{
	char text[ENDPOINT_TEXT_LEN];

	if (!rows_valid(b, b->page, b->n_page)) {
		log_warnx("child %s: rows that do not hang together below it",
			  name_of(b, text));
		page_drop(b);
		return;
	}
	free(b->rows);
	b->rows = b->page;
	b->n_rows = b->n_page;
	b->page = NULL;
	b->n_page = 0;
	b->rows_hash = hash;
	b->pub.rows_known = hash == b->rows_said;
	b->pub.hosts = b->n_rows;
	b->o->dirty = true;
}

static void rows_done(void *arg, const struct peer_reply *r)
{
	struct branch *b = arg;
	struct json *v = reply_object(r);
	uint64_t hash, next;

	b->side = NULL;
	if (r->status != 200 || get_hash(json_get(v, "rows_hash"), &hash) ||
	    json_u64(json_get(v, "next"), 0, ROWS_MAX, &next) ||
	    page_take(b, json_get(v, "rows")) || (next && next != b->n_page))
		page_drop(b);
	else if (next)
		rows_fetch(b, b->n_page);
	else
		rows_taken(b, hash);
	json_free(v);
}

static void rows_fetch(struct branch *b, uint32_t offset)
{
	char path[64];
	struct peer_request rq = { .to = b->pub.ep,
				   .method = HTTP_GET,
				   .path = path,
				   .timeout_ms = SIDE_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = ROWS_REPLY };

	if (!offset)
		page_drop(b);
	snprintf(path, sizeof(path), "/api/v1/peer/members?offset=%u", offset);
	b->side = peer_start(b->o->agent->peers, &rq, rows_done, b);
}

/* ---- members of the overlay, announced down ---- */

static void told(void *arg, const struct peer_reply *r)
{
	struct branch *b = arg;

	(void)r; /* its next beat says what it has */
	b->side = NULL;
}

static void members_tell(struct branch *b)
{
	struct peer_request rq = { .to = b->pub.ep,
				   .method = HTTP_PUT,
				   .path = "/api/v1/peer/members",
				   .timeout_ms = SIDE_MS,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX };
	char lease[EPOCH_TEXT + 24], text[ENDPOINT_TEXT_LEN];
	struct buf body = BUF_INIT;
	const struct host_row *m;
	struct json_out o;
	unsigned n;

	m = overlay_members(b->o, &n);
	if (n > MEMBERS_MAX)
		return; /* larger overlays ask upwards */
	json_out_init(&o, &body);
	json_open(&o, NULL, '{');
	put_hash(&o, "members_hash", overlay_members_hash(b->o));
	json_open(&o, "members", '[');
	for (unsigned i = 0; i < n; i++) {
		endpoint_format(&m[i].ep, 0, text);
		json_open(&o, NULL, '[');
		put_id(&o, NULL, &m[i].id);
		json_put_str(&o, NULL, text);
		json_close(&o, ']');
	}
	json_close(&o, ']');
	json_close(&o, '}');
	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s", b->pub.lease);
	rq.headers[0] = lease;
	rq.body = body.data;
	rq.len = body.len;
	if (!body.failed)
		b->side = peer_start(b->o->agent->peers, &rq, told, b);
	buf_fini(&body);
}
