"""Records what the real dev broker answers to the real client, for replay on the WebAssembly build, which has no
sockets.

    python -m tools.size.record          writes tools/size/recorded.json anew: needed only when the client writes
                                         other packets than it did, or the steps of measure.py change

The client's nonce is fixed, so that the broker's signature holds at every replay. The user, the password and the keys
in the file are made for this and are good for nothing else. It must never be pointed at any other broker.
"""

import micropython  # noqa: F401  the shim: gives `time` a board's ticks, which lib/ needs

import binascii
import json
import runpy
import socket
import struct
import sys
import types
from pathlib import Path
from unittest import mock

import usasl.scram
from umqtt5 import simple
from umqtt5.simple import MQTTClient

from tools.devbroker import Broker
from tools.size import measure

RECORDED = Path(__file__).with_name("recorded.json")
USER, PASSWORD, SALT, ITERATIONS = "device1", "size-table", b"salt-of-16-bytes", 4096
NONCE = b"c2l6ZSB0YWJsZSBub25jZQ=="  # 24 characters, as many as usasl.crypto.nonce() gives


class _Tap:
    """A stream that notes, for each write of the client's, what came back before the next one."""

    def __init__(self, stream, answers):
        self._stream, self._answers = stream, answers

    def write(self, buf, off, n):
        done = self._stream.write(buf, off, n)
        if done:
            assert done == n, "a write was cut: the replay counts writes"
            self._answers.append(b"")
        return done

    def readinto(self, buf, n):
        done = self._stream.readinto(buf, n)
        if done:
            self._answers[-1] += bytes(memoryview(buf)[:done])
        return done

    def __getattr__(self, name):
        return getattr(self._stream, name)


def _record(port, auth):
    """One life of a client, as measure.py repeats it -> the broker's answers, one (hex) for each write."""
    answers = []
    start = simple.start
    simple.start = lambda address: _Tap(start(address), answers)
    try:
        came = []
        client = MQTTClient("size", Broker.host, port, auth=auth)
        client.connect()
        client.subscribe("size/in", 1, came.append)
        client.publish("size/out", b"1", qos=1)
        client.publish("size/in", b"2")
        client.wait_msg()
        client.disconnect()
    finally:
        simple.start = start
    assert len(came) == 1
    return [answer.hex() for answer in answers]


class _Usocket:
    """umqtt.simple's socket, for CPython: whose writes are counted as our client's are."""

    answers = None  # where they are noted

    def connect(self, address):
        self._sock = socket.create_connection(address, 10)

    def setblocking(self, flag):
        pass  # all that is recorded waits

    def write(self, data, n=None):
        self._sock.sendall(data if n is None else data[:n])
        self.answers.append(b"")

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self._sock.recv(n - len(data))
            assert more, "the broker closed"
            data += more
        self.answers[-1] += data
        return data

    def close(self):
        self._sock.close()


def _record_umqtt(port):
    """The same with umqtt.simple, which speaks MQTT 3.1.1."""
    answers = _Usocket.answers = []
    usocket = types.SimpleNamespace(socket=_Usocket, getaddrinfo=lambda *address: [[address]])
    with mock.patch.dict(sys.modules, usocket=usocket, ustruct=struct, ubinascii=binascii):
        umqtt = runpy.run_path(measure.UMQTT / "simple.py")
    came = []
    client = umqtt["MQTTClient"](b"size", Broker.host, port)
    client.set_callback(lambda topic, payload: came.append(payload))
    client.connect()
    client.subscribe(b"size/in", 1)
    client.publish(b"size/out", b"1", qos=1)
    client.publish(b"size/in", b"2")
    client.wait_msg()
    client.disconnect()
    assert came == [b"2"]
    return [answer.hex() for answer in answers]


def main():
    usasl.scram.nonce = lambda: NONCE
    derive = usasl.scram.ScramSHA256.derive
    keys = (SALT, ITERATIONS, *derive(PASSWORD, SALT, ITERATIONS))
    with Broker(tls=False) as broker:
        broker.add_user(USER, PASSWORD, iterations=ITERATIONS, salt=SALT)
        with_keys = usasl.scram.ScramSHA256(USER, keys=[keys])
        recorded = {
            "user": USER,
            "password": PASSWORD,
            "keys": [part.hex() if isinstance(part, bytes) else part for part in keys],
            "nonce": NONCE.decode(),
            "answers": {
                "plain": _record(broker.plain_port, None),
                "scram": _record(broker.port, with_keys),
                "umqtt": _record_umqtt(broker.plain_port),
            },
        }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{RECORDED} written")


if __name__ == "__main__":
    main()
