# umqtt5.robust's publish() where the connection ends in the middle of it: what has its slot in the session is sent
# again by itself, what has none is published then. Nothing is lost, and nothing goes out twice in the next one.
import net as network
from net import Net
from umqtt5 import Refused
from umqtt5.retry import Backoff
from umqtt5.robust import MQTTClient
from wire import raises

TOPIC = b"house/kitchen"
PRESENT = b"\x20\3\1\0\0"  # CONNACK: the session is present
SHORT_LONG = (True, False)


def up(**options):
    """A client that is connected, its network, its first stream."""
    net = Net()
    c = MQTTClient("me", "host", timeout=0.1, receive_maximum=5, backoff=Backoff(0, 0, 0, 0), **options)
    c.connect()
    net.connack = PRESENT
    return c, net, net.streams[0]


def later(net):
    """What went out in the connections behind the first."""
    return b"".join(b"".join(stream.took) for stream in net.streams[1:])


def test_a_write_that_fails():
    for qos in (0, 1, 2):
        for short in SHORT_LONG:
            c, net, stream = up()
            c.publish(TOPIC, b"first", False, qos, None, False)
            if not short:
                c._engine.prepared = None
            stream.error = OSError(104)
            c.publish(TOPIC, b"payload", False, qos, None, False)
            again = later(net)
            assert again.count(b"payload") == 1 and again.count(b"first") == (1 if qos else 0), (qos, short, again)
            assert c._engine.session.in_flight() == (2 if qos else 0)


def test_a_write_that_takes_a_part_and_fails():
    for qos in (1, 2):
        for takes in (5, None):
            c, net, stream = up()
            c.publish(TOPIC, b"first", False, qos, None, False)
            stream.takes = [takes] + [None] * 100000  # until its deadline
            c.publish(TOPIC, b"payload", False, qos, None, False)
            again = later(net)
            assert again.count(b"payload") == 1 and again.count(b"first") == 1, (qos, takes, again)
            assert c._engine.session.in_flight() == 2


def test_the_connection_ends_while_it_waits_for_room():
    for qos in (1, 2):
        c, net, stream = up()
        for i in range(5):
            c.publish(TOPIC, b"m%d" % i, False, qos, None, False)
        stream.ended = True
        net.connack += b"\x40\2\0\1" if qos == 1 else b"\x50\2\0\1\x70\2\0\1"
        c.publish(TOPIC, b"payload", False, qos, None, False)
        again = later(net)
        assert [again.count(m) for m in (b"m0", b"m1", b"m4", b"payload")] == [1, 1, 1, 1], again


def test_one_that_was_interrupted_before():
    # Ctrl-C, no memory, a program's own error: the next one must not be taken for it.
    for qos in (1, 2):
        for error in (KeyboardInterrupt, MemoryError, ValueError):
            c, net, stream = up()
            stream.error = OSError(104) if error is ValueError else error()
            if error is ValueError:

                def event(name, value):
                    c._engine.on_event = None  # noqa: B023
                    raise ValueError("the program's own")

                c._engine.on_event = event
            raises(error, c.publish, TOPIC, b"one", False, qos, None, False)
            c.publish(TOPIC, b"two", False, qos, None, False)
            again = later(net)
            assert again.count(b"one") == 1 and again.count(b"two") == 1, (qos, error, again)


def test_a_handler_publishes_in_vain():
    # While the last words are read; or while another waits for room.
    for qos in (1, 2):
        c, net, stream = up()

        def handler(topic, msg):
            raises(OSError, c.publish, b"other", b"its own", False, qos)  # noqa: B023

        c.set_callback(handler)
        c.publish(TOPIC, b"first", False, qos, None, False)
        stream.error = OSError(104)
        stream.says = b"\x30\5\0\1t\0m"
        c.publish(TOPIC, b"payload", False, qos, None, False)
        again = later(net)
        assert again.count(b"payload") == 1 and again.count(b"first") == 1 and again.count(b"its own") == 1, again

    def event(name, value):
        if name == "refused":
            stream.error = OSError(104)
            raises(OSError, c.publish, b"other", b"its own", False, 1)

    c, net, stream = up(on_event=event)
    for i in range(5):
        c.publish(TOPIC, b"m%d" % i, False, 1, None, False)
    stream.says = b"\x40\3\0\1\x87"
    net.connack += b"\x40\2\0\2"
    c.publish(TOPIC, b"payload", False, 1, None, False)
    again = later(net)
    assert again.count(b"payload") == 1 and again.count(b"its own") == 1, again


def test_on_wait_that_reads_its_answer():
    # While something that stands behind the publish is held up.
    for answer in (b"\x40\2\0\1", b"\x40\3\0\1\x87"):
        c, net, stream = up(on_wait=lambda: stream.says and c.check_msg())  # noqa: B023
        write = stream.write

        def held_up(buf, at, n=None):
            if n and buf[at] == 0xC0 and not stream.says:  # noqa: B023
                stream.says = answer  # noqa: B023
                stream.write = write  # noqa: B023
                return None
            c._engine.ping(0)  # noqa: B023
            return write(buf, at, n)  # noqa: B023

        stream.write = held_up
        if len(answer) == 4:
            c.publish(TOPIC, b"payload", False, 1)
        else:
            assert raises(Refused, c.publish, TOPIC, b"payload", False, 1).reason == 0x87
        assert len(net.streams) == 1 and not any(c._engine.session.state)


class Asked(Exception):
    pass


def test_it_waits_for_its_answer():
    # wait=True: over the next connection, too; and a refusal is raised.
    def ipoll(self, ms):
        raise Asked  # it waits: nothing has come

    for qos in (1, 2):
        for short in SHORT_LONG:
            for answer in (b"", b"\x40\3\0\2\x87" if qos == 1 else b"\x50\3\0\2\x87"):
                c, net, stream = up()
                c.publish(TOPIC, b"first", False, qos, None, False)
                if not short:
                    c._engine.prepared = None
                stream.error = OSError(104)
                net.connack += answer
                network.Poll.ipoll, kept = ipoll, network.Poll.ipoll
                try:
                    error = raises(Refused if answer else Asked, c.publish, TOPIC, b"payload", False, qos)
                finally:
                    network.Poll.ipoll = kept
                assert not answer or (error.reason == 0x87 and "PUB" in str(error))
                assert later(net).count(b"payload") == 1
