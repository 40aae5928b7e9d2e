# usasl.token: one message, and what the server says to it.
# runs under CPython too
from exchanges import ends
from usasl.crypto import SASLError
from usasl.token import Token

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkZXZpY2UxIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


def said(data, token=JWT):
    """The text of the error when the server says `data`."""
    x = Token("JWT", token).exchange()
    x.send(None)
    try:
        x.send(data)
    except SASLError as e:
        assert type(e) is SASLError
        text = str(e)
        for i in range(len(token) - 7):
            assert token[i : i + 8] not in text, text
        return text
    except StopIteration:
        pass
    raise AssertionError("accepted: " + repr(data))


def test_one_message():
    for data in (JWT, JWT.encode(), bytearray(JWT.encode())):
        m = Token("JWT", data, "device1")
        assert m.name == "JWT" and m.user == "device1"
        x = m.exchange()
        assert x.send(None) == JWT.encode()
        assert ends(x)
    assert Token("JWT", JWT).user is None
    assert Token("X", "\xe4").exchange().send(None) == b"\xc3\xa4"


def test_a_fresh_token_at_each_login():
    made = []

    def fresh():
        made.append(None)
        return "token %d" % len(made)

    m = Token("JWT", fresh)
    assert not made
    for i in range(1, 4):
        x = m.exchange()
        assert x.send(None) == b"token %d" % i and ends(x)
    assert len(made) == 3


def test_a_buffer_that_changes():
    data = bytearray(b"token")
    m = Token("JWT", data)
    data[:] = b"wrong"
    assert m.exchange().send(None) == b"token"


def test_what_the_server_says_is_an_error():
    text = said(b'{"status":"invalid_token"}')
    assert '{"status":"invalid_token"}' in text
    said(b"\0")
    assert "\x1b" not in said(b"\x1b[31m")
    assert len(said(b"x" * 5000)) < 200


def test_a_token_that_the_server_repeats_is_not_shown():
    for part in (JWT, JWT[:20], JWT[10:30], JWT[-8:]):
        text = said(b"bad: " + part.encode() + b" ...")
        assert "bad:" in text and "<token>" in text, text
    assert "abc" not in said(b"no abc", token="abc")


def test_wrong_arguments():
    for args in (("", JWT), ("JWT", ""), ("JWT", b""), ("JWT", None), ("JWT", 5), ("JWT", [JWT])):
        try:
            Token(*args)
        except ValueError as e:
            assert JWT not in str(e)
            continue
        raise AssertionError(args)
    wrong = ["", None, 5]
    m = Token("JWT", wrong.pop)
    for _ in range(3):
        try:
            m.exchange().send(None)
        except ValueError:
            continue
        raise AssertionError(wrong)
    assert not wrong


def test_nothing_secret_is_shown():
    m = Token("JWT", JWT)
    for shown in (repr(m), str(m), repr(m.exchange())):
        assert JWT not in shown
