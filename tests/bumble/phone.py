"""A phone that pays, without its radio: written from docs/protocol.md, proto/ and tests/vectors/
alone.

A `Session` is one connection. It takes the values that the terminal notifies and gives the values
to write:

    session = Session(card, link=Link.read("FLORIN:1/..."), value_octets=mtu - 3)
    write(session.hello())
    for event in session.receive(value): ...      # Greeted or KeyringNeeded, then Offered
    write(session.open())
    payment = session.order(offered)              # to be stored durably before the next line
    write(session.pay(payment))
    for event in session.receive(value): ...      # Working, Concluded
"""

import base64
import dataclasses
import re
import secrets
import time
import uuid

import credentials
import noise
from credentials import NotValid, digest
from displayed_text import NotDisplayed, check_displayed
from messages import ENUMERATIONS, Malformed, decode, encode

VERSION = 1
VERSION_OCTET = bytes([VERSION])
PROLOGUE = b"florin payment " + VERSION_OCTET

VALUE_OCTETS_MAX = 512
VALUE_OCTETS_MIN = 20
MESSAGE_OCTETS_MAX = 16_384
SEALED_COMMAND_OCTETS_MAX = 2_048
HELLOS_MAX = 16

HANDSHAKE, SEALED, PLAIN_ERROR = 0, 1, 2

ERRORS = dict(
    enumerate(
        (
            "malformed_fragment message_too_long malformed_message unexpected_message "
            "version_unsupported handshake_failed channel_failed too_many_attempts "
            "transaction_unknown busy out_of_service institution_unreachable "
            "institution_refused too_slow"
        ).split(),
        1,
    )
)
DECLINE_REASONS = dict(
    enumerate(
        (
            "unknown_card card_blocked card_expired bad_signature counter_replayed "
            "offer_mismatch offer_expired insufficient_funds over_limit terminal_unknown "
            "currency_mismatch malformed_command verification_required "
            "already_reversed other"
        ).split(),
        1,
    )
)


def decline_reason_of(number):
    """The reason's name; of a later version's, "other"; none where there is none."""
    return DECLINE_REASONS.get(number, "other") if number else None


OUTCOMES = {
    number: name.removeprefix("OUTCOME_").lower()
    for number, name in ENUMERATIONS["Outcome"].items()
    if number
}
STATUSES = {
    number: name.removeprefix("RECEIPT_STATUS_").lower()
    for number, name in ENUMERATIONS["ReceiptStatus"].items()
}
HOLDER_VERIFICATION_CONSENT = 2

# The institution saw another offer than the person, and declined for that.
OTHER_OFFER_REASONS = ("offer_mismatch", "malformed_command")
# May be followed by a new hello without asking the person.
RETRYABLE_ERRORS = ("malformed_fragment", "handshake_failed", "channel_failed", "busy")
RETRIES_MAX = 3


class Refused(Exception):
    """The phone will not go on with this terminal."""


# Fragments (section 4)


class FragmentFault(Exception):
    """The unfinished message is lost."""


def cut(message, kind, tag, value_octets):
    """The values that carry a message."""
    if len(message) + 1 <= value_octets:
        return [bytes([0xC0 | kind << 4 | tag]) + message]
    room = value_octets - 3
    values = [bytes([0x80 | kind << 4 | tag]) + len(message).to_bytes(2, "big") + message[:room]]
    rest = message[room:]
    room = value_octets - 1
    while rest:
        last = 0x40 if len(rest) <= room else 0
        values.append(bytes([last | (len(values) % 4) << 4 | tag]) + rest[:room])
        rest = rest[room:]
    return values


class Joiner:
    """Puts the values for one tag together."""

    def __init__(self, tag):
        self._tag = tag
        self._forget()

    def _forget(self):
        self._kind, self._length, self._content, self._count = None, 0, b"", 0

    def _fault(self, why):
        self._forget()
        raise FragmentFault(why)

    def join(self, value):
        """(kind, message) where the value completes one, else None."""
        if not 1 <= len(value) <= VALUE_OCTETS_MAX:
            return self._fault(f"a value of {len(value)} octets")
        header, content = value[0], value[1:]
        if header & 0x0F != self._tag:
            return None  # another phone's
        last, number = bool(header & 0x40), header >> 4 & 3
        if header & 0x80:
            return self._first(last, number, content)
        if self._kind is None:
            return self._fault("the beginning is missing")
        if number != self._count % 4:
            return self._fault("a fragment is missing")
        if not content:
            return self._fault("a fragment without content")
        self._content += content
        self._count += 1
        if len(self._content) > self._length or last != (len(self._content) == self._length):
            return self._fault("the length is not the one announced")
        return self._finished() if last else None

    def _first(self, last, kind, content):
        # One inside a message is a fault of that message; it may well begin the next one.
        self._forget()
        if kind > PLAIN_ERROR:
            return self._fault("kind 3")
        if last:
            return kind, content
        length, content = int.from_bytes(content[:2], "big"), content[2:]
        if not content or not len(content) < length <= MESSAGE_OCTETS_MAX:
            return self._fault(
                f"a first fragment of a message of {length} octets with {len(content)} of them"
            )
        self._kind, self._length, self._content, self._count = kind, length, content, 1
        return None

    def _finished(self):
        kind, message = self._kind, self._content
        self._forget()
        return kind, message


# Engagement link (section 2)


@dataclasses.dataclass(frozen=True)
class Link:
    """Which terminal, how to know it, and perhaps which payment."""

    terminal_id: str
    fingerprint: str
    transaction_id: bytes = b""

    @classmethod
    def read(cls, text):
        crockford = "[0-9A-HJKMNP-TV-Z]"
        match = re.fullmatch(
            rf"FLORIN:1/({crockford}{{10}})/([A-Z2-7]{{26}})(?:/([0-9A-F-]{{36}}))?", text.upper()
        )
        if len(text) > 128 or match is None:
            raise Malformed("no engagement link of this version")
        try:
            transaction_id = uuid.UUID(match[3]).bytes if match[3] else b""
        except ValueError as error:
            raise Malformed("no transaction id in the engagement link") from error
        return cls(match[1], match[2], transaction_id)

    @property
    def short_code(self):
        return self.terminal_id[-4:]


def fingerprint(channel_key):
    return base64.b32encode(digest(channel_key)[:16]).decode().rstrip("=")


def matching_commitment(nonce):
    return digest(b"florin matching commitment" + nonce)[:16]


def matching_code(handshake_hash, nonce):
    number = int.from_bytes(digest(b"florin matching code" + handshake_hash + nonce)[:8], "big")
    return f"{number % 1_000_000:06}"


# The card, and what the phone keeps of a payment


@dataclasses.dataclass
class Card:
    """What enrolment gave. The counter is the one used last; `Session.order` raises it, the caller
    stores it."""

    card_id: bytes
    private_key: bytes
    root_public_key: bytes
    keyring: bytes
    currency: str
    payment_limit_minor: int
    counter: int = 0

    def __post_init__(self):
        self.keys = credentials.Keyring(self.keyring, self.root_public_key)

    def renew(self, keyring):
        """Takes a keyring over if the root signed it and it was issued later. Whether it was."""
        try:
            keys = credentials.Keyring(keyring, self.root_public_key)
        except (NotValid, Malformed):
            return False
        if keys.issued_at_unix_s <= self.keys.issued_at_unix_s:
            return False
        self.keyring, self.keys = keyring, keys
        return True


@dataclasses.dataclass
class Payment:
    """What must be stored before the command is sent, and what became of it."""

    offer: bytes
    sealed_command: bytes
    terminal_id: str
    counter: int
    state: str = "in_doubt"  # approved, captured, declined, pending, reversed, not_charged
    decline_reason: str = ""
    receipt: bytes = b""
    exclusion: bytes = b""
    refunded_minor: int = 0

    @property
    def is_open(self):
        """The command may have been used, and the institution has signed nothing yet."""
        return self.state in ("in_doubt", "pending")

    @property
    def transaction_id(self):
        return decode("Offer", self.offer).transaction_id


# Events


@dataclasses.dataclass(frozen=True)
class Greeted:
    """The channel stands, and the terminal is who its certificate says."""

    terminal_id: str
    merchant_name: str
    matching_code: str


@dataclasses.dataclass(frozen=True)
class KeyringNeeded:
    """The card's keyring lacks the key of the certificate. After the opening a newer may come."""


@dataclasses.dataclass(frozen=True)
class KeyringRenewed:
    """The card has a newer keyring, to be stored durably before anything else."""


@dataclasses.dataclass(frozen=True)
class Offered:
    """An offer that may be shown."""

    octets: bytes
    offer: object


@dataclasses.dataclass(frozen=True)
class NothingToPay:
    """An offer may follow."""


@dataclasses.dataclass(frozen=True)
class Working:
    """A sign of life."""


@dataclasses.dataclass(frozen=True)
class Gone:
    """The offer is: taken, withdrawn or expired. Of a command it is the terminal's word only."""

    why: str
    transaction_id: bytes


@dataclasses.dataclass(frozen=True)
class Concluded:
    """What came was good enough to change what the phone believes of the payment."""

    payment: Payment


@dataclasses.dataclass(frozen=True)
class Unproven:
    """A result that is worth nothing."""

    why: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """An error of the terminal; outside the channel anybody may have said it."""

    error: str
    in_channel: bool
    detail: str


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A message that was nothing to the phone, for a developer's log."""

    why: str


# What must be checked (section 9)


def check(condition, why):
    if not condition:
        raise Refused(why)


def check_text(text, least, most, what):
    try:
        check_displayed(text, least, most)
    except NotDisplayed as error:
        raise Refused(f"{what}: {error}") from error


def check_certificate(card, certificate, channel_key, link, now_unix_s):
    """The decoded certificate of a terminal that proved to have `channel_key`."""
    try:
        body = card.keys.open(
            "terminal_certificate", "terminal-certificate", certificate, now_unix_s
        )
        named = decode("TerminalCertificate", body)
    except credentials.UnknownKey:
        raise
    except (NotValid, Malformed) as error:
        raise Refused(f"the certificate: {error}") from error
    check(
        named.not_before_unix_s <= now_unix_s <= named.not_after_unix_s,
        "the certificate is not good now",
    )
    check(named.channel_key == channel_key, "the certificate is for another channel key")
    check(not noise.is_low_order(named.channel_key), "the channel key is of low order")
    check_text(named.merchant_id, 1, 32, "the merchant's id")
    check_text(named.merchant_name, 1, 40, "the merchant's name")
    if link is not None:
        check(
            named.terminal_id == link.terminal_id, "this is not the terminal of the engagement link"
        )
        check(
            fingerprint(channel_key) == link.fingerprint,
            "the terminal's key is not the one of the engagement link",
        )
    return named


def is_random_uuid(octets):
    return len(octets) == 16 and octets[6] >> 4 == 4 and octets[8] >> 6 == 2


def check_offer(card, octets, certificate, link):
    """The decoded offer, if it may be shown."""
    try:
        offer = decode("Offer", octets)
    except Malformed as error:
        raise Refused(f"the offer: {error}") from error
    check(is_random_uuid(offer.transaction_id), "the offer's transaction id is none")
    if link is not None and link.transaction_id:
        check(
            offer.transaction_id == link.transaction_id,
            "this is not the payment of the engagement link",
        )
    check(offer.terminal_id == certificate.terminal_id, "the offer is another terminal's")
    check(offer.merchant_name == certificate.merchant_name, "the merchant is not the certificate's")
    check(1 <= offer.amount_minor <= 999_999_999_999, "the amount is out of range")
    check(re.fullmatch("[A-Z]{3}", offer.currency), "the currency is none")
    check(1 <= offer.valid_for_s <= 3600, "the offer's time is out of range")
    check(len(offer.nonce) == 16, "the nonce has not 16 octets")
    check_text(offer.merchant_name, 1, 40, "the merchant's name")
    check_text(offer.reference, 0, 64, "the reference")
    check(len(offer.items) <= 32, "too many items")
    for item in offer.items:
        check_text(item.name, 1, 64, "an item's name")
        check(1 <= item.quantity <= 10_000, "an item's quantity is out of range")
    check(offer.currency == card.currency, "the card does not pay in this currency")
    check(offer.amount_minor <= card.payment_limit_minor, "the amount is above the card's limit")
    return offer


def check_receipt(card, payment, outcome, decline_reason, encoded, now_unix_s):
    """The decoded receipt, if it is the institution's and says of this payment what the terminal
    says; else NotValid."""
    receipt = decode("Receipt", card.keys.open("receipt", "receipt", encoded, now_unix_s))
    offer = decode("Offer", payment.offer)
    reason = decline_reason_of(receipt.decline_reason)
    status = STATUSES.get(receipt.status)
    same = {
        "status": status == outcome,
        "transaction id": receipt.transaction_id == offer.transaction_id,
        "terminal id": receipt.terminal_id == offer.terminal_id,
        "command digest": receipt.command_digest == digest(payment.sealed_command),
    }
    if outcome == "declined":
        same["decline reason"] = reason == decline_reason
    if not (status == "declined" and reason in OTHER_OFFER_REASONS):
        same["offer digest"] = receipt.offer_digest == digest(payment.offer)
        same["amount"] = receipt.amount_minor == offer.amount_minor
        same["currency"] = receipt.currency == offer.currency
    wrong = [name for name, equal in same.items() if not equal]
    if wrong:
        raise NotValid(f"the receipt has another {' and '.join(wrong)}")
    if receipt.refunded_minor > (receipt.amount_minor if status == "captured" else 0):
        raise NotValid("the receipt gives back more than was taken")
    # Given back and taken are last words, and what was refunded is never taken again.
    if payment.state == "reversed" and status != "reversed":
        raise NotValid("the receipt is older than the reversal")
    if payment.state == "captured" and (
        status != "captured" or receipt.refunded_minor < payment.refunded_minor
    ):
        raise NotValid("the receipt is older than the one that is known")
    return receipt


def check_exclusion(card, payment, encoded, now_unix_s):
    """NotValid unless the institution says that this payment's command was not used."""
    exclusion = decode("Exclusion", card.keys.open("receipt", "exclusion", encoded, now_unix_s))
    if exclusion.transaction_id != payment.transaction_id:
        raise NotValid("the exclusion has another transaction id")
    if exclusion.terminal_id != payment.terminal_id:
        raise NotValid("the exclusion has another terminal id")
    if len(exclusion.command_digest) not in (0, 32):
        raise NotValid("the exclusion's command digest has not 32 octets")
    if exclusion.command_digest == digest(payment.sealed_command) or payment.receipt:
        raise NotValid("the exclusion does not leave this command out")


def conclude(card, payment, result, now_unix_s):
    """Changes the payment to what a `Result` proves. NotValid or Malformed if it proves nothing."""
    outcome = OUTCOMES.get(result.outcome)
    if outcome is None:
        raise Malformed(f"outcome {result.outcome}")
    reason = ""
    if outcome == "declined":
        reason = decline_reason_of(result.decline_reason)
        if reason is None:
            raise Malformed(f"decline reason {result.decline_reason}")
    if outcome == "pending":
        # A word without proof: it takes back nothing that was proven.
        if payment.state == "in_doubt":
            payment.state = outcome
        return
    if not result.receipt:
        raise NotValid(f"{outcome}, but no receipt")
    receipt = check_receipt(card, payment, outcome, reason, result.receipt, now_unix_s)
    payment.state, payment.decline_reason, payment.receipt = outcome, reason, result.receipt
    payment.refunded_minor = receipt.refunded_minor


# One connection


class Session:
    """The phone's side of one connection. Draws one tag, may say hello up to 16 times.

    With a payment it comes back to ask for its result, and wants to know of nothing else.
    """

    def __init__(
        self, card, link=None, value_octets=VALUE_OCTETS_MIN, payment=None, tag=None, now=time.time
    ):
        self.card = card
        self.link = link
        self.payment = payment
        self.value_octets = min(value_octets, VALUE_OCTETS_MAX)
        self.tag = secrets.randbelow(16) if tag is None else tag
        self.now = now
        self.certificate = None
        self.channel = None
        self._returning = False
        self._nonce = None
        self._held = None
        self._accepted = None
        self._initiator = None
        self._joiner = Joiner(self.tag)
        self._hellos = 0
        self._is_open = False

    def hello(self, ephemeral=None, nonce=None):
        """The values that begin a new channel."""
        check(self._hellos < HELLOS_MAX, "too many hellos on this connection")
        self._hellos += 1
        self.channel = self.certificate = self._held = self._accepted = None
        self._is_open = False
        self._nonce = nonce or secrets.token_bytes(16)
        self._returning = self.payment is not None
        self._joiner = Joiner(self.tag)
        self._initiator = noise.Initiator(PROLOGUE, ephemeral or secrets.token_bytes(32))
        payload = encode(
            "Hello",
            versions=[VERSION],
            value_octets_max=self.value_octets,
            transaction_id=self.link.transaction_id if self.link and not self._returning else b"",
            matching_commitment=matching_commitment(self._nonce),
        )
        return self._cut(VERSION_OCTET + self._initiator.write(payload), HANDSHAKE)

    def open(self):
        """The values of the first message on the channel. The others send it, too, if it was not
        sent."""
        if self._is_open:
            return []
        self._is_open = True
        opening = {
            "matching_nonce": self._nonce,
            "keyring_issued_at_unix_s": self.card.keys.issued_at_unix_s,
        }
        return self._seal_one(opening=opening)

    def order(self, offered, holder_verification=HOLDER_VERIFICATION_CONSENT, ephemeral=None):
        """The payment of an offer that the person consented to. Card and payment must be stored
        before it is sent."""
        self.card.counter += 1
        now_unix_s = self.now()
        offer_digest = digest(offered.octets)
        command = credentials.card_command(
            self.card.card_id,
            self.card.private_key,
            offer_digest,
            self.card.counter,
            holder_verification,
        )
        sealed = credentials.sealed_command(
            self.card.keys.sealing_key(now_unix_s),
            offer_digest,
            command,
            ephemeral or secrets.token_bytes(32),
        )
        check(len(sealed) <= SEALED_COMMAND_OCTETS_MAX, "the sealed command is too long")
        return Payment(offered.octets, sealed, offered.offer.terminal_id, self.card.counter)

    def pay(self, payment):
        """The values of a payment command; of the same octets again after a lost link."""
        self._be_at_terminal(payment)
        command = {
            "transaction_id": payment.transaction_id,
            "sealed_command": payment.sealed_command,
        }
        return self._seal(payment_command=command)

    def ask(self, payment):
        """The values that ask what became of a payment."""
        self._be_at_terminal(payment)
        query = {
            "transaction_id": payment.transaction_id,
            "command_digest": digest(payment.sealed_command),
        }
        return self._seal(result_query=query)

    def cancel(self):
        """The offer that the channel shows is not wanted."""
        return self._seal(cancel={})

    def acknowledge(self):
        """After the proof of the last result was stored."""
        return self._seal(receipt_ack={})

    def _be_at_terminal(self, payment):
        # Another terminal's word on this payment would be worth nothing, and it need not know of
        # it.
        check(
            self.certificate.terminal_id == payment.terminal_id,
            "this payment was made at another terminal",
        )
        self.payment = payment

    def _seal(self, **message):
        return self.open() + self._seal_one(**message)

    def _seal_one(self, **message):
        return self._cut(self.channel.seal(encode("FromPhone", **message)), SEALED)

    def _cut(self, message, kind):
        return cut(message, kind, self.tag, self.value_octets)

    def receive(self, value):
        """What a notified value comes to: a list of events, mostly empty. Refused: disconnect."""
        try:
            whole = self._joiner.join(bytes(value))
            if whole is None:
                return []
            kind, message = whole
            if kind == HANDSHAKE:
                return self._read_answer(message)
            if kind == SEALED:
                if self.channel is None:
                    return [Dropped("sealed before the channel stands")]
                return self._read(decode("FromTerminal", self.channel.open(message)))
            return [self._error(decode("Error", message), False)]
        except (FragmentFault, noise.DoesNotOpen, Malformed) as error:
            return [Dropped(f"{type(error).__name__}: {error}")]

    def _read_answer(self, message):
        if self._initiator is None or message[:1] != VERSION_OCTET:
            return [Dropped("a handshake message that nobody waits for")]
        payload, channel_key, channel = self._initiator.read(message[1:])
        try:
            answer = decode("HelloAnswer", payload)
        except Malformed as error:
            raise Refused(f"the answer to the hello: {error}") from error
        # Either list may name more than the other side speaks; the highest in both must be the one
        # in use.
        check(VERSION in answer.versions, "version_unsupported")
        if answer.first is None:
            raise Refused("the answer to the hello says nothing")
        self._initiator, self.channel = None, channel
        self._accepted = (answer.certificate, channel_key)
        try:
            return self._greet(answer.first)
        except credentials.UnknownKey:
            self._held = answer.first
            return [KeyringNeeded()]

    def _greet(self, first):
        self.certificate = check_certificate(self.card, *self._accepted, self.link, self.now())
        self._held = None
        greeted = Greeted(
            self.certificate.terminal_id,
            self.certificate.merchant_name,
            matching_code(self.channel.handshake_hash, self._nonce),
        )
        # Who comes back for a result did not ask for an offer, and what was said before the
        # question is no answer to it.
        return [greeted] if self._returning else [greeted, *self._read(first)]

    def _renew(self, keyring):
        """A keyring of the terminal. It may name the certificate's key at last, or no longer."""
        if not self.card.renew(keyring):
            return [Dropped("a keyring that is not newer, or not the institution's")]
        try:
            if self._held is not None:
                return [KeyringRenewed(), *self._greet(self._held)]
            if self.payment is None:
                check_certificate(self.card, *self._accepted, self.link, self.now())
        except credentials.UnknownKey as error:
            raise Refused(f"the certificate: {error}") from error
        return [KeyringRenewed()]

    def _read(self, message):
        which = message.which
        if which is None:
            return [Dropped("an unknown message")]
        content = getattr(message, which)
        if which == "keyring":
            return self._renew(content)
        if self._held is not None and which != "error":
            self._held = message  # the newest word counts once the certificate is checked
            return []
        if which == "offer":
            if self.payment is not None and self.payment.state == "in_doubt":
                return [Dropped("an offer during a payment")]
            return [Offered(content, check_offer(self.card, content, self.certificate, self.link))]
        if which == "nothing_to_pay":
            return [NothingToPay()]
        if which == "working":
            return [Working()]
        if which == "error":
            return [self._error(content, True)]
        ours = self.payment is not None and content.transaction_id == self.payment.transaction_id
        if which in ("result", "not_used"):
            if not ours:
                return [Dropped(f"{which} of another payment")]
            return [self._result(content) if which == "result" else self._not_used(content)]
        if ours and not self.payment.is_open:
            return [Dropped(f"{which} after the result")]
        # A command is not undone by it: only the institution's word is proof.
        return [Gone(which, content.transaction_id)]

    def _not_used(self, message):
        try:
            check_exclusion(self.card, self.payment, message.exclusion, self.now())
        except NotValid as error:
            return Unproven(str(error))
        self.payment.state, self.payment.exclusion = "not_charged", message.exclusion
        return Concluded(self.payment)

    def _result(self, result):
        try:
            conclude(self.card, self.payment, result, self.now())
        except NotValid as error:
            return Unproven(str(error))
        return Concluded(self.payment)

    def _error(self, error, in_channel):
        name = ERRORS.get(error.code)
        if name is None:
            raise Malformed(f"error {error.code}")
        return Failed(name, in_channel, error.detail)
