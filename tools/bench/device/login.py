# What a login costs the processor: SCRAM with keys against a password, in turn, to one broker. Prints one JSON line:
# {"scram": [microseconds of CPU, one a round], "password": [...]}. The broker's time is not in it, nor waiting.
import gc
import json
import sys
from time import clock

from umqtt5 import MQTTClient
from usasl.scram import ScramSHA256

told = json.loads(sys.stdin.read())
salt, count, client_key, server_key = told["keys"]
keys = (bytes.fromhex(salt), count, bytes.fromhex(client_key), bytes.fromhex(server_key))
scram = MQTTClient("login", told["host"], told["port"], auth=ScramSHA256(told["user"], keys=[keys]))
password = MQTTClient("login", told["host"], told["password_port"], "plain", told["password"])


def some(client):
    """Microseconds of CPU for one connect() and disconnect(), of several: the clock ticks in milliseconds."""
    gc.collect()
    start = clock()
    for _ in range(told["each"]):
        client.connect()
        client.disconnect()
    return (clock() - start) * 1e6 / told["each"]


for client in (scram, password):
    client.connect()  # the first loads modules
    client.disconnect()
found = {"scram": [], "password": []}
for _ in range(told["rounds"]):
    found["scram"].append(some(scram))
    found["password"].append(some(password))
print(json.dumps(found))
