/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the tree as JSON.  Reading takes hostile input: exact types,
 * bounds on every number and list, no name twice; unknown members are ignored
 * and missing ones that a newer agent may have added are zero.
 */
#ifndef LINNET_TREE_JSON_H
#define LINNET_TREE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tree/message.h"
#include "common/buf.h"

#define TREE_NONCE    16
#define TREE_PROOF    32
#define TREE_BODY_MAX 8192 /* of a request, but for a list of members */

/* A message and what only its way over the network adds. */
struct tree_wire {
	struct tree_msg m;
	/* of hello: the request's nonce, the reply's proof */
	bool has_nonce, has_proof;
	uint8_t nonce[TREE_NONCE], proof[TREE_PROOF];
	/* of a beat's reply: windows that ended before this are judged, and the
	 * parent has been told what it must know of them; 0: no alarm */
	uint64_t alarm_ms;
	void *own; /* rows or peers that m borrows */
};

/*
 * Appends the body of a request or of its reply; a reply whose word is not
 * TREE_OK becomes a problem with that word.  Epoch and lease are headers of a
 * request and members of a reply.
 */
void tree_wire_write(const struct tree_wire *w, bool reply, struct buf *out);
/*
 * Reads such a body; status: of a reply, 0 for a request, whose epoch and lease
 * stay zero.  0; -EINVAL, -ENOMEM: nothing to free.
 */
int tree_wire_read(enum tree_kind kind, int status, const char *text,
		   size_t len, struct tree_wire *w);
void tree_wire_fini(struct tree_wire *w);

#endif
