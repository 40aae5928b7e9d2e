"""Rules that the blocking client keeps, rather than the engine: seen by a server at the other end of a real socket.
The rules of the engine are in device/test_rules_*.py.
"""

from harness import wire
from harness.logins import honest
from harness.micropython import run_device
from harness.scripted import ScriptedServer


def seen(do):
    """The connection as an honest server saw it, while the client did this (device/client_rules.py)."""
    with ScriptedServer(honest()) as server:
        run_device("client_rules.py", {"port": server.port, "do": do})
        (connection,) = server.finish()
    assert connection.error is None and connection.broken is None
    return connection


def test_subscription_options_as_the_table_says():
    """3.8.3.1: bits 0-1 QoS, 2 No Local, 3 Retain As Published, 4-5 Retain Handling; 6 and 7 are 0."""
    subscribes = seen("subscribe_with_every_option").all(wire.SUBSCRIBE)
    expected = [
        qos | no_local << 2 | as_published << 3 | handling << 4
        for qos in range(3)
        for no_local in (0, 1)
        for as_published in (0, 1)
        for handling in range(3)
    ]
    assert [p.filters for p in subscribes] == [[(b"a/b", options)] for options in expected]
    assert len({p.pid for p in subscribes}) == len(expected)


def test_disconnect_is_the_last_packet_and_the_socket_is_closed():
    connection = seen("end")
    assert connection.names() == ["CONNECT", "PUBLISH", "DISCONNECT"]
    assert connection.received[-1].reason == 0x04
    assert connection.ended == "fin"
