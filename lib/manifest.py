# To freeze the library: include() this from your board's manifest. Nothing outside this folder is needed.
# ruff: noqa: F821  (manifest.py's own words)
metadata(description="MQTT 5.0 client with SCRAM enhanced authentication", version="0.1.0")
package("umqtt5")
package("usasl")
