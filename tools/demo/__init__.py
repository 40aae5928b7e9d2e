"""`make demo`: a virtual board logs in to a real broker by SCRAM, before your eyes. See __main__.py."""
