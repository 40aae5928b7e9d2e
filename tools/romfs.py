"""A ROMFS image of the library: a read-only file system in a board's flash, from which MicroPython runs .mpy files in
place. Their bytecode and texts then take no heap, as if they were frozen, without a firmware of one's own making.

The format is mpremote's. It must never hold what is no board's business: what goes in is the caller's list.
"""

from mpremote.romfs import VfsRomWriter


def image(files):
    """{"umqtt5/codec.mpy": bytes} -> the image (bytes)."""
    writer = VfsRomWriter()
    _fill(writer, _tree(files))
    return bytes(writer.finalise())


def _tree(files):
    """The same as folders: {"umqtt5": {"codec.mpy": bytes}}."""
    root = {}
    for path, data in sorted(files.items()):
        *folders, name = path.split("/")
        folder = root
        for part in folders:
            folder = folder.setdefault(part, {})
        folder[name] = data
    return root


def _fill(writer, folder):
    for name, entry in folder.items():
        if isinstance(entry, dict):
            writer.opendir(name)
            _fill(writer, entry)
            writer.closedir()
        else:
            writer.mkfile(name, entry)
