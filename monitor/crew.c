/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readers are forked, not executed: they inherit nothing but their end of a
 * socket pair, the shared page and the back end's file.
 *
 * A reader that stops taking packets stops the host's traffic; only its death
 * lets traffic bypass the queue.  So it is killed when it has not signed the
 * page for DEAD_MS, or when packets have been waiting for WAIT_MS without any
 * verdict.  If this process itself was not run for a while, the readers may not
 * have been either: they get a moment to show that they live.
 */
#include "monitor/crew.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

#define DEAD_MS     500
#define WAIT_MS     400
#define LATE_MS     250 /* a watch that came too late to judge */
#define PATIENCE_MS 250
#define START_MS    1500 /* and for its end: a queue may be held for a second */
#define HEALTHY_MS  1500

void crew_init(struct crew *c, struct loop *loop,
	       const struct capture_config *capture, struct meter *meter,
	       uint32_t n, const struct crew_ops *ops, void *arg)
{
	*c = (struct crew){
		.loop = loop,
		.capture = capture,
		.meter = meter,
		.n = n,
		.ops = ops,
		.arg = arg,
	};
	for (uint32_t i = 0; i < n; i++)
		c->reader[i] = (struct crew_reader){
			.crew = c,
			.number = i,
			.sock = -1,
			.io = LOOP_IO_INIT,
		};
}

static void reader_hang_up(struct crew_reader *r)
{
	loop_io_del(&r->io);
	if (r->sock >= 0) {
		close(r->sock);
		r->since_ms = clock_mono_ms();
	}
	r->sock = -1;
	r->bound = false;
}

void crew_fini(struct crew *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct crew_reader *r = &c->reader[i];

		reader_hang_up(r);
		if (r->pid > 0) {
			kill(r->pid, SIGKILL);
			waitpid(r->pid, NULL, 0);
		}
		r->pid = 0;
	}
}

/* Takes the descriptor out of a message; -1: none. */
static int message_fd(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void reader_ready(void *arg, uint32_t events)
{
	struct crew_reader *r = arg;
	struct crew *c = r->crew;
	struct reader_answer a;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { &a, sizeof(a) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(r->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(a)) {
		/* its end; the rest happens when the child is reported */
		reader_hang_up(r);
		return;
	}
	if (a.op == READER_BOUND) {
		r->bound = true;
		c->ops->bound(c->arg, r);
	} else {
		c->ops->answer(c->arg, r, &a, message_fd(&msg));
	}
}

/* In the child.  Nothing of the supervisor's may stay open. */
__attribute__((noreturn)) static void reader_child(struct reader_config *rc)
{
	int file_fd = rc->capture->file_fd, low, high;

	low = MIN(rc->sock, file_fd < 0 ? rc->sock : file_fd);
	high = MAX(rc->sock, file_fd);
	if (low > 3)
		close_range(3, (unsigned int)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned int)low + 1, (unsigned int)high - 1, 0);
	close_range((unsigned int)high + 1, ~0u, 0);
	_exit(reader_main(rc));
}

static void slot_clear(struct meter_slot *s)
{
	for (int d = 0; d < PACKET_DIRS; d++) {
		atomic_store(&s->received[d].packets, 0);
		atomic_store(&s->received[d].bytes, 0);
	}
	atomic_store(&s->verdicts, 0);
	atomic_store(&s->protected_packets, 0);
	atomic_store(&s->finished, 0);
	atomic_store(&s->tick_ms, 0);
	atomic_store(&s->asked, 0);
	atomic_store(&s->answered, 0);
}

int crew_start(struct crew *c, uint32_t i)
{
	struct crew_reader *r = &c->reader[i];
	struct reader_config rc = {
		.capture = c->capture,
		.number = i,
		.incarnation = random_u64(),
		.slot = &c->meter->slot[i],
		.parent = getpid(),
	};
	int sock[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0, sock) < 0)
		return -errno;
	slot_clear(rc.slot);
	atomic_store(&rc.slot->asked, c->asks);
	rc.sock = sock[1];
	r->pid = fork();
	if (r->pid == 0)
		reader_child(&rc);
	err = r->pid < 0 ? -errno : 0;
	close(sock[1]);
	if (err) {
		r->pid = 0;
		close(sock[0]);
		return err;
	}
	r->sock = sock[0];
	r->incarnation = rc.incarnation;
	r->since_ms = clock_mono_ms();
	r->bound = r->killed = false;
	r->verdicts = r->waiting_ms = 0;
	return loop_io_add(c->loop, &r->io, r->sock, EPOLLIN, reader_ready, r);
}

uint32_t crew_bound(const struct crew *c)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < c->n; i++)
		bits |= (uint32_t)c->reader[i].bound << i;
	return bits;
}

uint32_t crew_count(const struct crew *c)
{
	return (uint32_t)__builtin_popcount(crew_bound(c));
}

bool crew_send(struct crew_reader *r, const struct reader_request *q)
{
	return r->bound && send(r->sock, q, sizeof(*q),
				MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(*q);
}

uint32_t crew_broadcast(struct crew *c, const struct reader_request *q)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < c->n; i++)
		bits |= (uint32_t)crew_send(&c->reader[i], q) << i;
	return bits;
}

bool crew_child(struct crew *c, pid_t pid, int status)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct crew_reader *r = &c->reader[i];
		struct meter_slot *s = &c->meter->slot[i];

		if (r->pid != pid)
			continue;
		reader_hang_up(r);
		r->pid = 0;
		for (int d = 0; d < PACKET_DIRS; d++) {
			struct ctl_volume v =
				meter_received(c->meter, i, (enum packet_dir)d);

			c->lost[d].packets += v.packets;
			c->lost[d].bytes += v.bytes;
		}
		c->protected_lost += atomic_load(&s->protected_packets);
		slot_clear(s);
		c->ops->ended(c->arg, r, status);
		return true;
	}
	return false;
}

static void reader_kill(struct crew_reader *r, const char *why, uint64_t ms)
{
	log_warnx("reader %u (pid %d): %s for %ju ms, killed", r->number,
		  (int)r->pid, why, (uintmax_t)ms);
	r->killed = true;
	kill(r->pid, SIGKILL);
}

/* How long packets have been waiting for a verdict of anybody. */
static uint64_t reader_waiting(struct crew_reader *r, uint64_t verdicts,
			       uint64_t matched, uint64_t now_ms)
{
	if (verdicts != r->verdicts || !r->bound) {
		r->verdicts = verdicts;
		r->matched = matched;
		r->waiting_ms = 0;
	} else if (matched != r->matched && !r->waiting_ms) {
		r->waiting_ms = now_ms;
	}
	return r->waiting_ms ? now_ms - r->waiting_ms : 0;
}

void crew_watch(struct crew *c, uint64_t matched)
{
	uint64_t now_ms = clock_mono_ms(), verdicts = 0;

	if (c->watched_ms && now_ms - c->watched_ms > LATE_MS)
		c->patient_until_ms = now_ms + PATIENCE_MS;
	c->watched_ms = now_ms;
	for (uint32_t i = 0; i < c->n; i++)
		verdicts += atomic_load(&c->meter->slot[i].verdicts);
	for (uint32_t i = 0; i < c->n; i++) {
		struct crew_reader *r = &c->reader[i];
		uint64_t tick_ms = atomic_load(&c->meter->slot[i].tick_ms);
		uint64_t still_ms =
			tick_ms && now_ms > tick_ms ? now_ms - tick_ms : 0;
		uint64_t waiting_ms =
			reader_waiting(r, verdicts, matched, now_ms);

		if (!r->pid || r->killed || now_ms < c->patient_until_ms)
			continue;
		if (!r->bound && now_ms - r->since_ms > START_MS)
			reader_kill(r,
				    r->sock < 0 ? "has not ended"
						: "no progress at its start",
				    now_ms - r->since_ms);
		if (!r->bound)
			continue;
		if (still_ms > DEAD_MS)
			reader_kill(r, "no progress", still_ms);
		else if (waiting_ms >= WAIT_MS &&
			 (c->n == 1 || still_ms > WAIT_MS))
			reader_kill(r, "no progress, packets waiting",
				    waiting_ms);
	}
}

bool crew_healthy(const struct crew *c)
{
	uint64_t now_ms = clock_mono_ms();

	for (uint32_t i = 0; i < c->n; i++) {
		uint64_t tick_ms = atomic_load(&c->meter->slot[i].tick_ms);

		if (c->reader[i].bound && now_ms > tick_ms + HEALTHY_MS)
			return false;
	}
	return true;
}

bool crew_dismiss(struct crew *c)
{
	bool none = true;

	for (uint32_t i = 0; i < c->n; i++) {
		reader_hang_up(&c->reader[i]);
		none = none && c->reader[i].pid == 0;
	}
	return none;
}

void crew_ask(struct crew *c)
{
	c->asks++;
	for (uint32_t i = 0; i < c->n; i++)
		atomic_store(&c->meter->slot[i].asked, c->asks);
}

bool crew_passed(const struct crew *c, struct ctl_volume out[PACKET_DIRS])
{
	struct ctl_volume sum[PACKET_DIRS];

	memcpy(sum, c->lost, sizeof(sum));
	for (uint32_t i = 0; i < c->n; i++) {
		const struct meter_slot *s = &c->meter->slot[i];

		if (!c->reader[i].bound || atomic_load(&s->answered) != c->asks)
			return false;
		for (int d = 0; d < PACKET_DIRS; d++) {
			sum[d].packets += atomic_load(&s->passed[d].packets);
			sum[d].bytes += atomic_load(&s->passed[d].bytes);
		}
	}
	memcpy(out, sum, sizeof(sum));
	return true;
}

struct ctl_volume crew_received(const struct crew *c, enum packet_dir dir)
{
	struct ctl_volume sum = c->lost[dir];

	for (uint32_t i = 0; i < c->n; i++) {
		struct ctl_volume v = meter_received(c->meter, i, dir);

		sum.packets += v.packets;
		sum.bytes += v.bytes;
	}
	return sum;
}
