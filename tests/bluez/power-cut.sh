# shellcheck shell=bash disable=SC2154
# The power-cut suite: sourced by ./run, whose variables it uses. Boots the guest again and again on the same two disks, and cuts
# their power, and the guest's, at a moment that the seed says. Each boot serves two ends: it settles and checks what the cut before
# left, and then pays until the next.
#
# A power cut here: QEMU is killed with SIGKILL, and ./volatile-disk loses, tears or reorders what the guest had not flushed.
# Of ten cuts about six come in the middle of the storage's work (after so many writes and flushes of payments), three at a random time
# between payments' beginnings, and one while the guest still recovers from the cut before.

# How long a guest may take from its start until payments begin, in seconds, and then to reach a cut that is counted in requests.
power_cut_ready_s=1200
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

# What a machine does at its start (`fsck.repair=yes`), where it is needed: ext4 does not mount with a superblock of which one of two
# sectors was written. Its checksums then say so, and the copies of it help. All else ext4 has to stand by itself.
mend_superblock() { # IMAGE
    if dumpe2fs -h "$1" >/dev/null 2>&1; then return; fi
    say "the superblock of $(basename "$1") is torn: e2fsck, as at any start"
    local status=0
    e2fsck -y "$1" >"$run/e2fsck.log" 2>&1 || status=$?
    ((status < 4)) || give_up "e2fsck ended with $status; see $run/e2fsck.log"
}

# Boots, and cuts as said: `recovery REQUESTS`, `requests REQUESTS` or `time MILLISECONDS`; `never` lets it come to its end.
# False if the guest ended by itself, or did not get there.
life() { # SEED KIND AMOUNT
    local seed=$1 kind=$2 amount=$3 begin=$SECONDS paying_since="" paying_ms=0 options=()
    case $kind in
    recovery) options=(--cut-after "$amount") ;;
    requests) options=(--cut-after "$amount" --armed-by-signal) ;;
    esac
    : >"$run/report.log"
    mend_superblock "$run/state.ext4"
    mend_superblock "$run/bank.ext4"
    rm -f "$run/disks.sock"
    : >"$run/disks.log"
    "$here/volatile-disk" --socket "$run/disks.sock" --seed "$seed" "${options[@]}" \
        "state=$run/state.ext4" "bank=$run/bank.ext4" >"$run/disks.log" 2>&1 &
    disks_process=$!
    until grep -qx ready "$run/disks.log"; do
        kill -0 "$disks_process" 2>/dev/null || give_up "the disks failed; see $run/disks.log"
        sleep 0.05
    done
    local disks name
    mapfile -t disks < <(
        disk root "$image/root.ext4" snapshot=on
        disk input "$run/input.ext4" read-only=on
        # writeback: the guest sees a disk with a cache, and its flushes go through.
        for name in state bank; do
            printf '%s\n' -drive "if=none,id=$name,file=nbd+unix:///$name?socket=$run/disks.sock,format=raw,cache=writeback" \
                -device "virtio-blk-pci,drive=$name,serial=$name"
        done
    )
    "${machine[@]}" "${disks[@]}" \
        -virtfs "local,path=$run/results,mount_tag=results,security_model=none" \
        -serial "file:$run/console.log" -serial "file:$run/report.log" \
        -append "$command_line systemd.show_status=no" </dev/null >"$run/qemu.log" 2>&1 &
    guest=$!
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
            # There was less to recover than that, or payments write less than that: it is a cut all the same.
            cut_now
            return 0
        fi
        sleep 0.1
    done
    cut_now
    [[ $kind == never ]]
}

power_cuts() { # CUTS SEED
    local cuts=$1 seed=$2 cut kind amount dice what
    disks_process=
    truncate -s 256M "$run/bank.ext4"
    mke2fs -q -t ext4 -F -E lazy_itable_init=1,nodiscard "$run/bank.ext4"
    say "seed $seed (--seed repeats the moments and what is lost, as far as the guest repeats itself)"
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
        say "cut $cut, $what; $(sed -n 's/^lost //p' "$run/disks.log"); ready in $ready_s s, $(sed -n 's/^power-cut: settled: //p' "$run/report.log" | tr -d '\r')"
    done
    touch "$run/results/power-cut/last"
    life "$((seed * 1000))" never 0 || return 1
    grep -qx 'ok power-cut' "$run/results/summary" || return 1
    survived=$cuts
    say "after the last: $(sed -n 's/^power-cut: settled: //p' "$run/report.log" | tr -d '\r')"
}
