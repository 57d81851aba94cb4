/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one file of the command that knows json-c.  A struct doc is one of its
 * objects; absent members and JSON null are both NULL, as in the library.
 */
#include "api/cli/doc.h"

#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "common/util.h"

#define DEPTH_MAX 16

static json_object *in(struct doc *d)
{
	return (json_object *)d;
}

static struct doc *out(json_object *o)
{
	return (struct doc *)o;
}

struct doc *doc_parse(const char *text, size_t len)
{
	json_tokener *tok = json_tokener_new_ex(DEPTH_MAX);
	json_object *o;

	if (!tok)
		return NULL;
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	o = json_tokener_parse_ex(tok, text, (int)MIN(len, INT32_MAX));
	if (json_tokener_get_error(tok) != json_tokener_success ||
	    json_tokener_get_parse_end(tok) != len) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(tok);
	return out(o);
}

void doc_free(struct doc *d)
{
	json_object_put(in(d));
}

struct doc *doc_get(struct doc *d, const char *path)
{
	json_object *o = in(d);
	char name[64];

	while (o && *path) {
		size_t len = strcspn(path, ".");

		if (len >= sizeof(name) ||
		    !json_object_is_type(o, json_type_object))
			return NULL;
		memcpy(name, path, len);
		name[len] = '\0';
		o = json_object_object_get(o, name);
		path += len + (path[len] == '.');
	}
	return out(o);
}

struct doc *doc_at(struct doc *d, size_t i)
{
	return i < doc_len(d) ? out(json_object_array_get_idx(in(d), i)) : NULL;
}

size_t doc_len(struct doc *d)
{
	return json_object_is_type(in(d), json_type_array)
		       ? json_object_array_length(in(d))
		       : 0;
}

const char *doc_text(struct doc *d, char text[DOC_TEXT_LEN])
{
	char one[DOC_TEXT_LEN];
	size_t used = 0;

	snprintf(text, DOC_TEXT_LEN, "-");
	switch (json_object_get_type(in(d))) {
	case json_type_null:
		break;
	case json_type_boolean:
		snprintf(text, DOC_TEXT_LEN, "%s",
			 json_object_get_boolean(in(d)) ? "yes" : "no");
		break;
	case json_type_string:
		snprintf(text, DOC_TEXT_LEN, "%s",
			 json_object_get_string(in(d)));
		break;
	case json_type_array:
		for (size_t i = 0; i < doc_len(d) && used < DOC_TEXT_LEN; i++)
			used += (size_t)snprintf(text + used,
						 DOC_TEXT_LEN - used, "%s%s",
						 i ? "," : "",
						 doc_text(doc_at(d, i), one));
		break;
	default:
		/* numbers stay as the agent wrote them */
		snprintf(text, DOC_TEXT_LEN, "%s",
			 json_object_to_json_string_ext(
				 in(d), JSON_C_TO_STRING_PLAIN));
	}
	return text;
}

bool doc_is(struct doc *d, const char *text)
{
	return json_object_is_type(in(d), json_type_string) &&
	       strcmp(json_object_get_string(in(d)), text) == 0;
}

bool doc_true(struct doc *d)
{
	return json_object_is_type(in(d), json_type_boolean) &&
	       json_object_get_boolean(in(d));
}

double doc_real(struct doc *d)
{
	return json_object_is_type(in(d), json_type_double) ||
			       json_object_is_type(in(d), json_type_int)
		       ? json_object_get_double(in(d))
		       : 0;
}

uint64_t doc_count(struct doc *d)
{
	return json_object_is_type(in(d), json_type_int)
		       ? json_object_get_uint64(in(d))
		       : 0;
}

struct doc *doc_new(void)
{
	return out(json_object_new_object());
}

static void member_add(struct doc *d, const char *name, json_object *value)
{
	if (!json_object_is_type(in(d), json_type_object) ||
	    json_object_object_add(in(d), name, value))
		json_object_put(value);
}

void doc_put_str(struct doc *d, const char *name, const char *value)
{
	if (value)
		member_add(d, name, json_object_new_string(value));
}

void doc_put_u64(struct doc *d, const char *name, uint64_t value)
{
	member_add(d, name, json_object_new_uint64(value));
}

void doc_put_real(struct doc *d, const char *name, double value)
{
	member_add(d, name, json_object_new_double(value));
}

void doc_put(struct doc *d, const char *name, struct doc *value)
{
	if (value)
		member_add(d, name, in(value));
}

struct doc *doc_share(struct doc *d)
{
	return out(json_object_get(in(d)));
}

struct doc *doc_list_new(void)
{
	return out(json_object_new_array());
}

void doc_list_join(struct doc *list, struct doc *more)
{
	for (size_t i = 0; i < doc_len(more); i++)
		json_object_array_add(in(list),
				      json_object_get(in(doc_at(more, i))));
}

const char *doc_print(struct doc *d)
{
	return json_object_to_json_string_ext(
		in(d), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}
