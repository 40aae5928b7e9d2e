"""What the tests are made with: a server that obeys a script, SCRAM's server side, and MicroPython as a
subprocess.

Nothing here may import umqtt5 or usasl: a client judged by its own codec would be right by definition.
"""
