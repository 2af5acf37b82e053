#!/usr/bin/env python3
"""Holds the phone against tests/vectors/, in both directions, and against a terminal that
misbehaves. Needs `cryptography`."""

import json
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True

import credentials  # noqa: E402
import noise  # noqa: E402
import phone  # noqa: E402
from messages import Malformed, decode, encode  # noqa: E402

NOW_UNIX_S = 1_750_000_000
BIOMETRIC = 4
MTUS = (23, 185, 517)


def vector_file():
    for parent in pathlib.Path(__file__).resolve().parents:
        for path in (parent / "tests/vectors/payment.json", parent / "vectors/payment.json"):
            if path.exists():
                return path
    raise FileNotFoundError("no vectors/payment.json above this file")


def octets(value):
    """The vectors with their hexadecimal read; what is no hexadecimal stays as it is."""
    if isinstance(value, dict):
        return {name: octets(one) for name, one in value.items()}
    if isinstance(value, list):
        return [octets(one) for one in value]
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        return value


TEXT = json.loads(vector_file().read_text(encoding="utf-8"))
VECTORS = octets(TEXT)
KEYS = VECTORS["keys"]
RANDOM = VECTORS["random"]
MATCHING_CODE = TEXT["hello_answer"]["matching_code"]
OFFER = VECTORS["offer"]["octets"]
TRANSACTION_ID = decode("Offer", OFFER).transaction_id


def new_card(**changes):
    command = decode("CardCommand", VECTORS["card_command"]["body"])
    values = {
        "card_id": command.card_id,
        "private_key": KEYS["card_private"],
        "root_public_key": KEYS["root_public"],
        "keyring": VECTORS["keyring"]["encoded"],
        "currency": "EUR",
        "payment_limit_minor": 5000,
        "counter": command.counter - 1,
    }
    return phone.Card(**{**values, **changes})


def new_session(mtu=517, **options):
    options = {"card": new_card(), "tag": RANDOM["tag"], "now": lambda: NOW_UNIX_S, **options}
    return phone.Session(value_octets=mtu - 3, **options)


def hello(session):
    return session.hello(RANDOM["phone_ephemeral_private"], RANDOM["matching_nonce"])


def feed(session, values):
    """The events of the last value; the others must bring none."""
    for value in values[:-1]:
        if session.receive(value):
            raise AssertionError("an event before the message is whole")
    return session.receive(values[-1])


def answer(mtu):
    return VECTORS["hello_answer"]["fragments"][f"values_at_mtu_{mtu}"]


def begin(mtu=517, **options):
    """A session that has its offer."""
    session = new_session(mtu, **options)
    hello(session)
    greeted, offered = feed(session, answer(mtu))
    return session, greeted, offered


def paying(mtu=517):
    """A session that has sent its command: (session, payment, values)."""
    session, _, offered = begin(mtu)
    ephemeral = credentials.derive_key(RANDOM["hpke_ikm_e"])
    payment = session.order(offered, BIOMETRIC, ephemeral)
    session.open()
    return session, payment, session.pay(payment)


class Vectors(unittest.TestCase):
    """Octet by octet."""

    def test_public_keys(self):
        for name in ("root", "terminal_certificate", "receipt", "card"):
            self.assertEqual(
                credentials.card_public_key(KEYS[f"{name}_private"]), KEYS[f"{name}_public"], name
            )
        for name in ("channel", "sealing"):
            self.assertEqual(
                noise.public_key(KEYS[f"{name}_private"]), KEYS[f"{name}_public"], name
            )

    def test_signatures(self):
        signers = {
            "keyring": "root",
            "terminal_certificate": "terminal_certificate",
            "receipt": "receipt",
            "exclusion": "receipt",
            "card_command": "card",
        }
        for name, signer in signers.items():
            vector, kind = VECTORS[name], name.replace("_", "-")
            with self.subTest(name):
                self.assertEqual(credentials.TYPE % kind, TEXT[name]["payload_type"])
                encoding = credentials.pre_authentication_encoding(kind, vector["body"])
                self.assertEqual(encoding, vector["pre_authentication_encoding"])
                credentials.verify(
                    KEYS[f"{signer}_public"], kind, vector["body"], vector["signature"]
                )
                altered = vector["body"][:-1] + bytes([vector["body"][-1] ^ 1])
                with self.assertRaises(credentials.NotValid):
                    credentials.verify(KEYS[f"{signer}_public"], kind, altered, vector["signature"])
                key_id = (
                    credentials.digest(KEYS[f"{signer}_public"])[:8] if signer != "card" else b""
                )
                self.assertEqual(key_id, vector["key_id"])
                signed = {
                    "body": vector["body"],
                    "signature": vector["signature"],
                    "key_id": key_id,
                }
                self.assertEqual(encode("Signed", **signed), vector["encoded"])
                made = credentials.sign(KEYS[f"{signer}_private"], kind, vector["body"])
                credentials.verify(KEYS[f"{signer}_public"], kind, vector["body"], made)

    def test_this_library_signs_without_randomness(self):
        # Where it cannot, the octets that follow from signatures cannot be compared, and this check
        # says so.
        made = credentials.sign(
            KEYS["card_private"], "card-command", VECTORS["card_command"]["body"]
        )
        self.assertEqual(made, VECTORS["card_command"]["signature"])

    def test_enrolment_proof(self):
        vector = TEXT["card_enrolment"]
        self.assertEqual(
            credentials.enrolment_proof(KEYS["card_private"], vector["code"]).hex(), vector["proof"]
        )

    def test_engagement_link(self):
        link = phone.Link.read(TEXT["engagement_link"])
        self.assertEqual(link, phone.Link.read(TEXT["engagement_link"].lower()))
        self.assertEqual(
            link.terminal_id,
            decode("TerminalCertificate", VECTORS["terminal_certificate"]["body"]).terminal_id,
        )
        self.assertEqual(link.fingerprint, phone.fingerprint(KEYS["channel_public"]))
        self.assertEqual(link.transaction_id, TRANSACTION_ID)
        begin(link=phone.Link(link.terminal_id, link.fingerprint))
        for text in (
            "",
            "FLORIN:2" + TEXT["engagement_link"][8:],
            TEXT["engagement_link"] + "/",
            TEXT["engagement_link"][:-1],
        ):
            with self.assertRaises(Malformed):
                phone.Link.read(text)

    def test_info(self):
        info = decode("Info", VECTORS["info"])
        self.assertEqual(
            (info.versions, info.terminal_id, info.capabilities), ([1], "7M3KQ0ZT4V", 0)
        )

    def test_hello(self):
        vector = VECTORS["hello"]
        self.assertEqual(
            phone.encode(
                "Hello",
                versions=[1],
                value_octets_max=512,
                matching_commitment=phone.matching_commitment(RANDOM["matching_nonce"]),
            ),
            vector["payload"],
        )
        values = hello(new_session())
        self.assertEqual(values, vector["fragments"]["values_at_mtu_517"])

    def test_every_message_in_fragments(self):
        kinds = {
            "hello": 0,
            "hello_answer": 0,
            "opening": 1,
            "payment_command": 1,
            "result": 1,
            "receipt_ack": 1,
            "plain_error": 2,
        }
        for name, kind in kinds.items():
            vector = VECTORS[name]["fragments"]
            for mtu in MTUS:
                with self.subTest(name, mtu=mtu):
                    values = vector[f"values_at_mtu_{mtu}"]
                    self.assertEqual(
                        phone.cut(vector["message"], kind, RANDOM["tag"], min(mtu - 3, 512)), values
                    )
                    joiner = phone.Joiner(RANDOM["tag"])
                    for value in values[:-1]:
                        self.assertIsNone(joiner.join(value))
                    self.assertEqual(joiner.join(values[-1]), (kind, vector["message"]))

    def test_hello_answer(self):
        for mtu in MTUS:
            # The vectors' hello says 512 at every MTU, so it is the one that opens every answer.
            session = new_session(517)
            hello(session)
            greeted, offered = feed(session, answer(mtu))
            self.assertEqual(
                greeted, phone.Greeted("7M3KQ0ZT4V", "Kiosk on the Corner", MATCHING_CODE)
            )
            self.assertEqual(
                session.channel.handshake_hash, VECTORS["hello_answer"]["handshake_hash"]
            )
            self.assertEqual(offered.octets, OFFER)
            self.assertEqual(credentials.digest(offered.octets), VECTORS["offer"]["digest"])

    def test_hello_answer_of_a_terminal(self):
        """The other direction: what the terminal of the vectors would send."""
        terminal = noise.Responder(
            phone.PROLOGUE, RANDOM["terminal_ephemeral_private"], KEYS["channel_private"]
        )
        self.assertEqual(
            terminal.read(VECTORS["hello"]["fragments"]["message"][1:]), VECTORS["hello"]["payload"]
        )
        message, channel = terminal.write(VECTORS["hello_answer"]["payload"])
        self.assertEqual(
            phone.VERSION_OCTET + message, VECTORS["hello_answer"]["fragments"]["message"]
        )
        self.assertEqual(
            channel.open(VECTORS["opening"]["fragments"]["message"]),
            VECTORS["opening"]["plaintext"],
        )
        self.assertEqual(
            channel.open(VECTORS["payment_command"]["fragments"]["message"]),
            VECTORS["payment_command"]["plaintext"],
        )
        self.assertEqual(
            channel.seal(VECTORS["result"]["plaintext"]), VECTORS["result"]["fragments"]["message"]
        )
        self.assertEqual(
            channel.open(VECTORS["receipt_ack"]["fragments"]["message"]),
            VECTORS["receipt_ack"]["plaintext"],
        )

    def test_sealed_command(self):
        vector = VECTORS["sealed_command"]
        _, payment, _ = paying()
        self.assertEqual(payment.sealed_command, vector["encoded"])
        self.assertEqual(credentials.digest(payment.sealed_command), vector["digest"])
        sealed = decode("SealedCommand", vector["encoded"])
        for name in ("suite", "key_id", "encapsulated_key", "ciphertext"):
            self.assertEqual(getattr(sealed, name), vector[name])
        opened = credentials.hpke_open(
            KEYS["sealing_private"],
            sealed.encapsulated_key,
            credentials.SEAL_INFORMATION,
            VECTORS["offer"]["digest"],
            sealed.ciphertext,
        )
        self.assertEqual(opened, VECTORS["card_command"]["encoded"])

    def test_whole_payment(self):
        for mtu in MTUS:
            with self.subTest(mtu=mtu):
                # The hello is of MTU 517 (see above); from then on each value is as small as this
                # MTU wants it.
                session = new_session()
                hello(session)
                _, offered = feed(session, answer(mtu))
                session.value_octets = min(mtu - 3, 512)
                payment = session.order(
                    offered, BIOMETRIC, credentials.derive_key(RANDOM["hpke_ikm_e"])
                )
                self.assertEqual(payment.counter, 7)
                name = f"values_at_mtu_{mtu}"
                self.assertEqual(session.open(), VECTORS["opening"]["fragments"][name])
                self.assertEqual(session.open(), [], "once is enough")
                self.assertEqual(
                    session.pay(payment), VECTORS["payment_command"]["fragments"][name]
                )
                self.assertEqual(payment.state, "in_doubt")
                (concluded,) = feed(session, VECTORS["result"]["fragments"][name])
                self.assertIs(concluded.payment, payment)
                self.assertEqual(payment.state, "approved")
                self.assertEqual(payment.receipt, VECTORS["receipt"]["encoded"])
                self.assertEqual(session.acknowledge(), VECTORS["receipt_ack"]["fragments"][name])

    def test_result_query(self):
        session, payment, _ = paying()
        opened = []
        session.channel.seal = lambda plaintext: opened.append(plaintext) or bytes(16)
        session.ask(payment)
        self.assertEqual(opened, [VECTORS["result_query"]["plaintext"]])

    def test_plain_error(self):
        session, payment, _ = paying()
        for mtu in MTUS:
            events = feed(session, VECTORS["plain_error"]["fragments"][f"values_at_mtu_{mtu}"])
            self.assertEqual(events, [phone.Failed("busy", False, "too many phones")])
        self.assertEqual(payment.state, "in_doubt")

    def test_both_forms_of_a_signature(self):
        keys = new_card().keys
        body = keys.open("receipt", "receipt", VECTORS["receipt_with_other_s"], NOW_UNIX_S)
        self.assertEqual(body, VECTORS["receipt"]["body"])
        self.assertNotEqual(VECTORS["receipt_with_other_s"], VECTORS["receipt"]["encoded"])

    def test_low_order_keys(self):
        for low in VECTORS["low_order_keys"]:
            with self.subTest(low.hex()):
                self.assertTrue(noise.is_low_order(low))
                with self.assertRaises(noise.DoesNotOpen):
                    credentials.hpke_seal(low, b"", b"", b"pay", RANDOM["phone_ephemeral_private"])
                initiator = noise.Initiator(b"", RANDOM["phone_ephemeral_private"])
                initiator.write(b"")
                with self.assertRaises(noise.DoesNotOpen):
                    initiator.read(low + bytes(200))
        self.assertFalse(noise.is_low_order(KEYS["channel_public"]))

    def test_keyrings_to_refuse(self):
        credentials.Keyring(VECTORS["keyring"]["encoded"], KEYS["root_public"])
        for vector in VECTORS["keyrings_to_refuse"]:
            with self.subTest(vector["why"]), self.assertRaisesRegex(
                credentials.NotValid, "of the keyring|in the keyring|the keyring has no"
            ):
                credentials.Keyring(vector["keyring"], KEYS["root_public"])

    def test_receipts_to_refuse(self):
        # What this phone says of each: that it refuses for the reason for which it should.
        said = {
            "signed with a key that is not in the keyring": "has no key",
            "signed with the institution's key for terminal certificates": "has no key",
            "an octet of the body was altered": "signature of the receipt is wrong",
            "for another amount": "another amount$",
            "a decline, shown with outcome approved": "another status$",
            "for another transaction": "another transaction id$",
            "for another command": "another command digest$",
        }
        self.assertEqual([text["why"] for text in TEXT["receipts_to_refuse"]], list(said))
        for vector, why in zip(VECTORS["receipts_to_refuse"], said, strict=True):
            with self.subTest(why):
                _, payment, _ = paying()
                result = encode(
                    "Result", transaction_id=TRANSACTION_ID, outcome=1, receipt=vector["receipt"]
                )
                with self.assertRaisesRegex(credentials.NotValid, said[why]):
                    phone.conclude(new_card(), payment, decode("Result", result), NOW_UNIX_S)
                self.assertEqual((payment.state, payment.receipt), ("in_doubt", b""))

    def test_other_results(self):
        ends = {
            "declined": "declined",
            "reversed": "reversed",
            "captured": "captured",
            "captured_and_partly_refunded": "captured",
            "pending": "pending",
            "reversed_without_proof": "in_doubt",
            "taken": "in_doubt",
            "withdrawn": "in_doubt",
            "expired": "in_doubt",
            "not_used_but_another": "not_charged",
            "not_used_and_none": "not_charged",
        }
        self.assertEqual(sorted(ends), sorted(VECTORS["other_results"]))
        for name, state in ends.items():
            with self.subTest(name):
                session, payment, _ = paying()
                session._read(decode("FromTerminal", VECTORS["other_results"][name]))
                self.assertEqual(payment.state, state)
                self.assertEqual(payment.is_open, state in ("in_doubt", "pending"))
                self.assertEqual(payment.refunded_minor, 50 if "refunded" in name else 0)

    def test_exclusions_to_refuse(self):
        said = {
            "it names this very command": "does not leave this command out",
            "for another transaction": "another transaction id$",
            "for another terminal": "another terminal id$",
            "signed with the institution's key for terminal certificates": "has no key",
        }
        self.assertEqual([text["why"] for text in TEXT["exclusions_to_refuse"]], list(said))
        for vector, why in zip(VECTORS["exclusions_to_refuse"], said, strict=True):
            with self.subTest(why):
                _, payment, _ = paying()
                with self.assertRaisesRegex(credentials.NotValid, said[why]):
                    phone.check_exclusion(new_card(), payment, vector["exclusion"], NOW_UNIX_S)

    def test_certificates_to_refuse(self):
        for vector in VECTORS["certificates_to_refuse"]:
            with (
                self.subTest(vector["why"]),
                self.assertRaises((phone.Refused, credentials.UnknownKey)),
            ):
                channel_key = KEYS["channel_public"]
                phone.check_certificate(
                    new_card(), vector["certificate"], channel_key, None, NOW_UNIX_S
                )

    def test_offers_to_refuse(self):
        named = decode("TerminalCertificate", VECTORS["terminal_certificate"]["body"])
        phone.check_offer(new_card(), OFFER, named, None)
        for vector in VECTORS["offers_to_refuse"]:
            with self.subTest(vector["why"]), self.assertRaises(phone.Refused):
                phone.check_offer(new_card(), vector["offer"], named, None)

    def test_fragments_to_refuse(self):
        for vector in VECTORS["fragments_to_refuse"]:
            with self.subTest(vector["why"]), self.assertRaises(phone.FragmentFault):
                joiner = phone.Joiner(RANDOM["tag"])
                for value in vector["values"]:
                    joiner.join(value)

    def test_a_newer_keyring(self):
        session, payment, _ = paying()
        newer = decode("FromTerminal", VECTORS["newer_keyring"])
        self.assertEqual(session._read(newer), [phone.KeyringRenewed()])
        self.assertEqual(session.card.keys.issued_at_unix_s, 1_700_000_001)
        self.assertIsInstance(session._read(newer)[0], phone.Dropped)
        self.assertEqual(payment.state, "in_doubt")


class Terminal:
    """A terminal that says what a test wants it to."""

    def __init__(self, session, first=None, certificate=None, channel=None, versions=(1,)):
        self.session = session
        joiner = phone.Joiner(session.tag)
        for value in session.hello():
            whole = joiner.join(value)
        responder = noise.Responder(
            phone.PROLOGUE, RANDOM["terminal_ephemeral_private"], channel or KEYS["channel_private"]
        )
        responder.read(whole[1][1:])
        body = {
            "versions": versions,
            "certificate": certificate or VECTORS["terminal_certificate"]["encoded"],
            "first": encode("FromTerminal", **(first or {"offer": OFFER})),
        }
        message, self._channel = responder.write(encode("HelloAnswer", **body))
        self.answer = phone.cut(phone.VERSION_OCTET + message, phone.HANDSHAKE, session.tag, 20)

    def greet(self):
        return feed(self.session, self.answer)

    def hear(self, values):
        """What the phone's values say."""
        joiner = phone.Joiner(self.session.tag)
        for value in values:
            whole = joiner.join(value)
            if whole is not None:
                yield decode("FromPhone", self._channel.open(whole[1]))

    def say(self, **message):
        sealed = self._channel.seal(encode("FromTerminal", **message))
        return feed(self.session, phone.cut(sealed, phone.SEALED, self.session.tag, 20))


def signed(key, kind, name, **fields):
    body = encode(name, **fields)
    return encode(
        "Signed",
        body=body,
        signature=credentials.sign(KEYS[f"{key}_private"], kind, body),
        key_id=credentials.digest(KEYS[f"{key}_public"])[:8],
    )


def receipt(status, payment=None, **changes):
    """For the command of the vectors, or of this payment."""
    if payment is not None:
        changes["command_digest"] = credentials.digest(payment.sealed_command)
    fields = dict(vars(decode("Receipt", VECTORS["receipt"]["body"])), status=status)
    fields.update(changes)
    fields.pop("which")
    return signed("receipt", "receipt", "Receipt", **fields)


def exclusion(**changes):
    """For any command but the one that the institution decided on."""
    fields = dict(vars(decode("Exclusion", VECTORS["exclusion"]["body"])), **changes)
    fields.pop("which")
    return signed("receipt", "exclusion", "Exclusion", **fields)


def keyring(issued_at_unix_s, key="root", certificate_key="terminal_certificate"):
    """In which this key signs certificates."""
    fields = vars(decode("Keyring", VECTORS["keyring"]["body"]))
    keys = [dict(vars(one)) for one in fields["keys"]]
    for one in keys:
        one.pop("which")
    public = KEYS[f"{certificate_key}_public"]
    keys[0].update(public_key=public, key_id=credentials.digest(public)[:8])
    return signed(
        key,
        "keyring",
        "Keyring",
        institution_name=fields["institution_name"],
        keys=keys,
        issued_at_unix_s=issued_at_unix_s,
    )


def offer(**changes):
    fields = dict(vars(decode("Offer", OFFER)), **changes)
    fields.pop("which")
    fields["items"] = [
        {name: value for name, value in vars(item).items() if name != "which"}
        if not isinstance(item, dict)
        else item
        for item in fields["items"]
    ]
    return encode("Offer", **fields)


def certificate(key="terminal_certificate", **changes):
    fields = dict(
        vars(decode("TerminalCertificate", VECTORS["terminal_certificate"]["body"])), **changes
    )
    fields.pop("which")
    return signed(key, "terminal-certificate", "TerminalCertificate", **fields)


class BeforeTheOfferIsShown(unittest.TestCase):
    def refuses(self, terminal):
        with self.assertRaises(phone.Refused):
            terminal.greet()

    def test_certificates(self):
        self.assertEqual(len(Terminal(new_session(), certificate=certificate()).greet()), 2)
        # A key that is not in the keyring may be in a newer one.
        for key in ("receipt", "card"):
            waits = Terminal(new_session(), certificate=certificate(key=key))
            self.assertEqual(waits.greet(), [phone.KeyringNeeded()])
        self.refuses(
            Terminal(new_session(), certificate=certificate(not_before_unix_s=NOW_UNIX_S + 1))
        )
        self.refuses(
            Terminal(new_session(), certificate=certificate(not_after_unix_s=NOW_UNIX_S - 1))
        )
        self.assertTrue(
            Terminal(new_session(), certificate=certificate(not_before_unix_s=NOW_UNIX_S)).greet()
        )
        self.assertTrue(
            Terminal(new_session(), certificate=certificate(not_after_unix_s=NOW_UNIX_S)).greet()
        )
        # A certified terminal's certificate, shown by who has not its key.
        self.refuses(Terminal(new_session(), channel=bytes([7]) * 32))
        self.refuses(Terminal(new_session(), versions=(2,)))
        self.assertTrue(Terminal(new_session(), versions=(1, 2)).greet())

    def test_offers(self):
        item = {"name": "Espresso", "quantity": 1, "amount_minor": 250}
        bad = (
            {"transaction_id": bytes(16)},
            {"transaction_id": TRANSACTION_ID[:15]},
            {"terminal_id": "7M3KQ0ZT4W"},
            {"merchant_name": "Kiosk"},
            {"amount_minor": 0},
            {"amount_minor": 1_000_000_000_000},
            {"amount_minor": 5001},
            {"currency": "eur"},
            {"currency": "EURO"},
            {"currency": "USD"},
            {"currency": ""},
            {"valid_for_s": 0},
            {"valid_for_s": 3601},
            {"nonce": b""},
            {"nonce": bytes(17)},
            {"reference": "x" * 65},
            {"reference": "ä" * 33},
            {"reference": "two\nlines"},
            {"reference": "\x85"},
            {"items": [item] * 33},
            {"items": [{**item, "quantity": 0}]},
            {"items": [{**item, "quantity": 10_001}]},
            {"items": [{**item, "name": "x" * 65}]},
            {"items": [{**item, "name": "\x1b[2J"}]},
        )
        for changes in bad:
            with self.subTest(changes=changes):
                self.refuses(Terminal(new_session(), {"offer": offer(**changes)}))
        good = (
            {"amount_minor": 5000},
            {"amount_minor": 1},
            {"valid_for_s": 3600},
            {"reference": "x" * 64},
            {"reference": ""},
            {"reference": "Cafe\u0301 \u2615\ufe0f"},
            {"reference": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"},
            {"reference": "\u091c\u093c\u093f\u0902\u0926\u0917\u0940"},
            {"reference": "\U0001f469\u200d\U0001f373 1\ufe0f\u20e3"},
            {"items": [item] * 32},
            {"items": []},
            {"items": [{**item, "quantity": 10_000}]},
            {"capture_after_dispense": True},
        )
        for changes in good:
            with self.subTest(changes=changes):
                self.assertEqual(
                    len(Terminal(new_session(), {"offer": offer(**changes)}).greet()), 2
                )

    def test_links(self):
        whole = phone.Link.read(TEXT["engagement_link"])
        self.assertEqual(len(Terminal(new_session(link=whole)).greet()), 2)
        for link in (
            phone.Link("7M3KQ0ZT4W", whole.fingerprint),
            phone.Link(whole.terminal_id, "A" + whole.fingerprint[1:]),
            phone.Link(whole.terminal_id, whole.fingerprint, bytes(16)),
        ):
            self.refuses(Terminal(new_session(link=link)))


class NewerKeyrings(unittest.TestCase):
    """The institution changes its keys; phones that were enrolled before hear of it."""

    LATER = 1_700_000_001

    def test_the_opening_is_the_first_message(self):
        session = new_session()
        terminal = Terminal(session)
        terminal.greet()
        (opening,) = terminal.hear(session.open())
        nonce = opening.opening.matching_nonce
        self.assertEqual(opening.opening.keyring_issued_at_unix_s, 1_700_000_000)
        code = phone.matching_code(session.channel.handshake_hash, nonce)
        self.assertRegex(code, "^[0-9]{6}$")
        session = new_session()
        terminal = Terminal(session)
        terminal.greet()
        said = [message.which for message in terminal.hear(session.cancel())]
        self.assertEqual(said, ["opening", "cancel"])

    def test_a_certificate_of_a_new_key(self):
        session = new_session()
        terminal = Terminal(session, certificate=certificate(key="card"))
        self.assertEqual(terminal.greet(), [phone.KeyringNeeded()])
        for worthless in (
            keyring(1_700_000_000, certificate_key="card"),
            keyring(self.LATER, key="card", certificate_key="card"),
            b"",
        ):
            self.assertIsInstance(terminal.say(keyring=worthless)[0], phone.Dropped)
        newer = keyring(self.LATER, certificate_key="card")
        renewed, greeted, offered = terminal.say(keyring=newer)
        self.assertEqual(renewed, phone.KeyringRenewed())
        self.assertEqual(greeted.terminal_id, "7M3KQ0ZT4V")
        self.assertEqual(offered.octets, OFFER)
        self.assertEqual(session.card.keyring, newer)

    def test_a_newer_keyring_revokes(self):
        session = new_session()
        terminal = Terminal(session)
        terminal.greet()
        with self.assertRaises(phone.Refused):
            terminal.say(keyring=keyring(self.LATER, certificate_key="card"))
        session = new_session()
        terminal = Terminal(session, certificate=certificate(key="root"))
        terminal.greet()
        with self.assertRaises(phone.Refused):
            terminal.say(keyring=keyring(self.LATER, certificate_key="card"))


class Results(unittest.TestCase):
    def pay(self, **first):
        session = new_session()
        terminal = Terminal(session, **first)
        offered = terminal.greet()[-1]
        payment = session.order(offered)
        session.pay(payment)
        return terminal, payment

    def result(self, outcome, **fields):
        return {"result": {"transaction_id": TRANSACTION_ID, "outcome": outcome, **fields}}

    def test_declined(self):
        terminal, payment = self.pay()
        self.assertIsInstance(terminal.say(working={})[0], phone.Working)
        declined = receipt(2, payment, decline_reason=8)
        for fields in ({}, {"decline_reason": 0, "receipt": declined}):
            self.assertIsInstance(terminal.say(**self.result(2, **fields))[0], phone.Dropped)
        for fields in (
            {"decline_reason": 9, "receipt": declined},
            {"decline_reason": 15, "receipt": declined},
            {"decline_reason": 8},
        ):
            self.assertIsInstance(terminal.say(**self.result(2, **fields))[0], phone.Unproven)
        self.assertEqual(payment.state, "in_doubt")
        terminal.say(**self.result(2, decline_reason=8, receipt=declined))
        self.assertEqual(
            (payment.state, payment.decline_reason), ("declined", "insufficient_funds")
        )

    def test_declined_for_a_reason_of_a_later_version(self):
        terminal, payment = self.pay()
        terminal.say(
            **self.result(2, decline_reason=99, receipt=receipt(2, payment, decline_reason=99))
        )
        self.assertEqual((payment.state, payment.decline_reason), ("declined", "other"))

    def test_declined_for_another_offer(self):
        for reason, state in ((6, "declined"), (12, "declined"), (8, "in_doubt")):
            terminal, payment = self.pay()
            other = receipt(
                2, payment, decline_reason=reason, offer_digest=bytes(32), amount_minor=1
            )
            terminal.say(**self.result(2, decline_reason=reason, receipt=other))
            self.assertEqual(payment.state, state)
        terminal, payment = self.pay()
        elsewhere = receipt(2, payment, decline_reason=6, terminal_id="7M3KQ0ZT4W")
        self.assertIsInstance(
            terminal.say(**self.result(2, decline_reason=6, receipt=elsewhere))[0], phone.Unproven
        )

    def test_pending_then_approved_then_reversed(self):
        terminal, payment = self.pay()
        terminal.say(**self.result(3))
        self.assertEqual(payment.state, "pending")
        terminal.say(**self.result(1, receipt=receipt(1, payment)))
        self.assertEqual(payment.state, "approved")
        terminal.say(**self.result(3))
        self.assertEqual(payment.state, "approved")
        self.assertIsInstance(terminal.say(**self.result(4))[0], phone.Unproven)
        self.assertIsInstance(
            terminal.say(**self.result(4, receipt=receipt(1, payment)))[0], phone.Unproven
        )
        self.assertEqual(payment.state, "approved")
        terminal.say(**self.result(4, receipt=receipt(3, payment)))
        self.assertEqual(payment.state, "reversed")

    def test_reversed_without_a_receipt_proves_nothing(self):
        terminal, payment = self.pay()
        self.assertIsInstance(terminal.say(**self.result(4))[0], phone.Unproven)
        self.assertEqual((payment.state, payment.receipt), ("in_doubt", b""))

    def test_captured_is_the_last_word_but_for_refunds(self):
        terminal, payment = self.pay()
        part = receipt(4, payment, refunded_minor=50)
        terminal.say(**self.result(5, receipt=part))
        self.assertEqual((payment.state, payment.refunded_minor), ("captured", 50))
        for outcome, worthless in (
            (1, receipt(1, payment)),
            (4, receipt(3, payment)),
            (5, receipt(4, payment)),
            (5, receipt(4, payment, refunded_minor=251)),
        ):
            event = terminal.say(**self.result(outcome, receipt=worthless))[0]
            self.assertIsInstance(event, phone.Unproven)
        terminal.say(**self.result(5, receipt=receipt(4, payment, refunded_minor=250)))
        self.assertEqual((payment.state, payment.refunded_minor), ("captured", 250))

    def test_gone_is_a_word_and_the_proof_may_follow(self):
        for why in ("taken", "withdrawn", "expired"):
            terminal, payment = self.pay()
            terminal.say(**{why: {"transaction_id": bytes(16)}})
            self.assertEqual(payment.state, "in_doubt")
            events = terminal.say(**{why: {"transaction_id": TRANSACTION_ID}})
            self.assertEqual(events, [phone.Gone(why, TRANSACTION_ID)])
            self.assertEqual(payment.state, "in_doubt")
            proof = {"transaction_id": TRANSACTION_ID, "exclusion": exclusion()}
            terminal.say(not_used=proof)
            self.assertEqual((payment.state, payment.exclusion), ("not_charged", exclusion()))

    def test_errors_in_the_channel_end_no_doubt(self):
        for code, name in phone.ERRORS.items():
            terminal, payment = self.pay()
            self.assertEqual(terminal.say(error={"code": code}), [phone.Failed(name, True, "")])
            self.assertEqual(payment.state, "in_doubt", name)

    def test_result_of_another_payment(self):
        terminal, payment = self.pay()
        terminal.say(
            result={"transaction_id": bytes(16), "outcome": 1, "receipt": receipt(1, payment)}
        )
        self.assertEqual(payment.state, "in_doubt")

    def test_coming_back(self):
        _, payment = self.pay()
        gone = {"taken": {"transaction_id": TRANSACTION_ID}}
        for first in (
            {"offer": offer(currency="USD")},
            gone,
            {"error": {"code": 12}},
            {"nothing_to_pay": {}},
        ):
            session = new_session(payment=payment, link=phone.Link.read(TEXT["engagement_link"]))
            terminal = Terminal(session, first)
            self.assertIsInstance(terminal.greet()[0], phone.Greeted)
            self.assertEqual(payment.state, "in_doubt")
            session.ask(payment)
            terminal.say(error={"code": 12})
            self.assertEqual(payment.state, "in_doubt")
        terminal.say(**self.result(1, receipt=receipt(1, payment)))
        self.assertEqual(payment.state, "approved")
        # Another certified terminal of the same institution.
        payment.terminal_id = "7M3KQ0ZT4W"
        with self.assertRaises(phone.Refused):
            session.ask(payment)

    def test_one_counter_for_one_command(self):
        session = new_session()
        offered = Terminal(session).greet()[-1]
        counters = [session.order(offered).counter for _ in range(3)]
        self.assertEqual(counters, [7, 8, 9])


class OnTheAir(unittest.TestCase):
    """Values that are not the phone's, or not what they should be."""

    def test_other_tags_are_ignored(self):
        session = new_session()
        hello(session)
        values = answer(23)
        strays = [bytes([value[0] ^ 1]) + value[1:] for value in values]
        for value, stray in zip(values[:-1], strays, strict=False):
            self.assertEqual(session.receive(stray), [])
            self.assertEqual(session.receive(value), [])
        self.assertEqual(len(session.receive(values[-1])), 2)

    def test_what_does_not_open_is_dropped(self):
        session = new_session()
        hello(session)
        other = bytearray(VECTORS["hello_answer"]["fragments"]["message"])
        for place in (1, 40, 100, len(other) - 1):
            altered = bytes(other[:place]) + bytes([other[place] ^ 1]) + bytes(other[place + 1 :])
            self.assertIsInstance(
                feed(session, phone.cut(altered, 0, session.tag, 20))[0], phone.Dropped
            )
        self.assertIsInstance(
            feed(session, phone.cut(b"\1" + bytes(32), 0, session.tag, 20))[0], phone.Dropped
        )
        self.assertEqual(len(feed(session, answer(517))), 2)
        session, payment, _ = paying()
        self.assertIsInstance(
            feed(session, phone.cut(bytes(60), 1, session.tag, 20))[0], phone.Dropped
        )
        feed(session, VECTORS["result"]["fragments"]["values_at_mtu_517"])
        self.assertEqual(payment.state, "approved")

    def test_faults(self):
        message = bytes(range(100))
        good = phone.cut(message, 1, 5, 20)
        first_of_kind_3 = [bytes([good[0][0] | 0x30]) + good[0][1:]]
        faults = {
            "gap": good[:2] + good[3:],
            "repeat": good[:2] + good[1:],
            "without a first": good[1:2],
            "too early an end": good[:2] + [bytes([good[2][0] | 0x40]) + good[2][1:]],
            "no end": good[:-1] + [bytes([good[-1][0] & ~0x40]) + good[-1][1:]],
            "too much": good[:-1] + [good[-1] + b"x"],
            "kind 3": first_of_kind_3,
            "empty following": good[:1] + [good[1][:1]],
            "all of it, not last": [bytes([0x95, 0, 2, 1, 2])],
            "too long a message": [bytes([0x95, 0x40, 0x01, 1])],
            "no length": [bytes([0x95, 0])],
            "empty": [b""],
            "too long a value": [bytes([0xD5]) + bytes(512)],
        }
        for name, values in faults.items():
            with self.subTest(name):
                joiner = phone.Joiner(5)
                with self.assertRaises(phone.FragmentFault):
                    for value in values:
                        joiner.join(value)
                # A first inside a message begins the next.
                joiner.join(good[0])
                for value in good[:-1]:
                    self.assertIsNone(joiner.join(value))
                self.assertEqual(joiner.join(good[-1]), (1, message))

    def test_lengths(self):
        for size in (0, 1, 18, 19, 20, 36, 37, 55, 510, 511, 512, 16_384):
            for value_octets in (20, 182, 512):
                message = bytes(size)
                values = phone.cut(message, 1, 9, value_octets)
                self.assertLessEqual(max(len(value) for value in values), value_octets)
                joiner = phone.Joiner(9)
                whole = [joiner.join(value) for value in values]
                self.assertEqual(whole, [None] * (len(values) - 1) + [(1, message)])


if __name__ == "__main__":
    unittest.main()
