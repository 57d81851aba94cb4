/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epochs as text and in order. */
#include "agent/tree/epoch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

int epoch_parse(const char *s, struct epoch *out)
{
	const char *dot = s ? strchr(s, '.') : NULL;
	const char *dot2 = dot ? strchr(dot + 1, '.') : NULL;
	struct epoch e;

	if (!dot2 || parse_u64(s, (size_t)(dot - s), 0, EPOCH_MAX, &e.term) ||
	    hex_parse_u64(dot + 1, (size_t)(dot2 - dot - 1), &e.root) ||
	    parse_u64(dot2 + 1, strlen(dot2 + 1), 0, EPOCH_MAX, &e.n))
		return -EINVAL;
	*out = e;
	return 0;
}

void epoch_format(const struct epoch *e, char out[EPOCH_TEXT])
{
	snprintf(out, EPOCH_TEXT, "%" PRIu64 ".%016" PRIx64 ".%" PRIu64,
		 e->term, e->root, e->n);
}

int epoch_compare(const struct epoch *a, const struct epoch *b)
{
	if (a->term != b->term)
		return a->term < b->term ? -1 : 1;
	if (a->root != b->root)
		return a->root < b->root ? -1 : 1;
	return a->n < b->n ? -1 : a->n > b->n;
}
