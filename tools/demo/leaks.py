"""Looks for secrets in bytes: as they are, in base64 (wherever it begins inside a longer text), in hex.

It must never put a secret, or bytes that it found, into what it returns: names of forms and places only.
"""

import base64
from dataclasses import dataclass

SHORTEST = 8  # bytes: of a shorter secret, the base64 that is sure would match by chance


@dataclass(frozen=True)
class Hit:
    """what: the secret's name; form: "plain", "base64" or "hex"; place: the name of the bytes it is in."""

    what: str
    form: str
    place: str


def base64_cores(secret):
    """The three texts (bytes) of which one is inside any base64 of any bytes that hold `secret`.

    Base64 makes four characters of three bytes, so it depends on how many bytes stand before the secret,
    modulo 3. The characters at both ends also depend on the neighbours: they are left out.
    """
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        yield text[-(-8 * before // 6) : 8 * (before + len(secret)) // 6]


def search(secrets, places):
    """secrets: {name: bytes}; places: {name: bytes} -> list of Hit. Hex is found in upper and lower case, base64
    in both of its alphabets."""
    for what, secret in secrets.items():
        if len(secret) < SHORTEST:
            raise ValueError(f"{what}: too short to search for")
    hits = []
    for place, data in places.items():
        lower = data.lower()
        standard = data.replace(b"-", b"+").replace(b"_", b"/")  # the alphabet for URLs
        for what, secret in secrets.items():
            if secret in data:
                hits.append(Hit(what, "plain", place))
            if any(core in standard for core in base64_cores(secret)):
                hits.append(Hit(what, "base64", place))
            if secret.hex().encode() in lower:
                hits.append(Hit(what, "hex", place))
    return hits


def files(folder):
    """Every file under `folder` (Path): {"/lib/umqtt5/codec.mpy": bytes}, as paths on the board."""
    return {
        "/" + path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
