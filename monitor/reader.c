/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One turn of a reader: wait at most TICK_MS, sign on the shared page that it
 * is alive, serve one request of the supervisor, take one batch of packets,
 * copy one piece of an image.  Nothing on this path blocks, locks or allocates
 * (a new task's memory aside), and every step is bounded, because each packet
 * behind the batch is waiting.
 *
 * A task's sketches are private memory of this process, promised by the
 * supervisor's budget, touched as keys come.  When the reader dies they are
 * gone; the supervisor puts the tasks again, from zero.
 *
 * A replay has no stream that goes on: each task waits for the next pass, and
 * a pass counts for the tasks that waited when it began.
 */
#include "monitor/reader.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/segment.h"
#include "common/sketch/sketch.h"
#include "common/util.h"
#include "monitor/image.h"
#include "monitor/priv.h"

#define TICK_MS      100
#define SLOT_MS      100
#define STEP_MS      1000 /* a jump of the wall clock */
#define READS_QUEUED 8

enum task_state {
	TASK_WAITING,
	TASK_COUNTING,
	TASK_REPLAYED
};

struct reader_task {
	struct task_spec spec;
	enum task_state state;
	void *sketch[SKETCH_KINDS];
	size_t size[SKETCH_KINDS];
	struct totals totals;
	bool saturated;
	uint64_t began_ms, slot_first; /* 0: no packet yet, in a replay */
	struct ctl_volume base;        /* received when it began */
	/* when its replay ended: */
	struct ctl_volume end;
	uint64_t end_ms, end_slot;
};

struct reader {
	const struct reader_config *config;
	struct capture capture;
	struct capture_sink sink;
	int epoll_fd;
	bool stop;

	/* time of the current batch */
	uint64_t wall_ms, slot;
	int64_t wall_offset_ms; /* wall clock minus monotonic clock */

	uint32_t n_tasks;
	struct reader_task task[TASKS_MAX];
	struct ctl_volume received[PACKET_DIRS];

	struct image image;
	struct reader_request reading; /* what image is for */
	uint32_t n_reads;              /* waiting behind it */
	struct reader_request reads[READS_QUEUED];

	struct hash_key local; /* layout of tables: of this process alone */
	struct segment_table segments;
};

/* Tasks */

static void task_free(struct reader_task *t)
{
	for (int k = 0; k < SKETCH_KINDS; k++) {
		if (t->sketch[k])
			munmap(t->sketch[k], t->size[k]);
	}
	explicit_bzero(t, sizeof(*t));
}

static int task_map(struct reader *r, struct reader_task *t)
{
	struct sketch_params p;

	sketch_params_default(&p, &t->spec);
	for (unsigned int k = 0; k < SKETCH_KINDS; k++) {
		void *mem;

		if (!(t->spec.kinds >> k & 1))
			continue;
		t->size[k] = sketch_size((enum sketch_kind)k, &p);
		mem = mmap(NULL, t->size[k], PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (mem == MAP_FAILED)
			return -ENOMEM;
		t->sketch[k] = mem;
		sketch_init((enum sketch_kind)k, mem, &p, &r->local);
	}
	return 0;
}

static struct reader_task *task_find(struct reader *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->n_tasks; i++) {
		if (r->task[i].spec.id == id)
			return &r->task[i];
	}
	return NULL;
}

static bool image_is_of(const struct reader *r, uint64_t id)
{
	return r->image.active && r->reading.id == id;
}

static void reader_answer(struct reader *r, const struct reader_answer *a,
			  int fd);
static void reader_publish(struct reader *r);

static void reader_refuse(struct reader *r, const struct reader_request *q,
			  int err)
{
	struct reader_answer a = {
		.op = q->op,
		.status = err,
		.seq = q->seq,
	};

	reader_answer(r, &a, -1);
}

static void task_del(struct reader *r, uint64_t id)
{
	struct reader_task *t = task_find(r, id), *last;

	if (!t)
		return;
	if (r->image.active) {
		/* the copy looks at memory that goes, or moves */
		if (image_is_of(r, id))
			reader_refuse(r, &r->reading, -ENOENT);
		else
			r->reads[r->n_reads++] = r->reading;
		image_end(&r->image);
	}
	task_free(t);
	last = &r->task[--r->n_tasks];
	if (t != last) {
		*t = *last;
		explicit_bzero(last, sizeof(*last));
	}
}

static void task_put(struct reader *r, const struct reader_request *q)
{
	struct reader_answer a = { .op = READER_PUT, .seq = q->seq };
	struct reader_task *t;

	task_del(r, q->task.id);
	if (r->n_tasks == TASKS_MAX) {
		reader_refuse(r, q, -ENOSPC);
		return;
	}
	t = &r->task[r->n_tasks++];
	*t = (struct reader_task){ .spec = q->task };
	if (task_map(r, t)) {
		task_free(t);
		r->n_tasks--;
		reader_refuse(r, q, -ENOMEM);
		return;
	}
	t->base = r->received[t->spec.filter.dir];
	if (!r->capture.config->ops->replay) {
		uint64_t now_ms = clock_wall_ms();

		t->state = TASK_COUNTING;
		t->began_ms = now_ms;
		t->slot_first = now_ms / SLOT_MS + 1;
	}
	a.received = t->base;
	/* who hears the answer must not find "finished" of before */
	reader_publish(r);
	reader_answer(r, &a, -1);
}

/* Counting */

/* The 100-ms table would be wrong for hours: it begins anew. */
static void task_clock_stepped(struct reader *r, struct reader_task *t)
{
	struct sketch_params p;
	void *mem = t->sketch[SKETCH_EXACT];

	t->slot_first = r->wall_ms / SLOT_MS + 1;
	if (!mem)
		return;
	sketch_params_default(&p, &t->spec);
	if (madvise(mem, t->size[SKETCH_EXACT], MADV_DONTNEED) < 0)
		memset(mem, 0, t->size[SKETCH_EXACT]);
	sketch_init(SKETCH_EXACT, mem, &p, &r->local);
}

static void reader_clock_stepped(struct reader *r)
{
	log_warnx("the wall clock was set; real-time counters begin anew");
	if (r->image.active) {
		r->reads[r->n_reads++] = r->reading;
		image_end(&r->image);
	}
	r->slot = 0;
	for (uint32_t i = 0; i < r->n_tasks; i++)
		task_clock_stepped(r, &r->task[i]);
}

static void reader_clock(void *arg, uint64_t wall_ms)
{
	struct reader *r = arg;
	int64_t offset_ms;

	r->wall_ms = wall_ms;
	if (!r->capture.config->ops->replay) {
		offset_ms = (int64_t)(wall_ms - clock_mono_ms());
		if (r->wall_offset_ms &&
		    llabs(offset_ms - r->wall_offset_ms) > STEP_MS)
			reader_clock_stepped(r);
		r->wall_offset_ms = offset_ms;
	}
	r->slot = MAX(r->slot, wall_ms / SLOT_MS);
}

static void task_unkeyed(struct reader_task *t, const struct packet *p)
{
	struct totals *s = &t->totals;

	s->unkeyed_pkt = u64_add_sat(s->unkeyed_pkt, 1, &t->saturated);
	s->unkeyed_byte =
		u64_add_sat(s->unkeyed_byte, p->len_bytes, &t->saturated);
}

static void task_total(struct reader_task *t, const struct packet *p,
		       uint64_t weight)
{
	struct totals *s = &t->totals;
	bool *sat = &t->saturated;

	s->items++;
	s->weight = u64_add_sat(s->weight, weight, sat);
	s->pkt = u64_add_sat(s->pkt, 1, sat);
	s->segment = u64_add_sat(s->segment, p->segments, sat);
	s->byte = u64_add_sat(s->byte, p->len_bytes, sat);
	s->hidden_byte =
		u64_add_sat(s->hidden_byte, segment_hidden_bytes(p), sat);
	s->super += (p->flags & PACKET_GSO) != 0;
	s->fragment += (p->flags & PACKET_FRAGMENT) != 0;
}

static void task_count(struct reader *r, struct reader_task *t,
		       const struct packet *p)
{
	enum key_type key = (enum key_type)t->spec.key;
	struct sketch_item it = {
		.weight =
			increment_weight((enum increment)t->spec.increment, p),
		.slot = r->slot,
	};

	if (!t->began_ms) {
		t->began_ms = r->wall_ms;
		t->slot_first = r->slot;
	}
	if (!key_build(key, p, &it.key)) {
		task_unkeyed(t, p);
		return;
	}
	task_total(t, p, it.weight);
	if (!t->spec.kinds)
		return;
	it.hash = hash_domain(&t->spec.seed, &it.key, key_len(key), HASH_KEY);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		if (t->sketch[k])
			sketch_update(t->sketch[k], &it);
	}
}

static void reader_packet(void *arg, struct packet *p)
{
	struct reader *r = arg;

	r->received[p->dir].packets++;
	r->received[p->dir].bytes += p->len_bytes;
	segment_estimate(&r->segments, p);
	for (uint32_t i = 0; i < r->n_tasks; i++) {
		struct reader_task *t = &r->task[i];

		if (t->state == TASK_COUNTING &&
		    filter_match(&t->spec.filter, p))
			task_count(r, t, p);
	}
}

/* Replays */

static int replay_begin(struct reader *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_tasks; i++) {
		struct reader_task *t = &r->task[i];

		if (t->state != TASK_WAITING)
			continue;
		t->state = TASK_COUNTING;
		t->base = r->received[t->spec.filter.dir];
		n++;
	}
	if (n == 0)
		return 0;
	r->slot = 0;
	segment_init(&r->segments, &r->local, 0);
	return r->capture.config->ops->rewind(&r->capture);
}

static void replay_end(struct reader *r)
{
	for (uint32_t i = 0; i < r->n_tasks; i++) {
		struct reader_task *t = &r->task[i];

		if (t->state != TASK_COUNTING)
			continue;
		t->state = TASK_REPLAYED;
		t->end = r->received[t->spec.filter.dir];
		t->end_ms = r->wall_ms;
		/* the last slot is as full as it gets: closed */
		t->end_slot = r->slot + 1;
	}
}

/* Requests */

static void reader_answer(struct reader *r, const struct reader_answer *a,
			  int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)a, sizeof(*a) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	/* a supervisor that does not listen takes the answer for missing */
	if (sendmsg(r->config->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    errno != EAGAIN)
		r->stop = true;
}

static void read_begin(struct reader *r, const struct reader_request *q)
{
	struct reader_task *t = task_find(r, q->id);
	int err = -ENOENT;

	if (t && t->spec.generation == q->generation)
		err = image_begin(&r->image, (const void *const *)t->sketch,
				  t->size, q->kinds);
	if (err)
		reader_refuse(r, q, err);
	else
		r->reading = *q;
}

static void read_fill(struct reader *r, const struct reader_task *t)
{
	struct ctl_image *im = r->image.map;
	bool replayed = t->state == TASK_REPLAYED;

	im->id = t->spec.id;
	im->generation = t->spec.generation;
	im->reader_incarnation = r->config->incarnation;
	im->began_ms = t->began_ms;
	im->now_ms = replayed ? t->end_ms : r->wall_ms;
	im->slot_now = replayed ? t->end_slot : r->slot;
	im->slot_first = t->slot_first;
	im->saturated = t->saturated;
	im->totals = t->totals;
}

static void read_turn(struct reader *r)
{
	const struct reader_task *t = task_find(r, r->reading.id);
	struct reader_answer a = { .op = READER_READ, .seq = r->reading.seq };
	struct ctl_volume now;

	if (!image_turn(&r->image))
		return;
	if (!r->capture.config->ops->replay)
		reader_clock(r, clock_wall_ms());
	if (!r->image.active)
		return; /* the clock was set: once more */
	now = t->state == TASK_REPLAYED ? t->end
					: r->received[t->spec.filter.dir];
	a.received.packets = now.packets - t->base.packets;
	a.received.bytes = now.bytes - t->base.bytes;
	read_fill(r, t);
	a.status = image_seal(&r->image);
	reader_answer(r, &a, a.status ? -1 : r->image.fd);
	image_end(&r->image);
}

/* One request, if there is one; the socket's end means the end. */
static void reader_serve(struct reader *r)
{
	struct reader_request q;
	ssize_t n = read(r->config->sock, &q, sizeof(q));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(q)) {
		r->stop = true;
		return;
	}
	switch (q.op) {
	case READER_PUT:
		task_put(r, &q);
		break;
	case READER_DEL:
		task_del(r, q.id);
		break;
	case READER_READ:
		/* one place is kept for a copy that has to begin again */
		if (r->n_reads + 1 < READS_QUEUED)
			r->reads[r->n_reads++] = q;
		else
			reader_refuse(r, &q, -EBUSY);
		break;
	case READER_BOUND:
		r->stop = true;
		break;
	}
	explicit_bzero(&q, sizeof(q));
}

/* Turns */

static void reader_publish(struct reader *r)
{
	struct meter_slot *s = r->config->slot;
	const struct capture *c = &r->capture;
	bool finished = c->config->ops->replay && !c->busy;

	for (int d = 0; d < PACKET_DIRS; d++) {
		atomic_store_explicit(&s->received[d].packets,
				      r->received[d].packets,
				      memory_order_relaxed);
		atomic_store_explicit(&s->received[d].bytes,
				      r->received[d].bytes,
				      memory_order_relaxed);
	}
	for (uint32_t i = 0; i < r->n_tasks; i++)
		finished = finished && r->task[i].state != TASK_WAITING;
	atomic_store_explicit(&s->verdicts, c->verdicts, memory_order_relaxed);
	atomic_store_explicit(&s->protected_packets, c->protected_packets,
			      memory_order_relaxed);
	atomic_store_explicit(&s->finished, finished, memory_order_relaxed);
	atomic_store_explicit(&s->tick_ms, clock_mono_ms(),
			      memory_order_relaxed);
}

static int reader_capture_turn(struct reader *r, bool readable)
{
	struct capture *c = &r->capture;
	int err = 0;

	if (c->config->ops->replay && !c->busy)
		err = replay_begin(r);
	if (err || !(readable || c->busy))
		return err;
	err = c->config->ops->turn(c);
	if (!err && c->config->ops->replay && !c->busy)
		replay_end(r);
	return err;
}

static int reader_turn(struct reader *r)
{
	bool work = r->capture.busy || r->image.active || r->n_reads;
	struct epoll_event ev[2];
	bool readable = false;
	int n = epoll_wait(r->epoll_fd, ev, 2, work ? 0 : TICK_MS), err;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.fd == r->config->sock)
			reader_serve(r);
		else
			readable = true;
	}
	err = reader_capture_turn(r, readable);
	if (err)
		return err;
	if (r->image.active)
		read_turn(r);
	if (!r->image.active && r->n_reads) {
		struct reader_request q = r->reads[0];

		memmove(r->reads, r->reads + 1,
			--r->n_reads * sizeof(r->reads[0]));
		read_begin(r, &q);
	}
	reader_publish(r);
	return 0;
}

static int reader_watch(struct reader *r, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0)
		return 0;
	return epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int reader_open(struct reader *r)
{
	const struct capture_ops *ops = r->capture.config->ops;
	uint64_t caps = ops->netfilter ? PRIV_NET_ADMIN : 0;
	int err;

	/* from here on even a hanging bind ends with the supervisor */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ||
	    getppid() != r->config->parent)
		return EXIT_FAILURE;
	prctl(PR_SET_NAME, "linnet-reader", 0, 0, 0);
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	err = ops->open(&r->capture, r->config->number);
	if (err)
		return err;
	r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll_fd < 0 || reader_watch(r, r->config->sock) ||
	    reader_watch(r, r->capture.fd)) {
		log_err("reader: epoll");
		return EXIT_MECHANISM;
	}
	if (priv_confine(r->config->parent, caps, ops->syscalls))
		return EXIT_PERMISSION;
	return 0;
}

int reader_main(const struct reader_config *c)
{
	struct reader_answer bound = { .op = READER_BOUND };
	struct reader *r = calloc(1, sizeof(*r));
	int err;

	if (!r) {
		log_err("reader");
		return EXIT_MECHANISM;
	}
	r->config = c;
	r->image.fd = -1;
	r->sink = (struct capture_sink){ reader_clock, reader_packet, r };
	r->capture.config = c->capture;
	r->capture.sink = &r->sink;
	random_bytes(&r->local, sizeof(r->local));
	segment_init(&r->segments, &r->local, 0);
	err = reader_open(r);
	if (err)
		return err;
	reader_publish(r);
	reader_answer(r, &bound, -1);
	while (!r->stop) {
		err = reader_turn(r);
		if (err) {
			log_write(LOG_LEVEL_ERR, -err, "reader %u", c->number);
			return EXIT_FAILURE;
		}
	}
	/* the rules are gone: hand back what still waits */
	for (int i = 0; i < 64 && c->capture->ops->netfilter; i++) {
		if (reader_capture_turn(r, true))
			break;
	}
	return 0;
}
