/*
 * Reads the users file, the one place where credentials are kept. It is read anew at each login, so that a change
 * holds at once and a restart changes nothing: salts stay what they are, and with them the keys of the boards.
 * Must never log a line's content.
 *
 * A line a user and mechanism (Cyrus' authPassword format), and one with the clear password where a mechanism
 * cannot do without (DIGEST-MD5):
 *
 *     user:SCRAM-SHA-256$4096:<base64 salt>$<base64 StoredKey>:<base64 ServerKey>
 *     user:password
 *     user:TOKEN$<the token, in clear>
 *
 * The first line that fits counts. A malformed one is as good as none: that user cannot log in, all others can.
 */
#define _GNU_SOURCE
#include "users.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin.h"

#define FILE_MAX (1 << 20)
#define TOKEN "TOKEN$"

static const struct {
	const char *name;
	size_t key_size;
} hashes[] = {{"SCRAM-SHA-1", 20}, {"SCRAM-SHA-256", 32}, {"SCRAM-SHA-512", 64}};

bool is_scram(const char *mechanism)
{
	return strncmp(mechanism, "SCRAM-", 6) == 0;
}

void users_forget(struct credential *credential)
{
	explicit_bzero(credential, sizeof *credential);
}

/* How many bytes a base64 text stands for; 0 if it is not strict base64, or stands for nothing. */
static size_t base64_size(const char *text)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t length = strlen(text);
	size_t digits = strspn(text, alphabet);
	size_t padding = length - digits;

	if (length % 4 != 0 || padding > 2 || strspn(text + digits, "=") != padding)
		return 0;
	return length / 4 * 3 - padding;
}

/* RFC 5802 sets no limit; nine digits are more than any library takes its time for. */
static bool is_count(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return text[digits] == '\0' && digits >= 1 && digits <= 9 && text[0] != '0';
}

/* Cuts the rest of a SCRAM line into its parts. False: malformed. */
static bool parse_scram(const char *mechanism, struct credential *c)
{
	char *cursor = c->fields;
	size_t key_size = 0;

	for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++)
		if (strcmp(mechanism, hashes[i].name) == 0)
			key_size = hashes[i].key_size;

	memcpy(c->fields, c->text, sizeof c->fields);
	strsep(&cursor, "$"); /* the mechanism's name: already compared */
	c->iterations = strsep(&cursor, ":");
	c->salt = strsep(&cursor, "$");
	c->stored_key = strsep(&cursor, ":");
	c->server_key = cursor;
	return key_size != 0 && c->server_key != NULL && is_count(c->iterations) && base64_size(c->salt) > 0 &&
	       base64_size(c->stored_key) == key_size && base64_size(c->server_key) == key_size;
}

static bool starts_with(const char *value, size_t length, const char *start)
{
	return length >= strlen(start) && memcmp(value, start, strlen(start)) == 0;
}

/* Is this line's value (not NUL-terminated) the one for this mechanism? */
static bool is_for(const char *mechanism, const char *value, size_t length)
{
	size_t name = strlen(mechanism);

	if (is_scram(mechanism))
		return length > name && memcmp(value, mechanism, name) == 0 && value[name] == '$';
	return !starts_with(value, length, "SCRAM-") && !starts_with(value, length, TOKEN);
}

/* The whole file, to be freed; NULL and a line in the log if there is none. */
static char *read_file(const char *path, size_t *length)
{
	FILE *file = fopen(path, "re");
	struct stat info;
	char *text = NULL;

	if (file == NULL) {
		log_line(MOSQ_LOG_ERR, "sasl: users file: %s", strerror(errno));
		return NULL;
	}
	if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_MAX)
		log_line(MOSQ_LOG_ERR, "sasl: users file: not a file of at most %d bytes", FILE_MAX);
	else if ((text = malloc((size_t)info.st_size + 1)) != NULL)
		*length = fread(text, 1, (size_t)info.st_size, file);
	fclose(file);
	return text;
}

bool users_find(const char *path, const char *user, size_t user_len, const char *mechanism, struct credential *out)
{
	size_t size = 0;
	int number = 0;
	bool found = false;
	char *text = read_file(path, &size);

	memset(out, 0, sizeof *out);
	if (text == NULL)
		return false;
	for (char *line = text, *next; line < text + size; line = next) {
		char *end = memchr(line, '\n', (size_t)(text + size - line));
		if (end == NULL)
			end = text + size;
		next = end + 1;
		number++;

		char *value = line + user_len + 1;
		if ((size_t)(end - line) <= user_len || line[user_len] != ':' || memcmp(line, user, user_len) != 0)
			continue;
		size_t length = (size_t)(end - value);
		if (!is_for(mechanism, value, length))
			continue;

		if (length > 0 && length < sizeof out->text && memchr(value, '\0', length) == NULL) {
			memcpy(out->text, value, length);
			found = !is_scram(mechanism) || parse_scram(mechanism, out);
		}
		if (!found) {
			log_line(MOSQ_LOG_WARNING, "sasl: users file, line %d: malformed, so this user is refused", number);
			users_forget(out);
		}
		break;
	}
	explicit_bzero(text, size);
	free(text);
	return found;
}

bool users_find_token(const char *path, const char *token, size_t length, char user[USER_MAX])
{
	size_t size = 0;
	bool found = false;
	char *text = read_file(path, &size);

	if (text == NULL)
		return false;
	for (char *line = text, *next; !found && line < text + size; line = next) {
		char *end = memchr(line, '\n', (size_t)(text + size - line));
		if (end == NULL)
			end = text + size;
		next = end + 1;

		char *colon = memchr(line, ':', (size_t)(end - line));
		if (colon == NULL || colon - line >= USER_MAX || colon == line)
			continue;
		char *value = colon + 1;
		if (!starts_with(value, (size_t)(end - value), TOKEN))
			continue;
		value += strlen(TOKEN);
		/* The time it takes depends on the token: this is a broker for tests. */
		found = length > 0 && (size_t)(end - value) == length && memcmp(value, token, length) == 0;
		if (found) {
			memcpy(user, line, (size_t)(colon - line));
			user[colon - line] = '\0';
		}
	}
	explicit_bzero(text, size);
	free(text);
	return found;
}
