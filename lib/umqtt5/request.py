"""Request and response (MQTT 5.0, 4.10): the state for either client, and the wait of the blocking one. Loaded with
the first request. Allocates.

A request carries a Response Topic of this client's and Correlation Data of its own. A message on that topic with
other Correlation Data (a late answer to a request given up, or somebody's nonsense) is dropped.
"""

from micropython import const

from binascii import hexlify
from os import urandom

from .codec import find, topic, u16
from .props import decode, encode

_UP = const(2)  # as in reader.py

_POLLIN = const(1)  # as in driver.py


class Requests:
    """The state of a client's requests: one is answered at a time."""

    def __init__(self):
        self.subscribed = None  # the response topic (bytes) that this connection is subscribed to
        self.number = 0
        self.awaited = None  # the correlation data of the request that waits
        self.response = None

    def topic(self, engine):
        """Where responses are to go: below the broker's Response Information where it gave one (3.2.2.3.15)."""
        granted = decode(engine.terms.connack, 1).get("response_information", "umqtt5/response")
        name = engine.terms.client_id
        if not topic(name, 0, len(name)):  # it has a wildcard
            name = hexlify(name)
        return granted.encode() + b"/" + name

    def properties(self, props):
        """The properties of a new request: `props` (dict or None) with Response Topic and Correlation Data."""
        self.number += 1
        self.awaited = urandom(4) + self.number.to_bytes(4, "big")
        self.response = None
        props = dict(props or {})
        props["response_topic"] = self.subscribed
        props["correlation_data"] = self.awaited
        return encode(**props)

    def handler(self, message):
        """Handler of the subscription to the response topic."""
        i = find(message.buf, message.props_start, message.start, 0x09)
        if i >= 0 and self.awaited and message.buf[i + 2 : i + 2 + u16(message.buf, i)] == self.awaited:
            self.awaited = None
            self.response = message.copy()


def request(client, topic, msg, timeout, qos=0, props=None):
    """MQTTClient.request() of the blocking client."""
    e = client._engine
    r = client._requests = client._requests or Requests()
    deadline = client._deadline(timeout)
    if not r.subscribed:
        where = r.topic(e)
        client.subscribe(where, 1, r.handler)
        r.subscribed = where
    client.publish(topic, msg, False, qos, r.properties(props))
    client._doing = "waiting for a response"
    while not r.response:
        if client._receive(None) is None:
            try:
                client._wait(_POLLIN, deadline)
            except BaseException:  # a re-authentication by the timer may fail in there
                r.awaited = None
                if e.state != _UP:
                    client._abort()  # it was the connection's end, not only the deadline
                raise
    client._flush(None)
    return r.response
