# Brings the WiFi up, on any board that MicroPython's network.WLAN serves (ESP32, Pico W). Must never wait for
# ever, nor print the key.
import asyncio
import time

import network

# Where the board is used, as two letters ("GB", "DE", "US"): it decides which channels and how much power are
# allowed. Without it a Pico W uses what is allowed everywhere: channel 12 and 13 are then not seen.
COUNTRY = None

# The Pico W's chip sleeps between beacons by default: every packet to the board then waits up to 0.2 s, and
# some access points drop it altogether. This value turns that off; it costs some 20 mA. The ESP32 does not
# know the value and keeps its own setting.
_PM_OFF = 0xA11140

# What status() says when it went wrong. The names are MicroPython's, but not every port has all of them.
_FAILURES = (
    ("STAT_WRONG_PASSWORD", "wrong key for %r: correct [wifi] key in secrets.toml, provision, flash"),
    ("STAT_NO_AP_FOUND", "no access point %r in reach (2.4 GHz only; look at [wifi] ssid, and at COUNTRY)"),
    ("STAT_CONNECT_FAIL", "%r refused the connection"),
    ("STAT_ASSOC_FAIL", "%r refused the connection"),
    ("STAT_HANDSHAKE_TIMEOUT", "no handshake with %r: usually a wrong key, or a weak signal"),
    ("STAT_BEACON_TIMEOUT", "%r is out of reach"),
)


def _why(status, ssid):
    for name, text in _FAILURES:
        if status == getattr(network, name, None):
            return text % ssid
    return None


def connect(ssid, key, timeout=30, on_wait=None):
    """Joins the network and returns the board's IP address (str); at once if it is there already.

    timeout: seconds for all of it. on_wait: called every 0.1 s meanwhile (a watchdog). OSError with the
    likely cause if it does not come up: just call it again later.
    """
    address = None
    for address in _joining(ssid, key, timeout):
        if not address:
            if on_wait:
                on_wait()
            time.sleep_ms(100)
    return address


async def join(ssid, key, timeout=30):
    """The same for asyncio: other tasks run meanwhile."""
    address = None
    for address in _joining(ssid, key, timeout):
        if not address:
            await asyncio.sleep_ms(100)
    return address


def _joining(ssid, key, timeout):
    """Yields None while it is to be waited, then the address."""
    if COUNTRY:
        network.country(COUNTRY)
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    if wlan.isconnected():
        yield wlan.ifconfig()[0]
        return
    try:
        wlan.config(pm=_PM_OFF)
    except (ValueError, TypeError, OSError):
        pass  # not a Pico W
    wlan.disconnect()  # an ESP32 that is still trying refuses connect()
    wlan.connect(ssid, key)

    why = None
    start = time.ticks_ms()
    while time.ticks_diff(time.ticks_ms(), start) < timeout * 1000:
        if wlan.isconnected():
            yield wlan.ifconfig()[0]
            return
        # The first report of a failure is not the last word: an ESP32 tries again by itself, and both chips
        # say "wrong key" now and then when the signal is weak. So: the text is kept until the time is over.
        why = _why(wlan.status(), ssid) or why
        yield None
    wlan.disconnect()
    raise OSError("WiFi: " + (why or "no answer from %r within %d s" % (ssid, timeout)))
