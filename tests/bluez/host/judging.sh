# shellcheck shell=bash disable=SC2154
# What came of the scenarios, by what the guest wrote into its results: points, and the logs of what
# failed. Sourced by ../run, whose variables it uses.

# show FILE LINES: the last lines of a log, if it has any.
show() {
    if [[ -s $1 ]]; then printf '\n--- the last of %s\n' "$1" && tail -n "$2" "$1" | tr -d '\r'; fi
}

# show_scenario NAME: the logs of a scenario that failed.
show_scenario() {
    local folder=$run/results/$1 log
    printf '\n=== %s\n' "$1"
    if [[ ! -d $folder ]]; then
        echo "did not run"
        return
    fi
    for log in "$folder"/*.log; do show "$log" 40; done
    # A scenario that took the guest with it had nobody to decode its trace.
    if [[ ! -s $folder/air.txt && -s $folder/air.btsnoop ]] && command -v btmon >/dev/null; then
        btmon --read "$folder/air.btsnoop" >"$folder/air.txt" 2>/dev/null || true
    fi
    if [[ -s $folder/air.txt ]]; then
        # Without the talk between bluetoothd and the kernel: that is not on the air.
        printf '\n--- the last on the air; all of it in %s\n' "$folder/air.txt"
        awk '/^[^ ]/ { wanted = /^[<>]/ } wanted' "$folder/air.txt" | tail -n 80
    elif [[ -s $folder/air.btsnoop ]]; then
        printf '\nthe air: btmon --read %s\n' "$folder/air.btsnoop"
    fi
}

# keep_or_forget_run IS_WELL: a run that failed stays, and one that was asked for with --keep.
keep_or_forget_run() {
    if ! $1; then
        say "everything of this run is in $run"
    elif $keep; then
        say "kept: $run"
    else
        forget_run
    fi
    say "$SECONDS s in all"
}

# Judges the chosen scenarios, and ends with what came of them.
judge_scenarios() {
    local passed=0 failed=() name complete=false is_well=true
    for name in "${chosen[@]}"; do
        if grep -qxF "ok $name" "$run/results/summary" 2>/dev/null; then
            passed=$((passed + 1))
        else
            failed+=("$name")
        fi
    done
    if grep -qx end "$run/results/summary" 2>/dev/null; then complete=true; fi
    for name in "${failed[@]}"; do show_scenario "$name"; done
    if ! $complete; then
        show "$run/console.log" 60
        show "$run/qemu.log" 20
        if $timed_out; then
            say "the guest did not end in $time_limit s and was killed"
        else
            say "the guest died before the last scenario was over"
        fi
    fi
    if ((${#failed[@]} > 0)) || ! $complete; then is_well=false; fi
    local summary=$run/results/summary lines=()
    for name in "${failed[@]}"; do
        mapfile -t -O "${#lines[@]}" lines < <(grep "^FAILED $name:" "$summary" 2>/dev/null ||
            echo "FAILED $name: did not come to its end")
    done
    keep_or_forget_run $is_well
    # Once more at the end, where whoever sees only that finds them.
    if ((${#lines[@]} > 0)); then printf '%s\n' "${lines[@]}"; fi
    printf '%d passed, %d failed\n' "$passed" "${#failed[@]}"
    $is_well
}
