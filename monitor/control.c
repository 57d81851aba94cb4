/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket, whose clients are taken for hostile.  One datagram is one
 * request of a fixed size for its type; anything else closes the connection and
 * is counted.  A client is answered before its next request is read, so that it
 * can neither pile up work nor fill our memory; replies never wait.
 *
 * The abstract name is the lock of the instance: it lives in the network
 * namespace and is gone with the process that bound it.
 */
#include "monitor/control.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

/* Bytes of each request. */
static const size_t request_len[CTL_TYPES] = {
	[CTL_HELLO] = sizeof(struct ctl_hello),
	[CTL_TASK_PUT] = sizeof(struct ctl_task_put),
	[CTL_TASK_DEL] = sizeof(struct ctl_task_del),
	[CTL_TASK_LIST] = sizeof(struct ctl_task_list),
	[CTL_TASK_READ] = sizeof(struct ctl_task_read),
	[CTL_STATS] = sizeof(struct ctl_stats),
	[CTL_WINDOW_READ] = sizeof(struct ctl_window_read),
};
static_assert(sizeof(union control_message) == CTL_MAX_BYTES, "one datagram");

int control_parse(union control_message *out, const void *data, size_t len)
{
	const struct ctl_head *h = &out->head;

	memset(out, 0, sizeof(*out));
	if (len < sizeof(*h) || len > sizeof(*out))
		return -EPROTO;
	memcpy(out, data, len);
	if (h->magic != CTL_MAGIC || h->version != CTL_VERSION ||
	    h->len != len || h->type >= CTL_TYPES || !request_len[h->type] ||
	    request_len[h->type] != len)
		return -EPROTO;
	if (h->status || h->reserved)
		return -EINVAL;
	if (h->type == CTL_TASK_PUT && !task_valid(&out->put.task))
		return -EINVAL;
	if (h->type == CTL_TASK_READ && out->read.reserved)
		return -EINVAL;
	if (h->type == CTL_WINDOW_READ &&
	    (out->window.reserved || out->window.what >> CTL_IMAGE_KINDS))
		return -EINVAL;
	return 0;
}

static void client_close(struct control_client *c)
{
	bool busy = c->busy;

	loop_io_del(&c->io);
	close(c->fd);
	c->fd = -1;
	c->busy = false;
	if (busy)
		c->control->ops->gone(c->control->arg, c);
}

/* CTL_RATE a second; true if this request is within. */
static bool client_pay(struct control_client *c)
{
	uint64_t now_ms = clock_mono_ms();
	uint64_t earned = (now_ms - c->refilled_ms) * CTL_RATE / 1000;

	/* what is over is kept: who stays below the rate is never refused */
	c->refilled_ms += earned * 1000 / CTL_RATE;
	c->tokens = (uint32_t)MIN(c->tokens + earned, CTL_RATE);
	if (c->tokens == 0)
		return false;
	c->tokens--;
	return true;
}

static void client_send(struct control_client *c, struct msghdr *msg)
{
	/* who asks without taking the answers is not worth a buffer */
	if (sendmsg(c->fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	c->control->bad_requests++;
	client_close(c);
}

void control_reply(struct control_client *c, union control_message *m,
		   const int *fds, uint32_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CTL_READERS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = m };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	bool was_busy = c->busy;

	assert(n <= CTL_READERS);
	if (m->head.status)
		m->head.len = sizeof(m->head);
	iov.iov_len = m->head.len;
	if (n > 0 && !m->head.status) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	}
	c->busy = false;
	client_send(c, &msg);
	if (was_busy && c->fd >= 0)
		(void)loop_io_mod(&c->io, EPOLLIN);
}

static void client_request(struct control_client *c, const void *data,
			   size_t len)
{
	struct control *control = c->control;
	union control_message m;
	int err = control_parse(&m, data, len);

	if (err == -EPROTO) {
		control->bad_requests++;
		client_close(c);
		return;
	}
	if (err)
		control->bad_requests++;
	else if (!client_pay(c))
		err = -EBUSY;
	c->busy = true;
	if (err) {
		m.head.status = err;
		control_reply(c, &m, NULL, 0);
	} else {
		control->ops->request(control->arg, c, &m);
	}
	explicit_bzero(&m, sizeof(m)); /* seeds */
	/* hears only of its end until it is answered */
	if (c->busy)
		(void)loop_io_mod(&c->io, 0);
}

static void client_ready(void *arg, uint32_t events)
{
	struct control_client *c = arg;
	uint8_t data[CTL_MAX_BYTES + 1];
	ssize_t n;

	if (c->busy) {
		/* its end; there may be requests before it */
		if (events & (EPOLLHUP | EPOLLERR))
			client_close(c);
		return;
	}
	n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		client_close(c);
	else
		client_request(c, data, (size_t)n);
	explicit_bzero(data, sizeof(data));
}

static bool client_allowed(const struct control *control, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	return cred.uid == 0 || cred.uid == control->agent_uid;
}

static struct control_client *client_free(struct control *control)
{
	for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
		if (control->client[i].fd < 0)
			return &control->client[i];
	}
	return NULL;
}

static void control_ready(void *arg, uint32_t events)
{
	struct control *control = arg;
	int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct control_client *c;

	(void)events;
	if (fd < 0)
		return;
	c = client_free(control);
	if (!client_allowed(control, fd) || !c) {
		log_warnx("control: refused a client");
		control->bad_requests++;
		close(fd);
		return;
	}
	c->control = control;
	c->fd = fd;
	c->busy = false;
	c->tokens = CTL_RATE;
	c->refilled_ms = clock_mono_ms();
	c->number = (uint32_t)(c - control->client);
	if (loop_io_add(control->loop, &c->io, fd, EPOLLIN, client_ready, c)) {
		close(fd);
		c->fd = -1;
	}
}

int control_bind(struct control *c, const char *instance)
{
	struct sockaddr_un sun;
	socklen_t len = ctl_address(instance, &sun);

	*c = (struct control){ .fd = -1, .io = LOOP_IO_INIT };
	for (uint32_t i = 0; i < CTL_CLIENTS; i++)
		c->client[i] = (struct control_client){ .fd = -1 };
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0);
	if (c->fd < 0)
		return -errno;
	return bind(c->fd, (struct sockaddr *)&sun, len) < 0 ? -errno : 0;
}

int control_listen(struct control *c, struct loop *loop, uid_t agent_uid,
		   const struct control_ops *ops, void *arg)
{
	c->loop = loop;
	c->ops = ops;
	c->arg = arg;
	c->agent_uid = agent_uid;
	if (listen(c->fd, CTL_CLIENTS) < 0)
		return -errno;
	return loop_io_add(loop, &c->io, c->fd, EPOLLIN, control_ready, c);
}

void control_fini(struct control *c)
{
	for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
		if (c->client[i].fd >= 0)
			client_close(&c->client[i]);
	}
	loop_io_del(&c->io);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
