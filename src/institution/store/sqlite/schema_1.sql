-- Version 1. Money is in minor units. Times are seconds since 1970-01-01T00:00:00Z by the
-- institution's clock.

CREATE TABLE terminal (
  id TEXT PRIMARY KEY CHECK (length(id) = 10),
  merchant_id TEXT NOT NULL,
  merchant_name TEXT NOT NULL,
  -- Since when it is blocked.
  blocked_at INTEGER,
  -- Set at enrolment. The client key is kept as SHA-256 of its public half: a newer enrolment
  -- replaces the older key, which is then refused.
  channel_key BLOB CHECK (length(channel_key) = 32),
  client_key_digest BLOB CHECK (length(client_key_digest) = 32),
  certificate_not_after INTEGER,
  -- A renewed client certificate that was not used yet. Its first use makes it the only one.
  next_client_key_digest BLOB CHECK (length(next_client_key_digest) = 32),
  next_certificate_not_after INTEGER,
  -- Since when it is known to run on two machines: they gave one number to two transactions. The
  -- numbers count within an era, which a new enrolment or an operator's decision begins.
  copied_at INTEGER,
  sequence_era INTEGER NOT NULL DEFAULT 1,
  created_at INTEGER NOT NULL,
  CHECK ((next_client_key_digest IS NULL) = (next_certificate_not_after IS NULL)),
  CHECK ((channel_key IS NULL) = (client_key_digest IS NULL)),
  CHECK ((channel_key IS NULL) = (certificate_not_after IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE card (
  id BLOB PRIMARY KEY CHECK (length(id) = 16),
  account INTEGER NOT NULL REFERENCES account (id),
  blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
  payment_limit_minor INTEGER NOT NULL CHECK (payment_limit_minor > 0),
  -- Above this amount the phone has to ask for a passcode or a biometric trait.
  verification_limit_minor INTEGER NOT NULL CHECK (verification_limit_minor >= 0),
  -- The highest counter of a command with a good signature. It only moves up.
  counter INTEGER NOT NULL DEFAULT 0 CHECK (counter >= 0),
  -- Set at enrolment: P-256, SEC1 uncompressed.
  public_key BLOB CHECK (length(public_key) = 65),
  not_after INTEGER,
  created_at INTEGER NOT NULL,
  CHECK ((public_key IS NULL) = (not_after IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX card_by_account ON card (account);

CREATE TRIGGER card_counter_only_grows BEFORE UPDATE OF counter ON card
WHEN new.counter < old.counter
BEGIN
  SELECT RAISE(ABORT, 'a card counter only moves up');
END;

-- One-time codes, by SHA-256 of the code. `used_by` is SHA-256 of the keys that were enrolled with
-- the code.
CREATE TABLE enrolment_code (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  terminal TEXT REFERENCES terminal (id),
  card BLOB REFERENCES card (id),
  not_after INTEGER NOT NULL,
  used_by BLOB CHECK (length(used_by) = 32),
  CHECK ((terminal IS NULL) <> (card IS NULL))
) STRICT, WITHOUT ROWID;

-- An id belongs to the terminal that sent it, so no terminal can take another's. A row with neither
-- request nor card is a tombstone: it was reversed before any authorisation arrived.
CREATE TABLE payment_transaction (
  number INTEGER PRIMARY KEY,
  terminal TEXT NOT NULL CHECK (length(terminal) = 10),
  id BLOB NOT NULL CHECK (length(id) = 16),
  state TEXT NOT NULL CHECK (state IN ('declined', 'approved', 'captured', 'reversed')),
  decline_reason INTEGER,
  -- SHA-256 of what was requested, to tell a repeat from other content under the same id.
  request_digest BLOB CHECK (length(request_digest) = 32),
  offer BLOB,
  offer_digest BLOB CHECK (length(offer_digest) = 32),
  command_digest BLOB CHECK (length(command_digest) = 32),
  amount_minor INTEGER CHECK (amount_minor > 0),
  currency TEXT CHECK (length(currency) = 3),
  -- Who is paid, as the registry had it when the transaction was authorised.
  merchant_id TEXT,
  card BLOB REFERENCES card (id),
  -- The command's counter, if signature and counter were good.
  card_counter INTEGER,
  card_hint TEXT,
  approval_code TEXT,
  authorisation_receipt BLOB,
  capture_receipt BLOB,
  reversal_receipt BLOB,
  exclusion BLOB NOT NULL,
  reversal_reason TEXT,
  created_at INTEGER NOT NULL,
  captured_at INTEGER,
  reversed_at INTEGER,
  written_off_at INTEGER,
  -- Until when the terminal may capture or reverse even if it is blocked.
  hold_until INTEGER,
  -- What was given back of the captured amount, and the receipt of the newest refund.
  refunded_minor INTEGER NOT NULL DEFAULT 0,
  refund_receipt BLOB,
  -- Evidence: the sealed command as it came, the card's signed command out of it, and the card's
  -- public key at that time.
  sealed_command BLOB,
  signed_command BLOB,
  card_public_key BLOB CHECK (length(card_public_key) = 65),
  -- The terminal's number for it, and the era in which it counts.
  sequence INTEGER CHECK (sequence > 0),
  sequence_era INTEGER,
  UNIQUE (terminal, id),
  -- One machine gives each transaction a number of its own.
  UNIQUE (terminal, sequence_era, sequence),
  -- The last line of defence against a replay: a counter pays once.
  UNIQUE (card, card_counter),
  CHECK ((state = 'declined') = (decline_reason IS NOT NULL)),
  CHECK ((state = 'reversed') = (reversed_at IS NOT NULL)),
  CHECK (state = 'reversed' OR request_digest IS NOT NULL),
  CHECK ((request_digest IS NULL) = (authorisation_receipt IS NULL)),
  CHECK ((request_digest IS NULL) = (command_digest IS NULL)),
  CHECK ((captured_at IS NULL) = (capture_receipt IS NULL)),
  -- What is captured is never reversed: it is refunded, and no more of it than was captured.
  CHECK ((captured_at IS NULL) = (state <> 'captured')),
  CHECK (refunded_minor >= 0 AND refunded_minor <= coalesce(amount_minor, 0)),
  CHECK (refunded_minor = 0 OR state = 'captured'),
  CHECK ((refunded_minor = 0) = (refund_receipt IS NULL)),
  CHECK (written_off_at IS NULL OR state = 'reversed'),
  CHECK ((request_digest IS NULL) = (sealed_command IS NULL)),
  CHECK (state NOT IN ('approved', 'captured')
    OR (card_counter IS NOT NULL AND merchant_id IS NOT NULL AND hold_until IS NOT NULL
      AND signed_command IS NOT NULL AND card_public_key IS NOT NULL))
) STRICT;

CREATE TRIGGER payment_transaction_is_not_deleted BEFORE DELETE ON payment_transaction
BEGIN
  SELECT RAISE(ABORT, 'a transaction is never deleted, nor is a tombstone');
END;

CREATE INDEX payment_transaction_by_id ON payment_transaction (id);
CREATE INDEX payment_transaction_by_card ON payment_transaction (card, number);
CREATE INDEX payment_transaction_by_time ON payment_transaction (terminal, created_at);
CREATE INDEX tombstone_by_time ON payment_transaction (terminal, created_at)
  WHERE request_digest IS NULL;
CREATE INDEX payment_transaction_by_state ON payment_transaction (state);

-- The double-entry ledger. Balances are kept beside the postings, so that a payment takes the same
-- time however many there were before it. `florin-acquirer ledger check` compares the two.
CREATE TABLE ledger_account (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('available', 'held', 'payable', 'funding', 'loss')),
  -- The account's id, the merchant's id, or nothing for funding and loss.
  owner TEXT NOT NULL,
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  balance_minor INTEGER NOT NULL DEFAULT 0,
  UNIQUE (kind, owner, currency),
  CHECK (kind IN ('funding', 'loss') OR balance_minor >= 0)
) STRICT;

CREATE TABLE ledger_entry (
  number INTEGER PRIMARY KEY,
  kind TEXT NOT NULL
    CHECK (kind IN ('funding', 'hold', 'capture', 'reversal', 'refund', 'write_off')),
  payment_transaction INTEGER REFERENCES payment_transaction (number),
  made_at INTEGER NOT NULL,
  CHECK ((kind = 'funding') = (payment_transaction IS NULL))
) STRICT;

-- At most one hold, one capture, one reversal and one write-off for each transaction.
CREATE UNIQUE INDEX ledger_entry_of_a_kind ON ledger_entry (payment_transaction, kind)
  WHERE kind <> 'refund';
CREATE INDEX ledger_entry_by_transaction ON ledger_entry (payment_transaction);

CREATE TABLE ledger_posting (
  entry INTEGER NOT NULL REFERENCES ledger_entry (number),
  ledger_account INTEGER NOT NULL REFERENCES ledger_account (id),
  amount_minor INTEGER NOT NULL CHECK (amount_minor <> 0),
  PRIMARY KEY (entry, ledger_account)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_posting_balance AFTER INSERT ON ledger_posting
BEGIN
  UPDATE ledger_account SET balance_minor = balance_minor + new.amount_minor
  WHERE id = new.ledger_account;
END;

CREATE TRIGGER ledger_posting_is_not_changed BEFORE UPDATE ON ledger_posting
BEGIN
  SELECT RAISE(ABORT, 'a posting is never changed; make another entry');
END;

CREATE TRIGGER ledger_posting_is_not_deleted BEFORE DELETE ON ledger_posting
BEGIN
  SELECT RAISE(ABORT, 'a posting is never deleted; make another entry');
END;

CREATE TRIGGER ledger_entry_is_not_changed BEFORE UPDATE ON ledger_entry
BEGIN
  SELECT RAISE(ABORT, 'an entry is never changed; make another');
END;

CREATE TRIGGER ledger_entry_is_not_deleted BEFORE DELETE ON ledger_entry
BEGIN
  SELECT RAISE(ABORT, 'an entry is never deleted; make another');
END;

-- What one operator asks for where a second one has to confirm it.
CREATE TABLE operation_request (
  number INTEGER PRIMARY KEY,
  requested_at INTEGER NOT NULL,
  operator TEXT NOT NULL,
  terminal TEXT NOT NULL,
  transaction_id BLOB NOT NULL CHECK (length(transaction_id) = 16),
  action TEXT NOT NULL CHECK (action IN ('capture', 'reverse', 'refund', 'write_off')),
  refund BLOB CHECK (length(refund) = 16),
  amount_minor INTEGER CHECK (amount_minor > 0),
  currency TEXT CHECK (length(currency) = 3),
  reason TEXT NOT NULL,
  decided_at INTEGER,
  decided_by TEXT,
  is_confirmed INTEGER CHECK (is_confirmed IN (0, 1)),
  FOREIGN KEY (terminal, transaction_id) REFERENCES payment_transaction (terminal, id),
  CHECK ((action = 'refund') = (refund IS NOT NULL)),
  CHECK ((refund IS NULL) = (amount_minor IS NULL)),
  CHECK ((refund IS NULL) = (currency IS NULL)),
  CHECK ((decided_at IS NULL) = (decided_by IS NULL)),
  CHECK ((decided_at IS NULL) = (is_confirmed IS NULL)),
  -- Nobody confirms what he asked for himself.
  CHECK (is_confirmed IS NOT 1 OR decided_by <> operator)
) STRICT;

CREATE TRIGGER operation_request_is_decided_once BEFORE UPDATE ON operation_request
WHEN old.decided_at IS NOT NULL
BEGIN
  SELECT RAISE(ABORT, 'a request is decided once');
END;

CREATE TRIGGER operation_request_is_not_deleted BEFORE DELETE ON operation_request
BEGIN
  SELECT RAISE(ABORT, 'a request is never deleted');
END;

-- What operators did to payments. It only grows.
CREATE TABLE audit_entry (
  number INTEGER PRIMARY KEY,
  made_at INTEGER NOT NULL,
  operator TEXT NOT NULL CHECK (operator <> ''),
  approved_by TEXT,
  terminal TEXT NOT NULL,
  transaction_id BLOB NOT NULL CHECK (length(transaction_id) = 16),
  action TEXT NOT NULL CHECK (action IN ('capture', 'reverse', 'refund', 'write_off')),
  refund BLOB UNIQUE CHECK (length(refund) = 16),
  amount_minor INTEGER CHECK (amount_minor > 0),
  currency TEXT CHECK (length(currency) = 3),
  reason TEXT NOT NULL CHECK (reason <> ''),
  state_before TEXT NOT NULL,
  state_after TEXT NOT NULL,
  decline_reason INTEGER,
  refunded_before INTEGER NOT NULL,
  refunded_after INTEGER NOT NULL,
  request INTEGER UNIQUE REFERENCES operation_request (number),
  FOREIGN KEY (terminal, transaction_id) REFERENCES payment_transaction (terminal, id),
  CHECK ((action = 'refund') = (refund IS NOT NULL)),
  CHECK ((refund IS NULL) = (amount_minor IS NULL)),
  CHECK ((refund IS NULL) = (currency IS NULL)),
  CHECK ((request IS NULL) = (approved_by IS NULL)),
  CHECK (approved_by <> operator)
) STRICT;

CREATE INDEX audit_entry_by_transaction ON audit_entry (terminal, transaction_id);

CREATE TRIGGER audit_entry_is_not_changed BEFORE UPDATE ON audit_entry
BEGIN
  SELECT RAISE(ABORT, 'an audit entry is never changed');
END;

CREATE TRIGGER audit_entry_is_not_deleted BEFORE DELETE ON audit_entry
BEGIN
  SELECT RAISE(ABORT, 'an audit entry is never deleted');
END;

-- Each refund by its own id, with its entry in the ledger and the one in the audit log.
CREATE TABLE refund (
  id BLOB PRIMARY KEY CHECK (length(id) = 16),
  ledger_entry INTEGER NOT NULL UNIQUE REFERENCES ledger_entry (number),
  audit_entry INTEGER NOT NULL UNIQUE REFERENCES audit_entry (number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER refund_is_not_changed BEFORE UPDATE ON refund
BEGIN
  SELECT RAISE(ABORT, 'a refund is never changed');
END;

CREATE TRIGGER refund_is_not_deleted BEFORE DELETE ON refund
BEGIN
  SELECT RAISE(ABORT, 'a refund is never deleted');
END;

-- What operators decided about terminals and about the store itself.
CREATE TABLE maintenance_entry (
  number INTEGER PRIMARY KEY,
  made_at INTEGER NOT NULL,
  operator TEXT NOT NULL,
  action TEXT NOT NULL CHECK (action IN ('clear_copy', 'adopt_store')),
  terminal TEXT REFERENCES terminal (id),
  reason TEXT NOT NULL,
  CHECK ((action = 'clear_copy') = (terminal IS NOT NULL))
) STRICT;

CREATE TRIGGER maintenance_entry_is_not_changed BEFORE UPDATE ON maintenance_entry
BEGIN
  SELECT RAISE(ABORT, 'a maintenance entry is never changed');
END;

CREATE TRIGGER maintenance_entry_is_not_deleted BEFORE DELETE ON maintenance_entry
BEGIN
  SELECT RAISE(ABORT, 'a maintenance entry is never deleted');
END;
-- Who may use the administration service, by SHA-256 of the public key in the client certificate.
CREATE TABLE operator (
  name TEXT PRIMARY KEY CHECK (name <> ''),
  key_digest BLOB NOT NULL CHECK (length(key_digest) = 32),
  not_after INTEGER NOT NULL,
  removed_at INTEGER
) STRICT, WITHOUT ROWID;

-- Which life of the store this is. A copy that is put back has to begin another one.
CREATE TABLE store_life (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  generation BLOB NOT NULL CHECK (length(generation) = 16),
  -- Drawn at each start of a server, and kept in a file beside the store too.
  server_start BLOB NOT NULL CHECK (length(server_start) = 16),
  is_copy INTEGER NOT NULL DEFAULT 0 CHECK (is_copy IN (0, 1))
) STRICT;

INSERT INTO store_life (only_row, generation, server_start)
VALUES (1, randomblob(16), randomblob(16));
