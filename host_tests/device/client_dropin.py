# An application written for umqtt.simple, and for nothing else: the host runs it with upstream's class and
# with ours, and compares what an independent subscriber sees. It must use no name, argument or order that
# umqtt.simple has not.
#
# Told by standard input: {"module": where MQTTClient is, "host", "port", "topic"}.
import json
import sys

told = json.loads(sys.stdin.read())
module = __import__(told["module"], None, None, ("MQTTClient",))
MQTTClient = module.MQTTClient
MQTTException = module.MQTTException
base = told["topic"]
got = []


def callback(topic, msg):
    got.append([type(topic).__name__, topic.decode(), type(msg).__name__, msg.decode()])


def topic(name):
    return base + "/" + name


# client_id, server, port, user, password, keepalive: by position
client = MQTTClient("dropin", told["host"], told["port"], None, None, 30)
client.set_callback(callback)
client.set_last_will(topic("will"), b"gone", True, 1)
present = client.connect()
client.subscribe(topic("in").encode())
client.subscribe(topic("in1"), 1)

client.publish(topic("out"), "str")
client.publish(topic("out").encode(), b"bytes")
client.publish(topic("out"), b"retained", True)
client.publish(topic("out"), b"qos 1", False, 1)
client.publish(topic("out"), b"both by name", retain=True, qos=1)
client.publish(topic("out"), b"")
client.publish(topic("out"), b"large " + b"x" * 3000, False, 1)

# What comes back: one by wait_msg, one by check_msg
client.publish(topic("in"), b"to myself")
while len(got) < 1:
    client.wait_msg()
client.publish(topic("in1"), b"again", False, 1)
tries = 0
while len(got) < 2 and tries < 100000:
    client.check_msg()
    tries += 1
client.ping()
client.publish(topic("in"), b"after ping")
while len(got) < 3:
    client.wait_msg()
client.disconnect()

# The same object once more, with a session
present2 = client.connect(False)
client.publish(topic("out"), b"second connection", False, 1)
client.disconnect()

# umqtt takes names as bytes, too
again = MQTTClient(b"dropin3", told["host"].encode(), told["port"])
again.connect()
again.publish(topic("out").encode(), b"all in bytes", False, 1)
again.disconnect()

# A refusal: a user name that the broker does not know
refused = None
other = MQTTClient("dropin2", told["host"], told["password_port"], "nobody", "wrong")
try:
    other.connect()
except MQTTException:
    refused = issubclass(MQTTException, Exception)
print(json.dumps({"got": got, "present": [bool(present), bool(present2)], "refused": refused}))
