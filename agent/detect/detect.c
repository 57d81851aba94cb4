/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Outcomes in words.  A text ends where detect_error_format() can go on with
 * figures; what has none is complete.
 */
#include "agent/detect/detect.h"

#include <stdio.h>
#include <string.h>

static const char *const error_text[DETECT_ERRORS] = {
	[DETECT_OK] = "done",
	[DETECT_OPTION] = "option out of range",
	[DETECT_SIZE] = "no rows or columns, or too many",
	[DETECT_VALUE] = "value is not a number or too large",
	[DETECT_MISSING] = "value is missing",
	[DETECT_CONSTANT] = "no column varies",
	[DETECT_FEW_ROWS] = "too few rows: at least 3 are needed",
	[DETECT_LV] = "too many latent variables",
	[DETECT_BATCH] = "batch smaller than latent variables + 2",
	[DETECT_RANGE] = "values too large or too small to calculate with",
	[DETECT_SOLVER] = "decomposition does not converge",
	[DETECT_MODEL_SIZE] = "dimensions disagree",
	[DETECT_MODEL_NUMBER] = "number is not finite or out of range",
	[DETECT_MODEL_ORDER] = "eigenvalues are not positive and descending",
	[DETECT_MODEL_SCALE] = "scale is not positive",
	[DETECT_MODEL_LOADINGS] = "loadings are not orthonormal",
	[DETECT_MODEL_LIMITS] = "limits do not belong to the eigenvalues",
};

const char *detect_error_text(int error)
{
	if (error < 0)
		return strerror(-error);
	return error < DETECT_ERRORS ? error_text[error] : "unknown outcome";
}

char *detect_error_format(int error, const struct detect_reason *why, char *out,
			  size_t size)
{
	const char *text = detect_error_text(error);

	if (why && (error == DETECT_VALUE || error == DETECT_MISSING))
		snprintf(out, size, "row %zu, column %zu: %s", why->row,
			 why->column, text);
	else if (why && error == DETECT_LV && why->usable)
		snprintf(out, size, "%s: %zu; the largest usable number is %zu",
			 text, why->lv, why->usable);
	else
		snprintf(out, size, "%s", text);
	return out;
}
