//! The option `--item`: a line of what is paid for.

use florin::domain::{Currency, TypedAmountError};
use florin::till::NewPaymentItem;

/// Why a text is not a line of what is paid for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("`{0}` has no `=`; write the name, `=` and the amount, such as `Coffee=2.50`")]
    NoAmount(String),
    #[error("`{0}` has no name before the `=`; write it such as `Coffee=2.50`")]
    NoName(String),
    #[error("`{0}` names several items; give --item once for each")]
    Several(String),
    #[error("`{0}` is not a quantity that can be paid for at once")]
    Quantity(String),
    #[error("`{name}`: {error}")]
    Amount { name: String, error: TypedAmountError },
}

/// Reads `Coffee=2.50`, `2 Coffee=5.00` or `2 x Coffee=5.00`. The amount is that of the whole line
/// and may be 0.
pub fn item(text: &str, currency: Currency) -> Result<NewPaymentItem, ItemError> {
    let (what, amount) =
        text.rsplit_once('=').ok_or_else(|| ItemError::NoAmount(text.to_owned()))?;
    if lists_amounts(what, currency) {
        return Err(ItemError::Several(text.to_owned()));
    }
    let (quantity, name) = quantity(what.trim())?;
    if name.is_empty() {
        return Err(ItemError::NoName(text.to_owned()));
    }
    let amount_minor = currency
        .parse_minor_units(amount)
        .map_err(|error| ItemError::Amount { name: name.to_owned(), error })?;
    Ok(NewPaymentItem { name: name.to_owned(), quantity, amount_minor })
}

/// Whether there is an amount in the name, as in `Coffee=2.50,Tea=3.00`: two items in one option.
fn lists_amounts(name: &str, currency: Currency) -> bool {
    let mut after_equals = name.split('=').skip(1);
    after_equals.any(|part| {
        let is_amount = |text: &str| currency.parse_minor_units(text).is_ok();
        [',', ';']
            .iter()
            .any(|separator| part.rmatch_indices(*separator).any(|(at, _)| is_amount(&part[..at])))
    })
}

/// Takes the quantity off: `2 Coffee`, `2x Coffee`, `2 x Coffee`, `2 × Coffee`.
fn quantity(what: &str) -> Result<(u32, &str), ItemError> {
    let digits_end = what.find(|character: char| !character.is_ascii_digit()).unwrap_or(what.len());
    let (digits, rest) = what.split_at(digits_end);
    let name = rest.trim_start();
    let without_times = name.strip_prefix(['x', 'X', '×']).filter(|name| name.starts_with(' '));
    let is_counted = name.len() < rest.len() || without_times.is_some();
    if digits.is_empty() || !is_counted {
        return Ok((1, what));
    }
    let quantity = digits.parse().ok().filter(|quantity| *quantity > 0);
    let quantity = quantity.ok_or_else(|| ItemError::Quantity(digits.to_owned()))?;
    Ok((quantity, without_times.unwrap_or(name).trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u32, String, u64), String> {
        let item = item(text, "EUR".parse().unwrap()).map_err(|error| error.to_string())?;
        Ok((item.quantity, item.name, item.amount_minor))
    }

    #[test]
    fn items_read_with_and_without_a_quantity() {
        for (text, quantity, name, minor) in [
            ("Coffee=2.50", 1, "Coffee", 250),
            ("Coffee = 2,50 €", 1, "Coffee", 250),
            ("2 Coffee=5", 2, "Coffee", 500),
            ("2x Coffee=5", 2, "Coffee", 500),
            ("2 x Coffee=5", 2, "Coffee", 500),
            ("2 × Coffee=5", 2, "Coffee", 500),
            ("Iced tea=3", 1, "Iced tea", 300),
            ("7up=3", 1, "7up", 300),
            ("2 xylophones=3", 2, "xylophones", 300),
            ("a=b=1", 1, "a=b", 100),
            ("Salt, pepper=1", 1, "Salt, pepper", 100),
            ("Water=0", 1, "Water", 0),
        ] {
            assert_eq!(read(text), Ok((quantity, name.to_owned(), minor)), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_item_is_told_what_to_write() {
        for (text, answer) in [
            (
                "Coffee",
                "`Coffee` has no `=`; write the name, `=` and the amount, such as `Coffee=2.50`",
            ),
            (
                "Coffee 2.50",
                "`Coffee 2.50` has no `=`; write the name, `=` and the amount, such as \
                 `Coffee=2.50`",
            ),
            (
                "Coffee=",
                "`Coffee`: `` is not an amount; expected a number and a currency, such as \
                 `2.50 EUR`",
            ),
            ("Coffee=2.5051", "`Coffee`: `2.5051` has too many decimals: EUR has 2 decimals"),
            (
                "Coffee=2.505",
                "`Coffee`: `2.505` can be read as 2505 or as 2.505; write `2505 EUR` for the \
                 first; EUR has 2 decimals",
            ),
            ("Coffee=-1", "`Coffee`: `-1` has a minus sign; an amount cannot be negative"),
            ("Coffee=2 USD", "`Coffee`: `2 USD` is in USD; expected an amount in EUR"),
            ("=1", "`=1` has no name before the `=`; write it such as `Coffee=2.50`"),
            ("=", "`=` has no name before the `=`; write it such as `Coffee=2.50`"),
            (
                "Coffee=2.50,Tea=3.00",
                "`Coffee=2.50,Tea=3.00` names several items; give --item once for each",
            ),
            (
                "Coffee=2,50, Tea=3,00",
                "`Coffee=2,50, Tea=3,00` names several items; give --item once for each",
            ),
            (
                "99999999999 Coffee=1",
                "`99999999999` is not a quantity that can be paid for at once",
            ),
            ("0 Coffee=1", "`0` is not a quantity that can be paid for at once"),
        ] {
            assert_eq!(read(text), Err(answer.to_owned()), "{text}");
        }
    }
}
