/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree laid out by a list of all hosts, one address a line, the same file
 * everywhere: line 0 is the root, children of line i are lines k*i + 1 to
 * k*i + k.  An agent proposes the hosts above its own line, nearest first, and
 * expects those below it; as a root, whichever line it is, all.  A file that
 * differs somewhere is told by its hash.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/member/member.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/util.h"

#define LIST_BYTES ((size_t)64 << 20)

struct member {
	struct endpoint *ep;
	size_t n, size, self;
	size_t fanout;
	uint64_t hash;
};

static int add(struct member *m, const struct endpoint *ep)
{
	size_t size = m->size ? 2 * m->size : 64;
	struct endpoint *p;

	if (m->n == TREE_MEMBERS)
		return -EINVAL;
	if (m->n == m->size) {
		p = reallocarray(m->ep, size, sizeof(*p));
		if (!p)
			return -ENOMEM;
		m->ep = p;
		m->size = size;
	}
	m->ep[m->n++] = *ep;
	return 0;
}

static int line_parse(struct member *m, const char *s, size_t len)
{
	const char *end = memchr(s, '#', len);
	struct endpoint ep;
	enum addr_class k;

	len = end ? (size_t)(end - s) : len;
	while (len && strchr(" \t\r", s[len - 1]))
		len--;
	while (len && strchr(" \t", s[0])) {
		s++;
		len--;
	}
	if (!len)
		return 0;
	if (endpoint_parse(s, len, 8000, &ep) || !ep.port)
		return -EINVAL;
	k = addr_classify(&ep.addr);
	return k == ADDR_UNICAST || k == ADDR_LOOPBACK ? add(m, &ep) : -EINVAL;
}

/* -EINVAL with the line's number, -ENOMEM. */
static int list_parse(struct member *m, const char *text, size_t len,
		      unsigned *line)
{
	int ret = 0;

	for (*line = 1; len && !ret; ++*line) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		ret = line_parse(m, text, n);
		if (ret)
			break;
		n += end ? 1 : 0;
		text += n;
		len -= n;
	}
	return ret;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct endpoint));
}

/* A host in two places would be two hosts. */
static bool has_double(const struct member *m)
{
	struct endpoint *sorted = calloc(m->n, sizeof(*sorted));
	bool found = false;

	if (!sorted)
		return true;
	for (size_t i = 0; i < m->n; i++) {
		sorted[i].addr = m->ep[i].addr; /* without padding */
		sorted[i].port = m->ep[i].port;
	}
	qsort(sorted, m->n, sizeof(*sorted), compare);
	for (size_t i = 1; i < m->n && !found; i++)
		found = !compare(&sorted[i - 1], &sorted[i]);
	free(sorted);
	return found;
}

/* Of the last line. */
static unsigned depth(const struct member *m)
{
	unsigned level = 0;

	for (size_t i = m->n - 1; i; i = (i - 1) / m->fanout)
		level++;
	return level;
}

static uint64_t list_hash(const struct member *m)
{
	const struct hash_key key = { { 6 } };
	uint64_t h = m->fanout;

	for (size_t i = 0; i < m->n; i++) {
		struct {
			uint64_t before;
			struct ip_addr addr;
			uint64_t port;
		} text = { h, m->ep[i].addr, m->ep[i].port };

		h = siphash24(&key, &text, sizeof(text));
	}
	return h;
}

static int load(struct member *m, const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	unsigned line = 0;
	struct stat st = { 0 };
	size_t n = 0;
	int ret;

	ret = !f ? -errno : fstat(fileno(f), &st) ? -errno : 0;
	if (!ret && (!S_ISREG(st.st_mode) || (size_t)st.st_size > LIST_BYTES))
		ret = -EINVAL;
	if (!ret && !(text = malloc((size_t)st.st_size + 1)))
		ret = -ENOMEM;
	if (!ret) {
		n = fread(text, 1, (size_t)st.st_size, f);
		ret = list_parse(m, text, n, &line);
	}
	if (ret == -EINVAL && line)
		log_errx("%s, line %u: must be ADDR or ADDR:PORT, at most %u "
			 "of them",
			 path, line, TREE_MEMBERS);
	else if (ret)
		log_write(LOG_LEVEL_ERR, -ret, "%s", path);
	if (f)
		fclose(f);
	free(text);
	return ret;
}

int static_open(struct member **out, const struct conf *c,
		bool (*is_self)(const struct conf *c,
				const struct endpoint *ep))
{
	struct member *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return -ENOMEM;
	m->fanout = c->fanout;
	ret = load(m, c->list_file);
	if (ret)
		goto out;
	while (m->self < m->n && !is_self(c, &m->ep[m->self]))
		m->self++;
	ret = -EINVAL;
	if (m->self == m->n)
		log_errx("%s: no line names this host and its port",
			 c->list_file);
	else if (has_double(m))
		log_errx("%s: a host is named twice", c->list_file);
	else if (depth(m) > TREE_LEVELS)
		log_errx("%s: %zu hosts are more than %u levels with a fanout "
			 "of %zu",
			 c->list_file, m->n, TREE_LEVELS, m->fanout);
	else
		ret = 0;
out:
	if (ret) {
		free(m->ep);
		free(m);
		return ret;
	}
	m->hash = list_hash(m);
	*out = m;
	return 0;
}

struct endpoint static_first(const struct member *m)
{
	return m->ep[0];
}

struct endpoint static_self(const struct member *m)
{
	return m->ep[m->self];
}

static int static_parents(struct member *m, struct endpoint *out, size_t max)
{
	size_t n = 0;

	for (size_t i = m->self; i && n < max;) {
		i = (i - 1) / m->fanout;
		out[n++] = m->ep[i];
	}
	return (int)n;
}

/* Level by level: what is below a row of lines is a row of lines. */
static int static_expected(struct member *m, bool below, struct endpoint *out,
			   size_t max)
{
	size_t first = m->self, last = m->self, n = 0;

	if (!below) {
		n = MIN(m->n, max);
		memcpy(out, m->ep, n * sizeof(*out));
		return (int)n;
	}
	for (;;) {
		first = first * m->fanout + 1;
		last = MIN(last * m->fanout + m->fanout, m->n - 1);
		if (first > last)
			return (int)n;
		for (size_t i = first; i <= last && n < max; i++)
			out[n++] = m->ep[i];
	}
}

static uint64_t static_hash(struct member *m)
{
	return m->hash;
}

static void static_close(struct member *m)
{
	if (!m)
		return;
	free(m->ep);
	free(m);
}

const struct member_ops member_static = {
	.name = "static",
	.parents = static_parents,
	.expected = static_expected,
	.hash = static_hash,
	.close = static_close,
};
