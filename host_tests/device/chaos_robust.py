# The blocking client that stays up, in a network that does not; what it is to do comes by standard input, what it has
# done goes out as JSON lines. It publishes numbered messages and gets them back from the broker: both directions.
import time

from chaos import down, got, keep, measure, note, options, say, store, told, topic
from umqtt5.robust import MQTTClient

client = MQTTClient(told["id"], "127.0.0.1", **options())


def settle():
    s = client._engine.session
    while s.in_flight() or s.receiving:  # not with wait_msg(): PUBREL is no message
        if client.check_msg() is None:
            time.sleep_ms(1)


def every_byte():
    """Log in, one message at QoS 1 and one at QoS 2, out and back, and DISCONNECT; as often as told."""
    client.connect(False)
    client.subscribe(topic, 2, note)
    client.disconnect()
    say(ready=1)
    for n in range(told["count"]):
        try:
            client.connect(False)
            client.publish(topic, b"1-%05d" % n, qos=1)
            last = "2-%05d" % n
            client.publish(topic, last.encode(), qos=2)
            while last not in got[-4:]:
                client.wait_msg()
            s = client._engine.session
            while s.receiving and client.sock is not None:
                client.check_msg()
            client.disconnect()
        except OSError as e:
            if client.sock is not None:
                raise
            say(oserror=repr(e))
    say(got=got)


def flood():
    """So many messages, as fast as can be; until all have come back."""
    client.connect(False)
    client.subscribe(topic, 2, note)
    say(ready=1)
    qos = told["qos"]
    for n in range(told["count"]):
        client.publish(topic, b"%d-%05d" % (qos, n), qos=qos, wait=False)
        while client.check_msg():
            pass
    client.flush()
    last = "%d-%05d" % (qos, told["count"] - 1)
    while last not in got[-100:]:
        client.wait_msg()
    settle()
    client.disconnect()
    say(got=got, down=len(down))


def hole():
    """Wait for messages; say when the connection was found dead."""
    client.connect(False)
    client.subscribe(topic, 2, note)
    say(ready=1)
    while not down:
        client.check_msg()
        time.sleep_ms(5)
    say(down=down[0])


def reconnects():
    """Connections that end again and again; heap and descriptors after the tenth and the last."""
    client.connect(False)
    client.subscribe(topic, 2, note)
    early = None
    for n in range(told["count"]):
        client.publish(topic, b"x", qos=n % 3)
        got.clear()
        client.sock.close() if n % 2 else client._close()
        client.reconnect()
        down.clear()
        if n in (9, 10):  # twice: the first one's result is in the heap when the second one looks, as at the end
            early = measure()
    say(early=early, late=measure())


def lives():
    """One of many lives on the same store: publishes until it is killed, or told to stop."""
    client.connect()
    client.subscribe(topic + b"/in", 2, keep)
    say(ready=1)
    n = 0
    while told["end"] is None or int(store.word or b"-1") < told["end"]:
        if told["end"] is None:
            payload = "%d-%d" % (told["life"], n)
            client.publish(topic + b"/out", payload.encode(), qos=2, wait=False)
            say(accepted=payload)
            n += 1
        while client.check_msg():
            pass
    client.flush()
    settle()
    client.disconnect()
    say(word=store.word.decode(), end=1)


globals()[told["do"]]()
