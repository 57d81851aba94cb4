/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to the kernel's netfilter subsystems over netlink. */
#ifndef LINNET_NFNL_H
#define LINNET_NFNL_H

#include <stddef.h>
#include <stdint.h>

#define NFNL_REQUEST_MAX 256

struct nfnl_request {
	uint8_t bytes[NFNL_REQUEST_MAX];
};

/* Returns a close-on-exec netlink socket, or -errno. */
int nfnl_open(void);

/* Begins a request; res_id (a queue's number) in host order. */
void nfnl_begin(struct nfnl_request *r, uint8_t subsys, uint8_t type,
		uint16_t flags, uint16_t res_id);
/* Adds an attribute; too many are our own bug. */
void nfnl_put(struct nfnl_request *r, uint16_t attr, const void *data,
	      size_t len);
/*
 * Sends it and waits for the kernel's acknowledgement.  attr is called for
 * each attribute of an answer that comes before it (NULL: none expected).
 * 0, or -errno: the kernel's, or of the socket.
 */
int nfnl_call(int fd, struct nfnl_request *r,
	      void (*attr)(void *arg, uint16_t type, const void *data,
			   size_t len),
	      void *arg);

/* Number of the last change to this namespace's nf_tables.  0 or -errno. */
int nfnl_generation(int fd, uint32_t *out);

#endif
