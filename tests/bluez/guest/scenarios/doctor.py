"""What `florin doctor` finds: nothing in a good installation, and each thing that is broken."""

import pathlib
import shutil
import time

from harness import INPUT, scenario
from kiosk import Kiosk

# BlueZ as Debian has it lets every user call it (5.66 and 5.82). Elsewhere that takes a rule, and
# so here: what a group may not, one of its users may where a rule for him says so.
STRICT_BUS = """<busconfig>
  <policy group="florin"><deny send_destination="org.bluez"/></policy>
</busconfig>
"""
# What the bed leaves out of deploy/bluetooth-main.conf, so that a phone can be in the same guest.
WITHOUT_PHONES = {"Client": "false"}


def examine(kiosk, exit_code):
    """Each check's verdict and detail, by name."""
    doctor = kiosk.as_user(
        kiosk.bed.binary("florin"), "doctor", "--json", "--configuration", kiosk.configuration
    )
    report = kiosk.bed.run_json(*doctor, exit_code=exit_code)
    kiosk.bed.equal("the exit code in the report", report["exit_code"], exit_code)
    for check in report["checks"]:
        if check["verdict"] != "fine":
            kiosk.bed.note(f"{check['check']}: {check['verdict']}: {check['detail']}")
    return {check["check"]: (check["verdict"], check["detail"]) for check in report["checks"]}


def expect(kiosk, checks, name, verdict, words=""):
    found, detail = checks[name]
    kiosk.bed.equal(f"{name} ({detail})", found, verdict)
    kiosk.bed.check(words in detail, f"{name}: no `{words}` in `{detail}`")


@scenario(controllers=2, bluetooth={"GATT": WITHOUT_PHONES})
def doctor(bed):
    """The doctor finds a good installation fine, and names what is broken, with what to do."""
    kiosk = Kiosk(bed)
    checks = examine(kiosk, exit_code=0)
    # Nobody sets the guest's clock, and its disk is small: that is advice.
    expect(kiosk, checks, "clock", "advice")
    others = {
        name: found
        for name, found in checks.items()
        if name not in ("clock", "disk") and found[0] != "fine"
    }
    bed.equal("what is not fine", others, {})
    bed.check(checks["disk"][0] in ("fine", "advice"), f"the disk is {checks['disk']}")
    expect(kiosk, checks, "service", "fine", "in service")
    expect(kiosk, checks, "institution", "fine", " ms")
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

    kiosk.institution.stop()
    expect(kiosk, examine(kiosk, exit_code=19), "institution", "wrong", "accepts a connection")

    bed.stop_controllers()
    checks = examine(kiosk, exit_code=18)
    expect(kiosk, checks, "bluetooth", "wrong", "adapter")
    expect(kiosk, checks, "bus_policy", "not_examined")


@scenario(
    controllers=1, bluetooth={"GATT": WITHOUT_PHONES, "LE": {"ConnectionSupervisionTimeout": None}}
)
def doctor_reads_settings(bed):
    """The doctor names each setting of BlueZ that is not as it should be, and a file that
    bluetoothd has not read yet."""
    kiosk = Kiosk(bed, wallets=0)
    checks = examine(kiosk, exit_code=0)
    expect(
        kiosk,
        checks,
        "bluez_settings",
        "advice",
        "[LE] ConnectionSupervisionTimeout is not set, should be 400",
    )
    found = checks["bluez_settings"][1]
    bed.check("ReverseServiceDiscovery" not in found, f"a setting that is right is named: {found}")

    # Now the file is right, and bluetoothd has read the one before.
    time.sleep(3)  # the doctor allows for whole seconds
    with open("/etc/bluetooth/main.conf", "a", encoding="utf-8") as file:
        file.write("[LE]\nConnectionSupervisionTimeout=400\n")
    checks = examine(kiosk, exit_code=0)
    expect(
        kiosk,
        checks,
        "bluez_settings",
        "advice",
        "changed after bluetoothd was started: `systemctl restart bluetooth`",
    )
    bed.restart_bluetoothd()
    bed.wait_new_bluetoothd()
    # The terminal, once it has said so, has noticed both.
    kiosk.terminal.expect(r"phones cannot find this terminal")
    kiosk.terminal.expect(r"phones can find this terminal")
    expect(kiosk, examine(kiosk, exit_code=0), "bluez_settings", "fine", "as Florin wants it")


@scenario(controllers=2)
def bus_policy(bed):
    """As a user without privileges: without deploy/florin-dbus.conf doctor and service say that it
    is missing; with it a phone pays."""
    policies = pathlib.Path("/etc/dbus-1/system.d")
    policy, strictness = policies / "florin.conf", policies / "florin-test-strict.conf"
    bed.run("useradd", "--system", "--user-group", "--no-create-home", "florin")
    strictness.write_text(STRICT_BUS)
    bed.let_bus_read_policies()
    kiosk = Kiosk(bed, user="florin", serves=False)
    try:
        expect(
            kiosk,
            examine(kiosk, exit_code=17),
            "bluetooth",
            "wrong",
            "install deploy/florin-dbus.conf",
        )
        kiosk.start_terminal()
        kiosk.terminal.expect(r"D-Bus does not let this user talk to BlueZ.*florin-dbus\.conf")

        shutil.copyfile(INPUT / "deploy/florin-dbus.conf", policy)
        bed.let_bus_read_policies()
        begin = bed.clock()
        kiosk.terminal.expect(r"phones can find this terminal")
        bed.note(f"found {bed.clock() - begin:.1f} s after the policy was there")
        status = bed.run("ps", "-o", "user=", "-p", kiosk.terminal.pid).stdout.strip()
        bed.equal("whom the terminal runs as", status, "florin")
        till = kiosk.offer("2.50")
        bed.equal("the phone's outcome", kiosk.wallets[0].pay()["outcome"], "approved")
        bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")

        kiosk.terminal.stop()
        checks = examine(kiosk, exit_code=0)
        expect(kiosk, checks, "bluetooth", "fine")
        expect(kiosk, checks, "bus_policy", "fine", "can register")
    finally:
        policy.unlink(missing_ok=True)
        strictness.unlink()
        bed.let_bus_read_policies()
