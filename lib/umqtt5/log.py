"""An append-only file of records that survives a power cut at any byte: the part of the store that knows files.

A record is: its kind (1 byte), the length of its body (variable byte integer), the body, and 4 bytes of CRC-32 over
all of it, continued from the record before. Reading stops at the first record that is not whole and right; what
stands behind it is never appended to. The file is written anew, with what is alive only, when it has grown: into
`path`.new, flushed, and renamed over the old one. Each step leaves either the old file or the whole new one:

    while .new is written        `path` is as it was; a .new without its END counts for nothing
    .new is whole, not renamed   both say the same
    renamed (LittleFS, POSIX: atomic)       FAT unlinks first: then .new alone is left, and found

It must never tell its caller that a record is written before the file system has taken it (flush).
"""

from micropython import const

import os
from binascii import crc32

from .codec import put_vbi

BEGIN = const(1)  # the first record of a file
END = const(2)  # the last one of what was alive when it was written anew

_MAGIC = b"umqtt5 1"
_ENOSPC = const(28)  # errno has no name for it on a board
_LAZY = const(256)  # bytes of records that may wait for the next one


class Log:
    """path: of the file. limit: bytes from which on it is written anew (later, where most of them are alive).
    `snapshot(put)` has to call put(kind, *parts) for all that is alive. `syncs`, `written`: how often the flash was
    written to, and bytes."""

    def __init__(self, path, limit=4096, snapshot=None):
        self.path = path
        self.limit = limit
        self.snapshot = snapshot
        self.failed = False  # what was to be written is not
        self._stale = True  # what comes next is a new file
        self.syncs = self.written = 0
        self.cut = 0  # bytes at the file's end that were no whole record: a torn write, or damage
        self._file = None
        self._lazy = bytearray()
        self._crc = 0
        self._size = 0
        self._next = limit  # the size at which it is written anew
        self._head = bytearray(6)

    def read(self, apply):
        """Read what is there: apply(kind, body) for each record. Once, before anything is written."""
        new = self.path + ".new"
        path = self.path
        if self._scan(path, None):
            _remove(new)
        elif self._scan(new, None):
            _remove(path)
            os.rename(new, path)
        self._scan(path, apply)
        self._stale = self.cut > 0 or not self._size

    def now(self, kind, *parts):
        """Write a record (bytes-like parts) and all that waits, through to the flash. The change that it tells must
        be in what snapshot() gives already. Raises OSError: then nothing is promised."""
        if self._stale:
            self.rewrite()
            return
        try:
            if self._file is None:
                self._file = open(self.path, "ab", 0)  # noqa: SIM115
            if self._lazy:
                self._write(self._lazy)
                self._lazy = bytearray()
            if kind:
                self._put(self._write, kind, parts)
            self._flush()
        except OSError:
            # What the old file has no room for may fit into a new one: it holds what is alive only.
            self.rewrite()
            return
        if self._size > self._next:
            self._compact()

    def later(self, kind, *parts):
        """A record that may be lost: it goes out with the next one, or with flush()."""
        if self.failed:
            return
        self._put(self._lazy.extend, kind, parts)
        if len(self._lazy) > _LAZY:
            try:
                self.flush()
            except OSError:
                pass  # it promised nothing; the next now() raises, or heals

    def flush(self):
        """Write what waits."""
        if self._lazy or self.failed:
            self.now(0)

    def rewrite(self):
        """Write the file anew."""
        self._close()
        self.failed = self._stale = True
        new = self.path + ".new"
        self._crc = self._size = 0
        self._lazy = bytearray()
        try:
            self._file = open(new, "wb", 0)  # noqa: SIM115
            self._put(self._write, BEGIN, (_MAGIC,))
            self.snapshot(self._live)
            self._put(self._write, END, ())
            self._flush()
            self._close()
            os.rename(new, self.path)
        except OSError:
            self._close()
            _remove(new)  # it takes room
            raise
        self.failed = self._stale = False
        self._next = max(self.limit, 2 * self._size)

    def close(self):
        """Write what waits, and close the file. It is opened again by the next record."""
        self.flush()
        self._close()

    # --- small parts

    def _compact(self):
        size, crc = self._size, self._crc
        try:
            self.rewrite()
        except OSError:
            # No room for both: the old one is as good as it was, and goes on.
            self._size, self._crc = size, crc
            self._next = size + self.limit
            self.failed = self._stale = False

    def _live(self, kind, *parts):
        self._put(self._write, kind, parts)

    def _put(self, write, kind, parts):
        n = 0
        for part in parts:
            n += len(part)
        head = self._head
        head[0] = kind
        n = put_vbi(head, 1, n)
        start = bytes(head[:n])
        crc = crc32(start, self._crc)
        write(start)
        for part in parts:
            if part:
                write(part)
                crc = crc32(part, crc)
        self._crc = crc
        write(crc.to_bytes(4, "big"))

    def _write(self, part):
        if self._file.write(part) != len(part):
            raise OSError(_ENOSPC)
        self._size += len(part)
        self.written += len(part)

    def _flush(self):
        self._file.flush()
        if hasattr(os, "fsync"):  # CPython; MicroPython's flush() does it
            os.fsync(self._file.fileno())
        self.syncs += 1

    def _close(self):
        if self._file:
            f = self._file
            self._file = None
            try:
                f.close()
            except OSError:
                pass

    def _scan(self, path, apply):
        """Read a file's records. True where it begins with all that was alive when it was written."""
        self._crc = self._size = self.cut = 0
        try:
            left = os.stat(path)[6]
            f = open(path, "rb")  # noqa: SIM115
        except OSError:
            return False
        whole = False
        try:
            while left:
                kind, body, size = self._record(f, left)
                if not size or (kind == BEGIN) != (not self._size) or (kind == BEGIN and body != _MAGIC):
                    break
                left -= size
                self._size += size
                if kind == END:
                    whole = True
                    if not apply:
                        break
                elif apply and kind != BEGIN:
                    apply(kind, body)
        finally:
            f.close()
        self.cut = left
        return whole

    def _record(self, f, left):
        """(kind, body, bytes read); 0 bytes where it is not whole and right."""
        start = f.read(2)
        n = 0
        if len(start) == 2:
            n = start[1] & 0x7F
            while start[-1] & 0x80 and 1 < len(start) < 5:
                more = f.read(1)
                if not more:
                    return 0, None, 0
                n |= (more[0] & 0x7F) << 7 * (len(start) - 1)
                start += more
        size = len(start) + n + 4
        if size > left or start[-1] & 0x80:  # before its memory is asked for
            return 0, None, 0
        body = f.read(n)
        crc = crc32(body, crc32(start, self._crc))
        if f.read(4) != crc.to_bytes(4, "big"):
            return 0, None, 0
        self._crc = crc
        return start[0], body, size


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass
