# Modules by the package's name: MicroPython asks its __getattr__ before it looks for a module.
import sys

import umqtt5
from wire import raises


def test_modules_by_the_packages_name():
    for name in ("aio", "outbox", "props", "retry", "robust", "secrets", "simple", "store"):
        assert "umqtt5." + name == getattr(umqtt5, name).__name__
    from umqtt5 import aio, robust

    assert robust.MQTTClient is sys.modules["umqtt5.robust"].MQTTClient
    assert aio.MQTTClient is sys.modules["umqtt5.aio"].MQTTClient


def test_what_there_is_not():
    for name in ("nothing", "Nothing", "wrong", "__nothing__"):  # `wrong` is a tool of errors.py's
        assert not hasattr(umqtt5, name)
        assert name in str(raises(AttributeError, lambda: getattr(umqtt5, name)))  # noqa: B023


def test_a_module_that_does_not_load_says_why():
    sys.path.clear()  # a board without it on its flash
    assert "no module named" in str(raises(AttributeError, lambda: umqtt5.store))
