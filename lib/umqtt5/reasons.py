"""Names of reason codes (MQTT 5.0, 2.4), and what usually causes a refused login. Loaded when an error is printed."""

_NAMES = {
    0x00: "Success",
    0x01: "Granted QoS 1",
    0x02: "Granted QoS 2",
    0x04: "Disconnect with Will Message",
    0x10: "No matching subscribers",
    0x11: "No subscription existed",
    0x18: "Continue authentication",
    0x19: "Re-authenticate",
    0x80: "Unspecified error",
    0x81: "Malformed Packet",
    0x82: "Protocol Error",
    0x83: "Implementation specific error",
    0x84: "Unsupported Protocol Version",
    0x85: "Client Identifier not valid",
    0x86: "Bad User Name or Password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep Alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic Filter invalid",
    0x90: "Topic Name invalid",
    0x91: "Packet Identifier in use",
    0x92: "Packet Identifier not found",
    0x93: "Receive Maximum exceeded",
    0x94: "Topic Alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared Subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription Identifiers not supported",
    0xA2: "Wildcard Subscriptions not supported",
}


def name(reason):
    """The specification's name of a reason code, or "unknown reason code"."""
    return _NAMES.get(reason, "unknown reason code")


def describe(error):
    """The text of an MQTTError or Disconnected: its own (see texts.py), the code and its name, what the broker says
    (made printable), the method, and the usual cause."""
    text = error.args[-1]
    if not isinstance(text, str):
        from .texts import text as found

        text = found(text)
    reason = error.reason
    if reason is not None:
        # "CONNACK 0x87 Not authorized (the broker says: ...)"; behind a sentence: "... (0x81 Malformed Packet)"
        text = ("%s (0x%02X %s)" if " " in text else "%s 0x%02X %s") % (text, reason, name(reason))
    said = error.said
    if said:
        for c in said:
            if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0:  # it could draw on a terminal, or forge a line of a log
                said = said.replace(c, "?")
        text = "%s (the broker says: %s)" % (text, said)
    method = getattr(error, "method", None)
    if method:
        text = method + ": " + text
    if hasattr(error, "code"):  # a PeerError
        text = "the broker broke the protocol: " + text
    if reason is not None and hasattr(error, "method"):
        text += "; usually: " + cause(reason, method, error.step)
    return text


def cause(reason, method, step=0):
    """What usually causes a login to be refused with `reason`. `method`: the Authentication Method, or None. step:
    the server has 0 CONNECT without the method's data, 1 with it, 2 an answer of ours to its challenge (the proof).
    3: it was a re-authentication."""
    if not method:
        return "wrong user name or password, or the broker wants enhanced authentication (auth=)"
    if step == 3:
        if reason == 0x82:
            return "the broker (mosquitto 2.0) takes no other packet in a re-authentication: leave reauth_hold=True"
        text = "wrong user or password (or keys), the password was changed since the login, or "
        return text + "the broker does not re-authenticate by %s (EMQX says 0x87 or 0x8C for all of these)" % method
    if reason == 0x8C:
        if step == 2:
            return "the broker offers %s no longer, or says so for a wrong user or password (or keys)" % method
        text = "the broker, or this listener of it, does not offer %s (the name's case counts), or another algorithm"
        return text % method
    if step == 2:
        return "wrong password (or keys: provision again), or a user that the broker does not know"
    text = "a user that the broker does not know, %s not enabled on this listener, or enabled with another algorithm"
    if not step:
        text += "; or the broker wants the method's data in CONNECT already, and there was none"
    return text % method
