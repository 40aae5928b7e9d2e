"""What was in flight when a connection ended: it is sent again in the next one (MQTT 5.0, 4.4), or, where the broker
has lost the session, sent anew or told of. Loaded by a login that finds something in flight. Allocates.
"""

from micropython import const

_PUBACK = const(1)  # as in session.py
_PUBCOMP = const(3)  # as in session.py
_NO_RESEND = const(-1)  # as in packets.py
# In Session.flags.
_CHARGED = const(0x80)
_AGAIN = const(0x10)
_ANEW = const(8)


def oldest(s, n):
    """The next slot in flight of session `s`, in the order in which they were sent, behind the one whose age (see
    below) is `n`: an index or -1. Start with n=65536."""
    best = -1
    least = 0
    for i in range(len(s.state)):
        if _PUBACK <= s.state[i] <= _PUBCOMP:
            a = age(s, i)
            if least <= a < n:
                least = a
                best = i
    return best


def age(s, i):
    """How many packet identifiers ago slot i was taken."""
    return (s.last - s.pid[i]) % 65535


def lost(e):
    """The broker has no session of engine `e`: what was in flight is sent anew, or told as "unsent"."""
    s = e.session
    i = oldest(s, 65536)
    while i >= 0:
        a = age(s, i)
        if s.state[i] == _PUBCOMP:
            # The broker has it, and may have passed it on: never sent anew (4.3.3).
            e.tell_inside("unconfirmed", s.topic[i])
            s.answered(i, 0)
        elif e.terms.republish:
            s.flags[i] |= _ANEW
        else:
            e.tell_inside("unsent", (s.topic[i], s.msg[i]))
            s.answered(i, 0)
        i = oldest(s, a)


def resend(e):
    """Build the next packet that is to be resent. True where there is something to write now."""
    # 4.4: after a reconnect, in the order in which they were sent. With its full topic: an alias of the last
    # connection means nothing now.
    s = e.session
    while True:
        # Its age now: SUBSCRIBE takes identifiers too, while this waits for quota.
        i = e.resend
        i = oldest(s, i if i > 65535 else (s.last - i) % 65535)
        if i < 0:
            e.resend = _NO_RESEND
            return False
        if s.state[i] == _PUBCOMP:
            # It takes quota too, where there is some: so no more is in flight than the table has places for PUBLISH.
            if e.quota:
                e.quota -= 1
                s.flags[i] |= _CHARGED
            s.flags[i] |= _AGAIN
            e._ack(0x62, 0, s.pid[i])
            e._next_ack()
            break
        if not e.quota:
            return False
        e.out_flags = flags = s.flags[i] & 15 ^ 8
        e.out_topic = s.topic[i]
        e.out_msg = s.msg[i]
        e.out_props = s.props[i] or b""
        e.out_pid = s.pid[i]
        e.out_alias = -1
        # This broker may take less than it did before; then the message can never go out.
        reason = 0
        if flags >> 1 & 3 > e.max_qos:
            reason = 0x9B
        elif flags & 1 and not e.retain_available:
            reason = 0x9A
        else:
            try:
                e.put_publish()
                e.quota -= 1
                s.flags[i] |= _CHARGED
                break
            except ValueError:
                reason = 0x95
        s.answered(i, reason)  # first: who is told may publish, and come by here again
        e.tell_inside("refused", (e.out_topic, reason))
        if e.left or e.resend == _NO_RESEND:
            return e.left > 0
    e.resend = s.pid[i]
    return True
