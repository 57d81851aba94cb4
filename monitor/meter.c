/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The capture rules of a direction share one nfacct object, in both address
 * families, so that "matched" is one number that the kernel counts before
 * anything can go wrong.  An object can be made only before, and deleted only
 * after the rules that name it; the kernel frees a deleted rule a moment late,
 * hence -EBUSY and another try.  A deleted object's count is kept, so that
 * "matched" only grows as long as the supervisor lives.
 */
#include "monitor/meter.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_acct.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/nfnl.h"

static const char *const dir_name[PACKET_DIRS] = { "in", "out" };

void meter_name(const char *instance, enum packet_dir dir, char out[32])
{
	snprintf(out, 32, "linnet-%s-%s", instance, dir_name[dir]);
}

int meter_init(struct meter *m, const char *instance, bool netfilter)
{
	void *page = mmap(NULL, CTL_READERS * sizeof(*m->slot),
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	*m = (struct meter){ .fd = -1, .slot = page };
	for (int d = 0; d < PACKET_DIRS; d++)
		meter_name(instance, (enum packet_dir)d, m->name[d]);
	if (!netfilter)
		return 0;
	m->fd = nfnl_open();
	return m->fd < 0 ? m->fd : 0;
}

void meter_fini(struct meter *m)
{
	if (m->slot)
		munmap(m->slot, CTL_READERS * sizeof(*m->slot));
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct meter){ .fd = -1 };
}

static void meter_attr(void *arg, uint16_t type, const void *data, size_t len)
{
	struct ctl_volume *v = arg;
	uint64_t be;

	if (len != sizeof(be))
		return;
	memcpy(&be, data, sizeof(be));
	if (type == NFACCT_PKTS)
		v->packets = be64toh(be);
	else if (type == NFACCT_BYTES)
		v->bytes = be64toh(be);
}

static int meter_call(struct meter *m, uint8_t type, uint16_t flags,
		      const char *name, struct ctl_volume *v)
{
	struct nfnl_request r;

	nfnl_begin(&r, NFNL_SUBSYS_ACCT, type, flags, 0);
	nfnl_put(&r, NFACCT_NAME, name, strlen(name) + 1);
	return nfnl_call(m->fd, &r, v ? meter_attr : NULL, v);
}

int meter_probe(struct meter *m)
{
	struct ctl_volume v;
	/* not there, usually: what matters is who says so */
	int err = meter_call(m, NFNL_MSG_ACCT_GET, 0, m->name[PACKET_IN], &v);

	return err == -ENOENT ? 0 : err;
}

int meter_create(struct meter *m, enum packet_dir dir)
{
	int err;

	if (m->present[dir])
		return 0;
	err = meter_call(m, NFNL_MSG_ACCT_NEW, NLM_F_CREATE | NLM_F_EXCL,
			 m->name[dir], NULL);
	if (err)
		return err;
	m->present[dir] = true;
	return 0;
}

int meter_delete(struct meter *m, enum packet_dir dir)
{
	struct ctl_volume last = { 0 };
	int err;

	if (m->present[dir]) {
		err = meter_call(m, NFNL_MSG_ACCT_GET, 0, m->name[dir], &last);
		if (err && err != -ENOENT)
			return err;
	}
	err = meter_call(m, NFNL_MSG_ACCT_DEL, 0, m->name[dir], NULL);
	if (err && err != -ENOENT)
		return err;
	m->present[dir] = false;
	m->before[dir].packets += last.packets;
	m->before[dir].bytes += last.bytes;
	return 0;
}

int meter_read(struct meter *m, enum packet_dir dir, struct ctl_volume *out)
{
	struct ctl_volume v = { 0 };

	if (m->present[dir]) {
		int err = meter_call(m, NFNL_MSG_ACCT_GET, 0, m->name[dir], &v);

		if (err)
			return err;
	}
	out->packets = m->before[dir].packets + v.packets;
	out->bytes = m->before[dir].bytes + v.bytes;
	return 0;
}

struct ctl_volume meter_received(const struct meter *m, uint32_t reader,
				 enum packet_dir dir)
{
	const struct meter_slot *s = &m->slot[reader];

	return (struct ctl_volume){
		.packets = atomic_load_explicit(&s->received[dir].packets,
						memory_order_relaxed),
		.bytes = atomic_load_explicit(&s->received[dir].bytes,
					      memory_order_relaxed),
	};
}
