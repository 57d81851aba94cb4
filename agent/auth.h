/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may do what: roles, tokens, the token file. */
#ifndef LINNET_AUTH_H
#define LINNET_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

/* Bits: admin includes config includes read; peer stands alone. */
enum role {
	ROLE_NONE = 0, /* needs no identity */
	ROLE_READ = 1,
	ROLE_CONFIG = 2,
	ROLE_ADMIN = 4,
	ROLE_PEER = 8,
	ROLE_IN_HANDLER = 16, /* routes only: the handler asks auth_allows() */
};

struct auth;
/*
 * token_file NULL or "": every caller has every role.  The file must be
 * regular, mode 0600, own uid, no symlink, lines "ROLE NAME SHA256HEX"; the
 * error text says what is wrong.  0 or -EINVAL / -errno.
 */
int auth_open(struct auth **out, const char *token_file, char err[256]);
int auth_reload(struct auth *a, char err[256]); /* keeps the old on failure */
void auth_free(struct auth *a);

enum auth_result {
	AUTH_OK,
	AUTH_TOKEN,
	AUTH_FORBIDDEN,
	AUTH_RATE
};
/*
 * Roles of a request by its Authorization header (NULL: none); more than ten
 * failures a minute from one address: AUTH_RATE.
 */
enum auth_result auth_roles(struct auth *a, const char *authorization,
			    const struct ip_addr *client, unsigned *roles);
/* AUTH_OK if roles satisfy need, else AUTH_TOKEN (none given) or FORBIDDEN. */
enum auth_result auth_allows(const struct auth *a, unsigned roles,
			     enum role need);
bool auth_required(const struct auth *a); /* a token file is set */

/* HMAC-SHA-256 of msg under SHA-256 of the token: knows it, does not say it. */
void auth_proof(const char *token, size_t token_len, const void *msg,
		size_t len, uint8_t out[32]);

/* New token: text (44 bytes) and its SHA-256 in hex; needs no file. */
void auth_new_token(char text[48], char sha256_hex[65]);

#endif
