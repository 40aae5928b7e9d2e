# tx, rx and scratch hold no authentication data after a login or a re-authentication, a good one or a failed one.
# runs under CPython too
from reauth_steps import auth, begin, nothing_stands_in_front, step, up
from rules import METHOD, Mechanism, connack, packet
from umqtt5.errors import AuthError, Disconnected, ProtocolError
from umqtt5.reader import UP
from wire import Wire, publish

SECRETS = (b"FIRST-of-ours-1234", b"CHALLENGE-of-theirs-1", b"SECOND-of-ours-5678", b"FINAL-of-theirs-12")


def clean(w):
    e = w.e
    for name in ("tx", "rx", "scratch"):
        held = bytes(getattr(e, name))
        for secret in SECRETS:
            for i in range(len(secret) - 5):
                assert secret[i : i + 5] not in held, (name, secret[i : i + 5])
    assert e.out is e.tx and e.exchange is None


def exchange(w, answer):
    """Feed the challenge, and `answer` when our second is out."""
    w.feed(auth(0x18, SECRETS[1]))
    step(w)
    w.feed(answer)
    step(w)


def test_no_authentication_data_stays_in_the_buffers():
    # tx_size=32: AUTH is built in a temporary. chunk=7: bodies come in pieces, through scratch.
    for tx_size in (256, 32):
        for chunk in (None, 1, 7):
            w = Wire(auth=Mechanism(SECRETS[0], SECRETS[2]), tx_size=tx_size, chunk=chunk)
            w.e.open(w.now, True)
            step(w)
            w.feed(auth(0x18, SECRETS[1]))
            w.feed(connack(0, 0, METHOD + b"\x16\x00\x12" + SECRETS[3]))
            assert w.e.state == UP
            clean(w)
            for _ in range(2):
                w.e.reauthenticate(Mechanism(SECRETS[0], SECRETS[2]), w.now)
                step(w)
                exchange(w, auth(0x00, SECRETS[3]))
                nothing_stands_in_front(w)
                clean(w)


def test_nor_after_a_failed_one():
    for chunk in (None, 1, 7):
        for hold in (True, False):
            for answer in (
                auth(0x18, SECRETS[3]),  # one too many: no answer is left
                auth(0x19, SECRETS[3]),
                auth(0x00, SECRETS[3], b""),
                connack(0, 0x87, b"\x16\x00\x12" + SECRETS[3]),
                packet(0xE0, b"\x87"),
                b"",
            ):
                w = up(chunk=chunk, reauth_hold=hold)
                m = Mechanism(SECRETS[0], SECRETS[2])
                w.e.reauthenticate(m, w.now)
                step(w)
                try:
                    exchange(w, answer)
                    w.feed(auth(0x18, SECRETS[3]))
                    step(w)
                except (AuthError, ProtocolError, Disconnected):
                    pass
                w.e.closed()
                clean(w)
                nothing_stands_in_front(w)


def test_nor_after_a_failed_login():
    for chunk in (None, 1, 7):
        for answer in (auth(0x00, SECRETS[3]), connack(0, 0x87), connack(0, 0, METHOD[:-1] + b"X"), b""):
            w = Wire(auth=Mechanism(SECRETS[0], SECRETS[2]), chunk=chunk)
            w.e.open(w.now, True)
            step(w)
            try:
                exchange(w, answer)
            except (AuthError, ProtocolError):
                pass
            w.e.closed()
            clean(w)


def test_nothing_of_an_application_is_wiped():
    # A message that comes in pieces around the answer, while ours flow.
    w = up(reauth_hold=False)
    begin(w)
    message = publish(b"topic", bytes(range(100)))
    w.feed(auth(0x18, b"A"))
    w.feed(message[:50])
    step(w)
    w.feed(message[50:])
    w.feed(auth(0x00, b"B"))
    w.feed(message[:70])
    step(w)
    w.feed(message[70:])
    assert w.messages == [(b"topic", bytes(range(100)))] * 2
    nothing_stands_in_front(w)
