# What the board does: it joins the network, logs in to the broker, publishes a reading every few seconds and
# obeys a command topic. It starts by itself after every reset. Everything secret is in secrets.json; nothing
# of it is ever printed.
#
#     umqtt5/<client_id>/reading    published, QoS 1: {"seq": 12, "uptime": 24, "free": 101232, "celsius": 27}
#     umqtt5/<client_id>/command    obeyed: "interval 5", "led on", "led off", "led toggle", "identify"
#     umqtt5/<client_id>/status     published, retained: "online", "offline", or the last command's answer
import gc
import json
import os
import sys
import time

import machine
from umqtt5 import AuthError, MQTTClient, MQTTError, NotProven
from umqtt5.secrets import load, load_wifi

INTERVAL = 2  # seconds between readings, until a command changes it
WATCHDOG = False  # True: a board whose program hangs for 8 s resets itself. Turn it off before flashing.
RETRY_FIRST = 1  # seconds before the first new attempt; then 2, 4, 8 ...
RETRY_MAX = 60
# After a refused login: what is wrong there is not cured by trying, and brokers lock out who tries too often.
RETRY_LOGIN = 300
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

    def feed(self):
        """Tells the watchdog that all is well. Called from every wait."""
        if self._wdt:
            self._wdt.feed()

    def sleep(self, seconds):
        end = time.ticks_add(time.ticks_ms(), int(seconds * 1000))
        while time.ticks_diff(end, time.ticks_ms()) > 0:
            self.feed()
            time.sleep_ms(50)

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

    def join(self, wifi, tls):
        """Network up, and the clock right where TLS needs it: a certificate has dates."""
        if wifi:
            from wifi import connect

            print("WiFi: connected as", connect(*wifi, on_wait=self.feed))
        if tls and not self._synced:
            try:
                import ntptime
            except ImportError:  # the virtual board: the host keeps its clock
                self._synced = True
                return
            try:
                ntptime.settime()
            except OSError as e:
                raise OSError("no time from the network (NTP), which TLS needs: %s" % e)
            self._synced = True
            print("clock set")


class Device:
    """The program: a connection, a reading every `interval` seconds, and the commands."""

    def __init__(self, board, settings):
        self.board = board
        self.interval = INTERVAL
        self.seq = 0  # counts acknowledged readings: a subscriber may see one twice, but never misses one
        self.uptime, self.looked = 0, time.ticks_ms()
        self.answer = None  # to the last command, until it is published
        self.proves = settings.get("auth") is not None
        self.topic = "umqtt5/" + settings["client_id"] + "/"
        self.client = MQTTClient(on_wait=board.feed, **settings)
        self.client.set_last_will(self.topic + "status", "offline", retain=True, qos=1)

    def connect(self):
        self.client.connect()
        # With a SCRAM mechanism connect() returns only after the broker has proved that it knows our keys.
        print("connected, broker verified" if self.proves else "connected")
        self.client.subscribe(self.topic + "command", 1, self.on_command)
        self.client.publish(self.topic + "status", "online", retain=True, qos=1)

    def run(self):
        """Publishes and listens until the connection breaks: leaves by an exception."""
        due = time.ticks_ms()
        while True:
            self.client.check_msg()  # calls on_command; keeps the connection alive, notices a dead one
            if self.answer:
                self.client.publish(self.topic + "status", self.answer, retain=True, qos=1)
                self.answer = None
            if time.ticks_diff(time.ticks_ms(), due) >= 0:
                due = time.ticks_add(time.ticks_ms(), int(self.interval * 1000))
                self.publish_reading()
            self.board.feed()
            time.sleep_ms(20)

    def publish_reading(self):
        gc.collect()
        now = time.ticks_ms()  # starts from 0 again after 12 days; the difference is right all the same
        self.uptime += time.ticks_diff(now, self.looked)
        self.looked = now
        reading = {"seq": self.seq, "uptime": self.uptime // 1000, "free": gc.mem_free()}
        celsius = self.board.celsius()
        if celsius is not None:
            reading["celsius"] = round(celsius, 1)
        self.client.publish(self.topic + "reading", json.dumps(reading), qos=1)  # returns when acknowledged
        print("sent", self.seq)
        self.seq += 1

    def on_command(self, message):
        """Obeys; the answer goes out from run(), once this message is acknowledged."""
        try:
            command = message.payload.decode()[:40]
        except UnicodeError:
            command = "?"
        print("command:", command)
        self.answer = self.obey(command.split()) or "unknown command: " + command

    def obey(self, words):
        if len(words) == 2 and words[0] == "interval":
            try:
                seconds = float(words[1])
            except ValueError:
                return None
            if not 0.1 <= seconds <= 86400:
                return "interval: 0.1 to 86400 seconds"
            self.interval = seconds
            return "interval " + words[1]
        if len(words) == 2 and words[0] == "led" and words[1] in ("on", "off", "toggle"):
            self.board.set_led(not self.board.led if words[1] == "toggle" else words[1] == "on")
            return "led on" if self.board.led else "led off"
        if words == ["identify"]:
            for _ in range(6):
                self.board.set_led(not self.board.led)
                self.board.sleep(0.2)
            return "%s, MicroPython %s" % (sys.platform, ".".join(str(n) for n in sys.implementation[1][:3]))
        return None

    def offline(self):
        """A clean end: with reason 4 the broker publishes our will, so the status says "offline"."""
        try:
            self.client.disconnect(4)
        except (OSError, MQTTError):
            pass  # was not connected


def backoff(failures):
    """Seconds to wait: doubling up to RETRY_MAX, and by chance half of it or less off, so that a hundred
    boards do not come back in the same second after a power cut."""
    seconds = min(RETRY_MAX, RETRY_FIRST << min(failures, 10))
    return seconds * (1 - os.urandom(1)[0] / 512)


def main():
    board = Board()
    settings = load("secrets.json")
    wifi = load_wifi("secrets.json")
    device = Device(board, settings)
    failures = 0
    try:
        while True:
            try:
                board.join(wifi, settings.get("ssl"))
                device.connect()
                failures = 0
                device.run()
            except NotProven as e:  # must come before AuthError: it is one
                print("NOT OUR BROKER:", e)
                wait = RETRY_LOGIN
            except AuthError as e:
                print("login refused:", e)
                wait = RETRY_LOGIN
            except MQTTError as e:  # the broker refused or broke the rules, or a buffer of ours is too small
                print("MQTT:", e)
                wait = RETRY_MAX
            except OSError as e:  # the network, or the broker went away: the ordinary case
                print("no connection:", e)
                wait = backoff(failures)
                failures += 1
            except Exception as e:  # a mistake in this program: better seen again and again than silent
                sys.print_exception(e)
                wait = RETRY_MAX
                device.offline()
            print("next attempt in %.1f s" % wait)
            board.sleep(wait)
    finally:
        device.offline()  # Ctrl-C: somebody works on the board


if __name__ == "__main__":
    main()
