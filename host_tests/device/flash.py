# A file system in RAM for the store, whose power fails wherever a test wants it to. For umqtt5.log, in both
# interpreters.
#
#   torn=True    like FAT and POSIX at their worst: each byte written is there at once, and a cut leaves a part
#   torn=False   like LittleFS: what was written counts from flush() on, all of it or nothing
#   unlinks=True rename() over a file unlinks that first, as on FAT
from errno import ENOENT

import umqtt5.log

ENOSPC = 28


class PowerCut(BaseException):
    pass


class Flash:
    def __init__(self, torn=True, unlinks=False, room=1 << 30):
        self.files = {}  # what a reboot finds
        self.torn = torn
        self.unlinks = unlinks
        self.room = room  # bytes that all files together may have
        self.steps = 0  # bytes written and other changes, so far
        self.cut_at = None  # the power fails before this step
        self.open_files = 0
        umqtt5.log.open = self.open
        umqtt5.log.os = self

    def step(self):
        if self.cut_at is not None and self.steps >= self.cut_at:
            raise PowerCut(self.steps)
        self.steps += 1

    def reboot(self):
        self.cut_at = None
        self.open_files = 0

    def used(self):
        return sum([len(data) for data in self.files.values()])

    # os's

    def stat(self, path):
        if path not in self.files:
            raise OSError(ENOENT)
        return (0, 0, 0, 0, 0, 0, len(self.files[path]))

    def remove(self, path):
        if path not in self.files:
            raise OSError(ENOENT)
        self.step()
        del self.files[path]

    def rename(self, old, new):
        if old not in self.files:
            raise OSError(ENOENT)
        if self.unlinks and new in self.files:
            self.step()
            del self.files[new]
        self.step()
        self.files[new] = self.files.pop(old)

    def open(self, path, mode, buffering=-1):
        return File(self, path, mode)


class File:
    def __init__(self, flash, path, mode):
        self.flash, self.path, self.mode = flash, path, mode
        if mode == "rb" and path not in flash.files:
            raise OSError(ENOENT)
        if mode == "wb" or path not in flash.files:
            flash.step()
            flash.files[path] = b""
        self.data = flash.files[path]
        self.at = 0
        flash.open_files += 1

    def read(self, n):
        self.at += n
        return self.data[self.at - n : self.at]

    def write(self, part):
        flash = self.flash
        for i in range(len(part)):
            if flash.used() - len(flash.files[self.path]) + len(self.data) >= flash.room:
                if i:
                    return i
                raise OSError(ENOSPC)
            flash.step()
            self.data += bytes(part[i : i + 1])
            if flash.torn:
                flash.files[self.path] = self.data
        return len(part)

    def flush(self):
        self.flash.step()
        self.flash.files[self.path] = self.data

    def close(self):
        self.flash.open_files -= 1  # and nothing is written: POSIX promises no more
