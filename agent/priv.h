/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up what the agent does not need. */
#ifndef LINNET_AGENT_PRIV_H
#define LINNET_AGENT_PRIV_H

#include "agent/conf.h"

/*
 * Started as root: makes the state directory if it is not there, becomes
 * conf->user.  Always: no capabilities, no new privileges, no cores, not
 * traceable.  0, or an exit code after a line in the log.
 */
int priv_drop(const struct conf *c);

#endif
