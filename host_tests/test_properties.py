"""Every property in every packet that may carry it (2.2.2.2), sent and received; user properties repeated, in order.

The other side is a scripted server with a codec of its own, and, for what a broker passes on, mosquitto.
Which packets may carry which is checked statement by statement in device/test_rules_*.py; here, that each arrives.
"""

import pytest
from harness import wire
from harness.cases import login
from harness.logins import receive_connect
from harness.peer import Peer
from harness.remote import Board
from harness.scripts import Server, complete, subscribed
from harness.wire import DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, ack, publish

# Equal names, equal pairs, empty ones, names out of order: all of it must come as it was given.
USER = [("b", "1"), ("a", "2"), ("b", "1"), ("b", "3"), ("", ""), ("ä", "ö€𝄞"), ("a", "")]
USER_PROPS = [(0x26, pair) for pair in USER]
MESSAGE = {
    "payload_format_indicator": 1,
    "message_expiry_interval": 0xFFFFFFFE,
    "content_type": "text/x",
    "response_topic": "answers/here",
    "correlation_data": b"\x00\xff\x00id",
    "user_property": USER,
}
MESSAGE_PROPS = {(0x01, 1), (0x02, 0xFFFFFFFE), (0x03, "text/x"), (0x08, "answers/here"), (0x09, b"\x00\xff\x00id")}


def split(props):
    """(the set of all but the user properties, the user properties in order)."""
    rest = [p for p in props if p[0] != 0x26]
    assert len(rest) == len(set(rest))
    return set(rest), [value for key, value in props if key == 0x26]


def serve_all(conn):
    conn.serve()


# Sent ------------------------------------------------------------------------------------------------------


def test_connect_and_will():
    will = {**MESSAGE, "will_delay_interval": 70000}
    props = {"request_problem_information": 1, "request_response_information": 1, "user_property": USER}
    with (
        Server(login(serve_all)) as server,
        Board(server.port, session_expiry=70000, topic_alias_maximum=9, max_packet=70000, props=props) as board,
    ):
        board.run("c.set_last_will('will/t', b'gone', True, 2, will)\nc.connect()\nc.disconnect()", will=will)
        (conn,) = server.finish()
    connect = conn.received[0]
    rest, user = split(connect.props)
    assert rest == {(0x11, 70000), (0x17, 1), (0x19, 1), (0x21, 20), (0x22, 9), (0x27, 70000)}
    assert user == USER
    left = connect.connect["will"]
    rest, user = split(left.pop("props"))
    assert rest == MESSAGE_PROPS | {(0x18, 70000)} and user == USER
    assert left == {"qos": 2, "retain": True, "topic": b"will/t", "payload": b"gone"}


@pytest.mark.parametrize("form", ["props", "encode(**props)"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish(form, qos):
    """As a dict, and as the bytes of encode(), used again."""
    code = f"""
        from umqtt5.props import encode
        c.connect()
        given = {form}
        for i in range(2): c.publish("t", b"m", False, qos, given)
        c.disconnect()
        """
    with Server(login(serve_all)) as server, Board(server.port, tx_size=512) as board:
        board.run(code, props=MESSAGE, qos=qos)
        (conn,) = server.finish()
    publishes = conn.all(PUBLISH)
    assert len(publishes) == 2
    for p in publishes:
        assert split(p.props) == (MESSAGE_PROPS, USER)


def test_subscribe_unsubscribe_disconnect():
    code = """
        c.connect()
        c.subscribe("s/t", 1, note, id=268435455, props={"user_property": user})
        c.unsubscribe("s/t", {"user_property": user})
        c.disconnect(0x04, {"reason_string": "why", "user_property": user}, session_expiry=5)
        """
    with Server(login(serve_all)) as server, Board(server.port, session_expiry=100) as board:
        board.run(code, user=USER)
        (conn,) = server.finish()
    _, s, u, d = conn.received
    assert split(s.props) == ({(0x0B, 268435455)}, USER)
    assert split(u.props) == (set(), USER)
    assert d.reason == 0x04 and split(d.props) == ({(0x1F, "why"), (0x11, 5)}, USER)


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
def test_puback_and_pubrec_by_reject(reason):
    props = {"reason_string": "not like this", "user_property": USER}

    def script(conn):
        s = subscribed(conn)
        to = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        for qos in (0, 1, 2):
            conn.send(publish("r/t", b"", qos, 5 + qos, to))
        for kind, pid in ((PUBACK, 6), (PUBREC, 7)):
            p = conn.expect(kind)
            assert (p.pid, p.reason) == (pid, reason)
            assert split(p.props) == ({(0x1F, "not like this")}, USER)
        conn.send(publish("r/t", b"", 2, 7, to))  # refused: the identifier is free again, the message another one
        assert conn.expect(PUBREC).reason == reason
        conn.serve()

    code = """
        from umqtt5 import Reject
        def handler(m):
            log.append(m.qos)
            raise Reject(reason, props)
        c.connect()
        c.subscribe("r/t", 2, handler)
        until(lambda: len(log) == 4)
        c.disconnect()
        """
    with Server(login(script)) as server, Board(server.port) as board:
        board.run(code, reason=reason, props=props)
        assert board.log() == (0, 1, 2, 2)
        server.finish()


@pytest.mark.parametrize("limit", ["tx", "broker"])
def test_properties_of_a_rejection_that_do_not_fit_are_left_out(limit):
    """[MQTT-3.4.2-2], [MQTT-3.4.2-3]: the reason is what matters."""

    def script(conn):
        s = subscribed(conn)
        to = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.send(publish("r/t", b"", 1, 6, to), publish("r/t", b"", 2, 7, to))
        for kind in (PUBACK, PUBREC):
            p = conn.expect(kind)
            assert p.reason == 0x97 and p.props == [] and len(p.body) == 3
        conn.serve()

    code = """
        from umqtt5 import Reject
        def handler(m):
            log.append(m.qos)
            raise Reject(0x97, {"reason_string": "x" * 60})
        c.connect()
        c.subscribe("r/t", 2, handler)
        until(lambda: len(log) == 2)
        c.disconnect()
        """
    granted = [(0x27, 60)] if limit == "broker" else []
    with Server(login(script, *granted)) as server, Board(server.port, tx_size=40 if limit == "tx" else 256) as board:
        board.run(code)
        server.finish()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (
            "c.publish('t', b'', False, 1, {n: v})",
            "reason_string session_expiry_interval will_delay_interval topic_alias",
        ),
        ("c.publish('t', b'', False, 1, {n: v})", "subscription_identifier authentication_data nonsense"),
        ("c.subscribe('t', props={n: v})", "content_type reason_string"),
        ("c.unsubscribe('t', {n: v})", "subscription_identifier reason_string"),
        ("c.disconnect(0, {n: v})", "server_reference content_type assigned_client_identifier"),
        ("c.set_last_will('w', b'', props={n: v})", "topic_alias subscription_identifier session_expiry_interval"),
        (
            "MQTTClient('x', 'y', props={n: v})",
            "receive_maximum will_delay_interval authentication_method reason_string",
        ),
    ],
    ids=["publish", "publish2", "subscribe", "unsubscribe", "disconnect", "will", "connect"],
)
def test_misplaced_ones_are_the_caller_s_mistake(call, names):
    """ValueError, nothing is sent, and the connection goes on."""
    names = names.split()
    values = {"correlation_data": b"", "authentication_data": b""}
    with Server(login(serve_all)) as server, Board(server.port) as board:
        board.run("c.connect()")
        for name in names:
            strings = name.endswith(("string", "type", "reference", "identifier", "method", "nonsense"))
            value = values.get(name, "x" if strings and name != "subscription_identifier" else 1)
            error = board.error(call, n=name, v=value)
            assert error.type == "ValueError", (name, error.type)
        board.run("c.publish('fine', b'', qos=1)\nc.disconnect()")
        (conn,) = server.finish()
    assert conn.names() == ["CONNECT", "PUBLISH", "DISCONNECT"]


# Received --------------------------------------------------------------------------------------------------


def test_connack():
    """All seventeen, and what is granted where it names none."""
    granted = {
        "session_expiry_interval": 70000,
        "receive_maximum": 7,
        "maximum_qos": 1,
        "retain_available": 0,
        "maximum_packet_size": 1234567,
        "assigned_client_identifier": "you-are-me",
        "topic_alias_maximum": 5,
        "reason_string": "welcome",
        "user_property": tuple(USER),
        "wildcard_subscription_available": 0,
        "subscription_identifier_available": 0,
        "shared_subscription_available": 0,
        "server_keep_alive": 77,
        "response_information": "answers/",
        "server_reference": "elsewhere.example:1883",
    }
    pairs = [(0x11, 70000), (0x21, 7), (0x24, 1), (0x25, 0), (0x27, 1234567), (0x12, "you-are-me"), (0x22, 5)]
    pairs += [(0x1F, "welcome"), *USER_PROPS, (0x28, 0), (0x29, 0), (0x2A, 0), (0x13, 77), (0x1A, "answers/")]
    pairs += [(0x1C, "elsewhere.example:1883")]

    def script(conn):
        receive_connect(conn)
        conn.send(wire.connack(0, *pairs))
        conn.serve()

    options = {"client_id": "", "props": {"request_response_information": 1}}
    with Server(script, login(serve_all)) as server, Board(server.port, **options) as board:
        board.run("c.connect()")
        assert board.get("c.connack") == {**granted, "session_present": False}
        assert board.get("c.client_id") == b"you-are-me"
        board.run("c.disconnect()\nc.connect()")
        assert board.get("c.connack") == {
            "receive_maximum": 65535,
            "topic_alias_maximum": 0,
            "maximum_qos": 2,
            "retain_available": 1,
            "wildcard_subscription_available": 1,
            "subscription_identifier_available": 1,
            "shared_subscription_available": 1,
            "session_present": False,
        }
        board.run("c.disconnect()")
        server.finish()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_received(qos):
    """All of a PUBLISH's, with several subscription identifiers; kept in a copy, too."""

    def script(conn):
        for _ in range(3):
            subscribed(conn)
        pairs = [*MESSAGE_PROPS, *USER_PROPS, (0x0B, 3), (0x0B, 268435455), (0x23, 2)]
        conn.send(publish("p/t", b"m", qos, 5, *pairs))
        conn.serve()

    code = """
        copies = []
        def handler(m):
            log.append(m.props)
            copies.append(m.copy())
        c.connect()
        c.subscribe("p/+", 2, handler, id=3)
        c.subscribe("p/#", 2, handler, id=268435455)
        c.subscribe("q", 2, handler, id=4)
        until(lambda: len(log) == 2)
        log.extend([m.props for m in copies])
        c.disconnect()
        """
    expected = {**MESSAGE, "user_property": tuple(USER), "subscription_identifier": (3, 268435455), "topic_alias": 2}
    with Server(login(script)) as server, Board(server.port, topic_alias_maximum=2) as board:
        board.run(code)
        assert board.log() == (expected,) * 4
        server.finish()


@pytest.mark.parametrize("reason", [0, 0x80])
def test_answers(reason):
    """PUBACK, PUBREC, PUBCOMP, SUBACK and UNSUBACK: client.answer, after a good answer as after a refusal."""
    pairs = [(0x1F, "so be it"), *USER_PROPS]

    def script(conn):
        conn.send(ack(PUBACK, conn.expect(PUBLISH).pid, reason, *pairs))
        p = conn.expect(PUBLISH)
        conn.send(ack(PUBREC, p.pid, reason, *pairs))
        if not reason:
            assert conn.expect(PUBREL).pid == p.pid
            conn.send(ack(PUBCOMP, p.pid, 0, *pairs[:-1]))
        conn.send(ack(SUBACK, conn.expect(wire.SUBSCRIBE).pid, reason, *pairs))
        conn.send(ack(UNSUBACK, conn.expect(wire.UNSUBSCRIBE).pid, reason, *pairs))
        complete(conn, conn.expect(PUBLISH))  # without properties
        conn.serve()

    code = """
        def do(call, *args):
            try:
                call(*args)
                reason = 0
            except errors.Refused as e:
                reason = e.reason, e.said
            log.append((reason, c.answer))
        c.connect()
        do(c.publish, "a", b"", False, 1)
        do(c.publish, "b", b"", False, 2)
        do(c.subscribe, "c")
        do(c.unsubscribe, "c")
        do(c.publish, "d", b"", False, 1)
        c.disconnect()
        """
    with Server(login(script)) as server, Board(server.port) as board:
        board.run(code)
        log = board.log()
        server.finish()
    props = {"reason_string": "so be it", "user_property": tuple(USER)}
    raised = (reason, "so be it") if reason else 0
    expected = [(raised, props)] * 4
    if not reason:
        expected[1] = (0, {**props, "user_property": tuple(USER[:-1])})
    assert list(log) == [*expected, (0, {})]


def test_pubrel_with_properties():
    """It has nobody to be told to, but it is taken."""

    def script(conn):
        conn.send(publish("in", b"m", 2, 5))
        conn.expect(PUBREC)
        conn.send(ack(PUBREL, 5, 0, (0x1F, "go on"), *USER_PROPS))
        conn.serve()

    with Server(login(script)) as server, Board(server.port) as board:
        board.run("c.connect()\nuntil(lambda: log)\nc.publish('x', b'', qos=1)\nc.disconnect()")
        (conn,) = server.finish()
    assert [(p.pid, p.reason) for p in conn.all(PUBCOMP)] == [(5, 0)]


def test_disconnect_from_the_server():
    pairs = [(0x1F, "too busy"), (0x1C, "other.example"), *USER_PROPS]

    def script(conn):
        conn.send(wire.disconnect(0x97, *pairs))
        conn.close()

    with Server(login(script)) as server, Board(server.port) as board:
        board.run("c.connect()")
        error = board.error("c.wait_msg()")
        (conn,) = server.finish()
    assert (error.type, error.reason, error.said, error.server) == ("Disconnected", 0x97, "too busy", "other.example")
    assert conn.all(DISCONNECT) == []


def test_a_refusing_connack():
    def script(conn):
        receive_connect(conn)
        conn.send(wire.connack(0x97, (0x1F, "too many"), (0x1C, "other.example:99"), *USER_PROPS))
        conn.close()

    with Server(script) as server, Board(server.port) as board:
        error = board.error("c.connect()")
        server.finish()
    assert (error.type, error.reason, error.said, error.server) == ("Refused", 0x97, "too many", "other.example:99")


# Passed on by a real broker --------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_through_mosquitto(broker, qos):
    """Out of our client into a witness, and from the witness into our client."""
    there, back = f"props/there/{qos}", f"props/back/{qos}"
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, f"props{qos}", tx_size=512) as board:
        peer.subscribe(there)
        board.run("c.connect()\nc.subscribe(back, 2, lambda m: log.append((m.qos, m.props)), id=77)", back=back)
        board.run("c.publish(there, b'm', False, qos, props)", there=there, props=MESSAGE, qos=qos)
        p = peer.receive()
        assert p.qos == qos and split(p.props) == (MESSAGE_PROPS, USER)
        peer.publish(back, b"m", qos, *MESSAGE_PROPS, *USER_PROPS)
        board.run("until(lambda: log)")
        assert board.log() == ((qos, {**MESSAGE, "user_property": tuple(USER), "subscription_identifier": 77}),)
        board.run("c.disconnect()")


def test_will_through_mosquitto(broker):
    """Its properties reach the witness; will_delay_interval is the broker's."""
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "will-props") as board:
        peer.subscribe("props/will")
        code = "c.set_last_will('props/will', b'gone', False, 2, will)\nc.connect()\nc.disconnect(0x04)"
        board.run(code, will={**MESSAGE, "will_delay_interval": 0})
        p = peer.receive()
    assert (p.payload, p.qos) == (b"gone", 2)
    assert split(p.props) == (MESSAGE_PROPS, USER)
