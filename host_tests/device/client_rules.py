# Calls of the blocking client's that test_rules_client.py asks for by name; it looks at what arrives.
import json
import sys

from umqtt5 import MQTTClient


def subscribe_with_every_option(c):
    for qos in range(3):
        for no_local in (False, True):
            for retain_as_published in (False, True):
                for retain_handling in range(3):
                    c.subscribe(
                        "a/b",
                        qos,
                        no_local=no_local,
                        retain_as_published=retain_as_published,
                        retain_handling=retain_handling,
                    )
    c.disconnect()


def end(c):
    c.publish("t", "last words")
    c.disconnect(0x04)
    for call in (lambda: c.publish("t", "too late"), c.ping, c.check_msg, lambda: c.subscribe("t")):
        try:
            call()
        except OSError:
            continue
        raise AssertionError("not closed")
    c.disconnect()


told = json.loads(sys.stdin.read())
client = MQTTClient("rules", "127.0.0.1", told["port"])
client.connect()
globals()[told["do"]](client)
