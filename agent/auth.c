/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tokens and roles; the one file that knows GnuTLS, for SHA-256 alone.
 *
 * The file holds digests of random 32-byte tokens, so that reading it does not
 * give a token, and no slow hash is needed.  A token is compared with every
 * digest, each in constant time: how long a refusal takes says nothing.  Wrong
 * tokens are counted per address; a right one is let in all the same, for
 * nobody guesses 256 bits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>

#include "agent/auth.h"
#include "agent/limit.h"
#include "common/base64.h"
#include "common/util.h"

#define AUTH_DIGEST_BYTES 32
#define AUTH_TOKEN_BYTES  32
#define AUTH_FILE_BYTES   65536
#define AUTH_TOKENS       256
#define AUTH_TOKEN_TEXT   256 /* longest token that is looked at */
#define AUTH_FAILURES     10
#define AUTH_FAILURES_MS  60000
#define AUTH_ALL_ROLES    (ROLE_READ | ROLE_CONFIG | ROLE_ADMIN | ROLE_PEER)

struct token {
	unsigned roles;
	uint8_t digest[AUTH_DIGEST_BYTES];
};

struct auth {
	char *path; /* NULL: everybody may do everything */
	struct token *tokens;
	size_t n_tokens;
	struct limit failures;
};

static const struct {
	const char *name;
	unsigned roles;
} role_names[] = {
	{ "read", ROLE_READ },
	{ "config", ROLE_READ | ROLE_CONFIG },
	{ "admin", ROLE_READ | ROLE_CONFIG | ROLE_ADMIN },
	{ "peer", ROLE_PEER },
};

static void auth_digest(const void *p, size_t len, uint8_t *digest)
{
	/* Fails only where SHA-256 does not exist. */
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, p, len, digest) != 0)
		abort();
}

/* Opens the file only if nobody else can have read or written it. */
static int file_open(const char *path, char err[256])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	const char *why = NULL;
	struct stat st;

	if (fd < 0) {
		int saved = errno;

		snprintf(err, 256, "%s: %s", path,
			 saved == ELOOP ? "must not be a symbolic link"
					: strerrordesc_np(saved));
		return -saved;
	}
	if (fstat(fd, &st) < 0)
		why = "cannot be examined";
	else if (!S_ISREG(st.st_mode))
		why = "must be a regular file";
	else if (st.st_uid != geteuid())
		why = "must belong to the user of the agent";
	else if ((st.st_mode & 07777) != 0600 && (st.st_mode & 07777) != 0400)
		why = "must have mode 0600";
	else if (st.st_size > AUTH_FILE_BYTES)
		why = "is longer than 65536 bytes";
	if (!why)
		return fd;
	snprintf(err, 256, "%s: %s", path, why);
	close(fd);
	return -EINVAL;
}

/* The whole file as text (caller frees), or NULL. */
static char *file_read(int fd)
{
	char *text = malloc(AUTH_FILE_BYTES + 1);
	size_t len = 0;
	ssize_t n = 1;

	while (text && n > 0 && len < AUTH_FILE_BYTES) {
		n = read(fd, text + len, AUTH_FILE_BYTES - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	if (!text || n < 0 || memchr(text, '\0', len)) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

static bool name_valid(const char *s)
{
	size_t len = strlen(s);

	return len >= 1 && len <= 64 && name_chars(s, len);
}

/* "ROLE NAME SHA256HEX"; the line is cut into words. */
static int line_parse(char *line, struct token *out)
{
	char *save = NULL;
	const char *role = strtok_r(line, " \t", &save);
	const char *name = strtok_r(NULL, " \t", &save);
	const char *hex = strtok_r(NULL, " \t", &save);

	if (!hex || strtok_r(NULL, " \t", &save) || !name_valid(name) ||
	    hex_decode(hex, strlen(hex), out->digest, AUTH_DIGEST_BYTES) != 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(role_names); i++) {
		if (strcmp(role, role_names[i].name) == 0) {
			out->roles = role_names[i].roles;
			return 0;
		}
	}
	return -EINVAL;
}

/* Blank lines and lines that begin with "#" say nothing. */
static int text_parse(char *text, struct token *tokens, size_t *n,
		      char err[256])
{
	unsigned number = 0;
	char *line;

	*n = 0;
	while ((line = strsep(&text, "\n")) != NULL) {
		size_t len = strlen(line);

		number++;
		if (len > 0 && line[len - 1] == '\r')
			line[len - 1] = '\0';
		if (line[strspn(line, " \t")] == '\0' || line[0] == '#')
			continue;
		if (*n == AUTH_TOKENS) {
			snprintf(err, 256, "token file: more than %d tokens",
				 AUTH_TOKENS);
			return -EINVAL;
		}
		if (line_parse(line, &tokens[*n]) != 0) {
			snprintf(err, 256,
				 "token file, line %u: must be ROLE NAME "
				 "SHA256HEX, ROLE one of read, config, admin, "
				 "peer",
				 number);
			return -EINVAL;
		}
		(*n)++;
	}
	if (*n > 0)
		return 0;
	snprintf(err, 256, "token file: holds no token");
	return -EINVAL;
}

int auth_reload(struct auth *a, char err[256])
{
	struct token *tokens = NULL;
	char *text = NULL;
	size_t n = 0;
	int fd = -1, ret = -ENOMEM;

	if (!a->path)
		return 0;
	fd = file_open(a->path, err);
	if (fd < 0)
		return fd;
	snprintf(err, 256, "%s: cannot be read as text", a->path);
	text = file_read(fd);
	tokens = calloc(AUTH_TOKENS, sizeof(*tokens));
	if (!text || !tokens)
		goto out;
	ret = text_parse(text, tokens, &n, err);
	if (ret)
		goto out;
	free(a->tokens);
	a->tokens = tokens;
	a->n_tokens = n;
	tokens = NULL;
out:
	free(tokens);
	free(text);
	close(fd);
	return ret;
}

int auth_open(struct auth **out, const char *token_file, char err[256])
{
	struct auth *a = calloc(1, sizeof(*a));
	int ret = -ENOMEM;

	snprintf(err, 256, "out of memory");
	if (!a)
		return -ENOMEM;
	limit_init(&a->failures, AUTH_FAILURES_MS);
	if (token_file && token_file[0]) {
		a->path = strdup(token_file);
		if (!a->path)
			goto fail;
		ret = auth_reload(a, err);
		if (ret)
			goto fail;
	}
	*out = a;
	return 0;
fail:
	auth_free(a);
	return ret;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	free(a->tokens);
	free(a->path);
	free(a);
}

bool auth_required(const struct auth *a)
{
	return a->path != NULL;
}

/* The token of "Bearer TOKEN", or NULL. */
static const char *bearer_token(const char *authorization, size_t *len)
{
	static const char scheme[] = "Bearer ";
	const char *token;

	if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	token = authorization + sizeof(scheme) - 1;
	token += strspn(token, " ");
	*len = strlen(token);
	return *len > 0 && *len <= AUTH_TOKEN_TEXT ? token : NULL;
}

/* Roles of the token, 0 if it is none of ours. */
static unsigned token_roles(const struct auth *a, const char *token, size_t len)
{
	uint8_t digest[AUTH_DIGEST_BYTES];
	unsigned roles = 0;

	auth_digest(token, len, digest);
	for (size_t i = 0; i < a->n_tokens; i++) {
		if (equal_const_time(digest, a->tokens[i].digest,
				     sizeof(digest)))
			roles |= a->tokens[i].roles;
	}
	return roles;
}

enum auth_result auth_roles(struct auth *a, const char *authorization,
			    const struct ip_addr *client, unsigned *roles)
{
	const char *token;
	size_t len;

	*roles = 0;
	if (!a->path) {
		*roles = AUTH_ALL_ROLES;
		return AUTH_OK;
	}
	if (!authorization)
		return AUTH_OK;
	token = bearer_token(authorization, &len);
	if (token)
		*roles = token_roles(a, token, len);
	if (*roles)
		return AUTH_OK;
	return limit_count(&a->failures, client) > AUTH_FAILURES ? AUTH_RATE
								 : AUTH_TOKEN;
}

enum auth_result auth_allows(const struct auth *a, unsigned roles,
			     enum role need)
{
	if (!a->path || need == ROLE_NONE || (roles & need))
		return AUTH_OK;
	return roles ? AUTH_FORBIDDEN : AUTH_TOKEN;
}

void auth_proof(const char *token, size_t token_len, const void *msg,
		size_t len, uint8_t out[32])
{
	uint8_t key[AUTH_DIGEST_BYTES];

	auth_digest(token, token_len, key);
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, sizeof(key), msg, len,
			     out) != 0)
		abort();
	explicit_bzero(key, sizeof(key));
}

void auth_new_token(char text[48], char sha256_hex[65])
{
	uint8_t secret[AUTH_TOKEN_BYTES], digest[AUTH_DIGEST_BYTES];

	random_bytes(secret, sizeof(secret));
	base64url_encode(secret, sizeof(secret), text);
	auth_digest(text, strlen(text), digest);
	hex_encode(digest, sizeof(digest), sha256_hex);
	explicit_bzero(secret, sizeof(secret));
}
