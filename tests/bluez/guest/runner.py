"""Runs the chosen scenarios inside the guest, one line each, as florin-test.service.

With --list, on the host: prints name, needs ("binaries", "python", "by_name", with commas, or "-")
and summary of each, parted by tabs."""

import contextlib
import importlib
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402 (its folder had to be named first)
from bus import Bus  # noqa: E402


def load():
    for path in sorted((HERE / "scenarios").glob("*.py")):
        importlib.import_module(f"scenarios.{path.stem}")


def memory():
    """(total, available) in MiB."""
    fields = dict(
        line.split(":", 1) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
    )
    return tuple(int(fields[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).strip().split("\n")[0]


def unusable_binaries():
    """Why the binaries under test do not even start here; None if they do."""
    for path in sorted((harness.INPUT / "binaries").iterdir()):
        try:
            done = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{path.name} does not start in this guest: {error}"
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().split("\n")[-1]
            hint = (
                "; build it on a host whose C library is not newer than this suite's"
                if "GLIBC" in said
                else ""
            )
            return f"{path.name} does not start in this guest: {said}{hint}"
        print(f"guest: {done.stdout.strip().splitlines()[0]}")
    return None


def out_of_time(signal_number, frame):
    raise harness.Failure("the scenario's time is over")


def place(error):
    """Where in the scenario it went wrong."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/scenarios/" in frame.filename
    ]
    return f" [{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}]" if frames else ""


def run(function):
    """Runs one scenario; None, or why it failed."""
    bed = harness.Bed(function)
    why = None
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(function.seconds)
    try:
        bed.set_up()
        function(bed)
    except harness.Failure as error:
        first, line_end, rest = str(error).partition("\n")
        why = f"{first}{place(error)}{line_end}{rest}"
    except Exception as error:  # pylint: disable=broad-except
        (bed.results / "exception.log").write_text(traceback.format_exc())
        why = f"{type(error).__name__}: {error}{place(error)}"
    finally:
        signal.alarm(0)
    dead = bed.died()
    if dead:
        # Usually the cause of whatever else was seen.
        names = ", ".join(f"{process.name} (exit code {process.exit_code})" for process in dead)
        why = f"{why or 'all checks held, but'}; died meanwhile: {names}"
    signal.alarm(120)
    try:
        bed.take_down(why is not None or (harness.INPUT / "keep").exists())
    except Exception as error:  # pylint: disable=broad-except
        why = why or f"cleaning up: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return why, bed


# Objects that a process exports are counted by asking it for them, which the system bus lets nobody
# do by itself.
INTROSPECTION_POLICY = """<busconfig>
  <policy user="root"><allow send_interface="org.freedesktop.DBus.Introspectable"/></policy>
</busconfig>
"""


def main():
    load()
    if sys.argv[1:] == ["--list"]:
        for name, function in harness.SCENARIOS.items():
            needs = [
                need
                for need in ("binaries", "python", "bench", "by_name")
                if getattr(function, need)
            ]
            print(f"{name}\t{','.join(needs) or '-'}\t{function.summary}")
        return

    uptime = pathlib.Path("/proc/uptime").read_text().split()[0]
    pathlib.Path("/etc/dbus-1/system.d/florin-test.conf").write_text(INTROSPECTION_POLICY)
    with contextlib.closing(Bus()) as bus:
        bus.call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReloadConfig"
        )
    # Some are built in, or gone, in some suite; the scenarios show what matters.
    subprocess.run(
        ["modprobe", "--quiet", "--all", *(harness.INPUT / "modules").read_text().split()],
        check=False,
    )
    total, available = memory()
    bluez = first_line(["bluetoothctl", "--version"]).split()[-1]
    print(
        f"guest: Linux {platform.release()}, BlueZ {bluez}, {os.cpu_count()} processors, "
        f"{total} MiB of memory, "
        f"{total - available} MiB in use; up to here {uptime} s since the kernel started"
    )

    names = (harness.INPUT / "scenarios").read_text().split()
    unusable = None
    if any(harness.SCENARIOS[name].binaries for name in names):
        unusable = unusable_binaries()
    least = available
    # The host counts from this file, not from the console: it is complete only with its last line.
    with open(harness.RESULTS / "summary", "w", encoding="utf-8", buffering=1) as summary:
        for name in names:
            function = harness.SCENARIOS[name]
            begin = time.monotonic()
            notes = []
            if function.binaries and unusable:
                why = unusable
            else:
                why, bed = run(function)
                notes = bed._notes  # pylint: disable=protected-access
            seconds = time.monotonic() - begin
            if why is None:
                print(f"ok {name} ({seconds:.1f} s)")
                summary.write(f"ok {name}\n")
            else:
                print(f"FAILED {name}: {why}")
                reason = why.split("\n")[0]
                summary.write(f"FAILED {name}: {reason}\n")
            for note in notes:
                print(f"    {note}")
            least = min(least, memory()[1])
        print(f"guest: at most {total - least} MiB of memory in use between scenarios")
        summary.write("end\n")
    os.sync()


if __name__ == "__main__":
    main()
