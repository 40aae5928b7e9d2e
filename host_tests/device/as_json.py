# For client_aio.py and client_remote.py: values to and from the host, as JSON.
from binascii import hexlify, unhexlify


def plain(value, other=repr):
    """A value that JSON can hold: bytes as {"hex": ...}, tuples as lists; what it cannot hold by other(value)."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": str(hexlify(value), "utf-8")}
    if isinstance(value, (list, tuple)):
        return [plain(v, other) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v, other) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return other(value)


def failure(e):
    """An exception, for remote.BoardError."""
    return {
        "type": type(e).__name__,
        "text": str(e),
        "reason": getattr(e, "reason", None),
        "errno": getattr(e, "errno", None) if isinstance(e, OSError) else None,
        "said": getattr(e, "said", None),
        "server": getattr(e, "server", None),
    }


def given(value):
    if isinstance(value, dict):
        if "hex" in value:
            return unhexlify(value["hex"])
        return {k: given(v) for k, v in value.items()}
    if isinstance(value, list):
        return [given(v) for v in value]
    return value
