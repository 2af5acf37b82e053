"""A phone that shares nothing with Florin but the protocol's text: in Python, on a Bluetooth stack
that is not BlueZ (tests/bumble)."""

import json

from harness import scenario
from kiosk import Kiosk
from raw_phone import RawPhone


class Phone:
    """The phone of tests/bumble with a card of its own, on a controller that BlueZ keeps its hands
    off."""

    def __init__(self, kiosk, controller):
        self.kiosk, self.bed = kiosk, kiosk.bed
        card = self.bed.directory / "card.json"
        code = kiosk.add_card()
        enrolled = self.bed.run_json(
            *self.bed.python(
                "enrol.py", "--institution", kiosk.url, "--root", kiosk.root, "--card", card, code
            )
        )
        self.bed.equal(
            "the card's limit", (enrolled["limit_minor"], enrolled["currency"]), (5000, "EUR")
        )
        # The kernel gives a controller to a user channel only while it is down.
        self.bed.set_bluez_property(controller.path, "Adapter1", "Powered", "b", False)
        # One process for all visits: loading Bumble takes ten seconds in an emulated machine.
        command = self.bed.python(
            "pay.py", "--visits", "--card", card, "--controller", f"hci-socket:{controller.index}"
        )
        self.process = self.bed.start("phone", *command)
        self.process.expect("the controller is up", 120)

    def start(self, *words):
        where = () if "--link" in words else ("--code", self.kiosk.short_code)
        self.process.send(" ".join([*where, *words]))

    def outcome(self):
        return json.loads(self.process.expect(r'^\{"outcome".*$', 90)[0])

    def visit(self, *words):
        self.start(*words)
        return self.outcome()


def check_paid(bed, till, outcome):
    bed.equal("the phone's outcome", outcome["outcome"], "approved")
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    bed.equal("the merchant", outcome["merchant"], "Corner Kiosk")
    answer = till.wait(60, exit_code=0).json()
    bed.equal(
        "the till's answer",
        (answer["state"], answer["transaction_id"]),
        ("captured", outcome["transaction_id"]),
    )


@scenario(controllers=1, binaries=False, python=True)
def bumble_vectors(bed):
    """The Python phone agrees with the test vectors, and refuses what it must."""
    done = bed.run(*bed.python("check_vectors.py"))
    bed.check("\nOK" in done.stderr, "the checks did not all run")


@scenario(controllers=3, python=True, seconds=300)
def bumble(bed):
    """The Python phone on Google's Bumble pays: by short code and by link, with large and small
    values, before and after an offer."""
    kiosk = Kiosk(bed, wallets=0)
    phone = Phone(kiosk, bed.controllers[1])

    till = kiosk.offer("2.50")
    # As long as a person takes, so that the till gets to see the matching code.
    outcome = phone.visit("--read-info", "--consent-after", "2")
    check_paid(bed, till, outcome)
    bed.equal("the amount", (outcome["amount_minor"], outcome["currency"]), (250, "EUR"))
    bed.equal(
        "the terminal's info", outcome["info"], {"terminal_id": kiosk.terminal_id, "versions": [1]}
    )
    seen = [code for line in till.json_lines() for code in line["matching_codes"]]
    bed.check(
        outcome["matching_code"] in seen,
        f"the phone's matching code is {outcome['matching_code']}, the till's {seen}",
    )
    bed.equal("octets in a value", outcome["value_octets"], 508)

    # The smallest values, each write answered; and the phone is there before the offer is, while
    # another comes and leaves, which from BlueZ 5.76 on takes the first one's notifications along:
    # see `another-leaves`.
    phone.start("--mtu", "23", "--with-response")
    phone.process.expect("NothingToPay", 60)
    with RawPhone(bed.controllers[2], bed.controllers[0]) as other:
        other.discover()
        other.subscribe()
    till = kiosk.offer("0.30")
    outcome = phone.outcome()
    check_paid(bed, till, outcome)
    bed.equal("octets in a value", outcome["value_octets"], 20)
    bed.equal("the counter", outcome["counter"], 2)

    till = kiosk.offer("0.20")
    outcome = phone.visit("--link", till.json_lines()[-1]["engagement_link"])
    check_paid(bed, till, outcome)
    bed.note(f"the phone's whole part, scan and connection included: {outcome['seconds']} s")

    kiosk.wait_for_payments(*[("captured", "")] * 3)
    kiosk.check_books(captured_minor=300)


@scenario(controllers=2, python=True, seconds=300)
def bumble_in_trouble(bed):
    """The Python phone is declined, cancels, vanishes before and after its command, comes back, and
    hears of a reversal."""
    kiosk = Kiosk(bed, wallets=0)
    phone = Phone(kiosk, bed.controllers[1])

    till = kiosk.offer("20.01")
    outcome = phone.visit()
    bed.equal(
        "the phone's outcome",
        (outcome["outcome"], outcome["decline_reason"]),
        ("declined", "insufficient_funds"),
    )
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    bed.equal("the till's answer", till.wait(60, exit_code=None).json()["state"], "declined")

    till = kiosk.offer("2.50")
    cancelled = phone.visit("--cancel")
    bed.equal(
        "the phone's outcome", (cancelled["outcome"], "error" in cancelled), ("not_paid", False)
    )
    # With response, or the disconnect overtakes the command in the phone's own controller.
    gone = phone.visit("--vanish", "after", "--with-response")
    bed.equal(
        "the phone does not know", (gone["outcome"], gone["receipt_verified"]), ("pending", False)
    )
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    later = phone.visit("--result", gone["transaction_id"])
    bed.equal(
        "the phone's outcome later",
        (later["outcome"], later["receipt_verified"]),
        ("captured", True),
    )
    bed.equal("the amount", (later["amount_minor"], later["currency"]), (250, "EUR"))

    # The link was lost before the command came over. The phone cannot know that, and sends the same
    # octets again.
    till = kiosk.offer("1.50")
    gone = phone.visit("--vanish", "before")
    unknown = phone.visit("--result", gone["transaction_id"])
    bed.equal(
        "the terminal's answer",
        (unknown["outcome"], unknown["error"]),
        ("pending", "transaction_unknown"),
    )
    again = phone.visit("--again", gone["transaction_id"])
    check_paid(bed, till, again)
    bed.equal("the counter", again["counter"], gone["counter"])
    again = phone.visit("--again", gone["transaction_id"])
    bed.equal(
        "the phone's outcome, again",
        (again["outcome"], again["receipt_verified"]),
        ("captured", True),
    )

    # The same, but the offer is gone when the phone comes back. The machine says so, and has the
    # institution prove that the command will never be used.
    till = kiosk.offer("1.60")
    gone = phone.visit("--vanish", "before")
    bed.run(bed.binary("florin"), "cancel", "--till", kiosk.till, gone["transaction_id"])
    till.wait(60, exit_code=None)
    again = phone.visit("--again", gone["transaction_id"])
    bed.equal(
        "the phone's outcome", (again["outcome"], again.get("why")), ("not_charged", "withdrawn")
    )

    till = kiosk.offer("1.00", "--after-dispense", "--dispensed", "false")
    paid = phone.visit()
    bed.equal(
        "the phone's outcome", (paid["outcome"], paid["receipt_verified"]), ("approved", True)
    )
    bed.equal("the till's answer", till.wait(60, exit_code=None).json()["state"], "reversed")
    later = phone.visit("--result", paid["transaction_id"])
    bed.equal(
        "the phone's outcome later",
        (later["outcome"], later["receipt_verified"]),
        ("reversed", True),
    )

    till = kiosk.offer("0.40")
    phone.start("--consent-after", "3")
    phone.process.expect("Offered", 60)
    kiosk.institution.kill()
    outcome = phone.outcome()
    bed.equal("without the institution", outcome["outcome"], "pending")
    kiosk.start_institution(kiosk.port)
    answer = till.wait(120, exit_code=None).json()["state"]
    bed.check(answer in ("unresolved", "reversing", "reversed"), f"the till was told {answer}")

    kiosk.wait_for_payments(
        ("declined", "insufficient_funds"),
        ("captured", ""),
        ("captured", ""),
        ("cancelled", ""),
        ("reversed", "dispense_failed"),
        ("reversed", "unanswered"),
    )
    # Until the terminal has asked the institution again it says that it is out of service.
    bed.wait_until("the terminal to be in service", lambda: kiosk.status()["in_service"], 90)
    later = phone.visit("--result", outcome["transaction_id"])
    bed.equal("the proof later", later["outcome"], "not_charged")
    kiosk.check_books(captured_minor=400)
