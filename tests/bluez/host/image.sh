# shellcheck shell=bash disable=SC2154
# The guest's image, and the Python phone's packages: each is made once, and kept under a hash of
# what it is made from. Sourced by ../run, whose variables it uses.

# Sets `image` and `python_packages` to folders that are there.
have_image() {
    local key begin=$SECONDS
    key=$(cd "$here/image" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
        sha256sum | cut -c 1-12)
    image=$cache/image-$suite-$key
    if $fresh || [[ ! -e $image/versions ]]; then
        make_image
        say "image made in $((SECONDS - begin)) s"
    fi
    key=$(sha256sum "$repository/tests/bumble/requirements.txt" | cut -c 1-12)
    python_packages=$cache/python-$suite-$key
    if $needs_python && [[ ! -d $python_packages ]]; then make_python_packages; fi
    say "guest of $suite: $(paste -sd, "$image/versions" | sed 's/,/, /g')"
}

# Prints the main archive that the host's apt has for Debian, whatever mirror that is; nothing if
# it has none.
host_mirror() {
    if [[ -n ${FLORIN_DEBIAN_MIRROR:-} ]]; then
        printf '%s\n' "$FLORIN_DEBIAN_MIRROR"
        return
    fi
    # shellcheck disable=SC2016 # apt-get's own variables
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(LABEL) $(COMPONENT)' \
        'Identifier: Packages' 2>/dev/null |
        awk '$3 == "Debian" && $4 == "main" && $2 !~ /-/ { print $1; exit }'
}

# Prints a keyring that vouches for the suite. A host that is older than the suite may not have its
# key. Then the way to it is the host's own suites, for which its keys do vouch, and whose updates
# bring newer keys. Signatures are checked at every step.
suite_keyring() {
    local mirror=$1 all=$keyrings/debian-archive-keyring.gpg
    if [[ -e $keyrings/debian-archive-$suite-automatic.gpg || -z $mirror ]]; then
        printf '%s\n' "$all"
        return
    fi
    local older folder=$cache/keyring unpacked
    for older in trixie bookworm bullseye; do
        [[ -e $keyrings/debian-archive-$older-automatic.gpg ]] || continue
        rm -rf "$folder"
        mkdir -p "$folder"/{lists/partial,archives/partial,unpacked}
        printf 'deb [signed-by=%s] %s %s main\n' "$keyrings/debian-archive-$older-automatic.gpg" \
            "$mirror" "$older" >"$folder/sources.list"
        local options=(-qq -o "Dir::Etc::SourceList=$folder/sources.list"
            -o "Dir::Etc::SourceParts=-" -o "Dir::State::Lists=$folder/lists"
            -o "Dir::Cache=$folder" -o "Dir::State::status=/dev/null"
            -o "APT::Sandbox::User=root")
        (cd "$folder" && apt-get "${options[@]}" update &&
            apt-get "${options[@]}" download debian-archive-keyring) >&2 || continue
        dpkg-deb -x "$folder"/debian-archive-keyring_*.deb "$folder/unpacked"
        unpacked=$folder/unpacked/usr/share/keyrings
        if [[ -e $unpacked/debian-archive-$suite-automatic.gpg ]]; then
            say "took the key of $suite from the debian-archive-keyring of $older" >&2
            printf '%s\n' "$unpacked/debian-archive-keyring.gpg"
            return
        fi
    done
    # Releases are signed by the key of the suite before, too: apt has the last word.
    printf '%s\n' "$all"
}

make_image() {
    need mmdebstrap mmdebstrap
    need cpio cpio
    need xz-utils xz
    need gcc cc
    need patch patch
    [[ -e /usr/lib/x86_64-linux-gnu/libc.a ]] || missing+=(libc6-dev)
    [[ -e $keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
    install_missing "the guest is made of Debian packages, whose signatures are checked, and btvirt"
    local mirror keyring source=
    mirror=$(host_mirror)
    keyring=$(suite_keyring "$mirror")
    if [[ -n $mirror ]]; then source="deb [signed-by=$keyring] $mirror $suite main"; fi
    say "making the guest of $suite (once, until tests/bluez/image changes)"
    # Built aside and then renamed: a build cut short leaves nothing that looks like an image.
    local building=$cache/building-$suite
    as_root rm -rf --one-file-system "$building" "$cache/image-$suite"-*
    mkdir -p "$building"
    as_root "$here/image/build" "$suite" "$building" "$source" ||
        give_up "the guest's image could not be made"
    as_root chown -R "$EUID" "$building"
    mv "$building" "$image"
}

# The Python phone's packages: wheels for the guest's Python, unpacked, so that the guest needs no
# pip and no network. Their hashes are in the requirements.
make_python_packages() {
    need python3-pip pip3
    install_missing "pip fetches the Python phone's packages"
    local version building=$cache/building-python
    case $suite in
    trixie) version=3.13 ;;
    bookworm) version=3.11 ;;
    esac
    say "fetching the Python phone's packages (once, until tests/bumble/requirements.txt changes)"
    rm -rf "$building" "$cache/python-$suite"-*
    python3 -m pip --quiet --disable-pip-version-check install --root-user-action ignore \
        --target "$building" --no-compile --no-deps --require-hashes --only-binary :all: \
        --implementation cp --python-version "$version" --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --requirement "$repository/tests/bumble/requirements.txt" ||
        give_up "the Python phone's packages could not be fetched"
    # Bumble's programs, sounds and web pages.
    rm -rf "${building:?}"/bin "$building"/bumble/{apps,vendor}
    mv "$building" "$python_packages"
}
