"""How many examples hypothesis takes, and where it keeps nothing: the same ones each time, unless UMQTT5_EXAMPLES=n
asks for n times as many, drawn anew.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from harness.micropython import ROOT

set_hypothesis_home_dir(ROOT / "build" / "hypothesis")

MORE = int(os.environ.get("UMQTT5_EXAMPLES", "0"))


def examples(count):
    """A decorator for a @given test."""
    return settings(
        max_examples=count * max(MORE, 1),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
