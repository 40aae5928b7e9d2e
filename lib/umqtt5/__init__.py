"""umqtt5: an MQTT 5.0 client with enhanced authentication. Public names, each loaded when it is first asked for:
MQTTClient, and the exceptions."""


def __getattr__(name):
    module = {"MQTTClient": "simple", "MQTTException": "simple", "Reject": "message"}.get(name, "errors")
    # A relative `import` that takes the level (1) by itself: importlib does not exist on a board.
    value = getattr(__import__(module, globals(), None, (name,), 1), name)
    if not isinstance(value, type):  # a tool of errors.py's
        raise AttributeError(name)
    globals()[name] = value
    return value
