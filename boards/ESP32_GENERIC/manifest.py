# What to freeze into a firmware of your own: the library then costs no RAM for its bytecode. In
# MicroPython's source:
#
#     make -C ports/esp32 BOARD=ESP32_GENERIC FROZEN_MANIFEST=/path/to/umqtt5/boards/ESP32_GENERIC/manifest.py
#
# main.py and secrets.json stay files on the flash, so that they can be changed; then set `modules = []` in
# board.toml.
# ruff: noqa: F821  (manifest.py's own words)
include("$(PORT_DIR)/boards/manifest.py")
include("../../lib/manifest.py")
package("usasl", files=("sha512_native.py",), base_path="../../lib")  # SHA-512 in machine code
module("wifi.py", base_path="../common")
