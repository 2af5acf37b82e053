# shellcheck shell=bash disable=SC2154
# The programs that are tested: given with --binaries, or built. Sourced by ../run, whose variables
# it uses.

# Sets `binaries` to the folder that has them, if the chosen scenarios need any.
have_binaries() {
    local name
    if [[ -n $binaries ]]; then
        for name in "${program_names[@]}"; do
            [[ -x $binaries/$name ]] || give_up "no $name in $binaries" 2
        done
    elif $needs_binaries; then
        command -v cargo >/dev/null ||
            give_up "no cargo to build the binaries with; --binaries takes built ones"
        say "building ${program_names[*]}"
        binaries=$target/bluez/binaries
        mkdir -p "$binaries"
        (cd "$repository" && build_binaries)
        say "the terminal's binary has $(($(stat -c %s "$binaries/florin") / 1024)) KiB"
    fi
}

# The terminal as it goes onto a machine, with its own features only; the others beside it.
build_binaries() {
    export CARGO_TARGET_DIR=$target
    cargo build --release --locked --no-default-features --features terminal --bin florin
    put_binary "$target/release/florin"
    # In one build: an example by itself would have all crates built again, with other features.
    cargo build --profile bed --locked --bin florin-wallet --bin florin-acquirer \
        --example dishonest_terminal
    put_binary "$target/bed/florin-wallet"
    put_binary "$target/bed/florin-acquirer"
    put_binary "$target/bed/examples/dishonest_terminal"
    if $needs_bench; then
        cargo build --profile bed --locked --example radio_bench
        put_binary "$target/bed/examples/radio_bench"
    fi
}

# put_binary FILE: by a rename, since a run beside this one may be reading the one that is there.
put_binary() { cp "$1" "$binaries/.new" && mv "$binaries/.new" "$binaries/$(basename "$1")"; }
