/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When readers are killed: one that ends gets the time that a start has. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "monitor/crew.h"

struct world {
	struct meter_slot slot[CTL_READERS];
	struct meter meter;
	struct crew crew;
	int other; /* the reader's end of its socket */
};

/* Readers here do nothing. */
int reader_main(const struct reader_config *config)
{
	(void)config;
	pause();
	return 0;
}

struct ctl_volume meter_received(const struct meter *m, uint32_t reader,
				 enum packet_dir dir)
{
	(void)m;
	(void)reader;
	(void)dir;
	return (struct ctl_volume){ 0 };
}

/* One that was bound long ago. */
static struct crew_reader *begin(struct world *w)
{
	struct crew_reader *r = &w->crew.reader[0];
	int sock[2];

	memset(w, 0, sizeof(*w));
	w->meter.slot = w->slot;
	crew_init(&w->crew, NULL, NULL, &w->meter, 1, NULL, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock), 0);
	r->pid = fork();
	if (r->pid == 0)
		_exit(reader_main(NULL));
	assert_true(r->pid > 0);
	r->sock = sock[0];
	w->other = sock[1];
	r->bound = true;
	r->since_ms = clock_mono_ms() - 100000;
	return r;
}

static void end(struct world *w)
{
	crew_fini(&w->crew);
	close(w->other);
}

static void test_reader_that_ends(void **state)
{
	struct world w;
	struct crew_reader *r = begin(&w);

	(void)state;
	assert_false(crew_dismiss(&w.crew));
	crew_watch(&w.crew, 0);
	assert_false(r->killed);
	/* again does not give it time again */
	r->since_ms -= 2000;
	assert_false(crew_dismiss(&w.crew));
	crew_watch(&w.crew, 0);
	assert_true(r->killed);
	end(&w);
}

static void test_reader_without_progress(void **state)
{
	struct world w;
	struct crew_reader *r = begin(&w);

	(void)state;
	atomic_store(&w.slot[0].tick_ms, clock_mono_ms());
	crew_watch(&w.crew, 0);
	assert_false(r->killed);
	atomic_store(&w.slot[0].tick_ms, clock_mono_ms() - 1000);
	crew_watch(&w.crew, 0);
	assert_true(r->killed);
	end(&w);
}

static void test_reader_that_does_not_start(void **state)
{
	struct world w;
	struct crew_reader *r = begin(&w);

	(void)state;
	r->bound = false;
	r->since_ms = clock_mono_ms();
	crew_watch(&w.crew, 0);
	assert_false(r->killed);
	r->since_ms -= 2000;
	crew_watch(&w.crew, 0);
	assert_true(r->killed);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader_that_ends),
		cmocka_unit_test(test_reader_without_progress),
		cmocka_unit_test(test_reader_that_does_not_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
