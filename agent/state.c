/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State files: written beside, synced, renamed, so that after any crash the
 * old or the new one is there; the checksum tells a file that a disk or a
 * person damaged.  Files are opened relative to the directory and never
 * through a symbolic link.
 */
#include "agent/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hash.h"
#include "common/log.h"
#include "common/replace.h"
#include "common/util.h"

#define CHECK_LEN 30 /* {"check": "16 digits"} and newline */

static void check_line(const char *text, size_t len, char out[CHECK_LEN + 1])
{
	const struct hash_key key = { { 1 } };
	char hex[17];

	hex_u64(siphash24(&key, text, len), hex);
	snprintf(out, CHECK_LEN + 1, "{\"check\": \"%s\"}\n", hex);
}

static int dir_open(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static bool intact(struct buf *b)
{
	char want[CHECK_LEN + 1], *line;
	size_t len;

	if (!b->data)
		return false;
	line = memchr(b->data, '\n', b->len);
	if (!line)
		return false;
	len = (size_t)(line - b->data);
	check_line(b->data, len, want);
	if (b->len != len + 1 + strlen(want) ||
	    memcmp(line + 1, want, strlen(want)) != 0)
		return false;
	b->len = len;
	b->data[len] = '\0';
	return true;
}

int state_read(const char *dir, const char *name, struct buf *out)
{
	int dfd = dir_open(dir), fd = -1, ret = dfd;
	char bad[64];
	struct stat st;

	if (dfd < 0)
		goto out;
	fd = openat(dfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ret = fd < 0 ? -errno : 0;
	if (!ret && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
		ret = -EINVAL;
	if (!ret)
		ret = buf_read(out, fd, STATE_MAX_BYTES);
	if (!ret && out->len > STATE_MAX_BYTES)
		ret = -EFBIG;
	if (!ret && !intact(out)) {
		snprintf(bad, sizeof(bad), "%s.bad", name);
		(void)renameat(dfd, name, dfd, bad);
		ret = -EBADMSG;
	}
out:
	if (ret && ret != -ENOENT)
		log_write(LOG_LEVEL_WARN, -ret, "%s/%s: not used%s", dir, name,
			  ret == -EBADMSG ? ", kept as .bad" : "");
	if (ret)
		buf_fini(out);
	if (fd >= 0)
		close(fd);
	if (dfd >= 0)
		close(dfd);
	return ret;
}

int state_write(const char *dir, const char *name, const char *text, size_t len)
{
	char tmp[64], check[CHECK_LEN + 1];
	int dfd = dir_open(dir), ret;
	struct buf b = BUF_INIT;

	if (dfd < 0)
		return dfd;
	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	check_line(text, len, check);
	buf_add(&b, text, len);
	buf_text(&b, "\n");
	buf_text(&b, check);
	ret = b.failed ? -ENOMEM
		       : file_replace(dfd, name, tmp, 0600, b.data, b.len);
	if (!ret && fsync(dfd))
		ret = -errno;
	if (b.data)
		explicit_bzero(b.data, b.len);
	buf_fini(&b);
	close(dfd);
	return ret;
}
