"""What a process says, kept as it comes, with waits that have a deadline; and the demo's own error.

It must never print anything itself: the demo decides what is shown.
"""

import threading
import time


class DemoError(Exception):
    """A step of the demo did not hold; the text is one clear line, without any secret."""


class Lines:
    """A growing list that one thread adds to and another one waits on. who: for the text of an error."""

    def __init__(self, who):
        self.who = who
        self.items = []
        self._changed = threading.Condition()

    def add(self, item):
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, what, find, timeout, since=0):
        """Waits until find(items[since:]) gives something true; returns that. DemoError after `timeout`
        seconds, or at once where `find` raises it."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (found := find(self.items[since:])):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    said = " | ".join(str(item) for item in self.items[since:][-3:]) or "nothing"
                    raise DemoError(f"{what} did not come within {timeout} s; {self.who} said: {said}")
        return found
