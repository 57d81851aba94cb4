/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests may do to a reader; nothing at all in a normal build. */
#ifndef LINNET_HOOK_H
#define LINNET_HOOK_H

#ifdef LINNET_TEST_HOOKS
/* Keeps the processor busy as long as the test asks, once per packet. */
void hook_packet_delay(void);
#else
#	define hook_packet_delay() ((void)0)
#endif

#endif
