/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token of this agent, and hello: it asks another agent for the proof that
 * it knows that token, too.  Nobody is told a token before.
 */
#ifndef LINNET_HELLO_H
#define LINNET_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "agent/tree_json.h"
#include "common/addr.h"
#include "common/buf.h"

#define HELLO_PATH      "/api/v1/peer/hello"
#define HELLO_TOKEN_MAX 128

/*
 * The one token of a file of mode 0600 that belongs to this user or to root.
 * 0, or -errno after a line in the log that says why.
 */
int hello_token_read(const char *path, char out[HELLO_TOKEN_MAX + 1]);
/* What proves to who sent the nonce that this host knows the token. */
void hello_proof(const char *token, const uint8_t nonce[TREE_NONCE],
		 const struct node_id *id, const struct endpoint *asked,
		 uint8_t out[TREE_PROOF]);
/* Body of the request; b->failed: no memory. */
void hello_write(const uint8_t nonce[TREE_NONCE], struct buf *b);
/*
 * Is this reply, of who was asked at this address, the proof?  0;
 * -EKEYREJECTED; -EPROTO: it is no answer to hello.
 */
int hello_check(const char *token, const uint8_t nonce[TREE_NONCE],
		const struct endpoint *asked, const char *body, size_t len);

#endif
