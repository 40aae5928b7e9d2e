# Deadline, keep alive and the timer of re-authentication.
# runs under CPython too
from reauth_steps import auth, begin, finish, granted, step, up
from rules import Mechanism, last, names, sent
from umqtt5.errors import AuthError
from umqtt5.reader import FAILED, UP
from wire import Wire, raises


def test_the_deadline_is_timeout_without_our_own_computing():
    class Slow(Mechanism):
        def exchange(self):
            yield b"one"
            for _ in range(100):
                yield None
            yield b"two"

    for answers in (0, 1):
        w = up(timeout=10)
        w.e.reauthenticate(Slow(), w.now)
        step(w)
        for _ in range(4):
            w.now += 1000
            assert 0 < w.e.timer(w.now) <= 6000
        if answers:
            w.feed(auth(0x18))
            for _ in range(101):  # 101 s
                assert w.e.auth_busy() and not w.e.timer(w.now)
                w.now += 1000
                w.e.work(w.now)
                w.flush()
            assert not w.e.auth_busy()
        for _ in range(5):
            w.now += 1000
            w.e.timer(w.now)
        w.now += 1001
        text = str(raises(OSError, w.e.timer, w.now))
        assert "re-authentication" in text and w.e.state == FAILED and not w.e.farewell(), text


def test_an_application_that_looks_in_late_finds_the_answer_in_time():
    w = up(timeout=10, keepalive=0)
    begin(w, b"one", b"two")
    w.now += 60000
    w.feed(auth(0x18))
    step(w)
    assert w.e.timer(w.now) > 0
    w.now += 60000
    finish(w)


def test_keep_alive_waits_where_packets_wait():
    for hold in (True, False):
        w = up(keepalive=4, timeout=100, reauth_hold=hold)
        begin(w)
        sent(w)
        for _ in range(4):
            w.now += 1000
            w.e.timer(w.now)
        assert names(sent(w)) == ([] if hold else ["PINGREQ"])
        w.feed(auth(0x18))
        if not hold:
            w.feed(b"\xd0\x00")
        step(w)
        sent(w)
        finish(w)
        for _ in range(4):
            w.now += 1000
            w.e.timer(w.now)
        assert names(sent(w)) == ["PINGREQ"]


def test_a_ping_that_was_held_gets_its_time():
    w = up(keepalive=4, timeout=100)
    w.e.ping(w.now)
    begin(w)
    w.e.ping(w.now)
    for _ in range(10):
        w.now += 1000
        w.e.timer(w.now)
    w.feed(auth(0x18))
    step(w)
    finish(w)
    assert w.e.timer(w.now) > 1000
    w.now += 2001
    raises(OSError, w.e.timer, w.now)


def test_a_derivation_longer_than_keep_alive_allows():
    class Slow(Mechanism):
        def exchange(self):
            yield b"one"
            self.progress = 10
            while True:
                yield None

    def derive(hold):
        w = up(keepalive=4, reauth_hold=hold)
        w.e.reauthenticate(Slow(), w.now)
        step(w)
        w.feed(auth(0x18))
        for _ in range(4):
            w.now += 1000
            w.e.work(w.now)
        return w

    assert "keepalive" in str(raises(AuthError, derive, True))
    assert derive(False).e.state == UP


def test_by_the_timer():
    m = Mechanism(b"login")
    w = up(auth=m, reauth_every=100, keepalive=0)
    for _ in range(3):
        for _ in range(99):
            w.now += 1000
            assert 0 < w.e.timer(w.now) <= 100000
        assert not w.e.authenticating
        w.now += 1000
        assert w.e.timer(w.now) == 0 and w.e.auth_busy()
        step(w)
        assert last(w).reason == 0x19
        w.now += 500
        w.feed(auth(0x00))
        w.now += 10
        step(w)
        assert not w.e.authenticating and w.e.state == UP
    # One by hand begins the time anew.
    w.now += 99000
    w.e.reauthenticate(None, w.now)
    step(w)
    w.feed(auth(0x00))
    step(w)
    assert w.e.timer(w.now) > 99000
    # And so does a new login.
    w.now += 99000
    w.e.closed()
    w.now += 5000
    granted(w)
    assert w.e.timer(w.now) > 99000


def test_the_timer_starts_none_where_it_cannot():
    w = up(reauth_every=1, keepalive=0)
    w.e.in_handler = True
    w.now += 5000
    assert w.e.timer(w.now) > 0 and not w.e.authenticating
    w.e.in_handler = False
    w.e.closed()
    assert w.e.timer(w.now) > 0
    w.e.open(w.now, True)
    while w.e.auth_busy():
        w.e.work(w.now)
    assert w.e.timer(w.now) > 0 and not w.e.authenticating


def test_arguments():
    for value in (-1, 0.5, 432001):
        try:
            Wire(auth=Mechanism(b"login"), reauth_every=value)
        except ValueError as e:
            assert "reauth_every" in str(e)
        else:
            raise AssertionError(value)
    try:
        Wire(reauth_every=60)
    except ValueError as e:
        assert "auth" in str(e)
    else:
        raise AssertionError("without auth")
