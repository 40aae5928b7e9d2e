"""docs/asyncio.md: every block of code in it runs in MicroPython, with the real broker, so that the page cannot rot.

Only names are put in the place of others: where "broker.example" is, and the password.
"""

import re

import pytest
from harness.aio import AioBoard
from harness.micropython import ROOT
from harness.peer import Peer
from harness.proxy import OUT, Proxy
from harness.wire import SUBSCRIBE

PAGE = (ROOT / "docs" / "asyncio.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
START = """
import umqtt5.aio_driver as driver
os.chdir(folder)
real = driver.addresses
driver.addresses = lambda host, port: real("127.0.0.1", {"broker.example": port0, "backup.example": port1}[host])
names = globals()
names["auth"] = ScramSHA256("device1", password)
names["said"] = []
names["print"] = lambda *words: said.append(" ".join(str(w) for w in words))
from umqtt5.outbox import Outbox
from umqtt5.store import Store
names["Outbox"] = Outbox
names["Store"] = Store
"""
NOBODY = 1  # a port where nobody listens


def block(word):
    """The one block of the page that has this word."""
    found = [text for text in BLOCKS if word in text]
    assert len(found) == 1, (word, len(found))
    return found[0]


def run(board, source):
    board.run("exec(source, globals())", source=source)


@pytest.fixture
def made(tmp_path, passwords):
    """made(port, port of the backup): a board that knows the names of the page."""
    boards = []

    def make(port, backup=NOBODY):
        board = AioBoard().__enter__()
        boards.append(board)
        board.run(START, folder=str(tmp_path), port0=port, port1=backup, password=passwords["device1"])
        return board

    yield make
    for board in boards:
        board.__exit__()


def test_all_blocks_are_run_here():
    assert len(BLOCKS) == 6


def test_quick_start(made, broker):
    source = block("async def main").replace('"the password"', "password")
    assert source.count("asyncio.run(main())") == 1 and "password)" in source
    board = made(broker.port)
    with Peer(broker.plain_port) as peer:
        peer.subscribe("device1/#")
        run(board, source.replace("asyncio.run(main())", "running = spawn(main())"))
        assert peer.receive().payload == b"online"
        peer.publish("device1/command/led", b"on", 1)
        while (p := peer.receive()).topic != b"device1/answer":
            pass
        assert p.payload == b"done: on"
        peer.publish("device1/status", b"", retain=True)
    assert board.get("said") == ("connected False", "b'device1/command/led' b'on'")


def test_events_and_a_list_of_brokers(made, broker):
    with Proxy(broker.port) as proxy:
        board = made(NOBODY, proxy.port)
        run(board, block("def told"))
        board.run("client._backoff = quick()\nawait client.connect()\nassert client.state == 'up'")
        proxy.cut()
        board.wait_for("len(said) > 4 and client.connected")
        board.run("await client.disconnect()\nassert client.state == 'closed'")
    said = board.get("said")
    assert said[0].startswith("no connection: OSError") and said[1] == "next attempt in 0 ms", said
    assert said[2] == "up; the broker has kept our session: False" and said[3].startswith("no connection: "), said
    assert said[-1] == "up; the broker has kept our session: True", said


def test_outbox(made, broker):
    board = made(broker.port)
    with Peer(broker.plain_port) as peer:
        peer.subscribe("page/outbox")
        run(board, block('full="oldest"'))
        board.run(
            """
            for i in range(25):
                client.state == "closed" and client.start()
                await client.publish("page/outbox", b"%d" % i, qos=1, wait=False)
            await client.flush()
            await client.disconnect()
            """
        )
        assert [peer.receive().payload for _ in range(20)] == [b"%d" % i for i in range(5, 25)]


def test_store(made, broker):
    source = block('Store("mqtt.log")')
    board = made(NOBODY)
    run(board, source)
    board.run("client.start()\nfor i in range(3): await client.publish('page/store', b'%d' % i, qos=2, wait=False)")
    board = made(broker.port)
    with Peer(broker.plain_port) as peer:
        peer.subscribe("page/store", 2)
        run(board, source)
        board.run("client.start()\nawait client.flush()\nawait client.disconnect(session_expiry=0)")
        assert [peer.receive().payload for _ in range(3)] == [b"0", b"1", b"2"]


def test_deep_sleep(made, broker):
    source = "def command(m): inbox.append(m.payload)\n" + block("async def wake_up")
    with Proxy(broker.port) as proxy, Peer(broker.plain_port) as peer:
        peer.subscribe("device1/reading")
        lives = []
        for port in (NOBODY, proxy.port, proxy.port):
            board = made(port)
            # Without a broker nobody has to wait for so long here.
            run(board, source if port != NOBODY else source.replace("timeout=20", "timeout=0.2"))
            board.run("await wake_up()")
            lives.append((len(proxy.link.packets(OUT, {SUBSCRIBE})) if port != NOBODY else 0, board.get("inbox")))
            if port != NOBODY:
                proxy.wait_ended()
                peer.publish("device1/command/x", b"%d" % len(lives), 1)
        assert lives == [(0, ()), (1, ()), (0, (b"2",))]
        assert [peer.receive().payload for _ in range(3)] == [b"21.5"] * 3
        board.run(
            """
            c = MQTTClient("device1", "broker.example", auth=auth)
            await c.connect()
            await c.disconnect(session_expiry=0)
            """
        )


def test_watchdog(made, broker):
    board = made(broker.port)
    run(board, block("async def watch"))
    board.run(
        """
        class WDT:
            fed = 0
            def feed(self):
                self.fed += 1
        wdt = WDT()
        client = MQTTClient("device1", "broker.example", auth=auth)
        await client.connect()
        t = spawn(watch(client, wdt))
        await until(lambda: wdt.fed > 1)
        client._keeper.cancel()  # as if it had died
        await asyncio.sleep_ms(0)
        fed = wdt.fed
        await asyncio.sleep_ms(1100)
        assert wdt.fed == fed and not client.healthy()
        """
    )
