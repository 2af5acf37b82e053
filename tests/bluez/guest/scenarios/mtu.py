"""Every way in which a phone's stack may carry the protocol's values."""

from harness import scenario
from kiosk import Kiosk
from raw_phone import Card, RawPhone

# The smallest; a fragment more or less around some messages; iOS's; Android's long default with
# data length extension; the largest with one octet less and in full.
MTUS = (23, 24, 48, 100, 185, 247, 512, 516, 517)


@scenario(controllers=2, python=True, seconds=400)
def mtu_sweep(bed):
    """Payments at MTUs from 23 to 517, writes with response, without, and prepared; MTU growing
    late; sizes different each way."""
    kiosk = Kiosk(bed, wallets=0)
    card = Card(kiosk)
    terminal, controller = bed.controllers
    known, paid = None, 0

    def connect(mtu):
        nonlocal known
        raw = RawPhone(controller, terminal)
        if mtu != 23:
            bed.equal("the MTU", raw.exchange_mtu(mtu), mtu)
        raw.discover(known)
        known = raw
        return raw

    def check(what, till, state):
        nonlocal paid
        bed.equal(f"the phone's outcome, {what}", state, "approved")
        bed.equal(
            f"the till's answer, {what}", till.wait(60, exit_code=0).json()["state"], "captured"
        )
        paid += 1

    for number, mtu in enumerate(MTUS):
        manner = ("response", "command", "prepared")[number % 3]
        till = kiosk.offer("0.10")
        with connect(mtu) as raw:
            raw.subscribe()
            check(f"MTU {mtu}, {manner}", till, card.pay(raw, manner))
            bed.check(
                all(len(value) <= mtu - 3 for value in raw.values),
                "a value is longer than the MTU carries",
            )

    till = kiosk.offer("0.10")
    with connect(23) as raw:
        raw.subscribe()
        session, offered = card.greet(raw, "command")
        bed.equal("the MTU", raw.exchange_mtu(517), 517)
        session.value_octets = raw.value_octets
        check(
            "the MTU grows after the first message",
            till,
            card.pay_offer(raw, session, offered, "command"),
        )

    till = kiosk.offer("0.10")
    with connect(23) as raw:
        raw.subscribe()
        session = card.session(20)
        first, *others = session.hello()
        raw.write(first, "response")
        raw.exchange_mtu(247)
        card.say(raw, others)
        offered = card.expect(raw, session, "Offered")
        check("the MTU grows within the first message", till, card.pay_offer(raw, session, offered))

    # The phone writes long values and wants short ones, and the other way round.
    for writes, hears in ((512, 20), (20, 512), (33, 244)):
        till = kiosk.offer("0.10")
        with connect(517) as raw:
            raw.subscribe()
            session = card.session(hears)
            values = session.hello()
            session.value_octets = writes
            card.say(raw, values, "command")
            offered = card.expect(raw, session, "Offered")
            check(
                f"writes {writes}, hears {hears}",
                till,
                card.pay_offer(raw, session, offered, "command"),
            )

    # What the terminal says to the hello waits for the subscription.
    for manner in ("response", "command"):
        till = kiosk.offer("0.10")
        with connect(185) as raw:
            session = card.session(raw.value_octets)
            card.say(raw, session.hello(), manner)
            bed.check(raw.next_value(0.5) is None, "a notification without a subscription")
            raw.subscribe()
            offered = card.expect(raw, session, "Offered")
            check(
                f"subscribed after the hello, {manner}",
                till,
                card.pay_offer(raw, session, offered, manner),
            )

    # A long write of one value, in more parts than the MTU needs, and manners mixed within a
    # message.
    till = kiosk.offer("0.10")
    with connect(48) as raw:
        raw.subscribe()
        session, offered = card.greet(raw)
        payment = session.order(offered)
        session.value_octets = 100
        values = session.pay(payment)
        bed.check(len(values) > 1, "the command fits one value: nothing to mix")
        for number, value in enumerate(values):
            raw.write(
                value, "prepared" if number % 2 == 0 or len(value) > raw.value_octets else "command"
            )
        card.expect(raw, session, "Concluded")
        check("values longer than the MTU, prepared", till, payment.state)

    kiosk.wait_for_payments(*[("captured", "")] * paid)
    kiosk.check_books(captured_minor=10 * paid)
    bed.note(f"{paid} payments")
