/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON documents: answers to read, requests to write. */
#ifndef LINNET_CLI_DOC_H
#define LINNET_CLI_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value of a document; every function takes NULL for "absent". */
struct doc;

#define DOC_TEXT_LEN 512

/* NULL: not JSON.  doc_free() takes only what this and doc_new() gave. */
struct doc *doc_parse(const char *text, size_t len);
void doc_free(struct doc *d);

/* Member by path, "meta.coverage.complete"; NULL: absent or null. */
struct doc *doc_get(struct doc *d, const char *path);
struct doc *doc_at(struct doc *d, size_t i);
size_t doc_len(struct doc *d); /* elements of a list; else 0 */
/* Text as tables show it: "-" for null, yes and no, lists with commas. */
const char *doc_text(struct doc *d, char text[DOC_TEXT_LEN]);
bool doc_is(struct doc *d, const char *text); /* it is this string */
bool doc_true(struct doc *d);
double doc_real(struct doc *d);    /* 0 if it is no number */
uint64_t doc_count(struct doc *d); /* likewise, or negative */

/* A new object; members with a NULL value are left out. */
struct doc *doc_new(void);
void doc_put_str(struct doc *d, const char *name, const char *value);
void doc_put_u64(struct doc *d, const char *name, uint64_t value);
void doc_put_real(struct doc *d, const char *name, double value);
void doc_put(struct doc *d, const char *name, struct doc *value); /* takes */
struct doc *doc_share(struct doc *d); /* one more that frees it */
struct doc *doc_list_new(void);
void doc_list_join(struct doc *list, struct doc *more); /* appends items */
const char *doc_print(struct doc *d); /* borrowed until the next change */

#endif
