"""What a board gets in place of the password, mechanism by mechanism, and the logins that this takes.

SCRAM: the broker is asked for salt and iteration count, the keys are derived. DIGEST-MD5: it is asked for its realms,
the key is derived. A token is taken as it is. It must never print a secret, or send a proof before all is known that
it depends on.
"""

import micropython  # noqa: F401  the shim: gives `time` a board's ticks, which lib/ needs

import base64
import errno
import re
import ssl

from umqtt5 import secrets_file as board_secrets
from umqtt5.errors import AuthError, MQTTError, NotProven
from umqtt5.simple import MQTTClient

from tools.secrets_toml import ProvisionError

NOTHING = "Nothing was written"


class _Asked(Exception):
    """Ends a login after the broker's first message: what was asked for is known."""


class AskSalt:
    """A mechanism that logs in by SCRAM up to the broker's first message: `asked` is (salt, count) then."""

    def __init__(self, mechanism, auth):
        # The password is not needed: nothing that depends on it is sent.
        bounds = {name: auth[name] for name in ("min_iterations", "max_iterations")}
        self._real = mechanism(auth["user"], "-", **bounds)
        self.name, self.user = self._real.name, self._real.user
        self.asked = None

    def exchange(self):
        real = self._real.exchange()
        first = bytes((yield next(real)))
        real.send(first)  # it goes on only if all of the message is right
        values = dict(part.split(b"=", 1) for part in first.split(b","))
        self.asked = base64.b64decode(values[b"s"]), int(values[b"i"])
        raise _Asked


class AskRealms:
    """The same for DIGEST-MD5: `asked` is the list of realms that the broker offers."""

    name = "DIGEST-MD5"

    def __init__(self, auth):
        self.user = auth["user"]
        self.asked = None

    def exchange(self):
        from usasl.crypto import ServerNotProven
        from usasl.digest_md5 import _challenge

        challenge = bytes((yield b""))
        if not challenge:
            raise ServerNotProven("no_challenge")
        _, realms, utf8, _ = _challenge(challenge)
        self.asked = [realm.decode("utf-8" if utf8 else "latin-1", "replace") for realm in realms]
        raise _Asked


def connect(arguments, settings, timeout):
    """One login under a client id of its own: the board's session and will are not touched, nor is the board
    thrown off if it is connected. MQTTError where the login fails; ProvisionError where there is no broker."""
    mqtt = settings["mqtt"]
    where = f"{mqtt['host']}:{mqtt['port']}"
    arguments = arguments | {"client_id": mqtt["client_id"][:18] + "-prov", "timeout": timeout}
    client = MQTTClient(**arguments)
    try:
        client.connect()
        client.disconnect()
    except MQTTError:
        raise
    except ssl.SSLCertVerificationError as e:
        raise ProvisionError(
            f"TLS with {where}: the broker's certificate does not hold: {e.verify_message}. Is mqtt.tls.ca "
            "the CA that signed it, and mqtt.host the name in it?"
        )
    except ssl.SSLError as e:
        raise ProvisionError(f"TLS with {where} failed ({e.reason or e.args[-1]}): is this the broker's TLS port?")
    except OSError as e:
        if e.errno in (errno.ECONNRESET, errno.EPIPE):
            raise ProvisionError(
                f"the broker {where} closed the connection: {e}. Are mqtt.port and mqtt.tls right, and the password?"
            )
        raise ProvisionError(
            f"broker {where} not reachable: {e}. Does it run, are mqtt.host, mqtt.port and mqtt.tls right?"
        )


def ask(asking, settings, arguments, timeout):
    """Begin a login by the mechanism `asking` -> what the broker told. ProvisionError."""
    method, user = settings["auth"]["method"], settings["auth"]["user"]
    try:
        connect(arguments | {"auth": asking}, settings, timeout)
    except NotProven:
        raise ProvisionError(
            f"the broker lets clients in without asking for {method}: no authentication is set up on this "
            f"listener. {NOTHING}"
        )
    except AuthError as e:
        if asking.asked is not None:
            return asking.asked
        if e.reason == 0x8C:
            raise ProvisionError(f"the broker does not offer {method}: {e}")
        if e.reason is not None:
            raise ProvisionError(
                f"the broker refused the user {user} before any password: unknown user, or {method} is not "
                f"enabled on this listener. {e}"
            )
        bounds = " (auth.min_iterations and auth.max_iterations are in secrets.toml)"
        raise ProvisionError(f"{e}{bounds if settings['auth']['kind'] == 'SCRAM' else ''}")
    except MQTTError as e:
        raise ProvisionError(f"no login by {method} with this broker: {e}")
    raise ProvisionError(f"the broker ended the login by {method} without a challenge")


def prove(path, settings, timeout):
    """Log in as the board will, with the file that it will have -> what that has shown, as text."""
    arguments = board_secrets.client(str(path))
    auth = settings["auth"]
    token = auth["kind"] == "token"
    user = auth["user"] or "this token"
    try:
        connect(arguments, settings, timeout)
    except NotProven as e:
        raise ProvisionError(f"the broker did not prove that it knows {user}'s keys: {e}. {NOTHING}")
    except MQTTError as e:
        if isinstance(e, AuthError) and e.reason == 0x8C:
            raise ProvisionError(f"the broker does not offer {auth['method']}: {e}. {NOTHING}")
        if isinstance(e, AuthError) and e.reason in (0x86, 0x87):
            if token:
                raise ProvisionError(f"the broker refused the token or the method: {e}. {NOTHING}")
            raise ProvisionError(f"wrong password of {user}: {e}. {_emqx(path, auth)}{NOTHING}")
        what = "token" if token else "derived keys"
        raise ProvisionError(f"the login with the {what} failed: {e}. {NOTHING}")
    if token:
        return "logged in with the token; the broker has proven nothing"
    if auth.get("server_proof") == "skip":
        return 'logged in with the derived keys; the broker need not prove that it knows them (server_proof = "skip")'
    return "logged in with the derived keys; the broker has proven that it knows them"


def _emqx(path, auth):
    """A hint for EMQX 5.0 to 5.6.1, which no correct client can log in to; its salts are hex digits."""
    if auth["kind"] != "SCRAM":
        return ""
    if auth["quirk"]:
        return f'Or it is no EMQX 5.0 to 5.6.1: then leave auth.quirk = "{auth["quirk"]}" out. '
    salt = base64.b64decode(board_secrets.read(str(path))["auth"]["keys"][0]["salt"])
    if not re.fullmatch(rb"[0-9a-f]{32}", salt):
        return ""
    return 'The salt looks like EMQX\'s: does it run EMQX 5.0 to 5.6.1, set auth.quirk = "emqx-5.0". '


# What stands in secrets.json's "auth" -------------------------------------------------------------------------


def b64(data):
    return base64.b64encode(data).decode()


def scram(settings, password, arguments, timeout, say, warn):
    """ "auth" with the keys for this password. `say`, `warn`: called with lines of text."""
    mqtt, auth = settings["mqtt"], settings["auth"]
    mechanism = board_secrets.find(auth["method"], auth["quirk"])
    salt, count = ask(AskSalt(mechanism, auth), settings, arguments, timeout)
    if (salt, count) != ask(AskSalt(mechanism, auth), settings, arguments, timeout):
        raise ProvisionError(
            f"the broker asks {auth['user']} for another salt or count at each login: keys made beforehand "
            "cannot work with it. It must store SCRAM credentials (some brokers also do so for users that "
            "they do not know)"
        )
    say(f"{mqtt['host']}:{mqtt['port']}: {auth['method']}, user {auth['user']}, {count} iterations, a fixed salt")
    if auth["server_proof"] == "skip":
        warn('server_proof = "skip": whoever answers the board may be taken for the broker')
    client_key, server_key = mechanism.derive(password, salt, count)
    made = {name: auth[name] for name in ("method", "user", "min_iterations", "max_iterations")}
    made |= {name: auth[name] for name in ("server_proof", "quirk") if auth[name] is not None}
    entry = {"salt": b64(salt), "iterations": count, "client_key": b64(client_key), "server_key": b64(server_key)}
    return made | {"keys": [entry]}


def digest_md5(settings, password, arguments, timeout, say, warn):
    """ "auth" with H(user:realm:password). The realm: auth.realm, or the only one that the broker offers."""
    mqtt, auth = settings["mqtt"], settings["auth"]
    warn(
        "DIGEST-MD5 is historic (RFC 6331): whoever recorded a login can guess the password fast, and the key on the "
        "board is as good as the password for its realm. Take SCRAM where the broker has it"
    )
    offered = ask(AskRealms(auth), settings, arguments, timeout)
    realm = auth["realm"]
    names = ", ".join(map(repr, offered)) or "none"
    if realm is None:
        if len(offered) != 1:
            raise ProvisionError(f"the broker offers the realms {names}: choose one by auth.realm")
        realm = offered[0]
    elif realm not in (offered or [""]):
        raise ProvisionError(f"the broker does not offer the realm {realm!r}: it offers {names}. Correct auth.realm")
    say(f"{mqtt['host']}:{mqtt['port']}: DIGEST-MD5, user {auth['user']}, realm {realm}")
    key = board_secrets.find("DIGEST-MD5").derive(auth["user"], realm, password)
    made = {"method": "DIGEST-MD5", "user": auth["user"], "realm": realm, "key": b64(key)}
    return made | ({"host": auth["host"]} if auth["host"] is not None else {})


def token(settings, secret, arguments, timeout, say, warn):
    """ "auth" with the token itself."""
    mqtt, auth = settings["mqtt"], settings["auth"]
    warn("a token proves nothing about the broker, and lies on the board's flash in clear")
    say(f"{mqtt['host']}:{mqtt['port']}: {auth['method']}, a token")
    made = {"method": auth["method"], "token": secret}
    return made | ({"user": auth["user"]} if auth["user"] is not None else {})


KINDS = {"SCRAM": scram, "DIGEST-MD5": digest_md5, "token": token}
