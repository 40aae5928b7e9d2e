# A day's work in a small heap: log in by SCRAM with keys, then publish at QoS 1 and receive each one back, N times.
# Prints the heap's state after the first hundred and at the end: a line of mem_free(), then MicroPython's own table.
#
# It must never hold more than a program on a board needs: whatever it allocates makes the smallest heap larger.
from micropython import mem_info

import gc
import sys

from umqtt5 import MQTTClient
from usasl.scram import ScramSHA256

seen = 0


def take(message):
    global seen
    seen += 1


def work(client, until):
    topic = b"day/in"
    msg = b"0123456789abcdef"
    while seen < until:
        n = seen
        client.publish(topic, msg, False, 1)
        while seen == n:
            client.wait_msg()


def state():
    gc.collect()
    print("free", gc.mem_free())
    mem_info()


port, messages, user, salt, count, client_key, server_key = sys.stdin.readline().split()
keys = [(bytes.fromhex(salt), int(count), bytes.fromhex(client_key), bytes.fromhex(server_key))]
client = MQTTClient("day", "127.0.0.1", int(port), auth=ScramSHA256(user, keys=keys), keepalive=60)
del salt, client_key, server_key, keys, user
client.connect()
client.subscribe(b"day/in", 1, take)
work(client, 100)
state()
work(client, int(messages))
state()
client.disconnect()
print("seen", seen)
