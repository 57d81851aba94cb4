/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file in the place of another: whole or not at all. */
#ifndef LINNET_REPLACE_H
#define LINNET_REPLACE_H

#include <stddef.h>

/*
 * Writes text to the file beside, syncs it, and renames it to name; both are
 * relative to dir (or AT_FDCWD).  mode: of the file, or -1: what the umask
 * leaves of 0666.  On failure beside is removed.  That the rename survives a
 * crash takes a sync of the directory, which is the caller's.  0 or -errno.
 */
int file_replace(int dir, const char *name, const char *beside, int mode,
		 const char *text, size_t len);

#endif
