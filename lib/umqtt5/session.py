"""What outlives a connection (MQTT 5.0, 4.1): packet identifiers, messages in flight, subscriptions.

Every table is made once, in its full size (make.session()). Nothing here knows of sockets, of buffers, or of time.
"""

from micropython import const

# What a slot of the table waits for.
_FREE = const(0)
_PUBACK = const(1)
_PUBREC = const(2)
_PUBCOMP = const(3)
_SUBACK = const(4)
_UNSUBACK = const(5)
DONE = const(6)  # answered; `reason` is kept until the caller that waits has taken it


class Session:
    """The slots of packets in flight. A slot is found by its packet identifier without a search: identifier modulo
    the number of slots. `topic`, `msg` and `props` hold references to the caller's objects, not copies."""

    # How many more than our Receive Maximum are borne: mosquitto 2.0.11 sends the next message at QoS 2 when it has
    # the PUBREC, not the PUBCOMP; half of a long queue can be open at once.
    grace = 1000

    store = None  # see store.py

    def take(self, state):
        """A free slot with the next packet identifier (1..65535, those in use skipped), or -1: all are in use."""
        n = len(self.state)
        pid = self.last
        for _ in range(2 * n):  # n identifiers in a row meet every slot; twice, since 65535 -> 1 may skip some
            pid = pid % 65535 + 1
            i = pid % n
            if not self.state[i]:
                self.last = pid
                self.pid[i] = pid
                self.state[i] = state
                self.waited[i] = 1
                return i
        return -1

    def in_flight(self):
        """How many slots hold a PUBLISH."""
        n = 0
        for state in self.state:
            if _PUBACK <= state <= _PUBCOMP:
                n += 1
        return n

    def hold(self, i, out):
        """Slot i is for the PUBLISH that stands in out.out_topic and the others. Before it is built."""
        self.topic[i] = out.out_topic
        self.msg[i] = out.out_msg
        self.flags[i] = out.out_flags
        self.props[i] = out.out_props

    def reached(self, i):
        """PUBREC has come for slot i: from now on only PUBREL goes out (4.3.3)."""
        self.state[i] = _PUBCOMP
        self.msg[i] = self.props[i] = None

    def find(self, pid, state):
        """The slot with this packet identifier that waits for `state`, or -1."""
        i = pid % len(self.state)
        return i if self.pid[i] == pid and self.state[i] == state else -1

    def answered(self, i, reason):
        """The last packet about slot i has come."""
        self.topic[i] = self.msg[i] = self.props[i] = None
        self.reason[i] = reason
        self.state[i] = DONE if self.waited[i] else _FREE
        if self.waiters:
            self.waiters.answered(i, reason)

    def release(self, i):
        """The caller does not wait for slot i any longer. It is freed at once, or when its answer comes."""
        self.waited[i] = 0
        if self.state[i] == DONE:
            self.state[i] = _FREE

    def forget_connection(self):
        """The connection is gone: nobody answers SUBSCRIBE and UNSUBSCRIBE any more."""
        self.usual = None
        for i in range(len(self.state)):
            if self.topic[i] is None:  # or a PUBLISH that Ctrl-C has cut short on its way into the table, or out
                self.state[i] = _FREE
            self.waited[i] = 0
            self.flags[i] &= 7
        for i in range(len(self.counted)):
            self.counted[i] = 0

    def forget_received(self):
        """The session is gone: what the broker sends now is new."""
        for i in range(len(self.received)):
            self.received[i] = 0
        self.receiving = 0
        self.top_id = 0
