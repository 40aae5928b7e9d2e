# What to freeze into a unix port of your own. In MicroPython's source:
#
#     make -C ports/unix FROZEN_MANIFEST=/path/to/umqtt5/boards/UNIX/manifest.py
# ruff: noqa: F821  (manifest.py's own words)
include("$(PORT_DIR)/variants/standard/manifest.py")
include("../../lib/manifest.py")
