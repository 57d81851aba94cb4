/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One turn of a reader: wait at most TICK_MS, sign on the shared page that it
 * is alive, serve one request of the supervisor, take one batch of packets,
 * copy one piece of an image.  Nothing on this path blocks, locks or allocates
 * (a new task's memory aside), and every step is bounded, because each packet
 * behind the batch is waiting.
 *
 * The process ends when the supervisor hangs up, by its death signal, or by
 * any system call that is not on the list.
 */
#include "monitor/reader.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "monitor/count.h"
#include "monitor/image.h"
#include "monitor/priv.h"

#define TICK_MS      100
#define READS_QUEUED 8

struct reader {
	const struct reader_config *config;
	struct capture capture;
	struct capture_sink sink;
	int epoll_fd;
	bool stop;

	struct count count;
	uint64_t asked, answered; /* the supervisor's question */
	uint64_t asked_at;        /* packets that were received then */

	struct image image;
	struct reader_request reading; /* what image is for */
	bool closing;                  /* windows, a piece a turn */
	uint32_t n_reads;              /* waiting behind it */
	struct reader_request reads[READS_QUEUED];
};

/* The shared page */

static void reader_publish(struct reader *r)
{
	struct meter_slot *s = r->config->slot;
	const struct capture *c = &r->capture;
	bool finished = r->count.replay && !c->busy &&
			!count_waiting(&r->count);

	for (int d = 0; d < PACKET_DIRS; d++) {
		atomic_store_explicit(&s->received[d].packets,
				      r->count.received[d].packets,
				      memory_order_relaxed);
		atomic_store_explicit(&s->received[d].bytes,
				      r->count.received[d].bytes,
				      memory_order_relaxed);
	}
	atomic_store_explicit(&s->verdicts, c->verdicts, memory_order_relaxed);
	atomic_store_explicit(&s->protected_packets, c->protected_packets,
			      memory_order_relaxed);
	atomic_store_explicit(&s->finished, finished, memory_order_relaxed);
	atomic_store_explicit(&s->tick_ms, clock_mono_ms(),
			      memory_order_relaxed);
}

static uint64_t reader_packets(const struct reader *r)
{
	uint64_t sum = 0;

	for (int d = 0; d < PACKET_DIRS; d++)
		sum += r->count.received[d].packets;
	return sum;
}

/* True while the supervisor waits to hear that its packets are through. */
static bool reader_asked(struct reader *r)
{
	uint64_t asked = atomic_load(&r->config->slot->asked);

	if (asked != r->asked) {
		r->asked = asked;
		r->asked_at = reader_packets(r);
	}
	return r->asked != r->answered;
}

/* empty: nothing waited a moment ago, and since it was asked. */
static void reader_pass(struct reader *r, bool empty)
{
	struct meter_slot *s = r->config->slot;

	if (!empty && reader_packets(r) - r->asked_at < CAPTURE_WAITING_MAX)
		return;
	for (int d = 0; d < PACKET_DIRS; d++) {
		atomic_store(&s->passed[d].packets,
			     r->count.received[d].packets);
		atomic_store(&s->passed[d].bytes, r->count.received[d].bytes);
	}
	r->answered = r->asked;
	atomic_store(&s->answered, r->answered);
}

/* Answers */

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

/* Requests */

/* Memory of tasks goes, moves or begins anew: the copy under way is void. */
static void copy_interrupt(struct reader *r, uint64_t id_gone)
{
	if (!r->image.active)
		return;
	if (r->reading.id == id_gone)
		reader_refuse(r, &r->reading, -ENOENT);
	else
		r->reads[r->n_reads++] = r->reading;
	image_end(&r->image);
}

static void reader_clock(void *arg, uint64_t wall_ms)
{
	struct reader *r = arg;

	if (!count_clock(&r->count, wall_ms))
		return;
	log_warnx("the wall clock was set; real-time counters begin anew");
	copy_interrupt(r, 0);
}

/* Where the parts of a closed window of features are.  0 or -errno. */
static int rows_find(const struct count_task *t, uint64_t interval,
		     const void *part[CTL_WINDOW_PARTS],
		     size_t len[CTL_WINDOW_PARTS])
{
	const struct features_row *row = NULL;
	const struct features_flows *flows = NULL;
	int err = t->features ? features_window(t->features, interval, &row,
						&flows, &len[1])
			      : -EINVAL;

	part[0] = row;
	part[1] = flows;
	len[0] = sizeof(*row);
	return err == -ENOENT ? -ENODATA : err;
}

static int window_begin(struct reader *r, const struct count_task *t,
			const struct reader_request *q)
{
	const void *part[CTL_WINDOW_PARTS];
	size_t len[CTL_WINDOW_PARTS];
	const struct ring_window *w;
	int err;

	if (t->ring) {
		err = ring_find(t->ring, q->interval, &w);
		return err ? err
			   : image_begin(&r->image,
					 (const void *const *)w->sketch,
					 t->ring->size, q->kinds);
	}
	err = rows_find(t, q->interval, part, len);
	return err ? err : image_begin_window(&r->image, part, len, q->kinds);
}

/* 0; -ENODATA: it was overwritten meanwhile. */
static int window_describe(const struct reader *r, const struct count_task *t)
{
	const void *part[CTL_WINDOW_PARTS];
	size_t len[CTL_WINDOW_PARTS];
	const struct ring_window *w;

	if (t->ring) {
		if (ring_find(t->ring, r->reading.interval, &w))
			return -ENODATA;
		count_describe_window(t, w, r->image.map);
		return 0;
	}
	count_describe(&r->count, t, r->image.map);
	if (rows_find(t, r->reading.interval, part, len) ||
	    part[0] != r->image.part[0])
		return -ENODATA;
	return 0;
}

static void copy_begin(struct reader *r, const struct reader_request *q)
{
	struct count_task *t = count_find(&r->count, q->id);
	int err = -ENOENT;

	if (t && t->spec.generation == q->generation)
		err = q->op == READER_WINDOW
			      ? window_begin(r, t, q)
			      : image_begin(&r->image,
					    (const void *const *)t->sketch,
					    t->size, q->kinds);
	if (err)
		reader_refuse(r, q, err);
	else
		r->reading = *q;
}

static void copy_turn(struct reader *r)
{
	const struct count_task *t = count_find(&r->count, r->reading.id);
	struct reader_answer a = { .op = r->reading.op, .seq = r->reading.seq };

	if (!image_turn(&r->image))
		return;
	/* now, even if no packet came lately */
	if (!r->count.replay)
		reader_clock(r, clock_wall_ms());
	if (!r->image.active)
		return;
	a.received = count_received(&r->count, t);
	r->image.map->reader_incarnation = r->config->incarnation;
	if (r->reading.op == READER_WINDOW)
		a.status = window_describe(r, t);
	else
		count_describe(&r->count, t, r->image.map);
	if (!a.status)
		a.status = image_seal(&r->image);
	reader_answer(r, &a, a.status ? -1 : r->image.fd);
	image_end(&r->image);
}

static void reader_put(struct reader *r, const struct reader_request *q)
{
	struct reader_answer a = { .op = READER_PUT, .seq = q->seq };

	copy_interrupt(r, q->task.id);
	a.status = count_put(&r->count, &q->task);
	if (!a.status)
		a.received = count_find(&r->count, q->task.id)->base;
	/* who hears the answer must not find "finished" of before */
	reader_publish(r);
	reader_answer(r, &a, -1);
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
		reader_put(r, &q);
		break;
	case READER_DEL:
		copy_interrupt(r, q.id);
		count_del(&r->count, q.id);
		break;
	case READER_READ:
	case READER_WINDOW:
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

/* Packets */

static void reader_packet(void *arg, struct packet *p)
{
	struct reader *r = arg;

	count_packet(&r->count, p);
}

/* Turns */

static int reader_capture_turn(struct reader *r, bool readable)
{
	struct capture *c = &r->capture;
	int err = 0;

	if (r->count.replay && !c->busy && count_waiting(&r->count)) {
		count_pass_begin(&r->count);
		err = c->config->ops->rewind(c);
	}
	if (err || !(readable || c->busy))
		return err;
	err = c->config->ops->turn(c);
	if (!err && r->count.replay && !c->busy)
		count_pass_end(&r->count);
	return err;
}

/* Windows end by the clock, and close between batches of packets. */
static void reader_windows(struct reader *r, bool batch)
{
	const struct meter_slot *s = r->config->slot;

	for (size_t i = 0; i < ARRAY_SIZE(s->uplink); i++)
		r->count.uplink[i] = atomic_load_explicit(&s->uplink[i],
							  memory_order_relaxed);
	/* a batch told the time */
	if (!batch && !r->count.replay)
		reader_clock(r, clock_wall_ms());
	r->closing = count_turn(&r->count);
}

static int reader_turn(struct reader *r)
{
	bool asked = reader_asked(r);
	bool work = r->capture.busy || r->image.active || r->n_reads || asked ||
		    r->closing;
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
	if (asked && n >= 0)
		reader_pass(r, !readable && !r->capture.busy);
	reader_windows(r, readable);
	if (r->image.active)
		copy_turn(r);
	/* what was asked may be in the window that is being closed */
	if (!r->image.active && r->n_reads &&
	    !(r->closing && r->reads[0].op == READER_WINDOW)) {
		struct reader_request q = r->reads[0];

		memmove(r->reads, r->reads + 1,
			--r->n_reads * sizeof(r->reads[0]));
		copy_begin(r, &q);
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
	count_init(&r->count, c->capture->ops->replay);
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
