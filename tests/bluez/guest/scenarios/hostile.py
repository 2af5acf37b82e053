"""Phones that mean harm, or are broken: afterwards a phone pays, and nothing is left of them."""

import contextlib
import random
import struct
import threading
import time

from harness import INPUT, Failure, scenario
from kiosk import Kiosk
from raw_phone import (
    ERROR,
    EXECUTE,
    MTU_REQUEST,
    MTU_RESPONSE,
    NOT_SUPPORTED,
    PREPARE,
    Card,
    Gone,
    Holdings,
    RawPhone,
    Refused,
    errors,
)

# How often a phone connects and leaves: `run --rounds`. There is none where scenarios are only
# listed.
ROUNDS = int((INPUT / "rounds").read_text()) if (INPUT / "rounds").exists() else 40
# What the terminal's memory may have grown by at the end: what its allocator keeps of the busiest
# moment.
GROWTH_MAX_KIB = 1536
# How often one thing is tried on a bluetoothd that crashes.
ATTEMPTS_MAX = 3
# How often bluetoothd may crash in all: each crash has an attempt made anew, and hides what that
# would have shown.
CRASHES_MAX = 4
# Any, and the same each time.
SEED = 4
# The terminal's time_limit with a phone that has not said hello, and what it takes to be rid of it:
# docs/protocol.md, section 13.
HELLO_TIMEOUT_S = 15
DISCONNECT_S = 8
# How long it is watched, so that a failure says by how much it stayed too long.
MUTE_TIMEOUT_S = 60
# A phone's word and the answer to it, emulated and beside other phones.
ANSWER_S = 10
# Since BlueZ 5.69 values of up to 512 octets are passed on.
LONG_VALUES_SINCE = (5, 69)
# BlueZ before has one notification socket for all phones, and miscounts who wants it where one
# subscribes and unsubscribes quickly (strange_att): it then stays when nobody is there, and with it
# the task that writes to it.
OWN_SOCKETS_SINCE, KEPT_SOCKET = (5, 76), {"file descriptors": 1, "tasks": 1}
# ATT errors: Core Specification 5.4, Vol 3 Part F, 3.4.1.1.
INVALID_HANDLE, WRITE_NOT_PERMITTED = 0x01, 0x03

HANDSHAKE_FIRST, SEALED_FIRST, LAST, FOLLOWING = 0x80, 0x90, 0x40, 0x00


class Attack:
    """Hostile phones, four at once at most, on controllers of their own."""

    def __init__(self, bed, kiosk):
        self.bed, self.kiosk = bed, kiosk
        self.terminal, _, *self.controllers = bed.controllers
        self.card = Card(kiosk)
        self.random = random.Random(SEED)
        self.crashes = 0
        self._offer = None

    def arrive(self, number=0):
        """Connects once BlueZ has noticed that this phone had left; see back_at_once."""
        controller = self.controllers[number]
        device = lambda: self.bed.devices(self.terminal).get(controller.address, {})  # noqa: E731
        self.bed.wait_until(
            "BlueZ to notice that the phone has left", lambda: not device().get("Connected")
        )
        time.sleep(0.2)
        return RawPhone(controller, self.terminal)

    def connect(self, mtu=517, subscribe=True, number=0):
        raw = self.arrive(number)
        try:
            if mtu > 23:
                raw.exchange_mtu(mtu)
            raw.discover()
            if subscribe:
                raw.subscribe()
        except BaseException:
            raw.leave()
            raise
        return raw

    def survive(self, attempt):
        """Makes an attempt; anew if bluetoothd crashed in it. Then the next phone is served, and
        the terminal was never lost.

        A crash is not ours to mend, only to survive: BlueZ (5.82 at least) falls over a value whose
        sender has gone. It is the only reason for which phones may not find the terminal meanwhile.
        """
        for _ in range(ATTEMPTS_MAX):
            begin, daemon, lost, failure = self.bed.clock(), self.daemon(), self.lost(), None
            try:
                attempt()
            except (Gone, Refused, Failure) as error:
                failure = error
            crashed = self.bed.wait_until("bluetoothd to run", self.daemon, 120) != daemon
            if crashed:
                self.crashes += 1
                self.bed.note(
                    f"bluetoothd has crashed in {attempt.__name__}, "
                    "and the terminal was found again"
                )
                self.bed.check(
                    self.crashes <= CRASHES_MAX, f"bluetoothd has crashed {self.crashes} times"
                )
            self.rest()
            losses = self.lost() - lost
            self.bed.check(
                crashed or losses == 0,
                f"the terminal was lost {losses} times in {attempt.__name__}: {failure}",
            )
            self.bed.check(
                self.kiosk.terminal.exit_code is None, f"the terminal ended in {attempt.__name__}"
            )
            if failure is None:
                self.serves(attempt.__name__)
                resident_kib = self.kiosk.terminal.memory()[0]
                self.bed.note(
                    f"{attempt.__name__}: {self.bed.clock() - begin:.1f} s, "
                    f"{resident_kib} KiB resident"
                )
                return
            if not crashed:
                break
            self.bed.note(f"{attempt.__name__} is made anew: {failure}")
        raise Failure(f"{attempt.__name__}: {failure}") from failure

    def serves(self, after):
        """The next phone has the answer to its hello."""
        with self.connect() as raw:
            _, answer = self.card.greet(raw)
            self.bed.check(
                type(answer).__name__ != "Failed",
                f"after {after} a hello is answered with {answer}",
            )

    def ends(self, raw, what, seconds, error="too_many_attempts"):
        """The connection ends in time, and the last that the phone is told is why."""
        self.until_gone(raw, what, seconds)
        self.told(raw, what, error)

    def told(self, raw, what, error):
        raw.drain()
        said = errors(raw.values)
        self.bed.check(said, f"{what}: the phone was told nothing")
        # Of several tags the order is not known.
        self.bed.check(error in said, f"{what}: the phone was told {said}, and not {error}")

    def answered(self, raw, what, value, *allowed):
        """Writes a value; the terminal answers with one of these errors, by docs/protocol.md,
        section 11."""
        raw.values.clear()
        raw.write(value)
        session = self.card.session(512, tag=value[0] & 15 if value else 0)
        said = self.card.expect(raw, session, "Failed", seconds=ANSWER_S)
        self.bed.check(
            said.error in allowed,
            f"{what}: answered with {said.error} ({said.detail}), expected {allowed}",
        )

    def daemon(self):
        return self.bed.main_process("bluetooth.service")

    def lost(self):
        """How often the terminal has said that phones cannot find it; waits until they can."""

        def said(text):
            return sum(
                text in line for line in self.kiosk.terminal.stderr + self.kiosk.terminal.stdout
            )

        self.bed.wait_until(
            "the terminal to be found",
            lambda: (
                said("phones can find this terminal") > said("phones cannot find this terminal")
            ),
            120,
        )
        return said("phones cannot find this terminal")

    def rest(self):
        """Waits until bluetoothd answers and has the terminal, and until phones find it."""
        for controller in self.bed.controllers:
            self.bed.wait_powered(controller)
        time.sleep(0.5)
        self.lost()

    def octets(self, count):
        return self.random.randbytes(count)

    def until_gone(self, raw, what, seconds):
        try:
            raw.until_gone(seconds)
        except Failure as failure:
            raise Failure(f"{what}: {failure}") from None

    # Each of these is one thing that somebody may do.

    def garbage(self):
        with contextlib.ExitStack() as connections:
            raws = {}
            for number, manner in enumerate(("response", "command", "prepared")):
                raws[manner] = connections.enter_context(self.connect(number=number))
                with contextlib.suppress(Gone):
                    for _ in range(40):
                        raws[manner].write(self.octets(self.random.randrange(1, 200)), manner)
            for manner, raw in raws.items():
                self.ends(raw, f"garbage by {manner}", DISCONNECT_S)

    def half_handshakes(self):
        session = self.card.session(20)
        values = session.hello()
        for count in range(1, len(values)):
            with self.connect(23) as raw:
                self.card.say(raw, values[:count])
                self.bed.check(
                    raw.next_value(0.5) is None,
                    f"{count} of {len(values)} values of a hello have an answer",
                )
        whole = self.card.session(512).hello()[0]
        # All on one connection: a phone may say hello anew after each.
        with self.connect() as raw:
            for what, value, *allowed in (
                ("a hello cut within its key", whole[:20], "handshake_failed"),
                (
                    "a hello of another version",
                    whole[:1] + b"\x02" + whole[2:],
                    "version_unsupported",
                ),
                (
                    "a hello without versions",
                    whole[:34],
                    "version_unsupported",
                    "malformed_message",
                ),
                # A key of zeros leads to a shared secret of zeros, and the rest is no hello.
                (
                    "a hello of zeros",
                    whole[:2] + bytes(len(whole) - 2),
                    "handshake_failed",
                    "malformed_message",
                ),
                ("a hello with a tail", whole + bytes(100), "malformed_message"),
                ("no handshake at all", bytes([HANDSHAKE_FIRST | LAST]), "handshake_failed"),
                (
                    "a sealed message before a hello",
                    bytes([SEALED_FIRST | LAST]) + bytes(40),
                    "unexpected_message",
                ),
            ):
                self.answered(raw, what, value, *allowed)
            session, answer = self.card.greet(raw)
            self.bed.check(
                session.channel is not None,
                f"after all that a good hello is answered with {answer}",
            )

    def replays(self):
        """All that an honest phone wrote, written again: on its own connection, and on another."""
        till = self.kiosk.offer("0.10")
        with self.connect() as raw:
            session = self.card.session(raw.value_octets)
            recorded = session.hello()
            self.card.say(raw, recorded)
            payment = session.order(self.card.expect(raw, session, "Offered"))
            command = session.pay(payment)
            self.card.say(raw, command)
            self.card.expect(raw, session, "Concluded")
            self.card.say(raw, command)
            answer = self.card.expect(raw, session, "Failed")
            self.bed.equal("a command said twice", answer.error, "channel_failed")
        self.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")
        till = self.kiosk.offer("0.10")
        with self.connect() as raw:
            tag = recorded[0][0] & 15
            listener = self.card.session(512, tag=tag)
            self.card.say(raw, recorded)
            # The answer is for whoever has the key of that hello, with a key of the terminal's that
            # is new.
            self.card.expect(raw, listener, "Dropped", seconds=ANSWER_S)
            self.card.say(raw, command)
            said = self.card.expect(raw, listener, "Failed", seconds=ANSWER_S)
            self.bed.equal(
                "a command said again on another connection",
                (said.error, said.in_channel),
                ("channel_failed", False),
            )
        self.kiosk.wait_for_payments(("captured", ""), ("offered", ""))
        # The offer that stood by is still for sale.
        with self.connect() as raw:
            self.bed.equal("the phone's outcome", self.card.pay(raw), "approved")
        self.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")

    def floods(self):
        with self.connect() as raw:
            try:
                # Fragments of one message after the other, each with its end: no fault but that it
                # does not open.
                for _ in range(1_000):
                    raw.write(bytes([HANDSHAKE_FIRST | LAST]), "command")
            except Gone:
                pass
            else:
                self.until_gone(raw, "a flood of hellos", 30)
            self.told(raw, "a flood of hellos", "too_many_attempts")
        self.rest()
        with self.connect() as raw:
            session, _ = self.card.greet(raw)
            question = {"transaction_id": self.octets(16), "command_digest": self.octets(32)}
            count = 0
            try:
                for count in range(1_000):
                    # pylint: disable-next=protected-access
                    sealed = session._seal(result_query=question)
                    self.card.say(raw, sealed, "command")
            except Gone:
                pass
            else:
                self.until_gone(raw, "a flood of questions", 60)
            self.bed.note(f"a flood of questions was ended after at most {count + 1}")
        self.rest()

    def giant_lengths(self):
        with self.connect() as raw:
            for length, error in (
                (0xFFFF, "message_too_long"),
                (16_385, "message_too_long"),
                (0, "malformed_fragment"),
            ):
                self.answered(
                    raw,
                    f"a length of {length}",
                    struct.pack(">BH", SEALED_FIRST, length) + b"x",
                    error,
                )
            long_value = bytes([FOLLOWING]) + self.octets(511)
            if self.bed.bluez_version() >= LONG_VALUES_SINCE:
                self.answered(raw, "a value of 512 octets", long_value, "malformed_fragment")
            else:
                try:
                    raw.write(long_value)
                except Refused:
                    pass
                else:
                    raise Failure(
                        "a value of 512 octets was taken by a BlueZ that is known to refuse it"
                    )
            self.answered(raw, "an empty value", b"", "malformed_fragment")
        with self.connect(23) as raw:
            # More than the attribute may hold, in parts; and more than the connection carries, at
            # once.
            refused = 0
            for offset in range(0, 612, 18):
                try:
                    raw.request(struct.pack("<BHH", PREPARE, raw.inbox, offset) + bytes(18))
                except Refused:
                    refused += 1
            try:
                raw.request(struct.pack("<BB", EXECUTE, 1))
            except Refused:
                refused += 1
            self.bed.check(refused > 0, "a value of 612 octets was taken")
            try:
                raw.request(struct.pack("<BH", 0x12, raw.inbox) + bytes(600), 2)
            except (Refused, Gone, Failure, OSError):
                pass

    def endless_messages(self):
        with self.connect(23) as raw:
            try:
                for _ in range(20):
                    raw.write(struct.pack(">BH", SEALED_FIRST, 16_000) + bytes(17))
            except Gone:
                pass
            else:
                self.until_gone(raw, "first fragments only", DISCONNECT_S)
            self.told(raw, "first fragments only", "malformed_fragment")
            self.told(raw, "first fragments only", "too_many_attempts")

    def strange_att(self):
        """What no client sends. BlueZ may answer, say nothing, or end the connection."""
        answers = {}
        for pdu in (
            b"\x00",
            b"\x7f",
            b"\x12",
            b"\x52\x01",
            b"\x16\x05\x01",
            b"\x18\x07",
            b"\xfe" + self.octets(29),
            b"\x02\x00\x00",
            b"\x0b",
        ):
            with self.connect() as raw:
                try:
                    raw.send(pdu)
                    answer = raw._next(0.5)  # pylint: disable=protected-access
                except Gone:
                    answers[pdu[:3].hex()] = "gone"
                    continue
                # An MTU may be asked for at any time.
                allowed = (ERROR, MTU_RESPONSE) if pdu[0] == MTU_REQUEST else (ERROR,)
                self.bed.check(
                    answer is None or answer[0] in allowed,
                    f"{pdu.hex()} is answered with {answer and answer.hex()}",
                )
                answers[pdu[:3].hex()] = (
                    "silence"
                    if answer is None
                    else f"error {answer[4]:#04x}"
                    if answer[0] == ERROR
                    else "an MTU"
                )
                self.bed.equal(f"what the terminal says to {pdu.hex()}", raw.values, [])
        self.bed.note(
            f"BlueZ's answers: {', '.join(f'{pdu} {answer}' for pdu, answer in answers.items())}"
        )
        with self.connect() as raw:
            # What is no inbox takes no values.
            not_writable = (WRITE_NOT_PERMITTED, NOT_SUPPORTED)
            for handle, codes in (
                (1, not_writable),
                (raw.outbox, not_writable),
                (0xFFFE, (INVALID_HANDLE,)),
                (0xFFFF, (INVALID_HANDLE,)),
            ):
                try:
                    raw.write(b"\xff\xff\xff", "response", handle)
                except Refused as error:
                    self.bed.check(
                        error.code in codes,
                        f"handle {handle:#06x} takes no value because of {error.code:#04x}, "
                        f"expected {codes}",
                    )
                else:
                    raise Failure(f"handle {handle:#06x} takes a value")
            with contextlib.suppress(Refused):
                raw.write(b"\xff\xff\xff", "response", raw.configuration)
            for on in (1, 0, 1, 0):
                raw.subscribe(on)
            # BlueZ asks for a socket at each of these, and may get the last when it has given it
            # up: what counts is that a phone which then subscribes as phones do is served.
            time.sleep(0.5)
            raw.subscribe(0)
            time.sleep(0.5)
            raw.subscribe()
            session, answer = self.card.greet(raw)
            self.bed.check(
                session.channel is not None, f"after that a hello is answered with {answer}"
            )

    def leaving_at_each_step(self):
        """A phone may be gone at any moment. What BlueZ itself makes of that is counted, not
        judged."""
        # One for all attempts.
        till = self._offer = self._offer or self.kiosk.offer("0.10")
        hello_values = len(self.card.session(20).hello())
        for step in range(6 + hello_values):
            with self.arrive() as raw:
                if step > 0:
                    raw.exchange_mtu(23)
                if step > 1:
                    raw.discover()
                if step > 2:
                    raw.subscribe()
                session = self.card.session(20)
                self.card.say(raw, session.hello()[: max(0, step - 3)])
                if step >= 3 + hello_values:
                    offered = self.card.expect(raw, session, "Offered")
                    if step > 4 + hello_values:
                        # All of the command but its end.
                        self.card.say(raw, session.pay(session.order(offered))[:-1])
        with self.connect() as raw:
            self.bed.equal("the phone's outcome", self.card.pay(raw), "approved")
        self.bed.equal("the till's answer", till.wait(60, exit_code=0).json()["state"], "captured")

    def mute(self):
        """A connection alone; a subscription without a write; a write without a subscription: each
        has its end, while others come and go."""
        with (
            self.arrive(1) as connected,
            self.connect(number=2) as subscribed,
            self.connect(subscribe=False, number=3) as writing,
        ):
            writing.write(struct.pack(">BH", HANDSHAKE_FIRST, 100) + b"\x01")
            mute = {
                "only connected": connected,
                "only subscribed": subscribed,
                "a beginning without a subscription": writing,
            }
            stayed = {}

            def watch(what, raw):
                with contextlib.suppress(Gone, Failure):
                    raw.until_gone(MUTE_TIMEOUT_S)
                    stayed[what] = time.monotonic() - raw.since

            # Beside all else that goes on, so that each end is seen when it comes.
            watchers = [
                threading.Thread(target=watch, args=item, daemon=True) for item in mute.items()
            ]
            for watcher in watchers:
                watcher.start()
            self.leaving_at_each_step()
            self.back_at_once()
            for watcher in watchers:
                watcher.join(MUTE_TIMEOUT_S)
            self.bed.note(
                "seconds that a mute phone stayed: "
                + ", ".join(f"{what} {took:.1f}" for what, took in stayed.items())
            )
            for what in mute:
                took = stayed.get(what, float("inf"))
                self.bed.check(
                    HELLO_TIMEOUT_S - 1 <= took <= HELLO_TIMEOUT_S + DISCONNECT_S,
                    f"{what}: gone after {took:.1f} s, promised are {HELLO_TIMEOUT_S} and "
                    f"{DISCONNECT_S} to be rid of it",
                )
            # Later ones have closed its socket by now, since others have left: `another-leaves` is
            # about that.
            if self.bed.bluez_version() < OWN_SOCKETS_SINCE:
                self.told(subscribed, "only subscribed", "too_slow")

    def back_at_once(self):
        """A phone that is back before bluetoothd has put its last connection away may find it deaf.
        Counted, not judged."""
        deaf = 0
        for _ in range(20):
            with RawPhone(self.controllers[0], self.terminal) as raw:
                try:
                    raw.request(struct.pack("<BH", 0x02, 517), 1)
                except (Gone, Refused, Failure):
                    deaf += 1
        self.bed.note(f"back at once 20 times: BlueZ was deaf {deaf} times")

    def connect_and_leave(self, rounds):
        begin = time.monotonic()
        for _ in range(rounds):
            RawPhone(self.controllers[0], self.terminal).leave()
        seconds = time.monotonic() - begin
        self.bed.note(f"{rounds} times connected and left, {seconds / rounds:.2f} s each")


# TemporaryTimeout is how long BlueZ remembers a phone: half a minute unless it is set.
@scenario(
    controllers=6,
    python=True,
    bluetooth={"General": {"TemporaryTimeout": "3"}},
    seconds=900 + 3 * ROUNDS,
)
def hostile(bed):
    """Garbage, replays, floods, giant lengths, half of everything, leaving at each step and coming
    back: nothing is left of it."""
    kiosk = Kiosk(bed, hold_off_max_s=0)
    attack = Attack(bed, kiosk)

    def honest(number):
        till = kiosk.offer("2.50")
        bed.equal(
            f"the honest phone's outcome, time {number}",
            kiosk.wallets[0].pay()["outcome"],
            "approved",
        )
        bed.equal(
            f"the till's answer, time {number}",
            till.wait(60, exit_code=0).json()["state"],
            "captured",
        )

    attack.replays()
    honest(1)
    before = Holdings.when_nobody_is_there(bed, kiosk)
    bed.note(f"before: {before}")
    for attempt in (
        attack.garbage,
        attack.half_handshakes,
        attack.floods,
        attack.giant_lengths,
        attack.endless_messages,
        attack.strange_att,
        attack.mute,
    ):
        attack.survive(attempt)
    daemon = attack.daemon()
    attack.connect_and_leave(ROUNDS)
    honest(2)
    more = {} if bed.bluez_version() >= OWN_SOCKETS_SINCE else KEPT_SOCKET
    after = Holdings.when_nobody_is_there(bed, kiosk, before, more)
    bed.note(f"after: {after}")
    bed.check(attack.daemon() == daemon, "bluetoothd has crashed at the end")
    bed.note(
        f"bluetoothd has crashed {attack.crashes} times; "
        f"the terminal has registered anew {attack.lost()} times"
    )
    bed.equal("what is held that was not before", after.grown(before, more), {})
    growth_kib = after.resident_kib - before.resident_kib
    bed.check(growth_kib <= GROWTH_MAX_KIB, f"the terminal's memory has grown by {growth_kib} KiB")
    kiosk.wait_for_payments(*[("captured", "")] * 5)
    kiosk.check_books(captured_minor=530)
