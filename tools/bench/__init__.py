"""How fast the library is, as ratios to a limit that is measured beside it. See __main__.py."""
