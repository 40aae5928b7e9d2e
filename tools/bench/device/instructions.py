# n messages of one kind, by our client or umqtt.simple: tools/bench/instructions.py counts what that takes.
import json
import sys

import handlers

TOPICS = (b"bench/house/kitchen", b"bench/house/cellar")
MESSAGE = b'{"t": 21.5, "h": 48, "n": 123}'

told = json.loads(sys.stdin.read())
what, ours, n = told["what"], told["ours"], told["n"]

if ours and what.endswith(" by robust"):
    from umqtt5.robust import MQTTClient
elif ours:
    from umqtt5 import MQTTClient
elif what.endswith(" by robust"):
    from umqtt.robust import MQTTClient
else:
    from umqtt.simple import MQTTClient
client = MQTTClient("counted", "127.0.0.1", told["port"])
if not ours:
    client.set_callback(handlers.take_umqtt)
client.connect()
if ours and what.startswith("receive"):
    filters = TOPICS if "in turn" in what else [b"bench/house/+"] if "wildcard" in what else TOPICS[:1]
    for filter in filters:
        client.subscribe(filter, 1, handlers.take)


def main():
    publish = client.publish
    if what in ("publish QoS 0", "publish QoS 0 by robust"):
        for _ in range(n):
            publish(TOPICS[0], MESSAGE)
    elif what == "publisher() QoS 0":
        publish = client.publisher(TOPICS[0]).publish
        for _ in range(n):
            publish(MESSAGE)
    elif what == "publish QoS 0, two topics in turn":
        for _ in range(n // 2):
            publish(TOPICS[0], MESSAGE)
            publish(TOPICS[1], MESSAGE)
    elif what.startswith("publish QoS 1, pipelined"):
        for _ in range(n):
            client.publish(TOPICS[0], MESSAGE, False, 1, None, False)
        session = client._engine.session
        while session.in_flight():
            client._turn(None)
    else:
        wait_msg = client.wait_msg
        for _ in range(n):
            wait_msg()
        assert handlers.seen == n


main()
print("done")
