# DIGEST-MD5, RFC 2831 (historic since RFC 6331: take SCRAM where the server has it): the client's side as a
# generator, qop=auth, md5-sess. The server proves itself too: exchange() returns only on its rspauth for this login.
# Must never: answer a challenge that breaks a rule, or a realm that was not asked for; send a nonce count twice;
# return without the server's proof; show a secret in an error or a repr.
from binascii import hexlify

from usasl.crypto import SASLError, ServerNotProven, hashlib, nonce, same

_md5 = getattr(hashlib, "md5", None)

# RFC 2616 2.2: what ends a token
_SEPARATORS = b'()<>@,;:\\"/[]?={} \t'
# 2.1.1: directives that may come once at most. realm may come more often, and so may those that we do not know.
_ONCE = (b"nonce", b"qop", b"stale", b"maxbuf", b"charset", b"algorithm", b"cipher")


def _utf8(text, what, low=32):
    # No character below `low`: in names they are refused, in passwords not.
    data = b"" + (text.encode() if isinstance(text, str) else text)  # bytes(5) would be five zeros
    try:
        data.decode()
    except ValueError:
        data = None  # CPython's error would hold the text
    if data is None:
        raise ValueError(what + ": not UTF-8")
    if data and (min(data) < low or (low and 127 in data)):
        raise ValueError(what + ": a control character")
    return data


def _latin1(data):
    """UTF-8 as ISO 8859-1; None where that lacks one of the characters."""
    out = bytearray()
    for c in str(data, "utf-8"):
        if ord(c) > 255:
            return None
        out.append(ord(c))
    return bytes(out)


def _folded(data):
    # 2.1.2.1: what is wholly ISO 8859-1 is hashed as such, each of user, realm and password for itself.
    return _latin1(data) or data


def _key(user, realm, password):
    # `realm` is folded already
    return _md5(_folded(user) + b":" + realm + b":" + _folded(password)).digest()


def _hex(data):
    return hexlify(_md5(data).digest())


def _quoted(data):
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


# The challenge ----------------------------------------------------------------------------------------------


def _spaces(m, i):
    while i < len(m) and m[i] in b" \t":
        i += 1
    return i


def _token(m, i):
    """Where the token that begins at m[i] ends."""
    j = i
    while j < len(m) and 32 < m[j] < 127 and m[j] not in _SEPARATORS:
        j += 1
    if i == j:
        raise SASLError("directive", m[i : i + 1])
    return j


def _string(m, i):
    """The quoted-string (RFC 2616 2.2) that begins at m[i] -> (value, where it ends)."""
    start = i
    out = bytearray()
    i += 1
    while i < len(m) and m[i] != 34:
        if m[i] == 92:  # quoted-pair
            i += 1
        if i == len(m) or m[i] < 32 or m[i] == 127:
            break
        out.append(m[i])
        i += 1
    if i >= len(m) or m[i] != 34:
        raise SASLError("directive", m[start : start + 20])
    return bytes(out), i + 1


def _directives(m):
    """The directives of a challenge (2.1.1, 7.1) -> (those that come once, as a dict; list of realms)."""
    found = {}
    realms = []
    i = 0
    while True:
        i = _spaces(m, i)
        if i == len(m):
            return found, realms
        if m[i] == 44:  # an empty element of the list
            i += 1
            continue
        j = _token(m, i)
        name = m[i:j].lower()
        i = _spaces(m, j)
        if m[i : i + 1] != b"=":
            raise SASLError("directive", name)
        i = _spaces(m, i + 1)
        string = m[i : i + 1] == b'"'
        if string:
            value, j = _string(m, i)
        else:
            j = _token(m, i)
            value = m[i:j]
            if name == b"realm" or name == b"nonce" or name == b"qop":
                raise SASLError("directive", name)
        i = _spaces(m, j)
        if i < len(m) and m[i] != 44:
            raise SASLError("directive", name)
        if name == b"realm":
            realms.append(value)
        elif name in _ONCE:
            if name in found:
                raise SASLError("directive", name)
            found[name] = value


def _challenge(message):
    """Check a digest-challenge -> (nonce, realms, charset is UTF-8, stale)."""
    if len(message) > 2047:  # 2.1.1
        raise SASLError("directive", "length")
    found, realms = _directives(message)
    snonce = found.get(b"nonce")
    if not snonce:
        raise SASLError("directive", "nonce")
    if found.get(b"algorithm", b"").lower() != b"md5-sess":
        raise SASLError("directive", "algorithm")
    qop = found.get(b"qop", b"auth")
    if b"auth" not in [option.strip().lower() for option in qop.split(b",")]:
        raise SASLError("qop", qop)
    if found.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise SASLError("directive", "charset")
    if found.get(b"stale", b"true").lower() != b"true":
        raise SASLError("directive", "stale")
    if not found.get(b"maxbuf", b"0").isdigit():
        raise SASLError("directive", "maxbuf")
    return snonce, realms, b"charset" in found, b"stale" in found


# The mechanism ----------------------------------------------------------------------------------------------


class DigestMD5:
    """DIGEST-MD5 (RFC 2831). It proves the server, but a recorded login lets passwords be guessed at one MD5 each."""

    name = "DIGEST-MD5"
    service = "mqtt"  # 2.1.2, serv-type: a subclass for another protocol has its own

    def __init__(self, user, password=None, *, key=None, realm=None, host=None):
        """user, password, realm: str, or bytes in UTF-8. key: derive()'s 16 bytes in place of the password; then
        the realm must be given. realm: the one to log in to; None: the server's, if it offers exactly one; "": it
        must offer none. host: of digest-uri, as the server may check it; None: the realm's name. ValueError: an
        argument is wrong; it never shows a password or key."""
        if not _md5:
            raise ValueError("no hash in this firmware for " + self.name)
        if (password is None) == (key is None):
            raise ValueError("give either a password or a key")
        self.user = user
        self._user = _utf8(user, "user")
        self._realm = None if realm is None else _utf8(realm, "realm")
        self._host = None if host is None else _utf8(host, "host", 33)
        if not self._user or self._host == b"":
            raise ValueError("empty user or host")
        self._password = None
        if key is not None:
            if realm is None:
                raise ValueError("a key is for one realm: give realm=")
            if len(key) != 16:
                raise ValueError("key: not 16 bytes")
            self._key = bytes(key)
        elif realm is None:
            self._key = None
            self._password = _utf8(password, "password", 0)
            if not self._password:
                raise ValueError("empty password")
        else:
            self._key = self.derive(user, realm, password)
        self._last = None  # the nonce that was answered last: the server must not use it twice
        # Subsequent authentication (2.2): the last login that was proven, and whether the server takes such a one up
        # again (None: unknown, it is tried). In RAM only: no count outlives a reboot.
        self._past = None
        self._resumes = None

    @staticmethod
    def derive(user, realm, password):
        """H(user:realm:password), 16 bytes, for the host that provisions a board. As good as the password for
        this realm. str, or bytes in UTF-8."""
        password = _utf8(password, "password", 0)
        if not password or not user:
            raise ValueError("empty user or password")
        return _key(_utf8(user, "user"), _folded(_utf8(realm, "realm")), password)

    def exchange(self):
        """Generator of one login. Yields bytes to send (b"" first, where the server has to begin) and is sent the
        answer. Returns when the server has proven itself; raises SASLError, or ServerNotProven where its proof is
        wrong or missing."""
        login = self._past
        # Taken away: a nonce count is sent once only, whatever becomes of this login.
        self._past = proof = None
        message = b""
        if login:
            self._resumes = None if self._resumes else False  # until it has
            login = login[:4] + (login[4] + 1,)
            message, proof = self._response(login)
        fresh = False  # a challenge of this exchange has been answered
        retried = False  # it called a nonce stale
        message = bytes((yield message))
        while not proof or not same(message, proof):
            snonce, realms, utf8, stale = self._asked(message, proof, fresh)
            if fresh and (retried or not stale):
                raise ServerNotProven("asked_again")
            if proof and stale:
                retried = True  # 2.2.2: it knew us, but wants a new nonce
                self._resumes = True
            if snonce == self._last:
                raise SASLError("nonce_again")
            self._last = snonce
            fresh = True
            login = (snonce, nonce(), self._chosen(realms, utf8), utf8, 1)
            message, proof = self._response(login)
            message = bytes((yield message))
        if login[4] > 1:
            self._resumes = True
        if self._resumes is not False:
            self._past = login

    def _asked(self, message, proof, fresh):
        """The challenge that a message must be, since it is not the proof."""
        if not message:
            raise ServerNotProven("no_signature" if proof else "no_challenge")
        if proof and message[:7].lower() == b"rspauth":
            raise ServerNotProven("signature")
        try:
            return _challenge(message)
        except SASLError as e:
            error = e
        # Where the proof belongs, only a good challenge may be something else than a wrong proof.
        raise ServerNotProven("signature") if fresh else error

    def _chosen(self, realms, utf8):
        """The realm to log in to, as the server spelt it."""
        realm = self._realm
        if realm is None:
            if not realms:
                raise SASLError("no_realm")
            if len(realms) > 1:
                raise SASLError("realms", b", ".join(realms))
            realm = realms[0]
            if utf8:
                try:
                    realm.decode()
                except ValueError:
                    realm = None
                if realm is None:
                    raise SASLError("directive", "realm")
            return realm
        offered = realms or [b""]
        realm = realm if utf8 else _latin1(realm)
        if realm not in offered:
            raise SASLError("realm", b", ".join(offered), self._realm)
        return realm

    def _response(self, login):
        """(digest-response, the server's answer to it) for (nonce, cnonce, realm, charset is UTF-8, nonce count)
        (2.1.2, 2.1.3)."""
        snonce, cnonce, realm, utf8, count = login
        user = self._user if utf8 else _latin1(self._user)
        if user is None:
            raise SASLError("charset")
        host = self._host or realm
        if not host:
            raise SASLError("no_host")
        uri = self.service.encode() + b"/" + host
        key = self._key or _key(self._user, _folded(realm) if utf8 else realm, self._password)
        count = b"%08x" % count
        both = _hex(key + b":" + snonce + b":" + cnonce) + b":" + snonce + b":" + count + b":" + cnonce + b":auth:"
        out = b"username=" + _quoted(user)
        if realm or self._realm is None:
            out += b",realm=" + _quoted(realm)
        out += b",nonce=" + _quoted(snonce) + b",cnonce=" + _quoted(cnonce) + b",nc=" + count
        out += b",qop=auth,digest-uri=" + _quoted(uri) + b",response=" + _hex(both + _hex(b"AUTHENTICATE:" + uri))
        if utf8:
            out += b",charset=utf-8"
        return out, b"rspauth=" + _hex(both + _hex(b":" + uri))
