/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time and memory of detection:  detect FILE ROWS COLUMNS LV ROUNDS
 *
 * FILE holds the matrix as raw doubles.  Prints one object: median and least
 * time of a calibration from the matrix in memory, of one judged row, of a
 * diagnosis, and the resident memory before the first and after the last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/calibrate.h"
#include "agent/detect/diagnose.h"
#include "common/util.h"

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_times(const char *name, double *ns, size_t n, double unit)
{
	qsort(ns, n, sizeof(*ns), compare);
	printf("\"%s\": [%.4g, %.4g], ", name, ns[n / 2] / unit, ns[0] / unit);
}

static unsigned long resident_kib(void)
{
	char line[256];
	unsigned long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "VmRSS:", 6))
			kib = strtoul(line + 6, NULL, 10);
	}
	if (f)
		fclose(f);
	return kib;
}

static int run(const double *rows, size_t n, size_t m, size_t lv, size_t rounds)
{
	struct detect_options o = detect_options_default;
	struct detect_model *model = NULL;
	struct detect_stats s;
	struct detect_top top;
	double *ns = calloc(3 * (rounds + m), sizeof(*ns));
	double *judge = ns ? ns + rounds : NULL, *z, *e, *work;
	double *diagnose = ns ? judge + rounds : NULL;
	unsigned long before = resident_kib();
	int r = 0;

	if (!ns)
		return 1;
	z = diagnose + rounds;
	e = z + m;
	work = e + m;
	o.lv = lv;
	for (size_t k = 0; k < rounds; k++) {
		uint64_t start = clock_mono_ns(), judged, end;

		detect_model_free(model);
		model = NULL;
		r = detect_calibrate(rows, n, m, &o, &model, NULL, NULL);
		if (r)
			goto out;
		judged = clock_mono_ns();
		for (size_t i = 0; i < n; i++)
			r |= detect_judge(model, rows + i * m, z, e, &s);
		end = clock_mono_ns();
		ns[k] = (double)(judged - start);
		judge[k] = (double)(end - judged) / (double)n;
		for (size_t i = 0; i < n; i++)
			detect_diagnose(model, &s, z, e, work, &top);
		diagnose[k] = (double)(clock_mono_ns() - end) / (double)n;
	}
	printf("{");
	print_times("calibrate_ms", ns, rounds, 1e6);
	print_times("judge_us", judge, rounds, 1e3);
	print_times("diagnose_us", diagnose, rounds, 1e3);
	printf("\"rank\": %zu, \"resident_kib\": [%lu, %lu]}\n", model->rank,
	       before, resident_kib());
out:
	detect_model_free(model);
	free(ns);
	return r;
}

int main(int argc, char **argv)
{
	size_t n, m, lv, rounds, cells;
	double *rows;
	FILE *f;
	int r = 1;

	if (argc != 6) {
		fprintf(stderr, "usage: detect FILE ROWS COLUMNS LV ROUNDS\n");
		return EXIT_USAGE;
	}
	n = strtoul(argv[2], NULL, 10);
	m = strtoul(argv[3], NULL, 10);
	lv = strtoul(argv[4], NULL, 10);
	rounds = strtoul(argv[5], NULL, 10);
	cells = n * m;
	rows = calloc(n, m * sizeof(*rows));
	f = fopen(argv[1], "rb");
	if (rounds && rows && f &&
	    fread(rows, sizeof(*rows), cells, f) == cells)
		r = run(rows, n, m, lv, rounds);
	if (r)
		fprintf(stderr, "detect: %s does not do\n", argv[1]);
	if (f)
		fclose(f);
	free(rows);
	return r ? 1 : 0;
}
