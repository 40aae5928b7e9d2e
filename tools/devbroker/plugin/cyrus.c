/*
 * Cyrus SASL behind the plugin. Credentials come from an "auxiliary property" plugin of ours that lives in this
 * process and asks users.c: no sasldb, no saslauthd, no configuration outside mosquitto.conf.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include <sasl/sasl.h>
#include <sasl/saslplug.h>

#include "plugin.h"
#include "users.h"

#define AUXPROP_NAME "users"
#define OPTION_USERS_FILE "users_file"

/* Cyrus' callbacks all pass as int (*)(void); the step between keeps gcc's -Wcast-function-type content. */
#define CALLBACK(function) ((int (*)(void))(void (*)(void))(function))

struct login {
	sasl_conn_t *conn;
	const char *mechanism;
	bool started;
	sasl_callback_t callbacks[2];
};

/* How many listeners are open: the library is one for the whole process. */
static unsigned listeners_open;

/* RFC 2831 2.2, asked for once, when Cyrus starts. */
static const char *reauth_timeout;

/* The auxprop plugin: gives Cyrus what it asks for about a user. */
static int lookup(void *context, sasl_server_params_t *server, unsigned flags, const char *user, unsigned user_len)
{
	const sasl_utils_t *utils = server->utils;
	const struct propval *asked = utils->prop_get(server->propctx);
	const void *mechanism = NULL;
	const char *users_file = NULL, *wanted;
	struct credential credential;
	int result = SASL_OK; /* nothing asked for: nothing missing */

	(void)context;
	if (flags & SASL_AUXPROP_AUTHZID)
		return SASL_OK; /* we know nothing of whom somebody acts for */
	if (utils->getprop(utils->conn, SASL_MECHNAME, &mechanism) != SASL_OK || mechanism == NULL ||
	    utils->getopt(utils->getopt_context, AUXPROP_NAME, OPTION_USERS_FILE, &users_file, NULL) != SASL_OK)
		return SASL_FAIL;

	/* Never the clear password for SCRAM: Cyrus would prefer it, with a salt that changes at each restart. */
	wanted = is_scram(mechanism) ? "*authPassword" : SASL_AUX_PASSWORD;
	for (; asked != NULL && asked->name != NULL; asked++) {
		if (strcmp(asked->name, "*authPassword") != 0 && strcmp(asked->name, SASL_AUX_PASSWORD) != 0)
			continue;
		if (result == SASL_OK)
			result = SASL_NOUSER;
		if (strcmp(asked->name, wanted) == 0 &&
		    users_find(users_file, user, user_len, mechanism, &credential)) {
			result = utils->prop_set(server->propctx, wanted, credential.text, -1);
			users_forget(&credential);
			return result;
		}
	}
	return result;
}

static int auxprop_init(const sasl_utils_t *utils, int max_version, int *version, sasl_auxprop_plug_t **plug,
                        const char *name)
{
	static char own_name[] = AUXPROP_NAME;
	static sasl_auxprop_plug_t own = {.auxprop_lookup = lookup, .name = own_name};

	(void)utils;
	(void)name;
	if (max_version < SASL_AUXPROP_PLUG_VERSION)
		return SASL_BADVERS;
	*version = SASL_AUXPROP_PLUG_VERSION;
	*plug = &own;
	return SASL_OK;
}

/* Cyrus' options, as its .conf files would hold them. `context` is the listener; NULL in sasl_server_init. */
static int on_option(void *context, const char *plugin, const char *option, const char **value, unsigned *length)
{
	const struct listener *listener = context;

	(void)plugin;
	if (strcmp(option, "auxprop_plugin") == 0)
		*value = AUXPROP_NAME;
	else if (listener != NULL && strcmp(option, OPTION_USERS_FILE) == 0)
		*value = listener->users_file;
	else if (reauth_timeout != NULL && strcmp(option, "reauth_timeout") == 0)
		*value = reauth_timeout;
	else
		return SASL_FAIL;
	if (length != NULL)
		*length = (unsigned)strlen(*value);
	return SASL_OK;
}

/* Levels above SASL_LOG_NOTE trace the protocol, secrets included: they must not get into the log. */
static int on_log(void *context, int level, const char *message)
{
	(void)context;
	if (level != SASL_LOG_NONE && level <= SASL_LOG_NOTE)
		log_line(MOSQ_LOG_NOTICE, "sasl: cyrus: %s", message);
	return SASL_OK;
}

/* Keeps Cyrus from loading its sasldb module: mosquitto exports a variable named db_version, libdb a function of
 * that name, and the call lands in the variable. */
static int on_verify_file(void *context, const char *path, sasl_verify_type_t type)
{
	(void)context;
	return type == SASL_VRFY_PLUGIN && strstr(path, "libsasldb") != NULL ? SASL_CONTINUE : SASL_OK;
}

static bool cyrus_open(struct listener *listener)
{
	static const sasl_callback_t callbacks[] = {
		{SASL_CB_GETOPT, CALLBACK(on_option), NULL},
		{SASL_CB_LOG, CALLBACK(on_log), NULL},
		{SASL_CB_VERIFYFILE, CALLBACK(on_verify_file), NULL},
		{SASL_CB_LIST_END, NULL, NULL},
	};
	int rc;

	if (listeners_open == 0) {
		reauth_timeout = listener->reauth_timeout;
		rc = sasl_server_init(callbacks, "umqtt5-devbroker");
		if (rc == SASL_OK)
			rc = sasl_auxprop_add_plugin(AUXPROP_NAME, auxprop_init);
		if (rc != SASL_OK) {
			log_line(MOSQ_LOG_ERR, "sasl: cyrus does not start: %s", sasl_errstring(rc, NULL, NULL));
			return false;
		}
	}
	listeners_open++;
	return true;
}

static void cyrus_close(struct listener *listener)
{
	if (reauth_timeout == listener->reauth_timeout)
		reauth_timeout = NULL; /* it goes with its listener */
	if (--listeners_open == 0)
		sasl_server_done();
}

static void cyrus_end(void *context)
{
	struct login *login = context;

	sasl_dispose(&login->conn);
	free(login);
}

static void *cyrus_begin(struct listener *listener, const char *mechanism)
{
	/* No security layer (MQTT has no place for one), nothing that shows a password or names nobody. */
	static const sasl_security_properties_t properties = {
		.security_flags = SASL_SEC_NOPLAINTEXT | SASL_SEC_NOANONYMOUS,
	};
	struct login *login = calloc(1, sizeof *login);
	int rc;

	if (login == NULL)
		return NULL;
	login->mechanism = mechanism;
	login->callbacks[0] = (sasl_callback_t){SASL_CB_GETOPT, CALLBACK(on_option), listener};
	login->callbacks[1] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
	/* SUCCESS_DATA: the last token rides in CONNACK; without it Cyrus wants one more round. */
	rc = sasl_server_new("mqtt", listener->hostname, NULL, NULL, NULL, login->callbacks, SASL_SUCCESS_DATA,
	                     &login->conn);
	if (rc == SASL_OK)
		rc = sasl_setprop(login->conn, SASL_SEC_PROPS, &properties);
	if (rc != SASL_OK) {
		log_line(MOSQ_LOG_ERR, "sasl: cyrus: %s", sasl_errstring(rc, NULL, NULL));
		cyrus_end(login);
		return NULL;
	}
	return login;
}

static enum verdict cyrus_step(void *context, const char *in, size_t in_len, const char **out, size_t *out_len)
{
	struct login *login = context;
	unsigned length = 0;
	int rc;

	*out = NULL;
	if (login->started)
		rc = sasl_server_step(login->conn, in != NULL ? in : "", (unsigned)in_len, out, &length);
	else
		rc = sasl_server_start(login->conn, login->mechanism, in, (unsigned)in_len, out, &length);
	login->started = true;
	*out_len = *out != NULL ? length : 0;
	switch (rc) {
	case SASL_OK:
		return STEP_DONE;
	case SASL_CONTINUE:
		return STEP_MORE;
	case SASL_NOMECH:
		return STEP_NO_MECHANISM;
	default:
		log_line(MOSQ_LOG_NOTICE, "sasl: %s refused: %d, %s", login->mechanism, rc, sasl_errdetail(login->conn));
		return STEP_REFUSED;
	}
}

static const char *cyrus_user(void *context)
{
	struct login *login = context;
	const void *user = NULL;

	return sasl_getprop(login->conn, SASL_USERNAME, &user) == SASL_OK ? user : NULL;
}

const struct backend cyrus_backend = {
	.name = "cyrus",
	.open = cyrus_open,
	.close = cyrus_close,
	.begin = cyrus_begin,
	.step = cyrus_step,
	.user = cyrus_user,
	.end = cyrus_end,
};
