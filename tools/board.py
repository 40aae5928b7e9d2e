"""boards/NAME/board.toml -> a Board. Knows nothing of serial ports, and of no broker.

A board.toml says what goes onto a board of that kind; every name in it is checked, so that a slip of the
pen is an error and not a setting that silently does nothing.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOARDS = ROOT / "boards"


class BoardError(Exception):
    """The board's name or its board.toml is wrong; the text says what and how to cure it."""


@dataclass(frozen=True)
class Board:
    """What board.toml says.

    name: the folder's name. platform: `sys.platform` of its firmware. march: mpy-cross' architecture for
    native code, "" for bytecode only. modules: packages of lib/ ("umqtt5") or single modules
    ("usasl.scram") to install. exclude: modules left out of them. umqtt: upstream's umqtt.simple and
    umqtt.robust beside ours. wifi: it has WiFi to bring up (wifi.py goes onto it). romfs: the modules go into its
    ROMFS partition, not to /lib.
    """

    name: str
    platform: str
    march: str = ""
    modules: list = field(default_factory=lambda: ["umqtt5", "usasl"])
    exclude: list = field(default_factory=list)
    umqtt: bool = False
    wifi: bool = True
    romfs: bool = False


def no_access(error):
    """The text for an OSError of a file or folder on this computer."""
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, PermissionError):
        text += ". Does it belong to another user (sudo)? Give it to yourself: sudo chown"
    return text


def names():
    """The boards that there are (list of str)."""
    return sorted(p.parent.name for p in BOARDS.glob("*/board.toml"))


def load(name):
    """Board of that name; BoardError if there is none or its board.toml is wrong."""
    if name not in names():
        raise BoardError(f"no board {name!r}: boards/ has {', '.join(names())}")
    path = BOARDS / name / "board.toml"
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as e:
        raise BoardError(f"boards/{name}/board.toml is no TOML: {e}")
    fields = Board.__dataclass_fields__
    for key, value in values.items():
        if key not in fields or key == "name":
            known = ", ".join(k for k in fields if k != "name")
            raise BoardError(f"boards/{name}/board.toml: unknown name {key!r}; known are {known}")
        wanted = getattr(fields[key].type, "__name__", fields[key].type)
        if type(value).__name__ != wanted:
            raise BoardError(f"boards/{name}/board.toml: {key} must be a {wanted}")
    if "platform" not in values:
        raise BoardError(f"boards/{name}/board.toml: platform is missing (sys.platform of its firmware)")
    return Board(name=name, **values)
