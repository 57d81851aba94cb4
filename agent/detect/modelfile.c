/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model files.  The new text is written beside the old file, synced, and
 * renamed over it; the directory is synced, too.  Who is killed meanwhile
 * leaves the file as it was, and perhaps NAME.*.tmp beside it.
 */
#include "agent/detect/modelfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/replace.h"
#include "common/util.h"

/* The entry of the directory survives a crash, too. */
static int sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1)
			  : strdup(".");
	int fd, ret = 0;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	/* Some file systems cannot, and who may write may not always read. */
	if (fd >= 0 && fsync(fd) && errno != EINVAL)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

/* old NULL: there is no such file yet. */
static int replace(const char *path, const struct stat *old, const char *text,
		   size_t len)
{
	char *tmp = NULL;
	int ret;

	if (asprintf(&tmp, "%s.%016jx.tmp", path, (uintmax_t)random_u64()) < 0)
		return -ENOMEM;
	ret = file_replace(AT_FDCWD, path, tmp,
			   old ? (int)(old->st_mode & 0777) : -1, text, len);
	free(tmp);
	return ret ? ret : sync_directory(path);
}

static int write_to(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = write_all(fd, text, len);
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

int modelfile_save(const char *path, const struct detect_model *model)
{
	struct buf b = BUF_INIT;
	char *real = NULL;
	struct stat st;
	bool old;
	int ret = modelfile_format(model, &b);

	if (ret)
		goto out;
	old = stat(path, &st) == 0;
	if (old && !S_ISREG(st.st_mode)) {
		ret = write_to(path, b.data, b.len);
		goto out;
	}
	/* A link stays, what it names is replaced. */
	real = old ? realpath(path, NULL) : strdup(path);
	ret = real ? replace(real, old ? &st : NULL, b.data, b.len) : -errno;
out:
	free(real);
	buf_fini(&b);
	return ret;
}

int modelfile_load(const char *path, struct detect_model **model,
		   char why[MODELFILE_WHY_LEN])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret;
	struct buf b = BUF_INIT;

	if (fd < 0)
		return -errno;
	/* one that is too long is refused by the parser, which says so */
	ret = buf_read(&b, fd, MODELFILE_BYTES_MAX);
	close(fd);
	if (!ret)
		ret = modelfile_parse(b.data ? b.data : "", b.len, model, why);
	buf_fini(&b);
	return ret;
}
