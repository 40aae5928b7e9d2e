"""What the demo prints: steps, lines, the SCRAM messages, the outcome of the search. For a terminal and for a
log file alike: nothing moves, and no line depends on colours.

It must never be given a password or key to print.
"""

import signal
import time
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from tools.demo import login
from tools.demo.lines import DemoError


class Show:
    """Prints to stdout. where: the step that is going on, for the text of an error."""

    def __init__(self, steps):
        self.console = Console(markup=False, highlight=False, soft_wrap=True)
        self.where = "start"
        self._steps, self._step, self._began = steps, 0, time.monotonic()

    @contextmanager
    def step(self, title, seconds):
        """One step, with its heading. It may last `seconds`; then whatever waits is interrupted by a DemoError."""

        def too_late(*_):
            raise DemoError(f"not done within {seconds} s")

        self.where = title
        self._step += 1
        self.console.print()
        self.console.print(f"[{self._step}/{self._steps}] {title}", style="bold cyan")
        signal.signal(signal.SIGALRM, too_late)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def line(self, text, style=None):
        self.console.print("  " + text, style=style)

    def good(self, text):
        self.line("ok: " + text, "green")

    def board(self, text):
        """Something that the board printed."""
        self.line("the board prints: " + text, "bold")

    def message(self, number, message):
        """One of the four SCRAM messages, taken apart."""
        way, name, packet, purpose, meanings = login.STEPS[number]
        self.console.print()
        self.line(f"{number + 1}  {way}   {name}, in {packet}", "bold yellow")
        self.line(f"   {purpose}")
        for meaning, part in login.parts(message, meanings):
            self.line(f"   {meaning + ':':<42} {part}")

    def searched(self, columns, rows):
        """The outcome of the search. columns: what was searched; rows: [(what, [where it was found, ...])]."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for heading in ["  searched for", *columns]:
            table.add_column(heading)
        for what, found in rows:
            table.add_row("  " + what, *found)
        self.console.print(table, soft_wrap=False)

    def end(self):
        seconds = time.monotonic() - self._began
        self.console.print()
        self.console.print(f"demo: all {self._steps} steps held, in {seconds:.1f} s", style="bold green")

    def failed(self, error):
        """The details first (a broker's error brings the end of its log), then one clear line."""
        first, _, details = str(error).partition("\n")
        if details:
            self.console.print(details, style="dim")
        self.console.print(f"demo: failed at {self.where!r}: {first}", style="bold red")
