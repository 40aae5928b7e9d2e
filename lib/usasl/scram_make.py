# What scram.py needs once for a mechanism: its arguments are checked, its attributes made. Loaded for that, and
# unloaded as soon as it is done; no login needs it.
# Must never: show a password or a key in an error.
import sys


def make(
    scram,
    user,
    password=None,
    *,
    keys=None,
    min_iterations=4096,
    max_iterations=None,
    authzid=None,
    server_proof="require",
):
    """What the constructor of scram.ScramSHA256 does."""
    sys.modules.pop("usasl.scram_make", None)
    sys.modules["usasl"].__dict__.pop("scram_make", None)
    check(server_proof in ("require", "reauth", "skip"), "server_proof")
    check((password is None) != (not keys), "either")
    scram.user = user
    scram.progress = 100  # percent of the derivation that is going on, else 100
    scram.server_proof = server_proof
    scram.proof_due = False  # the caller must run another exchange(), and set it to False before a new login
    scram._gs2 = b"n," + (b"" if authzid is None else b"a=" + _name(authzid)) + b","
    scram._name = _name(user)
    check(isinstance(min_iterations, int) and isinstance(max_iterations or 0, int), "iterations")
    scram._min = min_iterations
    if max_iterations is not None:
        scram._max = max_iterations
    scram._proven = 0  # the highest count with which the server has proven itself
    # With a password: the entries derived from it, two at most, the newest first. Without: the caller's.
    scram._secret = None if password is None else utf8(password)
    scram._keys = keys or []
    for salt, count, client_key, server_key in scram._keys:
        check(salt and count > 0 and len(client_key) == scram._size == len(server_key), "keys")


def check(value, name):
    """ValueError with the text `name` where `value`, that an argument is right, is not so."""
    if not value:
        from usasl.texts import text

        raise ValueError(text(name))


def utf8(text):
    """A str, or bytes in UTF-8, as bytes that are not empty."""
    if isinstance(text, str):
        text = text.encode()
    check(isinstance(text, (bytes, bytearray)), "string")
    check(text, "empty")
    return text


def _name(name):
    # RFC 5802 5.1, saslname: "=" and "," are escaped (in names only, never in a password).
    name = utf8(name)
    check(min(name) > 31 and 127 not in name, "control")
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")
