"""A publisher: topic and properties of a PUBLISH encoded once, for a topic that is published to again and again.

Loaded with the first client.publisher().
"""

from micropython import const

from .codec import put_data, put_vbi, vbi_size
from .errors import wrong

_UP = const(2)  # as in reader.py

# Texts of errors: see texts.py.
_QOS = const(26)


class Publisher:
    """Made by client.publisher(); it stays good over reconnects."""

    def __init__(self, client, topic, qos, retain, props):
        e = client._engine
        if qos not in (0, 1, 2):
            raise wrong(_QOS)
        self._client = client
        self._engine = e
        self._topic = topic = e.topic(topic)
        self._props = props = e.properties(props, 3)
        self._qos = qos
        self._retain = 1 if retain else 0
        # At QoS 0 no packet identifier stands between topic and properties.
        head = bytearray(2 + len(topic) + vbi_size(len(props)) + len(props))
        i = put_vbi(head, put_data(head, 0, topic), len(props))
        head[i:] = props
        self.head = bytes(head)

    def publish(self, msg):
        """Publish `msg` (str or bytes), as client.publish() does. Allocates nothing where msg is bytes."""
        e = self._engine
        if (e.prepared is self or self._prepare(e)) and self._client._push(msg) is not None:
            if e.left:
                self._client._flush(None)
            return None
        return self._client.publish(self._topic, msg, self._retain, self._qos, self._props)

    def _prepare(self, e):
        """Put a PUBLISH (3.3) at QoS 0 into tx, whole but for its length and payload. False, and nothing is done,
        where that cannot be."""
        if self._qos or e.state != _UP or e.authenticating or (self._retain and not e.retain_available):
            return False
        if e.left or e.pending:
            self._client._flush(None)
        n = len(self.head) + 2
        if n > e.prepared_most or e.pending:
            return False
        e.prepared = None  # where Ctrl-C comes before the end
        e.tx[0] = 0x30 | self._retain
        e.tx[2:n] = self.head
        e.prepared = self
        e.prepared_flags = self._retain
        e.prepared_at = n
        return True


class Lasting:
    """A Publisher over any number of connections: what robust's client.publisher() makes. ended: the exceptions that
    say that the connection is gone."""

    def __init__(self, client, inner, ended):
        self._client = client
        self._inner = inner
        self._ended = ended

    def publish(self, msg):
        """Publish `msg`, as client.publish() does."""
        client = self._client
        inner = self._inner
        try:
            if client.sock is not None and not client._outbox:  # what waits there goes first
                return inner.publish(msg)
        except self._ended as x:
            client._lost(x)
        return client.publish(inner._topic, msg, inner._retain, inner._qos, inner._props)
