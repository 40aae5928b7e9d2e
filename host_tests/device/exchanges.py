# For the tests of mechanisms: a nonce that is known, as in the RFCs' vectors; and the steps of an exchange.
from usasl.crypto import SASLError


class Fixed:
    """While it is entered, the nonces of a module of usasl are `value`."""

    def __init__(self, module, value):
        self.module = module
        self.value = value

    def __enter__(self):
        self.random = self.module.nonce
        self.module.nonce = lambda: self.value

    def __exit__(self, *_):
        self.module.nonce = self.random


def step(exchange, data):
    """Send data in; what comes out after the derivation, and how many times it yielded None."""
    pauses = 0
    out = exchange.send(data)
    while out is None:
        pauses += 1
        out = exchange.send(None)
    return out, pauses


def ends(exchange, data=b""):
    """True where it ends with this; an error where it goes on."""
    try:
        out = exchange.send(data)
    except StopIteration:
        return True
    raise AssertionError(out)


def failure(exchange, error, *messages):
    """Send the server's messages; the last one must raise exactly `error`. Its text."""
    exchange.send(None)
    for message in messages[:-1]:
        exchange.send(message)
    try:
        out = exchange.send(messages[-1])
    except SASLError as e:
        assert type(e) is error, (messages[-1], type(e), str(e))
        return str(e)
    except StopIteration:
        out = "the end"
    raise AssertionError("accepted: " + repr((messages[-1], out)))
