"""The dev broker: run it, add users, list them.

Never takes a password as an argument, never shows keys.
"""

import argparse
import getpass
import os
import secrets
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.devbroker import users
from tools.devbroker.broker import LISTENERS, Broker, BrokerError
from tools.devbroker.build import BuildError

STATE = Path("build/broker")
MECHS = (*users.SCRAM, users.CLEAR, users.TOKEN)

console = Console()
errors = Console(stderr=True)


def main(arguments=None):
    about = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tools.devbroker", description=about)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state", type=Path, default=STATE, help="its folder (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", parents=[common], help="run the broker until Ctrl-C")
    run.add_argument("--port", type=int, default=1883, help="first of five consecutive ports (default: %(default)s)")
    run.add_argument("--mechs", help=f"SASL mechanisms to offer, with commas between (default: {', '.join(MECHS)})")
    add = commands.add_parser("adduser", parents=[common], help="add a user, or give one a new password")
    add.add_argument("name")
    add.add_argument("--iterations", type=int, default=4096, help="PBKDF2 rounds (default: %(default)s)")
    add.add_argument("--digest-md5", action="store_true", help="for DIGEST-MD5 too: keeps the password in clear")
    add.add_argument("--token", action="store_true", help="for TOKEN alone; the token, kept in clear, for a password")
    commands.add_parser("users", parents=[common], help="list the users")
    options = parser.parse_args(arguments)
    try:
        {"run": _run, "adduser": _adduser, "users": _users}[options.command](options)
    except KeyboardInterrupt:
        console.print("\nended")
    except (BrokerError, BuildError, ValueError, OSError) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    return 0


def _run(options):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the broker in good order
    mechs = options.mechs.replace(",", " ").split() if options.mechs else MECHS
    with Broker(state_dir=options.state, ports=options.port, mechs=mechs) as broker:
        table = Table(title=f"dev broker, process {broker.pid}", title_justify="left")
        table.add_column("address")
        table.add_column("who gets in")
        for name, what in LISTENERS.items():
            table.add_row(f"{broker.host}:{getattr(broker, name)}", what)
        console.print(table)
        _users(options)
        state = "" if options.state == STATE else f" --state {options.state}"
        console.print(f"Add a user: build/venv/bin/python -m tools.devbroker adduser NAME{state}", soft_wrap=True)
        console.print(f"CA for the TLS port: {broker.ca_der} (.pem beside it)", soft_wrap=True)
        console.print(f"Log: {broker.log_path}\nCtrl-C ends it.", soft_wrap=True)
        broker.wait()  # if it ever ends by itself, leaving the block says so


def _adduser(options):
    users.check_name(options.name)  # before asking for anything
    password = os.environ.get("UMQTT5_PASSWORD") or _ask_password(options.name)
    mechanisms = [*users.SCRAM, *([users.CLEAR] if options.digest_md5 else [])]
    if options.token:
        mechanisms = [users.TOKEN]
    path = options.state / "users.txt"
    users.add(path, options.name, password, options.iterations, mechanisms=mechanisms)
    names = escape(", ".join(mechanisms))
    count = "" if options.token else f", {options.iterations} iterations"
    console.print(
        f"{escape(options.name)} can log in now: {names}{count}. "
        "What a board got before no longer fits: provision it again.",
        soft_wrap=True,
    )


def _ask_password(name):
    if not sys.stdin.isatty():
        raise ValueError("no password: set UMQTT5_PASSWORD, or run this at a terminal to be asked for one")
    first = getpass.getpass(f"Password of {name} (empty: a random one of 128 bits): ")
    if not first:
        password = secrets.token_urlsafe(16)
        console.print("The password, shown this once: ", end="")
        print(password)
        return password
    if getpass.getpass("Once more: ") != first:
        raise ValueError("the two passwords differ; nothing was changed")
    return first


def _users(options):
    known = users.read(options.state / "users.txt")
    if not known:
        console.print("No users yet.")
        return
    table = Table(title="users of the SASL ports", title_justify="left")
    for column in ("user", "mechanism", "iterations"):
        table.add_column(column)
    for user in known:
        for mechanism, iterations in user.mechanisms.items():
            table.add_row(escape(user.name), mechanism, iterations or "(in clear)")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
