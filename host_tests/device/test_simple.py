# The blocking client against the real broker: what a program on a board does with it.
import errno
import select
import sys
import time

from umqtt5 import AuthError, MQTTClient, Refused
from umqtt5 import driver as driver_module
from usasl.scram import ScramSHA256
from wire import raises


def made(port, name, **options):
    options.setdefault("keepalive", 30)
    return MQTTClient(name, "127.0.0.1", port, **options)


def receive(client, messages, n):
    """check_msg() until n messages have come, for two seconds at most."""
    end = time.ticks_add(time.ticks_ms(), 2000)
    while len(messages) < n and time.ticks_diff(end, time.ticks_ms()) > 0:
        client.check_msg()


def test_messages_both_ways_at_each_qos_and_size(plain_port):
    c = made(plain_port, "both", rx_size=2048, tx_size=256)
    messages = []
    c.connect()
    for sub_qos in (0, 1, 2):
        assert c.subscribe(b"both/%d" % sub_qos, sub_qos, lambda m: messages.append((m.qos, m.payload))) == sub_qos
    for sub_qos in (0, 1, 2):
        for qos in (0, 1, 2):
            for size in (0, 1, 100, 127, 128, 230, 256, 257, 1500, 2040 - 8):
                msg = bytes([i & 255 for i in range(size)])
                messages.clear()
                c.publish(b"both/%d" % sub_qos, msg, False, qos)
                receive(c, messages, 1)
                assert messages == [(min(qos, sub_qos), msg)], (sub_qos, qos, size)
    c.disconnect()


def test_who_only_publishes_loads_nothing_that_receives(plain_port):
    receiving = ("umqtt5.receive", "umqtt5.message", "umqtt5.subscribe")
    c = made(plain_port, "sensor", keepalive=1)
    c.connect()
    for qos in (0, 1, 2):
        c.publish("sensor/t", b"21.5", False, qos)
        c.publisher("sensor/t", qos).publish(b"21.5")
    c.ping()
    c.check_msg()
    assert not [name for name in receiving if name in sys.modules]
    c.subscribe("sensor/set")
    assert all(name in sys.modules for name in receiving)
    c.disconnect()


def test_messages_for_who_has_not_subscribed_in_this_life(plain_port):
    # A resumed session: the first PUBLISH loads what receives it, and the callback may be set by then or not at all.
    c = made(plain_port, "reborn")
    c.connect(False)
    c.subscribe("reborn/t", 2)
    c.disconnect()
    sender = made(plain_port, "reborn2")
    sender.connect()
    for qos in (0, 1, 2):
        sender.publish("reborn/t", b"%d" % qos, False, qos)
    again = made(plain_port, "reborn")
    assert again.connect(False)
    assert again.wait_msg() == 0x32 and again.wait_msg() == 0x34  # QoS 0 is not kept
    messages = []
    again.set_callback(lambda topic, msg: messages.append(msg))
    sender.publish("reborn/t", b"more")
    receive(again, messages, 1)
    assert messages == [b"more"]
    again.disconnect()
    sender.disconnect()


def test_a_queue_at_qos_2_longer_than_receive_maximum(plain_port):
    # mosquitto 2.0.11 does not keep to our Receive Maximum at QoS 2: up to half of these are open at once.
    c = made(plain_port, "queue", receive_maximum=4)
    sender = made(plain_port, "queue2")
    numbers = []
    c.connect()
    sender.connect()
    c.subscribe("queue/t", 2, lambda m: numbers.append(int(m.payload)))
    for i in range(90):
        sender.publish("queue/t", b"%d" % i, False, 2)
    receive(c, numbers, 90)
    assert numbers == list(range(90))
    assert len(c._engine.session.received) > 4, "the table has grown"
    c.disconnect()
    sender.disconnect()


def test_str_and_bytes(plain_port):
    c = made(plain_port, "types")
    messages = []
    c.set_callback(lambda topic, msg: messages.append((topic, msg)))
    c.connect()
    c.subscribe("täg/#")
    c.publish("täg/1", "grüße")
    c.publish("täg/2".encode(), bytearray(b"x"))
    c.publish("täg/3", memoryview(b"abc")[1:])
    receive(c, messages, 3)
    assert messages == [("täg/1".encode(), "grüße".encode()), ("täg/2".encode(), b"x"), ("täg/3".encode(), b"bc")]
    raises(ValueError, c.publish, "a/#", b"")
    raises(ValueError, c.publish, "", b"")
    raises(ValueError, c.publish, b"\xff", b"")
    raises(ValueError, c.publish, "a\0b", b"")
    c.publish("fine", b"")  # still connected
    c.disconnect()


def test_connack_and_granted(plain_port):
    c = made(plain_port, "", props={"user_property": [("a", "b")]})
    assert c.connect() is False
    granted = c.connack
    assert granted["session_present"] is False and granted["maximum_qos"] == 2
    assert granted["assigned_client_identifier"].encode() == c.client_id and len(c.client_id) > 8
    c.disconnect()


def test_unsubscribe(plain_port):
    c = made(plain_port, "unsub")
    messages = []
    c.connect()
    c.subscribe("unsub/t", 1, lambda m: messages.append(m.payload))
    assert c.unsubscribe("unsub/t") == 0
    assert c.unsubscribe("unsub/t") == 0x11
    c.publish("unsub/t", b"x", qos=1)
    c.ping()
    end = time.ticks_add(time.ticks_ms(), 300)
    while time.ticks_diff(end, time.ticks_ms()) > 0:
        c.check_msg()
    assert messages == [] and c._engine.pinged is None
    c.disconnect()


def test_subscription_options(plain_port):
    c = made(plain_port, "options")
    messages = []

    def handler(m):
        messages.append((m.payload, m.retain))

    c.connect()
    c.publish("options/t", b"kept", True, 1)
    c.subscribe("options/t", 1, handler, retain_handling=2, no_local=True, retain_as_published=True)
    c.publish("options/t", b"mine", False, 1)
    other = made(plain_port, "options2")
    other.connect()
    other.publish("options/t", b"theirs", True, 1)
    receive(c, messages, 1)
    assert messages == [(b"theirs", True)]
    other.publish("options/t", b"", True, 1)
    c.subscribe("$share/group/options/s", 1, handler)
    other.publish("options/s", b"shared", False, 1)
    receive(c, messages, 3)
    assert messages[2] == (b"shared", False)
    raises(ValueError, lambda: c.subscribe("$share/g/x", no_local=True))
    c.disconnect()
    other.disconnect()


def test_what_a_handler_may_do(plain_port):
    c = made(plain_port, "inside")
    seen = []

    def handler(m):
        seen.append(m.payload)
        for call in (c.wait_msg, c.check_msg, c.connect, lambda: c.subscribe("x"), lambda: c.unsubscribe("x")):
            raises(RuntimeError, call)
        c.publish("inside/answer", m.payload + b"!", False, len(seen) % 3)

    c.connect()
    c.subscribe("inside/ask", 2, handler)
    c.subscribe("inside/answer", 2, lambda m: seen.append(m.payload))
    for i in range(4):
        c.publish("inside/ask", b"%d" % i, False, 1)
    receive(c, seen, 8)
    assert sorted(seen) == [b"0", b"0!", b"1", b"1!", b"2", b"2!", b"3", b"3!"]
    assert c._engine.session.in_flight() <= 1  # the last answer's acknowledgement may still be on its way
    c.disconnect()


def test_a_publish_behind_an_acknowledgement_leaves_at_once(plain_port):
    # Acknowledgements may wait in the TCP stack, for up to 40 ms where the other side has nothing to say.
    c = made(plain_port, "prompt")
    c.connect()
    sender = made(plain_port, "prompt2")
    sender.connect()
    c.subscribe("prompt/t", 1, lambda m: None)
    began = time.ticks_ms()
    for _ in range(20):
        sender.publish("prompt/t", b"", False, 1)
        c.wait_msg()
        c.publish("prompt/answer", b"", False, 1)
    took = time.ticks_diff(time.ticks_ms(), began)
    assert took < 400, "%d ms for 20 round trips" % took
    sender.disconnect()
    c.disconnect()


def test_disconnect_inside_a_handler(plain_port):
    c = made(plain_port, "leave")
    c.connect()
    c.subscribe("leave/now", 1, lambda m: c.disconnect())
    try:
        c.publish("leave/now", b"", False, 1)
        c.wait_msg()
    except OSError as e:
        assert e.errno == errno.ENOTCONN, e
    assert c.sock is None
    c.connect()
    c.disconnect()


def test_table_full_inside_a_handler(plain_port):
    from umqtt5 import ResourceError

    c = made(plain_port, "full", receive_maximum=2)
    errors = []

    def handler(m):
        try:
            for _ in range(3):
                c.publish("full/out", b"", False, 1)
        except ResourceError as e:
            errors.append(str(e))

    c.connect()
    c.subscribe("full/in", 0, handler)
    c.publish("full/in", b"")
    receive(c, errors, 1)
    assert len(errors) == 1 and "receive_maximum=2" in errors[0]
    c.publish("full/out", b"", False, 1)  # waits for room, and goes on
    c.disconnect()


def test_the_same_topic_in_a_small_window(plain_port):
    """The publishes that need their payload and identifier only: none lost, none held for ever, and by turns with
    others, with a handler's among them."""
    c = made(plain_port, "same", receive_maximum=3)
    s = c._engine.session
    topic = b"same/t"
    got = []

    def handler(m):
        got.append(m.payload)
        if len(got) % 7 == 0:
            c.publish(b"same/none", b"", False, 0)

    c.connect()
    c.subscribe(topic, 1, handler)
    sent = [b"%d" % i for i in range(120)]
    for i in range(120):
        c.publish(topic, sent[i], False, 2 if i % 30 == 29 else 1, None, i % 5 == 4)
        assert s.in_flight() <= 3 and c._engine.quota >= 0
        if i % 5 == 4:
            assert not s.in_flight() or i % 30 == 29
    receive(c, got, 120)
    while s.in_flight():
        c._turn(None)
    assert got == sent
    assert c._engine.quota == 3 and not any(s.state)
    assert s.msg == s.topic == s.props == [None] * len(s.msg)
    c.publish("same/none", b"")  # its acknowledgement says that nobody gets it
    c.publish(b"same/none", b"", False, 1)
    assert s.reason[(s.last) % len(s.reason)] == 0x10 and c.answer == {}
    c.disconnect()


def test_reject_and_an_exception_of_the_handler_s(plain_port):
    from umqtt5 import Reject  # not above: it loads what receives

    c = made(plain_port, "reject", session_expiry=60)
    seen = []

    def handler(m):
        seen.append(m.payload)
        if m.payload == b"reject":
            raise Reject(0x99)
        if m.payload == b"raise" and seen.count(b"raise") == 1:
            raise KeyError("once")

    c.connect(True)
    c.subscribe("reject/t", 1, handler)
    c.publish("reject/t", b"reject", False, 1)
    receive(c, seen, 1)
    sender = made(plain_port, "reject2")
    sender.connect()
    sender.publish("reject/t", b"raise", False, 1)
    sender.disconnect()
    raises(KeyError, c.wait_msg)
    c.publish("elsewhere", b"", False, 1)  # the connection is whole
    c.disconnect()
    c._engine.terms.session_expiry = 60
    assert c.connect(False) is True
    receive(c, seen, 3)
    assert seen == [b"reject", b"raise", b"raise"], "not acknowledged: the broker sends it again"
    c.disconnect()


def test_refused_subscription(broker_port, passwords):
    c = made(broker_port, "sub80", auth=ScramSHA256("device1", passwords["device1"]))
    c.connect()
    e = raises(ValueError, lambda: c.subscribe("a" * 70000))
    assert "a" * 100 not in str(e)
    c.disconnect()


def test_will(plain_port):
    witness = made(plain_port, "will2")
    seen = []
    witness.connect()
    witness.subscribe("will/t", 1, lambda m: seen.append((m.payload, m.qos, m.props.get("content_type"))))
    c = made(plain_port, "will")
    c.set_last_will("will/t", b"gone", False, 1, {"content_type": "text/x"})
    c.connect()
    c.disconnect(0x04)  # Disconnect with Will Message
    receive(witness, seen, 1)
    assert seen == [(b"gone", 1, "text/x")]
    witness.disconnect()


def test_password_login(password_port):
    c = made(password_port, "pw", user="plain", password="s3cret-of-plain")
    c.connect()
    assert not any(c._engine.tx), "the password is wiped from tx"
    c.publish("pw/t", b"", False, 1)
    c.disconnect()
    e = raises(AuthError, made(password_port, "pw", user="plain", password="wr0ng").connect)
    assert e.reason in (0x86, 0x87) and e.method is None and "wr0ng" not in str(e) + repr(e)
    raises(ValueError, lambda: made(password_port, "pw", password="x", auth=ScramSHA256("u", "p")))


def test_password_where_scram_is_wanted(broker_port):
    e = raises(AuthError, made(broker_port, "pw", user="device1", password="x").connect)
    assert "auth=" in str(e)


def test_on_wait_is_called_at_least_every_50_ms(broker_port, passwords):
    calls = []
    c = made(
        broker_port,
        "onwait",
        auth=ScramSHA256("device1", passwords["device1"]),
        on_wait=lambda: calls.append(time.ticks_ms()),
    )
    began = time.ticks_ms()
    c.connect()
    assert len(calls) > 60, "4096 iterations are 64 slices"
    c.subscribe("onwait/t", 0, lambda m: None)
    sender = made(broker_port, "onwait2", auth=c._engine.terms.mechanism)
    sender.connect()
    calls.clear()
    began = time.ticks_ms()
    c.on_wait = lambda: (calls.append(time.ticks_ms()), sender.publish("onwait/t", b"") if len(calls) == 10 else None)
    c.wait_msg()
    assert len(calls) >= 10 and time.ticks_diff(time.ticks_ms(), began) < 2000
    c.disconnect()
    sender.disconnect()


def test_a_second_login_needs_no_derivation(broker_port, passwords):
    calls = []
    mechanism = ScramSHA256("device1", passwords["device1"])
    c = made(broker_port, "again", auth=mechanism, on_wait=lambda: calls.append(mechanism.progress))
    c.connect()
    # 64 slices of 64 iterations; 100 where nothing is derived
    assert calls.count(1) == 1 and calls.count(98) == 1 and len(calls) > 60
    c.disconnect()
    calls.clear()
    c.connect()
    assert len(calls) < 10
    c.disconnect()


def test_not_connected():
    c = MQTTClient("n", "127.0.0.1", 1)
    for call in (lambda: c.publish("t", b""), c.check_msg, c.wait_msg, c.ping, lambda: c.subscribe("t")):
        e = raises(OSError, call)
        assert e.errno == errno.ENOTCONN
    c.disconnect()  # nothing to do
    assert raises(OSError, c.connect).errno == errno.ECONNREFUSED


def test_no_such_name():
    e = raises(OSError, MQTTClient("n", "no-such-name.invalid").connect)
    assert "no-such-name.invalid" in str(e)


def test_refused_names_packet_code_and_name(plain_port):
    e = Refused("SUBACK", 0x87, "because")
    assert str(e) == "SUBACK 0x87 Not authorized (the broker says: because)" and e.reason == 0x87


def test_no_memory_to_read_with(plain_port):
    # A generator is made for each connection, and behind each exception of a handler's.
    def none(*_):
        raise MemoryError

    pull = driver_module.pull
    c = made(plain_port, "tight")
    driver_module.pull = none
    raises(MemoryError, c.connect)
    assert c.sock is None
    driver_module.pull = pull
    c.connect()

    def handler(m):
        driver_module.pull = none
        raise KeyError("mine")

    c.subscribe("tight/t", 0, handler)
    c.publish("tight/t", b"")
    raises(KeyError, c.wait_msg)
    assert c.sock is None
    raises(OSError, c.check_msg)
    driver_module.pull = pull
    c.connect()
    c.publish("tight/t", b"", False, 1)
    c.disconnect()


def test_what_the_driver_takes_for_granted():
    assert select.POLLIN == 1 and select.POLLOUT == 4
