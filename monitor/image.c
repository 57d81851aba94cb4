/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy in pieces.  A sketch's head comes first, and once more at the end, so
 * that the weight it says is that of all that was copied; entries added
 * meanwhile are copied, too.  If entries moved (the epoch changed) that sketch
 * is copied again, the third time in one piece, so that a copy always ends.
 *
 * The real-time table is too large for that, and evicts all the time.  It says
 * which entries it gave away: these, and those added meanwhile, are copied
 * after the rest, until none is left, and then the head once more.  A turn
 * copies far more entries than its packets can evict, so that this ends, too;
 * if ever it did not, the rest is copied in one piece.
 *
 * Each sketch has room for its whole memory in the file, which has holes where
 * nothing was copied.  The file belongs to this module until it is sealed and
 * sent; the mapping goes before the seal, which refuses writers.
 */
#include "monitor/image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/util.h"

#define ALIGN     64u
#define MOVED_MAX 2
#define LATE_MAX  16 /* turns, then it is made to end */

static_assert(SKETCH_KINDS <= CTL_IMAGE_KINDS, "a place for each kind");

static size_t align_up(size_t n)
{
	return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static int image_map(struct image *im)
{
	im->fd = memfd_create("linnet-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (im->fd < 0 || ftruncate(im->fd, (off_t)im->size) < 0)
		return -errno;
	im->map = mmap(NULL, im->size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       im->fd, 0);
	if (im->map == MAP_FAILED) {
		im->map = NULL;
		return -errno;
	}
	return 0;
}

/* A place of room bytes for the image of kind k. */
static void image_place(struct image *im, struct ctl_image *head, uint32_t k,
			size_t room)
{
	im->kinds |= 1u << k;
	head->image[k].offset = im->size;
	head->image[k].len = room;
	im->size = align_up(im->size + room);
}

static int image_create(struct image *im, struct ctl_image *head)
{
	int err = image_map(im);

	if (err) {
		image_end(im);
		return err;
	}
	assert(im->map);
	head->kinds = im->kinds;
	*im->map = *head;
	im->active = true;
	return 0;
}

int image_begin(struct image *im, const void *const sketch[SKETCH_KINDS],
		const size_t room[SKETCH_KINDS], uint32_t kinds)
{
	struct ctl_image head = { .magic = CTL_IMAGE_MAGIC };

	*im = (struct image){ .fd = -1, .sketch = sketch };
	im->size = align_up(sizeof(head));
	for (uint32_t k = 0; k < SKETCH_KINDS; k++) {
		if (kinds >> k & 1 && sketch[k])
			image_place(im, &head, k, room[k]);
	}
	return image_create(im, &head);
}

int image_begin_window(struct image *im,
		       const void *const parts[CTL_WINDOW_PARTS],
		       const size_t len[CTL_WINDOW_PARTS], uint32_t what)
{
	struct ctl_image head = { .magic = CTL_IMAGE_MAGIC };

	*im = (struct image){ .fd = -1, .plain = true };
	im->size = align_up(sizeof(head));
	for (uint32_t k = 0; k < CTL_WINDOW_PARTS; k++) {
		im->part[k] = parts[k];
		if (what >> k & 1)
			image_place(im, &head, k, len[k]);
	}
	return image_create(im, &head);
}

/* Notes what the sketch's head says, which is copied in the same breath. */
static void image_look(struct image *im, uint32_t k)
{
	struct sketch_moves moves;

	if (im->plain)
		return;
	sketch_image_moves(im->sketch[k], &moves);
	im->move = moves.n;
	im->epoch[k] = sketch_image_epoch(im->sketch[k]);
	im->map->image[k].len = sketch_image_len(im->sketch[k]);
}

/* True if entries of the sketch moved since: its copy begins again. */
static bool image_spoiled(struct image *im, uint32_t k)
{
	if (im->plain || sketch_image_epoch(im->sketch[k]) == im->epoch[k])
		return false;
	im->moved++;
	im->at = 0;
	return true;
}

/* Copies up to budget bytes of sketch k; returns how many. */
static size_t image_piece(struct image *im, uint32_t k, size_t budget)
{
	const void *from = im->plain ? im->part[k] : im->sketch[k];
	size_t n;

	if (im->at == 0)
		image_look(im, k);
	n = MIN(budget, im->map->image[k].len - im->at);
	memcpy((char *)im->map + im->map->image[k].offset + im->at,
	       (const char *)from + im->at, n);
	im->at += n;
	return n;
}

/* The copy has all; true if it has what changed since, and the head. */
static bool image_caught_up(struct image *im, uint32_t k, size_t *left)
{
	const char *from = im->plain ? NULL : im->sketch[k];
	char *to = (char *)im->map + im->map->image[k].offset;
	size_t budget = *left;
	struct sketch_moves m;

	if (!from)
		return true;
	sketch_image_moves(from, &m);
	if (!m.head_len)
		return true;
	im->map->image[k].len = sketch_image_len(from);
	if (im->at < im->map->image[k].len)
		return false;
	if (m.n - im->move > m.places)
		im->move = m.n - m.places;
	if (im->late++ >= LATE_MAX)
		budget = SIZE_MAX;
	while (im->move < m.n && budget > 0) {
		size_t at = m.first + im->move % m.places * m.step;

		memcpy(to + at, from + at, m.step);
		budget -= MIN(budget, m.step);
		im->move++;
	}
	*left = MIN(*left, budget);
	if (im->move < m.n)
		return false;
	memcpy(to, from, m.head_len);
	return true;
}

/* Copies up to *left bytes of sketch k; true: it is done. */
static bool image_kind(struct image *im, uint32_t k, size_t *left)
{
	size_t budget = im->moved < MOVED_MAX ? *left : SIZE_MAX;

	size_t n = image_piece(im, k, budget);

	*left -= MIN(*left, n);
	return im->at == im->map->image[k].len && !image_spoiled(im, k) &&
	       image_caught_up(im, k, left);
}

bool image_turn(struct image *im)
{
	size_t left = IMAGE_PIECE;

	while (im->kind < SKETCH_KINDS && left > 0) {
		uint32_t k = im->kind;

		if (im->kinds >> k & 1 && !image_kind(im, k, &left))
			continue;
		im->kind++;
		im->at = 0;
		im->moved = im->late = 0;
	}
	return im->kind == SKETCH_KINDS;
}

int image_seal(struct image *im)
{
	munmap(im->map, im->size);
	im->map = NULL;
	if (fcntl(im->fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

void image_end(struct image *im)
{
	if (im->map)
		munmap(im->map, im->size);
	if (im->fd >= 0)
		close(im->fd);
	*im = (struct image){ .fd = -1 };
}
