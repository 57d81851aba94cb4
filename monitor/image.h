/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying a task's sketches into a memory file that the agent may have, a
 * piece at a time, between batches of packets.
 */
#ifndef LINNET_IMAGE_H
#define LINNET_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ctl.h"
#include "common/sketch/sketch.h"

#define IMAGE_PIECE (256 << 10) /* bytes a turn */

struct image {
	bool active;
	const void *const *sketch; /* SKETCH_KINDS, borrowed */
	bool plain;                /* instead: what does not change meanwhile */
	const void *part[CTL_WINDOW_PARTS];
	uint32_t kinds;
	int fd;
	struct ctl_image *map;
	size_t size;
	/* progress */
	uint32_t kind;
	size_t at;      /* copied of this kind */
	uint32_t moved; /* how often a copy had to begin again */
	uint64_t epoch[SKETCH_KINDS];
	uint64_t move; /* of this kind: how many are in the copy */
	uint32_t late; /* turns that it took to have them all, so far */
};

/*
 * Begins a copy of the kinds that exist (sketch[k] not NULL, of room[k] bytes)
 * and are asked.  The sketches stay where they are until image_end().
 * 0 or -errno.
 */
int image_begin(struct image *im, const void *const sketch[SKETCH_KINDS],
		const size_t room[SKETCH_KINDS], uint32_t kinds);
/*
 * Same for parts[i] of len[i] bytes, as far as asked, which stay as they are
 * until image_end().
 */
int image_begin_window(struct image *im,
		       const void *const parts[CTL_WINDOW_PARTS],
		       const size_t len[CTL_WINDOW_PARTS], uint32_t what);
/* Copies one piece; true: the sketches are copied, fill im->map and seal. */
bool image_turn(struct image *im);
/* Makes the file read-only for good.  0 or -errno. */
int image_seal(struct image *im);
/* Frees everything; fine when nothing was begun. */
void image_end(struct image *im);

#endif
