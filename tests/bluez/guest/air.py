"""On the virtual air without BlueZ: an observer that hears advertisements, and a controller that
can be pulled out.

Both speak HCI to btvirt's own sockets (`btvirt -s`), whose controllers share the air with those
that it makes itself. What is done to bluetoothd, the kernel's Bluetooth or the bus does not touch
the observer.

Controllers made over the sockets are of Bluetooth 4: one advertisement at a time, which btvirt
reports once, when it is switched on."""

import os
import select
import socket
import struct
import threading
import time
import uuid

SOCKET = "/tmp/bt-server-bredrle"
COMMAND, DATA, EVENT, VENDOR = 1, 2, 4, 0xFF
LE_META, COMMAND_COMPLETE = 0x3E, 0x0E
ADVERTISING_REPORT, EXTENDED_ADVERTISING_REPORT = 0x02, 0x0D
RESET, SET_SCAN_PARAMETERS, SET_SCAN_ENABLE = 0x0C03, 0x200B, 0x200C
# Florin's service, as it stands in an advertisement.
SERVICE_UUID = uuid.UUID("f1079a00-5a1e-4d7c-9c1b-3e6f0c7d8a01").bytes[::-1]


def connect():
    """A new controller; closing the socket takes it off the air."""
    end = time.monotonic() + 10
    while True:
        controller = socket.socket(socket.AF_UNIX)
        try:
            controller.connect(SOCKET)
            return controller
        except OSError:
            # btvirt makes its sockets after its controllers.
            controller.close()
            if time.monotonic() >= end:
                raise
            time.sleep(0.02)


def packets(buffer):
    """Takes the whole packets off the front of what a controller has sent."""
    while len(buffer) >= 5 or (buffer[:1] == bytes([EVENT]) and len(buffer) >= 3):
        length = 3 + buffer[2] if buffer[0] == EVENT else 5 + struct.unpack_from("<H", buffer, 3)[0]
        if len(buffer) < length:
            return
        packet = bytes(buffer[:length])
        del buffer[:length]
        yield packet


def command(opcode, parameters=b""):
    return struct.pack("<BHB", COMMAND, opcode, len(parameters)) + parameters


class Heard:
    """One advertisement: `moment` (time.monotonic), `address`, `data`."""

    def __init__(self, moment, address, data):
        self.moment, self.address, self.data = moment, address, data

    @property
    def is_florin(self):
        return SERVICE_UUID in self.data


class Observer:
    """A controller that scans without end, and notes what it hears; until close()."""

    def __init__(self):
        self._socket = connect()
        self._news = threading.Condition()
        self.heard = []
        # Active, 10 ms windows without a pause: also scan responses, which hold the name.
        for opcode, parameters in (
            (RESET, b""),
            (SET_SCAN_PARAMETERS, struct.pack("<BHHBB", 1, 16, 16, 0, 0)),
            (SET_SCAN_ENABLE, b"\1\0"),
        ):
            self._socket.sendall(command(opcode, parameters))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        buffer = bytearray()
        while True:
            try:
                octets = self._socket.recv(4096)
            except OSError:
                return
            if not octets:
                return
            moment = time.monotonic()
            buffer += octets
            heard = [
                report for packet in packets(buffer) for report in self._reports(moment, packet)
            ]
            if heard:
                with self._news:
                    self.heard += heard
                    self._news.notify_all()

    @staticmethod
    def _reports(moment, packet):
        if packet[0] != EVENT or packet[1] != LE_META:
            return
        # btvirt puts one report into an event.
        if packet[3] == ADVERTISING_REPORT:
            address, length, place = packet[7:13], packet[13], 14
        elif packet[3] == EXTENDED_ADVERTISING_REPORT:
            address, length, place = packet[8:14], packet[28], 29
        else:
            return
        yield Heard(
            moment,
            ":".join(f"{octet:02X}" for octet in reversed(address)),
            packet[place : place + length],
        )

    def wait_florin(self, since, seconds):
        """The first advertisement of a terminal after a moment (time.monotonic); None if there is
        none in time."""
        end = time.monotonic() + seconds
        seen = 0
        with self._news:
            while True:
                for heard in self.heard[seen:]:
                    if heard.moment >= since and heard.is_florin:
                        return heard
                seen = len(self.heard)
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def florin(self, since):
        """The moments of all advertisements of a terminal after one."""
        with self._news:
            return [
                heard.moment for heard in self.heard if heard.moment >= since and heard.is_florin
            ]

    def names(self, since):
        """The complete local names heard after a moment."""
        names = set()
        with self._news:
            for heard in self.heard:
                data = heard.data if heard.moment >= since else b""
                while len(data) > 1:
                    length = data[0]
                    if data[1] == 0x09:
                        names.add(data[2 : 1 + length].decode("utf-8", "replace"))
                    data = data[1 + length :]
        return names

    def close(self):
        self._socket.close()


class Pluggable:
    """A controller of the kernel's (hciN) that can be pulled out and put in again, and whose
    answers can be changed.

    `judge(packet)` sees each packet from the host, and returns what the controller answers in its
    stead (a list of packets), or None to let it through."""

    def __init__(self):
        self.judge = None
        self.commands = []
        self.plug_in()

    def plug_in(self):
        self._host = os.open("/dev/vhci", os.O_RDWR)
        os.write(self._host, bytes([VENDOR, 0]))
        answer = os.read(self._host, 4)
        self.index = struct.unpack_from("<H", answer, 2)[0]
        self._controller = connect()
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._pass, daemon=True)
        self._thread.start()

    def _pass(self):
        buffer = bytearray()
        while True:
            ready, _, _ = select.select([self._host, self._controller, self._end_read], [], [])
            if self._end_read in ready:
                return
            if self._host in ready:
                packet = os.read(self._host, 4096)
                if packet[0] == COMMAND:
                    self.commands.append(struct.unpack_from("<H", packet, 1)[0])
                answers = self.judge(packet) if self.judge else None
                if answers is None:
                    self._controller.sendall(packet)
                else:
                    for answer in answers:
                        os.write(self._host, answer)
            if self._controller in ready:
                octets = self._controller.recv(4096)
                if not octets:
                    return
                buffer += octets
                for packet in packets(buffer):
                    os.write(self._host, packet)

    def pull_out(self):
        """As when an adapter is unplugged: the kernel loses hciN."""
        os.write(self._end_write, b"x")
        self._thread.join(10)
        self._controller.close()
        os.close(self._host)
        os.close(self._end_read)
        os.close(self._end_write)


def refusal(packet, status):
    """A Command Complete that says no to this command."""
    return [
        struct.pack(
            "<BBBBHB", EVENT, COMMAND_COMPLETE, 4, 1, struct.unpack_from("<H", packet, 1)[0], status
        )
    ]
