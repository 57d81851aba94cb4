/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small JSON documents in the state directory, each replaced as a whole and
 * followed by a line with its checksum.
 */
#ifndef LINNET_STATE_H
#define LINNET_STATE_H

#include <stddef.h>

#include "common/buf.h"

#define STATE_MAX_BYTES ((size_t)4 << 20)

/*
 * The document, without the checksum.  0; -ENOENT: there is none; -EBADMSG: it
 * is damaged (said so, kept as NAME.bad); else -errno (said so).
 */
int state_read(const char *dir, const char *name, struct buf *out);
/* text: one line.  Whole or not at all, also if power fails; 0 or -errno. */
int state_write(const char *dir, const char *name, const char *text,
		size_t len);

#endif
