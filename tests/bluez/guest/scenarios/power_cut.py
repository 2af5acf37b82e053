"""Payments without end, over which the power is cut: `run power-cut --cuts N` boots this again and
again on the same disks.

Terminal, phone and till have the state disk, the institution has one of its own, and a cut takes
both, with what was not flushed. Of what till and phone were told there is a record beyond the
power's reach: on the host."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import sqlite3
import subprocess
import time

from harness import INPUT, Failure, scenario
from kiosk import Kiosk, Wallet

BANK_DISK = pathlib.Path("/florin-test/bank")
# Fixed, as the enrolments know it.
PORT = 7443
BALANCE = "1000000.00"
BALANCE_MINOR = 100_000_000
PRICE_MINOR = 250
# Emulated, and beside other work: for a payment, and for what was left of the one before to be
# settled.
TIMEOUT = 120


@scenario(controllers=2, by_name=True, keeps=True, seconds=1200)
def power_cut(bed):
    """The power is cut at random moments of payments (run with --cuts); then everything settles and
    agrees."""
    mount_bank_disk()
    is_new = not (bed.directory / "set-up").exists()
    kiosk = Installation(bed, is_new)
    till = Till(bed, kiosk)
    if is_new:
        (bed.directory / "set-up").touch()
        os.sync()
    else:
        # Before the terminal runs, which might mend it: what was released is approved in the
        # journal as the cut left it.
        till.check_released(kiosk.wreck)
    till.settle()
    counts = till.check()
    say(f"settled: {counts}")
    bed.note(counts)
    if (bed.results / "last").exists():
        return
    say("paying")
    while True:
        till.sell()


def say(text):
    """On the report, which the host reads as it is written."""
    print(f"power-cut: {text}", flush=True)


def mount_bank_disk():
    for block in pathlib.Path("/sys/block").glob("vd*"):
        serial = block / "serial"
        if serial.exists() and serial.read_text().strip() == "bank":
            BANK_DISK.mkdir(exist_ok=True)
            subprocess.run(
                ["mount", "-t", "ext4", "-o", "noatime", f"/dev/{block.name}", BANK_DISK],
                check=True,
            )
            return
    raise Failure("there is no disk for the bank; run this with --cuts")


class Phone(Wallet):
    """The phone; its wallet is on the state disk, and loses power too."""

    def __init__(self, kiosk, controller, is_new):
        if is_new:
            super().__init__(kiosk, 1, controller)
        else:
            self.kiosk, self.bed, self.controller = kiosk, kiosk.bed, controller
            self.directory, self.name = pathlib.Path(kiosk.bed.directory) / "wallet-1", "wallet-1"

    def receipts(self):
        binary = self.bed.binary("florin-wallet")
        listed = self.bed.run(binary, "--directory", self.directory, "--json", "receipts")
        return [json.loads(line) for line in listed.stdout.splitlines()]


class Installation(Kiosk):
    """A kiosk that outlives its power."""

    def __init__(self, bed, is_new):  # pylint: disable=super-init-not-called
        self._arrange(bed, BANK_DISK / "bank")
        self.wreck = None
        if is_new:
            self._institution_command("init", "--name", "Example Bank", "--host-name", "localhost")
            account = (
                "account",
                "create",
                "--name",
                "Alice",
                "--currency",
                "EUR",
                "--balance",
                BALANCE,
            )
            self.account = self._institution_command(*account)["account"]
            self.start_institution(PORT)
            self._enrol_terminal(
                "[institution]\nretry_backoff_min_ms = 200\nretry_backoff_max_ms = 2000\n"
            )
            self.short_code_file.write_text(self.short_code)
        else:
            # As the cut left it: a copy, since to read it is to mend it.
            self.wreck = pathlib.Path("/run/florin-test-wreck")
            subprocess.run(["cp", "--recursive", self.state, self.wreck], check=True)
            self.short_code = self.short_code_file.read_text()
            self.start_institution(PORT)
        self.serve()
        self.phone = Phone(self, self.controllers[1], is_new)

    @property
    def short_code_file(self):
        return self.bed.directory / "short-code"

    def bank_rows(self):
        """Every transaction of the institution: id, state, amount and currency."""
        statement = (
            "SELECT lower(hex(id)) AS id, state, amount_minor, currency FROM payment_transaction"
        )
        return self.bed.query(self.bank / "institution.sqlite", statement)

    def journal_rows(self):
        statement = (
            "SELECT lower(hex(transaction_id)) AS id, state, reason, amount_minor, currency "
            "FROM payments ORDER BY number"
        )
        return self.bed.query(self.journal, statement)

    def check_ledger(self, captured_minor):
        """The ledger is right in itself, and the merchant is owed what the journal says was
        captured."""
        report = self._institution_command("ledger", "check")
        self.bed.equal("the ledger", (report["balanced"], report["faults"]), (True, []))
        sums = {"available": 0, "held": 0, "payable": 0}
        for balance in report["balances"]:
            if balance["kind"] in sums:
                sums[balance["kind"]] += balance["balance_minor"]
        expected = {
            "available": BALANCE_MINOR - captured_minor,
            "held": 0,
            "payable": captured_minor,
        }
        self.bed.equal("the ledger's balances", sums, expected)


class Till:
    """A till that sells one thing after the other, and remembers on the host what it was told and
    what it did.

    A line of its record is one of: {"sale", "capture", "dispensed"}, before it offers; {"sale",
    "id", "state", "release", "final"}, what it was told, before it acts on it; {"sale", "id",
    "goods": true}, before it releases."""

    def __init__(self, bed, kiosk):
        self.bed, self.kiosk = bed, kiosk
        self.path = bed.results / "till.log"
        self.sales = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                # The last may be half there.
                if line.endswith("}"):
                    self._take(json.loads(line))
        # By the run's seed, and in each life otherwise than in the one before.
        self.chance = random.Random(f"{(INPUT / 'seed').read_text().strip()} {len(self.sales)}")
        self.file = open(self.path, "ab", buffering=0)
        self.file.write(b"\n")

    def _take(self, entry):
        sale = self.sales.setdefault(
            entry["sale"], {"number": entry["sale"], "id": None, "told": [], "goods": False}
        )
        if "capture" in entry:
            sale.update(capture=entry["capture"], dispensed=entry["dispensed"])
        elif "goods" in entry:
            sale["goods"] = True
        else:
            sale["id"] = entry["id"]
            sale["told"].append((entry["state"], entry["release"], entry["final"]))

    def _write(self, **entry):
        # One call, which returns when the host has it.
        self.file.write(json.dumps(entry).encode() + b"\n")
        self._take(entry)

    # The till API

    def _call(self, method, path, body=None, key=None):
        """Status and JSON; asks again while the terminal cannot be reached."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        end = time.monotonic() + TIMEOUT
        while True:
            connection = http.client.HTTPConnection("localhost", timeout=90)
            connection.sock = socket.socket(socket.AF_UNIX)
            try:
                connection.sock.settimeout(90)
                connection.sock.connect(str(self.bed.directory / "till.sock"))
                connection.request(
                    method, path, json.dumps(body) if body is not None else None, headers
                )
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 503:
                    return answer.status, json.loads(text) if text else None
                problem = text
            except (OSError, http.client.HTTPException) as error:
                problem = error
            finally:
                connection.close()
            if time.monotonic() > end:
                raise Failure(f"the till gets no answer to {method} {path}: {problem}")
            time.sleep(0.1)

    def _payment(self, sale, method, path, body=None, key=None):
        """The payment as it is now; what it says is written down before anything is made of it."""
        status, payment = self._call(method, path, body, key)
        if status not in (200, 201):
            raise Failure(
                f"sale {sale['number']}: {method} {path} is answered with {status}: {payment}"
            )
        told = (payment["state"], payment["release"], payment["final"])
        if not sale["told"] or sale["told"][-1] != told:
            state, release, final = told
            identity = payment["transaction_id"].replace("-", "")
            self._write(sale=sale["number"], id=identity, state=state, release=release, final=final)
        if payment["release"] and not sale["goods"] and sale["dispensed"]:
            self._write(sale=sale["number"], id=sale["id"], goods=True)
        return payment

    def _follow(self, sale, phone=None):
        """To its end. Without a phone an offer is taken back."""
        body = {
            "amount_minor": PRICE_MINOR,
            "currency": "EUR",
            "capture": sale["capture"],
            "reference": f"sale {sale['number']}",
        }
        if sale["id"] is None:
            payment = self._payment(sale, "POST", "/v1/payments", body, f"sale-{sale['number']}")
        else:
            payment = self._payment(sale, "GET", f"/v1/payments/{path_of(sale)}")
        if phone is not None:
            phone = phone()
        end = time.monotonic() + TIMEOUT
        while not payment["final"]:
            path = f"/v1/payments/{path_of(sale)}"
            if payment["state"] == "approved":
                payment = self._payment(
                    sale, "POST", f"{path}/complete", {"dispensed": sale["dispensed"]}
                )
            elif payment["state"] == "offered" and (phone is None or phone.exit_code is not None):
                status, _ = self._call("POST", f"{path}/cancel", {})
                if status not in (200, 409):
                    raise Failure(f"sale {sale['number']}: cancelling is answered with {status}")
                payment = self._payment(sale, "GET", path)
            else:
                payment = self._payment(sale, "GET", f"{path}?wait_s=2&until=final")
            if time.monotonic() > end:
                raise Failure(f"sale {sale['number']} is not settled: {payment}")
        return phone

    def sell(self):
        number = len(self.sales) + 1
        capture = self.chance.choice(["at_once", "after_dispense"])
        # What is taken at once is released at once; goods that fail to come out are given back.
        dispensed = capture == "at_once" or self.chance.random() < 0.8
        self._write(sale=number, capture=capture, dispensed=dispensed)
        options = ["--vanish-after-command"] if self.chance.random() < 0.15 else []
        phone = self._follow(
            self.sales[number],
            lambda: self.kiosk.phone.start_paying("--wait-ms", "60000", *options),
        )
        phone.wait(TIMEOUT, exit_code=None)

    # After a cut

    def settle(self):
        """Goes on with what was under way; then nothing is open any more."""
        for sale in list(self.sales.values()):
            if not (sale["told"] and sale["told"][-1][2]):
                self._follow(sale)
        self.bed.wait_until(
            "every payment to be settled",
            lambda: self._call("GET", "/v1/payments?open=true")[1]["payments"] == [],
            TIMEOUT,
            0.2,
        )

    def check_released(self, wreck):
        """What the till was told to release is approved, durably, at the moment of the cut."""
        states = {row["id"]: row["state"] for row in rows_of_wreck(wreck / "journal.sqlite")}
        for sale in self.sales.values():
            if any(release for _, release, _ in sale["told"]):
                state = states.get(sale["id"])
                if state not in ("approved", "capturing", "captured", "reversing", "reversed"):
                    raise Failure(
                        f"sale {sale['number']} ({sale['id']}) was told to be released; "
                        f"the journal says {state}"
                    )

    def check(self):
        """Till, journal, ledger and phone against each other; how many payments ended how."""
        journal = {row["id"]: row for row in self.kiosk.journal_rows()}
        bank = {row["id"]: row for row in self.kiosk.bank_rows()}
        wrong = []
        for sale in self.sales.values():
            number, told = sale["number"], sale["told"]
            row = journal.get(sale["id"])
            if row is None:
                wrong.append(
                    f"sale {number}: {sale['id']} was told to the till, "
                    "and the journal does not know it"
                )
                continue
            finals = [view for view in told if view[2]]
            if not finals or finals[0] != told[-1] or finals[0][0] != row["state"]:
                wrong.append(f"sale {number}: told {told}, journal {row}")
            if sale["goods"] != (row["state"] == "captured"):
                wrong.append(
                    f"sale {number}: goods released: {sale['goods']}, journal {row}; told {told}"
                )
        for identity, row in journal.items():
            at_bank = bank.get(identity, {"state": None, "amount_minor": None, "currency": None})
            same_money = (at_bank["amount_minor"], at_bank["currency"]) == (
                row["amount_minor"],
                row["currency"],
            )
            agrees = {
                "captured": at_bank["state"] == "captured" and same_money,
                "reversed": at_bank["state"] == "reversed",
                "declined": at_bank["state"] == "declined",
            }.get(row["state"], at_bank["state"] is None)
            if not agrees:
                wrong.append(f"journal {row}, ledger {at_bank}")
        wrong.extend(
            f"the ledger alone knows {row}"
            for identity, row in bank.items()
            if identity not in journal
        )

        captured = [row for row in journal.values() if row["state"] == "captured"]
        captured_minor = sum(row["amount_minor"] for row in captured)
        self.kiosk.check_ledger(captured_minor)
        for receipt in self.kiosk.phone.receipts():
            state = journal.get(receipt["transaction_id"].replace("-", ""), {}).get("state")
            allowed = {
                "approved": ("captured", "reversed"),
                "captured": ("captured",),
                "declined": ("declined",),
                "reversed": ("reversed",),
                "pending": (state,),
                "not_proven": (state,),
            }.get(receipt["outcome"], ("reversed", "expired", "cancelled", "not_charged", None))
            if state not in allowed or (
                receipt["outcome"] in ("approved", "captured") and not receipt["receipt_verified"]
            ):
                wrong.append(f"the phone has {receipt}, the journal says {state}")
        if wrong:
            raise Failure("the promises do not hold: " + "; ".join(wrong))
        states = [row["state"] for row in journal.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        payments = f"{len(states)} payments ({counts or 'none yet'})"
        return f"{payments}, {captured_minor} minor units captured"


def rows_of_wreck(journal):
    """Opened for writing: what is in the write-ahead log is taken in."""
    if not journal.exists():
        return []
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        connection.row_factory = sqlite3.Row
        return [
            dict(row)
            for row in connection.execute(
                "SELECT lower(hex(transaction_id)) AS id, state FROM payments"
            )
        ]


def path_of(sale):
    text = sale["id"]
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
