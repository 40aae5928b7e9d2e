"""Request and response (MQTT 5.0, 4.10) for the asyncio client: many at a time. Loaded with the first request."""

from asyncio import Lock, core
from os import urandom

from .aio_wait import pause, wake
from .codec import find, u16
from .props import encode
from .request import Requests as _Requests


class Requests(_Requests):
    """The requests that wait, by Correlation Data: [task, response]."""

    def __init__(self, client):
        super().__init__()
        self.client = client
        self.open = {}
        self.lock = Lock()  # only one of them subscribes

    async def ask(self, topic, msg, qos, props):
        client = self.client
        async with self.lock:
            if not self.subscribed:
                where = self.topic(client._engine)
                await client.subscribe(where, 1, self.handler)
                self.subscribed = where
        self.number += 1
        key = urandom(4) + self.number.to_bytes(4, "big")
        props = dict(props or {})
        props["response_topic"] = self.subscribed
        props["correlation_data"] = key
        w = self.open[key] = [core.cur_task, None]
        try:
            await client.publish(topic, msg, False, qos, encode(**props))
            while w[1] is None:
                client._check()
                await pause()
        finally:
            del self.open[key]
        return w[1]

    def handler(self, message):
        i = find(message.buf, message.props_start, message.start, 0x09)
        if i >= 0:
            w = self.open.get(bytes(message.buf[i + 2 : i + 2 + u16(message.buf, i)]))
            if w is not None and w[1] is None:
                w[1] = message.copy()
                wake(w[0])

    def close(self):
        for w in self.open.values():
            wake(w[0])
