/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A closed window from this host's monitor: the rows of all readers merged and
 * finished, and their flows in one list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/monlink.h"
#include "agent/msnm_private.h"
#include "common/log.h"
#include "common/util.h"

struct msnm_row {
	struct msnm *m;
	uint64_t k;
	bool flows;
	struct monlink_op *op;
	void (*done)(void *arg, const struct msnm_row_result *r);
	void *arg;
};

void msnm_row_cancel(struct msnm_row *r)
{
	if (!r)
		return;
	monlink_cancel(r->op);
	free(r);
}

/* One part of an image, checked for its place; NULL: it is not in. */
static const void *part_of(const struct ctl_image *img, unsigned bit,
			   size_t *len)
{
	if (!(img->kinds & 1u << bit))
		return NULL;
	*len = (size_t)img->image[bit].len;
	return (const uint8_t *)img + img->image[bit].offset;
}

/* The rows of all readers as one.  0 or -errno. */
static int rows_merge(const struct msnm_row *r, const struct monlink_read *read,
		      struct features_row **out)
{
	struct features_row *row = malloc(sizeof(*row));
	bool first = true;
	int ret = row ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < read->n_images && !ret; i++) {
		size_t len = 0;
		const struct features_row *in =
			part_of(read->image[i], 0, &len);

		if (!in || features_row_check(in, len, &r->m->task) ||
		    in->interval != r->k ||
		    (!first && features_row_merge(row, in)))
			ret = -EPROTO;
		else if (first)
			memcpy(row, in, sizeof(*row));
		first = false;
	}
	if (!ret && first)
		ret = -ENODATA;
	if (ret)
		free(row);
	else
		*out = row;
	return ret;
}

/* The flows of all readers in one list, for the caller to free. */
static struct features_flow *flows_join(const struct monlink_read *read,
					size_t *n)
{
	struct features_flow *all = NULL, *more;

	*n = 0;
	for (uint32_t i = 0; i < read->n_images; i++) {
		size_t len = 0;
		const struct features_flows *in =
			part_of(read->image[i], 1, &len);

		if (!in || features_flows_check(in, len) || !in->n)
			continue;
		more = reallocarray(all, *n + in->n, sizeof(*all));
		if (!more)
			break;
		all = more;
		memcpy(all + *n, in->flow, in->n * sizeof(*all));
		*n += in->n;
	}
	return all;
}

static void answered(void *arg, const struct monlink_window *w)
{
	struct msnm_row *r = arg;
	struct msnm_row_result res = { .status = w->read.status };
	const struct ctl_loss *l = &w->read.loss;
	struct features_flow *flows = NULL;
	struct features_row *row = NULL;

	/* the rules are not as they should be: packets pass unseen */
	if (!res.status && (w->read.rules == CTL_RULES_DEGRADED ||
			    w->read.rules == CTL_RULES_OFF))
		res.status = -ESHUTDOWN;
	if (!res.status && !r->flows)
		res.status = rows_merge(r, &w->read, &row);
	if (row) {
		uint64_t matched = w->has_loss ? l->matched.packets : 0;
		uint64_t got = w->has_loss ? l->received.packets : 0;

		features_row_loss(row, matched,
				  matched > got ? matched - got : 0,
				  w->readers);
		res.quality = row->quality;
		res.missed = row->missed_packets;
		res.overflow = row->overflow;
		features_row_finish(row, r->m->conf.blocks, res.x);
	} else if (!res.status) {
		flows = flows_join(&w->read, &res.n_flows);
		res.flow = flows;
	}
	r->done(r->arg, &res);
	free(row);
	free(flows);
	free(r);
}

struct msnm_row *msnm_row_read(struct msnm *m, uint64_t k, bool flows,
			       void (*done)(void *arg,
					    const struct msnm_row_result *r),
			       void *arg)
{
	struct msnm_row *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->m = m;
	r->k = k;
	r->flows = flows;
	r->done = done;
	r->arg = arg;
	r->op = monlink_window(m->agent->monlink, m->task.id,
			       m->task.generation, k,
			       flows ? CTL_WINDOW_FLOWS : CTL_WINDOW_ROW,
			       answered, r);
	if (r->op)
		return r;
	free(r);
	return NULL;
}
