# Bytes of heap that publishing takes on a connected client, counted with the garbage collector switched off. Prints
# one JSON line: {"0": bytes for all messages at QoS 0, "1": the same at QoS 1}.
import gc
import json
import sys

from umqtt5 import MQTTClient


def taken(client, messages, qos):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(messages // 2):
        # Two topics in turn, both new to the client: what it keeps of the last one does not help.
        client.publish(b"bench/one", b"0123456789abcdef", False, qos)
        client.publish(b"bench/two", b"0123456789abcdef", False, qos)
    after = gc.mem_alloc()
    gc.enable()
    return after - before


told = json.loads(sys.stdin.read())
client = MQTTClient("bench", told["host"], told["port"])
client.connect()
found = {str(qos): taken(client, told["messages"], qos) for qos in (0, 1)}
client.disconnect()
print(json.dumps(found))
