// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The monitors of many hosts in one process, for trees of more agents than a
 * machine could run monitors for.
 *
 *   stubmonitor HOSTS FLOWS SEED AGENT_UID DELAY_US
 *
 * Prints "ready" when all listen; ends at SIGTERM.  Host i is the instance
 * h<i>.  The control socket, the task table, what
 * counts and what copies are the monitor's own; there is no capture: a task
 * has counted a stream that follows from seed, host and task alone, so that
 * whoever asks knows the truth.  Flow j of host i is UDP, incoming,
 *
 *   even j: 10.0.0.j -> 10.1.0.j, the same for all hosts
 *   odd j:  10.(16 + i / 256).(i % 256).j -> 10.1.0.j
 *
 * ports 1000 + j and 2000 + j.  With v = mix(seed + 2^32 * i + j) it has
 * 1 + v % (2000 / (j + 1)) packets of 40 + v / 2^32 % 1400 bytes; mix() is
 * below.
 *
 * The stream is counted when it is first read; the image then belongs to the
 * host, is sent with every answer, and goes with its task.  The scratch memory
 * in which it is counted is one for all.  A read is answered DELAY_US later: a
 * host that is far away or busy, but takes nobody's processor.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/util.h"
#include "monitor/control.h"
#include "monitor/count.h"
#include "monitor/image.h"
#include "monitor/tasks.h"

#define HOSTS_MAX  4096
#define FLOWS_MAX  256
#define IMAGES_MAX 8 /* a host: tasks times questions */

struct stub;

/* What one host counted for a task, for one question. */
struct stub_image {
	int fd; /* -1: free */
	uint64_t id, generation;
	uint32_t kinds;
	struct ctl_volume received;
};

struct host {
	struct stub *stub;
	uint32_t number;
	struct control control;
	struct task_table tasks;
	struct stub_image image[IMAGES_MAX];
	unsigned next; /* the image that is replaced */
};

/* A read that is answered later. */
struct late {
	STAILQ_ENTRY(late) entry;
	uint64_t due_ns;
	struct host *host;
	struct control_client *client; /* NULL: it is gone */
	struct ctl_task_read read;
};

struct stub {
	uint64_t hosts, flows, seed, agent_uid, delay_us;
	STAILQ_HEAD(, late) late; /* in the order in which they are due */
	struct loop_io timer;
	struct loop *loop;
	struct host *host;
	struct count count;
};

/* The finalizer of splitmix64 (Steele, Lea, Flood, 2014). */
static uint64_t mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static struct ip_addr address(uint64_t a, uint64_t b, uint64_t c)
{
	struct ip_addr addr = {
		.b = { [10] = 0xff, 0xff, 10, (uint8_t)a, (uint8_t)b, (uint8_t)c }
	};

	return addr;
}

static void stream_count(const struct host *h, struct count *c)
{
	for (uint64_t j = 0; j < h->stub->flows; j++) {
		uint64_t v =
			mix(h->stub->seed + ((uint64_t)h->number << 32) + j);
		struct packet p = {
			.src = j % 2 ? address(16 + (h->number >> 8),
					       h->number & 255, j)
				     : address(0, 0, j),
			.dst = address(1, 0, j),
			.sport = (uint16_t)(1000 + j),
			.dport = (uint16_t)(2000 + j),
			.family = 4,
			.proto = 17,
			.dir = PACKET_IN,
			.flags = PACKET_PORTS,
			.hdr_bytes = 28,
			.len_bytes = (uint32_t)(40 + (v >> 32) % 1400),
			.segments = 1,
		};

		for (uint64_t n = 1 + v % (2000 / (j + 1)); n > 0; n--)
			count_packet(c, &p);
	}
}

static void image_forget(struct stub_image *im)
{
	if (im->fd >= 0)
		close(im->fd);
	im->fd = -1;
}

static int image_copy(struct count *c, const struct task_spec *spec,
		      struct stub_image *out)
{
	struct count_task *t = count_find(c, spec->id);
	struct image im = { .fd = -1 };
	int err = image_begin(&im, (const void *const *)t->sketch, t->size,
			      out->kinds);

	if (err)
		return err;
	while (!image_turn(&im))
		;
	count_describe(c, t, im.map);
	im.map->reader_incarnation = 1;
	out->received = count_received(c, t);
	err = image_seal(&im);
	if (!err)
		out->fd = dup(im.fd);
	if (!err && out->fd < 0)
		err = -errno;
	image_end(&im);
	return err;
}

static int image_make(struct host *h, const struct task_spec *spec,
		      struct stub_image *out)
{
	struct count *c = &h->stub->count;
	int err;

	memset(c, 0, sizeof(*c));
	count_init(c, true);
	err = count_put(c, spec);
	if (err)
		return err;
	count_pass_begin(c);
	count_clock(c, clock_wall_ms());
	stream_count(h, c);
	count_pass_end(c);
	err = image_copy(c, spec, out);
	count_del(c, spec->id);
	return err;
}

/* 0 or -errno. */
static int image_find(struct host *h, const struct task_spec *spec,
		      uint32_t kinds, const struct stub_image **out)
{
	struct stub_image *im;

	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		im = &h->image[i];
		if (im->fd >= 0 && im->id == spec->id &&
		    im->generation == spec->generation && im->kinds == kinds) {
			*out = im;
			return 0;
		}
	}
	im = &h->image[h->next++ % IMAGES_MAX];
	image_forget(im);
	im->id = spec->id;
	im->generation = spec->generation;
	im->kinds = kinds;
	*out = im;
	return image_make(h, spec, im);
}

static void answer(struct control_client *c, union control_message *m,
		   int status, size_t len)
{
	m->head.status = status;
	m->head.len = (uint32_t)len;
	control_reply(c, m, NULL, 0);
}

static void hello(struct control_client *c, union control_message *m)
{
	m->hello.incarnation = 1;
	m->hello.memory_limit = TASKS_MEMORY;
	m->hello.tasks_max = TASKS_MAX;
	snprintf(m->hello.backend, sizeof(m->hello.backend), "stub");
	snprintf(m->hello.version, sizeof(m->hello.version), LINNET_VERSION);
	answer(c, m, 0, sizeof(m->hello));
}

static void read_answer(struct host *h, struct control_client *c,
			union control_message *m)
{
	struct ctl_task_read *r = &m->read;
	const struct task_entry *e = tasks_find(&h->tasks, r->id);
	const struct stub_image *im;
	int err = -ENOENT;

	if (e && e->spec.generation == r->generation)
		err = image_find(h, &e->spec, r->kinds, &im);
	if (err) {
		answer(c, m, err, sizeof(m->head));
		return;
	}
	r->n_images = 1;
	r->rules = CTL_RULES_OK;
	r->loss = (struct ctl_loss){ im->received, im->received };
	control_reply(c, m, &im->fd, 1);
}

static void timer_arm(struct stub *s)
{
	struct late *l = STAILQ_FIRST(&s->late);
	struct itimerspec at = { 0 };

	if (l) {
		at.it_value.tv_sec = (time_t)(l->due_ns / 1000000000);
		at.it_value.tv_nsec = (long)(l->due_ns % 1000000000);
	}
	timerfd_settime(s->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void timer_fired(void *arg, uint32_t events)
{
	struct stub *s = arg;
	uint64_t now = clock_mono_ns();
	struct late *l;

	(void)events;
	while ((l = STAILQ_FIRST(&s->late)) && l->due_ns <= now) {
		union control_message m = { .read = l->read };

		STAILQ_REMOVE_HEAD(&s->late, entry);
		if (l->client)
			read_answer(l->host, l->client, &m);
		free(l);
	}
	timer_arm(s);
}

static void task_read(struct host *h, struct control_client *c,
		      union control_message *m)
{
	struct stub *s = h->stub;
	struct late *l = s->delay_us ? calloc(1, sizeof(*l)) : NULL;

	if (!l) {
		read_answer(h, c, m);
		return;
	}
	l->due_ns = clock_mono_ns() + s->delay_us * 1000;
	l->host = h;
	l->client = c;
	l->read = m->read;
	STAILQ_INSERT_TAIL(&s->late, l, entry);
	if (STAILQ_FIRST(&s->late) == l)
		timer_arm(s);
}

static void task_put(struct host *h, struct control_client *c,
		     union control_message *m)
{
	int ret = tasks_put(&h->tasks, &m->put.task);

	answer(c, m, ret < 0 ? ret : 0, sizeof(m->head));
}

static void task_del(struct host *h, struct control_client *c,
		     union control_message *m)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		if (h->image[i].id == m->del.id)
			image_forget(&h->image[i]);
	}
	answer(c, m, tasks_del(&h->tasks, m->del.id) ? 0 : -ENOENT,
	       sizeof(m->head));
}

static void host_request(void *arg, struct control_client *c,
			 union control_message *m)
{
	struct host *h = arg;

	switch (m->head.type) {
	case CTL_HELLO:
		hello(c, m);
		break;
	case CTL_TASK_PUT:
		task_put(h, c, m);
		break;
	case CTL_TASK_DEL:
		task_del(h, c, m);
		break;
	case CTL_TASK_LIST:
		tasks_list(&h->tasks, &m->list);
		answer(c, m, 0, sizeof(m->list));
		break;
	case CTL_TASK_READ:
		task_read(h, c, m);
		break;
	case CTL_STATS:
		m->stats.incarnation = 1;
		m->stats.memory_limit = TASKS_MEMORY;
		m->stats.memory_used = h->tasks.memory_used;
		m->stats.readers = 1;
		m->stats.rules = CTL_RULES_OK;
		m->stats.tasks = h->tasks.n;
		answer(c, m, 0, sizeof(m->stats));
		break;
	default:
		answer(c, m, -ENODATA, sizeof(m->head));
	}
}

static void host_gone(void *arg, struct control_client *c)
{
	const struct host *h = arg;
	struct late *l;

	STAILQ_FOREACH(l, &h->stub->late, entry)
	{
		if (l->client == c)
			l->client = NULL;
	}
}

static int host_open(struct stub *s, uint32_t number)
{
	static const struct control_ops ops = { host_request, host_gone };
	struct host *h = &s->host[number];
	char instance[24];
	int err;

	h->stub = s;
	h->number = number;
	h->tasks.readers = 1;
	for (unsigned i = 0; i < IMAGES_MAX; i++)
		h->image[i].fd = -1;
	snprintf(instance, sizeof(instance), "h%u", number);
	err = instance_check(instance);
	if (!err)
		err = control_bind(&h->control, instance);
	if (!err)
		err = control_listen(&h->control, s->loop, (uid_t)s->agent_uid,
				     &ops, h);
	if (err)
		log_errx("%s: %s", instance, strerrordesc_np(-err));
	return err;
}

static void stop(void *arg, int signo)
{
	(void)signo;
	loop_stop(arg);
}

/* A socket, a connection and some images a host. */
static void descriptors_raise(uint64_t hosts)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = MAX(r.rlim_cur, 64 + hosts * (2 + IMAGES_MAX));
	r.rlim_max = MAX(r.rlim_max, r.rlim_cur);
	if (setrlimit(RLIMIT_NOFILE, &r))
		log_err("descriptors");
}

static int stub_open(struct stub *s)
{
	sigset_t set;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int err = 0;

	descriptors_raise(s->hosts);
	/* it is one for all, and a thousand agents are ready to run */
	if (setpriority(PRIO_PROCESS, 0, -20))
		log_err("priority");
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	s->loop = loop_new();
	s->host = calloc(s->hosts, sizeof(*s->host));
	if (!s->loop || !s->host)
		return -ENOMEM;
	STAILQ_INIT(&s->late);
	s->timer = LOOP_IO_INIT;
	err = loop_signals(s->loop, &set, stop, s->loop);
	if (!err)
		err = loop_io_add(s->loop, &s->timer, fd, EPOLLIN, timer_fired,
				  s);
	for (uint32_t i = 0; i < s->hosts && !err; i++)
		err = host_open(s, i);
	if (!err)
		err = write_all(STDOUT_FILENO, "ready\n", 6);
	return err;
}

static bool number(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	return !parse_u64(s, strlen(s), min, max, out);
}

int main(int argc, char **argv)
{
	struct stub *s = calloc(1, sizeof(*s));

	log_init("stubmonitor", LOG_LEVEL_INFO);
	if (!s)
		return EXIT_FAILURE;
	if (argc != 6 || !number(argv[1], 1, HOSTS_MAX, &s->hosts) ||
	    !number(argv[2], 1, FLOWS_MAX, &s->flows) ||
	    !number(argv[3], 0, UINT64_MAX, &s->seed) ||
	    !number(argv[4], 0, UINT32_MAX, &s->agent_uid) ||
	    !number(argv[5], 0, 1000000, &s->delay_us)) {
		fputs("usage: stubmonitor HOSTS FLOWS SEED AGENT_UID "
		      "DELAY_US\n",
		      stderr);
		return EXIT_USAGE;
	}
	/* descriptors and memory go with the process */
	return stub_open(s) || loop_run(s->loop) ? EXIT_FAILURE : EXIT_SUCCESS;
}
