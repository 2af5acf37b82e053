"""Is the bed alive? Needs nothing of Florin."""

from harness import scenario

# Nobody else's: a UUID made up for this test.
SERVICE = "6f1c5a4e-3c1b-4d0f-9d6a-8f5b1f0e2a77"


@scenario(controllers=2, binaries=False)
def selftest(bed):
    """Two virtual controllers, one bluetoothd: the second sees and connects to the first, and finds
    its service."""
    terminal, phone = bed.controllers
    bed.check(terminal.address != phone.address, f"both controllers are {phone.address}")

    peripheral = bed.bluetoothctl(terminal)
    peripheral.send("menu gatt")
    peripheral.send(f"register-service {SERVICE}")
    # It asks whether the service is primary; an answer that comes too early is taken for a command.
    peripheral.expect(r"NEW.*Service")
    peripheral.send("yes")
    peripheral.send("register-application")
    peripheral.expect(r"Application registered")
    peripheral.send("back")
    peripheral.send("menu advertise")
    peripheral.send(f"uuids {SERVICE}")
    peripheral.send("back")
    peripheral.send("advertise on")
    peripheral.expect(r"Advertising object registered")

    with bed.scan(phone):
        begin = bed.clock()
        found = bed.wait_until(
            "the advertisement", lambda: bed.devices(phone).get(terminal.address), 60
        )
        bed.note(f"seen {bed.clock() - begin:.2f} s after the scan began")
    bed.check(
        SERVICE in found["UUIDs"], f"the advertisement has not the service, but {found['UUIDs']}"
    )

    begin = bed.clock()
    bed.bluez(found["path"], "Device1", "Connect")
    bed.wait_until("the services", lambda: bed.devices(phone)[terminal.address]["ServicesResolved"])
    bed.note(f"connected and discovered in {bed.clock() - begin:.2f} s")
    services = [
        interfaces["GattService1"]["UUID"]
        for path, interfaces in bed.bluez_objects().items()
        if path.startswith(f"{found['path']}/") and "GattService1" in interfaces
    ]
    bed.check(SERVICE in services, f"the service is not among those discovered: {services}")
    bed.bluez(found["path"], "Device1", "Disconnect")
    bed.wait_until("the disconnect", lambda: not bed.devices(phone)[terminal.address]["Connected"])

    # What shows the air when a scenario fails must work when none does.
    decoded = bed.decode_air().read_text(errors="replace")
    bed.check("Connection Complete" in decoded, "the trace of the air shows no connection")
    bed.check("btmon failed" not in decoded, "the trace of the air could not be decoded to its end")
