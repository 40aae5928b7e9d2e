"""The short ways: what comes or goes like something before, but for its payload, and the PUBACK of success.

Both directions are generators here, whose frames hold what each message needs: an attribute is searched for each time
(110 to 200 instructions), a local name is not (15), and a function with that many of them would take its frame from
the heap at each call. No check of the engine's is left out, and whatever is out of the ordinary is left to it.
"""

from micropython import const

_UP = const(2)  # as in reader.py
_FREE = const(0)  # as in session.py
_PUBACK = const(1)  # as in session.py
_DONE = const(6)  # as in session.py
_CHARGED = const(0x80)  # as in resume.py

_OFTEN = const(b"\x50\x62\x70\xd0")  # PUBREC, PUBREL, PUBCOMP, PINGRESP; and every PUBLISH and PUBACK

# A builtin is found only behind a search through all of the module's names: up to 400 instructions more.
_len = len
_type = type
_bytes = bytes


def pull(e, read, write, clock, ahead=-1, more=-1):
    """A generator: each send(slot) reads what the engine needs, and deals with it: one packet at most. It yields the
    first byte of a PUBLISH dealt with, 0 after anything else, None where nothing more has come (and at first), False
    where the stream has ended. slot: somebody waits for its answer, and Session.waited does not say so yet; or None.

    read(buf, n): the stream's readinto(). write(buf, n): its write(). clock(): ticks, ms. ahead, more: the two bytes
    of the next header, -1 where they have not been read yet.

    As Engine.got(), but with a body the next header comes, so that of a stream of messages each takes one read, and
    the PUBACK of a message like the one before goes out here: together 10 k fewer instructions. Raises what is wrong
    with the packet, or what a handler raised (StopIteration as a RuntimeError, PEP 479): broke() and _abort() have
    been called then, and where the connection is whole another generator takes over."""
    # What is used most comes first: a function's first 16 names take one byte of code (500 instructions a message).
    op = n = None
    rx = e.rx
    i = pid = at = 0
    header = -1
    beat = None
    s = e.session
    m = like = None
    puback = bytearray(b"\x40\2\0\0")
    start = 0
    same = tail = handler = None
    head = e.head
    pids = s.pid
    state = s.state
    topics = s.topic
    msgs = s.msg
    props = s.props
    flags = s.flags
    waited = s.waited
    reasons = s.reason
    slots = len(state)
    most = s.size
    ack = -1 if s.store or s.waiters else 0x40  # PUBACK; a store must know of each, and tasks that wait
    driver = e.driver
    try:
        op = None  # in here, or CPython regards its jump back to the `yield` as outside
        while True:
            slot = yield op
            if ahead < 0:
                n = read(e.into, e.need)
                if not n:
                    beat = None
                    op = None if n is None else False
                    continue
                i = e.last_rx = clock()
                if n != 2 or e.part:
                    op = e._got(n)
                    continue
                op = head[0]
                n = head[1]
            else:
                i = e.last_rx = clock()
                op = ahead
                n = more
                ahead = -1
                if n < 0:
                    head[0] = op
                    op = e._got(1)
                    continue
            if i >> 9 != beat:  # once in half a second
                if beat is not None:  # and there was something to read each time since
                    e.flowing(i)
                beat = i >> 9
            # Of what comes often, the body in the same turn.
            if n > e.quick or (op != header and op != 0x40 and op & 0xF0 != 0x30 and op not in _OFTEN):
                head[0] = op
                head[1] = n
                op = e._got(2)
                continue
            if n:
                i = read(rx, n + 2)
                if i != n:
                    if not i or i < n:
                        head[0] = op
                        e._body(n)
                        op = e._got(i) if i else None  # its end shows at the next read
                        continue
                    ahead = rx[n]
                    more = rx[n + 1] if i > n + 1 else -1
            if op == ack and (n == 2 or (n == 3 and rx[2] == 0x10)):  # 0x10: success, but nobody gets it
                # Engine._puback() and Session.answered().
                pid = rx[0] << 8 | rx[1]
                i = pid % slots
                if pids[i] == pid and state[i] == _PUBACK:
                    e.quota += flags[i] >> 7  # 4.9
                    if e.answer_props:
                        e.answer_props = b""
                    topics[i] = msgs[i] = props[i] = None
                    reasons[i] = 0 if n == 2 else 0x10
                    state[i] = _DONE if waited[i] else _FREE
                    op = 0
                    continue
            # As the last message, or another that is remembered, but for its payload? pid: -1: not so; 0: QoS 0.
            pid = 0
            if not (
                op == header
                and m.header == op
                and m.like is like
                and s.usual is like
                and n >= start
                and rx.startswith(same)
            ):
                head[0] = op
                if op & 0xF0 == 0x30 and m is not None and m.is_usual(e, n):
                    header = op
                    like = m.like
                    start = m.start
                    same = m.same
                    at = m.topic_end if m.qos else 0
                    tail = like.tail
                    handler = like.handler or e.to_callback
                else:
                    pid = -1
            if at and not pid:
                if not s.receiving and e.owed < most and rx.startswith(tail, at + 2):
                    pid = rx[at] << 8 | rx[at + 1] or -1
                else:
                    pid = -1
            if pid < 0:
                if slot is not None:
                    waited[slot] = 1  # it may be a refusal
                head[0] = op
                op = e.handlers[op >> 4](e, n)
                if m is None:
                    m = e.message
                continue
            m.end = n
            n = 0
            e.in_handler = True  # broke() finds it set when anything but Reject leaves the handler
            try:
                handler(m)
            except m.Reject:
                if pid:
                    e.owed += 1  # its properties may be wrong
                n = m.rejected(e)
                if pid:
                    e.owed -= 1
            except:
                if pid:
                    e.owed += 1
                raise
            e.in_handler = False
            if pid:
                if n or e.left or e.pending or not driver._together:
                    if e.state == _UP:  # the handler may have disconnected
                        e._ack(0x40, n, pid, e.reject_props if n else b"")
                    continue
                puback[2] = pid >> 8
                puback[3] = pid & 0xFF
                try:
                    i = write(puback, 4)
                except OSError:
                    i = None  # the driver's next write fails too, and reads the broker's last words
                except:  # Ctrl-C: who knows how much of it is out
                    e.midway = True
                    raise
                if i != 4:
                    e.midway = True  # at once: Ctrl-C
                    e.out = puback
                    e._ready(4)
                    if i:
                        e.wrote(i, e.last_rx)
                elif e.keepalive:
                    e.last_tx = e.last_rx
    except GeneratorExit:  # CPython's way to end one that nobody asks any more
        raise
    except:  # around the yield too: Ctrl-C comes between two turns as well
        e.broke()
        e.driver._abort()
        e.driver._listen(ahead, more)
        raise


def push(e, write, clock):
    """A generator: each send(msg) publishes what stands in tx (Packets.prepared), with the payload `msg` (str or
    bytes). It yields the slot that waits for the answer, -1 at QoS 0; None (and at first), and nothing has been done,
    where that cannot be: Engine.publish() knows how, or why not. Where the stream takes only a part the rest stands
    in `left`.

    write(buf, n): the stream's. clock(): ticks, ms. Raises what the broker said before it closed, or what write()
    raises: the connection is closed then."""
    # As in pull().
    i = msg = at = n = header = pid = None
    tx = e.tx
    size = len  # for speed, as above
    kind = type
    plain = bytes
    s = e.session
    state = s.state
    pids = s.pid
    topics = s.topic
    msgs = s.msg
    flags = s.flags
    slots = len(state)
    try:
        while True:
            msg = yield i
            i = None
            if kind(msg) is not plain:
                if kind(msg) is not str:
                    continue
                try:
                    msg = msg.encode()
                except Exception:  # no memory; or, CPython's, a lone surrogate
                    continue
            at = e.prepared_at
            n = at + size(msg)
            if n > e.prepared_most:
                continue
            header = e.prepared_flags
            if header & 6:
                pid = s.last % 65535 + 1
                i = pid % slots
                quota = e.quota
                if state[i] or not quota:
                    i = None
                    continue
                e.quota = quota - 1
                s.last = pids[i] = pid
                msgs[i] = msg
                flags[i] = header | _CHARGED
                state[i] = header >> 1  # PUBACK at QoS 1, PUBREC at QoS 2
                topics[i] = e.prepared  # last: see Session.forget_connection()
                # Behind the topic, which has less than 256 bytes (prepared_most).
                to = tx[3] + 4
                tx[to] = pid >> 8
                tx[to + 1] = pid & 0xFF
            else:
                i = -1
            tx[1] = n - 2
            tx[at:n] = msg
            sent = write(tx, n)
            if sent != n:
                e._ready(n)
                if sent:
                    e.wrote(sent, clock())
            elif e.keepalive:  # else nobody asks when
                e.last_tx = clock()
    except GeneratorExit:  # as in pull()
        raise
    except OSError:
        # A handler may publish while the last words are read, and this one still runs.
        e.prepared = None
        e.prepared_most = 0
        e.driver._last_words()
        raise
    except:  # Ctrl-C: the stream is whole, but who knows how much of the packet is out
        e.driver._abort()
        raise


def readdress(e, topic):
    """Give the PUBLISH that stands in tx (Packets.prepared) another topic, one that was published to before. False,
    and nothing is done, where that cannot be."""
    if _type(e.prepared) is not _bytes:
        return False
    if _type(topic) is not _bytes:
        if _type(topic) is not str or topic not in e.topics_ok[1]:
            return False
        topic = e.topics_ok[1][topic]
        if topic is e.prepared:
            return True
    n = e.tx[3]
    if e.alias_limit:
        topics, used, known = e.aliases
        if n or topic not in topics:  # a topic stands there, and no alias for it
            return False
        n = topics.index(topic)
        if not known[n]:
            return False
        used[-1] = used[n] = (used[-1] + 1) & 0x3FFFFFF
        e.prepared = None  # where Ctrl-C comes before the end
        e.tx[e.prepared_at - 1] = n + 1
    elif topic not in e.topics_ok[0]:
        return False
    else:
        n = e.prepared_at + _len(topic) - n
        if n > e.prepared_most:
            return False
        e.prepared = None
        e.prepared_at = n
        e.tx[n - 1] = 0  # no properties
        e.tx[3] = n = _len(topic)
        e.tx[4 : n + 4] = topic
    e.prepared = topic
    return True
