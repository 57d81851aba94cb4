// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the images of a monitor say, as text, for tests in Python.
 *
 *   readimage layout
 *       sizes and offsets of the control structs: "struct.member offset size"
 *   readimage topk TASK IMAGE [TASK IMAGE]…
 *       "KEY UPPER ERR" a row, then "floor N", for each image
 *   readimage exact TASK IMAGE END_SLOT
 *       "KEY VALUE" a row, then "evicted N" and "spilled N"; "too_old"
 *   readimage hll TASK IMAGE
 *       "ESTIMATE LOWER UPPER EXACT"
 *   readimage points TASK IMAGE KEY…
 *       "KEY LOWER UPPER POINT" a key; keys "-" are read from standard input
 *
 *   readimage row TASK IMAGE [TASK IMAGE]… READERS MATCHED MISSED
 *       "NAME VALUE" of the images' merged row, before transforms, with its
 *       "interval", "quality", "records" and "overflow"
 *   readimage flows TASK IMAGE
 *       "KEY PACKETS BYTES DIR NAME…" a flow, with the features that count it
 *
 * TASK is a file with a struct task_spec, IMAGE one as TASK_READ or
 * WINDOW_READ passes it
 * (/proc/self/fd/N serves for both).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ctl.h"
#include "common/features.h"
#include "common/sketch/features.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

struct file {
	const uint8_t *data;
	size_t len;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "readimage: %s: %s\n", what, strerror(err));
	exit(1);
}

static struct file file_map(const char *path)
{
	struct file f = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path, errno);
	f.len = (size_t)st.st_size;
	f.data = mmap(NULL, f.len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (f.data == MAP_FAILED)
		die(path, errno);
	close(fd);
	return f;
}

/* NULL: the image has no sketch of this kind. */
static const void *image_of(const struct file *f, const struct task_spec *t,
			    enum sketch_kind k)
{
	const struct ctl_image *h = (const void *)f->data;
	struct sketch_params p;

	if (f->len < sizeof(*h) || h->magic != CTL_IMAGE_MAGIC)
		die("not an image", EINVAL);
	if (!(h->kinds & 1u << k))
		return NULL;
	if (h->image[k].offset > f->len ||
	    h->image[k].len > f->len - h->image[k].offset)
		die("image out of bounds", EINVAL);
	sketch_params_default(&p, t);
	if (sketch_image_check(k, f->data + h->image[k].offset, h->image[k].len,
			       &p))
		die("image damaged", EINVAL);
	return f->data + h->image[k].offset;
}

static void print_u64(uint64_t v, char end)
{
	printf("%llu%c", (unsigned long long)v, end);
}

static void print_key(enum key_type t, const struct flow_key *k)
{
	char text[KEY_TEXT_LEN];

	key_format(t, k, text);
	printf("%s ", text);
}

static int cmd_topk(const struct task_spec *t, const struct file *f)
{
	const void *img = image_of(f, t, SKETCH_TOPK);
	struct part *p = NULL;
	int err = img ? part_topk(t, img, 0, UINT64_MAX, &p) : -ENOENT;

	if (err)
		die("topk", -err);
	for (uint32_t i = 0; i < p->topk.n; i++) {
		print_key((enum key_type)t->key, &p->topk.row[i].key);
		print_u64(p->topk.row[i].upper, ' ');
		print_u64(p->topk.row[i].err, '\n');
	}
	printf("floor ");
	print_u64(p->topk.floor, '\n');
	part_free(p);
	return 0;
}

static int cmd_exact(const struct task_spec *t, const struct file *f,
		     uint64_t end_slot)
{
	const void *img = image_of(f, t, SKETCH_EXACT);
	struct part *p = NULL;
	int err = img ? part_exact(t, img, end_slot, &p) : -ENOENT;

	if (err == EXACT_TOO_OLD) {
		puts("too_old");
		return 0;
	}
	if (err)
		die("exact", -err);
	for (uint32_t i = 0; i < p->exact.n; i++) {
		print_key((enum key_type)t->key, &p->exact.row[i].key);
		print_u64(p->exact.row[i].value, '\n');
	}
	printf("evicted ");
	print_u64(p->exact.evicted, '\n');
	printf("spilled ");
	print_u64(p->exact.spilled, '\n');
	part_free(p);
	return 0;
}

static int cmd_hll(const struct task_spec *t, const struct file *f)
{
	const void *img = image_of(f, t, SKETCH_HLL);
	struct part *p = NULL;
	int err = img ? part_hll(t, img, &p) : -ENOENT;
	struct distinct d;

	if (err)
		die("hll", -err);
	hll_read(p, &d);
	print_u64(d.estimate, ' ');
	print_u64(d.lower, ' ');
	print_u64(d.upper, ' ');
	printf("%d\n", d.exact);
	part_free(p);
	return 0;
}

static void points_print(const struct task_spec *t, const struct file *f,
			 const struct flow_key *keys, uint32_t n)
{
	struct part *p = NULL;
	int err = part_points(t, image_of(f, t, SKETCH_CMS),
			      image_of(f, t, SKETCH_TOPK), keys, n, &p);

	if (err)
		die("points", -err);
	for (uint32_t i = 0; i < n; i++) {
		print_key((enum key_type)t->key, &keys[i]);
		print_u64(p->points.v[i].lower, ' ');
		print_u64(p->points.v[i].upper, ' ');
		print_u64(p->points.v[i].point, '\n');
	}
	part_free(p);
}

static void key_arg(const struct task_spec *t, const char *s, size_t len,
		    struct flow_key *out)
{
	if (key_parse((enum key_type)t->key, s, len, out))
		die("key", EINVAL);
}

static int cmd_points(const struct task_spec *t, const struct file *f,
		      char **keys, int n)
{
	struct flow_key *k = calloc((size_t)n, sizeof(*k));
	uint32_t used = 0, cap = (uint32_t)n;
	char line[KEY_TEXT_LEN];

	if (!k)
		die("calloc", errno);
	for (int i = 0; i < n && strcmp(keys[0], "-"); i++)
		key_arg(t, keys[i], strlen(keys[i]), &k[used++]);
	while (!strcmp(keys[0], "-") && fgets(line, sizeof(line), stdin)) {
		if (used == cap) {
			cap = cap * 2;
			k = reallocarray(k, cap, sizeof(*k));
			if (!k)
				die("reallocarray", errno);
		}
		key_arg(t, line, strcspn(line, "\n"), &k[used++]);
	}
	points_print(t, f, k, used);
	free(k);
	return 0;
}

static const struct task_spec *task_arg(const char *path)
{
	struct file f = file_map(path);
	const struct task_spec *t = (const void *)f.data;

	if (f.len != sizeof(*t) || !task_valid(t))
		die("not a task", EINVAL);
	return t;
}

/* Part i of a window's image. */
static const void *part_of(const struct file *f, unsigned int i, size_t *len)
{
	const struct ctl_image *h = (const void *)f->data;

	if (f->len < sizeof(*h) || h->magic != CTL_IMAGE_MAGIC ||
	    !(h->kinds >> i & 1) || h->image[i].offset > f->len ||
	    h->image[i].len > f->len - h->image[i].offset)
		die("not the image of a window", EINVAL);
	*len = h->image[i].len;
	return f->data + h->image[i].offset;
}

static uint64_t number_arg(const char *s)
{
	uint64_t v = 0;

	if (parse_u64(s, strlen(s), 0, UINT64_MAX, &v))
		die(s, EINVAL);
	return v;
}

static void row_add(struct features_row *acc, const struct task_spec *t,
		    const struct file *f)
{
	size_t len;
	const struct features_row *row = part_of(f, 0, &len);

	if (features_row_check(row, len, t))
		die("row damaged", EINVAL);
	if (!acc->magic)
		*acc = *row;
	else if (features_row_merge(acc, row))
		die("rows do not merge", EINVAL);
}

static void row_print(const struct features_row *row)
{
	double v[FEATURES];

	printf("interval %llu\nquality %u\nrecords %llu\noverflow %llu\n",
	       (unsigned long long)row->interval, row->quality,
	       (unsigned long long)row->records,
	       (unsigned long long)row->overflow);
	features_row_finish(row, FEATURE_BLOCKS, v);
	for (unsigned int i = 0; i < FEATURES; i++) {
		const struct feature *f = feature_get(i);

		if (f->transform == FEATURE_SQRT)
			v[i] *= v[i];
		else if (f->transform == FEATURE_LOG2)
			v[i] = (double)row->count[i];
		printf("%s %.0f\n", f->name, v[i]);
	}
}

static int cmd_row(char **argv, int n)
{
	static struct features_row row;
	int end = n - 3;

	for (int i = 0; i < end; i += 2) {
		struct file image = file_map(argv[i + 1]);

		row_add(&row, task_arg(argv[i]), &image);
	}
	features_row_loss(&row, number_arg(argv[end + 1]),
			  number_arg(argv[end + 2]),
			  (uint32_t)number_arg(argv[end]));
	row_print(&row);
	return 0;
}

static int cmd_flows(const struct file *f)
{
	size_t len;
	const struct features_flows *list = part_of(f, 1, &len);

	if (features_flows_check(list, len))
		die("flows damaged", EINVAL);
	for (uint32_t i = 0; i < list->n; i++) {
		const struct features_flow *flow = &list->flow[i];

		print_key(KEY_FLOW, &flow->key);
		print_u64(flow->packets, ' ');
		print_u64(flow->bytes, ' ');
		printf("%u", flow->dir);
		for (unsigned int k = 0; k < FEATURES; k++) {
			if (feature_set_has(&flow->matched, k))
				printf(" %s", feature_get(k)->name);
		}
		printf("\n");
	}
	return 0;
}

#define ROW(s, m)                                                                            \
	{                                                                                    \
#		s "." #                m, offsetof(struct s, m), sizeof(((struct s *)0)->m) \
	}
#define SIZE(s)                         \
	{                               \
#		s, 0, sizeof(struct s) \
	}

static int cmd_layout(void)
{
	static const struct {
		const char *name;
		size_t offset, size;
	} rows[] = {
		SIZE(ctl_head),
		SIZE(filter),
		SIZE(task_spec),
		SIZE(totals),
		SIZE(ctl_hello),
		SIZE(ctl_task_put),
		SIZE(ctl_task_del),
		SIZE(ctl_task_list),
		SIZE(ctl_task_read),
		SIZE(ctl_stats),
		SIZE(ctl_window_read),
		SIZE(ctl_image),
		ROW(ctl_head, status),
		ROW(filter, has_src),
		ROW(filter, src),
		ROW(filter, dst),
		ROW(task_spec, filter),
		ROW(task_spec, key),
		ROW(task_spec, both),
		ROW(task_spec, semantics),
		ROW(task_spec, records_log2),
		ROW(task_spec, kinds),
		ROW(task_spec, window_ms),
		ROW(task_spec, seed),
		ROW(totals, byte),
		ROW(totals, unkeyed_byte),
		ROW(ctl_hello, incarnation),
		ROW(ctl_hello, backend),
		ROW(ctl_hello, version),
		ROW(ctl_task_put, task),
		ROW(ctl_task_list, n),
		ROW(ctl_task_list, task),
		ROW(ctl_task_read, kinds),
		ROW(ctl_task_read, n_images),
		ROW(ctl_task_read, loss),
		ROW(ctl_window_read, interval),
		ROW(ctl_window_read, what),
		ROW(ctl_window_read, n_images),
		ROW(ctl_window_read, readers),
		ROW(ctl_window_read, has_loss),
		ROW(ctl_window_read, loss),
		ROW(ctl_stats, readers),
		ROW(ctl_stats, rules),
		ROW(ctl_stats, matched),
		ROW(ctl_stats, received),
		ROW(ctl_stats, bad_requests),
		ROW(ctl_stats, finished),
		ROW(ctl_image, slot_now),
		ROW(ctl_image, slot_first),
		ROW(ctl_image, totals),
		ROW(ctl_image, image),
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		printf("%s %zu %zu\n", rows[i].name, rows[i].offset,
		       rows[i].size);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const struct task_spec *t;
	struct file image;
	uint64_t end_slot = 0;

	if (argc == 2 && !strcmp(what, "layout"))
		return cmd_layout();
	if (!strcmp(what, "topk") && argc >= 4 && argc % 2 == 0) {
		for (int i = 2; i < argc; i += 2) {
			image = file_map(argv[i + 1]);
			cmd_topk(task_arg(argv[i]), &image);
		}
		return 0;
	}
	if (!strcmp(what, "row") && argc >= 7 && argc % 2)
		return cmd_row(argv + 2, argc - 2);
	if (argc < 4)
		goto usage;
	t = task_arg(argv[2]);
	image = file_map(argv[3]);
	if (!strcmp(what, "flows"))
		return cmd_flows(&image);
	if (!strcmp(what, "hll"))
		return cmd_hll(t, &image);
	if (!strcmp(what, "exact") && argc == 5 &&
	    !parse_u64(argv[4], strlen(argv[4]), 0, UINT64_MAX, &end_slot))
		return cmd_exact(t, &image, end_slot);
	if (!strcmp(what, "points") && argc > 4)
		return cmd_points(t, &image, argv + 4, argc - 4);
usage:
	fputs("usage: readimage layout | topk|exact|hll|points|row|flows TASK IMAGE …\n",
	      stderr);
	return EXIT_USAGE;
}
