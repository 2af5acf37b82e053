"""A phone that shares nothing with Florin but the protocol's text: in Python, on a Bluetooth stack that is not BlueZ (tests/bumble)."""

from harness import scenario
from kiosk import Kiosk


class Phone:
    """The phone of tests/bumble with a card of its own, on a controller that BlueZ keeps its hands off."""

    def __init__(self, kiosk, controller):
        self.kiosk, self.bed, self.controller = kiosk, kiosk.bed, controller
        self.card = kiosk.bed.directory / "card.json"
        code = kiosk.add_card()
        enrolled = self.bed.run_json(
            *self.bed.python("enrol.py", "--acquirer", kiosk.url, "--root", kiosk.root, "--card", self.card, code)
        )
        self.bed.equal("the card's limit", (enrolled["limit_minor"], enrolled["currency"]), (5000, "EUR"))
        # The kernel gives a controller to a user channel only while it is down.
        self.bed.set_bluez_property(controller.path, "Adapter1", "Powered", "b", False)

    def start(self, *words):
        where = () if "--link" in words else ("--code", self.kiosk.short_code)
        command = self.bed.python("pay.py", "--card", self.card, "--controller", f"hci-socket:{self.controller.index}")
        return self.bed.start("phone", *command, *where, *words, must_live=False)

    def visit(self, *words, exit_code=0):
        return self.start(*words).wait(90, exit_code=exit_code).json()


def pay(bed, kiosk, phone, amount, *words):
    till = kiosk.offer(amount)
    outcome = phone.visit(*words)
    bed.equal("the phone's outcome", outcome["outcome"], "approved")
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    bed.equal("the merchant", outcome["merchant"], "Corner Kiosk")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    return outcome


@scenario(controllers=1, binaries=False, python=True)
def bumble_vectors(bed):
    """The Python phone agrees with the test vectors, and refuses what it must."""
    done = bed.run(*bed.python("check_vectors.py"))
    bed.check("\nOK" in done.stderr, "the checks did not all run")


@scenario(controllers=2, python=True, seconds=240)
def bumble(bed):
    """The Python phone on Google's Bumble pays, by short code and by link, with large and with small values."""
    kiosk = Kiosk(bed, wallets=0)
    phone = Phone(kiosk, bed.controllers[1])
    outcome = pay(bed, kiosk, phone, "2.50", "--read-info")
    bed.equal("the amount", (outcome["amount_minor"], outcome["currency"]), (250, "EUR"))
    bed.equal("the terminal's info", outcome["info"], {"terminal_id": kiosk.terminal_id, "versions": [1]})
    bed.note(f"MTU {outcome['value_octets'] + 3}; the phone's whole part: {outcome['seconds']} s")
    outcome = pay(bed, kiosk, phone, "0.30", "--mtu", "23", "--with-response")
    bed.equal("octets in a value", outcome["value_octets"], 20)
    bed.equal("the counter", outcome["counter"], 2)
    bed.note(f"MTU 23, written with response: {outcome['seconds']} s")
    kiosk.wait_for_payments(("captured", ""), ("captured", ""))
    kiosk.check_books(captured_minor=280)


@scenario(controllers=2, python=True, seconds=240)
def bumble_in_trouble(bed):
    """The Python phone is declined, cancels, vanishes after its command and comes back for the result."""
    kiosk = Kiosk(bed, wallets=0)
    phone = Phone(kiosk, bed.controllers[1])

    till = kiosk.offer("20.01")
    outcome = phone.visit(exit_code=1)
    bed.equal("the phone's outcome", (outcome["outcome"], outcome["decline_reason"]), ("declined", "insufficient_funds"))
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    bed.equal("the till's answer", till.wait(60, exit_code=None).json()["state"], "declined")

    till = kiosk.offer("2.50")
    cancelled = phone.visit("--cancel", exit_code=1)
    bed.equal("the phone's outcome", (cancelled["outcome"], "error" in cancelled), ("not_paid", False))
    gone = phone.visit("--vanish-after-command", exit_code=1)
    bed.equal("the phone does not know", (gone["outcome"], gone["receipt_verified"]), ("pending", False))
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    later = phone.visit("--result", gone["transaction_id"])
    bed.equal("the phone's outcome later", (later["outcome"], later["receipt_verified"]), ("approved", True))
    bed.equal("the amount", (later["amount_minor"], later["currency"]), (250, "EUR"))
    kiosk.wait_for_payments(("declined", "insufficient_funds"), ("captured", ""))
    kiosk.check_books(captured_minor=250)
