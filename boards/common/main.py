# What the board does: it joins the network, logs in to the broker, publishes a reading every few seconds and
# obeys a command topic. It starts by itself after every reset. Everything secret is in secrets.json; nothing
# of it is ever printed.
#
#     umqtt5/<client_id>/reading    published, QoS 1: {"seq": 12, "uptime": 24, "free": 101232, "celsius": 27}
#     umqtt5/<client_id>/command    obeyed: "interval 5", "led on", "led off", "led toggle", "identify"
#     umqtt5/<client_id>/status     published, retained: "online", "offline", or the last command's answer
# It stays up: without network or broker it tries again and again (umqtt5/aio.py), and nothing here waits for it.
import asyncio
import gc
import json
import sys
import time

import machine
from umqtt5 import AuthError, MQTTError, NotProven
from umqtt5.aio import MQTTClient
from umqtt5.retry import Backoff
from umqtt5.secrets import load, load_wifi

INTERVAL = 2  # seconds between readings, until a command changes it
WATCHDOG = False  # True: a board whose program hangs for 8 s resets itself. Turn it off before flashing.
RETRY_FIRST, RETRY_MAX = 1, 60  # seconds until the next attempt: 1, 2, 4 ... 60, by chance up to half of it less
# After a refused login: what is wrong there is not cured by trying, and brokers lock out who tries too often.
RETRY_LOGIN, RETRY_LOGIN_MAX = 300, 3600
ESP32_LED = 2  # GPIO of the LED on most ESP32 boards; a Pico W's is found by its name


class Board:
    """What differs from board to board: LED, temperature, watchdog. What a board does not have is left
    out."""

    def __init__(self):
        self.led = False
        self._pin = self._wdt = None
        self._synced = False  # the clock
        if hasattr(machine, "Pin"):
            try:
                self._pin = machine.Pin(ESP32_LED if sys.platform == "esp32" else "LED", machine.Pin.OUT)
            except (ValueError, TypeError):
                pass  # no such LED
        if WATCHDOG and hasattr(machine, "WDT"):
            self._wdt = machine.WDT(timeout=8000)  # an RP2040 can count no further than 8.3 s

    async def watch(self, device):
        """Feeds the watchdog: while the loop runs and the client is alive, connected or not. A broker that is away
        for a day is no reason to reset; a task of the client's that has died is."""
        while self._wdt:
            if device.healthy():
                self._wdt.feed()
            await asyncio.sleep_ms(500)

    def set_led(self, on):
        self.led = on
        if self._pin:
            self._pin.value(on)

    def celsius(self):
        """The chip's temperature, or None."""
        if sys.platform == "rp2":
            volt = machine.ADC(4).read_u16() * 3.3 / 65535  # RP2040 datasheet, 4.9.5
            return 27 - (volt - 0.706) / 0.001721
        if sys.platform == "esp32":
            import esp32

            if hasattr(esp32, "mcu_temperature"):  # S2, S3, C3, C6
                return esp32.mcu_temperature()
            if hasattr(esp32, "raw_temperature"):  # the first ESP32, in Fahrenheit
                return (esp32.raw_temperature() - 32) / 1.8
        return None

    async def join(self, wifi, tls):
        """Network up, and the clock right where TLS needs it: a certificate has dates."""
        if wifi:
            from wifi import join

            print("WiFi: connected as", await join(*wifi))
        if tls and not self._synced:
            try:
                import ntptime
            except ImportError:  # the virtual board: the host keeps its clock
                self._synced = True
                return
            try:
                ntptime.settime()  # blocks, for a second at most
            except OSError as e:
                raise OSError("no time from the network (NTP), which TLS needs: %s" % e)
            self._synced = True
            print("clock set")


class Device:
    """The program: a reading every `interval` seconds, and the commands."""

    def __init__(self, board, settings, wifi):
        self.board = board
        self.interval = INTERVAL
        self.changed = asyncio.Event()  # the interval
        self.seq = 0  # counts acknowledged readings: a subscriber may see one twice, but never misses one
        self.uptime, self.looked = 0, time.ticks_ms()
        self.resting = False  # after a login that was refused for good
        self.greeting = self.watching = None  # the tasks that say "online", and feed the watchdog
        self.proves = settings.get("auth") is not None
        self.topic = "umqtt5/" + settings["client_id"] + "/"
        backoff = Backoff(RETRY_FIRST, RETRY_MAX, RETRY_LOGIN, RETRY_LOGIN_MAX)
        tls = settings.get("ssl")
        self.client = MQTTClient(
            network=lambda: board.join(wifi, tls), backoff=backoff, on_event=self.on_event, **settings
        )
        self.client.set_last_will(self.topic + "status", "offline", retain=True, qos=1)
        self.client.on(self.topic + "command", self.on_command, 1)  # a session may still bring some

    def on_event(self, name, value):
        """The client tells what it lives through."""
        if name in ("connected", "reconnected"):
            # With a SCRAM mechanism that is only after the broker has proved that it knows our keys.
            print("connected, broker verified" if self.proves else "connected")
            self.greeting = asyncio.create_task(self.greet())
        elif name in ("lost", "failed"):
            self.explain(value)
        elif name == "waiting":
            print("next attempt in %.1f s" % (value / 1000))

    def explain(self, error):
        if isinstance(error, NotProven):  # must come before AuthError: it is one
            print("NOT OUR BROKER:", error)
        elif isinstance(error, AuthError):
            print("login refused:", error)
        elif isinstance(error, MQTTError):  # the broker refused or broke the rules, or a buffer of ours is too small
            print("MQTT:", error)
        else:  # the network, or the broker went away: the ordinary case
            print("no connection:", error)

    async def greet(self):
        """Says "online" when the commands are subscribed to, not before: who reads it may send one at once."""
        try:
            # retain_handling: a retained command comes once, not with each connection.
            await self.client.subscribe(self.topic + "command", 1, self.on_command, retain_handling=1)
        except (MQTTError, OSError) as e:
            print("commands not subscribed:", e)  # refused, say: it is online all the same
        await self.say("online")

    async def say(self, text):
        try:
            await self.client.publish(self.topic + "status", text, retain=True, qos=1)
        except (MQTTError, OSError) as e:
            print("status not published:", e)

    def healthy(self):
        return self.resting or self.client.healthy()

    async def run(self):
        self.watching = asyncio.create_task(self.board.watch(self))
        while True:
            try:
                await self.client.connect()
                break
            except (MQTTError, ValueError) as e:  # what no waiting cures; but perhaps somebody cures the broker
                self.explain(e)
                print("next attempt in %.1f s" % RETRY_LOGIN)
                self.resting = True
                await asyncio.sleep(RETRY_LOGIN)
                self.resting = False
        while True:
            await self.publish_reading()
            try:
                await asyncio.wait_for(self.changed.wait(), self.interval)
                self.changed.clear()
            except asyncio.TimeoutError:
                pass

    async def publish_reading(self):
        gc.collect()
        now = time.ticks_ms()  # starts from 0 again after 12 days; the difference is right all the same
        self.uptime += time.ticks_diff(now, self.looked)
        self.looked = now
        reading = {"seq": self.seq, "uptime": self.uptime // 1000, "free": gc.mem_free()}
        celsius = self.board.celsius()
        if celsius is not None:
            reading["celsius"] = round(celsius, 1)
        # Returns when it is acknowledged, over however many connections.
        await self.client.publish(self.topic + "reading", json.dumps(reading), qos=1)
        print("sent", self.seq)
        self.seq += 1

    async def on_command(self, message):
        """Obeys, and answers. The command is acknowledged when that is done."""
        try:
            command = message.payload.decode()[:40]
        except UnicodeError:
            command = "?"
        print("command:", command)
        await self.say(await self.obey(command.split()) or "unknown command: " + command)

    async def obey(self, words):
        if len(words) == 2 and words[0] == "interval":
            try:
                seconds = float(words[1])
            except ValueError:
                return None
            if not 0.1 <= seconds <= 86400:
                return "interval: 0.1 to 86400 seconds"
            self.interval = seconds
            self.changed.set()
            return "interval " + words[1]
        if len(words) == 2 and words[0] == "led" and words[1] in ("on", "off", "toggle"):
            self.board.set_led(not self.board.led if words[1] == "toggle" else words[1] == "on")
            return "led on" if self.board.led else "led off"
        if words == ["identify"]:
            for _ in range(6):
                self.board.set_led(not self.board.led)
                await asyncio.sleep_ms(200)
            return "%s, MicroPython %s" % (sys.platform, ".".join(str(n) for n in sys.implementation[1][:3]))
        return None


def main():
    board = Board()
    device = Device(board, load("secrets.json"), load_wifi("secrets.json"))
    try:
        asyncio.run(device.run())
    finally:
        # Ctrl-C: somebody works on the board. With reason 4 the broker publishes our will: the status says "offline".
        asyncio.run(device.client.disconnect(4))


if __name__ == "__main__":
    main()
