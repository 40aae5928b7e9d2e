# What an error means for the next attempt, and the waits between attempts: umqtt5/retry.py.
# runs under CPython too
from umqtt5.errors import AuthError, Disconnected, MalformedPacket, NotProven, Refused, ResourceError
from umqtt5.retry import LONG, PERMANENT, RETRY, Backoff, brokers, verdict
from wire import raises


def test_network_and_busy_broker_are_retried():
    for error in (
        OSError(110),
        MemoryError(),
        MalformedPacket("PUBLISH"),
        Disconnected(0x00),
        Disconnected(0x8B),  # server shutting down
        Refused("CONNACK", 0x80),
        Refused("CONNACK", 0x88),
        Refused("CONNACK", 0x89),
        Refused("CONNACK", 0x97),
        Refused("CONNACK", 0x9F),
    ):
        assert verdict(error) == RETRY, error


def test_what_a_person_must_cure():
    for error in (
        AuthError("CONNACK", 0x86),
        AuthError("CONNACK", 0x87),
        AuthError("CONNACK", 0x8C),
        AuthError("the mechanism failed"),
        Refused("CONNACK", 0x84),
        Refused("CONNACK", 0x85),
        Refused("CONNACK", 0x8A),
        ResourceError("rx_size"),
        ValueError("will"),
    ):
        assert verdict(error) == PERMANENT, error


def test_not_our_broker_and_taken_over_wait_long():
    assert verdict(NotProven("no signature")) == LONG
    assert verdict(Disconnected(0x8E)) == LONG


def waits(backoff, error, n, now=0):
    return [backoff.wait(error, now) for _ in range(n)]


def test_waits_double_up_to_the_cap_with_chance():
    error = OSError(110)
    all = [waits(Backoff(), error, 10) for _ in range(50)]
    for i in range(10):
        base = min(60, 1 << i) * 1000
        column = [w[i] for w in all]
        assert base // 2 <= min(column) and max(column) <= base, (i, column)
        assert max(column) - min(column) > base // 8, "no chance in it"


def test_refusals_wait_up_to_an_hour():
    w = waits(Backoff(), AuthError("CONNACK", 0x87), 12)
    assert 30000 <= w[0] <= 60000
    assert 1800000 <= w[-1] <= 3600000


def test_a_connection_that_lasted_clears_the_count():
    b = Backoff()
    waits(b, OSError(110), 6)  # the last: up to 32 s
    b.up(1000)
    assert b.wait(OSError(104), 1000 + 129000) <= 1000


def test_a_connection_that_broke_at_once_does_not():
    b = Backoff()
    waits(b, OSError(110), 6)
    b.up(1000)
    assert b.wait(OSError(104), 1000 + 100000) >= 30000


def test_two_boards_with_one_name_fight_less_and_less():
    # Each connection lasts as long as the other board waits.
    a, b = Backoff(), Backoff()
    now = 0
    last = 0
    for _ in range(12):
        for board in (a, b):
            board.up(now)
            last = board.wait(Disconnected(0x8E), now + last)
            now += last
    assert last >= 1800000


def test_brokers():
    assert brokers("here", 0, None, {}) == [("here", 1883, None)]
    two = brokers(["here", ("there", 1884)], 0, None, {})
    assert two == [("here", 1883, None), ("there", 1884, None)]
    raises(ValueError, brokers, [], 0, None, {})
