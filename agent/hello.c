/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token of this agent, and the proof that another one knows it: a digest
 * under the token of a nonce, of who answers and of where it was asked, so that
 * a proof is worth nothing at another time, for another host or passed on.
 */
#include "agent/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/auth.h"
#include "common/log.h"
#include "common/util.h"

int hello_token_read(const char *path, char out[HELLO_TOKEN_MAX + 1])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[HELLO_TOKEN_MAX + 2] = "";
	struct stat st;
	ssize_t n = -1;

	if (fd < 0) {
		int saved = errno;

		log_err("%s", path);
		return -saved;
	}
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && !(st.st_mode & 077) &&
	    (st.st_uid == geteuid() || st.st_uid == 0))
		n = read(fd, text, sizeof(text));
	close(fd);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (n <= 0 || n > HELLO_TOKEN_MAX) {
		log_errx("%s: must be a file of mode 0600 with one token",
			 path);
		goto fail;
	}
	text[n] = '\0';
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
			 "uvwxyz0123456789-_=") != (size_t)n) {
		log_errx("%s: is not a token", path);
		goto fail;
	}
	memcpy(out, text, (size_t)n + 1);
	explicit_bzero(text, sizeof(text));
	return 0;
fail:
	explicit_bzero(text, sizeof(text));
	return -EINVAL;
}

void hello_proof(const char *token, const uint8_t nonce[TREE_NONCE],
		 const struct node_id *id, const struct endpoint *asked,
		 uint8_t out[TREE_PROOF])
{
	uint8_t text[50];

	memcpy(text, nonce, 16);
	memcpy(text + 16, id->b, 16);
	memcpy(text + 32, asked->addr.b, 16);
	text[48] = (uint8_t)(asked->port >> 8);
	text[49] = (uint8_t)asked->port;
	auth_proof(token, strlen(token), text, sizeof(text), out);
}

void hello_write(const uint8_t nonce[TREE_NONCE], struct buf *b)
{
	struct tree_wire w = { .m.kind = TREE_HELLO, .has_nonce = true };

	memcpy(w.nonce, nonce, sizeof(w.nonce));
	tree_wire_write(&w, false, b);
}

int hello_check(const char *token, const uint8_t nonce[TREE_NONCE],
		const struct endpoint *asked, const char *body, size_t len)
{
	uint8_t want[TREE_PROOF];
	struct tree_wire w;
	bool right;

	if (tree_wire_read(TREE_HELLO, 200, body, len, &w))
		return -EPROTO;
	hello_proof(token, nonce, &w.m.u.hello.id, asked, want);
	right = w.has_proof && equal_const_time(want, w.proof, sizeof(want));
	tree_wire_fini(&w);
	return right ? 0 : -EKEYREJECTED;
}
