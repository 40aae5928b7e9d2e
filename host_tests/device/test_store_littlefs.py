# The store on the file system that boards have: MicroPython's LittleFS, on flash that loses its power in the middle
# of any write or erase; and how much it wears that flash.
import micropython  # noqa: F401

from blocks import Disk, PowerCut
from deal import Book, Broker, Device, live
from umqtt5.outbox import Outbox
from umqtt5.store import Store

SCRIPT = [
    ("connect", b"0"),
    ("out", b"1a"),
    ("out", b"2a"),
    ("in", b"2A"),
    ("off", b"0"),
    ("out", b"2b"),
    ("in", b"2B"),
    ("connect", b"0"),
    ("in", b"1A"),
    ("out", b"2c"),
    ("flush", b"0"),
    ("in", b"2C"),
]


def run(disk, cut_at):
    """True where the power failed."""
    book, broker, steps = Book(), Broker(), list(SCRIPT)
    lives = []

    def make():
        device = Device(broker, 200, path="/flash/s", handled=book.handled)
        lives.append(device)
        if len(lives) > 1:
            device.connect()
        return device

    failed = False
    disk.clear()
    disk.mount(cut_at)
    try:
        live(book, broker, steps, make)
    except PowerCut:
        failed = True
        lives[-1].store.log._close()  # now, while its flash is dead: the collector may not call Python
    disk.mount()
    device = live(book, broker, steps, make)
    device.connect()
    book.check(broker, device)
    return failed


def test_power_cut_in_every_write_and_erase():
    disk = Disk(512, 40)
    cut = 1
    while run(disk, cut):
        cut += 1
    assert cut > 50, cut


def worn(what, progsize, messages=400):
    """(bytes given to the file, flushes, erases, bytes written to flash) a message, of 10 bytes of topic, 20 of
    payload."""
    disk = Disk(progsize=progsize)
    blocks = disk.mount()
    broker = Broker()
    device = Device(broker, 4096, path="/flash/s")
    device.connect()
    log = device.store.log
    device.publish(b"1", 1)
    start = log.written, log.syncs, blocks.erases, blocks.bytes
    for i in range(messages):
        what(device, b"%020d" % i)
    end = log.written, log.syncs, blocks.erases, blocks.bytes
    return [(end[i] - start[i]) / messages for i in range(4)]


def out(qos):
    def publish(device, payload):
        e = device.e
        e.out_topic, e.out_msg, e.out_props, e.out_flags = b"0123456789", payload, None, qos << 1
        e.session.release(e.publish())
        device.exchange()

    return publish


def through_outbox(device, payload):
    device.outbox.put(b"0123456789", payload, 2)
    device.exchange()


def receive(device, payload):
    device.receive(payload, 2)


# By kind: bytes, flushes, erases, as the docstring of store.py says them; with what writing anew adds.
EXPECTED = {
    "QoS 1 out": (out(1), 49, 1),
    "QoS 2 out": (out(2), 57, 2),
    "QoS 1 by the outbox": (through_outbox, 64, 2),
    "QoS 2 in": (receive, 16, 2),
}


def test_wear():
    for progsize in (32, 256):
        for name, (what, size, flushes) in EXPECTED.items():
            written, syncs, erases, programmed = worn(what, progsize)
            print(
                "%-20s progsize %3d: %5.1f B, %4.2f flushes, %4.2f erases, %5.0f B programmed"
                % (name, progsize, written, syncs, erases, programmed)
            )
            assert size <= written <= size * 1.1 + 2, (name, written)
            assert flushes <= syncs <= flushes * 1.05, (name, syncs)
            assert erases <= flushes * 1.3, (name, erases)


def test_an_idle_session_wears_nothing():
    disk = Disk()
    blocks = disk.mount()
    device = Device(Broker(), 4096, path="/flash/s")
    for _ in range(5):
        device.connect()
        device.receive(b"0a", 0)
        device.receive(b"1a", 1)
        device.publish(b"0a", 0)
    assert blocks.erases == blocks.writes == device.store.log.syncs == 0


def test_full_littlefs():
    """A real ENOSPC: StoreError; what was kept is kept; and it goes on when there is room."""
    disk = Disk(512, 16)
    disk.mount()
    device = Device(Broker(), 4096, path="/flash/s")
    with open("/flash/other", "wb") as f:
        try:
            while True:
                f.write(b"x" * 256)
                f.flush()
        except OSError:
            pass
    kept = 0
    error = None
    for i in range(50):
        try:
            device.outbox.put(b"t", b"2%03d" % i + b"x" * 200, 4)
            kept += 1
        except Exception as e:
            error = e
    assert "full" in str(error), error
    with open("/flash/other", "wb"):
        pass
    device.outbox.full = "raise"
    device.outbox.put(b"t", b"2end", 4)
    disk.mount()
    o = Outbox()
    Store("/flash/s").attach(o)
    assert [e[3][:4] for e in o.entries()][-1] == b"2end" and len(o) == kept + 1
