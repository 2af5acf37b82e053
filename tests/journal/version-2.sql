CREATE TABLE payments (
    transaction_id BLOB PRIMARY KEY,
    sale_id BLOB NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    reference TEXT NOT NULL,
    capture_after_dispense INTEGER NOT NULL,
    offer BLOB NOT NULL,
    sealed_command BLOB,
    receipt BLOB,
    released INTEGER NOT NULL,
    idempotency_key TEXT,
    idempotency_digest BLOB,
    created_at_unix_s INTEGER NOT NULL,
    updated_at_unix_s INTEGER NOT NULL,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX open_payments ON payments (number) WHERE is_open;
CREATE UNIQUE INDEX payments_by_number ON payments (number);
CREATE INDEX payments_by_sale ON payments (sale_id, number);
CREATE INDEX payments_by_key ON payments (idempotency_key, number)
    WHERE idempotency_key IS NOT NULL;
CREATE TABLE changes (
    record INTEGER PRIMARY KEY AUTOINCREMENT,
    transaction_id BLOB NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_unix_s INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_by_transaction ON changes (transaction_id, record);
INSERT INTO payments VALUES (x'01010101010141018101010101010101',
    x'01010101010141018101010101010101', 'reversing', 'dispense_failed',
    1, 250, 'EUR', 'slot 7', 1, x'0102', x'03', x'04', 1, 'sale-1',
    x'0707070707070707070707070707070707070707070707070707070707070707', 100, 110, 1);
INSERT INTO payments VALUES (x'02020202020242028202020202020202',
    x'02020202020242028202020202020202', 'captured', '', 0, 130, 'JPY',
    '', 0, x'0102', x'03', x'04', 1, NULL, NULL, 200, 210, 2);
INSERT INTO changes VALUES (1, x'01010101010141018101010101010101', 'offered', '', 100);
INSERT INTO changes
    VALUES (2, x'01010101010141018101010101010101', 'reversing', 'dispense_failed', 110);
INSERT INTO changes VALUES (3, x'02020202020242028202020202020202', 'captured', '', 210);
CREATE INDEX finished_payments ON payments (updated_at_unix_s) WHERE NOT is_open;
PRAGMA user_version = 2;
