# The limit: a blocking socket and MQTT 5.0 packets that were built beforehand. What any client must do at the least,
# and nothing else: no check, no deadline. The packets are those of the client: the same bytes, without a topic alias.
import socket


def field(data):
    return bytes((len(data) >> 8, len(data) & 255)) + data


def packet(header, body):
    assert len(body) < 128
    return bytes((header, len(body))) + body


def publish(topic, msg, qos=0, pid=1):
    pid = bytes((pid >> 8, pid & 255)) if qos else b""
    return packet(0x30 | qos << 1, field(topic) + pid + b"\0" + msg)


class Bare:
    def __init__(self, host, port, name):
        self.sock = socket.socket()
        self.sock.connect(socket.getaddrinfo(host, port)[0][-1])
        self.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        self.buf = bytearray(256)
        self.sock.write(packet(0x10, b"\0\4MQTT\5\2\0\0\0" + field(name)))
        self.answer(0x20)

    def answer(self, header):
        """Read one packet, which must be of this type -> its size in bytes."""
        self.sock.readinto(self.buf, 2)
        assert self.buf[0] == header, hex(self.buf[0])
        n = self.buf[1]
        if n:
            self.sock.readinto(self.buf, n)
        return 2 + n

    def subscribe(self, topic, qos, ident=0):
        props = bytes((2, 0x0B, ident)) if ident else b"\0"
        self.sock.write(packet(0x82, b"\0\1" + props + field(topic) + bytes((qos,))))
        self.answer(0x90)

    def drain(self):
        """Until the broker has read all that was written."""
        self.sock.write(b"\xc0\0")
        self.answer(0xD0)

    def deliver(self, data, qos):
        """Publish, until the broker has it for good."""
        self.sock.write(data)
        if qos == 1:
            self.answer(0x40)
        elif qos == 2:
            self.answer(0x50)
            self.sock.write(b"\x62\2\0\1")  # PUBREL
            self.answer(0x70)

    # --- what is timed

    def publish0(self, data, n):
        write = self.sock.write
        for _ in range(n):
            write(data)

    def ack_size(self, data):
        """How long the PUBACK for this is: mosquitto says where nobody has subscribed."""
        self.sock.write(data)
        return self.answer(0x40)

    def publish1(self, data, ack, n):
        write = self.sock.write
        readinto = self.sock.readinto
        buf = self.buf
        for _ in range(n):
            write(data)
            readinto(buf, ack)

    def pipeline1(self, data, ack, n):
        # data: packets with as many identifiers as may be in flight.
        window = len(data)
        write = self.sock.write
        readinto = self.sock.readinto
        buf = self.buf
        for i in range(n):
            if i >= window:
                readinto(buf, ack)
            write(data[i % window])
        for _ in range(window):
            readinto(buf, ack)

    def receive0(self, size, n):
        readinto = self.sock.readinto
        buf = self.buf
        for _ in range(n):
            readinto(buf, size)

    def receive1(self, size, at, n):
        # `at`: where the packet identifier stands. The acknowledgement is built in place.
        readinto = self.sock.readinto
        write = self.sock.write
        buf = self.buf
        ack = bytearray(b"\x40\2\0\0")
        for _ in range(n):
            readinto(buf, size)
            ack[2] = buf[at]
            ack[3] = buf[at + 1]
            write(ack)
