"""The asyncio client in MicroPython, held by the hand: harness/remote.py's Board, with another program.

    with AioBoard(port=proxy.port) as board:
        board.run("await c.connect()")
        board.start("await c.publish('t', b'x', qos=2)")    # goes on by itself
        assert board.get("await c.flush()") is None

A piece is the body of an `async def`; it sees its own locals, and the program's names: `c` (the client), `log` (what
on_event was told), `inbox` (what the handler `note` got), `until(condition)`, `spawn(coro)`, `events(name)`.
"""

import textwrap

from harness.remote import Board


class AioBoard(Board):
    """See remote.Board. `options`: keyword arguments of the client; `auth`: (user, password) for SCRAM-SHA-256.
    Waits between attempts are short."""

    script = "client_aio.py"

    def make(self, port, client_id="board", **options):
        self.run(
            """
            global c
            options.setdefault("backoff", quick())
            if options.get("auth"):
                options["auth"] = ScramSHA256(*options["auth"])
            server = options.pop("server", "127.0.0.1")
            c = MQTTClient(client_id, server, port, on_event=told, **options)
            """,
            port=port,
            client_id=client_id,
            options=options,
        )

    def start(self, code, **values):
        super().start(textwrap.dedent(code).strip(), **values)

    def get(self, expression, **values):
        return self.run("return " + expression, **values)

    def events(self):
        """What on_event has told so far: [(name, value)]; exceptions by their names."""
        return list(self.get("log"))

    def wait_for(self, condition, ms=5000):
        """Until a condition (an expression of the board's) holds."""
        self.run(f"await until(lambda: {condition}, {ms})")
