/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Beginning and end of serving, as a service manager or a script sees them.  A
 * script that waits for the agent may ask at once: "ready" is held back for the
 * moment that it takes to attach a monitor that runs, but a host without
 * monitor has an agent, too.
 */
#include "agent/manager.h"
#include "agent/agent.h"
#include "agent/http.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/util.h"

enum {
	ATTACH_MS = 250,
	STOP_MS = 2500,
	DRAIN_MS = 12000, /* the tree gives its children 10 s */
	POLL_MS = 10
};

static void ready_poll(void *arg)
{
	struct manager *m = arg;

	if (monlink_state(m->agent->monlink) != MONLINK_ATTACHED &&
	    clock_mono_ms() < m->until_ms &&
	    loop_timer_in(m->agent->loop, &m->ready, POLL_MS, ready_poll, m) ==
		    0)
		return;
	if (notify_ready(m->agent->conf->ready_fd) != 0)
		log_warnx("nobody could be told that the agent serves");
}

static void watchdog_pet(void *arg)
{
	struct manager *m = arg;
	uint64_t ms = notify_watchdog_ms();

	if (ms == 0)
		return;
	(void)notify_watchdog();
	loop_timer_in(m->agent->loop, &m->watchdog, ms, watchdog_pet, m);
}

void manager_start(struct manager *m, struct agent *a)
{
	*m = (struct manager){ .agent = a,
			       .until_ms = clock_mono_ms() + ATTACH_MS };
	watchdog_pet(m);
	ready_poll(m);
}

static void stop_poll(void *arg)
{
	struct manager *m = arg;
	struct agent *a = m->agent;

	if (http_pending(a->http) == 0 || clock_mono_ms() >= m->until_ms ||
	    loop_timer_in(a->loop, &m->stop, POLL_MS, stop_poll, m) != 0)
		loop_stop(a->loop);
}

static void stop_begin(void *arg)
{
	struct manager *m = arg;

	if (m->agent->stopping)
		return;
	m->agent->stopping = true;
	m->until_ms = clock_mono_ms() + STOP_MS;
	(void)notify_stopping();
	loop_timer_cancel(&m->ready);
	loop_timer_cancel(&m->drain);
	http_quiesce(m->agent->http);
	stop_poll(m);
}

void manager_stop(struct manager *m)
{
	struct agent *a = m->agent;

	/* asked for the second time it does not wait */
	if (!a->conf->drain || m->draining ||
	    loop_timer_in(a->loop, &m->drain, DRAIN_MS, stop_begin, m) != 0) {
		stop_begin(m);
		return;
	}
	m->draining = true;
	overlay_drain(a->overlay, stop_begin, m);
}

void manager_fini(struct manager *m)
{
	loop_timer_cancel(&m->ready);
	loop_timer_cancel(&m->watchdog);
	loop_timer_cancel(&m->stop);
	loop_timer_cancel(&m->drain);
}
