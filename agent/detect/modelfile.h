/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Models as JSON, in files: loaded is, bit by bit, what was saved. */
#ifndef LINNET_DETECT_MODELFILE_H
#define LINNET_DETECT_MODELFILE_H

#include "agent/detect/model.h"
#include "common/buf.h"
#include "common/json_out.h"

#define MODELFILE_BYTES_MAX (32u << 20)
#define MODELFILE_WHY_LEN   160

enum modelfile_result {
	MODELFILE_BAD = 1, /* not a model, or one that fails its self-check */
	MODELFILE_LARGE,   /* more than MODELFILE_BYTES_MAX */
};

/* One line with its end.  0, MODELFILE_LARGE, -ENOMEM. */
int modelfile_format(const struct detect_model *model, struct buf *out);
/* What answers say in the same way: the list of words, a number like 60. */
void modelfile_put_quality(struct json_out *o, unsigned quality);
void modelfile_put_whole(struct json_out *o, const char *name, double v);
/*
 * Text -> a model that passed every check, freed with detect_model_free().
 * 0, MODELFILE_BAD or MODELFILE_LARGE with the reason in why, -ENOMEM.
 */
int modelfile_parse(const char *text, size_t len, struct detect_model **model,
		    char why[MODELFILE_WHY_LEN]);

/*
 * Replaces the file: whatever happens meanwhile, the old or the new one is
 * there.  What is no plain file (a device, a pipe) is written to.  0,
 * MODELFILE_LARGE, -errno.
 */
int modelfile_save(const char *path, const struct detect_model *model);
/* As modelfile_parse(), or -errno of the file. */
int modelfile_load(const char *path, struct detect_model **model,
		   char why[MODELFILE_WHY_LEN]);

#endif
