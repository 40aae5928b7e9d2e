/*
 * GNU SASL behind the plugin: the second opinion, so that no habit of Cyrus SASL is mistaken for the standard. The
 * same users file answers its callback. GNU SASL 2.2.0 has no SCRAM-SHA-512.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include <gsasl.h>

#include "plugin.h"
#include "users.h"

struct login {
	struct listener *listener;
	const char *mechanism;
	Gsasl_session *session;  /* NULL until the first step */
	char *out;
};

/* What a SASL session asks for. The three SCRAM texts are base64 (gsasl.h says hex; it takes base64). */
static int on_property(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
	struct login *login = gsasl_session_hook_get(session);
	const char *user = gsasl_property_fast(session, GSASL_AUTHID);
	struct credential credential;
	const char *value = NULL;

	(void)library;
	if (property == GSASL_REALM) {
		gsasl_property_set(session, GSASL_REALM, login->listener->hostname);
		return GSASL_OK;
	}
	if (user == NULL)
		return GSASL_NO_CALLBACK;
	if (!users_find(login->listener->users_file, user, strlen(user), login->mechanism, &credential))
		return GSASL_NO_CALLBACK;

	switch (property) {
	case GSASL_SCRAM_ITER:
		value = credential.iterations;
		break;
	case GSASL_SCRAM_SALT:
		value = credential.salt;
		break;
	case GSASL_SCRAM_STOREDKEY:
		value = credential.stored_key;
		break;
	case GSASL_SCRAM_SERVERKEY:
		value = credential.server_key;
		break;
	case GSASL_PASSWORD:
		/* `text` of a SCRAM line is no password. */
		value = is_scram(login->mechanism) ? NULL : credential.text;
		break;
	default:
		break;
	}
	if (value != NULL)
		gsasl_property_set(session, property, value);
	users_forget(&credential);
	return value != NULL ? GSASL_OK : GSASL_NO_CALLBACK;
}

static bool gnu_open(struct listener *listener)
{
	Gsasl *library;
	int rc = gsasl_init(&library);

	if (rc != GSASL_OK) {
		log_line(MOSQ_LOG_ERR, "sasl: gsasl does not start: %s", gsasl_strerror(rc));
		return false;
	}
	gsasl_callback_set(library, on_property);
	listener->backend_state = library;
	return true;
}

static void gnu_close(struct listener *listener)
{
	gsasl_done(listener->backend_state);
}

static void *gnu_begin(struct listener *listener, const char *mechanism)
{
	struct login *login = calloc(1, sizeof *login);

	if (login != NULL) {
		login->listener = listener;
		login->mechanism = mechanism;
	}
	return login;
}

static enum verdict gnu_step(void *context, const char *in, size_t in_len, const char **out, size_t *out_len)
{
	struct login *login = context;
	int rc = GSASL_OK;

	*out = NULL;
	*out_len = 0;
	if (login->session == NULL) {
		rc = gsasl_server_start(login->listener->backend_state, login->mechanism, &login->session);
		if (rc == GSASL_UNKNOWN_MECHANISM)
			return STEP_NO_MECHANISM;
		if (rc == GSASL_OK)
			gsasl_session_hook_set(login->session, login);
	}
	if (rc == GSASL_OK) {
		gsasl_free(login->out);
		login->out = NULL;
		rc = gsasl_step(login->session, in, in_len, &login->out, out_len);
	}
	if (rc == GSASL_OK || rc == GSASL_NEEDS_MORE) {
		*out = login->out;
		return rc == GSASL_OK ? STEP_DONE : STEP_MORE;
	}
	log_line(MOSQ_LOG_NOTICE, "sasl: %s refused: %d, %s", login->mechanism, rc, gsasl_strerror(rc));
	*out_len = 0;
	return STEP_REFUSED;
}

/* GNU SASL leaves it to us who may act for whom: nobody for anybody else. */
static const char *gnu_user(void *context)
{
	struct login *login = context;
	const char *user = gsasl_property_fast(login->session, GSASL_AUTHID);
	const char *acts_for = gsasl_property_fast(login->session, GSASL_AUTHZID);

	if (user != NULL && acts_for != NULL && acts_for[0] != '\0' && strcmp(user, acts_for) != 0) {
		log_line(MOSQ_LOG_NOTICE, "sasl: %s may not act for %s", user, acts_for);
		return NULL;
	}
	return user;
}

static void gnu_end(void *context)
{
	struct login *login = context;

	if (login->session != NULL)
		gsasl_finish(login->session);
	gsasl_free(login->out);
	free(login);
}

const struct backend gnu_backend = {
	.name = "gsasl",
	.open = gnu_open,
	.close = gnu_close,
	.begin = gnu_begin,
	.step = gnu_step,
	.user = gnu_user,
	.end = gnu_end,
};
