"""Stands in for MicroPython's `micropython` module, so that lib/ runs under CPython (host tools, fuzzing, coverage).

Importing it also gives CPython's `time` the tick functions of a board. It must never be put onto a board.
"""

import time

# As on a 32-bit board: the counter wraps early, so that code which compares ticks wrongly fails here too.
_PERIOD = 1 << 30


def _ticks_ms():
    return time.monotonic_ns() // 1_000_000 % _PERIOD


def _ticks_add(ticks, delta):
    return (ticks + delta) % _PERIOD


def _ticks_diff(end, start):
    return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2


time.ticks_ms = _ticks_ms
time.ticks_add = _ticks_add
time.ticks_diff = _ticks_diff
time.sleep_ms = lambda ms: time.sleep(ms / 1000)


def const(value):
    return value


def native(function):
    return function


viper = native
