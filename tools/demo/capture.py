"""A TCP proxy on 127.0.0.1 that keeps every byte that passes: the demo's view of what is on the wire.

It must never change what it carries, and knows nothing of what the bytes mean.
"""

import contextlib
import os
import selectors
import shutil
import socket
import threading
import time

from tools.demo.lines import DemoError

HOST = "127.0.0.1"
_SEND = 5  # s: for the other side to take what was read; both are on this machine
TO_BROKER, TO_CLIENT = "to broker", "to client"


class Link:
    """One connection through the proxy. bytes: {TO_BROKER: bytearray, TO_CLIENT: bytearray}; open (bool)."""

    def __init__(self, number, client, broker):
        self.number, self.open = number, True
        self.bytes = {TO_BROKER: bytearray(), TO_CLIENT: bytearray()}
        self.sockets = {TO_BROKER: (client, broker), TO_CLIENT: (broker, client)}  # (from, to)


class Capture:
    """`with Capture(host, port) as capture:` carries 127.0.0.1:capture.port to host:port. links: list of
    Link."""

    def __init__(self, host, port):
        self._target = host, port
        self.links = []
        self.port = None
        self._changed = threading.Condition()
        self._stop = False

    def __enter__(self):
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._wake_r, self._wake_w = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        self._wake_w.send(b".")
        self._thread.join(2 * _SEND)
        for sock in (self._listener, self._wake_r, self._wake_w):
            sock.close()

    def wait(self, what, find, timeout):
        """Waits until find(links) gives something true; returns that. DemoError after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (found := find(self.links)):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise DemoError(f"{what} was not seen on the wire within {timeout} s")
        return found

    def cut(self):
        """Ends every open connection at once, towards both sides; -> how many that were."""
        with self._changed:
            links = [link for link in self.links if link.open]
            for link in links:
                for source, _ in link.sockets.values():
                    with contextlib.suppress(OSError):
                        source.shutdown(socket.SHUT_RDWR)  # the thread sees the end of both, and closes them
        return len(links)

    def streams(self):
        """All that was captured: {"connection 1, to broker": bytes, ...}."""
        with self._changed:
            return {
                f"connection {link.number}, {way}": bytes(data)
                for link in self.links
                for way, data in link.bytes.items()
            }

    def save(self, folder):
        """Writes the streams as files into `folder` (emptied first; mode 700): for whoever wants to look."""
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, mode=0o700)
        for name, data in self.streams().items():
            (folder / (name.replace(",", "").replace(" ", "-") + ".bin")).write_bytes(data)

    # The thread.

    def _run(self):
        while not self._stop:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data:
                    self._carry(*key.data)
        for link in self.links:
            self._close(link)
        self._selector.close()

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection(self._target, _SEND)
        except OSError:
            client.close()  # as the broker would: the client says what it makes of that
            return
        link = Link(len(self.links) + 1, client, broker)
        for way, (source, _) in link.sockets.items():
            source.settimeout(_SEND)
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(source, selectors.EVENT_READ, (link, way))
        with self._changed:
            self.links.append(link)
            self._changed.notify_all()

    def _carry(self, link, way):
        if not link.open:
            return  # closed by the event before this one
        source, target = link.sockets[way]
        try:
            data = source.recv(65536)
            if data:
                with self._changed:  # kept first: what arrives is in the capture for sure
                    link.bytes[way] += data
                    self._changed.notify_all()
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(link)  # MQTT knows no half-closed connection

    def _close(self, link):
        with self._changed:
            if link.open:
                link.open = False
                for source, _ in link.sockets.values():
                    self._selector.unregister(source)
                    source.close()
                self._changed.notify_all()
