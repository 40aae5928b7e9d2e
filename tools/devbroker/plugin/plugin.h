/*
 * What the parts of the dev broker's plugin share: the settings of a listener, and the interface that both
 * SASL libraries are put behind. The parts: mosquitto.c (the broker's events), cyrus.c and gnu.c (one SASL
 * library each), users.c (the file with stored credentials).
 *
 * Everything runs in mosquitto's one thread: no locks anywhere.
 */
#ifndef UMQTT5_DEVBROKER_PLUGIN_H
#define UMQTT5_DEVBROKER_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>

#include <mosquitto.h> /* MOSQ_LOG_* */

struct exchange;

/* One `plugin` line of mosquitto.conf with its plugin_opt_ lines. */
struct listener {
	const struct backend *backend;
	void *backend_state;         /* owned by the backend, between its open() and close() */
	const char *users_file;      /* path; read again at every login. Owned here, as is hostname */
	const char *hostname;        /* part of Kerberos principals and of DIGEST-MD5's digest-uri */
	const char *reauth_timeout;  /* minutes, as text: Cyrus' DIGEST-MD5 takes up earlier logins. NULL: it does not */
	unsigned mechanisms;         /* bit i: mechanism i of mechanism_names (mosquitto.c) may be used */
	struct exchange *exchanges;  /* logins that are going on */
	void *broker_id;             /* mosquitto_plugin_id_t */
};

/* What a step of an exchange came to. */
enum verdict {
	STEP_DONE,            /* logged in; there may be data for the client */
	STEP_MORE,            /* send the data, and wait for the client's answer */
	STEP_REFUSED,         /* the reason is in the log, and never told to the client */
	STEP_NO_MECHANISM,    /* this library does not have it */
};

/* A SASL library. */
struct backend {
	const char *name;

	/* Once a listener, before anything else. False: could not start, the reason is in the log. */
	bool (*open)(struct listener *listener);
	void (*close)(struct listener *listener);

	/* A new login, NULL if out of memory. `mechanism` outlives it; so does `listener`. */
	void *(*begin)(struct listener *listener, const char *mechanism);

	/* The client's next token in (NULL: there was none; else NUL-terminated at in[in_len]), the server's out.
	 * *out belongs to the login, until its next step() or end(). */
	enum verdict (*step)(void *login, const char *in, size_t in_len, const char **out, size_t *out_len);

	/* After STEP_DONE: who it is. NULL: nobody that may be let in. Belongs to the login. */
	const char *(*user)(void *login);

	void (*end)(void *login);
};

extern const struct backend cyrus_backend, gnu_backend, token_backend;

/* Writes one line to the broker's log; control characters (a client can send them) become '?'. */
void log_line(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
