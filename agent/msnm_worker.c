/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker: a forked child with the job in its copy of the memory, that
 * writes the model as text into a pipe and ends.  A process, no thread: the
 * library behind the decompositions need not stand two callers at once, what
 * it allocates is gone with it, and a fault in it is not ours.  What comes
 * back is read like any model from outside, with all its checks.
 */
#include "agent/msnm_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/detect/ewma.h"
#include "agent/detect/modelfile.h"
#include "common/log.h"
#include "common/util.h"

#define WORKER_MS  120000
#define NICE       10
#define WHY_PREFIX "!"

struct msnm_worker {
	struct loop_io io;
	struct loop_timer limit;
	pid_t pid;
	struct msnm_job *job;
	struct buf text;
	void (*done)(void *arg, struct msnm_model *model, const char *why);
	void *arg;
};

/* ---- the job ---- */

static int job_learn(const struct msnm_job *j, struct detect_model **model,
		     struct detect_reason *why)
{
	const struct detect_ewma_options options = {
		.prep = j->options.prep,
		.lv = j->options.lv,
		.alpha_q = j->options.alpha_q,
		.alpha_d = j->options.alpha_d,
		.phase = 2,
		.lambda = j->lambda,
	};
	struct detect_ewma *state = detect_ewma_from_model(j->base->m);
	int ret;

	if (!state)
		return -ENOMEM;
	ret = detect_ewma_learn(state, j->rows, j->n, &options, model, why);
	detect_ewma_free(state);
	return ret;
}

struct detect_model *msnm_job_run(const struct msnm_job *j, char *why,
				  size_t size)
{
	struct detect_model *model = NULL;
	struct detect_reason reason = { 0 };
	int ret;

	if (j->learn)
		ret = job_learn(j, &model, &reason);
	else
		ret = detect_calibrate(j->rows, j->n, j->m, &j->options, &model,
				       NULL, &reason);
	if (!ret)
		ret = detect_model_set_schema(model, j->semantics, j->window_s,
					      j->names);
	if (ret) {
		detect_error_format(ret, &reason, why, size);
		detect_model_free(model);
		return NULL;
	}
	model->created_ms = clock_wall_ms();
	model->generation = j->generation;
	model->revision = j->revision;
	return model;
}

/* ---- the child ---- */

static _Noreturn void child_run(const struct msnm_job *j, int fd, pid_t parent)
{
	struct detect_model *model;
	struct buf b = BUF_INIT;
	char why[160] = "";

	/* nothing of the agent is held by what may outlive it by a moment */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (dup2(fd, STDIN_FILENO) < 0 || close_range(3, ~0U, 0))
		_exit(1);
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	model = msnm_job_run(j, why, sizeof(why));
	if (model && modelfile_format(model, &b))
		snprintf(why, sizeof(why), "the model is too large");
	if (why[0]) {
		buf_reset(&b);
		buf_printf(&b, WHY_PREFIX "%s", why);
	}
	if (b.data && !b.failed)
		/* the parent refuses a text that is cut */
		(void)write_all(STDIN_FILENO, b.data, b.len);
	_exit(0);
}

/* ---- the parent ---- */

static void worker_end(struct msnm_worker *w)
{
	int fd = w->io.fd;

	loop_timer_cancel(&w->limit);
	loop_io_del(&w->io);
	if (fd >= 0)
		close(fd);
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	msnm_job_free(w->job);
	buf_fini(&w->text);
	free(w);
}

void msnm_worker_free(struct msnm_worker *w)
{
	if (w)
		worker_end(w);
}

/* What the child said. */
static struct msnm_model *result(struct msnm_worker *w, char *why, size_t size)
{
	char reason[MODELFILE_WHY_LEN] = "no memory";
	struct detect_model *model = NULL;

	if (w->text.len && w->text.data[0] == WHY_PREFIX[0]) {
		snprintf(why, size, "%s", w->text.data + 1);
		return NULL;
	}
	if (!w->text.len || w->text.failed) {
		snprintf(why, size, "the worker ended without a model");
		return NULL;
	}
	if (modelfile_parse(w->text.data, w->text.len, &model, reason)) {
		snprintf(why, size, "%s", reason);
		return NULL;
	}
	return msnm_model_new(model, &w->job->set);
}

static void finish(struct msnm_worker *w)
{
	void (*done)(void *, struct msnm_model *, const char *) = w->done;
	void *arg = w->arg;
	char why[MODELFILE_WHY_LEN] = "no memory";
	struct msnm_model *model = result(w, why, sizeof(why));

	worker_end(w);
	done(arg, model, model ? "" : why);
}

static void readable(void *arg, uint32_t events)
{
	struct msnm_worker *w = arg;
	char chunk[65536];
	ssize_t n = read(w->io.fd, chunk, sizeof(chunk));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && w->text.len < MODELFILE_BYTES_MAX)
		buf_add(&w->text, chunk, (size_t)n);
	else
		finish(w);
}

static void expired(void *arg)
{
	struct msnm_worker *w = arg;

	buf_reset(&w->text);
	buf_text(&w->text, WHY_PREFIX "it took too long");
	finish(w);
}

struct msnm_worker *msnm_worker_start(struct loop *l, struct msnm_job *j,
				      void (*done)(void *arg,
						   struct msnm_model *model,
						   const char *why),
				      void *arg)
{
	struct msnm_worker *w = calloc(1, sizeof(*w));
	pid_t self = getpid();
	int fd[2] = { -1, -1 };

	if (!w) {
		msnm_job_free(j);
		return NULL;
	}
	w->io = LOOP_IO_INIT;
	w->job = j;
	w->done = done;
	w->arg = arg;
	if (pipe2(fd, O_CLOEXEC))
		goto fail;
	w->pid = fork();
	if (w->pid < 0)
		goto fail;
	if (w->pid == 0)
		child_run(j, fd[1], self);
	close(fd[1]);
	fd[1] = -1;
	/* the child has its copy; what stays here names the columns */
	free(j->rows);
	j->rows = NULL;
	if (fcntl(fd[0], F_SETFL, O_NONBLOCK) ||
	    loop_io_add(l, &w->io, fd[0], EPOLLIN, readable, w))
		goto fail;
	fd[0] = -1;
	if (loop_timer_in(l, &w->limit, WORKER_MS, expired, w))
		goto fail;
	return w;
fail:
	log_warn("msnm: no worker");
	for (unsigned i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	worker_end(w);
	return NULL;
}
