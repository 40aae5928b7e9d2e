"""A SCRAM login as it stands in the capture: its four messages, what each part of them means, and whether the
broker's signature is right, reckoned anew on the host (RFC 5802; hmac of the standard library, nothing of lib/).

It must never be told the password: what is checked here can be checked with the board's keys.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from tools.demo.capture import TO_BROKER, TO_CLIENT
from tools.demo.packets import NotReadable, Packet, packets

METHOD = "SCRAM-SHA-256"

# (direction, message, packet, what it is for, {attribute: what it means})
STEPS = (
    (
        "board -> broker",
        "client-first",
        "CONNECT",
        "Who I am, and a number that nobody could foresee.",
        {
            "n,": "no binding to TLS, no other identity",
            "n": "the user name",
            "r": "the board's nonce, new for each login",
        },
    ),
    (
        "broker -> board",
        "server-first",
        "AUTH 0x18 (continue)",
        "My own number added to yours; and how your keys were made. Prove that you have them.",
        {"r": "both nonces", "s": "the user's salt", "i": "PBKDF2 iterations"},
    ),
    (
        "board -> broker",
        "client-final",
        "AUTH 0x18 (continue)",
        "The proof: it fits only this exchange, and no key can be read out of it.",
        {
            "c": "the first message's header again",
            "r": "both nonces",
            "p": "ClientKey XOR HMAC(StoredKey, messages)",
        },
    ),
    (
        "broker -> board",
        "server-final",
        "CONNACK 0x00 (success)",
        "And mine: only who knows this user's ServerKey can sign the messages above.",
        {"v": "HMAC(ServerKey, messages)"},
    ),
)


@dataclass(frozen=True)
class Login:
    """The four messages (bytes): client_first, server_first, client_final, server_final."""

    client_first: bytes
    server_first: bytes
    client_final: bytes
    server_final: bytes

    @property
    def nonce(self):
        """The board's own."""
        return self.client_first.partition(b",r=")[2]

    def signed_with(self, server_key):
        """Is the broker's signature that of this key, over these very messages? (RFC 5802, 3)"""
        without_proof = self.client_final.rpartition(b",p=")[0]
        bare = self.client_first.split(b",", 2)[2]
        signature = hmac.digest(server_key, b",".join((bare, self.server_first, without_proof)), "sha256")
        return self.server_final == b"v=" + base64.b64encode(signature)


def so_far(links, client_id):
    """The messages (bytes, none to four) of the first login of that client on these Links. NotReadable: the
    login takes another way, e.g. it was refused."""
    for link in links:
        sent = packets(link.bytes[TO_BROKER])
        if not sent or (sent[0].name, sent[0].client_id) != ("CONNECT", client_id):
            continue
        came = packets(link.bytes[TO_CLIENT])
        exchange = [sent[0], *came[:1], *sent[1:2], *came[1:2]]
        wanted = [("CONNECT", None), ("AUTH", 0x18), ("AUTH", 0x18), ("CONNACK", 0)]
        for packet, (name, reason) in zip(exchange, wanted, strict=False):
            if (packet.name, packet.reason, packet.method) != (name, reason, METHOD):
                raise NotReadable(f"{packet} came where {Packet(name, reason)} should")
        return [packet.data or b"" for packet in exchange]
    return []


def parts(message, meanings):
    """A message as [(meaning, part as text)]."""
    text = message.decode()
    found = []
    if text.startswith("n,,"):  # the header of client-first (RFC 5801, 4)
        found.append((meanings["n,"], "n,,"))
        text = text[3:]
    for part in text.split(","):
        found.append((meanings.get(part.partition("=")[0], "an extension"), part))
    return found


def salted_password(password, salt, iterations):
    """PBKDF2's result (bytes), of which all keys are made: as good as the password, so it is searched for
    too."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def client_key(salted):
    return hmac.digest(salted, b"Client Key", "sha256")
