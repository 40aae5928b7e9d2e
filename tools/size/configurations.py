"""What is measured: what a program imports, how it logs in, and what it does then; as code for the WebAssembly build.

It must never do more in one configuration than in another: they are compared.
"""

from dataclasses import dataclass

from tools import mpy

_OURS = "from umqtt5 import MQTTClient"
_SCRAM = "from usasl.scram import ScramSHA256"

# Before the first reading: everything of the firmware's that the libraries import, our stand-ins, and every name that
# the steps use.
BEFORE = """
import sys, gc, os, time, errno, select, binascii, hashlib, json, micropython, io, struct, math
import asyncio, asyncio.core
sys.path[:] = ["/stubs", ".frozen"]
import replay
os.urandom = replay.urandom
asyncio.core._io_queue = replay
sys.path[:] = ["/lib", ".frozen"]
{mount}
MQTTClient = ScramSHA256 = load = made = client = seen = heap = job = None
def nonce():
    return {nonce!r}
def take(message):
    global seen
    seen = message.end - message.start
def take_umqtt(topic, payload):
    global seen
    seen = len(payload)
def run():
    asyncio.core._run_iter()  # until all tasks wait
    if not job.done(): raise RuntimeError("replay: the tasks wait for more than was recorded")
replay.the_socket.load({answers!r})
"""
# {mount}: the library in a ROMFS. Its image is on the heap before the first reading; a board has it in its flash.
MOUNT = """
import vfs
image = open("/image", "rb").read()
vfs.mount(vfs.VfsRom(image), "/lib")
"""
_CONNECT = """
if {scram}: sys.modules["usasl.scram"].nonce = nonce
client = MQTTClient("size", "broker", auth={mechanism})
client.connect()
"""
_CONNECT_FILE = """
made = load("/secrets.json")
sys.modules["usasl.scram"].nonce = nonce
client = MQTTClient(**made)
made = None
client.connect()
"""
# What record.py did.
_USE = """
client.subscribe("size/in", 1, take)
client.publish("size/out", b"1", qos=1)
client.publish("size/in", b"2")
client.wait_msg()
"""
_CONNECT_UMQTT = """
client = MQTTClient(b"size", "broker")
client.set_callback(take_umqtt)
client.connect()
"""
_USE_UMQTT = """
client.subscribe(b"size/in", 1)
client.publish(b"size/out", b"1", qos=1)
client.publish(b"size/in", b"2")
client.wait_msg()
"""
_CONNECT_AIO = """
client = MQTTClient("size", "broker")
async def job():
    await client.connect()
job = asyncio.create_task(job())
run()
"""
_USE_AIO = """
async def job():
    await client.subscribe("size/in", 1, take)
    await client.publish("size/out", b"1", qos=1)
    await client.publish("size/in", b"2")
job = asyncio.create_task(job())
run()
"""
USED = """
if seen != 1: raise RuntimeError("replay: the message did not come: python -m tools.size.record")
"""
LOADED = "print(sorted([name for name in sys.modules if name.startswith(('umqtt', 'usasl'))]))"


@dataclass(frozen=True)
class Configuration:
    """imports: lines. login: which of recorded.json's answers are its own; None: only the imports are measured.
    mechanism: how it is made, with names of recorded.json. needs: a file of lib/, without which there is no such
    configuration."""

    imports: tuple
    login: str = None
    connect: str = _CONNECT
    use: str = _USE
    mechanism: str = "None"
    needs: str = None


CONFIGURATIONS = {
    "blocking client": Configuration((_OURS,), "plain"),
    "+ SCRAM with keys": Configuration((_OURS, _SCRAM), "scram", mechanism="ScramSHA256({user!r}, keys=[{keys!r}])"),
    "+ SCRAM with password": Configuration((_OURS, _SCRAM), "scram", mechanism="ScramSHA256({user!r}, {password!r})"),
    # As boards/common/main.py does it.
    "+ keys of secrets.json": Configuration((_OURS, "from umqtt5.secrets import load"), "scram", _CONNECT_FILE),
    "usasl.scram alone": Configuration((_SCRAM,)),
    "asyncio client": Configuration(
        ("from umqtt5.aio import MQTTClient",), "plain", _CONNECT_AIO, _USE_AIO, needs="umqtt5/aio.py"
    ),
    "umqtt.simple": Configuration(("from umqtt.simple import MQTTClient",), "umqtt", _CONNECT_UMQTT, _USE_UMQTT),
    "umqtt.robust": Configuration(("from umqtt.robust import MQTTClient",), "umqtt", _CONNECT_UMQTT, _USE_UMQTT),
}


def configurations():
    """{name: Configuration} of what lib/ has."""
    return {name: c for name, c in CONFIGURATIONS.items() if not c.needs or (mpy.LIB / c.needs).is_file()}
