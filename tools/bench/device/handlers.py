# For the benches: handlers that look at a message in place, as one without allocation does, and count it in `seen`.
seen = 0


def take(message):
    global seen
    if message.buf[message.start] == 0x7B:
        seen += 1


def take_umqtt(topic, msg):
    global seen
    if msg[0] == 0x7B:
        seen += 1
