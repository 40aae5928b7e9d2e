# umqtt.simple's API again: a client with a will that ends without saying goodbye.
import json
import sys

told = json.loads(sys.stdin.read())
client = __import__(told["module"], None, None, ("MQTTClient",)).MQTTClient("vanish", told["host"], told["port"])
client.set_last_will(told["topic"], b"gone", False, 1)
client.connect()
client.sock.close()
