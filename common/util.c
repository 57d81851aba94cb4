/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clocks, checked numbers, hex, random bytes, whole writes: what the C library
 * has no strict or saturating form of.  No state, nothing is allocated.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/util.h"

#define REAL_TEXT_MAX 64

static uint64_t clock_read_ns(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		abort();
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

uint64_t clock_wall_ms(void)
{
	return clock_read_ns(CLOCK_REALTIME) / 1000000;
}

uint64_t u64_add_sat(uint64_t a, uint64_t b, bool *saturated)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum)) {
		*saturated = true;
		return UINT64_MAX;
	}
	return sum;
}

int parse_u64(const char *s, size_t len, uint64_t min, uint64_t max,
	      uint64_t *out)
{
	uint64_t v = 0;
	bool over = false;

	if (len == 0 || (len > 1 && s[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		over |= __builtin_mul_overflow(v, 10, &v);
		over |= __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v);
	}
	if (over || v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

/* Index of the first byte from i on that is no digit. */
static size_t skip_digits(const char *s, size_t i)
{
	while (s[i] >= '0' && s[i] <= '9')
		i++;
	return i;
}

/* The grammar of JSON numbers; s ends with NUL. */
static bool is_real(const char *s, size_t len)
{
	size_t i = s[0] == '-', from = i;

	i = skip_digits(s, i);
	if (i == from || (s[from] == '0' && i - from > 1))
		return false;
	if (s[i] == '.') {
		from = ++i;
		i = skip_digits(s, i);
		if (i == from)
			return false;
	}
	if (s[i] == 'e' || s[i] == 'E') {
		i++;
		if (s[i] == '+' || s[i] == '-')
			i++;
		from = i;
		i = skip_digits(s, i);
		if (i == from)
			return false;
	}
	return i == len;
}

int parse_real(const char *s, size_t len, double min, double max, double *out)
{
	char text[REAL_TEXT_MAX + 1];
	double v;

	if (len > REAL_TEXT_MAX)
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	if (!is_real(text, len))
		return -EINVAL;
	/* The programs never call setlocale(): the point is always ".". */
	v = strtod(text, NULL);
	if (!isfinite(v) || v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

int parse_duration(const char *s, size_t len, uint64_t *ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {
		{ "ms", 1 },
		{ "s", 1e3 },
		{ "m", 60e3 },
		{ "h", 3600e3 },
	};
	double scale = 1e3, v;
	size_t n;
	int ret;

	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		n = strlen(units[i].unit);
		if (len > n && memcmp(s + len - n, units[i].unit, n) == 0) {
			scale = units[i].ms;
			len -= n;
			break;
		}
	}
	ret = parse_real(s, len, 0, 1e9, &v);
	if (ret)
		return ret;
	*ms = (uint64_t)(v * scale + 0.5);
	return 0;
}

void hex_encode(const uint8_t *in, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[in[i] >> 4];
		*out++ = digits[in[i] & 15];
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *s, size_t len, uint8_t *out, size_t n)
{
	if (len % 2 != 0 || len / 2 != n)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (hex_digit(s[i]) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)((unsigned int)hex_digit(s[2 * i]) << 4 |
				   (unsigned int)hex_digit(s[2 * i + 1]));
	return 0;
}

bool name_chars(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') &&
		    !(s[i] >= 'A' && s[i] <= 'Z') &&
		    !(s[i] >= '0' && s[i] <= '9') && s[i] != '.' &&
		    s[i] != '_' && s[i] != ':' && s[i] != '-')
			return false;
	return true;
}

void hex_u64(uint64_t v, char out[17])
{
	uint8_t b[8];

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(v >> (56 - 8 * i));
	hex_encode(b, sizeof(b), out);
}

int hex_parse_u64(const char *s, size_t len, uint64_t *out)
{
	uint8_t b[8];
	uint64_t v = 0;
	int err = hex_decode(s, len, b, sizeof(b));

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(b); i++)
		v = v << 8 | b[i];
	*out = v;
	return 0;
}

void time_format(uint64_t wall_ms, char out[TIME_TEXT_LEN])
{
	/* The last moment of the year 9999: four digits are the format. */
	const uint64_t last_ms = 253402300799999;
	time_t sec = (time_t)(MIN(wall_ms, last_ms) / 1000);
	struct tm tm;
	size_t n;

	if (!gmtime_r(&sec, &tm))
		abort();
	n = strftime(out, TIME_TEXT_LEN, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_TEXT_LEN - n, ".%03uZ",
		 (unsigned int)(MIN(wall_ms, last_ms) % 1000));
}

int time_parse(const char *s, size_t len, uint64_t *wall_ms)
{
	struct tm tm = { 0 };
	unsigned int ms = 0, unit = 100;
	const char *rest;
	char text[TIME_TEXT_LEN];
	time_t sec;

	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest || rest - text != 19)
		return -EINVAL;
	if (*rest == '.') {
		for (rest++; *rest >= '0' && *rest <= '9' && unit; unit /= 10)
			ms += unit * (unsigned int)(*rest++ - '0');
		if (unit == 100)
			return -EINVAL;
	}
	if (strcmp(rest, "Z") != 0)
		return -EINVAL;
	sec = timegm(&tm);
	if (sec < 0)
		return -EINVAL;
	*wall_ms = (uint64_t)sec * 1000 + ms;
	return 0;
}

void random_bytes(void *out, size_t n)
{
	uint8_t *p = out;

	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			abort();
		p += got;
		n -= (size_t)got;
	}
}

uint64_t random_u64(void)
{
	uint64_t v;

	random_bytes(&v, sizeof(v));
	return v;
}

bool equal_const_time(const void *a, const void *b, size_t n)
{
	/* volatile: the compiler must not leave the loop at a difference. */
	const volatile uint8_t *x = a, *y = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= (uint8_t)(x[i] ^ y[i]);
	return diff == 0;
}

int write_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
