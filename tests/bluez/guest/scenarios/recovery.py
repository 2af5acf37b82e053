"""What BlueZ, the adapter and the bus do to a running terminal: it says so, and is back by itself
(docs/bluetooth.md).

An observer of its own on the virtual air, which needs neither BlueZ nor the kernel, hears when the
terminal can be found again."""

import contextlib
import pathlib
import shutil
import signal
import time

from air import refusal
from bus import BusError
from harness import INPUT, scenario
from kernel import block, is_blocked, kernel_version, remove_advertisements, silence
from kiosk import Kiosk

# Found again so soon after a fault's cause has gone: the promise, on the guest's clock.
FOUND_AGAIN_SECONDS = 5.0
# Since then attributes have the places that the terminal asks for (docs/bluetooth.md).
FIXED_PLACES_SINCE = (5, 75)
# How often a person asks for the result before giving up.
ASK_ATTEMPTS_MAX = 5
SET_ADVERTISING_ENABLE, RESET = 0x200A, 0x0C03
COMMAND_DISALLOWED = 0x0C
# Linux before leaves a controller advertising when rfkill blocks it; nobody answers there. Seen
# with 6.1 and 6.12.
SILENT_WHEN_BLOCKED_SINCE = (6, 12)


class Recovery:
    """A kiosk, an observer of the air, and what they saw."""

    def __init__(self, bed):
        self.bed = bed
        self.observer = bed.observe()
        # A payment under way waits for as long as the worst takes.
        self.kiosk = Kiosk(bed, configuration="[payments]\nauthorisation_timeout_ms = 60000\n")
        self.paid = 0
        self.phone = None

    def find(self, since, what, says_so=True):
        """Waits until the terminal can be found again after a moment, and says how long it took.

        says_so: it knows of the fault, and says when it is over. What is on the air before it has
        said so may be left over from before the fault; but not where the fault silences the
        controller. Those of Bluetooth 4 report an advertisement only once, as it begins: there its
        very first has to count."""
        if says_so:
            self.kiosk.terminal.expect(r"phones can find this terminal", 60)
        # What the observer has not yet taken in was on the air before.
        over = max(since, time.monotonic()) if says_so else since + 0.1
        # Longer than promised, so that a failure says by how much.
        heard = self.observer.wait_florin(over, 60)
        self.bed.check(heard, f"the terminal is not found again after {what}")
        took = heard.moment - since
        self.bed.note(f"found again {took:.2f} s after {what}")
        self.bed.check(
            took <= FOUND_AGAIN_SECONDS,
            f"found again only {took:.1f} s after {what}, promised are {FOUND_AGAIN_SECONDS:.0f} s",
        )

    def lost(self, seconds=10):
        """Waits until the terminal is not to be found any more."""
        # The slow pace has an advertisement a second.
        self.bed.wait_until(
            "the terminal to be off the air",
            lambda: not self.observer.florin(time.monotonic() - 2.5),
            seconds,
        )

    def status(self):
        """The till API's word: None, or why the terminal is out of service."""
        command = (self.bed.binary("florin"), "status", "--json", "--till", self.kiosk.till)
        return self.bed.run(*command, exit_code=None).json().get("reason")

    def figures(self):
        """florin_bluetooth_up, and the sum of florin_bluetooth_recovery_actions_total."""
        found = self.kiosk.metrics()
        recovery_actions = sum(
            value
            for name, value in found.items()
            if name.startswith("florin_bluetooth_recovery_actions_total")
        )
        return found["florin_bluetooth_up"], recovery_actions

    def least_tasks(self):
        """How many tasks the terminal has between two attempts to reach BlueZ, of which there is
        one every three seconds."""
        found = []
        for _ in range(5):
            time.sleep(1)
            found.append(self.kiosk.metrics()["florin_tasks"])
        return min(found)

    def wait_status(self, words):
        """Waits until the till API gives a reason with these words."""
        self.bed.wait_until(
            f"the till API to say {words!r}",
            lambda: (reason := self.status()) and words in reason,
            pause=0.5,
        )

    def wait_in_service(self):
        self.bed.wait_until(
            "the till API to say that all is well", lambda: self.status() is None, pause=0.5
        )

    def pay(self):
        for controller in self.bed.controllers:
            self.bed.wait_powered(controller)
        till = self.kiosk.offer("2.50")
        self.bed.equal("the phone's outcome", self.kiosk.wallets[0].pay()["outcome"], "approved")
        self.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
        self.check_books()

    def check_books(self):
        self.paid += 1
        self.kiosk.wait_for_payments(*[("captured", "")] * self.paid)
        self.kiosk.check_books(captured_minor=250 * self.paid)

    @contextlib.contextmanager
    def under_way(self):
        """A payment whose command is with the institution, and no answer yet, while the `with`
        block does its worst.

        It ends as promised: the till hears of the approval whatever the radio does, and books and
        journal agree. The phone's side is phone_has_its_result()."""
        till = self.kiosk.offer("2.50")
        self.kiosk.institution.signal(signal.SIGSTOP)
        self.phone = self.kiosk.wallets[0].start_paying()
        self.bed.wait_until(
            "the payment to be under way",
            lambda: (
                [state for state, _ in self.kiosk.payments()]
                == ["captured"] * self.paid + ["authorising"]
            ),
        )
        try:
            yield
        finally:
            self.kiosk.institution.signal(signal.SIGCONT)
        self.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
        self.check_books()

    def forget_table(self):
        """The phone forgets the terminal's attributes, which BlueZ before 5.75 puts into another
        order when it is registered anew."""
        terminal, phone, *_ = self.bed.controllers
        device = f"{phone.path}/dev_{terminal.address.replace(':', '_')}"
        with contextlib.suppress(BusError):
            self.bed.bus.call(
                "org.bluez", phone.path, "org.bluez.Adapter1", "RemoveDevice", "o", device
            )

    def phone_has_its_result(self):
        """The phone of the payment under way got its result, or gets it when it comes back."""
        outcome = self.phone.wait(120, exit_code=None).json()
        self.bed.note(f"the phone's outcome of the payment under way: {outcome['outcome']}")
        # After the capture the terminal, or the bank, says so at once.
        if outcome["outcome"] in ("approved", "captured"):
            return
        self.bed.equal("the phone's outcome", outcome["outcome"], "pending")
        for controller in self.bed.controllers:
            self.bed.wait_powered(controller)
        # A phone whose own bluetoothd is still busy with the connection that went tries again, as a
        # person does.
        for attempt in range(1, ASK_ATTEMPTS_MAX + 1):
            later = self.kiosk.wallets[0].ask(outcome["transaction_id"], exit_code=None)
            if later["outcome"] not in ("link_failed", "pending"):
                break
            self.bed.note(
                f"the phone's attempt {attempt} to come back: "
                f"{later['outcome']}, {later.get('error')}"
            )
            if self.bed.bluez_version() < FIXED_PLACES_SINCE:
                self.forget_table()
        self.bed.equal("the phone's outcome later", later["outcome"], "captured")


@scenario(controllers=2)
def bluetoothd_dies(bed):
    """bluetoothd crashes under a payment: the terminal has it started again, and the payment ends
    as promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        moment = time.monotonic()
        bed.kill_bluetoothd()
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*BlueZ")
        recovery.kiosk.terminal.expect(r"so that phones find this terminal.*reregister")
        recovery.find(moment, "the crash of bluetoothd")
    recovery.wait_in_service()
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def bluetoothd_is_restarted(bed):
    """Somebody restarts bluetoothd under a payment: the terminal is found again, and the payment
    ends as promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        moment = time.monotonic()
        bed.restart_bluetoothd()
        recovery.find(moment, "bluetoothd was restarted")
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2, seconds=240)
def bluetoothd_is_stopped_for_a_minute(bed):
    """bluetoothd is stopped and masked for a minute under a payment: till API and figures say so;
    found again; it ends as promised."""
    recovery = Recovery(bed)
    up, recovery_actions = recovery.figures()
    bed.equal("florin_bluetooth_up before", up, 1)
    with recovery.under_way():
        bed.run("systemctl", "mask", "--runtime", "--now", "bluetooth.service")
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*systemctl start bluetooth")
    bed.equal("florin_bluetooth_up without bluetoothd", recovery.figures()[0], 0)
    recovery.wait_status("systemctl start bluetooth")
    recovery.lost()
    tasks = recovery.least_tasks()
    time.sleep(50)
    after = recovery.least_tasks()
    bed.check(
        after <= tasks,
        f"without bluetoothd the terminal's tasks have grown from {tasks:.0f} to {after:.0f}",
    )
    bed.check(
        not recovery.observer.florin(time.monotonic() - 50),
        "the terminal was on the air without bluetoothd",
    )
    bed.run("systemctl", "unmask", "--runtime", "bluetooth.service")
    moment = time.monotonic()
    bed.start_bluetoothd()
    recovery.find(moment, "bluetoothd was started again")
    recovery.wait_in_service()
    up, actions_after = recovery.figures()
    bed.equal("florin_bluetooth_up after", up, 1)
    bed.check(
        actions_after > recovery_actions,
        f"florin_bluetooth_recovery_actions_total was {recovery_actions}, and is {actions_after}",
    )
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def bluetoothd_hangs(bed):
    """bluetoothd stops answering for a while under a payment: the terminal says so; found again
    when it goes on; it ends as promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        bed.kill_unit("bluetooth.service", signal.SIGSTOP)
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*has not answered")
    recovery.wait_status("has not answered")
    bed.kill_unit("bluetooth.service", signal.SIGCONT)
    moment = time.monotonic()
    recovery.find(moment, "bluetoothd went on")
    recovery.wait_in_service()
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def bluetoothd_hangs_for_good(bed):
    """bluetoothd hangs for good: systemd ends it and starts another, as deploy/ has it; the
    terminal is found again."""
    drop_in = pathlib.Path("/run/systemd/system/bluetooth.service.d/florin-deploy.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(INPUT / "deploy/bluetooth-service.conf", drop_in)
    try:
        bed.run("systemctl", "daemon-reload")
        # Its watchdog starts with the daemon.
        bed.restart_bluetoothd()
        bed.wait_new_bluetoothd()
        recovery = Recovery(bed)
        hung = bed.bus.owner("org.bluez")
        bed.kill_unit("bluetooth.service", signal.SIGSTOP)
        # systemd may be quicker than the terminal's own question.
        recovery.kiosk.terminal.expect(
            r"cannot find this terminal.*(has not answered|BlueZ stopped)"
        )
        bed.wait_until(
            "another bluetoothd", lambda: bed.bus.owner("org.bluez") not in (None, hung), 120
        )
        recovery.find(time.monotonic(), "systemd started another bluetoothd")
        recovery.pay()
    finally:
        drop_in.unlink()
        bed.run("systemctl", "daemon-reload")


@scenario(controllers=2)
def adapter_is_switched_off(bed):
    """Somebody switches the adapter off under a payment: the terminal switches it on again; the
    payment ends as promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        moment = time.monotonic()
        bed.set_bluez_property(bed.controllers[0].path, "Adapter1", "Powered", "b", False)
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*switched off")
        recovery.kiosk.terminal.expect(r"so that phones find this terminal.*power_on")
        recovery.find(moment, "the adapter was switched off")
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2, pluggable=True)
def adapter_is_pulled_out(bed):
    """The adapter is pulled out under a payment and put in again: found again; the payment ends as
    promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        bed.pluggable.pull_out()
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*no Bluetooth adapter")
    recovery.wait_status("no Bluetooth adapter")
    moment = time.monotonic()
    bed.pluggable.plug_in()
    bed.equal("the adapter's name", f"hci{bed.pluggable.index}", bed.controllers[0].name)
    recovery.find(moment, "the adapter was put in again", says_so=False)
    recovery.wait_in_service()
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def adapter_is_blocked(bed):
    """rfkill blocks the adapter under a payment: the terminal leaves it so and says so; found again
    when it is unblocked."""
    recovery = Recovery(bed)
    with recovery.under_way():
        block(bed.controllers[0], True)
        recovery.kiosk.terminal.expect(r"cannot find this terminal.*rfkill unblock")
    recovery.wait_status("rfkill unblock")
    if kernel_version() >= SILENT_WHEN_BLOCKED_SINCE:
        recovery.lost()
    # Several attempts long: none of them unblocks it.
    time.sleep(8)
    bed.check(is_blocked(bed.controllers[0]), "the terminal has unblocked the adapter")
    recovery.wait_status("rfkill unblock")
    moment = time.monotonic()
    block(bed.controllers[0], False)
    recovery.find(moment, "the adapter was unblocked")
    recovery.wait_in_service()
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def bus_is_restarted(bed):
    """The D-Bus daemon is restarted under a payment, and takes bluetoothd along: found again; the
    payment ends as promised."""
    recovery = Recovery(bed)
    with recovery.under_way():
        bed.run("systemctl", "restart", "dbus.service")
        moment = time.monotonic()
        recovery.kiosk.terminal.expect(r"cannot find this terminal")
        recovery.find(moment, "the bus was restarted")
    recovery.wait_in_service()
    recovery.phone_has_its_result()
    recovery.pay()


@scenario(controllers=2)
def advertising_vanishes(bed):
    """The controller stops advertising and the kernel forgets the advertisement, each without a
    word: found again."""
    recovery = Recovery(bed)
    terminal = bed.controllers[0]
    # With an offer, and without one.
    for pay in (lambda: recovery.kiosk.offer("2.50"), None):
        till = pay() if pay else None
        for cause, what in (
            (silence, "the controller fell silent"),
            (remove_advertisements, "the kernel forgot the advertisement"),
        ):
            # Neither an offer's coming nor a phone's leaving is what puts it up anew.
            time.sleep(1.5)
            cause(terminal)
            what += f", {'with' if till else 'without'} an offer"
            recovery.find(time.monotonic(), what, says_so=False)
        if till:
            bed.equal("the phone's outcome", recovery.kiosk.wallets[0].pay()["outcome"], "approved")
            bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
            recovery.check_books()
    recovery.pay()


@scenario(controllers=2, pluggable=True)
def advertising_is_refused(bed):
    """The controller refuses to advertise until it is reset: a payment under way ends; then it is
    switched off and on, and found again."""
    recovery = Recovery(bed)
    state = {"refuses": True}

    def judge(packet):
        opcode = int.from_bytes(packet[1:3], "little") if packet[0] == 1 else None
        if opcode == RESET:
            state["refuses"] = False
        if opcode == SET_ADVERTISING_ENABLE and packet[4] == 1 and state["refuses"]:
            return refusal(packet, COMMAND_DISALLOWED)
        return None

    with recovery.under_way():
        bed.pluggable.judge = judge
        # An advertisement is put up anew meanwhile, and is refused; for the sake of this phone
        # nothing is done about it.
        time.sleep(4)
    recovery.phone_has_its_result()
    recovery.kiosk.terminal.expect(r"cannot find this terminal.*advertising")
    moment = time.monotonic()
    recovery.kiosk.terminal.expect(r"so that phones find this terminal.*reregister")
    recovery.kiosk.terminal.expect(r"so that phones find this terminal.*power_cycle")
    recovery.find(moment, "the controller refused to advertise", says_so=False)
    recovery.wait_in_service()
    recovery.pay()
