"""Many phones at once, and who gets a place."""

import statistics
import time

from harness import INPUT, STEADY, scenario
from kiosk import Kiosk
from raw_phone import Card, Gone, Holdings, RawPhone

PHONES = 8
# A phone subscribes again after 4 s without a word; the rest is scanning, paying and disconnecting,
# emulated.
HEARS_AGAIN_S = 10
# How often the advertisement is refused, at least.
REFUSALS = 8
# docs/bluetooth.md: so soon after the cause of a fault has gone.
FOUND_AGAIN_S = 5
HONEST_TAG = 5
# How often an honest phone pays beside each kind of neighbour, and without one.
PAYMENTS_EACH = 3
# How many times as long it may take beside one, at a steady pace. Phone, neighbour, bluetoothd and
# terminal share one emulated processor, so that a neighbour costs here what it would not on the
# air.
RATIO_MAX = {"silent": 1.5, "slow": 1.5, "flooding": 5.0}


@scenario(controllers=1 + PHONES, python=True, seconds=400)
def eight_phones(bed):
    """Eight phones connected at once pay in turn; each hears what is its own, and nothing of the
    others' results."""
    kiosk = Kiosk(bed, wallets=0, phones_max=PHONES)
    card = Card(kiosk)
    terminal, *controllers = bed.controllers
    raws, sessions = [], []
    for controller in controllers:
        raw = RawPhone(controller, terminal)
        raw.exchange_mtu(185)
        raw.discover(raws[0] if raws else None)
        raw.subscribe()
        # Each has a tag of its own: BlueZ before 5.76 notifies all of them of what is for one.
        session, _ = card.greet(raw, tag=len(raws))
        raws.append(raw)
        sessions.append(session)
    connected = sum(device["Connected"] for device in bed.devices(terminal).values())
    bed.equal("connections at once, says BlueZ", connected, PHONES)
    for payer in range(PHONES):
        till = kiosk.offer("0.10")
        offers = [
            card.expect(raw, session, "Offered")
            for raw, session in zip(raws, sessions, strict=True)
        ]
        payment = sessions[payer].order(offers[payer])
        card.say(raws[payer], sessions[payer].pay(payment))
        for number, (raw, session) in enumerate(zip(raws, sessions, strict=True)):
            event = card.expect(raw, session, "Concluded", "Gone", "Unproven", "Failed")
            expected = "Concluded" if number == payer else "Gone"
            bed.equal(
                f"what phone {number} hears when {payer} pays", type(event).__name__, expected
            )
        bed.equal("the payer's outcome", payment.state, "approved")
        card.say(raws[payer], sessions[payer].acknowledge())
        sessions[payer].payment = None
        bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    for raw in raws:
        raw.leave()
    kiosk.wait_for_payments(*[("captured", "")] * PHONES)
    kiosk.check_books(captured_minor=10 * PHONES)


@scenario(controllers=3, python=True)
def another_leaves(bed):
    """A phone waits for an offer while another comes and leaves: it hears of the offer all the
    same, and pays."""
    kiosk = Kiosk(bed, wallets=1)
    card = Card(kiosk)
    terminal, _, passing = bed.controllers
    phone = kiosk.wallets[0].start_paying()
    bed.wait_until("the phone to be there", lambda: kiosk.metrics()["florin_phones_connected"] == 1)
    # Its hello is answered: from now on it waits.
    time.sleep(2)
    with RawPhone(passing, terminal) as other:
        other.exchange_mtu(185)
        other.discover()
        other.subscribe()
        card.greet(other, tag=HONEST_TAG)
    # BlueZ from 5.76 on closes the notification socket of whoever subscribed first when any phone
    # leaves (clear_ccc_state in src/gatt-database.c, 5.85 too), and keeps the connection: what the
    # terminal says comes over when the phone subscribes again.
    bed.wait_until(
        "BlueZ to notice",
        lambda: not bed.devices(terminal).get(passing.address, {}).get("Connected"),
    )
    till, begin = kiosk.offer("0.10"), bed.clock()
    bed.equal("the phone's outcome", phone.wait(60, exit_code=0).json()["outcome"], "approved")
    took = bed.clock() - begin
    bed.note(f"{took:.1f} s from the offer to the phone's end")
    bed.check(took <= HEARS_AGAIN_S, f"the phone had its result only {took:.1f} s after the offer")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    kiosk.check_books(captured_minor=10)


@scenario(controllers=5, limits={"LINKS_MAX": 4}, python=True, seconds=300)
def places(bed):
    """All places are taken by phones that do not pay: the first of them leaves for a newcomer that
    does; the controller stays findable."""
    kiosk = Kiosk(bed, wallets=1, phones_max=3)
    card = Card(kiosk)
    terminal, newcomer, *controllers = bed.controllers
    bed.check(kiosk.wallets[0].controller is newcomer, "the wallet has another controller")
    till = kiosk.offer("2.50")
    squatters = []
    for controller in controllers:
        raw = RawPhone(controller, terminal)
        raw.exchange_mtu(517)
        raw.discover(squatters[0] if squatters else None)
        raw.subscribe()
        card.greet(raw)
        squatters.append(raw)
    began = bed.clock()
    bed.wait_until("the minimum stay to be over", lambda: bed.clock() - began > 21, 30)
    bed.check(all(raw.is_connected() for raw in squatters), "somebody had to leave without need")
    bed.equal("the phone's outcome", kiosk.wallets[0].pay()["outcome"], "approved")
    bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    squatters[0].until_gone(10)
    bed.check(
        squatters[1].is_connected() and squatters[2].is_connected(),
        "another had to leave than the first",
    )
    for raw in squatters:
        raw.leave()
    kiosk.check_books(captured_minor=250)


@scenario(
    controllers=4,
    limits={"LINKS_MAX": 2},
    bluetooth={"General": {"TemporaryTimeout": "3"}},
    seconds=300,
)
def controller_is_full(bed):
    """The controller carries no more: it stops advertising, and nobody can connect until a phone
    leaves. What phones_max is for."""
    observer = bed.observe()
    kiosk = Kiosk(bed, wallets=0, phones_max=7)
    terminal, *controllers = bed.controllers
    # What the first phone ever brings along is there from then on.
    RawPhone(controllers[0], terminal).leave()
    before = Holdings.when_nobody_is_there(bed, kiosk)
    first, second = (RawPhone(controller, terminal) for controller in controllers[:2])
    full = time.monotonic()
    try:
        with RawPhone(controllers[2], terminal, seconds=6):
            raise AssertionError("a third phone is connected")
    except (Gone, OSError):
        pass
    except Exception as error:  # pylint: disable=broad-except
        bed.check("is not connected" in str(error), f"connecting ended otherwise: {error}")
    # What was under way when the second phone came may be heard yet.
    heard = observer.florin(full + 1)
    bed.equal("advertisements on the air while the controller is full", len(heard), 0)
    first.leave()
    begin = bed.clock()
    RawPhone(controllers[2], terminal).leave()
    took = bed.clock() - begin
    bed.note(f"connected {took:.1f} s after a phone had left")
    bed.check(
        took <= FOUND_AGAIN_S,
        f"connected only {took:.1f} s after a phone had left, promised are {FOUND_AGAIN_S}",
    )
    # Full again and again: each time the terminal advertises anew, and is refused.
    first = RawPhone(controllers[0], terminal)
    for _ in range(REFUSALS):
        second.leave()
        second = RawPhone(controllers[1], terminal)
        time.sleep(0.3)
    first.leave()
    second.leave()
    after = Holdings.when_nobody_is_there(bed, kiosk, before)
    bed.note(f"before: {before}")
    bed.note(f"after: {after}")
    bed.equal("what is held that was not before", after.grown(before), {})


@scenario(controllers=3, python=True, seconds=400)
def bad_neighbours(bed):
    """A phone pays as fast beside one that is silent, slow or floods as without it: times compared,
    in turns."""
    kiosk = Kiosk(bed, wallets=0)
    card = Card(kiosk)
    terminal, controller, neighbours = bed.controllers
    took = {kind: [] for kind in (None, *RATIO_MAX)}
    values = {kind: set() for kind in took}
    known = None
    for number in range(PAYMENTS_EACH):
        # To and fro, so that what one leaves behind does not always fall on the same other.
        for kind in list(took)[:: (-1) ** number]:
            neighbour = None
            if kind:
                neighbour = bed.start(
                    "neighbour",
                    "python3",
                    "-B",
                    "-u",
                    INPUT / "guest/neighbour.py",
                    kind,
                    neighbours.name,
                    neighbours.address,
                    terminal.address,
                )
                neighbour.expect("at it")
            till = kiosk.offer("0.10")
            with RawPhone(controller, terminal) as raw:
                raw.exchange_mtu(517)
                raw.discover(known)
                known = raw
                raw.subscribe()
                # Of its own, since BlueZ before 5.76 notifies it of what is for the neighbour, too.
                session = card.session(raw.value_octets, tag=HONEST_TAG)
                begin = time.monotonic()
                hello = session.hello()
                card.say(raw, hello)
                payment = session.order(card.expect(raw, session, "Offered"))
                command = session.pay(payment)
                card.say(raw, command)
                card.expect(raw, session, "Concluded")
                took[kind].append(time.monotonic() - begin)
                bed.equal(
                    f"the outcome beside a {kind or 'good'} neighbour", payment.state, "approved"
                )
                values[kind].add(len(hello) + len(command))
                card.say(raw, session.acknowledge())
                if neighbour:
                    bed.check(neighbour.exit_code is None, f"the {kind} neighbour has ended")
            bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
            if neighbour:
                neighbour.stop()
                # Its connection ends with its socket, a little later.
                bed.wait_until(
                    "BlueZ to notice",
                    lambda: not bed.devices(terminal).get(neighbours.address, {}).get("Connected"),
                )
            time.sleep(0.5)
    for kind, times in took.items():
        bed.note(
            f"beside {kind or 'nobody'}: "
            + ", ".join(f"{1000 * seconds:.0f}" for seconds in times)
            + " ms"
        )
    medians = {kind: statistics.median(times) for kind, times in took.items()}
    ratios = {kind: medians[kind] / medians[None] for kind in RATIO_MAX}
    bed.note(
        f"from subscribed to result: {1000 * medians[None]:.0f} ms without a neighbour; "
        "beside one that is "
        + ", ".join(
            f"{kind} {1000 * medians[kind]:.0f} ms ({ratio:.2f})" for kind, ratio in ratios.items()
        )
    )
    for kind, most in RATIO_MAX.items():
        bed.equal(
            f"values that the phone had to write beside a {kind} neighbour",
            values[kind],
            values[None],
        )
        if STEADY:
            bed.check(
                ratios[kind] <= most,
                f"beside a {kind} neighbour a payment takes {ratios[kind]:.2f} times as long, "
                f"at most {most}",
            )
    count = PAYMENTS_EACH * len(took)
    kiosk.wait_for_payments(*[("captured", "")] * count)
    kiosk.check_books(captured_minor=10 * count)
