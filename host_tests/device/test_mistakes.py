# Typical mistakes of a program's, and what their errors say: the cause and the cure, so that nobody has to search.
import asyncio
import ssl
from binascii import b2a_base64

from umqtt5 import MQTTClient, aio, robust
from umqtt5.outbox import Outbox
from umqtt5.props import encode
from umqtt5.retry import Backoff
from umqtt5.store import Store
from usasl.scram import ScramSHA256
from wire import raises


def says(kind, words, function, *args, **options):
    """Its error is of exactly this kind, and these words are in its text."""
    error = raises(kind, lambda: function(*args, **options))
    assert type(error) is kind, error
    for word in words:
        assert word in str(error), (word, str(error))


def test_certificates(ca_der):
    with open(ca_der, "rb") as f:
        der = f.read()
    pem = b"-----BEGIN CERTIFICATE-----\n" + b2a_base64(der) + b"-----END CERTIFICATE-----\n"

    def client(**params):
        return MQTTClient("me", "localhost", ssl=True, ssl_params=params)

    client(cadata=der)
    says(ValueError, ["needs the CA", "cadata"], client)
    says(ValueError, ["ca is none of cadata"], client, ca=der)
    for bad in (pem, b"", der[:-1], ca_der):
        says(ValueError, ["cadata", "not in DER", "openssl x509"], client, cadata=bad)
    says(ValueError, ["cert and key", "missing"], client, cadata=der, cert=der)
    says(ValueError, ["cert and key"], client, cadata=der, cert=der, key=b"no key")
    says(ValueError, ["ssl=True"], MQTTClient, "me", "localhost", ssl_params={"cadata": der})


def test_subscribe_and_publish(broker_host, plain_port):
    c = MQTTClient("mistakes", broker_host, plain_port, keepalive=60)
    c.connect()
    says(ValueError, ["subscribe(topic, qos, handler)"], c.subscribe, "t", print)  # as if there were no QoS
    says(ValueError, ["qos", "0, 1 or 2"], c.subscribe, "t", 3)
    says(ValueError, ["retain_handling"], c.subscribe, "t", 0, retain_handling=3)
    for filter in ("", "a/#/b", "a+", "#a"):
        says(ValueError, ["not a topic filter", "empty", "# not at the end"], c.subscribe, filter)
    for topic in ("", "a/#", "+"):
        says(ValueError, ["topic: empty, or with + or #", "subscribe"], c.publish, topic, b"m")
    c.publish("t", b"m", qos=2)  # nothing of all that has harmed the connection
    c.disconnect()


def test_properties():
    for value in ("a", "1 h", None, [60], {}, -1, 1 << 32):
        says(ValueError, ["message_expiry_interval", "0..4294967295"], encode, message_expiry_interval=value)
    assert encode(message_expiry_interval=60.0) == encode(message_expiry_interval=60)
    says(ValueError, ["no such property: message_expiry"], encode, message_expiry=60)
    says(ValueError, ["user_property", "(name, value) pairs"], encode, user_property=("a", "b"))
    says(ValueError, ["user_property", "(name, value) pairs"], encode, user_property={"a": "b"})


def test_a_topic_in_a_bytearray_that_changes(broker_host, plain_port):
    """Each message goes where the bytearray said at the time; what it holds is not taken for what is known."""
    got = []
    for aliases in (8, 0):
        c = MQTTClient("mistakes", broker_host, plain_port, keepalive=60, topic_aliases=aliases)
        c.connect()
        c.subscribe("moving/#", 1, lambda m: got.append((m.topic, m.payload)))
        topic = bytearray(b"moving/a")
        for last in b"aabbaacb":
            topic[-1] = last
            c.publish(topic, bytes((last,)), qos=1)
            c.publish(b"moving/" + bytes((last,)), bytes((last,)), qos=1)
            while len(got) < 2:
                c.wait_msg()
            assert got == [(bytes(topic), bytes((last,)))] * 2, got
            got.clear()
        raises((TypeError, ValueError), lambda: c.publish(None, b"1"))  # noqa: B023
        raises((TypeError, ValueError), lambda: c.publish(b"", b"1"))  # noqa: B023
        c.disconnect()


def test_a_payload_that_is_none(broker_host, plain_port):
    """A TypeError, and nothing of it stays: no alias that the broker does not know, no head of another topic."""
    got = []
    witness = MQTTClient("witness", broker_host, plain_port, keepalive=60)
    witness.connect()
    witness.subscribe("payload/#", 0, lambda m: got.append((m.topic, m.payload)))
    for aliases in (8, 0):
        for qos in (0, 1, 2):
            c = MQTTClient("mistakes", broker_host, plain_port, keepalive=60, topic_aliases=aliases)
            c.connect()
            publisher = c.publisher(b"payload/b", qos)
            for wrong in (5, 21.5, None, [1, 2], (3,), {"a": 1}, [0] * 300):
                c.publish(b"payload/a", b"1", qos=qos)  # prepared; the next one gets an alias
                says(TypeError, ["str(21.5)", "json.dumps()"], c.publish, b"payload/a", wrong, qos=qos)
                c.publish(b"payload/a", b"2", qos=qos)
                raises(TypeError, lambda: publisher.publish(wrong))  # noqa: B023
                c.publish(b"payload/a", b"3", qos=qos)
            c.publish(b"payload/a", bytearray(b"4"), qos=2)
            c.disconnect()
            while not got or got[-1][1] != b"4":
                witness.wait_msg()
            assert got == [(b"payload/a", b"%d" % n) for n in [1, 2, 3] * 7 + [4]], got
            got.clear()
    witness.disconnect()


def test_will(broker_host, plain_port):
    """A number is not so many zero bytes, nor a list its numbers: neither would show before the board is dead."""
    c = MQTTClient("mistakes", broker_host, plain_port)
    for wrong in (5, 21.5, None, [1, 2], {"a": 1}):
        says(TypeError, ["str(21.5)"], c.set_last_will, "t", wrong)
    for good in ("m", b"m", bytearray(b"m"), memoryview(b"m")):
        c.set_last_will("t", good)
        assert c._engine.terms.will[1] == b"\0\0\x01t\0\x01m"  # as CONNECT has it


def test_arguments_of_a_wrong_kind():
    """Named when the client is made, not by the first packet that they do not fit into."""
    whole = (
        "keepalive",
        "tx_size",
        "rx_size",
        "receive_maximum",
        "topic_aliases",
        "topic_alias_maximum",
        "max_packet",
    )
    for name in whole + ("session_expiry",):
        for wrong in ("60", 60.5, [60]):
            says(TypeError, [name], MQTTClient, "me", "host", **{name: wrong})
    for wrong in ("10", None, 0, -1, 0.0):
        says(ValueError, ["timeout", "above 0"], MQTTClient, "me", "host", timeout=wrong)
    says(ValueError, ["topic_aliases"], MQTTClient, "me", "host", topic_aliases=-1)
    says(ValueError, ["reauth_every"], MQTTClient, "me", "host", reauth_every="3600")
    for wrong in ("SCRAM-SHA-256", ScramSHA256, ("me", "a password")):
        says(TypeError, ["ScramSHA256(user, password)"], MQTTClient, "me", "host", auth=wrong)
    says(TypeError, ["password"], MQTTClient, "me", "host", user="me", password=12345)
    says(TypeError, ["on_event"], MQTTClient, "me", "host", on_event="print")
    for wrong in ("a", [1], 5, object):
        says(TypeError, ["props: a dict"], MQTTClient, "me", "host", props=wrong)
        says(TypeError, ["props: a dict"], MQTTClient, "me", "host", ack_props=wrong)
    for client in (MQTTClient, robust.MQTTClient, aio.MQTTClient):
        for wrong in ("/store", Store):
            says(TypeError, ["store=Store(...)"], client, "me", "host", store=wrong)
    for client in (robust.MQTTClient, aio.MQTTClient):
        for wrong in (20, {}, Outbox):
            says(TypeError, ["outbox=Outbox(...)"], client, "me", "host", outbox=wrong)
        for wrong in (5, Backoff):
            says(TypeError, ["backoff=Backoff(...)"], client, "me", "host", backoff=wrong)
    says(TypeError, ["network: a function"], aio.MQTTClient, "me", "host", network=network())  # called too early
    says(ValueError, ["outbox: count and size"], Outbox, "20")
    MQTTClient("me", "host", keepalive=60, timeout=0.5, max_packet=None, session_expiry=None)


async def network():
    pass


def test_a_place_where_no_broker_can_be():
    """Said when the client is made: a socket takes port 70000 for 4464, and sends what it has to say there."""
    for client in (MQTTClient, robust.MQTTClient, aio.MQTTClient):
        for wrong in ("1883", 70000, -1, 65536, 18.83, [1883]):
            says(ValueError, ["server", "port: 1..65535"], client, "me", "host", wrong)
        for wrong in ("", 7, None, ("host", 1883, 0), [7]):
            says(ValueError, ["server"], client, "me", wrong)
        for port in (0, 1, 65535):
            client("me", "host", port)
    for client in (robust.MQTTClient, aio.MQTTClient):
        says(ValueError, ["port: 1..65535"], client, "me", ["a", ("b", 70000)])
        client("me", ["a", ("b", 65535)])
        client("me", ("a", ("b", 65535)))


def test_a_handler_that_is_none(broker_host, plain_port):
    c = MQTTClient("mistakes", broker_host, plain_port)
    c.connect()
    says(TypeError, ["handler"], c.subscribe, "t", 0, "print")
    c.subscribe("t", 0)
    says(TypeError, ["callback: a function"], c.set_callback, "print")
    c.set_callback(None)
    c.disconnect()


def test_other_arguments_of_calls(broker_host, plain_port):
    """The connection stays, and what comes behind it works."""
    c = MQTTClient("mistakes", broker_host, plain_port)
    for wrong in ("5", [], "10 s"):
        says(ValueError, ["timeout: seconds"], c.connect, timeout=wrong)
    c.connect()
    for wrong in ("a", [1], 5):
        says(TypeError, ["props: a dict"], c.publish, "t", b"m", props=wrong)
        says(TypeError, ["props: a dict"], c.subscribe, "t", props=wrong)
        says(TypeError, ["props: a dict"], c.disconnect, 0, wrong)
    for wrong in ("1", None, 3, -1):
        says(ValueError, ["qos: 0, 1 or 2"], c.publisher, "t", wrong)
        says(ValueError, ["qos: 0, 1 or 2"], c.set_last_will, "t", b"m", qos=wrong)
    for wrong in ("1", -1, 1 << 28, 1.5):
        says(ValueError, ["id: 1..268435455"], c.subscribe, "t", id=wrong)
    says(ValueError, ["timeout: seconds"], c.request, "t", b"m", "5")
    says(TypeError, ["reason: a whole number"], c.disconnect, "0x04")
    c.publish("t", b"m", qos=2)
    c.disconnect()


def test_arguments_of_asyncios_calls(broker_host, plain_port):
    """The next in line gets its turn."""

    async def says_awaited(kind, words, function, *args, **options):
        try:
            await function(*args, **options)
        except Exception as e:
            error = e
        says(kind, words, throw, error)

    def throw(error):
        raise error

    async def main():
        c = aio.MQTTClient("mistakes", broker_host, plain_port)
        await says_awaited(ValueError, ["timeout: seconds"], c.connect, "5")
        await c.connect(5)
        for wrong in ("1", None, 3, 1.5):
            await says_awaited(ValueError, ["qos: 0, 1 or 2"], c.publish, "t", b"m", qos=wrong)
            last, error, then = await asyncio.gather(
                *[c.publish("t", b"m", qos=qos, timeout=5) for qos in (2, wrong, 2)], return_exceptions=True
            )
            assert last is None and then is None, (last, then)
            says(ValueError, ["qos: 0, 1 or 2"], throw, error)
        await says_awaited(TypeError, ["props: a dict"], c.publish, "t", b"m", props=[1])
        await says_awaited(ValueError, ["timeout: seconds"], c.publish, "t", b"m", timeout="5")
        await says_awaited(ValueError, ["timeout: seconds"], c.subscribe, "t", timeout="5")
        for wrong in (5, "print", network()):
            await says_awaited(TypeError, ["handler: a function"], c.subscribe, "t", 0, wrong)
            says(TypeError, ["handler: a function"], c.on, "t", wrong)
        says(TypeError, ["callback: a function"], c.set_callback, "print")
        await c.publish("t", b"m", qos=2)
        await c.disconnect()

    asyncio.run(main())


def test_ssl_that_is_none(ca_der):
    for wrong in (1, "tls", {"cadata": b""}, ssl):
        says(TypeError, ["ssl: True, or an SSLContext"], MQTTClient, "me", "localhost", ssl=wrong)
    says(ValueError, ["needs the CA", "cadata"], MQTTClient, "me", "localhost", ssl=True, ssl_params=None)
    says(ValueError, ["not in DER"], MQTTClient, "me", "localhost", ssl=True, ssl_params={"cadata": None})
    with open(ca_der, "rb") as f:
        says(ValueError, ["not in DER"], MQTTClient, "me", "localhost", ssl=True, ssl_params={"cadata": f})


def test_on_without_a_handler():
    for client in (MQTTClient("me", "host"), robust.MQTTClient("me", "host"), aio.MQTTClient("me", "host")):
        says(TypeError, ["handler: a function"], client.on, "t", "print")
        says(ValueError, ["id: 1..268435455"], client.on, "t", print, id="1")
        assert not client._engine.session.subscriptions
        client.on("t", print)


def test_robusts_timeouts(broker_host, plain_port):
    c = robust.MQTTClient("mistakes", broker_host, plain_port)
    for wrong in ("5", [], float("inf"), float("nan"), 1e6):
        says(ValueError, ["timeout: seconds"], c.connect, True, wrong)
        says(ValueError, ["timeout: seconds"], c.flush, wrong)
        says(ValueError, ["timeout: seconds"], MQTTClient, "me", "host", timeout=wrong)
    c.connect(True, 5)
    c.flush(5)
    c.disconnect()


def test_keys_in_a_wrong_form():
    says(ValueError, ["password", "str or bytes"], ScramSHA256, "me", 1234)
    says(ValueError, ["user", "str or bytes"], ScramSHA256, 1234, "a password")
    says(ValueError, ["min_iterations", "whole number"], ScramSHA256, "me", "a password", min_iterations="4096")
    says(ValueError, ["max_iterations", "whole number"], ScramSHA256, "me", "a password", max_iterations=1e4)
    says(ValueError, ["(salt, iterations, client_key, server_key)"], ScramSHA256, "me", keys=[(b"s", 1, b"c", b"s")])
    says(ValueError, ["either a password or keys"], ScramSHA256, "me")


def test_a_topic_of_none(broker_host, plain_port):
    """Nothing goes out of what lies in the buffer, at no QoS, whether a publish is prepared there or not."""
    for prepare in (False, True):
        for qos in (0, 1, 2):
            c = MQTTClient("mistakes", broker_host, plain_port, keepalive=60)
            c.connect()
            c.publish(b"t", b"m", False, qos)
            if not prepare:
                c.ping()
            for topic in (None, False, 0, ()):
                says(TypeError, ["topic: str or bytes"], c.publish, topic, b"m", False, qos)
            c.publish(b"t", b"m", qos=2)
            c.disconnect()
