/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Telling whoever started the program that it serves and is alive. */
#ifndef LINNET_NOTIFY_H
#define LINNET_NOTIFY_H

#include <stdint.h>

/*
 * Says "ready" once: writes one byte to ready_fd and closes it (-1: none), and
 * sends READY=1 to the service manager if NOTIFY_SOCKET is set.  0, or the
 * first -errno; both are tried.
 */
int notify_ready(int ready_fd);
/* Sends WATCHDOG=1 to the service manager, if there is one.  0 or -errno. */
int notify_watchdog(void);
/* Sends STOPPING=1 to the service manager, if there is one.  0 or -errno. */
int notify_stopping(void);
/*
 * How often notify_watchdog() is due: half of what WATCHDOG_USEC says, if it
 * is meant for this process; 0: never.
 */
uint64_t notify_watchdog_ms(void);

#endif
