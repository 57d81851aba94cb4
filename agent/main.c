/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet-agent: what is made in which order, the loop, the same backwards.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "agent/agent.h"
#include "agent/alarm.h"
#include "agent/auth.h"
#include "agent/kept.h"
#include "agent/manager.h"
#include "agent/monlink.h"
#include "agent/msnm.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/priv.h"
#include "agent/probe.h"
#include "agent/registry.h"
#include "agent/roster.h"
#include "agent/service.h"
#include "agent/standing.h"
#include "common/log.h"
#include "common/util.h"

struct program {
	struct agent agent;
	struct conf conf;
	struct service *service;
	struct manager manager;
};

static void signal_arrived(void *arg, int signo)
{
	struct program *p = arg;
	char why[256];

	if (signo == SIGHUP) {
		if (auth_reload(p->agent.auth, why) != 0)
			log_warnx("tokens are kept as they were: %s", why);
		return;
	}
	manager_stop(&p->manager);
}

static int loop_open(struct program *p)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	p->agent.loop = loop_new();
	if (!p->agent.loop)
		return -ENOMEM;
	return loop_signals(p->agent.loop, &set, signal_arrived, p);
}

static int agent_run(struct program *p)
{
	struct agent *a = &p->agent;
	const char *peer_token = p->conf.peer_token_file;
	int ret = EXIT_FAILURE;

	a->started_ms = clock_wall_ms();
	if (loop_open(p) ||
	    peers_open(&a->peers, a->loop, peer_token[0] ? peer_token : NULL,
		       p->conf.listen, p->conf.n_listen) ||
	    monlink_open(&a->monlink, a) || overlay_open(&a->overlay, a) ||
	    registry_open(&a->registry, a) || queries_open(&a->queries, a) ||
	    kept_open(&a->kept) || standing_open(&a->standing, a) ||
	    alarms_open(&a->alarms, a) || rosters_open(&a->rosters, a) ||
	    probes_open(&a->probes, a) || msnm_open(&a->msnm, a) ||
	    service_open(&p->service, a))
		goto out;
	overlay_start(a->overlay);
	manager_start(&p->manager, a);
	ret = loop_run(a->loop) ? EXIT_FAILURE : EXIT_SUCCESS;
out:
	manager_fini(&p->manager);
	msnm_free(a->msnm);
	probes_free(a->probes);
	queries_free(a->queries);
	kept_free(a->kept);
	standing_free(a->standing);
	alarms_free(a->alarms);
	rosters_free(a->rosters);
	registry_free(a->registry);
	overlay_free(a->overlay);
	a->overlay = NULL; /* connections still end below */
	monlink_free(a->monlink);
	peers_free(a->peers);
	service_close(p->service);
	loop_free(a->loop);
	return ret;
}

int main(int argc, char **argv)
{
	struct program p = { .agent.conf = &p.conf };
	int ret = conf_load(&p.conf, argc, argv);
	char why[256];

	if (ret)
		return ret == 1 ? EXIT_SUCCESS : ret;
	log_init("linnet-agent", p.conf.log_level);
	if (p.conf.insecure)
		log_warnx("insecure: every caller may do everything");
	ret = priv_drop(&p.conf);
	if (!ret && auth_open(&p.agent.auth, p.conf.token_file, why) != 0) {
		log_errx("%s", why);
		ret = EXIT_CONFIG;
	}
	if (!ret && overlay_check(&p.conf) != 0)
		ret = EXIT_CONFIG;
	if (!ret && p.conf.check)
		conf_print(&p.conf);
	else if (!ret)
		ret = agent_run(&p);
	auth_free(p.agent.auth);
	return ret;
}
