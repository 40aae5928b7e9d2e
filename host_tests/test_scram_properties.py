"""SCRAM under hypothesis, on CPython, against a server over hashlib (harness/scram.py): any honest exchange ends with
the server proven, and none does in which a byte that the signature covers was changed.

UMQTT5_EXAMPLES=n: n times as many examples, other ones each time.
"""

import pytest
from harness.examples import examples
from harness.scram import Credentials, Exchange, ScramFailure
from hypothesis import given
from hypothesis import strategies as st
from usasl import scram, scram_emqx
from usasl.crypto import SASLError, ServerNotProven

KINDS = {
    (name, emqx): getattr(module, f"Scram{name.upper()}")
    for module, emqx, names in (
        (scram, False, ("sha1", "sha256", "sha512")),
        (scram_emqx, True, ("sha256", "sha512")),
    )
    for name in names
}
NONCE = bytes(c for c in range(0x21, 0x80) if c != ord(","))
_text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
_passwords = _text | st.sampled_from(["x" * 64, "y" * 65, "z" * 128, "ä" * 65])
servers = st.builds(
    lambda kind, user, password, salt, count: (KINDS[kind], Credentials(user, password, salt, count, *kind)),
    st.sampled_from(sorted(KINDS)),
    _text,
    _passwords,
    st.binary(min_size=1, max_size=40),
    st.integers(1, 12),
)
nonces = st.lists(st.sampled_from(NONCE), min_size=1, max_size=40).map(bytes)
extensions = st.sampled_from([b"", b",x=1", b",y=a=b,z=\xc3\xa9"])


def exchange(made, by_password, nonce, more, change=lambda which, message: message):
    """One login; change(0 or 1, message): what the client gets instead of the server's first or last one."""
    kind, c = made
    bounds = {"min_iterations": 1, "max_iterations": 999}
    client = kind(c.user, c.password, **bounds) if by_password else kind(c.user, keys=[c.keys], **bounds)
    x, server = client.exchange(), Exchange(c)
    server.own_nonce = nonce
    first = server.first(x.send(None)) + more
    server.sent_first(first)
    out = x.send(change(0, first))
    while out is None:
        out = x.send(None)
    try:
        final = server.final(out)
    except ScramFailure:
        # Whoever changes messages lets an honest server believe what it likes: it signs what it saw.
        without_proof = b"c=biws,r=" + server.nonce
        server.auth_message = (b"" if c.emqx else b",").join((server.bare, first, without_proof))
        final = b"v=" + server.signature()
    with pytest.raises(StopIteration):
        x.send(change(1, final))
    assert client._proven == c.iterations


@examples(200)
@given(servers, st.booleans(), nonces, extensions)
def test_any_honest_exchange(made, by_password, nonce, more):
    exchange(made, by_password, nonce, more)


@examples(600)
@given(servers, st.booleans(), nonces, extensions, st.integers(0, 1), st.data())
def test_any_changed_byte(made, by_password, nonce, more, which, data):
    def change(now, message):
        if now != which:
            return message
        at = data.draw(st.integers(0, len(message) - 1), "at")
        byte = data.draw(st.integers(0, 255).filter(lambda b: b != message[at]), "byte")
        return message[:at] + bytes([byte]) + message[at + 1 :]

    with pytest.raises(SASLError) as raised:
        exchange(made, by_password, nonce, more, change)
    assert which == 0 or raised.type is ServerNotProven


@examples(200)
@given(servers, st.booleans(), nonces, st.integers(0, 1), st.binary(max_size=80))
def test_any_other_message(made, by_password, nonce, which, instead):
    with pytest.raises(SASLError):
        exchange(made, by_password, nonce, b"", lambda now, message: instead if now == which else message)
