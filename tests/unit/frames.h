/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames of every protocol and oddity (T20), each with what must come out of
 * it, and the builders they are made with.
 */
#ifndef LINNET_TEST_FRAMES_H
#define LINNET_TEST_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX 4096
#define ROWS_MAX  1000
#define NEVER     UINT32_MAX

struct frame {
	uint8_t b[FRAME_MAX];
	uint32_t len;
};

/* A frame and what it must give. */
struct row {
	char name[64];
	struct frame f;
	uint32_t kernel_len; /* what the kernel says */
	uint32_t need;       /* captured bytes from which on it has a key */
	uint8_t family;
	uint8_t proto;
	bool ports, fragment, gso;
};

struct table {
	struct row *row;
	size_t n;
};

/* 10.1.2.3 to 10.4.5.6, 2001:db8::1 to 2001:db8::2 */
#define SPORT 40000
#define DPORT 443

/* Appends headers; lengths in them are 0 until set_length(). */
void put_ipv4(struct frame *f, uint8_t ihl, uint8_t proto, uint16_t fragment,
	      uint32_t options);
void put_ipv6(struct frame *f, uint8_t next);
/* Hop-by-hop, routing, destination options. */
void put_extension(struct frame *f, uint8_t next, uint32_t bytes);
void put_ah(struct frame *f, uint8_t next, uint32_t bytes);
void put_fragment(struct frame *f, uint8_t next, uint16_t offset_flags);
/* 40 bytes that begin with the ports; data offset and flags as TCP has them. */
void put_payload(struct frame *f, uint8_t data_offset);
/* The right total or payload length for the frame as it is. */
void set_length(struct frame *f);

/* Fills t->row, of ROWS_MAX rows. */
void table_fill(struct table *t);

#endif
