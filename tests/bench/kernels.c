// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What one packet costs in memory: hash, parser, every kind of sketch, rows of
 * features.
 *
 *	kernels [ROUNDS]
 *
 * Prints nanoseconds of thread CPU time per call, the least of ROUNDS passes
 * (default 9) over 2^18 calls, its ratio to the bare hash of a 16-byte key, and
 * bytes of memory.  Three streams: 1,000 keys, Zipf 1.0 over 300,000, and keys
 * that never come twice in a pass.  Compare ratios, not nanoseconds.
 *
 * "features" is a window of 2^18 packets from their bytes on, with the closing
 * of the window before it; "close" the longest turn of that, a boundary or a
 * piece, for which packets have to wait.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/sketch/features.h"
#include "common/sketch/sketch.h"
#include "common/util.h"
#include "tests/unit/seed.h"

#define CALLS (1u << 18)
#define BATCH 64

static const struct stream {
	const char *name;
	uint32_t n_keys; /* 0: all different */
	bool zipf;
} streams[] = {
	{ "few", 1000, false },
	{ "zipf", 300000, true },
	{ "new", 0, false },
};

struct bench {
	struct task_spec task;
	struct sketch_item *item;
	uint8_t (*frame)[64];
	void *mem[SKETCH_KINDS];
	struct task_spec windows;
	struct features *features;
	uint64_t wall_ms, longest_ns;
	uint64_t sum; /* keeps the compiler from leaving work out */
	uint64_t slot;
	int kind; /* of the kernel */
};

/* One call of a kernel on item i. */
typedef void kernel_fn(struct bench *b, uint32_t i);

static void run_hash(struct bench *b, uint32_t i)
{
	b->sum += hash_domain(&b->task.seed, b->item[i].key.w, 16, HASH_KEY);
}

static struct flow_key parse(const struct bench *b, uint32_t i)
{
	struct packet p = { .dir = PACKET_IN };
	struct flow_key k = { 0 };

	packet_parse(&p, b->frame[i], 40, 1500);
	key_build(KEY_SRC, &p, &k);
	return k;
}

static void run_parse(struct bench *b, uint32_t i)
{
	b->sum += parse(b, i).w[1];
}

static void run_kind(struct bench *b, uint32_t i)
{
	b->item[i].slot = b->slot;
	sketch_update(b->mem[b->kind], &b->item[i]);
}

/* A packet of a default task, from its bytes on. */
static void run_packet(struct bench *b, uint32_t i)
{
	struct sketch_item it = { .key = parse(b, i), .weight = 1 };

	it.slot = b->slot;
	it.hash = hash_domain(&b->task.seed, it.key.w, 16, HASH_KEY);
	for (int k = 0; k < b->kind; k++)
		sketch_update(b->mem[k], &it);
}

static uint64_t clock_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* What a reader does between batches of packets. */
static void features_between(struct bench *b, bool boundary)
{
	uint64_t t0 = clock_cpu_ns();

	if (boundary)
		features_clock(b->features, b->wall_ms, b->wall_ms);
	(void)features_turn(b->features);
	b->longest_ns = MAX(b->longest_ns, clock_cpu_ns() - t0);
}

static void run_features(struct bench *b, uint32_t i)
{
	struct packet p = { .dir = PACKET_IN };

	if (i == 0)
		b->wall_ms += b->windows.window_ms;
	if (i % BATCH == 0)
		features_between(b, i == 0);
	packet_parse(&p, b->frame[i], 40, 1500);
	features_packet(b->features, &p, 2);
}

static const struct kernel {
	const char *name;
	kernel_fn *run;
	int kind; /* -1: none, SKETCH_KINDS: all, one more: features */
} kernels[] = {
	{ "hash", run_hash, -1 },
	{ "parse", run_parse, -1 },
	{ "cms", run_kind, SKETCH_CMS },
	{ "exact", run_kind, SKETCH_EXACT },
	{ "topk", run_kind, SKETCH_TOPK },
	{ "hll", run_kind, SKETCH_HLL },
	{ "packet", run_packet, SKETCH_KINDS },
	{ "features", run_features, SKETCH_KINDS + 1 },
};

/* TCP over IPv4 from an address of the stream. */
static void fill(struct bench *b, const struct stream *s)
{
	static const uint8_t head[40] = {
		[0] = 0x45, [2] = 5,  [8] = 64, [9] = 6,   [15] = 1,
		[16] = 10,  [19] = 2, [21] = 9, [23] = 80, [32] = 0x50
	};
	uint64_t rnd = 1;

	for (uint32_t i = 0; i < CALLS; i++) {
		double x = (double)(seed_next(&rnd) >> 11) * 0x1p-53;
		uint64_t no = s->zipf     ? (uint64_t)exp(x * log(s->n_keys))
			      : s->n_keys ? (uint64_t)(x * s->n_keys)
					  : i;
		uint32_t addr = (uint32_t)seed_next(&no);

		memcpy(b->frame[i], head, sizeof(head));
		memcpy(b->frame[i] + 12, &addr, 4);
		b->item[i] =
			(struct sketch_item){ .weight = 1, .key = parse(b, i) };
		b->item[i].hash = hash_domain(&b->task.seed, b->item[i].key.w,
					      16, HASH_KEY);
	}
}

static double measure(struct bench *b, const struct kernel *k, uint64_t rounds)
{
	uint64_t best = UINT64_MAX;

	b->kind = k->kind;
	b->longest_ns = 0;
	for (uint64_t r = 0; r < rounds; r++) {
		uint64_t t0 = clock_cpu_ns();

		b->slot += 10;
		for (uint32_t i = 0; i < CALLS; i++)
			k->run(b, i);
		best = MIN(best, clock_cpu_ns() - t0);
	}
	return (double)best / CALLS;
}

/* Empty sketches; fills their sizes, and the sum behind. */
static void set_up(struct bench *b, const struct sketch_params *params,
		   size_t size[SKETCH_KINDS + 2])
{
	struct hash_key local = { { 7 } };
	void *mem;

	size[SKETCH_KINDS] = 0;
	for (int i = 0; i < SKETCH_KINDS; i++) {
		enum sketch_kind k = (enum sketch_kind)i;

		size[k] = sketch_size(k, params);
		size[SKETCH_KINDS] += size[k];
		b->mem[k] = mmap(NULL, size[k], PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (b->mem[k] == MAP_FAILED)
			exit(EXIT_MECHANISM);
		sketch_init(k, b->mem[k], params, &local);
	}
	size[SKETCH_KINDS + 1] = features_size(&b->windows);
	mem = mmap(NULL, size[SKETCH_KINDS + 1], PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		exit(EXIT_MECHANISM);
	b->features = features_init(mem, &b->windows, &local, false);
	features_clock(b->features, b->wall_ms, b->wall_ms);
}

int main(int argc, char **argv)
{
	struct bench b = {
		.task = { .id = 1, .key = KEY_SRC },
		.windows = { .id = 2,
			     .increment = INC_SEGMENT,
			     .semantics = FEATURES_PACKETS,
			     .kinds = TASK_FEATURES,
			     .window_ms = 60000 },
	};
	struct sketch_params params;
	size_t size[SKETCH_KINDS + 2] = { 0 };
	uint64_t rounds = 9;
	double hash = 0;

	if (argc > 1 && parse_u64(argv[1], strlen(argv[1]), 1, 1000, &rounds))
		return EXIT_USAGE;
	b.item = calloc(CALLS, sizeof(*b.item));
	b.frame = calloc(CALLS, sizeof(*b.frame));
	if (!b.item || !b.frame)
		return 1;
	sketch_params_default(&params, &b.task);
	printf("%-6s %-8s %8s %7s %9s\n", "stream", "kernel", "ns", "ratio",
	       "bytes");
	for (size_t s = 0; s < ARRAY_SIZE(streams); s++) {
		fill(&b, &streams[s]);
		set_up(&b, &params, size);
		for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
			const struct kernel *k = &kernels[i];
			double ns = measure(&b, k, rounds);

			hash = i == 0 ? ns : hash;
			printf("%-6s %-8s %8.2f %7.2f %9zu\n", streams[s].name,
			       k->name, ns, ns / hash,
			       k->kind < 0 ? 0 : size[k->kind]);
		}
		printf("%-6s %-8s %8" PRIu64 "\n", streams[s].name, "close",
		       b.longest_ns);
		for (int k = 0; k < SKETCH_KINDS; k++)
			munmap(b.mem[k], size[k]);
		munmap(b.features, size[SKETCH_KINDS + 1]);
	}
	free(b.item);
	free(b.frame);
	return b.sum == 1;
}
