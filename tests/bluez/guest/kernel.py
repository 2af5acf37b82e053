"""What is done to a controller behind bluetoothd's back: by raw HCI commands, the kernel's
management socket, rfkill."""

import ctypes
import os
import pathlib
import platform
import socket
import struct

AF_BLUETOOTH = 31
BTPROTO_HCI = 1
NO_DEVICE = 0xFFFF
CHANNEL_CONTROL = 3
REMOVE_ADVERTISING = 0x003F
COMMAND, EVENT, COMMAND_COMPLETE = 1, 4, 0x0E
SOL_HCI, HCI_FILTER = 0, 2
SET_ADVERTISING_ENABLE, SET_EXTENDED_ADVERTISING_ENABLE = 0x200A, 0x2039


def send_command(controller, opcode, parameters):
    """Sends a controller a command of which neither the kernel's book-keeping nor bluetoothd knows
    the reason; its status."""
    with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI) as raw:
        raw.bind((controller.index,))
        # Every event, of any command.
        raw.setsockopt(
            SOL_HCI, HCI_FILTER, struct.pack("<IIIHxx", 1 << EVENT, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        )
        raw.settimeout(10)
        raw.send(struct.pack("<BHB", COMMAND, opcode, len(parameters)) + parameters)
        while True:
            event = raw.recv(512)
            if (
                event[:2] == bytes([EVENT, COMMAND_COMPLETE])
                and struct.unpack_from("<H", event, 4)[0] == opcode
            ):
                return event[6]


def silence(controller):
    """Switches off whatever a controller advertises. The kernel and bluetoothd go on believing in
    it."""
    # One that knows extended advertising refuses the old command, and the other way round.
    statuses = [send_command(controller, SET_EXTENDED_ADVERTISING_ENABLE, bytes(2))]
    if statuses != [0]:
        statuses.append(send_command(controller, SET_ADVERTISING_ENABLE, bytes(1)))
    if 0 not in statuses:
        raise OSError(f"{controller.name} goes on advertising: statuses {statuses}")


def remove_advertisements(controller):
    """Has the kernel remove all advertisements of a controller; bluetoothd goes on believing in
    them."""
    with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI) as control:
        # Python's own bind knows no channels.
        address = struct.pack("=HHH", AF_BLUETOOTH, NO_DEVICE, CHANNEL_CONTROL)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(control.fileno(), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), "cannot open the kernel's Bluetooth management")
        control.settimeout(10)
        control.send(struct.pack("<HHHB", REMOVE_ADVERTISING, controller.index, 1, 0))
        while True:
            event, index, _, opcode, status = struct.unpack_from(
                "<HHHHB", control.recv(512) + bytes(9)
            )
            if index == controller.index and event in (1, 2) and opcode == REMOVE_ADVERTISING:
                if status != 0:
                    raise OSError(f"the kernel removes no advertisement: status {status}")
                return


def _switch(controller):
    for switch in pathlib.Path("/sys/class/rfkill").iterdir():
        if (switch / "name").read_text().strip() == controller.name:
            return switch / "soft"
    raise OSError(f"{controller.name} has no rfkill switch among {os.listdir('/sys/class/rfkill')}")


def block(controller, blocks):
    """Soft-blocks or unblocks one adapter, as `rfkill` does."""
    _switch(controller).write_text(str(int(blocks)))


def is_blocked(controller):
    return _switch(controller).read_text().strip() == "1"


def kernel_version():
    """(6, 12) for 6.12."""
    return tuple(int(part) for part in platform.release().split(".")[:2])
