/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command line of the simulator: plays a case under one seed or many, in a few
 * processes.  A history that fails is printed with its seed, its last events
 * and the command that plays it again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"
#include "sim.h"

/* The world that is being played, for the handler of abort() alone. */
static struct world *playing;
static const char *command;

static void usage(FILE *f)
{
	fprintf(f,
		"usage: sim [--case NAME] [--seed N] [--seeds K] [--jobs J]\n"
		"           [--agents N] [--fanout K] [--provider NAME]\n"
		"           [--faults LIST] [--seconds S] [--every MS]\n"
		"           [--latency US[,SIGMA]] [--queries Q] [--newcomers N]\n"
		"           [--tooth NAME] [--ignore O5] [--verbose-from S]\n"
		"  cases:\n");
	for (size_t i = 0; i < n_sim_cases; i++)
		fprintf(f, "    %-8s %s\n", sim_cases[i].name,
			sim_cases[i].text);
	fprintf(f, "  faults (all, none, or names with commas):\n");
	fflush(f);
	faults_print();
	printf("  teeth (the check that must fail):\n");
	teeth_print();
}

static const struct sim_case *case_find(const char *name)
{
	for (size_t i = 0; i < n_sim_cases; i++)
		if (strcmp(sim_cases[i].name, name) == 0)
			return &sim_cases[i];
	return NULL;
}

static uint64_t number(const char *s)
{
	uint64_t v;

	if (parse_u64(s, strlen(s), 0, UINT64_MAX, &v)) {
		usage(stderr);
		exit(EXIT_USAGE);
	}
	return v;
}

static void latency(struct net *net, const char *s)
{
	const char *comma = strchr(s, ',');
	size_t len = comma ? (size_t)(comma - s) : strlen(s);

	if (parse_u64(s, len, 0, 60 * SECOND, &net->latency_us) ||
	    (comma &&
	     parse_real(comma + 1, strlen(comma + 1), 0, 3, &net->sigma))) {
		usage(stderr);
		exit(EXIT_USAGE);
	}
	net->kind = comma ? LATENCY_LOGNORMAL : LATENCY_FIXED;
}

static const struct option options[] = {
	{ "case", required_argument, NULL, 'c' },
	{ "seed", required_argument, NULL, 's' },
	{ "seeds", required_argument, NULL, 'k' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "agents", required_argument, NULL, 'n' },
	{ "fanout", required_argument, NULL, 'f' },
	{ "provider", required_argument, NULL, 'p' },
	{ "faults", required_argument, NULL, 'F' },
	{ "seconds", required_argument, NULL, 't' },
	{ "every", required_argument, NULL, 'e' },
	{ "latency", required_argument, NULL, 'l' },
	{ "newcomers", required_argument, NULL, 'N' },
	{ "queries", required_argument, NULL, 'q' },
	{ "tooth", required_argument, NULL, 'T' },
	{ "ignore", required_argument, NULL, 'i' },
	{ "verbose-from", required_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void option(struct run *r, int o, const char *arg)
{
	switch (o) {
	case 's':
		r->conf.seed = number(arg);
		break;
	case 'k':
		r->seeds = (uint32_t)number(arg);
		break;
	case 'j':
		r->jobs = (uint32_t)MAX(number(arg), 1);
		break;
	case 'n':
		r->conf.agents = (uint32_t)number(arg);
		break;
	case 'f':
		r->conf.fanout = (uint32_t)number(arg);
		break;
	case 'p':
		r->conf.provider = arg;
		break;
	case 'F':
		r->conf.faults = arg;
		break;
	case 't':
		r->conf.fault_us = number(arg) * SECOND;
		break;
	case 'e':
		r->conf.every_us = number(arg) * MS;
		break;
	case 'l':
		latency(&r->conf.net, arg);
		break;
	case 'N':
		r->conf.newcomers = (uint32_t)number(arg);
		break;
	case 'q':
		r->conf.queries = (uint32_t)number(arg);
		break;
	case 'T':
		if (tooth_parse(arg, &r->conf.tooth)) {
			usage(stderr);
			exit(EXIT_USAGE);
		}
		break;
	case 'i':
		r->conf.ignore = arg;
		break;
	case 'v':
		r->conf.verbose_us = number(arg) * SECOND;
		break;
	default:
		break;
	}
}

static void say_failure(const struct world *w, const char *why)
{
	world_dump(w);
	printf("FAILED at %.6f s, seed %" PRIu64
	       ": %s\nagain: %s --seed %" PRIu64 " --seeds 1\n",
	       (double)w->now_us / 1e6, w->conf.seed, why, command,
	       w->conf.seed);
	fflush(stdout);
}

static void on_abort(int sig)
{
	say_failure(playing, sig == SIGABRT ? "an assertion" : "a crash");
	_exit(1);
}

/* One history; false if it failed. */
static bool play(const struct sim_case *c, const struct sim_conf *conf,
		 struct tally *t, uint64_t *hash)
{
	struct world *w = calloc(1, sizeof(*w));
	bool good;

	if (!w || world_open(w, conf)) {
		fputs("sim: the world does not open\n", stderr);
		exit(1);
	}
	playing = w;
	good = !c->play(w) && !w->failed;
	if (!good)
		say_failure(w, w->why);
	*hash = w->hash;
	t->runs++;
	t->failed += !good;
	t->events += w->n_events;
	t->messages += w->n_messages;
	t->moves += w->ledger.moves;
	t->checks += w->ledger.checks;
	t->asked += w->asked.answered;
	t->complete += w->asked.complete;
	t->partial += w->asked.partial;
	t->trace += w->hash;
	world_close(w);
	free(w);
	return good;
}

static void job(const struct sim_case *c, const struct run *r, uint32_t first,
		struct tally *t)
{
	for (uint32_t i = first; i < r->seeds; i += r->jobs) {
		struct sim_conf conf = r->conf;
		uint64_t hash, again;

		conf.seed += i;
		/* a failure is printed once; its history need not repeat */
		if (!play(c, &conf, t, &hash) || i % 100 || !c->twice)
			continue;
		if (conf.tooth == TOOTH_CHANCE)
			conf.every_us++;
		if (!play(c, &conf, t, &again) || hash != again) {
			printf("FAILED: seed %" PRIu64 " has two histories\n",
			       conf.seed);
			t->failed++;
		}
	}
}

static int run_jobs(const struct sim_case *c, const struct run *r)
{
	struct tally *t = mmap(NULL, r->jobs * sizeof(*t),
			       PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tally sum = { 0 };
	uint32_t died = 0;
	int status;

	if (t == MAP_FAILED)
		return 1;
	fflush(stdout);
	for (uint32_t j = 1; j < r->jobs; j++) {
		if (fork() == 0) {
			job(c, r, j, &t[j]);
			fflush(stdout);
			_exit(0);
		}
	}
	job(c, r, 0, &t[0]);
	for (uint32_t j = 1; j < r->jobs; j++)
		if (wait(&status) < 0 || status)
			died++;
	for (uint32_t j = 0; j < r->jobs; j++) {
		sum.runs += t[j].runs;
		sum.failed += t[j].failed;
		sum.events += t[j].events;
		sum.messages += t[j].messages;
		sum.moves += t[j].moves;
		sum.checks += t[j].checks;
		sum.asked += t[j].asked;
		sum.complete += t[j].complete;
		sum.partial += t[j].partial;
		sum.trace += t[j].trace;
	}
	printf("%s: %" PRIu64 " histories, %" PRIu64 " failed, %" PRIu64
	       " events, %" PRIu64 " messages, %" PRIu64 " moves, %" PRIu64
	       " checks, %" PRIu64 " answers: %" PRIu64 " complete, %" PRIu64
	       " not; trace %016" PRIx64 "\n",
	       c->name, sum.runs, sum.failed + died, sum.events, sum.messages,
	       sum.moves, sum.checks, sum.asked, sum.complete, sum.partial,
	       sum.trace);
	return sum.failed || died ? 1 : 0;
}

static char *command_of(int argc, char **argv)
{
	char *s = NULL;
	size_t size;
	FILE *f = open_memstream(&s, &size);

	for (int i = 0; f && i < argc; i++) {
		if (strcmp(argv[i], "--seed") == 0 ||
		    strcmp(argv[i], "--seeds") == 0)
			i++;
		else
			fprintf(f, "%s%s", i ? " " : "", argv[i]);
	}
	if (!f || fclose(f))
		exit(1);
	return s;
}

/*
 * Agents lie all over the memory: with small pages half of the time goes into
 * finding them.  malloc() must be told before it begins, and to keep what it
 * has for the next question.
 */
static void large_pages(char **argv)
{
	if (getenv("GLIBC_TUNABLES") ||
	    setenv("GLIBC_TUNABLES",
		   "glibc.malloc.hugetlb=1:"
		   "glibc.malloc.trim_threshold=4294967296",
		   1))
		return;
	execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	struct run r = {
		.conf = { .agents = 100,
			  .fanout = 16,
			  .seed = 1,
			  .provider = "join",
			  .faults = "none",
			  .net = { .latency_us = 200 },
			  .verbose_us = NEVER },
		.seeds = 1,
		.jobs = 1,
	};
	const struct sim_case *c = &sim_cases[0];
	int o;

	large_pages(argv);
	command = command_of(argc, argv);
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'h' || o == '?') {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? 0 : EXIT_USAGE;
		}
		if (o == 'c')
			c = case_find(optarg);
	}
	if (!c) {
		usage(stderr);
		return EXIT_USAGE;
	}
	c->defaults(&r);
	optind = 1;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		option(&r, o, optarg);
	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	return run_jobs(c, &r);
}
