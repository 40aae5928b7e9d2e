/* The users file: what it looks like is told in users.c. */
#ifndef UMQTT5_DEVBROKER_USERS_H
#define UMQTT5_DEVBROKER_USERS_H

#include <stdbool.h>
#include <stddef.h>

#define CREDENTIAL_MAX 1024
#define USER_MAX 256

/* One line of the file. Holds secrets: users_forget() it. */
struct credential {
	char text[CREDENTIAL_MAX];     /* all that follows "user:", as it stands in the file */
	char fields[CREDENTIAL_MAX];   /* a copy, cut into the four below; unused for a clear password */
	const char *iterations, *salt, *stored_key, *server_key;   /* decimal; base64 */
};

/*
 * Finds what `user` (user_len bytes, any bytes) has for `mechanism`: for SCRAM-* its stored keys, well-formed as
 * this mechanism needs them; for all others the clear password. False: there is nothing usable, and `out` is
 * wiped; where that is the file's fault the log says so.
 */
bool users_find(const char *path, const char *user, size_t user_len, const char *mechanism, struct credential *out);

/* Finds whose token this is (length bytes, any bytes): *user becomes a C string. False: nobody's. */
bool users_find_token(const char *path, const char *token, size_t length, char user[USER_MAX]);

/* Wipes the secrets. */
void users_forget(struct credential *credential);

bool is_scram(const char *mechanism);

#endif
