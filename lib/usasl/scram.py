# SCRAM, RFC 5802 and RFC 7677: the client's side as a generator that yields what to send and is sent what
# came. The server proves itself too: exchange() returns only when the server has signed this very exchange.
# Must never: send a proof before every check on the server's first message has passed, derive with a count
# that the caller did not allow, return without the server's signature, show a secret in an error or a repr.
#
# Passwords are taken as raw UTF-8, without SASLprep, as EMQX and Cyrus SASL store them.
from usasl.crypto import SASLError, ServerNotProven, b64, hashlib, hmac, nonce, same, unb64


def _utf8(text):
    if isinstance(text, str):
        text = text.encode()
    if not text:
        raise ValueError("empty user, password or authzid")
    return text


def _name(name):
    # RFC 5802 5.1, saslname: "=" and "," are escaped (in names only, never in a password).
    name = _utf8(name)
    if min(name) < 32 or 127 in name:
        raise ValueError("control character in user or authzid")
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")


def _attributes(message, error):
    """Split `r=..,s=..` -> (letters as bytes, values). RFC 5802 7: one letter, "=", at least one
    character."""
    letters = b""
    values = []
    for part in message.split(b","):
        letter = part[:1]
        # 5.1: m= is an extension that a client must not ignore.
        if len(part) < 3 or part[1] != 61 or not letter.isalpha() or letter in letters + b"m":
            raise error("attributes", part[:2])
        letters += letter
        values.append(part[2:])
    return letters, values


def _server_first(message, cnonce):
    """Check the server's first message -> (both nonces, salt, count as text)."""
    if not message:
        raise ServerNotProven("no_challenge")
    letters, values = _attributes(message, SASLError)
    if letters[:1] == b"e":
        raise SASLError("refused", values[0])
    if letters[:3] != b"rsi":  # in this order; unknown extensions may follow
        raise SASLError("attributes", letters)
    both, salt, count = values[:3]
    # 0x7F is outside of the grammar, but in every seventh nonce of EMQX.
    if not both.startswith(cnonce) or len(both) == len(cnonce) or min(both) < 33 or max(both) > 127:
        raise SASLError("nonce")
    try:
        salt = unb64(salt)
    except ValueError:
        raise SASLError("salt")
    # int() would take a sign, spaces and underscores.
    if not count.isdigit() or count[0] == 48:
        raise SASLError("count", count)
    return both, salt, count


def _server_final(message, signature):
    """Check the server's last message against the signature that it must hold."""
    if not message:
        raise ServerNotProven("no_signature")
    letters, values = _attributes(message, ServerNotProven)
    if letters[:1] == b"e":
        raise ServerNotProven("error", values[0])
    try:
        # Strict base64, equal length: else `v=!!!!` would decode to nothing, and nothing equals nothing.
        if letters[:1] == b"v" and same(unb64(values[0]), signature):
            return
    except ValueError:
        pass
    raise ServerNotProven("signature")


class _Scram:
    # A subclass gives name, _hash (None: the firmware lacks it), _size (bytes of a digest), _block if not 64.
    _block = 64

    def __init__(
        self,
        user,
        password=None,
        *,
        keys=None,
        min_iterations=4096,
        max_iterations=20000,
        authzid=None,
        server_proof="require",
    ):
        """user, password, authzid: str, or bytes in UTF-8. keys: [(salt, iterations, client_key,
        server_key)], bytes and an int, in place of the password. A count below min_iterations is always
        refused, one above max_iterations where keys would have to be derived. ValueError: an argument is
        wrong; it never shows a password or key."""
        if not self._hash:
            raise ValueError("no hash in this firmware for " + self.name)
        if server_proof != "require":
            raise ValueError("server_proof: only 'require'")
        if (password is None) == (not keys):
            raise ValueError("give either a password or keys")
        self.user = user
        self.progress = 100  # percent of the derivation that is going on, else 100
        self._gs2 = b"n," + (b"" if authzid is None else b"a=" + _name(authzid)) + b","
        self._name = _name(user)
        self._min = min_iterations
        self._max = max_iterations
        self._proven = 0  # the highest count with which the server has proven itself
        # With a password: the entries derived from it, two at most, the newest first. Without: the caller's.
        self._secret = None if password is None else _utf8(password)
        self._keys = keys or []
        for salt, count, client_key, server_key in self._keys:
            if not salt or count < 1 or len(client_key) != self._size or len(server_key) != self._size:
                raise ValueError("keys: no salt, no count or wrong length of a key")

    @classmethod
    def derive(cls, password, salt, iterations):
        """(client_key, server_key) of a password (str, or bytes in UTF-8) for a salt (bytes) and a count, at
        once: for the host, which makes the keys of a board. A board itself derives in slices, in
        exchange()."""
        from usasl.derive import derive

        if not salt or iterations < 1:
            raise ValueError("derive: no salt or no iterations")
        return list(derive(cls._hash, _utf8(password), salt, iterations, cls._block))[-1]

    def exchange(self):
        """Generator of one login. Yields bytes to send and is sent the answer; yields None while keys are
        derived (after 64 iterations each: call it again). Returns when the server has proven itself; raises
        SASLError, or ServerNotProven where its proof is wrong or missing (b"" sent in: its packet had no
        data)."""
        cnonce = nonce()
        auth = b"n=" + self._name + b",r=" + cnonce
        # RFC 5802 3: AuthMessage holds the server's message as it was received (copied: a buffer may change).
        first = bytes((yield self._gs2 + auth))
        both, salt, count = _server_first(first, cnonce)
        entry = self._find(salt, count)
        if not entry:
            entry = yield from self._derived(salt, int(count))
        final = b"c=" + b64(self._gs2) + b",r=" + both
        auth += b"," + first + b"," + final
        proof = self._proof(entry[2], auth)
        auth = hmac(self._hash, entry[3], auth, self._block)  # what the server must send
        first = yield final + b",p=" + b64(proof)
        _server_final(bytes(first), auth)
        self._proven = max(self._proven, entry[1])

    def _find(self, salt, text):
        """The entry of _keys for this salt and count, None if it may be derived. All checks come before any
        work: a count of 1 makes the password cheap to guess, 2**31 keeps a board busy for weeks."""
        if len(text) > 10:
            raise SASLError("count_high", text, self._max)
        count = int(text)
        if count < self._min:
            raise SASLError("count_low", count, self._min)
        other = 0
        for entry in self._keys:
            if entry[0] == salt:
                if entry[1] == count:
                    return entry
                other = entry[1]
        if self._secret:
            if count < self._proven:
                raise SASLError("count_fell", count, self._proven)
            if count > self._max:
                raise SASLError("count_high", count, self._max)
            return None
        # Never derive here: a rogue server would choose the weakest salt and count.
        if other:
            raise SASLError("keys_count", count, other)
        raise SASLError("keys_salt")

    def _derived(self, salt, count):
        from usasl.derive import derive

        try:
            for pair in derive(self._hash, self._secret, salt, count, self._block):
                if isinstance(pair, int):
                    self.progress = pair * 100 // count
                    yield None
        finally:
            self.progress = 100
        entry = (salt, count) + pair
        self._keys = [entry] + self._keys[:1]
        return entry

    def _proof(self, client_key, auth):
        # RFC 5802 3: ClientProof := ClientKey XOR HMAC(StoredKey, AuthMessage)
        signature = hmac(self._hash, self._hash(client_key).digest(), auth, self._block)
        proof = int.from_bytes(client_key, "big") ^ int.from_bytes(signature, "big")
        return proof.to_bytes(self._size, "big")


class ScramSHA1(_Scram):
    """SCRAM-SHA-1 (RFC 5802)."""

    name = "SCRAM-SHA-1"
    _hash = getattr(hashlib, "sha1", None)
    _size = 20


class ScramSHA256(_Scram):
    """SCRAM-SHA-256 (RFC 7677)."""

    name = "SCRAM-SHA-256"
    _hash = hashlib.sha256
    _size = 32
