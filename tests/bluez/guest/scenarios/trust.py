"""Machines and phones that lie, or hold a place for nothing: nobody loses money or a sale."""

import contextlib

from harness import scenario
from kiosk import Kiosk
from raw_phone import Card, Gone, RawPhone, modules

# What an enrolled terminal may say after it has taken the money (examples/dishonest_terminal).
LIES = ("taken", "expired", "unreachable", "reversed")
OFFER_MINOR = 250
# What the wallet ends with where nothing is proven, and the payment stays open.
UNPROVEN = 12
HOSTILE = 3


def zeros():
    """A sealed command that is well formed, and that nobody sealed."""
    phone, _ = modules()
    parts = {
        "suite": 1,
        "key_id": bytes(8),
        "encapsulated_key": bytes(31) + b"\x09",
        "ciphertext": bytes(150),
    }
    return phone.encode("SealedCommand", **parts)


@scenario(controllers=2, seconds=300)
def dishonest_terminal(bed):
    """A certified terminal takes the money and lies: the wallet believes none of it, and the bank
    tells the cardholder."""
    kiosk = Kiosk(bed, serves=False)
    wallet = kiosk.wallets[0]
    for number, lie in enumerate(LIES, start=1):
        liar = bed.start(
            "liar",
            bed.binary("dishonest_terminal"),
            "--state",
            kiosk.state,
            "--adapter",
            bed.controllers[0].name,
            "--lie",
            lie,
        )
        liar.expect('"ready":true')
        told = wallet.pay("--offline", exit_code=UNPROVEN)
        bed.equal(f"after the lie {lie!r}", told["outcome"], "unproven")
        taken = kiosk.transactions()[0]
        bed.equal("at the bank", (taken["state"], taken["amount_minor"]), ("captured", OFFER_MINOR))
        asked = wallet.ask_the_bank(told["transaction_id"])
        bed.equal(
            "what the bank says", (asked["outcome"], asked["receipt_verified"]), ("captured", True)
        )
        bed.equal("so many were taken", len(kiosk.transactions()), number)
        liar.stop()


@scenario(controllers=3, python=True, seconds=300)
def hostile_phone(bed):
    """A phone without a card sends commands of zeros: the sale stands, and the next phone pays."""
    kiosk = Kiosk(bed)
    till = kiosk.offer("2.50", "--valid-for-s", "300")
    card = Card(kiosk)
    for _ in range(HOSTILE):
        with contextlib.suppress(Gone), RawPhone(bed.controllers[2], bed.controllers[0]) as raw:
            raw.exchange_mtu(185)
            raw.discover()
            raw.subscribe()
            session, offered = card.greet(raw)
            payment = session.order(offered)
            payment.sealed_command = zeros()
            card.say(raw, session.pay(payment))
            card.expect(raw, session, "Concluded", "Failed")
    paid = kiosk.wallets[0].pay()
    bed.equal("the wallet's outcome", paid["outcome"], "approved")
    answer = till.wait(60, exit_code=0).json()
    bed.equal("the till's answer", answer["state"], "captured")
    kiosk.check_books(250)


@scenario(controllers=2, seconds=300)
def sticker_after_renewal(bed):
    """The sticker that was printed before the terminal was enrolled again still leads to it."""
    kiosk = Kiosk(bed)
    sticker = kiosk.status()["engagement_link"]
    kiosk.enrol_again()
    kiosk.terminal.expect("goes on with the renewed enrolment", 30)
    till = kiosk.offer("2.50")
    paid = kiosk.wallets[0].start("pay", "--link", sticker, "--yes").wait(60, exit_code=0).json()
    bed.equal("the wallet's outcome", paid["outcome"], "approved")
    till.wait(60, exit_code=0)
    kiosk.check_books(250)
