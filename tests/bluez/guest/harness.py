"""The test bed inside the guest: virtual controllers, bluetoothd, processes, logs and checks.

A scenario is a function in a file of scenarios/:

    from harness import scenario

    @scenario(controllers=2)
    def approved(bed):
        '''One line that `run --list` shows.'''
        institution = bed.start("institution", bed.binary("florin-acquirer"), "serve", ...)
        institution.expect(r"listening on (\\S+)")
        payment = bed.run_json(bed.binary("florin"), "pay", "2.50", "EUR", "--json")
        bed.equal("the till's outcome", payment["outcome"], "captured")

The function's name, with hyphens, is the scenario's. It fails by raising; every helper here raises
with a message that says what was waited for or compared, and the last of what was said instead.

Each scenario gets everything new: controllers, bluetoothd with an empty state, an empty directory
on a real disk (`bed.directory`), and a place for logs that the host sees at once (`bed.results`).
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from air import Observer, Pluggable
from bus import Bus, BusError, object_name
from trace import Trace

INPUT = pathlib.Path("/florin-test/input")
STATE = pathlib.Path("/florin-test/state")
RESULTS = pathlib.Path("/florin-test/results")

# An emulated machine beside a busy compiler is slow; a wait that ends early tells nothing. Waits
# return at once when met.
TIMEOUT = 30.0

# Whether the guest's clock counts its processor's instructions (`run --steady`): only then are
# figures worth a bound.
STEADY = (INPUT / "steady").exists()

# Of what deploy/ ships, this cannot be had where a phone is in the same guest: one bluetoothd
# serves both sides, and the phone's side needs the client. A scenario without phones sets it
# (doctor.py).
NOT_BESIDE_PHONES = ("GATT", "Client")

SCENARIOS = {}


class Failure(Exception):
    """A scenario's expectation was not met; the text says which."""


def scenario(
    controllers=2,
    limits=None,
    pluggable=False,
    binaries=True,
    python=False,
    bench=False,
    by_name=False,
    keeps=False,
    seconds=180,
    bluetooth=None,
    bluetoothd_options="",
):
    """Registers a scenario.

    controllers         how many virtual controllers share the air: the terminal's first, then one
                        for each phone
    limits              what a controller shall not do better than real ones, which it otherwise
                        does: {"LINKS_MAX": 4} for how many connections it carries,
                        {"CONNECTION_INTERVAL_MS": 30} for how often the connected exchange what
                        waits (see image/btvirt.patch)
    pluggable           whether they are of Bluetooth 4, and the terminal's can be pulled out and be
                        made to fail: `bed.pluggable` (see air.py)
    binaries            whether it runs Florin's binaries (`run` builds them only if a chosen
                        scenario does)
    python              whether it runs the phone of tests/bumble, with its packages
    bench               whether it runs examples/radio_bench as well
    by_name             whether it runs only when it is named: what it shows of Florin holds, and
                        what it runs on does not
    keeps               whether it finds what its last run left in bed.directory and bed.results, in
                        a guest that was booted again; and has no trace of the air, which would fill
                        the disk in a life without end
    seconds             its time limit
    bluetooth           settings of BlueZ's main.conf beside those of deploy/, as
                        {"Section": {"Key": "value"}}; a value of None takes a setting away
    bluetoothd_options  for example "--debug"
    """

    def register(function):
        name = function.__name__.replace("_", "-")
        if name in SCENARIOS:
            raise ValueError(f"two scenarios are called {name}")
        function.scenario_name = name
        function.controllers = controllers
        function.limits = limits or {}
        function.pluggable = pluggable
        function.binaries = binaries
        function.python = python
        function.bench = bench
        function.by_name = by_name
        function.keeps = keeps
        function.seconds = seconds
        function.bluetooth = bluetooth or {}
        function.bluetoothd_options = bluetoothd_options
        # The first paragraph, on one line.
        summary = (function.__doc__ or "").strip().split("\n\n")[0]
        function.summary = " ".join(summary.split())
        SCENARIOS[name] = function
        return function

    return register


def tail(lines, count=15):
    """The last lines, indented, for a failure's message."""
    return "".join(f"\n    | {line}" for line in list(lines)[-count:])


class Finished:
    """A command that ran to its end."""

    def __init__(self, command, exit_code, stdout, stderr, seconds):
        self.command = command
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds

    def json(self):
        """The last line of standard output as JSON."""
        return last_json(self.command, self.stdout.splitlines(), self.stderr.splitlines())


def last_json(command, lines, error_lines):
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise Failure(f"`{command}` printed no line of JSON{tail(error_lines)}")
    try:
        return json.loads(lines[-1])
    except ValueError as error:
        raise Failure(
            f"the last line of `{command}` is no JSON: {error}{tail(lines, 3)}{tail(error_lines)}"
        ) from error


class Process:
    """A process that runs beside the scenario. Its output is kept, and written to a log with times
    as it comes."""

    # Colours, and readline's marks around them, as bluetoothctl prints them.
    DECORATION = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x01\x02\r]")

    def __init__(self, bed, name, command, environment, directory, must_live):
        self.name = name
        self.command = " ".join(str(word) for word in command)
        self.must_live = must_live
        self.started = time.monotonic()
        self.stdout = []
        self.stderr = []
        self._all = []
        self._seen = 0
        self._news = threading.Condition()
        self._log = open(bed.results / f"{name}.log", "a", encoding="utf-8")
        self._bed = bed
        self._write("$", self.command)
        self._popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory or bed.directory,
            env={**os.environ, **(environment or {})},
            # A group of its own, so that what it started is ended with it.
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._readers = [
            threading.Thread(
                target=self._read, args=(self._popen.stdout, self.stdout), daemon=True
            ),
            threading.Thread(
                target=self._read, args=(self._popen.stderr, self.stderr), daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, lines):
        rest = ""
        while chunk := pipe.read1(65536):
            text = self.DECORATION.sub("", rest + chunk.decode("utf-8", "replace"))
            *whole, rest = text.split("\n")
            self._take(whole, lines)
        if rest:
            self._take([rest], lines)

    def _take(self, new, lines):
        now = self._bed.clock()
        with self._news:
            lines.extend(new)
            self._all.extend(new)
            self._news.notify_all()
            # In one go: each write is a round trip to the host.
            with contextlib.suppress(ValueError):  # the log is closed: the scenario is over
                self._log.write("".join(f"{now:8.3f} {line}\n" for line in new))
                self._log.flush()

    @property
    def exit_code(self):
        """None while it runs; negative for the signal that ended it."""
        return self._popen.poll()

    def expect(self, pattern, seconds=TIMEOUT):
        """Waits for a line, on either stream, that matches; the match. Looks only at lines after
        the last expected one."""
        end = time.monotonic() + seconds
        with self._news:
            while True:
                while self._seen < len(self._all):
                    self._seen += 1
                    match = re.search(pattern, self._all[self._seen - 1])
                    if match:
                        return match
                left = end - time.monotonic()
                if self._popen.poll() is not None and not any(
                    reader.is_alive() for reader in self._readers
                ):
                    if self._seen == len(self._all):
                        raise Failure(
                            f"{self.name} ended ({self._ending()}) before it printed "
                            f"/{pattern}/{tail(self._all)}"
                        )
                elif left <= 0:
                    raise Failure(
                        f"{self.name} did not print /{pattern}/ in {seconds:.0f} s{tail(self._all)}"
                    )
                self._news.wait(min(left, 0.2) if left > 0 else 0.05)

    def _write(self, mark, text):
        self._log.write(f"{self._bed.clock():8.3f} {mark} {text}\n")
        self._log.flush()

    def send(self, line):
        """Writes a line to its standard input."""
        self._write(">", line)
        try:
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError as error:
            raise Failure(
                f"{self.name} reads no more ({self._ending()}){tail(self._all)}"
            ) from error

    def wait(self, seconds=TIMEOUT, exit_code=0):
        """Waits for its end; what it printed. `exit_code=None` takes any."""
        self.must_live = False
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(
                f"`{self.command}` ({self.name}) still runs after {seconds:.0f} s{tail(self._all)}"
            ) from None
        for reader in self._readers:
            reader.join(5)
        if exit_code is not None and self._popen.returncode != exit_code:
            raise Failure(
                f"`{self.command}` ({self.name}): {self._ending()}, "
                f"expected exit code {exit_code}{tail(self._all)}"
            )
        return Finished(
            self.command,
            self._popen.returncode,
            "\n".join(self.stdout),
            "\n".join(self.stderr),
            time.monotonic() - self.started,
        )

    def json_lines(self):
        """What it printed on standard output so far that is JSON."""
        found = []
        for line in list(self.stdout):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def signal(self, number):
        """SIGSTOP makes a silent peer, SIGKILL a crashed one; after this its end is no failure."""
        self.must_live = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self._popen.wait(TIMEOUT)

    def stop(self, seconds=10):
        """Asks it to end (SIGTERM); makes it end if it does not. Its exit code."""
        if self._popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self.must_live = False
        return self._popen.returncode

    def memory(self):
        """Resident memory in KiB: (now, at its peak)."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return tuple(
            int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) for field in ("VmRSS", "VmHWM")
        )

    def open_files(self):
        """How many file descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _ending(self):
        code = self._popen.poll()
        if code is None:
            return "still running"
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def _close(self):
        self.stop()
        # What it had started and left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(2)
        self._log.close()


class Controller:
    """A virtual Bluetooth controller: `name` (hci0), `index` (0), `address`, `path` (its D-Bus
    object)."""

    def __init__(self, name, address):
        self.name = name
        self.index = int(name.removeprefix("hci"))
        self.address = address
        self.path = f"/org/bluez/{name}"


class Bed:
    """What a scenario gets."""

    def __init__(self, function):
        self._function = function
        self.name = function.scenario_name
        self._start = time.monotonic()
        self._processes = []
        self._notes = []
        # On the state disk: a real file system, where fsync means something.
        self.directory = STATE / self.name
        self.results = RESULTS / self.name
        for directory in (self.directory, self.results):
            if not function.keeps:
                shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True, exist_ok=True)
        self.controllers = []
        self.pluggable = None
        self._pluggables = []
        self._observers = []
        self._air = None
        self._trace = None
        self._bus = None
        self._began = time.time()

    def clock(self):
        """Seconds since the scenario began: the times in its logs."""
        return time.monotonic() - self._start

    def note(self, text):
        """A figure worth seeing when all is well; printed under the scenario's line."""
        self._notes.append(text)

    # Processes

    def binary(self, name):
        """The path of one of the binaries under test."""
        path = INPUT / "binaries" / name
        if not path.exists():
            raise Failure(f"there is no binary {name} among those under test")
        return path

    def start(self, name, *command, environment=None, directory=None, must_live=True):
        """Starts a process beside the scenario. With must_live its early end fails the scenario,
        whatever else is seen."""
        process = Process(self, name, command, environment, directory, must_live)
        self._processes.append(process)
        return process

    def run(
        self,
        *command,
        seconds=60,
        exit_code=0,
        environment=None,
        directory=None,
        standard_input=None,
    ):
        """Runs a command to its end; what it printed. `exit_code=None` takes any. All of it is in
        commands.log."""
        text = " ".join(str(word) for word in command)
        begin = time.monotonic()
        try:
            done = subprocess.run(
                [str(word) for word in command],
                input=standard_input,
                stdin=subprocess.DEVNULL if standard_input is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                cwd=directory or self.directory,
                env={**os.environ, **(environment or {})},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = ((error.stdout or b"") + (error.stderr or b"")).decode("utf-8", "replace")
            self._record(f"$ {text}\n{said}[no end after {seconds} s]\n")
            raise Failure(f"`{text}` did not end in {seconds} s{tail(said.splitlines())}") from None
        self._record(f"$ {text}\n{done.stdout}{done.stderr}[exit code {done.returncode}]\n")
        if exit_code is not None and done.returncode != exit_code:
            said = (done.stdout + done.stderr).splitlines()
            raise Failure(
                f"`{text}`: exit code {done.returncode}, expected {exit_code}{tail(said)}"
            )
        return Finished(text, done.returncode, done.stdout, done.stderr, time.monotonic() - begin)

    def run_json(self, *command, **options):
        """Runs a command; the last line of its standard output, read as JSON."""
        return self.run(*command, **options).json()

    def _record(self, text):
        with open(self.results / "commands.log", "a", encoding="utf-8") as log:
            log.write(f"{self.clock():8.3f} {text}")

    # Checks

    def check(self, condition, message):
        if not condition:
            raise Failure(message)

    def equal(self, what, found, expected):
        if found != expected:
            raise Failure(f"{what}: found {found!r}, expected {expected!r}")

    def wait_until(self, what, condition, seconds=TIMEOUT, pause=0.05):
        """Asks again and again until `condition()` is true; its value. `what` completes "waited for
        ..."."""
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() >= end:
                raise Failure(f"waited {seconds:.0f} s in vain for {what} (last: {value!r})")
            time.sleep(pause)

    def query(self, database, statement, *values):
        """Rows of an SQLite database, as dictionaries, read only."""
        import sqlite3  # here, because loading it takes a while and not every run needs it

        with contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
        ) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, values)]

    def python(self, script, *words):
        """The command that runs a script of tests/bumble, for start() and run()."""
        # Bytecode in memory: the input disk is read-only, and compiling Bumble again takes seconds.
        return (
            "env",
            f"PYTHONPATH={INPUT / 'python'}",
            "PYTHONPYCACHEPREFIX=/run/florin-test-python",
            "python3",
            "-u",
            INPUT / "bumble" / script,
            *words,
        )

    def free_port(self):
        """A TCP port on loopback that nobody listens on."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    # Bluetooth

    def bluetoothctl(self, controller, name=None):
        """bluetoothctl, kept open, speaking for one controller: .send("advertise on"),
        .expect(...)."""
        process = self.start(name or f"bluetoothctl-{controller.name}", "bluetoothctl")
        process.expect(r"Agent registered|Controller [0-9A-F:]{17}")
        process.send(f"select {controller.address}")
        return process

    @property
    def bus(self):
        """A connection to the system bus (see bus.py); a new one if the last was lost."""
        if self._bus is None:
            self._bus = Bus()
        return self._bus

    def _call(self, method, *words):
        try:
            return getattr(self.bus, method)(*words)
        except ConnectionError:
            # The bus was restarted since the last call.
            if self._bus is not None:
                self._bus.close()
            self._bus = None
            return getattr(self.bus, method)(*words)

    def bluez(self, path, interface, member, signature="", *values):
        """Calls a method of bluetoothd's; `interface` is short: "Adapter1", "Device1". Variants are
        given as (signature, value)."""
        return self._call(
            "call", "org.bluez", path, f"org.bluez.{interface}", member, signature, *values
        )

    def bluez_property(self, path, interface, name):
        return self._call("get", "org.bluez", path, f"org.bluez.{interface}", name)

    def set_bluez_property(self, path, interface, name, signature, value):
        self._call("set", "org.bluez", path, f"org.bluez.{interface}", name, signature, value)

    def bluez_objects(self):
        """All of bluetoothd's objects, {path: {"Device1": {property: value}}}; none while it does
        not answer."""
        try:
            objects = self._call(
                "call", "org.bluez", "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"
            )
        except (BusError, OSError):
            return {}
        return {
            path: {
                interface.removeprefix("org.bluez."): properties
                for interface, properties in interfaces.items()
            }
            for path, interfaces in objects.items()
        }

    def devices(self, controller):
        """What a controller has seen or is connected to: {address: Device1's properties, and its
        "path"}."""
        return {
            interfaces["Device1"]["Address"]: {**interfaces["Device1"], "path": path}
            for path, interfaces in self.bluez_objects().items()
            if path.startswith(f"{controller.path}/") and "Device1" in interfaces
        }

    def forget(self, controller):
        """Makes a phone's side forget the terminals it has met, cached services included."""
        for device in self.devices(controller).values():
            self.bluez(controller.path, "Adapter1", "RemoveDevice", "o", device["path"])

    @contextlib.contextmanager
    def scan(self, controller):
        """A scan for Low Energy devices that lasts as long as the `with` block; what it finds is in
        devices()."""
        bus = Bus()
        adapter = ("org.bluez", controller.path, "org.bluez.Adapter1")
        try:
            # Every advertisement counts, not only the first of each device.
            bus.call(
                *adapter,
                "SetDiscoveryFilter",
                "a{sv}",
                {"Transport": ("s", "le"), "DuplicateData": ("b", True)},
            )
            bus.call(*adapter, "StartDiscovery")
            yield
        finally:
            bus.close()

    def unit_state(self, unit):
        """systemd's word for a unit's state: "active", "inactive", "failed", ..."""
        path = f"/org/freedesktop/systemd1/unit/{object_name(unit)}"
        return self._call(
            "get", "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Unit", "ActiveState"
        )

    def main_process(self, unit):
        """The process id of a unit's main process; 0 if it does not run. Another one than before
        has been started anew."""
        path = f"/org/freedesktop/systemd1/unit/{object_name(unit)}"
        return self._call(
            "get", "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Service", "MainPID"
        )

    def _unit(self, member, unit, signature, *values, until):
        manager = (
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        )
        # The state of a unit that systemd has not read yet cannot be asked for.
        self._call("call", *manager, "LoadUnit", "s", unit)
        self._call("call", *manager, member, signature, unit, *values)
        if until:
            state = self.wait_until(
                f"{unit} to be {until[0]}",
                lambda: (now := self.unit_state(unit)) in until and now,
                60,
            )
            if state == "failed" and until[0] != "failed":
                raise Failure(f"{unit} does not start; see its log")

    def start_unit(self, unit):
        with contextlib.suppress(BusError):  # it has not failed before
            self._unit("ResetFailedUnit", unit, "s", until=None)
        self._unit("StartUnit", unit, "ss", "replace", until=("active", "failed"))

    def stop_unit(self, unit):
        self._unit("StopUnit", unit, "ss", "replace", until=("inactive", "failed"))

    def kill_unit(self, unit, number=signal.SIGKILL):
        """A signal to all of a unit's processes. What systemd does then is the unit's affair."""
        self._unit("KillUnit", unit, "ssi", "all", number, until=None)

    def start_bluetoothd(self):
        self.start_unit("bluetooth.service")

    def stop_bluetoothd(self):
        """Where a terminal runs, its questions have it started again at once: mask the unit as
        well, or restart it."""
        self.stop_unit("bluetooth.service")

    def restart_bluetoothd(self):
        before = self.main_process("bluetooth.service")
        self._unit("RestartUnit", "bluetooth.service", "ss", "replace", until=None)
        self.wait_until(
            "another bluetoothd",
            lambda: self.main_process("bluetooth.service") not in (0, before),
            60,
        )

    def wait_new_bluetoothd(self):
        """After a restart of bluetoothd: until it has every controller, powered."""
        for controller in self.controllers:
            self.wait_powered(controller)

    def let_bus_read_policies(self):
        """The bus reads what is in /etc/dbus-1/system.d now; it holds for connections that there
        are, too."""
        self._call(
            "call",
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "ReloadConfig",
        )

    def bluez_version(self):
        """(5, 82) for 5.82."""
        return tuple(
            int(part)
            for part in self.run("bluetoothctl", "--version").stdout.split()[-1].split(".")
        )

    def kill_bluetoothd(self):
        """As in a crash. Trixie's unit has systemd start it again; bookworm's does not, there only
        a call that activates it does."""
        self.kill_unit("bluetooth.service")

    def wait_powered(self, controller):
        self.wait_until(
            f"{controller.name} to be powered",
            lambda: (
                self.bluez_objects().get(controller.path, {}).get("Adapter1", {}).get("Powered")
            ),
        )

    def start_controllers(self, count, pluggable=False):
        """Makes virtual controllers on one virtual air. They vanish, as if unplugged, with
        stop_controllers."""
        # The one kind does not connect to the other, so the phones' are of the same as the
        # terminal's.
        ready_made = [] if pluggable else [f"-l{count}"]
        # BlueZ's btvirt, mended: see image/btvirt.patch.
        environment = {
            f"BTVIRT_{name}": str(value) for name, value in self._function.limits.items()
        }
        self._air = self.start(
            "btvirt", "florin-test-air", *ready_made, "-s", environment=environment
        )
        if pluggable:
            self._pluggables = [Pluggable() for _ in range(count)]
            self.pluggable = self._pluggables[0]
        return self.wait_until(
            f"{count} controllers",
            lambda: (found := controller_names()) if len(controller_names()) >= count else None,
        )

    def observe(self):
        """A controller of its own that only listens to what is advertised (see air.py)."""
        self._observers.append(Observer())
        return self._observers[-1]

    def stop_controllers(self):
        if self._air is not None:
            self._air.stop()
            self._air = None
        self.wait_until("the controllers to go", lambda: not controller_names())

    # Begin and end, called by the runner

    def set_up(self):
        # Addresses and caches of the scenario before would be known devices here.
        shutil.rmtree("/var/lib/bluetooth", ignore_errors=True)
        configuration = shipped_settings()
        for section, keys in self._function.bluetooth.items():
            configuration.setdefault(section, {}).update(keys)
        with open("/etc/bluetooth/main.conf", "w", encoding="utf-8") as file:
            for section, keys in configuration.items():
                file.write(f"[{section}]\n")
                file.writelines(
                    f"{key}={value}\n" for key, value in keys.items() if value is not None
                )
        options = self._function.bluetoothd_options
        pathlib.Path("/run/florin-test-bluetoothd").write_text(f'BLUETOOTHD_OPTIONS="{options}"\n')
        # From before the first controller, so that the trace has their whole life.
        if not self._function.keeps:
            self._trace = Trace(self.results / "air.btsnoop")
        self.start_controllers(self._function.controllers, self._function.pluggable)
        self.start_bluetoothd()
        for name in controller_names():
            address = self.wait_until(
                f"bluetoothd to know {name}", lambda name=name: self._address(name)
            )
            controller = Controller(name, address)
            self.controllers.append(controller)
            self.wait_powered(controller)

    def _address(self, name):
        return self.bluez_objects().get(f"/org/bluez/{name}", {}).get("Adapter1", {}).get("Address")

    def died(self):
        """Processes that should still run and do not."""
        return [
            process
            for process in self._processes
            if process.must_live and process.exit_code is not None
        ]

    def take_down(self, keep_all):
        # First, so that the end of the trace is what went wrong and not the cleaning up; and while
        # there are controllers, as btmon asks the kernel about those that it reads of.
        if self._trace is not None:
            self._trace.stop()
            if keep_all:
                self.decode_air()
        for observer in self._observers:
            observer.close()
        for pluggable in self._pluggables:
            with contextlib.suppress(OSError):
                pluggable.pull_out()
        for process in reversed(self._processes):
            with contextlib.suppress(Exception):
                process._close()  # pylint: disable=protected-access
        with contextlib.suppress(Failure, BusError, OSError):
            self.stop_bluetoothd()
        # The next scenario counts controllers; these must not be among them.
        end = time.monotonic() + 10
        while controller_names() and time.monotonic() < end:
            time.sleep(0.05)
        if self._bus is not None:
            self._bus.close()
        if keep_all:
            # All units, as a package under test has its own.
            since = f"--since=@{self._began:.0f}"
            self._save(
                "journal.log",
                "journalctl",
                "--quiet",
                "--no-hostname",
                "--output=short-precise",
                since,
            )
            # Journals and ledgers, where the host can look into them.
            copy = (
                "cp",
                "--recursive",
                "--no-target-directory",
                self.directory,
                self.results / "directory",
            )
            subprocess.run(copy, stderr=subprocess.DEVNULL, timeout=60, check=False)
        # A finished scenario's data would only fill the disk.
        shutil.rmtree(self.directory, ignore_errors=True)

    def _save(self, name, *command):
        """A command's output as a file of the results; whether it went well."""
        # By way of memory: on the share each line would be a round trip to the host.
        passing = pathlib.Path("/run/florin-test-output")
        done = None
        with open(passing, "wb") as file, contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.DEVNULL, timeout=60, check=False
            )
        shutil.copyfile(passing, self.results / name)
        passing.unlink()
        return done is not None and done.returncode == 0

    def decode_air(self):
        """The trace so far as text, air.txt; its path."""
        text = self.results / "air.txt"
        # Without a buffer, so that a crash of btmon (see trace.py) does not take along what came
        # before it.
        if not self._save(
            "air.txt", "stdbuf", "--output=L", "btmon", "--read", self.results / "air.btsnoop"
        ):
            with open(text, "a", encoding="utf-8") as file:
                file.write("\n(btmon failed here; the trace goes on: air.btsnoop)\n")
        return text


def shipped_settings():
    """What deploy/bluetooth-main.conf sets, {"Section": {"Key": "value"}}, but for
    NOT_BESIDE_PHONES."""
    settings, section = {}, None
    for line in (INPUT / "deploy/bluetooth-main.conf").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            if (section, key.strip()) != NOT_BESIDE_PHONES:
                settings.setdefault(section, {})[key.strip()] = value.strip()
    return settings


def controller_names():
    """hci0, hci1, ...; connections show there too, as hci0:64."""
    try:
        names = [
            name for name in os.listdir("/sys/class/bluetooth") if re.fullmatch(r"hci\d+", name)
        ]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: int(name.removeprefix("hci")))
