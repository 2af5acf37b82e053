//! The rules of the books as queries over the whole store.

use rusqlite::Connection;

use super::ledger_tables::balances;
use crate::institution::records::{LedgerFault, LedgerReport, StateTotal};
use crate::institution::store::StoreError;

/// Each rule of the books: its name, and a query whose every row (one text) is a fault.
const RULES: [(&str, &str); 11] = [
    ("entry_sums_to_zero", ENTRY_SUMS_TO_ZERO),
    ("entry_has_postings", ENTRY_HAS_POSTINGS),
    ("balance_is_sum_of_postings", BALANCE_IS_SUM_OF_POSTINGS),
    ("nothing_below_zero", NOTHING_BELOW_ZERO),
    ("held_is_what_is_approved", HELD_IS_WHAT_IS_APPROVED),
    ("payable_is_what_is_captured", PAYABLE_IS_WHAT_IS_CAPTURED),
    ("transaction_has_its_entries", TRANSACTION_HAS_ITS_ENTRIES),
    ("entry_moves_the_amount", ENTRY_MOVES_THE_AMOUNT),
    ("entry_touches_its_accounts", ENTRY_TOUCHES_ITS_ACCOUNTS),
    ("refunds_are_what_is_given_back", REFUNDS_ARE_WHAT_IS_GIVEN_BACK),
    ("card_counter_is_the_highest_used", CARD_COUNTER_IS_THE_HIGHEST_USED),
];

const ENTRY_SUMS_TO_ZERO: &str = "\
    SELECT 'entry ' || entry || ' sums to ' || sum(amount_minor) || ' ' || currency \
    FROM ledger_posting JOIN ledger_account ON ledger_account.id = ledger_account \
    GROUP BY entry, currency HAVING sum(amount_minor) <> 0";

const ENTRY_HAS_POSTINGS: &str = "\
    SELECT 'entry ' || number || ' has fewer than two postings' FROM ledger_entry \
    WHERE (SELECT count(*) FROM ledger_posting WHERE entry = number) < 2";

const BALANCE_IS_SUM_OF_POSTINGS: &str = "\
    WITH posted AS (SELECT ledger_account AS id, sum(amount_minor) AS total \
      FROM ledger_posting GROUP BY 1) \
    SELECT kind || ' ' || owner || ' has ' || balance_minor || ' ' || currency || \
      ', its postings sum to ' || coalesce(total, 0) \
    FROM ledger_account LEFT JOIN posted USING (id) WHERE balance_minor <> coalesce(total, 0)";

const NOTHING_BELOW_ZERO: &str = "\
    SELECT kind || ' ' || owner || ' is at ' || balance_minor || ' ' || currency \
    FROM ledger_account WHERE kind NOT IN ('funding', 'loss') AND balance_minor < 0";

const HELD_IS_WHAT_IS_APPROVED: &str = "\
    WITH approved AS (SELECT card.account AS owner, currency, sum(amount_minor) AS total \
      FROM payment_transaction JOIN card ON card.id = payment_transaction.card \
      WHERE state = 'approved' GROUP BY 1, 2) \
    SELECT 'account ' || ledger_account.owner || ' holds ' || balance_minor || ' ' || \
      ledger_account.currency || ', its approved transactions sum to ' || coalesce(total, 0) \
    FROM ledger_account LEFT JOIN approved \
    ON ledger_account.owner = CAST(approved.owner AS TEXT) \
      AND ledger_account.currency = approved.currency \
    WHERE kind = 'held' AND balance_minor <> coalesce(total, 0)";

const PAYABLE_IS_WHAT_IS_CAPTURED: &str = "\
    WITH captured AS (SELECT merchant_id AS owner, currency, \
      sum(amount_minor - refunded_minor) AS total FROM payment_transaction \
      WHERE state = 'captured' OR written_off_at IS NOT NULL GROUP BY 1, 2) \
    SELECT 'merchant ' || owner || ' is owed ' || balance_minor || ' ' || currency || \
      ', its transactions sum to ' || coalesce(total, 0) \
    FROM ledger_account LEFT JOIN captured USING (owner, currency) \
    WHERE kind = 'payable' AND balance_minor <> coalesce(total, 0)";

const TRANSACTION_HAS_ITS_ENTRIES: &str = "\
    SELECT 'a transaction of terminal ' || terminal || ' is ' || state || \
      ', its entries are: ' || coalesce(entries, 'none') \
    FROM (SELECT terminal, state, card_counter, written_off_at, \
      (SELECT group_concat(kind, ', ') FROM (SELECT kind FROM ledger_entry \
        WHERE payment_transaction = payment_transaction.number \
        AND NOT (kind = 'refund' AND state = 'captured') \
        ORDER BY ledger_entry.number)) AS entries \
      FROM payment_transaction) \
    WHERE entries IS NOT CASE \
      WHEN state = 'approved' THEN 'hold' \
      WHEN state = 'captured' THEN 'hold, capture' \
      WHEN written_off_at IS NOT NULL THEN 'hold, reversal, write_off' \
      WHEN state = 'reversed' AND card_counter IS NOT NULL THEN 'hold, reversal' \
      ELSE NULL END";

const ENTRY_MOVES_THE_AMOUNT: &str = "\
    SELECT 'entry ' || ledger_entry.number || ' moves ' || amount || \
      ', its transaction is over ' || payment_transaction.amount_minor \
    FROM (SELECT entry, sum(amount_minor) AS amount FROM ledger_posting \
      WHERE amount_minor > 0 GROUP BY entry) \
    JOIN ledger_entry ON ledger_entry.number = entry \
    JOIN payment_transaction ON payment_transaction.number = ledger_entry.payment_transaction \
    WHERE amount IS NOT payment_transaction.amount_minor AND kind <> 'refund'";

/// Which accounts an entry of a kind may take from and give to, and whose.
const ENTRY_TOUCHES_ITS_ACCOUNTS: &str = "\
    WITH allowed (kind, is_given, account, owner_is) AS (VALUES \
      ('funding', 0, 'funding', 'institution'), ('funding', 1, 'available', 'any holder'), \
      ('hold', 0, 'available', 'holder'), ('hold', 1, 'held', 'holder'), \
      ('capture', 0, 'held', 'holder'), ('capture', 1, 'payable', 'merchant'), \
      ('reversal', 0, 'held', 'holder'), ('reversal', 1, 'available', 'holder'), \
      ('refund', 0, 'payable', 'merchant'), ('refund', 1, 'available', 'holder'), \
      ('write_off', 0, 'loss', 'institution'), ('write_off', 1, 'payable', 'merchant')) \
    SELECT 'entry ' || entry.number || ', a ' || entry.kind || \
      CASE WHEN posting.amount_minor > 0 THEN ', gives to ' ELSE ', takes from ' END || \
      touched.kind || ' ' || touched.owner || ' in ' || touched.currency \
    FROM ledger_entry AS entry \
    JOIN ledger_posting AS posting ON posting.entry = entry.number \
    JOIN ledger_account AS touched ON touched.id = posting.ledger_account \
    LEFT JOIN payment_transaction AS payment ON payment.number = entry.payment_transaction \
    LEFT JOIN card ON card.id = payment.card \
    WHERE NOT EXISTS (SELECT 1 FROM allowed WHERE allowed.kind = entry.kind \
      AND is_given = (posting.amount_minor > 0) AND allowed.account = touched.kind \
      AND (payment.currency IS NULL OR payment.currency = touched.currency) \
      AND CASE owner_is WHEN 'institution' THEN touched.owner = '' \
        WHEN 'holder' THEN touched.owner IS CAST(card.account AS TEXT) \
        WHEN 'merchant' THEN touched.owner IS payment.merchant_id \
        ELSE EXISTS (SELECT 1 FROM account WHERE CAST(account.id AS TEXT) = touched.owner \
          AND account.currency = touched.currency) END)";

const REFUNDS_ARE_WHAT_IS_GIVEN_BACK: &str = "\
    WITH refunded AS (SELECT payment_transaction AS number, sum(amount_minor) AS total \
      FROM ledger_entry JOIN ledger_posting ON entry = ledger_entry.number \
      WHERE kind = 'refund' AND amount_minor > 0 GROUP BY 1) \
    SELECT 'of a transaction of terminal ' || terminal || ' over ' || \
      coalesce(amount_minor, 0) || ' ' || refunded_minor || ' was given back, its refunds sum \
      to ' || coalesce(total, 0) \
    FROM payment_transaction LEFT JOIN refunded USING (number) \
    WHERE refunded_minor <> coalesce(total, 0) OR refunded_minor > coalesce(amount_minor, 0)";

// The last four digits of a card are what people may see.
const CARD_COUNTER_IS_THE_HIGHEST_USED: &str = "\
    SELECT 'card …' || lower(hex(substr(id, 15))) || ' has counter ' || counter || \
      ', its transactions go up to ' || used \
    FROM (SELECT id, counter, coalesce((SELECT max(card_counter) FROM payment_transaction \
      WHERE card = card.id), 0) AS used FROM card) \
    WHERE counter <> used";

/// How many faults of one rule are listed: one is enough to stop and look.
const FAULTS_PER_RULE_MAX: usize = 20;

/// Checks the books against the rules.
pub(super) fn check(connection: &Connection) -> Result<LedgerReport, StoreError> {
    let mut faults = Vec::new();
    for (rule, query) in RULES {
        let mut statement = connection.prepare(query)?;
        let details = statement.query_map([], |row| row.get(0))?.take(FAULTS_PER_RULE_MAX);
        for detail in details {
            faults.push(LedgerFault { rule, detail: detail? });
        }
    }
    let integrity: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        faults.push(LedgerFault { rule: "file_is_sound", detail: integrity });
    }
    let entries =
        connection.query_row("SELECT count(*) FROM ledger_entry", [], |row| row.get(0))?;
    let (balances, states) = (balances(connection)?, states(connection)?);
    Ok(LedgerReport { entries, balances, states, faults })
}

fn states(connection: &Connection) -> Result<Vec<StateTotal>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT state, coalesce(currency, ''), count(*), coalesce(sum(amount_minor), 0) \
         FROM payment_transaction GROUP BY 1, 2 ORDER BY 1, 2",
    )?;
    let states = statement.query_map([], |row| {
        Ok(StateTotal {
            state: row.get(0)?,
            currency: row.get(1)?,
            count: row.get(2)?,
            amount_minor: row.get(3)?,
        })
    })?;
    Ok(states.collect::<Result<_, _>>()?)
}
