# What the text of a refused login says, step by step: the code, the method, and what usually causes it, so that
# nobody has to search for it.
# runs under CPython too
from reauth_steps import step
from rules import METHOD, Mechanism, connack, opened, packet, props
from umqtt5.errors import AuthError
from umqtt5.reader import UP
from wire import Wire, raises

AUTH = packet(0xF0, b"\x18" + props(METHOD))
SUCCESS = packet(0xF0, b"\x00" + props(METHOD))
REFUSALS = {
    "CONNACK": lambda reason: connack(0, reason),
    "DISCONNECT": lambda reason: packet(0xE0, bytes((reason,))),
}


def at_connect(*says):
    w = Wire(auth=Mechanism(*says))
    opened(w)
    return w


def after_the_proof():
    w = at_connect(b"first", b"final")
    w.feed(AUTH)
    return w


def again():
    w = at_connect(b"first")
    w.feed(connack(0, 0, METHOD))
    assert w.e.state == UP
    w.e.reauthenticate(None, w.now)
    step(w)
    return w


def check(make, reason, *words):
    for name in REFUSALS:
        error = raises(AuthError, make().feed, REFUSALS[name](reason))
        text = str(error)
        head, _, cause = text.partition("; usually: ")
        assert head.startswith("M: %s 0x%02X " % (name, reason)), text
        assert error.reason == reason and error.method == "M"
        for word in words:
            assert (word[1:] not in cause) if word[0] == "!" else (word in cause), (word, text)


def test_0x87_after_connect_with_the_first_message():
    # EMQX, Cyrus: they know the user's name by now, and nothing more of us.
    check(
        lambda: at_connect(b"first"), 0x87, "user", "M not enabled on this listener", "another algorithm", "!password"
    )


def test_0x87_after_connect_without_data():
    words = ("user", "M not enabled on this listener", "another algorithm", "data in CONNECT")
    check(lambda: at_connect(b"", b"first"), 0x87, *words)


def test_0x87_after_the_proof():
    check(after_the_proof, 0x87, "wrong password", "keys: provision again", "user", "!listener")


def test_0x8c_after_connect():
    for says in ((b"first",), (b"", b"first")):
        check(lambda says=says: at_connect(*says), 0x8C, "does not offer M", "case", "listener", "another algorithm")


def test_0x8c_after_the_proof():
    check(after_the_proof, 0x8C, "no longer", "password")


def test_0x87_and_0x8c_in_a_re_authentication():
    for reason in (0x87, 0x8C):
        check(again, reason, "wrong user or password", "keys", "changed since", "re-authenticate by M", "EMQX")


def test_0x82_in_a_re_authentication():
    check(again, 0x82, "mosquitto", "reauth_hold=True")


def test_after_a_re_authentication_a_new_login_begins_at_the_beginning():
    def make():
        w = again()
        w.feed(SUCCESS)
        step(w)
        w.e.closed()
        opened(w)
        return w

    check(make, 0x87, "not enabled on this listener", "!since the login")


def test_without_a_mechanism():
    for reason in (0x86, 0x87, 0x8C):
        w = Wire()
        opened(w)
        text = str(raises(AuthError, w.feed, connack(0, reason)))
        assert text.startswith("CONNACK 0x%02X " % reason) and "auth=" in text and "None" not in text, text
