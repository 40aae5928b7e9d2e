"""`make demo` (TLS=1: over TLS): the main job, end to end, with nothing but real parts.

A broker (mosquitto with our SASL plugin), a user with a random password, provisioning, flashing by mpremote onto
a virtual board, its login by SCRAM-SHA-256 as a proxy on the wire sees it, its readings as mosquitto_sub sees
them, a command, a cut connection; then the proof that the password is neither on the board nor on the wire.
It ends by itself: code 0 if every step held, 1 with one line that says which did not, 130 on Ctrl-C.
It must never show the password, leave a process behind, or wait without a deadline.

    python -m tools.demo [--tls] [--state DIR]
"""

import argparse
import os
import signal
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from tools.demo.lines import DemoError
from tools.demo.packets import NotReadable
from tools.demo.show import Show
from tools.demo.steps import STEPS, Demo
from tools.devbroker import BrokerError
from tools.devbroker.build import BuildError
from tools.flash import FlashError
from tools.provision import ProvisionError

STATE = Path(__file__).resolve().parents[2] / "build" / "demo"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What can go wrong with the parts that the demo is made of.
EXPECTED = (
    BrokerError,
    BuildError,
    DemoError,
    FlashError,
    NotReadable,
    OSError,
    ProvisionError,
    RuntimeError,
    subprocess.SubprocessError,
)


def _interrupted(*_):
    raise KeyboardInterrupt


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tls", action="store_true", help="over TLS")
    parser.add_argument("--state", type=Path, default=STATE, help="a folder of its own (build/demo)")
    given = parser.parse_args(arguments)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup it is
            signal.signal(number, _interrupted)
    os.environ.pop("UMQTT5_PASSWORD", None)  # of another user: provisioning would prefer it
    show = Show(STEPS)
    try:
        with ExitStack() as stack:
            try:
                Demo(given.state.resolve(), given.tls, show, stack).run()
            finally:
                _leave_me_alone()  # everything that was started is ended now, by its own id
    except EXPECTED as error:
        show.failed(error)
        return 1
    except Exception as error:
        show.failed(f"a mistake in the demo itself: {type(error).__name__}\n{traceback.format_exc()}")
        return 1
    except KeyboardInterrupt:
        show.console.print("demo: interrupted; all that it started was ended", style="bold red")
        return 130
    show.end()
    return 0


def _leave_me_alone():
    """A second Ctrl-C must not cut the clearing up short."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
