"""A publisher: topic and properties of a PUBLISH encoded once, for a topic that is published to again and again.

Loaded with the first client.publisher().
"""

from micropython import const

from .codec import put_data, put_vbi, vbi_size
from .driver import repeat
from .errors import wrong
from .reader import UP

# Texts of errors: see texts.py.
_QOS = const(26)


class Publisher:
    """Made by client.publisher(); it stays good over reconnects."""

    def __init__(self, client, topic, qos, retain, props):
        e = client._engine
        if not 0 <= qos <= 2:
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
        if e.prepared is self and repeat(e, msg) is not None:  # tx had all but the payload
            return None
        if self._qos or e.state != UP or e.authenticating or (self._retain and not e.retain_available):
            return self._client.publish(self._topic, msg, self._retain, self._qos, self._props)
        if isinstance(msg, str):
            msg = msg.encode()
        elif type(msg) is not bytes:
            memoryview(msg)  # TypeError for a dict
        if e.left or e.pending:
            self._client._flush(None)
        if self._put(e, msg):
            self._client._flush(None)
            return None
        return self._client.publish(self._topic, msg, self._retain, 0, self._props)

    def _put(self, e, msg):
        """Build the PUBLISH (3.3) at QoS 0. False, and nothing is built, where it does not fit tx, or is larger than
        the broker allows."""
        tx = e.tx
        i = len(self.head)
        n = i + len(msg)
        at = 2 if n < 128 else 1 + vbi_size(n)
        if at + n > len(tx) or at + n > e.max_out:
            return False
        tx[0] = 0x30 | self._retain
        put_vbi(tx, 1, n)
        i += at
        n += at
        e.prepared = None  # before what may raise: tx is no longer what it was
        tx[at:i] = self.head
        tx[i:n] = msg
        e.off = 0
        e.left = n
        if n < 130 and not e.pending:
            e.prepared = self
            e.prepared_flags = self._retain
            e.prepared_at = i
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
