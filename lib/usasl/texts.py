# What the errors of usasl say: cause, and cure where there is one. Loaded only when one is printed.
# Must never: show a secret. Values come from the server and are cut and made printable.
_TEXTS = {
    # DIGEST-MD5
    "directive": "the server's challenge is not DIGEST-MD5 (RFC 2831): wrong, missing or doubled %s",
    "qop": "the server offers no qop but %s; only auth is spoken here",
    "no_realm": "the server offers no realm: give its name with realm=, or realm='' if it has none",
    "realms": "the server offers several realms (%s): choose one with realm=",
    "realm": "the server offers the realm %s, not %s: another server, or give the right realm= (provision again)",
    "charset": "the user's name has characters outside of ISO 8859-1, and the server does not offer charset=utf-8",
    "no_host": "no realm and no host: give host= for digest-uri",
    "nonce_again": "the server's nonce is one that was answered before: not a fresh challenge",
    "asked_again": "the server asked for a login again instead of proving itself: wrong password, or not our server",
    # Token
    "token": "the server answered the token with %s",
    # SCRAM, arguments
    "string": "user, password, authzid: str or bytes",
    "iterations": "min_iterations, max_iterations: whole numbers",
    "empty": "empty user, password or authzid",
    "control": "control character in user or authzid",
    "server_proof": "server_proof: one of 'require', 'reauth', 'skip'",
    "either": "give either a password or keys",
    "keys": "keys: [(salt, iterations, client_key, server_key)]: no salt, no count, or a key of the wrong length",
    # SCRAM, the server's messages
    "no_challenge": "the server ended the login without a challenge and without its signature: "
    "it lets clients in without authentication, or it is not our server",
    "no_signature": "the server ended the login without its signature: nothing proves that it is our server",
    "refused": "the server refused the login with the error %s",
    "attributes": "the server's message is not SCRAM: bad attributes %s (order, value, doubled, unsupported)",
    "nonce": "the server's nonce does not continue ours: not an answer to this login",
    "salt": "the server's salt is not base64",
    "count": "the server's iteration count %s is not a positive decimal number",
    "count_low": "the server asks for %s iterations; min_iterations is %s. Raise the count on the server: "
    "a low one makes the password cheap to guess",
    "count_fell": "the server asks for %s iterations, fewer than the %s with which it was proven before",
    "count_high": "the server asks for %s iterations; max_iterations is %s. Raise that, or provision keys",
    "keys_count": "the server asks for %s iterations, the keys are for %s: provision again",
    "keys_salt": "the keys are for another salt than the server's: provision again",
    "signature": "the server's signature is wrong: it does not know this user's keys",
}


def _show(value):
    if not isinstance(value, (bytes, bytearray)):
        return str(value)
    shown = "".join([chr(c) if 32 < c < 127 else "?" for c in value[:40]])
    return shown + "..." if len(value) > 40 else shown


def text(name="", *values):
    """The text called `name`, with its values."""
    found = _TEXTS.get(name, name)
    return found % tuple([_show(value) for value in values]) if values else found
