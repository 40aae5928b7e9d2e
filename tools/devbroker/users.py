"""The users file: who may log in, with what. The plugin reads it at every login (plugin/users.c).

Holds stored SCRAM credentials, not passwords (DIGEST-MD5 alone needs a clear one: only if asked for), and tokens.
Never prints or logs a password or key.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRAM = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
CLEAR = "DIGEST-MD5"
TOKEN = "TOKEN"
SALT_SIZE = 16
MAX_ITERATIONS = 999_999_999  # nine digits: what plugin/users.c reads


@dataclass(frozen=True)
class User:
    """What may be shown of a user. mechanisms: name -> iteration count as text (None: in clear)."""

    name: str
    mechanisms: dict


def check_name(name):
    """ValueError if `name` cannot be a user: the file, MQTT and SASL must all be able to carry it."""
    if not name or name != name.strip():
        raise ValueError("a user name must not be empty, nor begin or end with a space")
    if ":" in name:
        raise ValueError(f"the user name {name!r} has a ':' in it, which separates the fields of the users file")
    if not name.isprintable():
        raise ValueError(f"the user name {name!r} has a control character in it")
    if len(name.encode()) > 255:
        raise ValueError("the user name is longer than 255 bytes")


def stored_key_line(mechanism, password, salt, iterations):
    """-> "SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>" (RFC 5802 section 3; password: raw UTF-8)."""
    algorithm = SCRAM[mechanism]
    salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", algorithm)
    stored_key = hashlib.new(algorithm, client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", algorithm)
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"{mechanism}${iterations}:{salt64}${stored64}:{server64}"


def add(path, name, password, iterations=4096, salt=None, mechanisms=tuple(SCRAM)):
    """Adds a user, or gives an existing one new credentials in all `mechanisms` (and in no others).

    `salt`: bytes, the same for all mechanisms; None: a random one for each. ValueError: cannot be stored.
    """
    check_name(name)
    if not password:
        raise ValueError("the password must not be empty")
    if not isinstance(iterations, int) or not 1 <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be a number from 1 to {MAX_ITERATIONS}, not {iterations!r}")
    if salt is not None and not 1 <= len(salt) <= 256:
        raise ValueError("the salt must have 1 to 256 bytes")
    lines = []
    for mechanism in mechanisms:
        if mechanism in SCRAM:
            own_salt = salt if salt is not None else os.urandom(SALT_SIZE)
            lines.append(stored_key_line(mechanism, password, own_salt, iterations))
        elif mechanism == CLEAR:
            if (
                not password.isprintable()
                or password.startswith(("SCRAM-", "TOKEN$"))
                or len(password.encode()) > 255
            ):
                raise ValueError(f"this password cannot be stored for {CLEAR}: see the users file's format")
            lines.append(password)
        elif mechanism == TOKEN:
            if not password.isascii() or not password.isprintable() or len(password) > 1000:
                raise ValueError("a token must be of printable ASCII characters, 1000 at most")
            lines.append(f"{TOKEN}${password}")
        else:
            raise ValueError(f"unknown mechanism {mechanism!r}: one of {', '.join([*SCRAM, CLEAR, TOKEN])}")
    with _changing(path) as others:
        others[:] = [line for line in others if line.partition(":")[0] != name]
        others.extend(f"{name}:{line}" for line in lines)


def remove(path, name):
    """Removes a user. KeyError if there is none of that name."""
    with _changing(path) as lines:
        kept = [line for line in lines if line.partition(":")[0] != name]
        if len(kept) == len(lines):
            raise KeyError(f"there is no user {name!r}")
        lines[:] = kept


def read(path):
    """-> list of User, in the file's order; a missing file is an empty one."""
    users = {}
    for line in _lines(path):
        name, _, value = line.partition(":")
        scheme, dollar, rest = value.partition("$")
        mechanisms = users.setdefault(name, {})
        if dollar and scheme in SCRAM:
            mechanisms[scheme] = rest.partition(":")[0]
        elif dollar and scheme == TOKEN:
            mechanisms[TOKEN] = None
        else:
            mechanisms[CLEAR] = None
    return [User(name, mechanisms) for name, mechanisms in users.items()]


def replace_file(path, text):
    """Writes a file that holds secrets: all of it or nothing, and never readable by others."""
    descriptor, fresh = tempfile.mkstemp(dir=Path(path).parent, prefix=f".{Path(path).name}.")  # mode 600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def _lines(path):
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n") if line]


@contextmanager
def _changing(path):
    """Gives the file's lines, to be changed in place, and writes them back; one process at a time."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = _lines(path)
        yield lines
        text = "".join(f"{line}\n" for line in lines)
        replace_file(path, text)
