/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reference values and data that lie beside the source tree, where they do. */
#ifndef LINNET_TEST_GOLDEN_H
#define LINNET_TEST_GOLDEN_H

#include <stddef.h>

struct json_object;

struct matrix {
	size_t n, m;
	double *v;
};

/* ../shared/golden/msnm/NAME; NULL: not there. */
struct json_object *golden_open(const char *name);
void golden_close(struct json_object *o);
/* The cells of ../shared/data/msnm/NAME without header and first column. */
struct matrix golden_data(const char *name);

/* Member by name, element by number, number; each fails the test if missing. */
struct json_object *golden_at(struct json_object *o, const char *name);
struct json_object *golden_item(struct json_object *o, size_t i);
double golden_number(struct json_object *o, const char *name);
double golden_element(struct json_object *o, size_t i);
size_t golden_length(struct json_object *o);

/*
 * |value - want| <= bound; else the test fails with `what`.  Keeps the largest
 * share of a bound that was used.
 */
void golden_near(const char *what, double value, double want, double bound);
double golden_worst(void);

#endif
