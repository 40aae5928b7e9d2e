#!/bin/sh
# Installs the Debian packages named as arguments, those that are missing; says which; with sudo where not root.
set -eu
missing=
for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || {
        echo "Debian packages are missing, and there is no sudo. As root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
fi
echo "Installing Debian packages:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
# Debian starts a broker of its own on port 1883 when mosquitto is installed. Ours are started by the tests; stop
# that one if it was us who brought it.
case " $missing " in *" mosquitto "*)
    if [ -d /run/systemd/system ]; then
        echo "Stopping and disabling the mosquitto service that the package has just started"
        $sudo systemctl disable --now mosquitto
    fi ;;
esac
