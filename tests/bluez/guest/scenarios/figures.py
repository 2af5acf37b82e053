"""What a payment costs over BlueZ: on the air, in time beside the least it could take, and in
memory after many."""

import statistics
import struct

from harness import STEADY, scenario
from kiosk import Kiosk

# Records of the kernel's monitor (see trace.py) that are ACL data, from the host and to it.
ACL = {4, 5}
ATT_CHANNEL = 4
WRITES, NOTIFICATION, NOTIFICATIONS = {0x12, 0x52}, 0x1B, 0x23
# Opcode and handle. BlueZ sends even a single value by the notification for several where the phone
# takes that: each value with its length.
ATT_HEADER_OCTETS = 3
LENGTH_OCTETS = 2
# A subscription is a write of two octets; no fragment of a message is as short.
SUBSCRIPTION_OCTETS = 2


# A payment takes at most so many times its floor: the promise, at a steady pace.
RATIO_MAX = 1.25


def att_values(path, controller):
    """The values written and notified on one controller's connections, in order: (octets of ATT
    headers, is to the phone, value)."""
    records = path.read_bytes()[16:]
    parts, values = {}, []
    while len(records) >= 24:
        _, length, flags, _, _ = struct.unpack_from(">IIIIQ", records)
        data, records = records[24 : 24 + length], records[24 + length :]
        if flags & 0xFFFF not in ACL or flags >> 16 != controller:
            continue
        handle, _ = struct.unpack_from("<HH", data)
        key = (handle & 0x0FFF, flags & 0xFFFF)
        # Bits 12 and 13: 1 goes on, all else begins.
        parts[key] = (parts.get(key, b"") if handle >> 12 & 3 == 1 else b"") + data[4:]
        if len(parts[key]) < 4:
            continue
        octets, channel = struct.unpack_from("<HH", parts[key])
        if channel != ATT_CHANNEL or len(parts[key]) < 4 + octets:
            continue
        pdu = parts.pop(key)[4:]
        if pdu[0] == NOTIFICATIONS:
            octets, value = (
                struct.unpack_from("<H", pdu, ATT_HEADER_OCTETS)[0],
                pdu[ATT_HEADER_OCTETS + LENGTH_OCTETS :],
            )
            if len(value) != octets:
                raise ValueError("several notifications in one: count them apart")
            values.append((ATT_HEADER_OCTETS + LENGTH_OCTETS, True, value))
        elif (
            pdu[0] in WRITES | {NOTIFICATION} and len(pdu) > ATT_HEADER_OCTETS + SUBSCRIPTION_OCTETS
        ):
            values.append((ATT_HEADER_OCTETS, pdu[0] == NOTIFICATION, pdu[ATT_HEADER_OCTETS:]))
    return values


def messages(values):
    """Each message: octets of the ATT headers of its way, and of its content (docs/protocol.md,
    section 4)."""
    found, open_messages = [], {}
    for att_header, way, value in values:
        is_first, is_last = value[0] & 0x80, value[0] & 0x40
        header = 1 if is_last or not is_first else 3
        open_messages[way] = (0 if is_first else open_messages[way]) + len(value) - header
        if is_last:
            found.append((att_header, open_messages.pop(way)))
    return found


def cost(contents, first_header, next_header, value_octets_max):
    """PDUs, and octets with the ATT headers, of messages in fragments with such headers."""
    count = octets = 0
    for att_header, content in contents:
        header = first_header
        while True:
            part = min(content, value_octets_max - header)
            count, octets, content = count + 1, octets + att_header + header + part, content - part
            header = next_header
            if content == 0:
                break
    return count, octets


# BlueZ 5.66 opens further channels (EATT) to another BlueZ, whose packets would have to be put
# together otherwise.
@scenario(controllers=2, bluetooth={"GATT": {"Channels": "1"}})
def air(bed):
    """Octets and PDUs of a payment on the air, beside what ISO 18013-5's and CTAP's framing would
    make of it."""
    kiosk = Kiosk(bed)
    till = kiosk.offer("2.50")
    bed.equal("the phone's outcome", kiosk.wallets[0].pay()["outcome"], "approved")
    till.wait(60, exit_code=0)
    values = att_values(bed.results / "air.btsnoop", 0)
    bed.check(len(values) >= 4, f"the trace shows {len(values)} values of a payment")
    contents = messages(values)
    value_octets_max = 512
    ours = len(values), sum(att_header + len(value) for att_header, _, value in values)
    iso = cost(contents, 1, 1, value_octets_max)
    ctap = cost(contents, 3, 1, value_octets_max)
    # A reader of ISO 18013-5 also writes its state, at the start and at the end.
    iso_whole = iso[0] + 2, iso[1] + 2 * (ATT_HEADER_OCTETS + 1)
    sizes = [content for _, content in contents]
    bed.note(f"messages of {sizes} octets, with encryption, without fragment headers")
    for name, (count, octets) in (
        ("Florin", ours),
        ("ISO 18013-5's fragments", iso),
        ("with its start and end", iso_whole),
        ("CTAP's fragments", ctap),
    ):
        bed.note(f"{name:<24} {count:>3} PDUs {octets:>5} octets with ATT headers")
    bed.check(ours[0] <= iso[0] and ours[1] <= iso[1], "more than ISO 18013-5's framing")
    bed.check(ours[0] <= ctap[0] and ours[1] <= ctap[1], "more than CTAP's framing")


def payment_over_floor(bed):
    """The echo has a controller of its own: "the same link" is the one virtual air, and the same
    BlueZ."""
    kiosk = Kiosk(bed)
    wallet = kiosk.wallets[0]
    bench = bed.binary("radio_bench")
    arithmetic = bed.run_json(bench, "arithmetic")
    bed.note(
        f"arithmetic, in ms: {', '.join(f'{name} {took:.2f}' for name, took in arithmetic.items())}"
    )
    echo = bed.start("echo", bench, "echo", "--adapter", bed.controllers[2].name, "--code", "ECH0")
    echo.expect(r"the echo server runs")
    compared = bed.start(
        "compare",
        bench,
        "compare",
        "--adapter",
        wallet.controller.name,
        "--directory",
        wallet.directory,
        "--code",
        kiosk.short_code,
        "--till",
        kiosk.till,
        "--echo-code",
        "ECH0",
        "--state-directory",
        kiosk.state,
        "--payments",
        "20",
        must_live=False,
    )
    result = compared.wait(500, exit_code=0).json()
    bed.note(
        f"{result['payments']} payments: "
        f"median {result['median_payment_ms']:.1f} ms from subscribed to result; "
        f"floor {result['median_floor_ms']:.1f} ms; ratio {result['ratio']:.2f}"
    )
    return result["ratio"]


@scenario(controllers=3, bench=True, by_name=True, seconds=600)
def floor(bed):
    """How long a payment takes beside bare echoes of the same octets and one bare call to the
    institution, on an air that takes no time."""
    # No radio is like that: what is compared is how many instructions the curves take.
    payment_over_floor(bed)


# The longest that deploy/bluetooth-main.conf asks phones for; iPhones and most Androids begin with
# it.
@scenario(
    controllers=3, limits={"CONNECTION_INTERVAL_MS": 30}, bench=True, by_name=True, seconds=600
)
def floor_at_30_ms(bed):
    """The same on an air where the connected take turns every 30 ms, as they do on a real one."""
    ratio = payment_over_floor(bed)
    if STEADY:
        bed.check(ratio <= RATIO_MAX, f"the ratio is {ratio:.3f}, promised are {RATIO_MAX}")


@scenario(controllers=2, bench=True, by_name=True, seconds=3_000)
def thousand_payments(bed):
    """A thousand payments in a row: the terminal's memory does not grow after the first hundred."""
    kiosk = Kiosk(bed)
    wallet = kiosk.wallets[0]
    paying = bed.start(
        "pay",
        bed.binary("radio_bench"),
        "pay",
        "--adapter",
        wallet.controller.name,
        "--directory",
        wallet.directory,
        "--code",
        kiosk.short_code,
        "--till",
        kiosk.till,
        "--payments",
        "1000",
        must_live=False,
    )
    sizes = []
    for number in range(100, 1001, 100):
        paying.expect(rf'"payment":{number}[,}}]', seconds=600)
        sizes.append(kiosk.terminal.memory()[0])
    lines = [line for line in paying.json_lines() if "payment" in line]
    bed.equal("payments", len(lines), 1000)
    bed.note(f"resident after each hundred: {', '.join(map(str, sizes))} KiB")
    bed.note(
        f"{1000 / lines[-1]['elapsed_s']:.2f} payments a second, fifteen over each connection; "
        f"median {statistics.median(line['payment_ms'] for line in lines):.1f} ms "
        "from subscribed to result"
    )
    # A page or two comes and goes with the journal's cache.
    bed.check(sizes[-1] <= sizes[0] * 1.03, "the terminal grows")
