"""That the password is nowhere: the table of what is searched for, and where it must and must not be.

It must never print a secret, and never call "nowhere" what a search without a positive control did not find.
"""

import base64

from tools.demo import leaks, login
from tools.demo.lines import DemoError
from tools.demo.packets import tls_records

NOWHERE = "nowhere"


def wanted(password, keys, user, tls_name):
    """[(name, bytes, must it be on the flash?, must it be in the capture?)]. keys: the entry of secrets.json;
    tls_name: the server's name where TLS is used, else None. The rows with True are the positive controls."""
    salted = login.salted_password(password, base64.b64decode(keys["salt"]), keys["iterations"])
    client_key, server_key = (base64.b64decode(keys[name]) for name in ("client_key", "server_key"))
    if login.client_key(salted) != client_key:
        raise DemoError("the keys on the board were not made of this password: searching for it proves nothing")
    open_text = tls_name is None
    rows = [
        ("password", password.encode(), False, False),
        ("SaltedPassword", salted, False, False),
        ("client key", client_key, True, False),
        ("server key", server_key, True, False),
        ("user name", user.encode(), True, open_text),
        ("method's name", login.METHOD.encode(), True, open_text),
    ]
    if not open_text:
        rows.append(("server's name", tls_name.encode(), True, True))  # TLS sends it openly (SNI)
    return rows


def found(hits):
    """What a search found, in a few words: "base64 in /secrets.json, plain in 3 places"."""
    words = []
    for form in sorted({hit.form for hit in hits}):
        places = [hit.place for hit in hits if hit.form == form]
        words.append(f"{form} in " + (places[0] if len(places) == 1 else f"{len(places)} places"))
    return ", ".join(words) or NOWHERE


def prove(show, password, keys, user, tls_name, flash, wire):
    """Searches `flash` and `wire` ({name: bytes}) and shows the outcome. DemoError if anything is where it must
    not be, or if what must be there is not found."""
    if tls_name is not None:
        records = sum(tls_records(data) for data in wire.values())
        show.line(f"all that passed are {records} TLS records, and nothing else")
    show.line("searched for as it is, in base64 (at all three alignments) and in hex, in")
    for what, places in (("files on the board's flash", flash), ("captured streams", wire)):
        show.line(f"{len(places)} {what} ({sum(map(len, places.values()))} bytes)")
    rows, wrong = [], []
    for name, secret, *expected in wanted(password, keys, user, tls_name):
        outcome = []
        for places, must, where in zip((flash, wire), expected, ("on the flash", "on the wire"), strict=True):
            hits = leaks.search({name: secret}, places)
            outcome.append(found(hits))
            if bool(hits) != must:
                wrong.append(f"{name} {where}: {found(hits)}" + (", but it must be there" if must else ""))
        rows.append((name, outcome))
    show.searched(("on the flash", "on the wire"), rows)
    if wrong:
        raise DemoError("; ".join(wrong))
    show.good("the password is nowhere; and what must be there, the same search has found")
