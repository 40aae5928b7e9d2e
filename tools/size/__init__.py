"""What the library takes on a board: flash (bytes of .mpy) and heap (on 32 bits). See __main__.py and measure.py."""
