# shellcheck shell=bash disable=SC2034,SC2154
# The virtual machine: how it is emulated, this run's folder and disks, and how it is started and
# ended. Sourced by ../run, whose variables it uses.

# Sets `machine` and `command_line`. Of the two serial ports the kernel and systemd have the first,
# the scenarios the second: neither garbles the other.
choose_machine() {
    machine=(qemu-system-x86_64 -m 1024 -nodefaults -display none -no-reboot -nic none
        -kernel "$image/vmlinuz" -initrd "$image/initramfs.gz")
    # One processor where it is emulated: with two, a kernel that changes its own code while the
    # other runs it dies of it now and then ("Oops: int3"); and on a host of two cores two are no
    # faster.
    local emulation=(-accel tcg -cpu max -smp "${processors:-1}")
    local hardware=(-accel kvm -cpu host -smp "${processors:-2}")
    # no_timer_check: the kernel's test that its timer ticks fails where a busy host lets the
    # emulated machine wait.
    command_line="console=ttyS0 panic=-1 quiet mitigations=off edd=off no_timer_check"
    # An emulator translates a program's code again at every address it is loaded to, which takes
    # several times as long as to run it.
    local no_random_addresses=" norandmaps"
    if $steady; then
        # Idle, it waits in the host's time: a disk that takes its time must not look like one that
        # takes minutes.
        # shellcheck disable=SC2054 # the comma is QEMU's
        machine+=(-accel tcg,thread=single -cpu max -smp 1
            -icount "shift=$nanoseconds_as_power_of_two,sleep=on")
        command_line+=$no_random_addresses
        say "running emulated, at a steady $speed million instructions a second"
    elif [[ $(accelerator) == yes ]]; then
        machine+=("${hardware[@]}")
        say "running on the processor's virtualisation (KVM)"
    else
        machine+=("${emulation[@]}")
        command_line+=$no_random_addresses
        say "no usable KVM: running emulated"
    fi
}

# Prints whether KVM works. /dev/kvm may be there and yet not run a guest, in a machine that is
# virtual itself, so it is tried. That costs seconds where it hangs, so the answer is kept until the
# host starts anew.
accelerator() {
    local note
    note=$cache/kvm-$(cat /proc/sys/kernel/random/boot_id)
    if [[ ! -e $note ]]; then
        rm -f "$cache"/kvm-*
        local answer=no
        if [[ -r /dev/kvm && -w /dev/kvm ]] &&
            timeout --signal=KILL 8 "${machine[@]}" "${hardware[@]}" -serial stdio \
                -append "$command_line florin.probe" </dev/null 2>/dev/null 9>&- |
            grep -aq florin-probe-alive; then
            answer=yes
        fi
        echo "$answer" >"$note"
    fi
    cat "$note"
}

# Sets `run` to a new folder for this run, and keeps it locked as long as this or its guest lives.
begin_run() {
    # Failed runs stay to be looked at, but not all of them for ever; and what still runs stays.
    find "$cache/runs" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | tail -n +6 |
        cut -d' ' -f 2- |
        while IFS= read -r old; do flock --nonblock "$old" rm -rf "$old" || true; done
    run=$(mktemp -d "$cache/runs/$suite-$(date +%Y%m%d-%H%M%S)-XXXX")
    # For as long as this or its guest lives.
    exec 8<"$run"
    flock 8
    unlock
    # By a rename, which a run that starts at the same moment does not see half done.
    ln -s "runs/$(basename "$run")" "$run/last"
    mv -T "$run/last" "$cache/last"
}

# Removes the run's folder.
forget_run() {
    rm -rf "$run"
    if [[ $(readlink "$cache/last") == "runs/$(basename "$run")" ]]; then rm -f "$cache/last"; fi
}

# Makes the disks `input`, which the guest reads, and `state`, which it keeps.
make_disks() {
    mkdir -p "$run/results" "$run/input/binaries"
    cp -r "$here/guest" "$run/input/guest"
    rm -rf "$run/input/guest/__pycache__"
    sed -n 's/^load //p' "$here/image/modules" >"$run/input/modules"
    printf '%s\n' "${chosen[@]}" >"$run/input/scenarios"
    cp -r "$repository/deploy" "$run/input/deploy"
    echo "$rounds" >"$run/input/rounds"
    echo "$seed" >"$run/input/seed"
    if $steady; then touch "$run/input/steady"; fi
    if $keep; then touch "$run/input/keep"; fi
    if [[ -n $binaries ]]; then
        for name in "${program_names[@]}"; do cp "$binaries/$name" "$run/input/binaries/"; done
    fi
    if $needs_python; then
        # Side by side, as in the repository: the phone looks for them above itself.
        cp -r "$repository"/{tests/bumble,tests/vectors,proto} "$run/input/"
        cp -r "$python_packages" "$run/input/python"
    fi
    truncate -s "$(($(du -sm "$run/input" | cut -f 1) * 5 / 4 + 8))M" "$run/input.ext4"
    mke2fs -q -t ext4 -F -O ^has_journal -d "$run/input" "$run/input.ext4"
    rm -r "$run/input"
    make_empty_disk state 512M
}

# make_empty_disk NAME SIZE
make_empty_disk() {
    truncate -s "$2" "$run/$1.ext4"
    mke2fs -q -t ext4 -F -E lazy_itable_init=1,nodiscard "$run/$1.ext4"
}

# disk SERIAL FILE OPTIONS: prints QEMU's arguments for a disk. cache=unsafe leaves out only the
# host's own fsync: what the guest has flushed is in the host's memory, and stays when QEMU dies.
disk() {
    printf '%s\n' -drive "if=none,id=$1,file=$2,format=raw,cache=unsafe,$3" \
        -device "virtio-blk-pci,drive=$1,serial=$1"
}

# What is running.
guest=
display=
disks_process=

# start_guest DISK_ARGUMENTS...: boots the guest in the background.
start_guest() {
    : >"$run/report.log"
    "${machine[@]}" "$@" \
        -virtfs "local,path=$run/results,mount_tag=results,security_model=none" \
        -serial "file:$run/console.log" -serial "file:$run/report.log" \
        -append "$command_line systemd.show_status=no" </dev/null >"$run/qemu.log" 2>&1 &
    guest=$!
}

# Ends whatever is running.
end_guest() {
    local process
    for process in $guest $display $disks_process; do
        kill -KILL "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
}

# boot_guest SECONDS: boots the guest on this run's disks and shows its report as it comes, until it
# powers off. When the seconds are over it is killed, and timed_out is true. The state disk is there
# again at the next boot, with what the guest had flushed.
timed_out=false
boot_guest() {
    local begin=$SECONDS disks
    mapfile -t disks < <(
        # The image stays as it was made: what the guest writes to its root goes into a file that is
        # gone with QEMU.
        disk root "$image/root.ext4" snapshot=on
        disk input "$run/input.ext4" read-only=on
        disk state "$run/state.ext4" read-only=off
    )
    start_guest "${disks[@]}"
    tail --pid="$guest" --lines=+1 --follow --sleep-interval=0.2 "$run/report.log" \
        > >(sed -u 's/\r//') 2>/dev/null &
    display=$!
    timed_out=false
    while kill -0 "$guest" 2>/dev/null; do
        if ((SECONDS - begin >= $1)); then
            timed_out=true
            kill -KILL "$guest"
            break
        fi
        sleep 0.2
    done
    wait "$guest" 2>/dev/null || true
    guest=
    wait "$display" || true
    display=
    say "the guest lived $((SECONDS - begin)) s"
}
