/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words that end a request, as problem type and as HTTP status. */
#include "agent/tree/message.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/util.h"

static const struct {
	const char *name;
	int status;
} words[] = {
	[TREE_OK] = { "ok", 200 },
	[TREE_WAIT] = { "nothing-heard", 504 },
	[TREE_MOVED] = { "moved", 409 },
	[TREE_STALE] = { "stale-epoch", 409 },
	[TREE_SELF] = { "same-host", 409 },
	[TREE_CYCLE] = { "cycle", 409 },
	[TREE_PARENT] = { "other-parent", 409 },
	[TREE_DOUBLE] = { "id-in-use", 409 },
	[TREE_OVERLAY] = { "other-overlay", 409 },
	[TREE_VERSION] = { "other-version", 409 },
	[TREE_DETACHED] = { "detached", 409 },
	[TREE_BUSY] = { "busy", 503 },
	[TREE_FULL] = { "too-many-children", 507 },
	[TREE_DEEP] = { "too-deep", 508 },
	[TREE_LOOP] = { "loop", 508 },
	[TREE_DENIED] = { "denied", 403 },
	[TREE_BAD] = { "bad-request", 400 },
};
static_assert(ARRAY_SIZE(words) == TREE_WORDS, "a name each");

bool tree_blocks_within(const struct tree_block *b, unsigned n,
			const struct tree_block *all, unsigned n_all)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < n_all; k++)
			if (!memcmp(&b[i], &all[k], sizeof(*b))) {
				found++;
				break;
			}
	return found == n;
}

const char *tree_word_name(enum tree_word w)
{
	assert(w < TREE_WORDS);
	return words[w].name;
}

int tree_word_status(enum tree_word w)
{
	assert(w < TREE_WORDS);
	return words[w].status;
}

int tree_word_parse(const char *s, enum tree_word *out)
{
	for (unsigned i = 0; i < TREE_WORDS; i++) {
		if (strcmp(s, words[i].name) == 0) {
			*out = (enum tree_word)i;
			return 0;
		}
	}
	return -EINVAL;
}

enum tree_word tree_word_of_status(int status)
{
	switch (status) {
	case 200:
		return TREE_OK;
	case 401:
	case 403:
		return TREE_DENIED;
	case 404:
	case 405:
	case 501:
		return TREE_VERSION;
	case 409:
		return TREE_MOVED;
	case 429:
	case 503:
		return TREE_BUSY;
	case 507:
		return TREE_FULL;
	case 508:
		return TREE_LOOP;
	default:
		return TREE_BAD;
	}
}
