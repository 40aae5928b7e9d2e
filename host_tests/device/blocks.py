# A block device in RAM for MicroPython's own LittleFS: flash that counts how it is worn, and whose power fails in the
# middle of any write or erase.
import vfs


class PowerCut(BaseException):
    pass


class Blocks:
    """One life of the flash whose content is `data` (a bytearray, shared by all lives)."""

    def __init__(self, data, block):
        self.data = data
        self.block = block
        self.erases = self.writes = self.bytes = 0
        self.cut_at = None  # the power fails in this write or erase (counted together)
        self.dead = False

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // self.block
        if op == 5:
            return self.block
        if op == 6:
            if not self.dead:
                self.erases += 1
                self._change(arg * self.block, b"\xff" * self.block)
            return 0
        return 0

    def readblocks(self, n, buf, off=0):
        at = n * self.block + off
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, n, buf, off=0):
        if self.dead:  # a file that was open at the cut, and is collected now
            return
        self.writes += 1
        self.bytes += len(buf)
        self._change(n * self.block + off, buf)

    def _change(self, at, new):
        if self.erases + self.writes == self.cut_at:
            self.dead = True
            new = memoryview(new)[: len(new) // 2]
        self.data[at : at + len(new)] = new
        if self.dead:
            raise PowerCut


class Disk:
    """A LittleFS on such blocks, mounted at /flash. progsize: what a port gives VfsLfs2 (ESP32: 32, RP2: 256)."""

    mounted = None  # the Blocks of the life that goes on now

    def __init__(self, block=4096, count=32, progsize=32):
        self.data = bytearray(block * count)
        self.block = block
        self.progsize = progsize
        vfs.VfsLfs2.mkfs(Blocks(self.data, block), progsize=progsize)
        self.fresh = bytes(self.data)

    def mount(self, cut_at=None):
        """A new life. Returns its Blocks."""
        self.umount()
        blocks = Disk.mounted = Blocks(self.data, self.block)
        vfs.mount(vfs.VfsLfs2(blocks, progsize=self.progsize), "/flash")
        blocks.erases = blocks.writes = blocks.bytes = 0
        blocks.cut_at = cut_at
        return blocks

    def umount(self):
        if Disk.mounted:
            Disk.mounted.dead = True
            Disk.mounted = None
            vfs.umount("/flash")

    def clear(self):
        self.umount()
        self.data[:] = self.fresh
