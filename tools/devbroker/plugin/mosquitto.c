/*
 * The dev broker's mosquitto plugin: MQTT 5.0 enhanced authentication (AUTH packets) answered by a real SASL
 * library. For tests and development: it has no rate limit and no lockout.
 *
 * mosquitto.conf, with per_listener_settings true, after each `listener`:
 *
 *     allow_anonymous false             # so that nobody gets in without a mechanism
 *     plugin .../mosquitto_sasl.so
 *     plugin_opt_backend cyrus          # or gsasl
 *     plugin_opt_users .../users.txt    # see users.c
 *     plugin_opt_mechs SCRAM-SHA-256    # optional; this is the default: SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512
 *     plugin_opt_hostname localhost     # optional
 *     plugin_opt_reauth_timeout 60      # optional, Cyrus, minutes; the first listener's holds for all
 *
 * A client that is refused learns 0x87 (or 0x8C: no such mechanism) and nothing else; the reason is in the log.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Only what these headers declare leaves this library: mosquitto loads plugins into its own name space. */
#include <mosquitto_broker.h>
#pragma GCC visibility push(default)
#include <mosquitto_plugin.h>
#pragma GCC visibility pop

#include "plugin.h"

/* All that plugin_opt_mechs can allow. PLAIN, LOGIN and ANONYMOUS prove nothing about the broker: never here. Nor does
 * TOKEN (token.c), which is there to try what a client makes of such a mechanism. */
static const char *const mechanism_names[] = {"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5",
                                              "GSSAPI",      "GS2-KRB5",      "TOKEN",         NULL};
#define DEFAULT_MECHANISMS "SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512"

/* A login that has begun and not ended: first or repeated (AUTH 0x19). */
struct exchange {
	struct exchange *next;
	const struct mosquitto *client;
	const struct backend *backend; /* the listener's; for TOKEN its own */
	void *login; /* the backend's */
};

void log_line(int level, const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	for (char *c = line; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	mosquitto_log_printf(level, "%s", line);
}

/* The number of a mechanism, -1 if there is none. Names are compared exactly, case too. */
static int mechanism_number(const char *name)
{
	for (int i = 0; mechanism_names[i] != NULL; i++)
		if (strcmp(name, mechanism_names[i]) == 0)
			return i;
	return -1;
}

/* Takes the client's exchange off the list; NULL if it has none. */
static struct exchange *take_exchange(struct listener *listener, const struct mosquitto *client)
{
	for (struct exchange **link = &listener->exchanges; *link != NULL; link = &(*link)->next) {
		struct exchange *found = *link;
		if (found->client == client) {
			*link = found->next;
			return found;
		}
	}
	return NULL;
}

static void end_exchange(struct exchange *exchange)
{
	if (exchange != NULL) {
		exchange->backend->end(exchange->login);
		free(exchange);
	}
}

/* One token in, the answer into the event. Takes the exchange (off the list) and keeps or ends it. */
static int run_step(struct listener *listener, struct exchange *exchange, struct mosquitto_evt_extended_auth *event)
{
	const char *out = NULL;
	size_t out_len = 0;
	enum verdict verdict = STEP_REFUSED;
	char *in = NULL;
	int result = MOSQ_ERR_AUTH;

	/* The broker's bytes end where they end; both libraries have code that likes a NUL after them. */
	if (event->data_in != NULL && event->data_in_len > 0) {
		in = calloc(1, (size_t)event->data_in_len + 1);
		if (in == NULL)
			goto end;
		memcpy(in, event->data_in, event->data_in_len);
	}
	verdict = exchange->backend->step(exchange->login, in, in != NULL ? event->data_in_len : 0, &out, &out_len);
	if (verdict == STEP_NO_MECHANISM)
		result = MOSQ_ERR_NOT_SUPPORTED;
	if (verdict != STEP_DONE && verdict != STEP_MORE)
		goto end;

	if (out_len > UINT16_MAX)
		goto end;
	if (verdict == STEP_DONE) {
		const char *user = exchange->backend->user(exchange->login);
		/* From here on rules (acl_file: %u) see whom SASL named, whatever CONNECT said. */
		if (user == NULL || mosquitto_set_username(event->client, user) != MOSQ_ERR_SUCCESS)
			goto end;
		log_line(MOSQ_LOG_INFO, "sasl: %s logged in (%s)", user, exchange->backend->name);
	}
	if (out_len > 0) {
		event->data_out = malloc(out_len); /* malloc's own: mosquitto calls free() */
		if (event->data_out == NULL)
			goto end;
		memcpy(event->data_out, out, out_len);
		event->data_out_len = (uint16_t)out_len;
	}
	result = verdict == STEP_DONE ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH_CONTINUE;

end:
	free(in);
	if (result == MOSQ_ERR_AUTH_CONTINUE) {
		exchange->next = listener->exchanges;
		listener->exchanges = exchange;
	} else {
		end_exchange(exchange);
	}
	return result;
}

/* CONNECT with an Authentication Method, or AUTH 0x19. */
static int on_auth_start(int event_number, void *data, void *context)
{
	struct listener *listener = context;
	struct mosquitto_evt_extended_auth *event = data;
	int number = event->auth_method != NULL ? mechanism_number(event->auth_method) : -1;
	struct exchange *exchange;

	(void)event_number;
	/* Not only order: a new client may have got the address of one that is gone. */
	end_exchange(take_exchange(listener, event->client));

	if (number < 0 || (listener->mechanisms & 1u << number) == 0)
		return MOSQ_ERR_NOT_SUPPORTED;
	exchange = calloc(1, sizeof *exchange);
	if (exchange == NULL)
		return MOSQ_ERR_AUTH;
	exchange->client = event->client;
	exchange->backend = strcmp(mechanism_names[number], "TOKEN") == 0 ? &token_backend : listener->backend;
	exchange->login = exchange->backend->begin(listener, mechanism_names[number]);
	if (exchange->login == NULL) {
		free(exchange);
		return MOSQ_ERR_AUTH;
	}
	return run_step(listener, exchange, event);
}

/* AUTH 0x18. The event's auth_method is NULL here: mosquitto has compared it with CONNECT's. */
static int on_auth_continue(int event_number, void *data, void *context)
{
	struct listener *listener = context;
	struct mosquitto_evt_extended_auth *event = data;
	struct exchange *exchange = take_exchange(listener, event->client);

	(void)event_number;
	/* mosquitto 2.0.11 takes an AUTH of length 0 (F0 00) for a Continue without looking whether a login is going
	 * on. Were it refused, mosquitto would free the client's id while its table of clients still refers to it,
	 * and crash at a later login. So: no refusal, and nothing gained either. */
	if (exchange == NULL)
		return MOSQ_ERR_AUTH_CONTINUE;
	return run_step(listener, exchange, event);
}

static int on_disconnect(int event_number, void *data, void *context)
{
	struct mosquitto_evt_disconnect *event = data;
	struct exchange *exchange = take_exchange(context, event->client);

	(void)event_number;
	if (exchange != NULL)
		log_line(MOSQ_LOG_NOTICE, "sasl: a client left in the middle of its login");
	end_exchange(exchange);
	return MOSQ_ERR_SUCCESS;
}

static const struct {
	int number;
	MOSQ_FUNC_generic_callback function;
} events[] = {
	{MOSQ_EVT_EXT_AUTH_START, on_auth_start},
	{MOSQ_EVT_EXT_AUTH_CONTINUE, on_auth_continue},
	{MOSQ_EVT_DISCONNECT, on_disconnect},
};
#define EVENT_COUNT (sizeof events / sizeof events[0])

/* "A B,C" -> bits; 0 if one is unknown, or there is none. */
static unsigned parse_mechanisms(const char *text)
{
	char *copy = strdup(text), *cursor = copy, *name;
	unsigned bits = 0;

	while ((name = strsep(&cursor, " ,")) != NULL) {
		if (*name == '\0')
			continue;
		int number = mechanism_number(name);
		if (number < 0) {
			log_line(MOSQ_LOG_ERR, "sasl: plugin_opt_mechs: %s is unknown, or not safe to offer", name);
			bits = 0;
			break;
		}
		bits |= 1u << number;
	}
	free(copy);
	return bits;
}

static bool parse_options(struct listener *listener, const struct mosquitto_opt *options, int count)
{
	const char *backend = "cyrus", *mechanisms = DEFAULT_MECHANISMS, *users = NULL, *hostname = "localhost";
	const char *timeout = NULL;

	for (int i = 0; i < count; i++) {
		const char *key = options[i].key, *value = options[i].value;
		if (strcmp(key, "backend") == 0)
			backend = value;
		else if (strcmp(key, "mechs") == 0)
			mechanisms = value;
		else if (strcmp(key, "users") == 0)
			users = value;
		else if (strcmp(key, "hostname") == 0)
			hostname = value;
		else if (strcmp(key, "reauth_timeout") == 0)
			timeout = value;
		else {
			log_line(MOSQ_LOG_ERR, "sasl: plugin_opt_%s: no such option", key);
			return false;
		}
	}
	if (strcmp(backend, cyrus_backend.name) == 0)
		listener->backend = &cyrus_backend;
	else if (strcmp(backend, gnu_backend.name) == 0)
		listener->backend = &gnu_backend;
	if (listener->backend == NULL || users == NULL) {
		log_line(MOSQ_LOG_ERR, "sasl: plugin_opt_backend must be cyrus or gsasl, and plugin_opt_users be given");
		return false;
	}
	listener->mechanisms = parse_mechanisms(mechanisms);
	listener->users_file = strdup(users);
	listener->hostname = strdup(hostname);
	if (timeout != NULL && (listener->reauth_timeout = strdup(timeout)) == NULL)
		return false;
	return listener->mechanisms != 0 && listener->users_file != NULL && listener->hostname != NULL;
}

static void free_listener(struct listener *listener)
{
	free((char *)listener->users_file);
	free((char *)listener->hostname);
	free((char *)listener->reauth_timeout);
	free(listener);
}

int mosquitto_plugin_version(int count, const int *supported)
{
	for (int i = 0; i < count; i++)
		if (supported[i] == MOSQ_PLUGIN_VERSION)
			return MOSQ_PLUGIN_VERSION;
	return -1;
}

/* Called once a listener; what *context is set to comes back in each event. */
int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **context, struct mosquitto_opt *options, int count)
{
	struct listener *listener = calloc(1, sizeof *listener);

	if (listener == NULL)
		return MOSQ_ERR_NOMEM;
	listener->broker_id = id;
	if (!parse_options(listener, options, count) || !listener->backend->open(listener)) {
		free_listener(listener);
		return MOSQ_ERR_INVAL;
	}
	for (size_t i = 0; i < EVENT_COUNT; i++) {
		int rc = mosquitto_callback_register(id, events[i].number, events[i].function, NULL, listener);
		if (rc != MOSQ_ERR_SUCCESS) {
			mosquitto_plugin_cleanup(listener, options, count);
			return rc;
		}
	}
	*context = listener;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *context, struct mosquitto_opt *options, int count)
{
	struct listener *listener = context;

	(void)options;
	(void)count;
	if (listener == NULL)
		return MOSQ_ERR_SUCCESS;
	for (size_t i = 0; i < EVENT_COUNT; i++)
		mosquitto_callback_unregister(listener->broker_id, events[i].number, events[i].function, NULL);
	while (listener->exchanges != NULL) {
		struct exchange *exchange = listener->exchanges;
		listener->exchanges = exchange->next;
		end_exchange(exchange);
	}
	listener->backend->close(listener);
	free_listener(listener);
	return MOSQ_ERR_SUCCESS;
}
