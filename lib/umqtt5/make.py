"""What is needed once, before connect(): checks the engine's arguments, makes its every buffer, table and attribute;
and checks the will.

Loaded for that, and unloaded as soon as it is done: no reconnect needs it. Every attribute is made here, since an
instance's table must not grow later, when the heap is in pieces.
"""

from micropython import const

import sys
from array import array

from .codec import find, milliseconds, put_data, put_vbi, text
from .errors import wrong
from .login import Terms
from .packets import payload
from .session import Session

# Texts of errors: see texts.py.
_PASSWORD = const(25)
_QOS = const(26)
_KEEPALIVE = const(54)
_MAXIMA = const(55)
_BUFFERS = const(56)
_MAX_PACKET = const(57)
_SESSION_EXPIRY = const(58)
_REAUTH_EVERY = const(59)
_OWN_ARGUMENT = const(60)
_NOT_A_STRING = const(14)  # as in codec.py
_WHOLE_NUMBER = const(122)
_TIMEOUT = const(123)
_MECHANISM = const(124)
_FUNCTION = const(125)
_MADE = const(129)

_CLOSED = const(0)  # as in reader.py
_SCRATCH = const(32)  # as in reader.py
_VIEWS = const(4)
_ACKS = const(8)  # as in packets.py
_TOPICS = const(8)  # so many are known to be right
# Slots beyond the receive maximum, for SUBSCRIBE and UNSUBSCRIBE, which it does not count (4.9).
_REQUESTS = const(2)


def make(engine, *args, **options):
    """What the constructor of protocol.Engine does."""
    try:
        _engine(engine, *args, **options)
    finally:
        _drop()


def will(e, topic, msg, retain, qos, props):
    """What Login.set_will() does."""
    try:
        if qos not in (0, 1, 2):
            raise wrong(_QOS)
        msg = msg.encode() if isinstance(msg, str) else msg
        payload(msg)
        msg = b"" + msg  # a buffer may have larger items
        flags = 0x04 | qos << 3 | (0x20 if retain else 0)
        props = e.properties(props, 0)
        topic = e.topic(topic)
        made = bytearray(8 + len(props) + len(topic) + len(msg))
        i = put_vbi(made, 0, len(props))
        made[i : i + len(props)] = props
        i = put_data(made, put_data(made, i + len(props), topic), msg)
        e.terms.will = flags, bytes(made[:i])
    finally:
        _drop()


def _drop():
    """This file is done with."""
    sys.modules.pop("umqtt5.make", None)
    sys.modules["umqtt5"].__dict__.pop("make", None)


# The layers of the engine, from top to bottom: each file's attributes.
def _engine(
    e,
    client_id,
    user,
    password,
    keepalive,
    *,
    auth=None,
    tx_size=256,
    rx_size=1024,
    receive_maximum=20,
    topic_alias_maximum=0,
    topic_aliases=8,
    max_packet=None,
    timeout=10,
    session_expiry=None,
    republish=False,
    props=None,
    ack_props=None,
    on_event=None,
    reauth_every=0,
    reauth_hold=True,
    store=None,
):
    for name, value in (
        ("keepalive", keepalive),
        ("tx_size", tx_size),
        ("rx_size", rx_size),
        ("receive_maximum", receive_maximum),
        ("topic_aliases", topic_aliases),
        ("topic_alias_maximum", topic_alias_maximum),
        ("max_packet", max_packet or 0),
        ("session_expiry", session_expiry or 0),
    ):
        if not isinstance(value, int):
            raise wrong((_WHOLE_NUMBER, name), TypeError)
    timeout = milliseconds(timeout)
    if timeout <= 0:
        raise wrong(_TIMEOUT)
    if not 0 <= keepalive <= 65535:
        raise wrong(_KEEPALIVE)
    if not 1 <= receive_maximum <= 1000 or not 0 <= topic_aliases <= 1000 or not 0 <= topic_alias_maximum <= 1000:
        raise wrong(_MAXIMA)
    if tx_size < 32 or rx_size < 64:
        raise wrong(_BUFFERS)
    if max_packet is not None and not 1 <= max_packet <= 0xFFFFFFFF:
        raise wrong(_MAX_PACKET)
    if session_expiry is not None and not 0 <= session_expiry <= 0xFFFFFFFF:
        raise wrong(_SESSION_EXPIRY)
    if password is not None and not isinstance(password, (str, bytes, bytearray)):
        raise wrong((_NOT_A_STRING, "password"), TypeError)
    if on_event and not callable(on_event):
        raise wrong((_FUNCTION, "on_event"), TypeError)
    if not isinstance(reauth_every, (int, float)) or (reauth_every and (not auth or not 1 <= reauth_every <= 432000)):
        # The clock of a board compares spans of up to 6.2 days.
        raise wrong(_REAUTH_EVERY)
    if store:
        if isinstance(store, type) or not hasattr(store, "session"):
            raise wrong((_MADE, "store", "Store"), TypeError)
        s = store.session(receive_maximum)
        client_id = client_id or store.client_id
    else:
        s = Session()
        session(s, receive_maximum)
    # login.py
    terms = Terms()
    if auth:
        if password is not None:
            raise wrong(_PASSWORD)
        if isinstance(auth, type) or not hasattr(auth, "exchange"):
            raise wrong(_MECHANISM, TypeError)
        if user is None:
            # EMQX's rules look at the MQTT User Name, not at the mechanism's.
            user = getattr(auth, "user", None)
    terms.client_id = text(client_id, "client_id")
    terms.mechanism = auth
    terms.user = None if user is None else text(user, "user")
    terms.password = password.encode() if isinstance(password, str) else password
    terms.keepalive = keepalive  # s; the broker's Server Keep Alive replaces it in the engine while connected
    terms.redirect = None  # (0x9C or 0x9D, Server Reference): where the broker has sent us
    terms.will = None  # (flags, what CONNECT has of it: properties, topic, payload)
    terms.clean = True
    terms.expiry = 0  # s, of this connection: session_expiry, or what stands for None
    terms.connack = b"\0"  # flags and properties, without the authentication data (see props.granted)
    # topics: by topic alias of the broker's; as many as it may have. And as MQTTClient was told: session_expiry,
    # max_packet, republish, reauth_every (ms), reauth_hold, props (bytes).
    terms.session_expiry = session_expiry
    terms.topics = [None] * (topic_alias_maximum + 1) if topic_alias_maximum else b""
    terms.max_packet = max_packet
    terms.republish = republish
    terms.reauth_every = int(reauth_every * 1000)
    terms.reauth_hold = reauth_hold
    e.rx = bytearray(rx_size)  # the largest block comes first
    e.tx = bytearray(tx_size)
    # packets.py
    e.session = s
    e.acks = bytearray(4 * _ACKS + 3)  # a ring of (fixed header, reason, packet identifier: 2 bytes); see _AT
    # Beside it, once there are any: the properties of each; last, those of each that has none of its own.
    e.ack_props = None
    # Outgoing topic aliases (3.3.2.3.4), given by themselves: alias n is entry n - 1 of (topics; when it was
    # used, the one used least recently gives way, and last the clock of that; 1: the broker knows it).
    e.aliases = [None] * topic_aliases, [0] * (topic_aliases + 1), bytearray(topic_aliases)
    e.props_ok = None  # the bytes objects last found right, by identity: not to check them at each publish
    # And topics: to look at each byte takes longer than all the rest. (Those; what a str is in bytes): not in one
    # list, or the unix port warns that it compares the two.
    e.topics_ok = [None] * _TOPICS, {}
    e.max_out = 0
    # The PUBLISH that is to be built stands here and not in arguments: MicroPython takes the frame of a function
    # with more than 11 words of locals and stack from the heap, at each call (tools/frames.py).
    e.out_topic = e.out_msg = e.out_props = b""
    e.out_flags = e.out_pid = 0
    e.out_alias = -1
    # Whose PUBLISH stands in tx, whole but for the payload, and may be sent again with another (quick.push()):
    # its topic (bytes) where it has no properties, or its Publisher. None: it does not, or something waits to go
    # out, or the connection is not UP: a publish that finds itself here has nothing else to check.
    e.prepared = None
    e.prepared_flags = e.prepared_at = e.prepared_most = 0
    e.reset()
    # reader.py
    e.terms = terms  # see login.py
    e.exchange = None  # see auth.py
    e.head = bytearray(5)
    e.scratch = bytearray(_SCRATCH)
    # Where a body that comes in pieces goes on: readinto() takes no offset. A multiple of _SCRATCH.
    step = max(_SCRATCH, (rx_size // _VIEWS + _SCRATCH - 1) // _SCRATCH * _SCRATCH)
    e.views = [e.rx]
    for i in range(step, rx_size, step):
        e.views.append(memoryview(e.rx)[i:])
    e.timeout = timeout  # ms
    e.keepalive = 0  # s
    e.state = _CLOSED
    e.driver = e.turn = None  # the driver, and its quick.pull(): nothing here uses them
    e.in_handler = False
    e.handler_raised = False  # see broke()
    # After an error: the reason for our DISCONNECT (3.14.2.1), 0 for none: then we only close. None: what the
    # error says. 0x80 to 0x82, 0x95 and what a rule names: never 0x87, which is the server's alone.
    e.parting = None
    # By packet type: a function of (engine, length of the variable header and payload in rx). An attribute of the
    # class is found only behind a search through all of the engine's own.
    e.handlers = e.handlers
    e.quick = -1  # a body of so many bytes is read at once with its header; -1: none (max_packet, before UP)
    e.last_tx = e.last_rx = 0  # ticks, ms
    e.pinged = None  # when PINGREQ was due, if PINGRESP has not come yet
    e.size = 0  # of a body that comes in pieces; while it is dealt with, of a PUBLISH too large for rx
    e.on_event = None
    # Of login.py and reauth.py.
    e.authenticating = False  # True while a re-authentication runs
    e.held = False  # it holds back what we send: build no packet, wait
    e.max_qos = -1  # until CONNACK tells
    e.retain_available = 0
    e._await()
    # protocol.py
    terms.props = e.properties(props, 1)
    for ident in b"\x11\x15\x16\x21\x22\x27":  # a tuple takes more
        if find(terms.props, 0, len(terms.props), ident) >= 0:
            raise wrong((_OWN_ARGUMENT, ident))
    if ack_props:
        e.ack_props = [b""] * _ACKS + [e.properties(ack_props, 4)]
    e.on_event = on_event
    e.callback = None
    if store:
        store.identify(terms.client_id)
    e.message = e.to_callback = None  # see receive.py
    e.reject_props = b""
    e.answer_props = b""  # the last acknowledgement's
    e.owed = 0  # PUBLISH with QoS > 0 that came and are not acknowledged yet (4.9)


def session(s, size):
    """The tables of a session.Session `s`, in their full size. store.py's too."""
    s.size = size  # at most so many PUBLISH packets with QoS > 0 are in flight
    n = size + _REQUESTS
    s.pid = array("H", bytes(2 * n))
    s.state = bytearray(n)
    # The PUBLISH's fixed header flags; 8: it is sent anew, so without DUP (3.3.1.1). Of this connection: 0x80: its
    # answer gives quota back (4.9); 0x10: its PUBREL was sent again.
    s.flags = bytearray(n)
    s.waited = bytearray(n)  # 1: a caller waits for the answer and frees the slot
    s.reason = bytearray(n)
    s.topic = [None] * n
    s.msg = [None] * n
    s.props = [None] * n
    s.last = 0  # the packet identifier used last
    s.received = array("H", bytes(2 * size))  # QoS 2: identifiers between PUBREC and PUBREL; 0 is a free place
    s.known = 0  # 1: this object made the session; 2: and messages come with our Subscription Identifiers
    s.subscriptions = []
    s.usual = None  # what messages were like, the last one first: a chain, see message.Usual
    s.counted = bytearray(size)  # beside it: 1 where this connection's Receive Maximum counts it
    s.receiving = 0  # how many of them are in use
    s.waiters = None  # of an asyncio driver's: told of each answer, see aio_wait.py
    s.last_id = 0  # the Subscription Identifier given last
    s.top_id = 0  # the largest that was sent in this session
    s.unmatched = 0  # PUBACK and PUBCOMP for a packet identifier not in use
    s.oversized = 0  # messages too large for rx
