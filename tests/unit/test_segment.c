/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The estimate of wire packets behind a super-packet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/segment.h"
#include "common/util.h"
#include "tests/unit/seed.h"

static struct segment_table table;

static struct packet packet(uint16_t sport, uint32_t len, uint8_t flags)
{
	return (struct packet){ .family = 4,
				.proto = 6,
				.sport = sport,
				.dport = 80,
				.flags = flags | PACKET_PORTS,
				.hdr_bytes = 52,
				.len_bytes = len,
				.segments = 99 };
}

static uint32_t estimate(struct packet p)
{
	segment_estimate(&table, &p);
	return p.segments;
}

/* Full packets come again. */
static void learn(struct packet p)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(estimate(p), 1);
}

static int fresh(void **state)
{
	static const struct hash_key local = { .b = { 1, 2, 3 } };

	(void)state;
	segment_init(&table, &local, 0);
	return 0;
}

static void test_plain_is_one(void **state)
{
	(void)state;
	assert_int_equal(estimate(packet(1, 52, 0)), 1);
	assert_int_equal(estimate(packet(1, 20, 0)), 1); /* below its headers */
	assert_int_equal(estimate(packet(1, 1500, 0)), 1);
	assert_int_equal(estimate(packet(1, 9000, PACKET_FRAGMENT)), 1);
	assert_int_equal(
		estimate(packet(1, 9000, PACKET_GSO | PACKET_MALFORMED)), 1);
	assert_int_equal(estimate(packet(1, 40, PACKET_GSO)), 1);
}

static void test_device_mtu(void **state)
{
	(void)state;
	/* 1,448 bytes a segment */
	assert_int_equal(estimate(packet(1, 52 + 1448, PACKET_GSO)), 1);
	assert_int_equal(estimate(packet(1, 52 + 1449, PACKET_GSO)), 2);
	assert_int_equal(estimate(packet(1, 52 + 44 * 1448, PACKET_GSO)), 44);
	table.mtu = 9000;
	assert_int_equal(estimate(packet(1, 52 + 2 * 8948, PACKET_GSO)), 2);
	table.mtu = 52; /* no room: unknown */
	assert_int_equal(estimate(packet(1, 9000, PACKET_GSO)), 1);
}

static void test_learns_per_flow_and_direction(void **state)
{
	struct packet out = packet(1, 52 + 10000, PACKET_GSO);

	(void)state;
	learn(packet(1, 52 + 800, 0));
	learn(packet(1, 52 + 1000, 0));
	learn(packet(1, 52 + 600, 0));    /* smaller: changes nothing */
	estimate(packet(1, 52 + 100, 0)); /* says nothing */
	assert_int_equal(estimate(packet(1, 52 + 10000, PACKET_GSO)), 10);
	assert_int_equal(estimate(packet(1, 52 + 10001, PACKET_GSO)), 11);
	assert_int_equal(estimate(packet(2, 52 + 10000, PACKET_GSO)), 7);
	out.dir = PACKET_OUT;
	assert_int_equal(estimate(out), 7);
}

static void test_small_payload_is_not_learnt(void **state)
{
	(void)state;
	learn(packet(1, 52 + 535, 0));
	assert_int_equal(estimate(packet(1, 52 + 10000, PACKET_GSO)), 7);
	learn(packet(1, 52 + 536, 0));
	assert_int_equal(estimate(packet(1, 52 + 5360, PACKET_GSO)), 10);
}

/* A sender that is starved, or has a small window, sends what it has. */
static void test_partial_is_not_learnt(void **state)
{
	(void)state;
	for (unsigned int payload = 600; payload < 700; payload++)
		estimate(packet(1, 52 + payload, 0));
	assert_int_equal(estimate(packet(1, 52 + 10000, PACKET_GSO)), 7);
	learn(packet(1, 52 + 1000, 0));
	estimate(packet(1, 52 + 1200, 0));
	assert_int_equal(estimate(packet(1, 52 + 10000, PACKET_GSO)), 10);
}

/* The n-th flow of a crowd, its full packet and its super-packet. */
static struct packet crowd(uint64_t *seed, uint8_t flags)
{
	struct packet p = packet((uint16_t)seed_next(seed), 52 + 1000, flags);

	p.dport = (uint16_t)seed_next(seed);
	if (flags & PACKET_GSO)
		p.len_bytes = 52 + 20000;
	return p;
}

/* More flows than slots: those pushed out fall back to the device's MTU. */
static void test_crowded(void **state)
{
	uint64_t seed = seed_start(), again = seed;
	unsigned int learnt = 0;

	(void)state;
	for (int n = 0; n < 100000; n++)
		learn(crowd(&seed, 0));
	for (int n = 0; n < 100000; n++) {
		uint32_t segments = estimate(crowd(&again, PACKET_GSO));

		assert_true(segments == 20 || segments == 14);
		learnt += segments == 20;
	}
	print_message("%u flows still known\n", learnt);
	assert_in_range(learnt, SEGMENT_SLOTS * 9 / 10,
			SEGMENT_SLOTS * 11 / 10);
}

static void test_hidden_bytes(void **state)
{
	struct packet p = packet(1, 52 + 44 * 1448, PACKET_GSO);

	(void)state;
	segment_estimate(&table, &p);
	assert_int_equal(segment_hidden_bytes(&p), 43 * 52);
	p.flags = PACKET_PORTS;
	segment_estimate(&table, &p);
	assert_int_equal(segment_hidden_bytes(&p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_plain_is_one, fresh),
		cmocka_unit_test_setup(test_device_mtu, fresh),
		cmocka_unit_test_setup(test_learns_per_flow_and_direction,
				       fresh),
		cmocka_unit_test_setup(test_small_payload_is_not_learnt, fresh),
		cmocka_unit_test_setup(test_partial_is_not_learnt, fresh),
		cmocka_unit_test_setup(test_crowded, fresh),
		cmocka_unit_test_setup(test_hidden_bytes, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
