"""A scripted server for tests with a harness.remote.Board, and what its scripts say again and again."""

from harness import wire
from harness.scripted import ScriptedServer, Unexpected


class Server(ScriptedServer):
    """A ScriptedServer that adds its own side of the story to whatever the test failed with; and finish() fails where
    a script did not come to its end."""

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        if error:
            seen = [f"\n  {c.names()} {c.error or ''} {c.broken or ''}" for c in self.connections]
            error.add_note(f"the server saw: {self._failure or ''}{''.join(seen)}")

    def finish(self, timeout=5):
        connections = super().finish(timeout)
        for c in connections:
            assert c.error is None and c.broken is None, (c.error, c.broken, c.names())
        return connections


def within(conn, seconds):
    """The client's next packet, or None where none comes for so long."""
    try:
        return conn.next(seconds)
    except Unexpected:
        return None


def nothing(conn, seconds=0.15):
    """The client must send nothing for so long."""
    p = within(conn, seconds)
    assert p is None, f"the client sent {p}"


def complete(conn, p):
    """The acknowledgements of a PUBLISH, as an honest broker gives them."""
    if p.qos == 1:
        conn.send(wire.ack(wire.PUBACK, p.pid))
    elif p.qos == 2:
        conn.send(wire.ack(wire.PUBREC, p.pid))
        assert conn.expect(wire.PUBREL).pid == p.pid
        conn.send(wire.ack(wire.PUBCOMP, p.pid))


def subscribed(conn):
    """Answer a SUBSCRIBE: its packet."""
    s = conn.expect(wire.SUBSCRIBE)
    conn.send(wire.ack(wire.SUBACK, s.pid, s.filters[0][1] & 3))
    return s
