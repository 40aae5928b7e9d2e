# usasl.scram against the RFCs' vectors, and against servers that break the rules.
# runs under CPython too
import hashlib

import exchanges
from exchanges import Fixed, ends, step
from usasl import scram
from usasl.crypto import SASLError, ServerNotProven, b64, hmac, unb64
from usasl.scram import ScramSHA1, ScramSHA256

PASSWORD = "pencil"
CNONCE = b"rOprNGfwEbeRWgbNEkqO"
WHOLE = CNONCE + b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT64 = b"W22ZaJ0SNY7soEsUEjb6gQ=="
SALT = unb64(SALT64)
FIRST = b"r=" + WHOLE + b",s=" + SALT64 + b",i=4096"
FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
PROOF = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
CLIENT_KEY = unb64(b"pg/JI9Z+hkSpLRa5btpe9GVrDHJcSEN0viVTVXaZbos=")
SERVER_KEY = unb64(b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
ENTRY = (SALT, 4096, CLIENT_KEY, SERVER_KEY)


def fixed(value=CNONCE):
    return Fixed(scram, value)


def keyed(**more):
    return ScramSHA256("user", keys=[ENTRY], **more)


def failure(error, *messages, mechanism=None):
    """exchanges.failure(); no secret is in the text."""
    with fixed():
        text = exchanges.failure((mechanism or keyed()).exchange(), error, *messages)
    for secret in (PASSWORD, CLIENT_KEY, SERVER_KEY, b64(CLIENT_KEY), b64(SERVER_KEY)):
        assert str(secret)[2:-1] not in text and repr(secret) not in text
    return text


# Vectors ----------------------------------------------------------------------------------------------------


def test_rfc5802_example():
    with fixed(b"fyko+d2lbbFgONRv9qkxdawL"):
        m = ScramSHA1("user", PASSWORD)
        x = m.exchange()
        assert m.name == "SCRAM-SHA-1" and m.user == "user"
        assert x.send(None) == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
        out, _ = step(x, b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
        assert out == (b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
        assert ends(x, b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert ScramSHA1.derive("pencil", unb64(b"QSXCR+Q6sek8bf92"), 4096) == (
        unb64(b"4jTEe/bDZpbdbYUrmaqiuiZVVyg="),
        unb64(b"D+CSWLOshSulAsxiupA+qs2/fTE="),
    )


def rfc7677(mechanism):
    with fixed():
        x = mechanism.exchange()
        assert x.send(None) == b"n,,n=user,r=" + CNONCE
        out, pauses = step(x, FIRST)
        assert out == b"c=biws,r=" + WHOLE + b",p=" + PROOF
        assert ends(x, FINAL)
        return pauses


def test_rfc7677_example_by_password():
    m = ScramSHA256("user", PASSWORD)
    assert m.name == "SCRAM-SHA-256"
    assert rfc7677(m) == 64  # 64 iterations each
    assert rfc7677(m) == 0  # the derived keys are kept
    assert rfc7677(ScramSHA256(b"user", b"pencil")) == 64


def test_rfc7677_example_by_keys():
    assert rfc7677(keyed()) == 0
    assert ScramSHA256.derive("pencil", SALT, 4096) == (CLIENT_KEY, SERVER_KEY)
    assert ScramSHA256.derive(b"pencil", SALT, 4096) == (CLIENT_KEY, SERVER_KEY)


def test_raw_utf8_vector():
    # xdg-go/scram's "non-normal" vector holds for the SASLprepped name and password, given here as such.
    with fixed(b"clientNONCE"):
        x = ScramSHA256("ram\xf3n", "p\xc5ssword").exchange()
        x.send(None)
        out, _ = step(x, b"r=clientNONCEserverNONCE,s=c2FsdFNBTFRzYWx0,i=4096")
        assert out[-44:] == b"KXgIc8B+d5k3zx1P4rfs4TiybIlv11O85Jl1TrzEsfI=", out
        assert ends(x, b"v=zG9u+MI5GPTROhnW/W1PUCKV4Uvp2SHzwFOZV9Hth/c=")


# What is sent -----------------------------------------------------------------------------------------------


def test_names_are_escaped_and_passwords_are_not():
    with fixed():
        first = ScramSHA256("a=b,c", "p", authzid="x=,y").exchange().send(None)
        assert first == b"n,a=x=3D=2Cy,n=a=3Db=2Cc,r=" + CNONCE
        x = ScramSHA256("u", "a=b,c", authzid="z", min_iterations=1).exchange()
        x.send(None)
        first = b"r=" + WHOLE + b",s=" + SALT64 + b",i=1"
        out = step(x, first)[0]
        assert out.startswith(b"c=" + b64(b"n,a=z,") + b",r=" + WHOLE + b",p=")
        server_key = ScramSHA256.derive("a=b,c", SALT, 1)[1]
        auth = b"n=u,r=" + CNONCE + b"," + first + b"," + out[: out.find(b",p=")]
        assert ends(x, b"v=" + b64(hmac(hashlib.sha256, server_key, auth, 64)))


def test_fresh_nonce_in_each_exchange():
    m = keyed()
    nonces = set([m.exchange().send(None)[len(b"n,,n=user,r=") :] for _ in range(50)])
    assert len(nonces) == 50
    assert all([len(nonce) == 24 for nonce in nonces])


def test_progress_is_told_and_a_derivation_can_be_abandoned():
    m = ScramSHA256("user", PASSWORD)
    assert m.progress == 100
    with fixed():
        x = m.exchange()
        x.send(None)
        seen = []
        out = x.send(FIRST)
        while out is None:
            seen.append(m.progress)
            out = x.send(None)
        assert seen == sorted(seen) and seen[0] == 1 and seen[-1] == 100 and len(seen) == 64, seen
        m = ScramSHA256("user", PASSWORD)
        x = m.exchange()
        x.send(None)
        assert x.send(FIRST) is None and m.progress < 100
        x.close()
        assert m.progress == 100
        assert rfc7677(m) == 64


# Arguments --------------------------------------------------------------------------------------------------


def test_wrong_arguments():
    short = (SALT, 4096, CLIENT_KEY, SERVER_KEY[:-1])
    for args, more in (
        (("user",), {}),
        (("user", "p"), {"keys": [ENTRY]}),
        (("user",), {"keys": []}),
        (("user", ""), {}),
        (("user", b""), {}),
        (("", "p"), {}),
        (("us\0er", "p"), {}),
        (("us\ner", "p"), {}),
        (("us\x7fer", "p"), {}),
        (("user", "p"), {"authzid": ""}),
        (("user", "p"), {"authzid": "a\0"}),
        (("user", "p"), {"server_proof": "never"}),
        (("user",), {"keys": [short]}),
        (("user",), {"keys": [(b"",) + ENTRY[1:]]}),
        (("user",), {"keys": [(SALT, 0, CLIENT_KEY, SERVER_KEY)]}),
        (("user",), {"keys": [(SALT, 4096, CLIENT_KEY[1:], SERVER_KEY)]}),
    ):
        try:
            ScramSHA256(*args, **more)
        except ValueError as e:
            assert "pencil" not in str(e)
            continue
        raise AssertionError((args, more))


def test_nothing_secret_is_shown():
    m = ScramSHA256("user", PASSWORD)
    rfc7677(m)
    for shown in (repr(m), str(m), repr(m.exchange()), repr(keyed())):
        assert PASSWORD not in shown and repr(CLIENT_KEY) not in shown
    assert not [name for name in dir(m) if "password" in name]


# The server's first message ---------------------------------------------------------------------------------


def test_broken_first_messages():
    r, s = b"r=" + WHOLE, b",s=" + SALT64
    for message in (
        b"r=" + CNONCE + s + b",i=4096",  # not longer than ours
        b"r=" + CNONCE[:-1] + s + b",i=4096",
        b"r=X" + WHOLE + s + b",i=4096",
        b"r=" + WHOLE[1:] + s + b",i=4096",
        b"r=" + WHOLE.lower() + s + b",i=4096",
        r + b"\x80" + s + b",i=4096",
        r + b" " + s + b",i=4096",
        r + b"\0" + s + b",i=4096",
        b"r=" + s + b",i=4096",
        r + b",s=,i=4096",
        r + b",s=W22ZaJ0SNY7soEsUEjb6gQ=,i=4096",
        r + b",s=W22ZaJ0SNY7soEsUEjb6gR==,i=4096",  # stray bits
        r + b",s=!!!!,i=4096",
        r + b",i=4096" + s,
        s[1:] + b"," + r + b",i=4096",
        r + s,
        r,
        r + s + b",i=4096," + r,
        r + s + s + b",i=4096",
        r + s + b",i=4096,i=4096",
        r + s + b",i=4096,x=1,x=2",
        b"m=x," + r + s + b",i=4096",
        r + s + b",i=4096,m=x",
        r + s + b",i=4096,",
        r + s + b",i=4096,x",
        r + s + b",i=4096,x=",
        r + s + b",i=4096,1=2",
        r + s + b",i=4096,\xc3=2",
        b"," + r + s + b",i=4096",
        b"R=" + WHOLE + s + b",i=4096",
        FINAL,
        b"garbage",
        b"\0",
        b",",
    ):
        failure(SASLError, message)


def test_broken_iteration_counts():
    for count in (
        b"",
        b"+4096",
        b"-4096",
        b" 4096",
        b"4096 ",
        b"4_096",
        b"04096",
        b"0",
        b"4096\n",
        b"0x1000",
    ):
        failure(SASLError, b"r=" + WHOLE + b",s=" + SALT64 + b",i=" + count)
    for count in (b"4096.0", b"4e3", b"\xd9\xa4", b"one", b"4096\0"):
        failure(SASLError, b"r=" + WHOLE + b",s=" + SALT64 + b",i=" + count)


def asking(count, mechanism):
    return failure(SASLError, b"r=" + WHOLE + b",s=" + SALT64 + b",i=" + count, mechanism=mechanism)


def test_counts_out_of_bounds_name_number_and_argument():
    for count in (b"1", b"4095"):
        for m in (keyed(), ScramSHA256("user", PASSWORD)):
            text = asking(count, m)
            assert " %s " % count.decode() in text and "min_iterations" in text and "4096" in text, text
    for count in (b"20001", b"2147483648", b"9999999999"):
        text = asking(count, ScramSHA256("user", PASSWORD))
        assert " %s " % count.decode() in text and "max_iterations" in text and "20000" in text, text
    huge = b"1" + b"0" * 30
    text = asking(huge, ScramSHA256("user", PASSWORD))
    assert huge.decode() in text and "max_iterations" in text
    assert len(asking(b"1" + b"0" * 1000, ScramSHA256("user", PASSWORD))) < 250
    asking(huge, keyed())
    assert "5000" in asking(b"4999", ScramSHA256("user", PASSWORD, min_iterations=5000))


def test_min_iterations_holds_for_keys_too_and_max_only_for_derivation():
    m = ScramSHA256("user", keys=[ENTRY], min_iterations=5000)
    assert "min_iterations" in asking(b"4096", m)
    client_key, server_key = ScramSHA256.derive("p", SALT, 301)
    m = ScramSHA256("user", keys=[(SALT, 301, client_key, server_key)], min_iterations=1, max_iterations=10)
    with fixed():
        x = m.exchange()
        x.send(None)
        assert x.send(b"r=" + WHOLE + b",s=" + SALT64 + b",i=301").startswith(b"c=biws")


def test_keys_that_do_not_fit():
    text = asking(b"4097", keyed())
    assert "4097" in text and "4096" in text and "provision again" in text
    text = failure(SASLError, b"r=" + WHOLE + b",s=AAAA,i=4096")
    assert "salt" in text and "provision again" in text


def test_two_entries_for_rotation():
    other = (b"other salt", 5000, b"c" * 32, b"s" * 32)
    for keys in ([ENTRY, other], [other, ENTRY]):
        rfc7677(ScramSHA256("user", keys=keys))


def test_first_messages_that_are_accepted():
    # 0x7F in the nonce (EMQX), salts of odd lengths, unknown extensions.
    for salt, nonce, rest in (
        (b"x", b"\x7f", b""),
        (b"0123456789abcdef0123456789abcdef", b'"!~\x7f\x7f', b""),
        (SALT, b"s=r", b",x=1,y=,z=\xc3\xa9".replace(b",y=", b",y= =")),
    ):
        client_key, server_key = ScramSHA256.derive("p", salt, 4096)
        m = ScramSHA256("user", keys=[(salt, 4096, client_key, server_key)])
        with fixed():
            x = m.exchange()
            bare = x.send(None)[3:]
            first = b"r=" + CNONCE + nonce + b",s=" + b64(salt) + b",i=4096" + rest
            out = x.send(first)
            auth = bare + b"," + first + b"," + out[: out.find(b",p=")]
            final = b"v=" + b64(hmac(hashlib.sha256, server_key, auth, 64))
            assert ends(x, final)


def test_a_buffer_that_changes_during_the_derivation():
    with fixed():
        x = ScramSHA256("user", PASSWORD).exchange()
        x.send(None)
        first = bytearray(FIRST)
        assert x.send(first) is None
        first[:] = bytes(len(first))
        assert step(x, None)[0] == b"c=biws,r=" + WHOLE + b",p=" + PROOF
        assert ends(x, bytearray(FINAL))


def test_refused_in_the_first_message():
    assert "other-error" in failure(SASLError, b"e=other-error")
    assert "\x1b" not in failure(SASLError, b"e=\x1b[31m")


def test_no_data_instead_of_a_challenge():
    assert "without its signature" in failure(ServerNotProven, b"")


# Proofs -----------------------------------------------------------------------------------------------------


def test_wrong_last_messages_are_no_proof():
    for message in (
        b"v=" + PROOF,
        b"v=" + b64(bytes(32)),
        b"v=" + b64(bytes(31)),
        b"v=" + b64(bytes(33)),
        FINAL[:-2],
        FINAL[:-1],
        FINAL + b"=",
        FINAL[:-2] + b"5=",  # the same 32 bytes, but for stray bits
        b"v=!!!!",
        b"v=",
        b"v",
        b"V" + FINAL[1:],
        FINAL[2:],
        FINAL + b",",
        FINAL + b",m=x",
        FINAL + b",v=x",
        b"x=1," + FINAL,
        b"m=1," + FINAL,
        b"e=," + FINAL,
        b"e=x," + FINAL,
        FIRST,
        b"\0",
        b"garbage",
    ):
        failure(ServerNotProven, FIRST, message)
    for i in range(2, len(FINAL) - 1):
        broken = bytearray(FINAL)
        broken[i] = 65 if broken[i] != 65 else 66
        failure(ServerNotProven, FIRST, bytes(broken))


def test_no_data_instead_of_the_signature():
    assert "without its signature" in failure(ServerNotProven, FIRST, b"")


def test_error_instead_of_the_signature():
    text = failure(ServerNotProven, FIRST, b"e=invalid-proof")
    assert "invalid-proof" in text
    assert "?[31m" in failure(ServerNotProven, FIRST, b"e=\x1b[31m")


def test_a_signature_with_an_extension_is_accepted():
    with fixed():
        x = keyed().exchange()
        x.send(None)
        x.send(FIRST)
        assert ends(x, FINAL + b",x=anything")


def test_the_signature_of_another_login_is_no_proof():
    x = keyed().exchange()
    whole = x.send(None)[len(b"n,,n=user,r=") :] + b"abc"
    x.send(b"r=" + whole + b",s=" + SALT64 + b",i=4096")
    try:
        x.send(FINAL)
    except ServerNotProven:
        return
    raise AssertionError


# Memory of what was derived ---------------------------------------------------------------------------------


def login(mechanism, salt, count, prove=True):
    """One login with a server that knows the password "p"; the number of pauses for derivation."""
    x = mechanism.exchange()
    bare = x.send(None)[3:]
    first = b"r=" + bare[6:] + b"abc,s=" + b64(salt) + b",i=" + str(count).encode()
    out, pauses = step(x, first)
    auth = bare + b"," + first + b"," + out[: out.find(b",p=")]
    server_key = ScramSHA256.derive("p", salt, count)[1]
    if prove:
        assert ends(x, b"v=" + b64(hmac(hashlib.sha256, server_key, auth, 64)))
    else:
        try:
            x.send(b"v=" + b64(bytes(32)))
        except ServerNotProven:
            return pauses
        raise AssertionError
    return pauses


def test_a_count_lower_than_a_proven_one_is_refused():
    m = ScramSHA256("u", "p", min_iterations=10)
    login(m, b"salt", 300, prove=False)  # not proven: a rogue server must not lock the true one out
    login(m, b"salt", 100)
    login(m, b"salt", 200)
    try:
        login(m, b"salt", 199)
    except SASLError as e:
        assert "199" in str(e) and "200" in str(e)
    else:
        raise AssertionError
    login(m, b"another salt", 200)


def test_derived_keys_are_kept_but_not_without_limit():
    m = ScramSHA256("u", "p", min_iterations=10)
    assert login(m, b"1", 100) > 0
    assert login(m, b"1", 100) == 0
    assert login(m, b"2", 100) > 0
    assert login(m, b"1", 100) == 0
    for i in range(10):
        login(m, b"x%d" % i, 100, prove=False)
    assert len(m._keys) == 2
    assert login(m, b"1", 100) > 0
