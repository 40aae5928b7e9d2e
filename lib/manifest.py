# To freeze the library: include() this from your board's manifest. Nothing outside this folder is needed.
# ruff: noqa: F821  (manifest.py's own words)
metadata(description="MQTT 5.0 client with SCRAM enhanced authentication", version="0.1.0")
package("umqtt5")
# All but usasl/thumb.py: machine code for Arm Thumb, which boards/RPI_PICO_W/manifest.py adds.
package("usasl", files=("__init__.py", "crypto.py", "derive.py", "digest_md5.py", "scram.py", "texts.py", "token.py"))
