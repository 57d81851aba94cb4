/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An agent's registry with a monitor that accepts what it is told to. */
#ifndef LINNET_REGISTRY_WORLD_H
#define LINNET_REGISTRY_WORLD_H

#include "agent/agent.h"
#include "agent/registry_private.h"
#include "agent/taskops.h"

struct world {
	struct agent a;
	struct conf conf;
	char dir[64];
	int listen_fd, fd;
	struct loop_io accept_io, io;
	unsigned puts, dels;
	int put_status; /* what the monitor says */
	bool full;      /* it has no room until something is deleted */
	uint64_t memory_limit;
	/* outcome of the last operation */
	bool finished;
	enum error_code code;
	char what[160];
	struct task task;
	struct coverage coverage;
	struct loop_timer guard;
};

/* Of all tasks that travel. */
uint64_t registry_hash(const struct registry *r);
void agent_up(struct world *w);
void agent_down(struct world *w);
int setup(void **state);
int teardown(void **state);
void done(void *arg, const struct error *e, const struct task *t,
	  const struct coverage *c);
enum error_code create(struct world *w, const struct task *t);
enum error_code put(struct world *w, const struct task *t);
enum error_code delete (struct world *w, uint64_t id);
enum error_code retune(struct world *w, uint64_t id, double threshold,
		       bool host_only);
struct task counter(uint64_t sketch, enum task_origin origin,
		    enum key_type key);
struct task sketch(void);
void make_old(struct world *w, uint64_t id, uint64_t ms);
void run(struct world *w, bool (*until)(struct world *w));
bool attached(struct world *w);
bool is_finished(struct world *w);
bool is_expired(struct world *w);
bool is_refused(struct world *w);
bool is_active(struct world *w);

#endif
