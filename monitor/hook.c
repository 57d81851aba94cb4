/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Test hooks: only compiled with -Dtest_hooks=true.  LINNET_HOOK_DELAY_US
 * slows the reader down, as a slower machine would.
 */
#include "monitor/hook.h"

#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define DELAY_MAX_US 1000000

void hook_packet_delay(void)
{
	const char *text = getenv("LINNET_HOOK_DELAY_US");
	uint64_t delay_us, until_ns;

	if (!text || parse_u64(text, strlen(text), 0, DELAY_MAX_US, &delay_us))
		return;
	until_ns = clock_mono_ns() + delay_us * 1000;
	while (clock_mono_ns() < until_ns)
		;
}
