# The virtual board's firmware start: runs in MicroPython's unix port, before boot.py and main.py, and makes
# the process look like a board: the flash is the root of the file system, modules come from it and its /lib
# only, machine.reset() exists. Started by vboard.py; must never show the board the host's file system.
#
#     micropython -i vboard_boot.py FLASH_FOLDER SIZE ROM MODE
#
# SIZE: 0, or bytes of a littlefs in FLASH_FOLDER/littlefs.img, for tests that need a flash that can be full.
# ROM: 0, or bytes of a partition for a ROMFS in FLASH_FOLDER.rom, as some firmwares have one.
# MODE: "main": boot.py and main.py run, as after power on. "boot": boot.py only, as after a soft reset in the
#       raw REPL. "bare": neither (a board whose program was stopped).
import os
import sys

import vfs


class Folder:
    """A folder of the host as a file system. VfsPosix(folder) alone cannot rename: 1.29 uses one buffer for both
    names (so this is not the place to inherit from it: the C code would not know us)."""

    def __init__(self, path):
        self._path = path
        flash = vfs.VfsPosix(path)
        for name in ("open", "stat", "statvfs", "ilistdir", "mkdir", "rmdir", "remove", "chdir", "getcwd"):
            setattr(self, name, getattr(flash, name))

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def rename(self, old, new):
        vfs.VfsPosix().rename(self._real(old), self._real(new))

    def _real(self, name):
        return self._path + name if name[0] == "/" else name  # the rest: seen from the working directory


class ImageFile:
    """A block device on a file of the host, for VfsLfs2."""

    _BLOCK = 4096

    def __init__(self, host, path, size):
        self._count = size // self._BLOCK
        try:
            self._file = host.open(path, "r+b")
        except OSError:
            with host.open(path, "wb") as f:
                for _ in range(self._count):
                    f.write(b"\xff" * self._BLOCK)
            self._file = host.open(path, "r+b")

    def readblocks(self, block, buf, offset=0):
        self._file.seek(block * self._BLOCK + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        self._file.seek(block * self._BLOCK + (offset or 0))
        self._file.write(buf)
        self._file.flush()

    def ioctl(self, op, arg):
        if op == 4:  # how many blocks
            return self._count
        if op == 5:  # their size
            return self._BLOCK
        return 0  # init, deinit, sync, erase


class Rom:
    """`vfs` as the port has it, and rom_ioctl() for one partition, which is a file of the host. A board's is mapped
    into its memory; this one lies on the heap."""

    _BLOCK = 4096

    def __init__(self, path, size):
        host = vfs.VfsPosix()
        for name in dir(vfs):
            if name[0] != "_":
                setattr(self, name, getattr(vfs, name))
        self._data = bytearray(size)
        try:
            self._file = host.open(path, "r+b")
            self._file.readinto(self._data)
        except OSError:
            self._file = host.open(path, "w+b")
            self._file.write(self._data)

    def rom_ioctl(self, op, number=0, *more):
        if op == 1:  # how many partitions
            return 1
        if number:
            return -22
        if op == 2:
            return memoryview(self._data)
        if op == 3:  # erase so many bytes, from an offset
            at, n = more
            self._write(at, b"\xff" * n)
            return 4  # bytes: no write may be smaller
        if op == 4:
            self._write(*more)
        return self._BLOCK if op == 6 else 0  # 5: that was all

    def _write(self, at, data):
        self._data[at : at + len(data)] = data
        self._file.seek(at)
        self._file.write(data)
        self._file.flush()

    def start(self):
        """What the firmware does when the board starts."""
        try:
            self.mount(self.VfsRom(self._data), "/rom")
        except OSError:
            return []  # there is no ROMFS in it
        return ["/rom", "/rom/lib"]


class Machine:
    """`machine` as the port has it, and reset()."""

    def __init__(self):
        import machine

        for name in dir(machine):
            if name[0] != "_":
                setattr(self, name, getattr(machine, name))

    @staticmethod
    def reset():
        # As abrupt as on a board: nothing is closed, nothing is flushed. The tool starts the process again.
        import os  # the names of this file are gone by then

        os.system("kill -KILL $PPID")


def mount(folder, size):
    if size:
        device = ImageFile(vfs.VfsPosix(folder), "littlefs.img", size)
        try:
            flash = vfs.VfsLfs2(device)
        except OSError:
            vfs.VfsLfs2.mkfs(device)
            flash = vfs.VfsLfs2(device)
    else:
        flash = Folder(folder)
    vfs.umount("/")
    vfs.mount(flash, "/")
    os.chdir("/")


def start(mode):
    """Runs the start files as a board does and returns the names that they leave behind, for the REPL."""
    names = {"__name__": "__main__"}
    for name in {"main": ("boot.py", "main.py"), "boot": ("boot.py",), "bare": ()}[mode]:
        try:
            os.stat(name)
        except OSError:
            continue
        try:
            execfile(name, names)  # noqa: F821  (MicroPython's own)
        except SystemExit:
            print("vboard: sys.exit() in " + name)
            Machine.reset()  # what a board does too; the tool makes it later and later
        except KeyboardInterrupt as e:
            sys.print_exception(e)
            break
        except BaseException as e:
            # A board goes on with main.py when boot.py failed, and with the REPL when main.py did.
            sys.print_exception(e)
    return names


_folder, _size, _rom, _mode = sys.argv[1:5]
sys.path[:] = ["", ".frozen"]
if int(_rom):
    sys.modules["vfs"] = Rom(_folder + ".rom", int(_rom))  # opened while the host's files are there
mount(_folder, int(_size))
if int(_rom):
    sys.path.extend(sys.modules["vfs"].start())
sys.path.append("/lib")
sys.argv[:] = []
sys.modules["machine"] = Machine()
print("\x02up")  # vboard.py waits for it before it lets a Ctrl-C through to us
_names = start(_mode)
for _name in list(globals()):
    if _name not in ("_names", "vfs"):  # Folder needs vfs
        del globals()[_name]
globals().update(_names)
