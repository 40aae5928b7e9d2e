# What a program may do in on_wait(), in the middle of anything: publish, read, disconnect.
import net
from net import Net
from umqtt5 import MQTTClient
from umqtt5.outbox import Outbox
from umqtt5.retry import Backoff
from umqtt5.robust import MQTTClient as Robust
from wire import raises

TOPIC = b"house/kitchen"


def publishes(data, qos):
    """The PUBLISH packets in a stream of bytes, by their payloads."""
    found = []
    i = 0
    while i < len(data):
        n = data[i + 1]
        assert n < 128 and data[i] & 0xF6 == 0x30 | qos << 1, data[i:]
        at = i + 4 + data[i + 3] + (2 if qos else 0)
        found.append(bytes(data[at + 1 : i + 2 + n]))  # behind a property length of 0
        i += 2 + n
    return found


def test_it_publishes_where_the_stream_takes_nothing():
    """Behind what waits to go out, not in the middle of it, to the same topic or to another."""
    for qos in (0, 1):
        for takes in ([None], [5, None], [None, 3, None]):
            for topic in (TOPIC, b"house/cellar"):
                said = []
                nt = Net()

                def on_wait():
                    if not said:  # noqa: B023
                        said.append(1)  # noqa: B023
                        c.publish(topic, b"nested", False, qos, None, False)  # noqa: B023

                c = MQTTClient("me", "host", timeout=0.2, on_wait=on_wait)
                c.connect()
                s = nt.streams[0]
                s.took.clear()
                s.takes = list(takes)
                c.publish(TOPIC, b"outer message", False, qos, None, False)
                assert publishes(b"".join(s.took), qos) == [b"outer message", b"nested"], s.took


def test_it_ends_the_connection():
    """What was going on raises OSError, as wherever a connection ends."""
    for what in ("disconnect", "read"):
        for qos, takes in ((0, [5, None]), (1, [])):
            on = []
            nt = Net()

            def on_wait():
                if on:  # noqa: B023
                    on.clear()  # noqa: B023
                    if what == "disconnect":  # noqa: B023
                        c.disconnect()  # noqa: B023
                    else:
                        raises(OSError, c.check_msg)  # noqa: B023

            c = MQTTClient("me", "host", timeout=0.2, on_wait=on_wait)
            c.connect()
            nt.streams[0].ended = what == "read"
            nt.streams[0].takes = list(takes)
            on.append(1)
            raises(OSError, c.publish, b"t", b"m", False, qos)
            assert c.sock is None
            c.connect()
            c.disconnect()


def test_robust_with_an_outbox_publishes_in_a_login():
    """CONNACK takes its time: the message goes into the outbox, where there is room; else that is an error."""
    for qos in (0, 1):
        on = []
        errors = []
        nt = Net()

        def on_wait():
            if on:  # noqa: B023
                try:
                    c.publish(b"t", b"from on_wait", False, qos)  # noqa: B023
                except OSError as e:
                    errors.append(e)  # noqa: B023
                    if len(errors) == 3:  # noqa: B023
                        nt.streams[-1].says += net.CONNACK  # noqa: B023

        backoff = Backoff(0, 0, 0, 0)
        outbox = Outbox(2)
        c = Robust("me", "host", timeout=5, backoff=backoff, outbox=outbox, on_wait=on_wait, session_expiry=9)
        c.connect()
        nt.streams[0].ended = True
        nt.connack = b""
        on.append(1)
        c.check_msg()
        on.clear()
        assert len(errors) == 3 and "the outbox is full" in str(errors[0])
        assert len(nt.streams) == 2 and not len(outbox)


def test_robust_restores_each_subscription_once():
    """on_wait() reads while the broker takes its time for each SUBACK."""
    nt = Net()
    on = []
    subscribes = []
    later = []

    class Slow(net.Stream):
        def write(self, buf, at, n=None):
            data = bytes(buf[:at]) if n is None else bytes(buf[at : at + n])
            if data[0] == 0x82:
                subscribes.append(data)
                assert len(subscribes) < 40, "a storm"
                later.append([3, b"\x90\4" + data[2:4] + b"\0\0"])
            return super().write(buf, at, n)

    def start(where):
        nt.streams.append(Slow(nt.connack))
        return nt.streams[-1]

    def on_wait():
        for one in list(later):
            one[0] -= 1
            if not one[0]:
                later.remove(one)
                nt.streams[-1].says += one[1]
        if on and c.sock is not None and c._engine.state == 2:
            c.check_msg()

    net.transport.start = start
    c = Robust("me", "host", timeout=5, backoff=Backoff(0, 0, 0, 0), on_wait=on_wait)
    c.connect()
    for filter in ("a", "b"):
        c.subscribe(filter)
    assert len(subscribes) == 2
    on.append(1)
    nt.streams[0].ended = True
    assert c.reconnect() is False
    assert len(subscribes) == 4 and len(nt.streams) == 2 and not c._missing
