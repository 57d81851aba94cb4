/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link to linnet-monitor: a SOCK_SEQPACKET connection to an abstract name,
 * tried again four times a second.  Here the monitor is greeted, asked for what
 * it holds and, each second, how it is, and replies find their requests; what
 * is asked for clients, and when it is sent, is in monlink_request.c.
 *
 * The monitor is believed only if its uid is right, and its images only after
 * their sizes were checked.  They are mapped while those who asked are told.
 */
#include "agent/monlink_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/user.h"
#include "common/util.h"

#define RETRY_MS 250

static void link_try(void *arg);

void monlink_down(struct monlink *m)
{
	int fd = m->io.fd;

	loop_io_del(&m->io);
	if (fd >= 0)
		close(fd);
	if (m->state == MONLINK_ATTACHED)
		log_warnx("monitor: connection lost");
	m->state = MONLINK_ABSENT;
	memset(&m->stats, 0, sizeof(m->stats));
	requests_expire(m);
	loop_timer_in(m->agent->loop, &m->retry, RETRY_MS, link_try, m);
}

static bool image_ok(const struct ctl_image *img, size_t len)
{
	if (len < sizeof(*img) || img->magic != CTL_IMAGE_MAGIC)
		return false;
	for (unsigned k = 0; k < CTL_IMAGE_KINDS; k++) {
		if (!(img->kinds & 1u << k))
			continue;
		if (img->image[k].offset % 64 || img->image[k].offset > len ||
		    img->image[k].len > len - img->image[k].offset)
			return false;
	}
	return true;
}

/* Maps one sealed memfd; 0 or -errno. */
static int image_map(struct monlink_read *read, int fd)
{
	const int want = F_SEAL_SHRINK | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || (seals & want) != want || fstat(fd, &st) ||
	    st.st_size < (off_t)sizeof(struct ctl_image))
		return -EPROTO;
	/* not populated: what was not copied stays a hole */
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	read->image[read->n_images] = p;
	read->image_len[read->n_images++] = (size_t)st.st_size;
	return image_ok(p, (size_t)st.st_size) ? 0 : -EPROTO;
}

/* Maps the n_images that came as descriptors, tells, unmaps. */
static void images_reply(struct request *r, struct monlink_window *w,
			 uint32_t n_images, const int *fds, unsigned n_fds)
{
	struct monlink_read *read = &w->read;
	unsigned i;

	if (!read->status && n_images != n_fds)
		read->status = -EPROTO;
	for (i = 0; i < n_fds && !read->status; i++)
		read->status = image_map(read, fds[i]);
	if (read->status == -EPROTO)
		log_errx("monitor: an image does not have the form it should");
	request_finish(r, read->status, w);
	for (i = 0; i < read->n_images; i++)
		munmap((void *)read->image[i], read->image_len[i]);
}

static void read_reply(struct request *r, const struct ctl_task_read *reply,
		       const int *fds, unsigned n_fds)
{
	struct monlink_window w = {
		.read = {
			.status = reply->head.status,
			.rules = reply->rules,
			.loss = reply->loss,
		},
	};

	images_reply(r, &w, reply->n_images, fds, n_fds);
}

static void window_reply(struct request *r, const struct ctl_window_read *reply,
			 const int *fds, unsigned n_fds)
{
	struct monlink_window w = {
		.read = {
			.status = reply->head.status,
			.rules = reply->rules,
			.loss = reply->loss,
		},
		.has_loss = reply->has_loss,
		.readers = reply->readers,
	};

	images_reply(r, &w, reply->n_images, fds, n_fds);
}

static void hello_reply(struct monlink *m, const struct ctl_hello *h)
{
	if (h->head.status || h->head.len != sizeof(*h)) {
		log_errx("monitor: refused the greeting");
		monlink_down(m);
		return;
	}
	m->hello = *h;
	m->hello.version[sizeof(m->hello.version) - 1] = '\0';
	m->hello.backend[sizeof(m->hello.backend) - 1] = '\0';
	m->state = MONLINK_ATTACHED;
	log_info("monitor: attached, version %s, back end %s", m->hello.version,
		 m->hello.backend);
	monlink_poll(m);
	if (request_new(m, CTL_TASK_LIST, sizeof(struct ctl_task_list)))
		requests_pump(m);
	else
		monlink_down(m);
}

/*
 * What the monitor holds of an earlier agent, or of a task that ended while
 * nobody could tell it: it goes, then comes what should be there.
 */
static void list_reply(struct monlink *m, const struct ctl_task_list *l)
{
	for (uint32_t i = 0; i < MIN(l->n, TASKS_MAX); i++) {
		if (!registry_find(m->agent->registry, l->task[i].id))
			monlink_del(m, l->task[i].id, NULL, NULL);
	}
	registry_replay(m->agent);
}

/* One reply; false: the connection must go. */
static bool reply_take(struct monlink *m, const void *msg, size_t len,
		       const int *fds, unsigned n_fds)
{
	const struct ctl_head *h = msg;
	struct request *r;

	if (len < sizeof(*h) || h->magic != CTL_MAGIC ||
	    h->version != CTL_VERSION || h->len != len)
		return false;
	for (r = m->requests; r; r = r->next)
		if (r->sent && r->head.seq == h->seq)
			break;
	if (!r)
		return true; /* its time was over */
	if (h->type != r->head.type)
		return false;
	if (h->type == CTL_TASK_READ) {
		struct ctl_task_read reply = { .head = *h };

		if (len == sizeof(reply))
			memcpy(&reply, msg, len);
		else if (!h->status)
			return false;
		read_reply(r, &reply, fds, n_fds);
		return true;
	}
	if (h->type == CTL_WINDOW_READ) {
		struct ctl_window_read reply = { .head = *h };

		if (len == sizeof(reply))
			memcpy(&reply, msg, len);
		else if (!h->status)
			return false;
		window_reply(r, &reply, fds, n_fds);
		return true;
	}
	if (h->type == CTL_TASK_LIST && len != sizeof(struct ctl_task_list))
		return false;
	if (h->type == CTL_STATS && !h->status && len == sizeof(m->stats))
		memcpy(&m->stats, msg, len);
	request_finish(r, h->status, NULL);
	if (h->type == CTL_HELLO)
		hello_reply(m, msg);
	else if (h->type == CTL_TASK_LIST)
		list_reply(m, msg);
	return true;
}

static unsigned take_fds(struct msghdr *mh, int *fds)
{
	struct cmsghdr *c;
	unsigned n = 0;

	for (c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	}
	return n;
}

static void link_io(void *arg, uint32_t events)
{
	struct monlink *m = arg;
	union {
		struct ctl_head head;
		uint8_t b[CTL_MAX_BYTES];
	} msg;
	union {
		struct cmsghdr align;
		uint8_t b[CMSG_SPACE(CTL_READERS * sizeof(int))];
	} ctl;
	int fds[CTL_READERS];
	bool ok = true;

	(void)events;
	while (ok && m->io.fd >= 0) {
		struct iovec iov = { &msg, sizeof(msg) };
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = &ctl,
				     .msg_controllen = sizeof(ctl) };
		ssize_t n =
			recvmsg(m->io.fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		unsigned n_fds;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			break;
		n_fds = take_fds(&mh, fds);
		ok = !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
		     reply_take(m, &msg, (size_t)n, fds, n_fds);
		while (n_fds--)
			close(fds[n_fds]);
	}
	if (m->io.fd >= 0)
		monlink_down(m);
}

static bool monitor_trusted(struct monlink *m, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return false;
	if (cred.uid == 0 || (m->has_uid && cred.uid == m->monitor_uid))
		return true;
	if (!m->warned)
		log_errx("monitor: uid %u holds the control socket, want 0 or "
			 "the user of --monitor-user",
			 (unsigned)cred.uid);
	m->warned = true;
	return false;
}

static void link_try(void *arg)
{
	struct monlink *m = arg;
	struct sockaddr_un sun;
	socklen_t len = ctl_address(m->agent->conf->instance, &sun);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, len) ||
	    !monitor_trusted(m, fd) ||
	    loop_io_add(m->agent->loop, &m->io, fd, EPOLLIN, link_io, m)) {
		if (fd >= 0)
			close(fd);
		loop_timer_in(m->agent->loop, &m->retry, RETRY_MS, link_try, m);
		return;
	}
	requests_refill(m);
	if (!request_new(m, CTL_HELLO, sizeof(struct ctl_hello)))
		monlink_down(m);
	else
		requests_pump(m);
}

int monlink_open(struct monlink **out, struct agent *a)
{
	struct monlink *m = calloc(1, sizeof(*m));
	gid_t gid;

	if (!m)
		return -ENOMEM;
	m->agent = a;
	m->io = LOOP_IO_INIT;
	m->has_uid =
		!user_resolve(a->conf->monitor_user, &m->monitor_uid, &gid);
	*out = m;
	return loop_timer_in(a->loop, &m->retry, 0, link_try, m);
}

void monlink_free(struct monlink *m)
{
	if (!m)
		return;
	if (m->io.fd >= 0) {
		int fd = m->io.fd;

		loop_io_del(&m->io);
		close(fd);
	}
	loop_timer_cancel(&m->retry);
	loop_timer_cancel(&m->pace);
	requests_free(m);
	free(m);
}

enum monlink_state monlink_state(const struct monlink *m)
{
	return m->state;
}

void monlink_poll(struct monlink *m)
{
	if (m->state == MONLINK_ATTACHED &&
	    request_new(m, CTL_STATS, sizeof(struct ctl_stats)))
		requests_pump(m);
}

const struct ctl_stats *monlink_stats(const struct monlink *m)
{
	return &m->stats;
}

const struct ctl_hello *monlink_hello(const struct monlink *m)
{
	return &m->hello;
}
