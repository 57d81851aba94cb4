/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which agent is asked, and with which token.  A token is only taken from a
 * file that nobody else can read: a command line is there for everybody to see.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "common/addr.h"
#include "common/util.h"

#define PORT      8000
#define NAME_MAX_ 253
#define TOKEN_MAX 256

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* "NAME" or "NAME:PORT". */
static int name_check(const char *s, bool *has_port)
{
	size_t len = strspn(s, ALNUM ".-_");
	uint64_t port;

	if (len < 1 || len > NAME_MAX_)
		return -EINVAL;
	*has_port = s[len] == ':';
	s += len;
	if (*has_port)
		return parse_u64(s + 1, strlen(s + 1), 1, UINT16_MAX, &port);
	return *s ? -EINVAL : 0;
}

int target_url(const char *text, char **url)
{
	static const char scheme[] = "http://";
	size_t skip = sizeof(scheme) - 1, len;
	char host[ENDPOINT_TEXT_LEN];
	struct buf b = BUF_INIT;
	struct endpoint ep;
	bool full = strncmp(text, scheme, skip) == 0, has_port;

	text += full ? skip : 0;
	len = strlen(text);
	if (full && len && text[len - 1] == '/')
		len--;
	buf_printf(&b, "%.*s", (int)MIN(len, 300), text);
	if (!b.data)
		goto invalid;
	/* a URL without a port means that of HTTP, a bare host the agent's */
	if (!endpoint_parse(b.data, b.len, full ? 80 : PORT, &ep)) {
		endpoint_format(&ep, 0, host);
		buf_reset(&b);
		buf_printf(&b, "%s%s", scheme, host);
	} else if (!name_check(b.data, &has_port)) {
		char *name = buf_steal(&b, NULL);

		buf_printf(&b, "%s%s", scheme, name ? name : "");
		if (!full && !has_port)
			buf_printf(&b, ":%d", PORT);
		free(name);
	} else {
		goto invalid;
	}
	*url = buf_steal(&b, NULL);
	return *url ? 0 : -ENOMEM;
invalid:
	buf_fini(&b);
	return -EINVAL;
}

char *target_token(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char text[TOKEN_MAX + 2];
	struct stat st;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st)) {
		complain("%s: %s", path, strerrordesc_np(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) ||
	    st.st_uid != geteuid()) {
		complain("%s: must be your own file, of mode 0600", path);
		goto out;
	}
	n = read(fd, text, sizeof(text) - 1);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (n > 0) {
		text[n] = '\0';
		if (n <= TOKEN_MAX &&
		    strspn(text, ALNUM "-_.~+/=") == (size_t)n)
			goto out;
	}
	complain("%s: must hold one token, and nothing else", path);
	n = -1;
out:
	if (fd >= 0)
		close(fd);
	return n > 0 ? strdup(text) : NULL;
}
