/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text of our rules.  Per direction a chain of our own in table mangle: it
 * returns what must never wait (lo, established SSH, the agent's port), then
 * hands the filters' packets to the queue, by a target that lets them pass
 * when nobody reads it.  A jump, appended to the built-in chain, leads there.
 *
 * A change is one input of the restore tool, so that the kernel takes all of
 * it or nothing; naming an existing chain empties it.  Removal is computed
 * from what was read back: deleting what is gone would fail the whole input.
 * Nothing outside our chains and their jumps is ever written.
 *
 * All text is made from numbers, checked instance names and fixed words, with
 * one exception: a jump is deleted by the line that the save tool printed.
 */
#include "monitor/ruleset.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

static const struct {
	const char *name, *builtin, *lo;
} dirs[PACKET_DIRS] = {
	[PACKET_IN] = { "in", "INPUT", "-i lo" },
	[PACKET_OUT] = { "out", "OUTPUT", "-o lo" },
};

/* Names that the tools print whatever /etc/protocols says; others: numbers. */
static const struct {
	uint8_t proto;
	const char *name;
} protos[] = {
	{ IPPROTO_TCP, "tcp" },   { IPPROTO_UDP, "udp" },
	{ IPPROTO_ICMP, "icmp" }, { IPPROTO_ICMPV6, "ipv6-icmp" },
	{ IPPROTO_SCTP, "sctp" }, { IPPROTO_UDPLITE, "udplite" },
	{ IPPROTO_ESP, "esp" },   { IPPROTO_AH, "ah" },
};

__attribute__((format(printf, 2, 3))) static void
text_add(struct ruleset_text *t, const char *fmt, ...)
{
	size_t room = sizeof(t->s) - t->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	/* the analyzer loses sight of ap in functions that it inlines */
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
	n = vsnprintf(t->s + t->len, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		t->cut = true;
	else
		t->len += (size_t)n;
}

static bool in_family(const struct filter *f, enum ruleset_family family)
{
	return !f->family || f->family == (family == RULESET_IP4 ? 4 : 6);
}

static uint32_t count_family(const struct ruleset *r, enum ruleset_family fam)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n; i++)
		n += in_family(&r->filter[i], fam);
	return n;
}

/* Rules for one direction in one family? */
static bool wants(const struct ruleset *r, enum ruleset_family family,
		  enum packet_dir dir)
{
	for (uint32_t i = 0; i < r->n; i++) {
		if (r->filter[i].dir == dir && in_family(&r->filter[i], family))
			return true;
	}
	return false;
}

bool ruleset_uses(const struct ruleset *r, enum packet_dir dir)
{
	return wants(r, RULESET_IP4, dir) || wants(r, RULESET_IP6, dir);
}

static bool covered(const struct filter *f, size_t n, size_t i)
{
	for (size_t k = 0; k < n; k++) {
		if (k == i || !filter_covers(&f[k], &f[i]))
			continue;
		/* of equal ones the first stays */
		if (k < i || !filter_covers(&f[i], &f[k]))
			return true;
	}
	return false;
}

void ruleset_reduce(struct ruleset *out, const struct filter *f, size_t n)
{
	bool used[PACKET_DIRS];

	assert(n <= RULESET_FILTERS);
	out->n = 0;
	for (size_t i = 0; i < n; i++) {
		if (!covered(f, n, i))
			out->filter[out->n++] = f[i];
	}
	if (count_family(out, RULESET_IP4) <= RULESET_MAX &&
	    count_family(out, RULESET_IP6) <= RULESET_MAX)
		return;
	for (int d = 0; d < PACKET_DIRS; d++)
		used[d] = ruleset_uses(out, (enum packet_dir)d);
	out->n = 0;
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (used[d])
			out->filter[out->n++] =
				(struct filter){ .dir = (uint8_t)d };
	}
}

/* Printing */

static void print_prefix(struct ruleset_text *t, const char *flag,
			 const struct ip_prefix *p)
{
	unsigned int len = addr_is_v4(&p->addr) ? p->len - 96u : p->len;
	char addr[ADDR_TEXT_LEN];

	if (len == 0)
		return;
	addr_format(&p->addr, addr);
	text_add(t, " %s %s/%u", flag, addr, len);
}

static void print_proto(struct ruleset_text *t, uint8_t proto)
{
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		if (protos[i].proto == proto) {
			text_add(t, " -p %s", protos[i].name);
			return;
		}
	}
	if (proto)
		text_add(t, " -p %u", proto);
}

static void print_capture(struct ruleset_text *t, const struct ruleset_names *n,
			  const struct filter *f)
{
	const char *dir = dirs[f->dir].name;

	text_add(t, "-A linnet-%s-%s", n->instance, dir);
	if (f->has_src)
		print_prefix(t, "-s", &f->src);
	if (f->has_dst)
		print_prefix(t, "-d", &f->dst);
	print_proto(t, f->proto);
	text_add(t, " -m nfacct --nfacct-name linnet-%s-%s -j NFQUEUE",
		 n->instance, dir);
	if (n->queues > 1)
		text_add(t, " --queue-balance %u:%u", n->queue_first,
			 n->queue_first + n->queues - 1u);
	else
		text_add(t, " --queue-num %u", n->queue_first);
	text_add(t, " --queue-bypass\n");
}

/*
 * What never waits for a reader.  The chain's comment stands in the first rule,
 * behind the match of lo: elsewhere each packet would pay for it.
 */
static void print_returns(struct ruleset_text *t, const struct ruleset_names *n,
			  enum packet_dir dir)
{
	static const char *const ends[] = { "--sport", "--dport" };
	static const char *const agent_protos[] = { "tcp", "udp" };
	char chain[40];

	snprintf(chain, sizeof(chain), "linnet-%s-%s", n->instance,
		 dirs[dir].name);
	text_add(t, "-A %s %s -m comment --comment linnet:%s -j RETURN\n",
		 chain, dirs[dir].lo, n->instance);
	for (int e = 0; e < 2; e++)
		text_add(t,
			 "-A %s -p tcp -m tcp %s %u"
			 " ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n",
			 chain, ends[e], n->management_port);
	for (int p = 0; p < 2; p++) {
		for (int e = 0; e < 2; e++)
			text_add(t, "-A %s -p %s -m %s %s %u -j RETURN\n",
				 chain, agent_protos[p], agent_protos[p],
				 ends[e], n->agent_port);
	}
}

static void print_body(struct ruleset_text *t, const struct ruleset_names *n,
		       const struct ruleset *r, enum ruleset_family family)
{
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (!wants(r, family, (enum packet_dir)d))
			continue;
		print_returns(t, n, (enum packet_dir)d);
		for (uint32_t i = 0; i < r->n; i++) {
			if (r->filter[i].dir == d &&
			    in_family(&r->filter[i], family))
				print_capture(t, n, &r->filter[i]);
		}
	}
}

static void print_jump(struct ruleset_text *t, const struct ruleset_names *n,
		       enum packet_dir dir)
{
	text_add(t, "-A %s -j linnet-%s-%s\n", dirs[dir].builtin, n->instance,
		 dirs[dir].name);
}

void ruleset_print(struct ruleset_text *out, const struct ruleset_seen *seen,
		   const struct ruleset_names *names, const struct ruleset *r,
		   enum ruleset_family family)
{
	bool want[PACKET_DIRS], have[PACKET_DIRS] = { false };

	*out = (struct ruleset_text){ 0 };
	text_add(out, "*mangle\n");
	for (int d = 0; d < PACKET_DIRS; d++) {
		want[d] = wants(r, family, (enum packet_dir)d);
		if (want[d])
			text_add(out, ":linnet-%s-%s - [0:0]\n",
				 names->instance, dirs[d].name);
	}
	for (uint32_t i = 0; i < seen->jumps; i++) {
		enum packet_dir d = seen->jump[i].dir;

		if (want[d] && seen->jump[i].plain && !have[d])
			have[d] = true;
		else
			text_add(out, "-D%s\n", seen->jump[i].line + 2);
	}
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (!want[d] && seen->chain[d])
			text_add(out, "-F linnet-%s-%s\n-X linnet-%s-%s\n",
				 names->instance, dirs[d].name, names->instance,
				 dirs[d].name);
	}
	print_body(out, names, r, family);
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (want[d] && !have[d])
			print_jump(out, names, (enum packet_dir)d);
	}
	text_add(out, "COMMIT\n");
}

/* Reading */

/* One blank between words, no quotes: the form that we print. */
static size_t line_normalize(char *out, size_t size, const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < size; i++) {
		bool blank = s[i] == ' ';

		if (s[i] == '"' || (blank && (n == 0 || out[n - 1] == ' ')))
			continue;
		out[n++] = s[i];
	}
	if (n > 0 && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
	return n;
}

static bool has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool has_suffix(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);

	return len >= n && strcmp(s + len - n, suffix) == 0;
}

static void parse_jump(struct ruleset_seen *out,
		       const struct ruleset_names *names, enum packet_dir dir,
		       const char *raw, size_t raw_len, const char *line)
{
	struct ruleset_text plain = { 0 };
	uint32_t i = out->jumps;

	if (i == RULESET_JUMPS || raw_len >= sizeof(out->jump[i].line))
		return;
	print_jump(&plain, names, dir);
	out->jump[i].dir = dir;
	out->jump[i].plain = strlen(line) + 1 == plain.len &&
			     has_prefix(plain.s, line);
	memcpy(out->jump[i].line, raw, raw_len);
	out->jump[i].line[raw_len] = '\0';
	out->jumps++;
}

/* Ends with what stands in quotes: a comment, not the target. */
static bool ends_quoted(const char *s, size_t len)
{
	while (len > 0 && s[len - 1] == ' ')
		len--;
	return len > 0 && s[len - 1] == '"';
}

static void parse_line(struct ruleset_seen *out,
		       const struct ruleset_names *names, const char *raw,
		       size_t raw_len)
{
	char line[640], ours[64];

	line_normalize(line, sizeof(line), raw, raw_len);
	for (int d = 0; d < PACKET_DIRS; d++) {
		snprintf(ours, sizeof(ours), ":linnet-%s-%s ", names->instance,
			 dirs[d].name);
		if (has_prefix(line, ours))
			out->chain[d] = true;
		snprintf(ours, sizeof(ours), "-A linnet-%s-%s ",
			 names->instance, dirs[d].name);
		if (has_prefix(line, ours)) {
			text_add(&out->body, "%s\n", line);
			return;
		}
		snprintf(ours, sizeof(ours), " -j linnet-%s-%s",
			 names->instance, dirs[d].name);
		if (has_prefix(line, "-A ") && has_suffix(line, ours) &&
		    !ends_quoted(raw, raw_len))
			parse_jump(out, names, (enum packet_dir)d, raw, raw_len,
				   line);
	}
}

void ruleset_parse(struct ruleset_seen *out, const struct ruleset_names *names,
		   const char *save, size_t len)
{
	*out = (struct ruleset_seen){ 0 };
	while (len > 0) {
		const char *end = memchr(save, '\n', len);
		size_t n = end ? (size_t)(end - save) : len;

		parse_line(out, names, save, n);
		save += n;
		len -= n;
		if (len > 0) {
			save++;
			len--;
		}
	}
}

static const char *next_word(const char **s, size_t *len)
{
	const char *word = *s;

	*len = strcspn(word, " \n");
	*s = word + *len + (word[*len] != '\0');
	return word;
}

/* Equal word by word; a protocol's number may come back as a name. */
static bool same_text(const char *want, const char *seen)
{
	bool proto = false;

	while (*want && *seen) {
		size_t a_len, b_len;
		const char *a = next_word(&want, &a_len);
		const char *b = next_word(&seen, &b_len);
		bool number = strspn(a, "0123456789") == a_len;

		if (a[a_len] != b[b_len])
			return false;
		if (!(proto && number) &&
		    (a_len != b_len || memcmp(a, b, a_len) != 0))
			return false;
		proto = a_len == 2 && memcmp(a, "-p", 2) == 0;
	}
	return !*want && !*seen;
}

bool ruleset_matches(const struct ruleset_seen *seen,
		     const struct ruleset_names *names, const struct ruleset *r,
		     enum ruleset_family family)
{
	struct ruleset_text want = { 0 };
	uint32_t jumps[PACKET_DIRS] = { 0 };

	for (uint32_t i = 0; i < seen->jumps; i++) {
		if (!seen->jump[i].plain)
			return false;
		jumps[seen->jump[i].dir]++;
	}
	for (int d = 0; d < PACKET_DIRS; d++) {
		bool w = wants(r, family, (enum packet_dir)d);

		if (seen->chain[d] != w || jumps[d] != w)
			return false;
	}
	print_body(&want, names, r, family);
	return !want.cut && !seen->body.cut && same_text(want.s, seen->body.s);
}
