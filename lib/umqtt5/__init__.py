"""umqtt5: an MQTT 5.0 client with enhanced authentication. Public names, each loaded when it is first asked for."""

_WHERE = {
    "MQTTClient": "simple",
    "MQTTException": "errors",
    "MQTTError": "errors",
    "PeerError": "errors",
    "MalformedPacket": "errors",
    "ProtocolError": "errors",
    "Refused": "errors",
    "AuthError": "errors",
    "NotProven": "errors",
    "ResourceError": "errors",
    "Disconnected": "errors",
    "Reject": "errors",
}


def __getattr__(name):
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(name)
    # A relative `import` that takes the level (1) by itself: importlib does not exist on a board.
    value = getattr(__import__(module, globals(), None, (name,), 1), name)
    globals()[name] = value
    return value
