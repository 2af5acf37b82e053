#!/usr/bin/env python3
"""Pays at a terminal over Bluetooth and prints what came of it as one line of JSON. Exit code 0:
approved or captured; 1: anything else.

With --visits it stays, reads the options of one visit from each line of standard input, and answers
each with such a line."""

import argparse
import asyncio
import json
import shlex
import sys
import time
import uuid

import wallet
from bumble_link import Lost, NotFound, Radio
from messages import Malformed, decode
from phone import (
    Concluded,
    Dropped,
    Failed,
    Gone,
    Greeted,
    KeyringNeeded,
    KeyringRenewed,
    Link,
    NothingToPay,
    Offered,
    RETRYABLE_ERRORS,
    RETRIES_MAX,
    Refused,
    Session,
    Unproven,
    Working,
)

# Longer than a person with a phone would wait: emulated machines are slow.
ANSWER_S = 20
WORKING_S = 10
OFFER_S = 60
PENDING_S = 15
# After these an honest terminal goes on to ask the institution for a proof.
PROOF_FOLLOWS = ("institution_unreachable", "institution_refused")


def brief(event):
    """For the log: the event's name and its short fields."""
    fields = {name: value for name, value in vars(event).items() if isinstance(value, (str, bool))}
    return f"{type(event).__name__} {fields}" if fields else type(event).__name__


class Phone:
    """One visit to a terminal, over as many connections as it takes."""

    def __init__(self, radio, arguments):
        self.radio = radio
        self.arguments = arguments
        self.card = wallet.load(arguments.card)
        self.link = Link.read(arguments.link) if arguments.link else None
        self.short_code = self.link.short_code if self.link else arguments.code
        self.payment = None
        self.report = {"outcome": "not_paid", "receipt_verified": False}
        self.began = time.monotonic()

    def log(self, text):
        print(f"{time.monotonic() - self.began:7.3f} {text}", file=sys.stderr, flush=True)

    async def visit(self):
        earlier = self.arguments.result or self.arguments.again
        if earlier:
            self.payment = wallet.load_payment(self.arguments.card, uuid.UUID(earlier).bytes)
        for _ in range(RETRIES_MAX):
            try:
                await self._connect()
                break
            except Lost as error:
                self.log(f"link lost: {error}")
                self.report["link_lost"] = str(error)
                # A link that fails before it is used may be tried again; and a doubt is to be
                # ended. A pending payment may take days.
                unused = (
                    self.payment is None
                    and "matching_code" not in self.report
                    and not isinstance(error, NotFound)
                )
                if not unused and (self.payment is None or self.payment.state != "in_doubt"):
                    break
            except Refused as error:
                self.log(f"refused: {error}")
                self.report["refused"] = str(error)
                break
        return self._outcome()

    async def _connect(self):
        address = await self.radio.find(self.short_code)
        self.log(f"found {address}")
        options = self.arguments
        connection = await self.radio.connect(
            address, options.mtu, options.with_response, options.read_info
        )
        self.log(f"connected, subscribed, {connection.value_octets} octets in a value at most")
        if connection.info is not None:
            info = decode("Info", bytes(connection.info))
            self.report["info"] = {"terminal_id": info.terminal_id, "versions": info.versions}
        session = Session(self.card, self.link, connection.value_octets, payment=self.payment)
        self.report["value_octets"] = session.value_octets
        try:
            await connection.write(session.hello())
            await self._talk(connection, session)
        finally:
            await connection.close()

    async def _talk(self, connection, session):
        """Until there is nothing more to wait for."""
        timeout_s, hellos = ANSWER_S, 1
        while True:
            for event in session.receive(await connection.next_value(timeout_s)):
                self.log(brief(event))
                if isinstance(event, KeyringNeeded):
                    await connection.write(session.open())
                elif isinstance(event, KeyringRenewed):
                    wallet.save(self.arguments.card, self.card)
                    self.report["keyring_renewed"] = True
                elif isinstance(event, Greeted):
                    await connection.write(session.open())
                    self.report.update(
                        merchant=event.merchant_name, matching_code=event.matching_code
                    )
                    if self.payment is not None:
                        message = session.pay if self.arguments.again else session.ask
                        await connection.write(message(self.payment))
                elif isinstance(event, NothingToPay):
                    timeout_s = OFFER_S
                elif isinstance(event, Offered):
                    if self.arguments.cancel:
                        await connection.write(session.cancel())
                        return
                    await self._pay(connection, session, event)
                    timeout_s = WORKING_S
                    if self.arguments.vanish:
                        return
                elif isinstance(event, Concluded):
                    wallet.save_payment(self.arguments.card, self.payment)
                    if self.payment.receipt or self.payment.exclusion:
                        await connection.write(session.acknowledge())
                    if self.payment.state != "pending":
                        return
                    # A further result may follow, but nothing says when.
                    timeout_s = PENDING_S
                elif isinstance(event, Unproven):
                    self.report["unproven"] = event.why
                    return
                elif isinstance(event, Gone):
                    self.report["why"] = event.why
                    if self.payment is None or not self.payment.is_open:
                        return
                    # The proof may follow.
                    timeout_s = PENDING_S
                elif isinstance(event, Failed):
                    self.report.update(error=event.error, error_in_channel=event.in_channel)
                    if event.error in RETRYABLE_ERRORS and hellos < RETRIES_MAX:
                        hellos += 1
                        await connection.write(session.hello())
                        continue
                    if self.payment is None or event.error not in PROOF_FOLLOWS:
                        return
                    timeout_s = PENDING_S
                else:
                    assert isinstance(event, (Working, Dropped))

    async def _pay(self, connection, session, offered):
        # Whoever called this with --card and a terminal has consented; a real phone shows the offer
        # and asks.
        await asyncio.sleep(self.arguments.consent_after)
        self.payment = session.order(offered)
        wallet.save(self.arguments.card, self.card)
        wallet.save_payment(self.arguments.card, self.payment)
        self.log(f"paying with counter {self.payment.counter}")
        if self.arguments.vanish != "before":
            await connection.write(session.pay(self.payment))

    def _outcome(self):
        report = self.report
        if self.payment is not None:
            offer = decode("Offer", self.payment.offer)
            state = self.payment.state
            report.update(
                outcome="pending" if state == "in_doubt" else state,
                # No receipt is ever kept that was not verified.
                receipt_verified=bool(self.payment.receipt),
                transaction_id=str(uuid.UUID(bytes=offer.transaction_id)),
                amount_minor=offer.amount_minor,
                currency=offer.currency,
                counter=self.payment.counter,
            )
            if self.payment.decline_reason:
                report["decline_reason"] = self.payment.decline_reason
        report["seconds"] = round(time.monotonic() - self.began, 2)
        return report


def visit_parser(**options):
    """What may be said of one visit."""
    parser = argparse.ArgumentParser(**options)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--code", help="the terminal's short code")
    where.add_argument("--link", help="the terminal's engagement link")
    where.add_argument("--visits", action="store_true", help="read the visits from standard input")
    parser.add_argument("--card", required=True, help="the file that enrol.py wrote")
    parser.add_argument(
        "--controller",
        default="hci-socket:0",
        help="as Bumble names it (default: %(default)s); it must be down",
    )
    parser.add_argument(
        "--result", metavar="TRANSACTION", help="pay nothing: ask what became of a payment"
    )
    parser.add_argument(
        "--again", metavar="TRANSACTION", help="send the command of an earlier payment again"
    )
    parser.add_argument(
        "--mtu",
        type=int,
        default=517,
        help="to ask for (default: %(default)s); 23: not to ask at all",
    )
    parser.add_argument("--with-response", action="store_true", help="write with response")
    parser.add_argument(
        "--read-info", action="store_true", help="read the info characteristic, too"
    )
    parser.add_argument(
        "--consent-after",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long the person takes",
    )
    parser.add_argument("--cancel", action="store_true", help="look at the offer, and cancel")
    parser.add_argument(
        "--vanish",
        choices=("before", "after"),
        help="be gone: the command is stored but not sent, or sent",
    )
    return parser


async def visits(parser, arguments):
    """The report of each visit, as it ends."""
    async with Radio.open(arguments.controller) as radio:
        print("the controller is up", file=sys.stderr, flush=True)
        if not arguments.visits:
            yield await Phone(radio, arguments).visit()
            return
        while line := await asyncio.to_thread(sys.stdin.readline):
            words = ["--card", arguments.card, *shlex.split(line)]
            yield await Phone(radio, parser.parse_args(words)).visit()


async def run():
    parser = visit_parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments = parser.parse_args()
    approved = True
    async for report in visits(parser, arguments):
        print(json.dumps(report), flush=True)
        approved = report["outcome"] in ("approved", "captured")
    return 0 if approved else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(run()))
    except (Lost, Malformed) as error:
        sys.exit(f"pay: {error}")
