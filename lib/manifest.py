# To freeze the library: include() this from your board's manifest. Nothing outside this folder is needed.
# ruff: noqa: F821  (manifest.py's own words)
metadata(description="MQTT 5.0 client with SCRAM enhanced authentication", version="0.1.0")
package("umqtt5")
# All but machine code, which a board's own manifest adds: usasl/thumb.py and usasl/sha512_native.py.
package(
    "usasl",
    files=(
        "__init__.py",
        "crypto.py",
        "derive.py",
        "digest_md5.py",
        "scram.py",
        "scram_emqx.py",
        "scram_make.py",
        "scram_sha1.py",
        "scram_sha512.py",
        "sha512.py",
        "sha512_plain.py",
        "texts.py",
        "token.py",
    ),
)
