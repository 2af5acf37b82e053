"""A phone whose every ATT PDU is ours to choose: over a socket of the kernel on the fixed ATT
channel, on the phone's controller.

The stacks of real phones cut, order and time writes as they see fit. This one writes what it is
told to, when it is told to, in the manner it is told to: with a response, without, prepared, over
any MTU, or nothing that ATT knows. What it says in the values is for the caller to choose; `pay`
has the phone of tests/bumble say the right thing, and needs its packages
(`@scenario(python=True)`)."""

import contextlib
import ctypes
import os
import re
import secrets
import select
import socket
import struct
import sys
import time

from bus import BusError
from harness import INPUT, TIMEOUT, Failure

AF_BLUETOOTH = 31
BTPROTO_L2CAP = 0
BTPROTO_HCI = 1
LE_PUBLIC = 1
ATT_CHANNEL = 4
DEFAULT_MTU = 23
MTU_MAX = 517

# Core Specification 5.4, Vol 3 Part F, 3.4.8
ERROR, MTU_REQUEST, MTU_RESPONSE = 0x01, 0x02, 0x03
FIND_INFORMATION, FIND_INFORMATION_RESPONSE = 0x04, 0x05
READ_BY_TYPE, READ_BY_TYPE_RESPONSE = 0x08, 0x09
WRITE, WRITE_RESPONSE, WRITE_COMMAND = 0x12, 0x13, 0x52
PREPARE, PREPARE_RESPONSE, EXECUTE, EXECUTE_RESPONSE = 0x16, 0x17, 0x18, 0x19
NOTIFICATION, INDICATION, CONFIRMATION = 0x1B, 0x1D, 0x1E
COMMAND_FLAG = 0x40
NOT_SUPPORTED, ATTRIBUTE_NOT_FOUND = 0x06, 0x0A
CHARACTERISTIC, CLIENT_CONFIGURATION = 0x2803, 0x2902
# The reason of a person who walks away: Remote User Terminated Connection.
REASON = 0x13
# How long it is waited for what a process holds to be as before.
SETTLE_S = 15
# tokio ends a thread that has had nothing to do for 10 s.
IDLE_THREAD_S = 12

INBOX = "f1079a01-5a1e-4d7c-9c1b-3e6f0c7d8a01"
OUTBOX = "f1079a02-5a1e-4d7c-9c1b-3e6f0c7d8a01"

LIBC = ctypes.CDLL(None, use_errno=True)


class Gone(Exception):
    """The connection has ended."""


class Refused(Exception):
    """An ATT error: `code`."""

    def __init__(self, request, code):
        super().__init__(f"ATT error {code:#04x} to request {request:#04x}")
        self.code = code


def octets_of(address):
    return bytes.fromhex(address.replace(":", ""))[::-1]


def socket_address(address, channel=ATT_CHANNEL):
    """struct sockaddr_l2. Before 3.14 Python's own has no channels and no kinds of addresses."""
    return struct.pack("<HH6sHBx", AF_BLUETOOTH, 0, octets_of(address), channel, LE_PUBLIC)


class RawPhone:
    """One connection, as a context: it is ended at its end, at once."""

    def __init__(self, controller, terminal, seconds=TIMEOUT):
        self.controller = controller
        self.since = None
        self.mtu = DEFAULT_MTU
        self.values = []
        self.inbox = self.outbox = self.configuration = None
        self._socket = socket.socket(
            AF_BLUETOOTH, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, BTPROTO_L2CAP
        )
        try:
            self._call("bind", socket_address(controller.address))
            self._socket.setblocking(False)
            try:
                self._call("connect", socket_address(terminal.address))
            except BlockingIOError:
                pass
            if not select.select([], [self._socket], [], seconds)[1]:
                raise Failure(
                    f"{controller.name} is not connected to the terminal after {seconds:.0f} s"
                )
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise Gone(f"connecting: {os.strerror(error)}")
            # When it was connected (time.monotonic).
            self.since = time.monotonic()
        except BaseException:
            self._socket.close()
            raise

    def _call(self, function, address):
        if getattr(LIBC, function)(self._socket.fileno(), address, len(address)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{function}: {os.strerror(error)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        """Ends the connection now: closing the socket alone would let the kernel keep it for two
        seconds."""
        connections = [
            name
            for name in os.listdir("/sys/class/bluetooth")
            if name.startswith(f"{self.controller.name}:")
        ]
        with socket.socket(
            AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI
        ) as controller:
            controller.bind((self.controller.index,))
            for name in connections:
                handle = int(name.split(":")[1])
                controller.send(struct.pack("<BHBHB", 0x01, 0x0406, 3, handle, REASON))
        self._socket.close()
        end = time.monotonic() + TIMEOUT
        while any(
            name.startswith(f"{self.controller.name}:")
            for name in os.listdir("/sys/class/bluetooth")
        ):
            if time.monotonic() > end:
                raise Failure(f"{self.controller.name} cannot disconnect")
            time.sleep(0.01)

    # PDUs

    def send(self, pdu, seconds=TIMEOUT):
        """Any octets as one PDU. Waits for room, which is how a flood finds its pace."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._socket.send(pdu)
                return
            except BlockingIOError:
                if not select.select([], [self._socket], [], max(0, end - time.monotonic()))[1]:
                    raise Failure(f"no room for a PDU in {seconds:.0f} s") from None
            except OSError as error:
                raise Gone(str(error)) from error

    def _next(self, seconds, or_value=False):
        """The next PDU that is neither a notification nor a request of the other side; None if none
        comes in time.

        With or_value also None as soon as a value was notified.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                pdu = self._socket.recv(1024)
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                    return None
                continue
            except OSError as error:
                raise Gone(str(error)) from error
            if not pdu:
                raise Gone("the other side has ended it")
            opcode = pdu[0]
            if opcode == NOTIFICATION:
                self.values.append(pdu[3:])
                if or_value:
                    return None
            elif opcode == INDICATION:
                self.send(bytes([CONFIRMATION]))
            elif opcode == MTU_REQUEST:
                self.send(struct.pack("<BH", MTU_RESPONSE, MTU_MAX))
            elif opcode & 1 == 0 and not opcode & COMMAND_FLAG:
                self.send(struct.pack("<BBHB", ERROR, opcode, 0, NOT_SUPPORTED))
            else:
                return pdu

    def request(self, pdu, seconds=TIMEOUT):
        """Sends a request; its response. An error in answer is raised as Refused."""
        self.send(pdu)
        answer = self._next(seconds)
        if answer is None:
            raise Failure(f"no answer to ATT request {pdu[:5].hex()} in {seconds:.0f} s")
        if answer[0] == ERROR:
            raise Refused(pdu[0], answer[4])
        return answer

    def exchange_mtu(self, mtu):
        """Says how long PDUs may be here; the MTU of the connection from now on is the smaller of
        both sides'."""
        _, theirs = struct.unpack("<BH", self.request(struct.pack("<BH", MTU_REQUEST, mtu)))
        self.mtu = max(DEFAULT_MTU, min(mtu, theirs))
        return self.mtu

    @property
    def value_octets(self):
        return min(self.mtu - 3, 512)

    def discover(self, known=None):
        """Finds inbox, outbox and the outbox's configuration. `known` is a phone that has done it:
        tables do not change."""
        if known is not None:
            self.inbox, self.outbox, self.configuration = (
                known.inbox,
                known.outbox,
                known.configuration,
            )
            return
        start, found, declarations = 1, {}, []
        while True:
            try:
                answer = self.request(
                    struct.pack("<BHHH", READ_BY_TYPE, start, 0xFFFF, CHARACTERISTIC)
                )
            except Refused as error:
                if error.code != ATTRIBUTE_NOT_FOUND:
                    raise
                break
            size = answer[1]
            for place in range(2, len(answer), size):
                handle, _, value = struct.unpack_from("<HBH", answer, place)
                uuid = answer[place + 5 : place + size][::-1].hex()
                found[uuid] = value
                declarations.append(handle)
                start = handle + 1
        try:
            self.inbox, self.outbox = (found[uuid.replace("-", "")] for uuid in (INBOX, OUTBOX))
        except KeyError:
            raise Failure(f"no inbox and outbox among {sorted(found)}") from None
        answer = self.request(
            struct.pack("<BHH", FIND_INFORMATION, self.outbox + 1, self.outbox + 1)
        )
        kind = struct.unpack_from("<H", answer, 4)[0]
        if kind != CLIENT_CONFIGURATION:
            raise Failure(f"after the outbox comes {kind:#06x}")
        self.configuration = self.outbox + 1

    def subscribe(self, on=True):
        self.request(struct.pack("<BHH", WRITE, self.configuration, int(on)))

    def write(self, value, manner="response", handle=None):
        """One value to the inbox: with "response", by "command" (without one), or "prepared", in
        parts."""
        handle = handle or self.inbox
        if manner == "response":
            self.request(struct.pack("<BH", WRITE, handle) + value)
        elif manner == "command":
            self.send(struct.pack("<BH", WRITE_COMMAND, handle) + value)
        else:
            room = self.mtu - 5
            for offset in range(0, len(value) or 1, room):
                self.request(
                    struct.pack("<BHH", PREPARE, handle, offset) + value[offset : offset + room]
                )
            self.request(struct.pack("<BB", EXECUTE, 1))

    def next_value(self, seconds=TIMEOUT):
        """The next notified value; None if none comes in time."""
        end = time.monotonic() + seconds
        while not self.values:
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._next(left, or_value=True)  # a response that nobody waits for is nobody's
        return self.values.pop(0)

    def is_connected(self):
        try:
            while self._next(0) is not None:
                pass
        except Gone:
            return False
        return True

    def drain(self):
        """Takes in what had come before the connection ended."""
        for _ in range(2):  # the first may only tell of the end
            with contextlib.suppress(Gone):
                while self._next(0) is not None:
                    pass

    def until_gone(self, seconds):
        """Waits for the terminal to end the connection; after how many seconds it did."""
        begin = time.monotonic()
        with contextlib.suppress(Gone):
            while time.monotonic() - begin < seconds:
                self._next(seconds - (time.monotonic() - begin))
            raise Failure(f"the terminal has not ended the connection in {seconds:.0f} s")
        return time.monotonic() - begin


# What the values say


def modules():
    """The phone of tests/bumble, without its radio: (phone, wallet)."""
    for folder in ("python", "bumble"):
        path = str(INPUT / folder)
        if path not in sys.path:
            sys.path.insert(0, path)
    sys.pycache_prefix = "/run/florin-test-python"
    import phone  # here, since only scenarios with its packages can have it
    import wallet

    return phone, wallet


def errors(values, tag=None):
    """The plain errors among notified values, by name and in order; of one tag or of any."""
    phone, _ = modules()
    told = []
    for tag in range(16) if tag is None else (tag,):
        session = phone.Session(None, tag=tag)
        events = [event for value in values for event in session.receive(value)]
        told += [
            event.error
            for event in events
            if isinstance(event, phone.Failed) and not event.in_channel
        ]
    return told


class Card:
    """A card of the common account, for raw phones."""

    def __init__(self, kiosk):
        self._phone, self._wallet = modules()
        path = kiosk.bed.directory / f"card-{secrets.token_hex(3)}.json"
        enrol = kiosk.bed.python(
            "enrol.py",
            "--institution",
            kiosk.url,
            "--root",
            kiosk.root,
            "--card",
            path,
            kiosk.add_card(),
        )
        kiosk.bed.run(*enrol)
        self.card = self._wallet.load(path)

    def session(self, value_octets, tag=None):
        return self._phone.Session(self.card, value_octets=value_octets, tag=tag)

    def expect(self, raw, session, *kinds, seconds=TIMEOUT):
        """Hears until an event of one of these kinds comes: "Offered", "NothingToPay", "Concluded",
        "Failed", "Gone"."""
        end = time.monotonic() + seconds
        heard = []
        while time.monotonic() < end:
            value = raw.next_value(end - time.monotonic())
            for event in session.receive(value) if value is not None else []:
                heard.append(type(event).__name__)
                if heard[-1] in kinds:
                    return event
        raise Failure(f"waited {seconds:.0f} s in vain for {' or '.join(kinds)}; heard {heard}")

    def say(self, raw, values, manner="response"):
        for value in values:
            raw.write(value, manner)

    def greet(self, raw, manner="response", tag=None):
        """Says hello; the session, and the offer or the lack of one."""
        session = self.session(raw.value_octets, tag)
        self.say(raw, session.hello(), manner)
        return session, self.expect(raw, session, "Offered", "NothingToPay", "Failed")

    def pay(self, raw, manner="response"):
        """Hello, command, result, receipt: the payment's state."""
        session, offered = self.greet(raw, manner)
        return self.pay_offer(raw, session, offered, manner)

    def pay_offer(self, raw, session, offered, manner="response"):
        payment = session.order(offered)
        self.say(raw, session.pay(payment), manner)
        event = self.expect(raw, session, "Concluded", "Gone", "Failed")
        if type(event).__name__ == "Concluded" and payment.receipt:
            self.say(raw, session.acknowledge(), manner)
        return payment.state


# What a process holds


class Holdings:
    """What the terminal's process, the bus and BlueZ hold for it, to be compared with what they
    held before."""

    def __init__(self, bed, kiosk):
        process = kiosk.terminal
        self.resident_kib = process.memory()[0]
        self.counts = {
            "file descriptors": process.open_files(),
            "threads": len(os.listdir(f"/proc/{process.pid}/task")),
            "tasks": int(kiosk.metrics()["florin_tasks"]),
            "devices at BlueZ": len(bed.devices(bed.controllers[0])),
        }
        ours = [
            name
            for name in self._ask(bed, "ListNames")
            if name.startswith(":") and self._pid(bed, name) == process.pid
        ]
        self.counts["connections to the bus"] = len(ours)
        rules = 0
        for name in ours:
            figures = bed.bus.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus.Debug.Stats",
                "GetConnectionStats",
                "s",
                name,
            )
            rules += figures["MatchRules"]
        self.counts["match rules"] = rules
        self.counts["objects on the bus"] = sum(len(self._objects(bed, name)) for name in ours)

    @classmethod
    def when_nobody_is_there(cls, bed, kiosk, before=None, more=None):
        """After BlueZ, which keeps what it knows of a phone for a while, has forgotten them all.

        With `before`, as soon as nothing is more than then, or by no more than `more` says.
        Something is always on its way, as the advertisement that is put up anew: what stays is
        there for long."""
        bed.wait_until(
            "BlueZ to forget the phones", lambda: not bed.devices(bed.controllers[0]), 60, pause=1
        )
        # The terminal hears of that by the bus. And what is compared with may have no idle thread,
        # which would hide one that stays.
        time.sleep(1 if before else IDLE_THREAD_S)
        end = time.monotonic() + SETTLE_S
        while True:
            try:
                now = cls(bed, kiosk)
            except BusError:
                # A connection to the bus ended while it was looked at; the next look is without it.
                bed.check(time.monotonic() < end, "what the terminal holds cannot be counted")
                time.sleep(1)
                continue
            if before is None or not now.grown(before, more) or time.monotonic() > end:
                return now
            time.sleep(1)

    def grown(self, before, more=None):
        """What there is more of than before, and more than by what `more` allows: {what: (before,
        now)}."""
        allowed = {what: count + (more or {}).get(what, 0) for what, count in before.counts.items()}
        return {
            what: (before.counts[what], count)
            for what, count in self.counts.items()
            if count > allowed[what]
        }

    def _ask(self, bed, member, *words):
        return bed.bus.call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, *words
        )

    def _objects(self, bed, name, path="/"):
        """The paths of the objects that a connection exports below one: advertisements, services,
        characteristics."""
        try:
            described = bed.bus.call(
                name, path, "org.freedesktop.DBus.Introspectable", "Introspect"
            )
        except BusError as error:
            # A connection that only watches exports nothing, not even this.
            if error.name in (
                "org.freedesktop.DBus.Error.UnknownMethod",
                "org.freedesktop.DBus.Error.UnknownObject",
            ):
                return []
            raise
        found = []
        for child in re.findall(r'<node name="([^"/][^"]*)"', described):
            child = f"{path.rstrip('/')}/{child}"
            found += [child, *self._objects(bed, name, child)]
        return found

    def _pid(self, bed, name):
        with contextlib.suppress(Exception):
            return self._ask(bed, "GetConnectionUnixProcessID", "s", name)
        return None

    def __str__(self):
        return ", ".join(
            [
                f"{self.resident_kib} KiB resident",
                *(f"{count} {what}" for what, count in self.counts.items()),
            ]
        )
