"""Certificates for the dev broker, made once by Debian's openssl: a CA, and what it signs.

For tests on one machine: the CA's key lies beside its certificate (mode 600).
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

DAYS = 7300

_CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
_SERVER = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
    "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName={names}\n"
)


def make_all(folder):
    """Makes `folder`, unless it is there: ca, other_ca (signed nothing), server; each .pem, .der, .key."""
    folder = Path(folder)
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        make_ca(fresh, "ca")
        make_ca(fresh, "other_ca")
        make_server(fresh, "server", "ca", names=("DNS:localhost", "IP:127.0.0.1"))
        os.rename(fresh, folder)  # complete or not at all
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def make_ca(folder, name, days=DAYS):
    """Makes a self-signed CA: `name`.pem, .der, .key (EC P-256) in `folder`."""
    _certificate(Path(folder), name, f"umqtt5 dev broker {name}", _CA, None, days)


def make_server(folder, name, ca, names, days=DAYS):
    """Makes a server certificate signed by the CA `ca` of this folder. names: ("DNS:localhost", "IP:::1")."""
    common_name = names[0].partition(":")[2]
    _certificate(Path(folder), name, common_name, _SERVER.format(names=",".join(names)), ca, days)


def _certificate(folder, name, common_name, extensions, ca, days):
    key, request, pem = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
    config = folder / f"{name}.cnf"
    config.write_text(f"[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN={common_name}\n[extensions]\n{extensions}")
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    key.chmod(0o600)
    _openssl("req", "-new", "-sha256", "-config", config, "-key", key, "-out", request)
    signer = ["-signkey", key]
    if ca is not None:
        signer = ["-CA", folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key"]
    serial = f"0x{secrets.randbits(63):x}"
    _openssl(
        *("x509", "-req", "-sha256", "-in", request, "-out", pem, "-days", days, "-set_serial", serial),
        *("-extfile", config, "-extensions", "extensions", *signer),
    )
    _openssl("x509", "-in", pem, "-outform", "DER", "-out", folder / f"{name}.der")
    request.unlink()
    config.unlink()


def _openssl(*arguments):
    program = shutil.which("openssl")
    if program is None:
        raise RuntimeError("openssl was not found: run `make setup`, or apt-get install openssl")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed:\n{done.stderr}")
