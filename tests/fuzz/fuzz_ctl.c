/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F1: datagrams of a hostile agent to the control socket, on live state: the
 * parser, the task table, and the rules that the tasks would give, printed and
 * read back.
 *
 * Input: up to 21 datagrams.  Each begins with a byte: above 127, the next byte
 * is a length and the bytes are the datagram; else a whole request is made of
 * what follows, its type is the byte modulo 8.
 */
#include "monitor/control.c"

#include <stdlib.h>

#include "monitor/ruleset.h"
#include "monitor/tasks.h"

#define DATAGRAMS  21
#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct control control;
	struct task_table tasks;
	struct ruleset_seen seen[RULESET_FAMILIES]; /* "in the kernel" */
	int fd; /* the agent's end; -1: the monitor hung up */
	uint32_t answered;
};

static const struct ruleset_names names = {
	.instance = "fuzz",
	.queue_first = 65535,
	.queues = 1,
	.agent_port = 8000,
	.management_port = 22,
};

static void check_tasks(const struct task_table *t)
{
	uint64_t memory = 0;

	MUST(t->n <= TASKS_MAX);
	for (uint32_t i = 0; i < t->n; i++) {
		MUST(task_valid(&t->entry[i].spec));
		memory += t->entry[i].memory;
		for (uint32_t k = 0; k < i; k++)
			MUST(t->entry[i].spec.id != t->entry[k].spec.id);
	}
	MUST(memory == t->memory_used && memory <= TASKS_MEMORY);
}

/* Every task's filter is covered by a rule that the kernel would have. */
static void check_rules(struct world *w)
{
	static struct ruleset_text text;
	struct filter filter[RULESET_FILTERS];
	size_t n = tasks_filters(&w->tasks, filter);
	struct ruleset r;

	ruleset_reduce(&r, filter, n);
	for (size_t i = 0; i < n; i++) {
		bool covered = false;

		for (uint32_t k = 0; k < r.n; k++)
			covered = covered ||
				  filter_covers(&r.filter[k], &filter[i]);
		MUST(covered);
	}
	for (int f = 0; f < RULESET_FAMILIES; f++) {
		struct ruleset_seen none = { 0 };
		enum ruleset_family family = (enum ruleset_family)f;

		/* the change itself, then the rules as a whole */
		ruleset_print(&text, &w->seen[f], &names, &r, family);
		MUST(!text.cut);
		ruleset_print(&text, &none, &names, &r, family);
		MUST(!text.cut);
		ruleset_parse(&w->seen[f], &names, text.s, text.len);
		MUST(ruleset_matches(&w->seen[f], &names, &r, family));
	}
}

static void fuzz_request(void *arg, struct control_client *c,
			 union control_message *m)
{
	struct world *w = arg;
	int status = 0;

	MUST(c->busy);
	m->head.len = sizeof(m->head);
	if (m->head.type == CTL_TASK_PUT)
		status = MIN(tasks_put(&w->tasks, &m->put.task), 0);
	else if (m->head.type == CTL_TASK_DEL)
		status = tasks_del(&w->tasks, m->del.id) ? 0 : -ENOENT;
	else if (m->head.type == CTL_TASK_READ)
		status = tasks_find(&w->tasks, m->read.id) ? 0 : -ENOENT;
	else if (m->head.type == CTL_TASK_LIST)
		tasks_list(&w->tasks, &m->list);
	if (m->head.type == CTL_TASK_LIST)
		m->head.len = sizeof(m->list);
	m->head.status = status;
	check_tasks(&w->tasks);
	check_rules(w);
	w->answered++;
	control_reply(c, m, NULL, 0);
}

static void fuzz_gone(void *arg, struct control_client *c)
{
	(void)arg;
	(void)c;
}

static const struct control_ops fuzz_ops = { fuzz_request, fuzz_gone };

/* One reply at most, of the right shape. */
static void take_reply(struct world *w)
{
	union control_message m;
	ssize_t n = recv(w->fd, &m, sizeof(m), MSG_DONTWAIT);

	if (n <= 0)
		return;
	MUST((size_t)n >= sizeof(m.head) && m.head.len == (size_t)n);
	MUST(m.head.magic == CTL_MAGIC && m.head.type < CTL_TYPES);
	MUST(!m.head.status || (size_t)n == sizeof(m.head));
	MUST(recv(w->fd, &m, sizeof(m), MSG_DONTWAIT) <= 0);
}

static void give(struct world *w, const void *data, size_t len)
{
	struct control_client *c = &w->control.client[0];
	uint64_t bad = w->control.bad_requests;
	uint32_t answered = w->answered;

	if (w->fd < 0)
		return;
	MUST(send(w->fd, data, len, MSG_DONTWAIT) == (ssize_t)len);
	client_ready(c, EPOLLIN);
	take_reply(w);
	MUST(!c->busy);
	/* understood, refused, or the end: an empty one is an end */
	MUST(answered != w->answered || bad != w->control.bad_requests ||
	     c->fd < 0);
	if (c->fd < 0) {
		close(w->fd);
		w->fd = -1;
	}
}

/* The next datagram of the input; returns what it took. */
static size_t next(struct world *w, const uint8_t *data, size_t size)
{
	union control_message m = { 0 };
	size_t n;

	if (data[0] > 127) {
		n = size > 1 ? MIN(data[1], size - 2) : 0;
		give(w, data + MIN(2, size), n);
		return MIN(size, 2 + n);
	}
	m.head.type = data[0] % 8;
	if (m.head.type == 0 || m.head.type >= CTL_TYPES)
		return 1;
	m.head.magic = CTL_MAGIC;
	m.head.version = CTL_VERSION;
	m.head.len = (uint32_t)request_len[m.head.type];
	n = MIN(m.head.len - sizeof(m.head), size - 1);
	memcpy(m.bytes + sizeof(m.head), data + 1, n);
	give(w, &m, m.head.len);
	return 1 + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct control_client *c = &w.control.client[0];
	struct loop *loop = loop_new();
	int sock[2];

	w = (struct world){ .control = { .ops = &fuzz_ops, .arg = &w } };
	w.tasks.readers = 1;
	MUST(loop &&
	     !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sock));
	w.fd = sock[0];
	*c = (struct control_client){
		.control = &w.control,
		.fd = sock[1],
		.tokens = CTL_RATE,
		.refilled_ms = clock_mono_ms(),
	};
	MUST(!loop_io_add(loop, &c->io, c->fd, EPOLLIN, client_ready, c));
	for (int i = 0; i < DATAGRAMS && size > 0; i++) {
		size_t n = next(&w, data, size);

		data += n;
		size -= n;
	}
	if (c->fd >= 0)
		client_close(c);
	if (w.fd >= 0)
		close(w.fd);
	loop_free(loop);
	return 0;
}
