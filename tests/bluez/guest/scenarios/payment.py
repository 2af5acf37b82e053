"""Payments with the real parts: what the phone, the till, the journal and the ledger say in the
end."""

from harness import scenario
from kiosk import Kiosk


@scenario(controllers=2)
def approved(bed):
    """A payment is approved and captured."""
    kiosk = Kiosk(bed)
    bed.note(f"idle terminal: {kiosk.terminal.memory()[0]} KiB resident")
    till = kiosk.offer("2.50")
    begin = bed.clock()
    outcome = kiosk.wallets[0].pay()
    bed.note(f"the phone's whole part, scan and connection included: {bed.clock() - begin:.2f} s")
    bed.equal("the phone's outcome", outcome["outcome"], "approved")
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    bed.equal("the amount", (outcome["amount_minor"], outcome["currency"]), (250, "EUR"))
    bed.equal("the merchant", outcome["merchant"], "Corner Kiosk")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    kiosk.wait_for_payments(("captured", ""))
    kiosk.check_books(captured_minor=250)
    bed.note(f"after a payment: {kiosk.terminal.memory()[0]} KiB resident")


@scenario(controllers=2)
def declined_for_funds(bed):
    """There is not enough money: the phone gets a signed decline, the till does not release."""
    kiosk = Kiosk(bed)
    till = kiosk.offer("20.01")
    outcome = kiosk.wallets[0].pay(exit_code=3)
    bed.equal("the phone's outcome", outcome["outcome"], "declined")
    bed.equal("the reason", outcome["decline_reason"], "insufficient_funds")
    bed.equal("the receipt is verified", outcome["receipt_verified"], True)
    answer = till.wait(60, exit_code=3).json()
    bed.equal("the till's answer", (answer["state"], answer["release"]), ("declined", False))
    kiosk.wait_for_payments(("declined", "insufficient_funds"))
    kiosk.check_books(captured_minor=0)


@scenario(controllers=2)
def dispense_failed(bed):
    """Approved, but the goods cannot be released: everything is given back, and the phone that
    stays hears of it."""
    kiosk = Kiosk(bed)
    till = kiosk.offer("2.50", "--after-dispense", "--dispensed", "false")
    paid = kiosk.wallets[0].pay(exit_code=6)
    bed.equal(
        "the phone's outcome", (paid["outcome"], paid["receipt_verified"]), ("reversed", True)
    )
    answer = till.wait(60, exit_code=7).json()
    bed.equal(
        "the till's answer", (answer["state"], answer["reason"]), ("reversed", "dispense_failed")
    )
    bed.equal("release what is given back", answer["release"], False)
    kiosk.wait_for_payments(("reversed", "dispense_failed"))
    kiosk.check_books(captured_minor=0)
    later = kiosk.wallets[0].ask(paid["transaction_id"], exit_code=6)
    bed.equal("the phone's outcome later", later["outcome"], "reversed")
    bed.equal("the receipt is verified", later["receipt_verified"], True)


@scenario(controllers=2)
def phone_vanishes(bed):
    """The phone goes away right after its command; it comes back later and gets its result."""
    kiosk = Kiosk(bed)
    till = kiosk.offer("2.50")
    gone = kiosk.wallets[0].pay("--vanish-after-command", exit_code=5)
    bed.equal("the phone does not know", gone["outcome"], "pending")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    kiosk.wait_for_payments(("captured", ""))
    later = kiosk.wallets[0].ask(gone["transaction_id"])
    bed.equal("the phone's outcome later", later["outcome"], "captured")
    bed.equal("the receipt is verified", later["receipt_verified"], True)
    kiosk.check_books(captured_minor=250)


@scenario(controllers=3)
def two_phones(bed):
    """Two phones have the same offer before them: one pays, the other is told that it is taken, and
    is not charged."""
    kiosk = Kiosk(bed, wallets=2)

    def both_have_the_offer():
        till = kiosk.offer("2.50")
        phones = [wallet.start("pay", "--code", kiosk.short_code) for wallet in kiosk.wallets]
        for phone in phones:
            phone.expect(r'"event":"offer"')
        return till, phones

    till, (first, second) = both_have_the_offer()
    first.send("y")
    bed.equal(
        "the outcome of who says yes", first.wait(60, exit_code=0).json()["outcome"], "approved"
    )
    bed.equal("the other's outcome", second.wait(20, exit_code=None).json()["outcome"], "not_paid")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")

    till, phones = both_have_the_offer()
    for phone in phones:
        phone.send("y")
    outcomes = sorted(phone.wait(60, exit_code=None).json()["outcome"] for phone in phones)
    # The other had no command out yet, or one that was not used.
    bed.check(
        outcomes in (["approved", "not_paid"], ["approved", "not_charged"]),
        f"the outcomes of two who say yes: {outcomes}",
    )
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    kiosk.wait_for_payments(*[("captured", "")] * 2)
    kiosk.check_books(captured_minor=500)
