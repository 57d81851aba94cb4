/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that are replaced as a whole: after any crash the old or the new one is
 * there.  Who is killed meanwhile leaves the old one, and the new beside it.
 */
#include "common/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"

int file_replace(int dir, const char *name, const char *beside, int mode,
		 const char *text, size_t len)
{
	int fd = openat(dir, beside,
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			mode < 0 ? 0666 : 0600);
	int ret;

	if (fd < 0)
		return -errno;
	ret = mode >= 0 && fchmod(fd, (mode_t)mode) ? -errno : 0;
	if (!ret)
		ret = write_all(fd, text, len);
	if (!ret && fsync(fd))
		ret = -errno;
	if (close(fd) && !ret)
		ret = -errno;
	if (!ret && renameat(dir, beside, dir, name))
		ret = -errno;
	if (ret)
		(void)unlinkat(dir, beside, 0);
	return ret;
}
