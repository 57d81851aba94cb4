/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What other agents send to build the tree: read; if it is a message, written
 * and read again it is the same.
 *
 * Input: 1 byte kind (low bits) and whether it is a reply (bit 7), or a reply
 * that refuses (bit 6), then the text.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree_json.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_back(const struct tree_wire *w, bool reply, struct buf *out)
{
	tree_wire_write(w, reply, out);
	MUST(!out->failed);
}

static void check(const struct tree_wire *w, int status)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct tree_wire again;

	write_back(w, status, &first);
	if (status)
		status = tree_word_status(w->m.word);
	MUST(!tree_wire_read(w->m.kind, status, first.data, first.len, &again));
	MUST(again.m.word == w->m.word);
	write_back(&again, status, &second);
	MUST(first.len == second.len &&
	     !memcmp(first.data, second.data, first.len));
	tree_wire_fini(&again);
	buf_fini(&first);
	buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree_wire w;
	int status, ret;

	if (size < 1)
		return 0;
	status = data[0] & 128 ? (data[0] & 64 ? 409 : 200) : 0;
	ret = tree_wire_read((enum tree_kind)((data[0] & 63) % TREE_KINDS),
			     status, (const char *)data + 1, size - 1, &w);
	MUST(ret == 0 || ret == -EINVAL || ret == -ENOMEM);
	if (ret)
		return 0;
	check(&w, status);
	tree_wire_fini(&w);
	return 0;
}
