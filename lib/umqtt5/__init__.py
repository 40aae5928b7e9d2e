"""umqtt5: an MQTT 5.0 client with enhanced authentication. Public names, each loaded when it is first asked for:
MQTTClient, and the exceptions; and modules, for `from umqtt5 import robust`."""


def __getattr__(name):
    # Relative imports, which take the level (1) by itself: importlib does not exist on a board.
    if name >= "a":  # no class; nor is "__path__" above
        try:
            return __import__(name, globals(), None, (name,), 1)
        except ImportError as x:
            raise AttributeError(x)
    module = {"MQTTClient": "simple", "MQTTException": "simple", "Reject": "message"}.get(name, "errors")
    value = globals()[name] = getattr(__import__(module, globals(), None, (name,), 1), name)
    return value
