"""The dev broker: Debian's mosquitto with a plugin of ours that answers MQTT 5 AUTH by a real SASL library.

For tests and development on one machine. It binds 127.0.0.1 only.
"""

from tools.devbroker.broker import Broker, BrokerError

__all__ = ["Broker", "BrokerError"]
