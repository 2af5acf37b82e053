"""A whole installation in a scenario's directory: institution, terminal on the first controller, a
wallet for each other."""

import json
import pathlib

# What every account starts with.
BALANCE = "20.00"
BALANCE_MINOR = 2000


class Kiosk:
    """The parties, enrolled and running."""

    def __init__(self, bed, wallets=1, configuration="", phones_max=None, user=None, serves=True):
        """user: whom the terminal runs as, instead of root; serves: whether it is started."""
        self._arrange(bed, bed.directory / "bank", user)
        self._institution_command("init", "--name", "Example Bank", "--host-name", "localhost")
        self.account = self._institution_command(
            "account", "create", "--name", "Alice", "--currency", "EUR", "--balance", BALANCE
        )["account"]
        self.start_institution()
        self._enrol_terminal(configuration, phones_max)
        self.terminal = None
        if serves:
            self.serve()
        self.wallets = [
            Wallet(self, number, controller)
            for number, controller in enumerate(bed.controllers[1 : wallets + 1], start=1)
        ]

    def _arrange(self, bed, bank, user=None):
        """Where everything is, and whom the terminal runs as."""
        self.bed, self.user = bed, user
        self.controllers = bed.controllers
        self.bank = bank
        self.root = self.bank / "root.pem"
        self.state = bed.directory / "terminal"
        self.journal = self.state / "journal.sqlite"
        self.till = f"unix:{bed.directory / 'till.sock'}"
        self.configuration = bed.directory / "florin.toml"

    def _institution_command(self, *words):
        binary = self.bed.binary("florin-acquirer")
        return self.bed.run_json(binary, "--directory", self.bank, "--json", *words)

    def add_card(self):
        """A card of the common account; its enrolment code."""
        return self._institution_command(
            "card", "add", "--account", self.account, "--limit", "50.00"
        )["code"]

    def start_institution(self, port=0):
        binary = self.bed.binary("florin-acquirer")
        self.institution = self.bed.start(
            "institution",
            binary,
            "--directory",
            self.bank,
            "--json",
            "serve",
            "--listen",
            f"127.0.0.1:{port}",
        )
        self.port = int(self.institution.expect(r'"address":"127\.0\.0\.1:(\d+)"')[1])
        self.url = f"https://localhost:{self.port}"

    def _enrol_terminal(self, configuration, phones_max=None):
        places = f"phones_max = {phones_max}\n" if phones_max else ""
        self.configuration.write_text(
            f'[terminal]\nstate_directory = "{self.state}"\nvolatile_state = "allow"\n'
            f'[bluetooth]\nadapter = "{self.controllers[0].name}"\n{places}'
            f'[till]\nlisten = "{self.till}"\n{configuration}'
        )
        added = self._institution_command(
            "terminal", "add", "--merchant-id", "kiosk-1", "--merchant-name", "Corner Kiosk"
        )
        self.terminal_id, self.short_code = added["terminal"], added["short_code"]
        self.bed.run(
            self.bed.binary("florin"),
            "enrol",
            "--configuration",
            self.configuration,
            "--institution",
            self.url,
            "--root",
            self.root,
            added["code"],
        )
        if self.user:
            # The state is the user's alone; the directory gets the till's socket.
            self.bed.run("chown", "--recursive", f"{self.user}:", self.state)
            self.bed.run("chown", f"{self.user}:", self.bed.directory)

    def enrol_again(self):
        """Enrols the terminal anew, under the running service."""
        code = self._institution_command("terminal", "code", self.terminal_id)["code"]
        self.bed.run(
            self.bed.binary("florin"),
            "enrol",
            "--replace",
            "--configuration",
            self.configuration,
            "--institution",
            self.url,
            "--root",
            self.root,
            code,
        )

    def as_user(self, *command):
        """The command, run by the terminal's user."""
        if not self.user:
            return command
        return (
            "setpriv",
            f"--reuid={self.user}",
            f"--regid={self.user}",
            "--clear-groups",
            *command,
        )

    def serve(self):
        """Starts the terminal and waits until phones can find it."""
        begin = self.bed.clock()
        self.start_terminal()
        self.terminal.expect(r"phones can find this terminal")
        return self.bed.clock() - begin

    def start_terminal(self):
        command = self.as_user(
            self.bed.binary("florin"), "serve", "--configuration", self.configuration
        )
        self.terminal = self.bed.start("terminal", *command)

    def status(self):
        """What the terminal says of itself."""
        command = (self.bed.binary("florin"), "status", "--json", "--till", self.till)
        return self.bed.run(*command, exit_code=None).json()

    def metrics(self):
        """The terminal's figures, {"florin_bluetooth_up": 1.0,
        'florin_payments_finished_total{state="captured"}': 2.0}."""
        said = self.bed.run(self.bed.binary("florin"), "metrics", "--till", self.till).stdout
        lines = [
            line.rsplit(" ", 1) for line in said.splitlines() if line and not line.startswith("#")
        ]
        return {name: float(value) for name, value in lines}

    def offer(self, amount="2.50", *options, must_live=False):
        """Starts `florin pay` as the till and waits until the offer stands."""
        till = self.bed.start(
            "till",
            self.bed.binary("florin"),
            "pay",
            amount,
            "EUR",
            "--json",
            "--till",
            self.till,
            *options,
            must_live=must_live,
        )
        till.expect(r'"state":"offered"')
        return till

    def payments(self):
        """Every payment of the journal: state and reason, in order."""
        rows = self.bed.query(self.journal, "SELECT state, reason FROM payments ORDER BY number")
        return [tuple(row.values()) for row in rows]

    def wait_for_payments(self, *expected):
        self.bed.wait_until(
            f"the journal to hold {expected}", lambda: self.payments() == list(expected), 30
        )

    def check_books(self, captured_minor, held_minor=0):
        """The ledger is right in itself, and says what the payments came to."""
        report = self._institution_command("ledger", "check")
        self.bed.equal("the ledger", report["balanced"], True)
        balances = {"available": 0, "held": 0, "payable": 0}
        for balance in report["balances"]:
            if balance["kind"] in balances:
                balances[balance["kind"]] += balance["balance_minor"]
        self.bed.equal("held", balances["held"], held_minor)
        self.bed.equal("owed to the merchant", balances["payable"], captured_minor)
        self.bed.equal(
            "left in the account",
            balances["available"],
            BALANCE_MINOR - captured_minor - held_minor,
        )

    def transactions(self):
        """Every transaction of the institution, newest first: state and decline reason."""
        binary = self.bed.binary("florin-acquirer")
        listed = self.bed.run(binary, "--directory", self.bank, "--json", "transaction", "list")
        return [json.loads(line) for line in listed.stdout.splitlines() if line]


class Wallet:
    """One phone: a wallet and a controller of its own, and a card of the common account."""

    def __init__(self, kiosk, number, controller):
        self.kiosk, self.bed, self.controller = kiosk, kiosk.bed, controller
        self.directory = pathlib.Path(kiosk.bed.directory) / f"wallet-{number}"
        self.name = f"wallet-{number}"
        self.bed.run(
            self.bed.binary("florin-wallet"),
            "--directory",
            self.directory,
            "enrol",
            "--institution",
            kiosk.url,
            "--root",
            kiosk.root,
            kiosk.add_card(),
        )

    def start(self, *words):
        return self.bed.start(
            self.name,
            self.bed.binary("florin-wallet"),
            "--directory",
            self.directory,
            "--json",
            *words,
            "--adapter",
            self.controller.name,
            must_live=False,
        )

    def start_paying(self, *options):
        return self.start("pay", "--code", self.kiosk.short_code, "--yes", *options)

    def pay(self, *options, exit_code=0):
        """Pays at the kiosk, and returns the outcome."""
        return self.start_paying(*options).wait(60, exit_code=exit_code).json()

    def ask(self, transaction_id, exit_code=0):
        """Asks what became of a payment."""
        asking = self.start("result", transaction_id, "--code", self.kiosk.short_code)
        return asking.wait(60, exit_code=exit_code).json()

    def ask_the_bank(self, transaction_id, exit_code=0):
        """Asks the institution what became of a payment."""
        asking = self.start("result", transaction_id, "--online")
        return asking.wait(60, exit_code=exit_code).json()
