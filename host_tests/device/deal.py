# A broker and a device that deal in numbered messages, without a socket; the device may lose its power at any step
# of its flash, and comes back on its store. All is booked: who sent what, who got what, how often.
from umqtt5.outbox import Outbox
from umqtt5.protocol import Engine
from umqtt5.reader import UP
from umqtt5.store import Store, StoreError
from wire import packet, publish


class Broker:
    """It keeps its word for ever, and uses the lowest packet identifier that is free: one that the device has not
    forgotten in time shows at once."""

    def __init__(self):
        self.present = False
        self.got = []  # payloads delivered
        self.open = {}  # QoS 2 in: payload by packet identifier
        self.out = {}  # packet identifier: [qos, payload, released]
        self.order = []
        self.resent = False
        self.broken = []

    def connected(self):
        """The packets that a connection begins with."""
        answers = [packet(0x20, bytes((self.present, 0, 0)))]
        self.present = True
        for pid in self.order:
            qos, payload, released = self.out[pid]
            answers.append(packet(0x62, _pid(pid)) if released else publish(b"in", payload, qos, pid, 8))
        return answers

    def send(self, payload, qos):
        if not qos:
            return publish(b"in", payload)
        pid = 1
        while pid in self.out:
            pid += 1
        self.out[pid] = [qos, payload, False]
        self.order.append(pid)
        return publish(b"in", payload, qos, pid)

    def take(self, data):
        """A packet of the device's: the answers."""
        kind = data[0] >> 4
        if kind == 1:
            return self.connected()
        body = data[2:]
        if kind == 3:
            n = body[0] << 8 | body[1]
            qos = data[0] >> 1 & 3
            rest = body[2 + n :]
            if not qos:
                self.got.append(rest[1:])
                return []
            pid = rest[0] << 8 | rest[1]
            payload = rest[3:]
            if qos == 1:
                self.got.append(payload)
                return [packet(0x40, _pid(pid))]
            if pid not in self.open:
                self.open[pid] = payload
                self.got.append(payload)
            elif self.open[pid] != payload:
                self.broken.append((pid, self.open[pid], payload))
            return [packet(0x50, _pid(pid))]
        pid = body[0] << 8 | body[1]
        if kind == 6:
            known = self.open.pop(pid, None) is not None
            return [packet(0x70, _pid(pid) + (b"" if known else b"\x92"))]
        if kind == 5 and pid in self.out:
            self.out[pid][2] = True
            return [packet(0x62, _pid(pid))]
        if kind in (4, 7) and pid in self.out:
            del self.out[pid]
            self.order.remove(pid)
        return []


class Device:
    """One life of the device, on this flash."""

    def __init__(self, broker, limit=200, receive_maximum=3, outbox=20, path="s", handled=None, **options):
        self.broker = broker
        self.store = Store(path, limit)
        self.outbox = Outbox(outbox)
        self.store.attach(self.outbox)
        self.e = Engine(
            "me", None, None, 60, store=self.store, receive_maximum=receive_maximum, republish=True, **options
        )
        self.e.callback = self.handler
        self.handled = [] if handled is None else handled

    def handler(self, topic, msg):
        self.handled.append(msg)
        if msg[:1] == b"2":
            self.store.keep(self.store.word + msg + b" ")

    def exchange(self, answers=()):
        """Bytes to and fro until nobody has anything to say."""
        e = self.e
        answers = list(answers)
        while True:
            while e.left or e.next() or (e.state == UP and self.outbox.feed(e)):
                data = bytes(e.out[: e.left])
                e.wrote(e.left, 0)
                answers.extend(self.broker.take(data))
            if not answers:
                return
            view = answers.pop(0)
            while view:
                n = min(e.need, len(view))
                e.into[:n] = view[:n]
                view = view[n:]
                e.got(n, 0)

    def connect(self):
        self.e.closed()
        self.e.open(0, False)
        self.exchange()
        return self

    def publish(self, msg, qos):
        """wait=False: it returns when it is sent, or waits in the outbox."""
        e = self.e
        topic = b"out"
        if e.state != UP or len(self.outbox) or not e.may_publish():
            self.outbox.put(topic, msg, qos << 1)
        else:
            e.out_topic, e.out_msg, e.out_props, e.out_flags = topic, msg, None, qos << 1
            i = e.publish()
            if i >= 0:
                e.session.release(i)
        if e.state == UP:
            self.exchange()

    def receive(self, msg, qos):
        self.exchange([self.broker.send(msg, qos)])


class Book:
    """What must have come in the end, and what may have."""

    def __init__(self):
        self.accepted = []  # publish() has returned
        self.tried = []
        self.sent = []  # by the broker
        self.handled = []  # by any life of the device

    def check(self, broker, device):
        """After the last life has done all that it owed."""
        assert not broker.broken, broker.broken
        assert not broker.open and not broker.out and not len(device.outbox) and not device.e.session.in_flight()
        assert not device.e.session.receiving
        got = broker.got
        for msg in self.accepted:
            assert msg in got or msg[:1] == b"0", ("lost", msg, got)
        for msg in got:
            assert msg in self.tried, ("invented", msg)
        for msg in self.tried:
            if msg[:1] == b"2":
                assert got.count(msg) <= 1, ("doubled", msg, got)
        twos = [m for m in got if m[:1] == b"2"]
        assert twos == [m for m in self.tried if m in twos], ("order", got)
        first = []
        for m in got:
            if m not in first:
                first.append(m)
        assert first == [m for m in self.tried if m in first], ("order", got)
        for msg in self.sent:
            if msg[:1] == b"1":
                assert msg in self.handled, ("lost", msg)
        assert device.store.word.split() == [m for m in self.sent if m[:1] == b"2"], device.store.word


def live(book, broker, steps, make):
    """One life: run the steps that are left (a list, consumed). make() gives a Device that books in
    book.handled, connected or not."""
    device = make()
    while steps:
        try:
            _step(book, broker, device, *steps.pop(0))
        except StoreError:
            device.e.closed()  # as every driver does: the error may have left in the middle of a packet
    return device


def _step(book, broker, device, kind, msg):
    qos = msg[0] - 48
    if kind == "out":
        book.tried.append(msg)
        device.publish(msg, qos)
        book.accepted.append(msg)
    elif kind == "in":
        book.sent.append(msg)
        if device.e.state == UP:
            device.receive(msg, qos)
        else:
            broker.send(msg, qos)
    elif kind == "connect":
        device.connect()
    elif kind == "off":
        device.e.closed()
    elif kind == "flush":
        device.store.flush()
    else:
        raise AssertionError(kind)


def _pid(n):
    return bytes((n >> 8, n & 255))
