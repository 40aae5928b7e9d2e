# For the tests of mechanisms: a nonce that is known, as in the RFCs' vectors; and the steps of an exchange.


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
