"""Host programs, run in the project's folder: build/venv/bin/python -m tools.flash and so on; `make` calls them so.

Some of them run lib/ under CPython, and that needs the shims: both are found from here, whoever starts them.
"""

import sys
from pathlib import Path

for _place in ("lib", "tools/shims"):
    if (_path := str(Path(__file__).resolve().parent.parent / _place)) not in sys.path:
        sys.path.append(_path)
