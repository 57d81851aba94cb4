/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linnet token new: a token for a client, and the line with its digest for the
 * token file of agents.  The one file of the command that knows GnuTLS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>

#include "api/cli/cli.h"
#include "common/base64.h"
#include "common/util.h"

#define SECRET_BYTES 32
#define DIGEST_BYTES 32
#define NAME_CHARS                                             \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
	"0123456789._:-"

static bool role_known(const char *role)
{
	static const char *const roles[] = { "read", "config", "admin",
					     "peer" };

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (strcmp(role, roles[i]) == 0)
			return true;
	return false;
}

int verb_token_new(struct cli *c)
{
	char text[BASE64_LEN(SECRET_BYTES) + 1], hex[2 * DIGEST_BYTES + 1];
	const char *role = c->args[0], *name = c->args[1];
	uint8_t secret[SECRET_BYTES], digest[DIGEST_BYTES];
	size_t len = strlen(name);

	if (!role_known(role)) {
		complain("token new: ROLE is read, config, admin or peer");
		return CLI_USAGE;
	}
	if (len < 1 || len > 64 || strspn(name, NAME_CHARS) != len) {
		complain("token new: NAME is [A-Za-z0-9._:-]{1,64}");
		return CLI_USAGE;
	}
	random_bytes(secret, sizeof(secret));
	base64url_encode(secret, sizeof(secret), text);
	explicit_bzero(secret, sizeof(secret));
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), digest)) {
		complain("there is no SHA-256 here");
		return CLI_FAILED;
	}
	hex_encode(digest, sizeof(digest), hex);
	printf(c->json ? "{\"token\": \"%s\", \"line\": \"%s %s %s\"}\n"
		       : "token: %s\nline:  %s %s %s\n",
	       text, role, name, hex);
	return CLI_DONE;
}
