/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epochs as text and in order; the words of messages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/tree/epoch.h"
#include "agent/tree/message.h"

static void test_text(void **state)
{
	const char *const bad[] = {
		"",
		"7",
		"7.9f3c0d215b6e4a10",
		"7.9f3c.52",
		"7.9f3c0d215b6e4a10.",
		"7.9f3c0d215b6e4a10.-1",
		"07.9f3c0d215b6e4a10.1",
		"7.9f3c0d215b6e4a10.1.1",
		"7 .9f3c0d215b6e4a10.1",
		"7.9f3c0d215b6e4a1g.1",
		"18446744073709551616.9f3c0d215b6e4a10.1",
		/* nobody counts so far */
		"18446744073709551615.9f3c0d215b6e4a10.1",
		"72057594037927937.9f3c0d215b6e4a10.1",
		"7.9f3c0d215b6e4a10.72057594037927937",
	};
	struct epoch e = { 1, 2, 3 };
	char text[EPOCH_TEXT];

	(void)state;
	assert_int_equal(epoch_parse("7.9f3c0d215b6e4a10.52", &e), 0);
	assert_int_equal(e.term, 7);
	assert_true(e.root == 0x9f3c0d215b6e4a10);
	assert_int_equal(e.n, 52);
	epoch_format(&e, text);
	assert_string_equal(text, "7.9f3c0d215b6e4a10.52");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(epoch_parse(bad[i], &e), -EINVAL);
	assert_int_equal(epoch_parse(NULL, &e), -EINVAL);
	assert_int_equal(e.n, 52);
	e = (struct epoch){ EPOCH_MAX, UINT64_MAX, EPOCH_MAX };
	epoch_format(&e, text);
	e = (struct epoch){ 0 };
	assert_int_equal(epoch_parse(text, &e), 0);
	assert_true(e.term == EPOCH_MAX && e.n == EPOCH_MAX);
	assert_false(epoch_none(&e));
}

static void test_order(void **state)
{
	const struct epoch up[] = {
		{ 0, 0, 0 }, { 0, 0, 1 }, { 0, 1, 0 }, { 1, 0, 0 },
		{ 1, 0, 9 }, { 1, 2, 0 }, { 2, 1, 0 },
	};

	(void)state;
	for (int i = 0; i < 7; i++)
		for (int k = 0; k < 7; k++) {
			int c = epoch_compare(&up[i], &up[k]);

			assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
		}
}

static void test_words(void **state)
{
	enum tree_word w;

	(void)state;
	for (unsigned i = 0; i < TREE_WORDS; i++) {
		const char *name = tree_word_name((enum tree_word)i);

		assert_int_equal(tree_word_parse(name, &w), 0);
		assert_int_equal(w, i);
		assert_in_range(tree_word_status(w), 200, 599);
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"),
				 strlen(name));
	}
	assert_int_equal(tree_word_parse("", &w), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
