"""A phone that others have beside them: silent, slow, or flooding, until it is ended. It comes back
whenever it is sent away.

A process of its own, so that its work is not done by the scenario's interpreter.
"""

import contextlib
import struct
import sys
import time

from harness import Controller, Failure
from raw_phone import Gone, RawPhone, Refused

SEALED_FIRST, HANDSHAKE_FIRST, TAG = 0x90, 0x80, 10
# The longest message that may be announced, in values of 20 octets: no fault until it is whole.
MESSAGE_OCTETS = 16_384
# A quarter of what a terminal lets a phone write in the long run (docs/protocol.md, section 13). An
# emulated bluetoothd, a twentieth as fast as a Raspberry Pi's, has no time left for others at more;
# what is beyond all bounds is in `hostile`.
VALUES_PER_S = 64


def silent(raw):
    while raw.is_connected():
        time.sleep(0.2)


def slow(raw):
    """A hello that takes for ever."""
    raw.write(struct.pack(">BH", HANDSHAKE_FIRST | TAG, 100) + b"\x01")
    for number in range(1, 90):
        time.sleep(1)
        raw.write(bytes([number % 4 << 4 | TAG, 0]), "command")


def flooding(raw):
    """Values without an end."""
    begin, count = time.monotonic(), 0
    while True:
        value, left = (
            struct.pack(">BH", SEALED_FIRST | TAG, MESSAGE_OCTETS) + bytes(17),
            MESSAGE_OCTETS - 17,
        )
        number = 0
        while left > 0:
            raw.write(value, "command")
            count += 1
            time.sleep(max(0.0, begin + count / VALUES_PER_S - time.monotonic()))
            number, part = (number + 1) % 4, min(left, 19)
            left -= part
            value = bytes([number << 4 | TAG | (0x40 if left == 0 else 0)]) + bytes(part)
        raw.write(value, "command")


def main():
    kind, name, address, terminal = sys.argv[1:]
    known = None
    while True:
        with contextlib.suppress(Gone, Refused, Failure, OSError):
            with RawPhone(Controller(name, address), Controller("hci0", terminal)) as raw:
                raw.discover(known)
                known = raw
                raw.subscribe()
                print("at it", flush=True)
                {"silent": silent, "slow": slow, "flooding": flooding}[kind](raw)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
