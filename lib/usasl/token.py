# A token as a mechanism: one message (a JWT, an OAUTHBEARER string, ...) under any method name.
# It cannot prove the server: whoever plays the server gets the token, and may use it. Use it over TLS only.
# Must never: show the token, also not where the server repeats it in an error.
from usasl.crypto import SASLError

_SHORT = 8  # bytes of the token that the server may not repeat into an error text


def _bytes(data):
    if isinstance(data, str):
        data = data.encode()
    if not data or not isinstance(data, (bytes, bytearray)):
        raise ValueError("token: empty, or neither bytes nor str")
    return bytes(data)


class Token:
    """Logs in with one message. **The server is not proven**: its "yes" is all there is, and nothing shows that it
    is our server, or that it has looked at the token. TLS with a CA is needed, both for that and to keep the token
    secret."""

    def __init__(self, name, data, user=None):
        """name: the method (str), as the server knows it. data: the token, bytes or str, or a function without
        arguments that gives it at each login (tokens expire). user: the user's name, for protocols that send it
        beside. ValueError: an argument is wrong; it never shows the token."""
        if not name:
            raise ValueError("empty name")
        self.name = name
        self.user = user
        self._data = data if callable(data) else _bytes(data)

    def exchange(self):
        """Generator of one login: yields the token, and returns when the server ends the login without a word.
        Words are a question, or what is wrong with the token (RFC 7628 3.2.3; its dummy answer is not sent, since
        the login is given up), and raise SASLError, which shows them."""
        data = _bytes(self._data()) if callable(self._data) else self._data
        said = bytes((yield data))
        if said:
            raise SASLError("token", _cut(said, data))


def _cut(said, data):
    """What the server said, up to where it repeats a part of the token."""
    end = len(said)
    for i in range(max(1, len(data) - _SHORT + 1)):
        at = said.find(data[i : i + _SHORT])
        if 0 <= at < end:
            end = at
    return said[:end] if end == len(said) else said[:end] + b"<token>"
