"""What `florin doctor` finds: nothing in a good installation, and each thing that is broken."""

from harness import scenario
from kiosk import Kiosk

# deploy/bluetooth-main.conf, as a machine has it.
SETTINGS = {
    "GATT": {"Client": "false"},
    "LE": {"ConnectionLatency": "0", "ConnectionSupervisionTimeout": "400"},
}


def examine(kiosk, exit_code):
    """Each check's verdict and detail, by name."""
    report = kiosk.bed.run_json(
        kiosk.bed.binary("florin"), "doctor", "--json", "--configuration", kiosk.configuration, exit_code=exit_code
    )
    kiosk.bed.equal("the exit code in the report", report["exit_code"], exit_code)
    for check in report["checks"]:
        kiosk.bed.note(f"{check['check']}: {check['verdict']}: {check['detail']}")
    return {check["check"]: (check["verdict"], check["detail"]) for check in report["checks"]}


def expect(kiosk, checks, name, verdict, words=""):
    found, detail = checks[name]
    kiosk.bed.equal(f"{name} ({detail})", found, verdict)
    kiosk.bed.check(words in detail, f"{name}: no `{words}` in `{detail}`")


@scenario(controllers=2, bluetooth=SETTINGS)
def doctor(bed):
    """The doctor finds a good installation fine, and names what is broken, with what to do."""
    kiosk = Kiosk(bed)
    checks = examine(kiosk, exit_code=0)
    # Nobody sets the guest's clock, and its disk is small: that is advice.
    expect(kiosk, checks, "clock", "advice")
    others = {name: found for name, found in checks.items() if name not in ("clock", "disk") and found[0] != "fine"}
    bed.equal("what is not fine", others, {})
    bed.check(checks["disk"][0] in ("fine", "advice"), f"the disk is {checks['disk']}")
    expect(kiosk, checks, "service", "fine", "in service")
    expect(kiosk, checks, "acquirer", "fine", " ms")
    bed.run(bed.binary("florin"), "serve", "--check", "--configuration", kiosk.configuration)

    # Without a service it tries for itself whether it may register.
    kiosk.terminal.stop()
    checks = examine(kiosk, exit_code=0)
    expect(kiosk, checks, "bus_policy", "fine", "can register")
    expect(kiosk, checks, "service", "advice", "systemctl start florin")

    enrolment = kiosk.state / "enrolment.toml"
    enrolment.chmod(0o640)
    expect(kiosk, examine(kiosk, exit_code=14), "state_directory", "wrong", "chmod 600")
    enrolment.chmod(0o600)

    kiosk.acquirer.stop()
    expect(kiosk, examine(kiosk, exit_code=19), "acquirer", "wrong", "cannot connect")

    bed.stop_controllers()
    checks = examine(kiosk, exit_code=18)
    expect(kiosk, checks, "bluetooth", "wrong", "adapter")
    expect(kiosk, checks, "bus_policy", "not_examined")


@scenario(controllers=1)
def doctor_reads_settings(bed):
    """The doctor names each setting of BlueZ that is not as it should be, and a file that bluetoothd has not read yet."""
    kiosk = Kiosk(bed, wallets=0)
    checks = examine(kiosk, exit_code=0)
    expect(kiosk, checks, "bluez_settings", "advice", "[LE] ConnectionSupervisionTimeout is not set, should be 400")
    found = checks["bluez_settings"][1]
    bed.check("ReverseServiceDiscovery" not in found, f"a setting that is right is named: {found}")
