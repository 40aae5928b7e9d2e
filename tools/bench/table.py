"""What tools.bench has found, as tables: for the terminal and, as Markdown, for the README. It measures nothing."""

OURS, PUBLISHER, UMQTT, BARE = "ours", "ours, publisher()", "umqtt.simple", "bare"

# The aims (and the dream): (measure, whose, "to umqtt" or "to bare", aim, dream or None).
AIMS = [
    ("publish QoS 0", OURS, "to umqtt", 1.2, 2),
    ("publish QoS 0", PUBLISHER, "to umqtt", 2, 4),
    ("receive QoS 0", OURS, "to umqtt", 2, 2.5),
    ("receive QoS 1", OURS, "to umqtt", 2, 2.5),
    ("publish QoS 1, in turn", OURS, "to bare", 0.85, None),
    ("publish QoS 1, pipelined", OURS, "to bare", 0.95, None),
]
PBKDF2_AIM, HEAP_AIM = 1.25, 40
_LIMITS = {"to umqtt": "x umqtt", "to bare": "x bare"}


def name(what, who):
    """How a measure is called."""
    return what + " by publisher()" if who == PUBLISHER else what


def tables(found):
    """[(title, head, rows)]; all cells are text, those of a row's figures behind the first column."""
    return [_speed(found["speed"]), _counts(found["counts"]), _rest(found)]


def _speed(speed):
    rows = []
    for what, who, limit, aim, dream in AIMS:
        one = speed[what]
        rates = [f"{one['rates'][w]:,}" if w in one["rates"] else "-" for w in (who, UMQTT, BARE)]
        ratios = [_ratio(one[key].get(who)) for key in ("to umqtt", "to bare")]
        aim = f"{aim:g} {_LIMITS[limit]}" + (f" ({dream:g})" if dream else "")
        rows.append([name(what, who), *rates, *ratios, aim, _range(one[limit][who])])
    head = ["Messages a second", OURS, UMQTT, BARE, "/ umqtt", "/ bare", "aim (dream)", "middle half"]
    return "Speed: medians of ratios; the middle half of the rounds is that of the ratio with the aim", head, rows


def _ratio(one):
    if one is None:
        return "-"
    return f"{one['median']:.0f}" if one["median"] >= 10 else f"{one['median']:.2f}"


def _range(one):
    low, high = one["middle half"]
    return f"{low:.2f}-{high:.2f}"


def _counts(counts):
    rows = []
    for what in sorted(counts):
        for who, one in counts[what].items():
            if who == "ours, TLS" and one == counts[what].get(OURS) | {"bytes out": one["bytes out"]}:
                continue  # as without TLS (what is written, and the alias apart)
            rows.append([what, who, *(f"{one[key]:g}" for key in ("writes", "bytes out", "bytes in", "heap"))])
    head = ["For each message, exact", "who", "writes", "bytes out", "bytes in", "heap"]
    return "Calls and bytes: the aim is one write a packet and 0 bytes of heap, over TLS too", head, rows


def _rest(found):
    p, login, heap = found["pbkdf2"], found["login"], found["smallest heap"]
    rows = [
        [
            f"PBKDF2, {p['iterations']} iterations, against {2 * p['iterations']} bare sha256(96 bytes).digest()",
            f"{_ratio(p['ratio'])} ({_range(p['ratio'])})",
            f"<= {PBKDF2_AIM}",
        ],
        ["CPU of a login by SCRAM with keys, against one by password", _ratio(login["cpu ratio"]), "-"],
    ]
    for who, what in (("scram", "SCRAM with keys"), ("password", "password")):
        one = login[who]
        text = f"{one['packets']} packets, {one['bytes']} B, round trips: {one['round trips']}, {one['cpu us']} us"
        rows.append([f"Login by {what}", text, "-"])
    text = f"Smallest heap (8-byte words) for a login by SCRAM with keys and {heap['messages']:,} messages each way"
    rows.append([text, f"{heap['KB']} KB; from a ROMFS {heap['KB romfs']} KB", f"<= {HEAP_AIM} KB"])
    return "And", ["Measured", "here", "aim"], rows


def markdown(found):
    """The tables as Markdown, as they stand in the README."""
    lines = []
    for title, head, rows in tables(found):
        rule = ["---" if text_column(head, i) else "---:" for i in range(len(head))]
        lines += [title + ":", "", *["| " + " | ".join(row) + " |" for row in [head, rule, *rows]], ""]
    return "\n".join(lines).rstrip()


def text_column(head, i):
    """Whether column i holds words rather than figures."""
    return i == 0 or head[i] in ("who", "aim (dream)")
