"""What BlueZ and the adapter do to a running terminal, and that it is back by itself."""

from harness import scenario
from kiosk import Kiosk


def pay(kiosk, number):
    till = kiosk.offer("2.50")
    kiosk.bed.equal("the phone's outcome", kiosk.wallets[0].pay()["outcome"], "approved")
    kiosk.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
    kiosk.wait_for_payments(*[("captured", "")] * number)


@scenario(controllers=2)
def bluetoothd_dies(bed):
    """bluetoothd crashes: the terminal says so, has it started again, and takes payments again."""
    kiosk = Kiosk(bed)
    pay(kiosk, 1)
    bed.kill_bluetoothd()
    kiosk.terminal.expect(r"cannot find this terminal.*BlueZ")
    begin = bed.clock()
    kiosk.terminal.expect(r"phones can find this terminal")
    bed.note(f"found again {bed.clock() - begin:.1f} s after the crash was noticed")
    for controller in bed.controllers:
        bed.wait_powered(controller)
    pay(kiosk, 2)


@scenario(controllers=2)
def adapter_is_switched_off(bed):
    """Somebody switches the adapter off: the terminal switches it on again, and takes payments."""
    kiosk = Kiosk(bed)
    bed.set_bluez_property(bed.controllers[0].path, "Adapter1", "Powered", "b", False)
    begin = bed.clock()
    kiosk.terminal.expect(r"cannot find this terminal.*switched off")
    kiosk.terminal.expect(r"phones can find this terminal")
    bed.note(f"found again {bed.clock() - begin:.1f} s after")
    pay(kiosk, 1)
