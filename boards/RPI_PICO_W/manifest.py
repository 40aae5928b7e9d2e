# What to freeze into a firmware of your own: the library then costs no RAM for its bytecode. In
# MicroPython's source:
#
#     make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=/path/to/umqtt5/boards/RPI_PICO_W/manifest.py
#
# main.py and secrets.json stay files on the flash, so that they can be changed; then set `modules = []` in
# board.toml.
# ruff: noqa: F821  (manifest.py's own words)
include("$(PORT_DIR)/boards/RPI_PICO_W/manifest.py")
include("../../lib/manifest.py")
package("usasl", files=("thumb.py", "sha512_native.py"), base_path="../../lib")  # PBKDF2 and SHA-512 in machine code
module("wifi.py", base_path="../common")
