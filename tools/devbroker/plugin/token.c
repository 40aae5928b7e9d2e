/*
 * The mechanism TOKEN: one message, looked up in the users file. It stands for JWT and the like, so that the client's
 * side of them can be tried. Unlike all others it proves nothing about the broker: offered only where it is asked for.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "plugin.h"
#include "users.h"

struct login {
	struct listener *listener;
	char user[USER_MAX];
};

static bool token_open(struct listener *listener)
{
	(void)listener;
	return true;
}

static void token_close(struct listener *listener)
{
	(void)listener;
}

static void *token_begin(struct listener *listener, const char *mechanism)
{
	struct login *login = calloc(1, sizeof *login);

	(void)mechanism;
	if (login != NULL)
		login->listener = listener;
	return login;
}

static enum verdict token_step(void *context, const char *in, size_t in_len, const char **out, size_t *out_len)
{
	struct login *login = context;

	*out = NULL;
	*out_len = 0;
	if (in != NULL && users_find_token(login->listener->users_file, in, in_len, login->user))
		return STEP_DONE;
	log_line(MOSQ_LOG_NOTICE, "sasl: TOKEN refused: nobody has this token");
	return STEP_REFUSED;
}

static const char *token_user(void *context)
{
	struct login *login = context;

	return login->user;
}

static void token_end(void *context)
{
	free(context);
}

const struct backend token_backend = {
	.name = "token",
	.open = token_open,
	.close = token_close,
	.begin = token_begin,
	.step = token_step,
	.user = token_user,
	.end = token_end,
};
