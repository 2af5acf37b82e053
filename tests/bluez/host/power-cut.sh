# shellcheck shell=bash disable=SC2154
# The power-cut suite. Boots the guest again and again on the same two disks, and cuts their power,
# and the guest's, at moments that the seed says. Each boot serves two ends: it settles and checks
# what the cut before left, and then pays until the next. Sourced by ../run, whose variables it
# uses.
#
# A power cut here: QEMU is killed with SIGKILL, and ../volatile-disk loses, tears or reorders what
# the guest had not flushed. Of ten cuts about six come in the middle of the storage's work (after
# so many writes and flushes of payments), three at a random time between the beginnings of
# payments, and one while the guest still recovers from the cut before.

# How long a guest may take from its start until payments begin, in seconds.
power_cut_ready_s=1200
# How long it may then take to reach a cut that is counted in requests, in seconds.
power_cut_request_s=180

# Kills QEMU and lets the disks lose what they lose.
cut_now() {
    kill -KILL "$guest" 2>/dev/null || true
    wait "$guest" 2>/dev/null || true
    guest=
    kill -TERM "$disks_process" 2>/dev/null || true
    wait "$disks_process" || give_up "the disks failed; see $run/disks.log"
    disks_process=
}

# mend_superblock IMAGE: does what a machine does at its start (`fsck.repair=yes`), where it is
# needed. ext4 does not mount with a superblock of which one of two sectors was written: its
# checksums say so, and its copies help. Everything else ext4 has to survive by itself.
mend_superblock() {
    if dumpe2fs -h "$1" >/dev/null 2>&1; then return; fi
    say "the superblock of $(basename "$1") is torn: e2fsck, as at any start"
    local status=0
    e2fsck -y "$1" >"$run/e2fsck.log" 2>&1 || status=$?
    ((status < 4)) || give_up "e2fsck ended with $status; see $run/e2fsck.log"
}

# start_disks SEED OPTIONS...: starts the server of both disks, and waits until it is ready.
start_disks() {
    local seed=$1
    shift
    mend_superblock "$run/state.ext4"
    mend_superblock "$run/bank.ext4"
    rm -f "$run/disks.sock"
    : >"$run/disks.log"
    "$here/volatile-disk" --socket "$run/disks.sock" --seed "$seed" "$@" \
        "state=$run/state.ext4" "bank=$run/bank.ext4" >"$run/disks.log" 2>&1 &
    disks_process=$!
    until grep -qx ready "$run/disks.log"; do
        kill -0 "$disks_process" 2>/dev/null || give_up "the disks failed; see $run/disks.log"
        sleep 0.05
    done
}

# server_disk NAME: prints QEMU's arguments for a disk of the server. writeback: the guest sees a
# disk with a cache, and its flushes go through.
server_disk() {
    local address="nbd+unix:///$1?socket=$run/disks.sock"
    printf '%s\n' -drive "if=none,id=$1,file=$address,format=raw,cache=writeback" \
        -device "virtio-blk-pci,drive=$1,serial=$1"
}

# life SEED KIND AMOUNT: boots, and cuts as said: `recovery REQUESTS`, `requests REQUESTS` or `time
# MILLISECONDS`; `never` lets the guest come to its end. False if the guest ended by itself, or did
# not get there.
life() {
    local seed=$1 kind=$2 amount=$3 begin=$SECONDS paying_since="" paying_ms=0 options=() disks
    case $kind in
    recovery) options=(--cut-after "$amount") ;;
    requests) options=(--cut-after "$amount" --armed-by-signal) ;;
    esac
    start_disks "$seed" "${options[@]}"
    mapfile -t disks < <(
        disk root "$image/root.ext4" snapshot=on
        disk input "$run/input.ext4" read-only=on
        server_disk state
        server_disk bank
    )
    start_guest "${disks[@]}"
    while kill -0 "$guest" 2>/dev/null; do
        if grep -qx cut "$run/disks.log"; then
            cut_now
            return 0
        fi
        if [[ -z $paying_since ]]; then
            if grep -q '^power-cut: paying' "$run/report.log"; then
                paying_since=$SECONDS
                paying_ms=$(date +%s%3N)
                ready_s=$((SECONDS - begin))
                if [[ $kind == requests ]]; then kill -USR1 "$disks_process"; fi
            elif ((SECONDS - begin > power_cut_ready_s)); then
                say "no payments after $power_cut_ready_s s"
                cut_now
                return 1
            fi
        elif [[ $kind == time ]] && (($(date +%s%3N) - paying_ms >= amount)); then
            cut_now
            return 0
        elif [[ $kind == recovery ]] || ((SECONDS - paying_since > power_cut_request_s)); then
            # There was less to recover, or payments write less: it is a cut all the same.
            cut_now
            return 0
        fi
        sleep 0.1
    done
    cut_now
    [[ $kind == never ]]
}

# What the disks lost in a cut.
lost() { sed -n 's/^lost //p' "$run/disks.log"; }

# What the guest said of the payments that were open after a cut.
settled() { sed -n 's/^power-cut: settled: //p' "$run/report.log" | tr -d '\r'; }

# power_cuts CUTS SEED: sets `survived` to how many cuts did no harm. False at the first that did.
power_cuts() {
    local cuts=$1 seed=$2 cut kind amount dice what
    make_empty_disk bank 256M
    say "seed $seed (--seed repeats moments and losses, as far as the guest repeats itself)"
    RANDOM=$((seed % 32768))
    survived=0
    for ((cut = 1; cut <= cuts; cut++)); do
        dice=$((RANDOM % 10))
        if ((dice < 6)); then
            kind=requests amount=$((1 + RANDOM % 400))
            what="at request $amount of payments"
        elif ((dice < 9 || cut == 1)); then
            kind=time amount=$((RANDOM % 20000))
            what="$amount ms into payments"
        else
            kind=recovery amount=$((20 + RANDOM % 300))
            what="at request $amount of the recovery"
        fi
        ready_s="?"
        if ! life "$((seed * 1000 + cut))" "$kind" "$amount"; then return 1; fi
        # Settled is what was cut before.
        if ((cut > 1)) && [[ $ready_s != "?" ]]; then survived=$((cut - 1)); fi
        say "cut $cut, $what; $(lost); ready in $ready_s s, $(settled)"
    done
    touch "$run/results/power-cut/last"
    life "$((seed * 1000))" never 0 || return 1
    grep -qx 'ok power-cut' "$run/results/summary" || return 1
    survived=$cuts
    say "after the last: $(settled)"
}

# The whole suite: cuts, and ends with how many were survived.
run_power_cuts() {
    local survived=0 is_well=true
    say "cutting the power $cuts times; logs in $run"
    if ! power_cuts "$cuts" "$seed"; then
        show "$run/report.log" 60
        is_well=false
    fi
    keep_or_forget_run $is_well
    printf '%d passed, %d failed\n' "$survived" "$((survived < cuts))"
    ((survived == cuts))
}
