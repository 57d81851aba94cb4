/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet: the command line of the API.  A verb is a row of the table below.
 * Options of every verb may stand before the verb and after it, those of a
 * verb anywhere after it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "api/client.h"
#include "common/util.h"

#define PROGRAM      "linnet"
#define DEFAULT_HOST "http://127.0.0.1:8000"
#define DEFAULT_MS   2000
#define GIVE_UP_MS   1000 /* after the budget of the query */
#define ARGS_MAX     33   /* a task and 32 keys */
#define HELP_COLUMN  36

static const struct verb verbs[] = {
	{ "status", "", "state of the agent; exit status 1: not ready", 0, 0,
	  .repeats = true, .run = verb_status },
	{ "task ls", "", "all tasks", 0, 0, .repeats = true,
	  .run = verb_task_ls },
	{ "task show", "ID", "one task", 1, 1, .repeats = true,
	  .run = verb_task_show },
	{ "task add", "--key TYPE [OPTION]...",
	  "start a measurement; prints its id", 0, 0,
	  .options = task_add_options, .run = verb_task_add },
	{ "task rm", "[--dry-run] ID", "delete a task everywhere", 1, 1,
	  .options = dry_run_options, .run = verb_task_rm },
	{ "query top", "[OPTION]... ID", "keys with the largest amounts", 1, 1,
	  .options = top_options, .repeats = true, .run = verb_query_top },
	{ "query key", "[OPTION]... ID KEY...", "amounts of 1 to 32 keys", 2,
	  ARGS_MAX, .options = window_options, .repeats = true,
	  .run = verb_query_key },
	{ "query distinct", "[OPTION]... ID", "number of distinct keys", 1, 1,
	  .options = window_options, .repeats = true,
	  .run = verb_query_distinct },
	{ "query realtime", "ID", "amounts of the last second", 1, 1,
	  .repeats = true, .run = verb_query_realtime },
	{ "query total", "[OPTION]... ID", "packets and bytes", 1, 1,
	  .options = window_options, .repeats = true, .run = verb_query_total },
	{ "overlay show", "", "the tree of agents", 0, 0, .repeats = true,
	  .run = verb_overlay_show },
	{ "overlay add", "HOST", "put an agent below the asked one", 1, 1,
	  .run = verb_overlay_add },
	{ "overlay rm", "[--dry-run] HOST", "let a child go", 1, 1,
	  .options = dry_run_options, .run = verb_overlay_rm },
	{ "overlay drain", "", "let the asked agent leave the tree", 0, 0,
	  .run = verb_overlay_drain },
	{ "overlay accept", "", "expect no other hosts than are known", 0, 0,
	  .run = verb_overlay_accept },
	{ "probe bw", "[--duration TIME] SRC DST", "bandwidth between agents",
	  2, 2, .options = probe_options, .run = verb_probe_bw },
	{ "probe jitter", "[--duration TIME] SRC DST", "jitter between agents",
	  2, 2, .options = probe_options, .run = verb_probe_jitter },
#ifdef LINNET_MSNM
	{ "msnm calibrate", "--input FILE --lv A --output FILE [OPTION]...",
	  "make a model of normal rows of counters", 0, 0, .offline = true,
	  .options = msnm_calibrate_options, .run = verb_msnm_calibrate },
	{ "msnm observe", "--model FILE --input FILE [OPTION]...",
	  "judge rows against a model", 0, 0, .offline = true,
	  .options = msnm_observe_options, .run = verb_msnm_observe },
	{ "msnm replay", "--input FILE --batch B --lambda L --lv A [OPTION]...",
	  "judge and learn recorded rows", 0, 0, .offline = true,
	  .options = msnm_replay_options, .run = verb_msnm_replay },
	{ "msnm count", "--input FILE [--per-record]",
	  "counters of flow records", 0, 0, .offline = true,
	  .options = msnm_count_options, .run = verb_msnm_count },
#endif
	{ "token new", "ROLE NAME", "a token and its line for the token file",
	  2, 2, .offline = true, .run = verb_token_new },
	{ "version", "", "versions of this command and of the agent", 0, 0,
	  .run = verb_version },
};

/* ---- help ---- */

static size_t rows_count(const struct arg_row *rows)
{
	size_t n = 0;

	while (rows && rows[n].name)
		n++;
	return n;
}

static void help_all(void)
{
	printf("usage: " PROGRAM " [OPTION]... VERB [OPTION]... [ARGUMENT]...\n"
	       "\n"
	       "Asks an agent of linnet: data on standard output, notes on "
	       "standard error.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		int n = printf("  %s %s", verbs[i].words, verbs[i].usage);

		if (n + 2 > HELP_COLUMN)
			n = printf("\n") - 1;
		printf("%*s%s\n", HELP_COLUMN - n, "", verbs[i].help);
	}
	printf("\noptions of every verb:\n");
	args_print(global_options, rows_count(global_options), stdout);
	printf("\nexit status: 0 done, 1 failed, 2 usage, 3 partial answer, "
	       "4 not found,\n  5 unreachable, 6 denied, 74 output, "
	       "78 configuration or input,\n  130 interrupted\n");
}

static void help_verb(const struct verb *v)
{
	printf("usage: " PROGRAM " %s %s\n\n%s\n", v->words, v->usage, v->help);
	if (v->options)
		printf("\n");
	args_print(v->options, rows_count(v->options), stdout);
	printf("\nOptions of every verb: " PROGRAM " --help\n");
}

/* ---- command line ---- */

/* Arguments that the words of a verb are; 0: another verb. */
static int verb_match(const struct verb *v, int argc, char **argv)
{
	const char *words = v->words;
	int n = 0;

	while (*words) {
		size_t len = strcspn(words, " ");

		if (n == argc || strlen(argv[n]) != len ||
		    strncmp(argv[n], words, len) != 0)
			return 0;
		words += len + (words[len] == ' ');
		n++;
	}
	return n;
}

static const struct verb *verb_find(int argc, char **argv, int *n)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		*n = verb_match(&verbs[i], argc, argv);
		if (*n)
			return &verbs[i];
	}
	return NULL;
}

/* Of a word that verbs begin with, those are named. */
static void verb_unknown(const char *word)
{
	char list[256] = "";
	size_t len = 0, n = strlen(word);

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strncmp(verbs[i].words, word, n) == 0 &&
		    verbs[i].words[n] == ' ' && len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len,
						"%s%s", len ? ", " : "",
						verbs[i].words + n + 1);
	if (len)
		complain("%s: which of %s? (see --help)", word, list);
	else
		complain("%s: no such verb (see --help)", word);
}

/* Options and arguments after the verb, in any order.  0 or CLI_USAGE. */
static int verb_parse(struct cli *c, const struct verb *v, int argc,
		      char **argv)
{
	size_t n_global = rows_count(global_options);
	size_t n_own = rows_count(v->options);
	struct arg_row rows[ARGS_ROWS_MAX];
	bool only_args = false;
	int i = 0, n;

	/* first its own: the first of two that have the same name counts */
	if (n_own)
		memcpy(rows, v->options, n_own * sizeof(*rows));
	memcpy(rows + n_own, global_options, n_global * sizeof(*rows));
	while (++i < argc) {
		if (!only_args) {
			argv[i - 1] = (char *)PROGRAM;
			n = args_parse(rows, n_global + n_own, argc - (i - 1),
				       argv + (i - 1), c);
			if (n < 0)
				return CLI_USAGE;
			i += n - 1;
			only_args = n > 1 && strcmp(argv[i - 1], "--") == 0;
		}
		if (i < argc && c->n_args < ARGS_MAX + 1)
			c->args[c->n_args++] = argv[i];
	}
	if (c->opt.help ||
	    (c->n_args >= v->min_args && c->n_args <= v->max_args))
		return 0;
	complain("usage: " PROGRAM " %s %s (see --help)", v->words, v->usage);
	return CLI_USAGE;
}

/* ---- running ---- */

static void interrupted(int signo)
{
	(void)signo;
	_exit(CLI_INTERRUPTED);
}

static const char *env_text(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* What was not given comes from the environment, or is the default. */
static void defaults_take(struct cli *c)
{
	bool terminal = isatty(STDOUT_FILENO);

	c->json = c->opt.output == OUTPUT_JSON ||
		  (c->opt.output == OUTPUT_AUTO && !terminal);
	c->color = terminal && !c->opt.no_color && !env_text("NO_COLOR");
	if (!c->opt.scope)
		c->opt.scope = "tree";
	if (!c->opt.timeout_ms)
		c->opt.timeout_ms = DEFAULT_MS;
	if (!c->opt.token_file)
		c->opt.token_file = env_text("LINNET_TOKEN_FILE");
}

/* 0 or an enum cli_exit after a line. */
static int client_make(struct cli *c)
{
	bool given = c->opt.host != NULL;
	char *url = NULL, *token = NULL;
	int ret = CLI_DENIED;

	if (!given)
		c->opt.host = env_text("LINNET_HOST");
	if (!c->opt.host)
		c->opt.host = DEFAULT_HOST;
	if (target_url(c->opt.host, &url)) {
		complain("%s: must be ADDRESS, ADDRESS:PORT or "
			 "http://NAME:PORT",
			 given ? "--host" : "LINNET_HOST");
		return given ? CLI_USAGE : CLI_CONFIG;
	}
	if (c->opt.token_file) {
		token = target_token(c->opt.token_file);
		if (!token)
			goto out;
	}
	c->client = client_new(url, token, c->opt.timeout_ms + GIVE_UP_MS);
	ret = c->client ? 0 : CLI_FAILED;
	if (ret)
		complain("out of memory");
out:
	if (token)
		explicit_bzero(token, strlen(token));
	free(token);
	free(url);
	return ret;
}

/* Output that nobody could take is what it failed of. */
static int output_flush(int ret)
{
	if (ret == CLI_OUTPUT || (fflush(stdout) == 0 && !ferror(stdout)))
		return ret;
	complain("cannot write the output");
	return CLI_OUTPUT;
}

/* Again and again; ends when going on could not help. */
static int repeat(struct cli *c, const struct verb *v)
{
	const struct timespec pause = {
		.tv_sec = c->opt.watch_ms / 1000,
		.tv_nsec = (long)(c->opt.watch_ms % 1000) * 1000000,
	};
	int ret;

	for (;;) {
		if (isatty(STDOUT_FILENO) && !c->json)
			printf("\033[H\033[2J");
		ret = output_flush(v->run(c));
		if (ret != CLI_DONE && ret != CLI_PARTIAL &&
		    ret != CLI_UNREACHABLE)
			return ret;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
}

static int run(struct cli *c, const struct verb *v)
{
	int ret;

	if (c->opt.watch_ms && !v->repeats) {
		complain("--watch: not with %s (see --help)", v->words);
		return CLI_USAGE;
	}
	defaults_take(c);
	ret = v->offline ? 0 : client_make(c);
	if (!ret)
		ret = c->opt.watch_ms ? repeat(c, v) : v->run(c);
	client_free(c->client);
	return output_flush(ret);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = interrupted };
	const char *args[ARGS_MAX + 1] = { 0 };
	struct cli c = { .args = args };
	const struct verb *v;
	int i, n = 0;

	sigaction(SIGINT, &sa, NULL);
	argv[0] = (char *)PROGRAM;
	i = args_parse(global_options, rows_count(global_options), argc, argv,
		       &c);
	if (i < 0)
		return CLI_USAGE;
	v = verb_find(argc - i, argv + i, &n);
	if (v && verb_parse(&c, v, argc - (i + n - 1), argv + (i + n - 1)))
		return CLI_USAGE;
	if (c.opt.help) {
		if (v)
			help_verb(v);
		else
			help_all();
		return output_flush(CLI_DONE);
	}
	if (c.opt.version) {
		printf(PROGRAM " " LINNET_VERSION "\n");
		return output_flush(CLI_DONE);
	}
	if (v)
		return run(&c, v);
	if (i < argc)
		verb_unknown(argv[i]);
	else
		complain("which verb? (see --help)");
	return CLI_USAGE;
}
