# shellcheck shell=bash
# What the host lacks is noted with `need`, and installed with `install_missing`. Sourced by ../run.

missing=()
# need PACKAGE COMMAND: notes the package if the command is missing.
need() {
    if ! PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null; then missing+=("$1"); fi
}
# install_missing WHY: installs what was noted.
install_missing() {
    if ((${#missing[@]} == 0)); then return; fi
    local why=$1
    command -v apt-get >/dev/null ||
        give_up "needs ${missing[*]} ($why), and this is no Debian to install them on"
    say "installing ${missing[*]}: $why"
    # With old lists the packages may be gone from the mirror.
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 \
        install -y --no-install-recommends "${missing[@]}" >/dev/null
    missing=()
}
