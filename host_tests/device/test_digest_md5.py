# usasl.digest_md5 against the RFC's vectors, and against servers that break the rules.
# runs under CPython too
import hashlib
from binascii import hexlify

import exchanges
from exchanges import Fixed, ends
from usasl import digest_md5
from usasl.crypto import SASLError, ServerNotProven
from usasl.digest_md5 import DigestMD5

USER = "chris"
PASSWORD = "secret"
HOST = "elwood.innosoft.com"
NONCE = b"OA6MG9tEQGm2hh"
CNONCE = b"OA6MHXh6VqTrRk"
REALM = b'realm="elwood.innosoft.com"'
FIRST = REALM + b',nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
PROOF = b"rspauth=ea40f60335c427b5527b84dbabcdfffd"


def fixed(value=CNONCE):
    return Fixed(digest_md5, value)


class Imap(DigestMD5):
    service = "imap"


class Acap(DigestMD5):
    service = "acap"


def md5(data):
    return hashlib.md5(data).digest()


def hex5(data):
    return hexlify(md5(data))


def part(message, name):
    """The value of a directive of our own message, as it is on the wire."""
    at = message.find(b"," + name + b"=") + len(name) + 2
    if message[at : at + 1] == b'"':
        return message[at + 1 : message.find(b'"', at + 1)]
    end = message.find(b",", at)
    return message[at : end if end >= 0 else len(message)]


def proof(key, message, verb=b":"):
    """The server's answer to our message, computed from what stands in it."""
    snonce, cnonce = part(message, b"nonce"), part(message, b"cnonce")
    both = hexlify(md5(key + b":" + snonce + b":" + cnonce)) + b":" + snonce + b":" + part(message, b"nc")
    return hex5(both + b":" + cnonce + b":auth:" + hex5(verb + part(message, b"digest-uri")))


def failure(error, *messages, mechanism=None):
    """exchanges.failure(); no secret is in the text."""
    with fixed():
        text = exchanges.failure((mechanism or Imap(USER, PASSWORD)).exchange(), error, *messages)
    key = DigestMD5.derive(USER, HOST, PASSWORD)
    for secret in (PASSWORD, repr(key)[2:-1], hexlify(key).decode()):
        assert secret not in text
    return text


# Vectors ----------------------------------------------------------------------------------------------------


def vector(mechanism, cnonce, first, response, rspauth):
    with fixed(cnonce):
        x = mechanism.exchange()
        assert x.send(None) == b""
        out = x.send(first)
        assert part(out, b"response") == response, out
        assert ends(x, b"rspauth=" + rspauth)
        return out


def test_rfc2831_imap_example():
    key = DigestMD5.derive(USER, HOST, PASSWORD)
    for m in (Imap(USER, PASSWORD), Imap(USER, PASSWORD, realm=HOST, host=HOST), Imap(b"chris", key=key, realm=HOST)):
        assert m.name == "DIGEST-MD5"
        response = b"d388dad90d4bbd760a152321f2143af7"
        out = vector(m, CNONCE, FIRST, response, b"ea40f60335c427b5527b84dbabcdfffd")
        assert out == (
            b'username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",cnonce="OA6MHXh6VqTrRk",nc=00000001,'
            b'qop=auth,digest-uri="imap/elwood.innosoft.com",response=' + response + b",charset=utf-8"
        ), out


def test_rfc2831_acap_example():
    first = REALM + b',nonce="OA9BSXrbuRhWay",qop="auth",algorithm=md5-sess,charset=utf-8'
    response, rspauth = b"6084c6db3fede7352c551284490fd0fc", b"2f0b3d7c3c2e486600ef710726aa2eae"
    vector(Acap(USER, PASSWORD), b"OA9BSuZWMSpW8m", first, response, rspauth)


def test_rfc2831_session_keys():
    # H(A1) of the two examples, from what derive() gives.
    key = DigestMD5.derive(USER, HOST, PASSWORD)
    assert len(key) == 16 and key == DigestMD5.derive(b"chris", b"elwood.innosoft.com", b"secret")
    assert hex5(key + b":OA6MG9tEQGm2hh:OA6MHXh6VqTrRk") == b"a2549853149b0536f01f0b850c643c57"
    assert hex5(key + b":OA9BSXrbuRhWay:OA9BSuZWMSpW8m") == b"b62e36ab7dd57c82c296186c0f062f9e"


# What is hashed, and what is sent ---------------------------------------------------------------------------


def test_what_is_iso_8859_1_is_hashed_as_such():
    """Each of user, realm and password for itself (RFC 2831 2.1.2.1)."""
    derive = DigestMD5.derive
    assert derive("d\xe9vice", "r", "p\xe4") == md5(b"d\xe9vice:r:p\xe4")
    assert derive("d\xe9vice", "r\xfc", "\u20ac\xe4") == md5(b"d\xe9vice:r\xfc:\xe2\x82\xac\xc3\xa4")
    assert derive("\u0438", "", "\xff\x80") == md5(b"\xd0\xb8::\xff\x80")
    assert derive("u", "\u20ac", "x" * 200) == md5(b"u:\xe2\x82\xac:" + b"x" * 200)
    assert derive("u", "r", "\u0100") == md5(b"u:r:\xc4\x80")  # the first that is outside


def login(mechanism, first, key=None):
    """A good login by a server that knows `key`; the client's message."""
    x = mechanism.exchange()
    assert x.send(None) == b""
    out = x.send(first)
    if key:
        assert part(out, b"response") == proof(key, out, b"AUTHENTICATE:"), out
        assert ends(x, b"rspauth=" + proof(key, out))
    return out


def test_names_go_out_in_the_servers_charset():
    user = "d\xe9vice"
    key = md5(b"d\xe9vice:r:p\xe4")
    for m in (DigestMD5(user, "p\xe4"), DigestMD5(user.encode(), "p\xe4", realm="r")):
        out = login(m, b'nonce="n",realm="r",algorithm=md5-sess,charset=utf-8', key)
        assert out.startswith(b'username="d\xc3\xa9vice",') and out.endswith(b",charset=utf-8")
        out = login(DigestMD5(user, "p\xe4"), b'nonce="n",realm="r",algorithm=md5-sess', key)
        assert out.startswith(b'username="d\xe9vice",') and b"charset" not in out
    # A realm of the server, both ways; and one that was given.
    key = md5(b"u:r\xfc:p")
    for m in (DigestMD5("u", "p"), DigestMD5("u", "p", realm="r\xfc"), DigestMD5("u", key=key, realm="r\xfc")):
        login(m, b'nonce="n",realm="r\xc3\xbc",algorithm=md5-sess,charset=utf-8', key)
        m = DigestMD5("u", "p") if m._realm is None else DigestMD5("u", "p", realm="r\xfc")
        login(m, b'nonce="n",realm="r\xfc",algorithm=md5-sess', key)
    text = failure(SASLError, b'nonce="n",realm="r",algorithm=md5-sess', mechanism=DigestMD5("\u20ac", "p"))
    assert "charset" in text
    failure(SASLError, b'nonce="n",realm="\xff",algorithm=md5-sess,charset=utf-8', mechanism=DigestMD5("u", "p"))


def test_quotes_and_backslashes_are_escaped():
    out = login(DigestMD5('a"b\\,=', "p"), b'nonce="n\\"\\\\o",realm="r\\"\\x",algorithm=md5-sess,charset=utf-8')
    assert out.startswith(b'username="a\\"b\\\\,=",realm="r\\"x",nonce="n\\"\\\\o",'), out
    # What is hashed is without: 7.2, unq().
    key = md5(b'a"b\\,=:r"x:p')
    cnonce = part(out, b"cnonce")
    a1 = hexlify(md5(key + b':n"\\o:' + cnonce))
    expected = hex5(a1 + b':n"\\o:00000001:' + cnonce + b":auth:" + hex5(b'AUTHENTICATE:mqtt/r"x'))
    assert part(out, b"response") == expected


def test_host_of_digest_uri():
    first = b'nonce="n",realm="r",algorithm=md5-sess,charset=utf-8'
    assert part(login(DigestMD5("u", "p"), first), b"digest-uri") == b"mqtt/r"
    assert part(login(DigestMD5("u", "p", host="b.example"), first), b"digest-uri") == b"mqtt/b.example"
    assert "host=" in failure(SASLError, b'nonce="n",algorithm=md5-sess', mechanism=DigestMD5("u", "p", realm=""))


def test_fresh_nonce_in_each_exchange():
    nonces = set([part(login(Imap(USER, PASSWORD), FIRST), b"cnonce") for _ in range(50)])
    assert len(nonces) == 50 and all([len(n) == 24 for n in nonces])


# Arguments --------------------------------------------------------------------------------------------------


def test_wrong_arguments():
    key = bytes(16)
    for args, more in (
        (("user",), {}),
        (("user", "secret"), {"key": key, "realm": "r"}),
        (("user",), {"key": key}),
        (("user",), {"key": key[1:], "realm": "r"}),
        (("user",), {"key": b"", "realm": "r"}),
        (("user", ""), {}),
        (("user", ""), {"realm": "r"}),
        (("", "secret"), {}),
        (("us\0er", "secret"), {}),
        (("us\ner", "secret"), {}),
        (("us\x7fer", "secret"), {}),
        ((b"us\xffer", "secret"), {}),
        (("user", b"secret\xff"), {}),
        (("user", b"secret\xff"), {"realm": "r"}),
        (("user", "secret"), {"realm": "r\n"}),
        (("user", "secret"), {"host": ""}),
        (("user", "secret"), {"host": "a b"}),
    ):
        try:
            DigestMD5(*args, **more)
        except ValueError as e:
            assert "secret" not in str(e) and "secret" not in repr(e)
            continue
        raise AssertionError((args, more))
    for args in (("user", 1234), (5, "secret")):  # a number is not so many zero bytes
        try:
            DigestMD5(*args)
        except TypeError:
            continue
        raise AssertionError(args)
    for args in (("", "r", "p"), ("u", "r", ""), ("u\n", "r", "p"), ("u", "r", b"\xff")):
        try:
            DigestMD5.derive(*args)
        except ValueError:
            continue
        raise AssertionError(args)


def test_a_firmware_without_md5():
    real, digest_md5._md5 = digest_md5._md5, None
    try:
        DigestMD5("user", "secret")
    except ValueError as e:
        assert "DIGEST-MD5" in str(e)
    else:
        raise AssertionError
    finally:
        digest_md5._md5 = real


def test_nothing_secret_is_shown_or_kept():
    m = Imap(USER, PASSWORD, realm=HOST)
    for shown in (repr(m), str(m), repr(m.exchange())):
        assert PASSWORD not in shown
    assert not [name for name in dir(m) if PASSWORD in repr(getattr(m, name))]  # the key is all that it needs


# Realms -----------------------------------------------------------------------------------------------------


def challenge(*realms):
    return b",".join([b'realm="' + r + b'"' for r in realms] + [b'nonce="n",algorithm=md5-sess,charset=utf-8'])


def test_the_realm_must_be_one_that_was_offered():
    for realm, offered in (("b", (b"a", b"b")), (None, (b"b",)), ("b", (b"b", b"b")), ("", ()), ("", (b"a", b""))):
        m = DigestMD5("u", "p", realm=realm, host="h")
        key = md5(b"u:" + (b"" if realm == "" else b"b") + b":p")
        out = login(m, challenge(*offered), key)
        assert (b'realm="b"' in out) == (b"realm=" in out) == (realm != ""), out
    for realm, offered, word in (
        ("b", (b"a",), "provision"),
        ("b", (b"a", b"B", b"b ", b"bb"), "provision"),
        ("b", (), "provision"),
        ("", (b"a",), "provision"),
        (None, (b"a", b"b"), "realm="),
        (None, (), "no realm"),
    ):
        text = failure(SASLError, challenge(*offered), mechanism=DigestMD5("u", "p", realm=realm))
        assert word in text, text


# The challenge ----------------------------------------------------------------------------------------------


def test_broken_challenges():
    n, a = b',nonce="abc"', b",algorithm=md5-sess"
    for message in (
        REALM + n,  # no algorithm
        REALM + a,  # no nonce
        REALM + b',nonce=""' + a,
        REALM + n + a + n,
        REALM + n + b',nonce="other"' + a,
        REALM + n + a + a,
        REALM + n + a + b",ALGORITHM=md5-sess",
        REALM + n + b",algorithm=md5",
        REALM + n + b",algorithm=sha-256-sess",
        REALM + n + b',algorithm=""',
        REALM + n + a + b',qop="auth",qop="auth"',
        REALM + n + a + b',qop="auth-int"',
        REALM + n + a + b',qop="auth-conf,auth-int"',
        REALM + n + a + b',qop=""',
        REALM + n + a + b',qop=","',
        REALM + n + a + b',qop="authx"',
        REALM + n + a + b",qop=auth",
        REALM + n + a + b",charset=iso-8859-1",
        REALM + n + a + b",charset=utf-8,charset=utf-8",
        REALM + n + a + b",stale=true,stale=true",
        REALM + n + a + b",stale=false",
        REALM + n + a + b",maxbuf=1,maxbuf=1",
        REALM + n + a + b",maxbuf=x",
        REALM + n + a + b",maxbuf=-1",
        REALM + n + a + b',cipher="rc4",cipher="rc4"',
        REALM + b",nonce=abc" + a,
        b"realm=elwood.innosoft.com" + n + a,
        REALM + n + a + b',x="',
        REALM + n + a + b',x="y',
        REALM + n + a + b',x="y\\',
        REALM + n + a + b',x="y\\"',
        REALM + n + a + b',x="y"z',
        REALM + n + a + b',x="y" z=1',
        REALM + n + a + b",x",
        REALM + n + a + b",x=",
        REALM + n + a + b",=x",
        REALM + n + a + b",x==y",
        REALM + n + a + b",x=y;z",
        REALM + n + a + b";x=y",
        REALM + n + a + b'"',
        REALM + n + a + b"\0",
        REALM + n + a + b"\n",
        REALM + n + a + b',x="\0"',
        REALM + n + a + b',x="\\\n"',
        REALM + n + a + b',x="\x7f"',
        REALM + n + a + b",\xc3\xa9=x",
        REALM + b',nonce="a\0c"' + a,
        REALM + n + a + b',x="' + b"y" * 2048 + b'"',
        PROOF,
        b"garbage",
        b"\0",
        b",",
        b" ",
        b'"',
        b"=",
        b"\xff\xfe",
    ):
        failure(SASLError, message)


def test_challenges_that_are_accepted():
    key = DigestMD5.derive(USER, HOST, PASSWORD)
    n = b'nonce="abc"'
    for message in (
        REALM + b"," + n + b",algorithm=md5-sess",  # no qop: auth
        b" ,, \t" + REALM + b" , " + n + b"\t,algorithm = md5-sess, ,",
        REALM + b"," + n + b',ALGORITHM=MD5-Sess,Qop="AUTH",CharSet=UTF-8',
        REALM + b"," + n + b',algorithm="md5-sess",charset="utf-8"',
        REALM + b"," + n + b',algorithm=md5-sess,qop="auth-conf , auth,,x"',
        REALM + b"," + n + b',algorithm=md5-sess,cipher="rc4,3des",maxbuf=65536',
        REALM + b"," + n + b',algorithm=md5-sess,x=1,x="2,nonce=\\"y\\"",stale=true',  # 2.1.1: not known, ignored
    ):
        login(Imap(USER, PASSWORD), message, key)
    long = REALM + b"," + n + b',algorithm=md5-sess,x="'
    login(Imap(USER, PASSWORD), long + b"y" * (2046 - len(long)) + b'"', key)
    failure(SASLError, long + b"y" * (2047 - len(long)) + b'"')


def test_texts_name_what_is_wrong():
    assert "auth-int" in failure(SASLError, FIRST.replace(b'"auth"', b'"auth-int"'))
    assert "algorithm" in failure(SASLError, FIRST.replace(b"md5-sess", b"sha-256"))
    assert "nonce" in failure(SASLError, REALM + b",algorithm=md5-sess")
    assert HOST in failure(SASLError, FIRST, mechanism=Imap(USER, PASSWORD, realm="mine"))


def test_no_data_instead_of_a_challenge():
    assert "without its signature" in failure(ServerNotProven, b"")


# Proofs -----------------------------------------------------------------------------------------------------


def test_wrong_last_messages_are_no_proof():
    for message in (
        b"",
        PROOF[:-1],
        PROOF + b" ",
        PROOF + b",",
        PROOF + b",x=y",
        b"x=y," + PROOF,
        b" " + PROOF,
        PROOF[8:],
        b"rspauth=",
        b"rspauth",
        b"rspauth=d388dad90d4bbd760a152321f2143af7",  # our own
        PROOF[:8] + b'"' + PROOF[8:] + b'"',
        PROOF.upper(),
        PROOF[:8] + PROOF[8:].upper(),
        FIRST,
        FIRST.replace(b"OA6", b"XA6"),
        b"garbage",
        b"\0",
    ):
        failure(ServerNotProven, FIRST, message)
    for i in range(len(PROOF)):
        broken = bytearray(PROOF)
        broken[i] ^= 1
        failure(ServerNotProven, FIRST, bytes(broken))


def test_the_proof_of_another_login_is_none():
    x = Imap(USER, PASSWORD).exchange()
    x.send(None)
    x.send(FIRST)
    try:
        x.send(PROOF)
    except ServerNotProven:
        return
    raise AssertionError


def test_a_buffer_that_changes():
    with fixed():
        x = Imap(USER, PASSWORD).exchange()
        x.send(None)
        first = bytearray(FIRST)
        x.send(first)
        first[:] = bytes(len(first))
        assert ends(x, bytearray(PROOF))


# Stale nonces -----------------------------------------------------------------------------------------------

STALE = FIRST.replace(b"OA6", b"ZZZ") + b",stale=true"


def test_one_retry_where_the_nonce_is_stale():
    key = DigestMD5.derive(USER, HOST, PASSWORD)
    x = Imap(USER, PASSWORD).exchange()
    x.send(None)
    one = x.send(FIRST)
    two = x.send(STALE)
    assert part(two, b"nonce") == b"ZZZMG9tEQGm2hh" and part(two, b"nc") == b"00000001"
    assert part(one, b"cnonce") != part(two, b"cnonce")
    assert part(two, b"response") == proof(key, two, b"AUTHENTICATE:")
    assert ends(x, b"rspauth=" + proof(key, two))
    failure(ServerNotProven, FIRST, STALE, STALE.replace(b"ZZZ", b"YYY"))
    failure(ServerNotProven, FIRST, STALE, PROOF)  # that of the first answer
    failure(ServerNotProven, FIRST, STALE.replace(b",stale=true", b""))
    failure(ServerNotProven, FIRST, b"stale=true")
    assert "nonce" in failure(SASLError, FIRST, FIRST + b",stale=true")
    failure(SASLError, FIRST + b",stale=true", FIRST + b",stale=true")
    assert "realm" in failure(SASLError, FIRST, STALE.replace(b"elwood", b"x"), mechanism=Imap("u", "p", realm=HOST))


# Subsequent authentication (2.2) ----------------------------------------------------------------------------


class Server:
    """Knows the key, and what was logged in."""

    def __init__(self, takes_up=True):
        self.key = DigestMD5.derive(USER, HOST, PASSWORD)
        self.takes_up = takes_up
        self.number = 0
        self.seen = []  # (nonce, count) of all answers

    def challenge(self, more=b""):
        self.number += 1
        return FIRST.replace(b"OA6", b"%03d" % self.number) + more

    def note(self, out):
        pair = (part(out, b"nonce"), part(out, b"nc"))
        assert pair not in self.seen, "a nonce count was sent twice"
        self.seen.append(pair)
        assert part(out, b"response") == proof(self.key, out, b"AUTHENTICATE:")
        return b"rspauth=" + proof(self.key, out)

    def login(self, mechanism, stale=False):
        """One login; how many messages the client sent."""
        x = mechanism.exchange()
        out = x.send(None)
        sent = 0
        if out:
            sent = 1
            good = self.note(out)
            if self.takes_up and not stale:
                assert ends(x, good)
                return 1
        out = x.send(self.challenge(b",stale=true" if stale else b""))
        assert ends(x, self.note(out))
        return sent + 1


def test_subsequent_authentication():
    server, m = Server(), Imap(USER, PASSWORD)
    assert [server.login(m) for _ in range(4)] == [1, 1, 1, 1]
    assert server.number == 1
    assert [int(str(count, "ascii"), 16) for _, count in server.seen] == [1, 2, 3, 4]
    assert server.login(m, stale=True) == 2  # a new nonce, and the count begins anew
    assert server.seen[-1][1] == b"00000001"
    assert server.login(m) == 1
    server, m = Server(), Imap(USER, PASSWORD)
    server.login(m)
    server.login(m, stale=True)  # its first word: it takes logins up, but not this one
    server.login(m)
    assert server.seen[-1][1] == b"00000002"
    fresh = Imap(USER, PASSWORD)  # after a reboot
    x = fresh.exchange()
    assert x.send(None) == b""


def test_a_server_that_does_not_take_it_up_is_asked_once():
    server, m = Server(takes_up=False), Imap(USER, PASSWORD)
    assert [server.login(m) for _ in range(4)] == [1, 2, 1, 1]
    server, m = Server(), Imap(USER, PASSWORD)
    assert [server.login(m) for _ in range(3)] == [1, 1, 1]
    server.takes_up = False  # it was restarted
    assert server.login(m) == 2
    server.takes_up = True
    assert [server.login(m) for _ in range(2)] == [1, 1] and m._past[4] == 3


def test_a_count_is_sent_once_whatever_becomes_of_it():
    server, m = Server(), Imap(USER, PASSWORD)
    server.login(m)
    x = m.exchange()
    assert part(x.send(None), b"nc") == b"00000002"
    x.close()  # the network ends here
    x = m.exchange()
    assert x.send(None) == b""
    server.login(m)


def subsequent(*messages):
    """The exception that the last of these messages raises, in a login that begins with an answer."""
    server, m = Server(), Imap(USER, PASSWORD)
    server.login(m)
    x = m.exchange()
    assert part(x.send(None), b"nc") == b"00000002"
    try:
        for message in messages:
            x.send(message)
    except SASLError as e:
        assert m._past is None
        return e
    raise AssertionError(messages)


def test_subsequent_authentication_proves_the_server_too():
    for message in (b"", PROOF, b"rspauth=" + b"0" * 32):
        assert type(subsequent(message)) is ServerNotProven, message
    assert type(subsequent(b"garbage")) is SASLError
    server, m = Server(), Imap(USER, PASSWORD)
    x = m.exchange()
    x.send(None)
    first = server.note(x.send(server.challenge()))
    assert ends(x, first)
    x = m.exchange()
    x.send(None)
    try:
        x.send(first)  # that of the count before
    except ServerNotProven:
        pass
    else:
        raise AssertionError
    # The nonce that was just used, called fresh.
    assert "nonce" in str(subsequent(FIRST.replace(b"OA6", b"001")))
    # Stale for ever
    e = subsequent(*[FIRST.replace(b"OA6", b"X%02d" % i) + b",stale=true" for i in range(2)])
    assert type(e) is ServerNotProven


def test_a_nonce_of_the_login_before_is_refused():
    server, m = Server(takes_up=False), Imap(USER, PASSWORD)
    for _ in range(3):
        server.login(m)
    x = m.exchange()
    assert x.send(None) == b""
    server.number -= 1
    try:
        x.send(server.challenge())
    except SASLError as e:
        assert "nonce" in str(e)
        return
    raise AssertionError
