# SCRAM, RFC 5802 and RFC 7677: the client's side as a generator that yields what to send and is sent what
# came. The server proves itself too: exchange() returns only when the server has signed this very exchange,
# unless the caller has said otherwise (server_proof).
# Must never: send a proof before every check on the server's first message has passed, derive with a count
# that the caller did not allow, show a secret in an error or a repr.
#
# Passwords are taken as raw UTF-8, without SASLprep, as EMQX and Cyrus SASL store them.
from usasl.crypto import SASLError, ServerNotProven, b64, hashlib, hmac, nonce, same, unb64


def _values(message, what, error):
    """The values of `r=..,s=..`, which begins with these letters. RFC 5802 7: one letter, "=", at least one
    character."""
    if not message:
        raise ServerNotProven("no_signature" if what == b"v" else "no_challenge")
    letters = b""
    values = []
    for part in message.split(b","):
        letter = part[:1]
        # 5.1: m= is an extension that a client must not ignore.
        if len(part) < 3 or part[1] != 61 or not letter.isalpha() or letter in letters + b"m":
            raise error("attributes", part[:2])
        letters += letter
        values.append(part[2:])
    if letters[0] == 101:  # e
        raise error("refused", values[0])
    if letters.startswith(what):  # in this order; unknown extensions may follow
        return values
    raise error("attributes", letters)


class ScramSHA256:
    """SCRAM-SHA-256 (RFC 7677). SCRAM with another hash is a subclass, in which these differ."""

    name = "SCRAM-SHA-256"
    _hash = hashlib.sha256
    _size = 32  # bytes of a digest
    _block = 64
    _max = 20000
    _comma = b","  # between the messages that are signed

    def __init__(self, *args, **options):
        """ScramSHA256(user, password=None, *, keys=None, min_iterations=4096, max_iterations=None, authzid=None,
        server_proof="require")

        user, password, authzid: str, or bytes in UTF-8. keys: [(salt, iterations, client_key,
        server_key)], bytes and an int, in place of the password. A count below min_iterations is always
        refused, one above max_iterations where keys would have to be derived.

        server_proof, for a server that ends a login without its signature, which "require" refuses: "reauth" sets
        `proof_due` and returns, then the signature must come in the next exchange(); "skip" does without: whoever
        answers may be anybody. A wrong signature is refused by all three.

        ValueError: an argument is wrong; it never shows a password or key."""
        from usasl.scram_make import make

        make(self, *args, **options)

    @classmethod
    def derive(cls, password, salt, iterations):
        """(client_key, server_key) of a password (str, or bytes in UTF-8) for a salt (bytes) and a count, at
        once: for the host, which makes the keys of a board. A board itself derives in slices, in
        exchange()."""
        from usasl.derive import at_once

        return at_once(cls, password, salt, iterations)

    def exchange(self):
        """Generator of one login. Yields bytes to send and is sent the answer; yields None while keys are
        derived (call it again). Returns when the server has proven itself; raises SASLError, or ServerNotProven
        where its proof is wrong or missing (b"" sent in: its packet had no data)."""
        cnonce = nonce()
        auth = b"n=" + self._name + b",r=" + cnonce
        # RFC 5802 3: AuthMessage holds the server's message as it was received (copied: a buffer may change).
        first = bytes((yield self._gs2 + auth))
        both, salt, count = _values(first, b"rsi", SASLError)[:3]
        # 0x7F is outside of the grammar, but in every seventh nonce of EMQX.
        if not both.startswith(cnonce) or both == cnonce or min(both) < 33 or max(both) > 127:
            raise SASLError("nonce")
        try:
            salt = unb64(salt)
        except ValueError:
            raise SASLError("salt")
        entry = self._entry(salt, count)
        if not entry:
            from usasl.derive import entry

            entry = yield from entry(self, salt, count)
        final = b"c=" + b64(self._gs2) + b",r=" + both
        auth += self._comma + first + self._comma + final
        # ClientProof := ClientKey XOR HMAC(StoredKey, AuthMessage)
        hash = self._hash
        signature = hmac(hash, hash(entry[2]).digest(), auth, self._block)
        proof = int.from_bytes(entry[2], "big") ^ int.from_bytes(signature, "big")
        signature = b64(hmac(hash, entry[3], auth, self._block))  # what the server must send
        first = bytes((yield final + b",p=" + b64(proof.to_bytes(self._size, "big"))))
        if not first and self.server_proof != "require" and not self.proof_due:
            self.proof_due = self.server_proof == "reauth"
            return
        # As text: no other base64 than b64()'s own will do.
        if not same(_values(first, b"v", ServerNotProven)[0], signature):
            raise ServerNotProven("signature")
        self.proof_due = False
        self._proven = max(self._proven, entry[1])

    def _entry(self, salt, text):
        """The entry of _keys for this salt and count (text), None if it must be derived. All checks come before any
        work: a count of 1 makes the password cheap to guess, 2**31 keeps a board busy for weeks."""
        # int() would take a sign, spaces and underscores.
        if not text.isdigit() or text[0] == 48:
            raise SASLError("count", text)
        count = int(text[:11])  # already more than any count that will do
        if count < self._min:
            raise SASLError("count_low", count, self._min)
        other = 0
        for entry in self._keys:
            if entry[0] == salt:
                if entry[1] == count:
                    return entry
                other = entry[1]
        if self._secret:
            return None
        # Never derive where there are keys: a rogue server would choose the weakest salt and count.
        if other:
            raise SASLError("keys_count", text, other)
        raise SASLError("keys_salt")


del hashlib  # 40 bytes: with __getattr__ the module's table would grow


def __getattr__(name):
    # ScramSHA1 and ScramSHA512: few boards need them.
    if name[:8] != "ScramSHA":
        raise AttributeError(name)
    return getattr(__import__("usasl.scram_" + name[5:].lower(), None, None, (name,)), name)
