/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which interface leads to the rest of the world. */
#ifndef LINNET_UPLINK_H
#define LINNET_UPLINK_H

#include <stdint.h>
#include <sys/socket.h>

/* A socket for uplink_find(), or -errno; the caller closes it. */
int uplink_open(void);
/*
 * Index of the interface that a packet of AF_INET or AF_INET6 takes to an
 * address in the public Internet: 0, none.
 */
uint32_t uplink_find(int fd, sa_family_t family);

#endif
