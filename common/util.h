/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small helpers that everything uses: clocks, checked numbers, hex. */
#ifndef LINNET_UTIL_H
#define LINNET_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))
#define container_of(p, type, member) \
	((type *)((char *)(p)-offsetof(type, member)))

/* Exit codes of the programs (sysexits.h names the same numbers). */
enum exit_code {
	EXIT_USAGE = 64,      /* bad command line */
	EXIT_MECHANISM = 69,  /* the kernel or a tool lacks what is needed */
	EXIT_BUSY = 75,       /* another process holds the instance */
	EXIT_PERMISSION = 77, /* capability or user missing */
	EXIT_CONFIG = 78,     /* configuration refused */
};

/* Monotonic clock, for deadlines. */
uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);
/* Wall clock since 1970, UTC: a label, and the numbering of windows. */
uint64_t clock_wall_ms(void);

/* a + b; at overflow UINT64_MAX and *saturated = true (else untouched). */
uint64_t u64_add_sat(uint64_t a, uint64_t b, bool *saturated);

/*
 * Decimal text of len bytes -> number in [min, max].  Only digits, no sign, no
 * blanks, no leading zero but "0" itself.  0, -EINVAL (not a number) or
 * -ERANGE; *out unchanged on failure.
 */
int parse_u64(const char *s, size_t len, uint64_t min, uint64_t max,
	      uint64_t *out);
/*
 * Decimal real "0.25", "1e-3" of len bytes -> finite number in [min, max].
 * 0, -EINVAL or -ERANGE.
 */
int parse_real(const char *s, size_t len, double min, double max, double *out);

/* "500ms", "10s", "5m", "1h", "2" (seconds) -> ms; 0, -EINVAL or -ERANGE. */
int parse_duration(const char *s, size_t len, uint64_t *ms);

/* n bytes -> 2n lower-case digits and NUL in out. */
void hex_encode(const uint8_t *in, size_t n, char *out);
/* 2n digits, exactly -> n bytes; 0 or -EINVAL. */
int hex_decode(const char *s, size_t len, uint8_t *out, size_t n);
/* 16 digits <-> u64, as task ids are written. */
void hex_u64(uint64_t v, char out[17]);
int hex_parse_u64(const char *s, size_t len, uint64_t *out);

/* Only A-Z a-z 0-9 . _ : -, as names are written; none: true. */
bool name_chars(const char *s, size_t len);

/* Wall-clock milliseconds -> "2026-11-21T01:00:00.000Z". */
#define TIME_TEXT_LEN 32
void time_format(uint64_t wall_ms, char out[TIME_TEXT_LEN]);
/* What time_format() writes, the fraction left out or shorter; -EINVAL. */
int time_parse(const char *s, size_t len, uint64_t *wall_ms);

/* Fills n bytes from the kernel's generator; aborts if there is none. */
void random_bytes(void *out, size_t n);
uint64_t random_u64(void);

/* Writes all of it, whatever interrupts.  0 or -errno. */
int write_all(int fd, const char *p, size_t len);

/* Compares n bytes in time that depends on n alone; true if equal. */
bool equal_const_time(const void *a, const void *b, size_t n);

#endif
