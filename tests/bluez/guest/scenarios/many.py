"""Many phones at once, and who gets a place."""

from harness import scenario
from kiosk import Kiosk
from raw_phone import Card, Gone, RawPhone

PHONES = 8


@scenario(controllers=1 + PHONES, python=True, seconds=400)
def eight_phones(bed):
    """Eight phones connected at once pay in turn; each hears what is its own, and nothing of the others' results."""
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
        offers = [card.expect(raw, session, "Offered") for raw, session in zip(raws, sessions, strict=True)]
        payment = sessions[payer].order(offers[payer])
        card.say(raws[payer], sessions[payer].pay(payment))
        for number, (raw, session) in enumerate(zip(raws, sessions, strict=True)):
            event = card.expect(raw, session, "Concluded", "Gone", "Unproven", "Failed")
            expected = "Concluded" if number == payer else "Gone"
            bed.equal(f"what phone {number} hears when {payer} pays", type(event).__name__, expected)
        bed.equal("the payer's outcome", payment.state, "approved")
        card.say(raws[payer], sessions[payer].acknowledge(payment))
        sessions[payer].payment = None
        bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    for raw in raws:
        raw.leave()
    kiosk.wait_for_payments(*[("captured", "")] * PHONES)
    kiosk.check_books(captured_minor=10 * PHONES)


@scenario(controllers=5, limits={"LINKS_MAX": 4}, python=True, seconds=300)
def places(bed):
    """All places are taken by phones that do not pay: the first of them leaves for a newcomer that does; the controller stays findable."""
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
    bed.check(squatters[1].is_connected() and squatters[2].is_connected(), "another had to leave than the first")
    for raw in squatters:
        raw.leave()
    kiosk.check_books(captured_minor=250)


@scenario(controllers=4, limits={"LINKS_MAX": 2}, python=True, seconds=300)
def controller_is_full(bed):
    """The controller carries no more: it stops advertising, and nobody can connect until a phone leaves. What phones_max is for."""
    kiosk = Kiosk(bed, wallets=0, phones_max=7)
    terminal, *controllers = bed.controllers
    first, second = (RawPhone(controller, terminal) for controller in controllers[:2])
    instances = bed.bluez_property(terminal.path, "LEAdvertisingManager1", "ActiveInstances")
    try:
        with RawPhone(controllers[2], terminal, seconds=6):
            raise AssertionError("a third phone is connected")
    except (Gone, OSError):
        pass
    except Exception as error:  # pylint: disable=broad-except
        bed.check("is not connected" in str(error), f"connecting ended otherwise: {error}")
    bed.note(f"BlueZ counts {instances} active advertisement(s) while the controller refuses to advertise")
    first.leave()
    begin = bed.clock()
    RawPhone(controllers[2], terminal).leave()
    bed.note(f"connected {bed.clock() - begin:.1f} s after a phone had left")
    second.leave()
