//! What people type, beside what all programs of Florin read alike: currencies, amounts, terminals,
//! cards, and the address to listen on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use florin::domain::{Amount, CardId, Currency, CurrencyError, TerminalId};
use florin::institution::{AccountId, Institution, IssuedCard, RegisteredTerminal};

use crate::failure::{NotFound, Usage};

/// A currency's code, in upper or lower case.
///
/// # Errors
/// [`CurrencyError`] with what was typed.
pub fn currency(text: &str) -> Result<Currency, CurrencyError> {
    let text = text.trim();
    text.to_ascii_uppercase().parse().map_err(|_| CurrencyError(text.chars().take(12).collect()))
}

/// An amount in major units of a currency, with or without the currency: `2.50`, `2,50 EUR`.
///
/// # Errors
/// [`Usage`], which names the option.
pub fn amount(text: &str, currency: Currency, option: &str) -> Result<Amount, Usage> {
    Amount::parse_major(text, currency).map_err(|error| Usage(format!("{option}: {error}")))
}

/// As [`amount`]; none for 0.
///
/// # Errors
/// [`Usage`], which names the option.
pub fn amount_or_zero(
    text: &str,
    currency: Currency,
    option: &str,
) -> Result<Option<Amount>, Usage> {
    match currency.parse_minor_units(text) {
        Ok(0) => Ok(None),
        Ok(_) | Err(_) => amount(text, currency, option).map(Some),
    }
}

/// The number of an account.
///
/// # Errors
/// A message with what was expected.
pub fn account(text: &str) -> Result<AccountId, String> {
    let number = text.trim().parse::<i64>().ok().filter(|number| *number > 0);
    number.map(AccountId).ok_or_else(|| {
        "expected the number of an account; see `florin-acquirer account list`".to_owned()
    })
}

/// Without hyphens and spaces, in upper case.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|character| !matches!(character, '-' | ' '))
        .flat_map(char::to_uppercase)
        .collect()
}

/// How many characters the short code of a terminal has.
const SHORT_CODE_CHARACTERS: usize = 4;

/// A terminal as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalName {
    Id(TerminalId),
    /// The last four characters of its id, as they are printed on the machine.
    ShortCode(String),
}

impl FromStr for TerminalName {
    type Err = String;

    /// Reads an id or a short code: any case, with or without hyphens and spaces, O for 0, I and L
    /// for 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = plain(text).replace('O', "0").replace(['I', 'L'], "1");
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if text.len() == SHORT_CODE_CHARACTERS && text.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(Self::ShortCode(text));
        }
        Err("expected the id of a terminal (10 letters and digits) or its short code (the last 4); \
             see `florin-acquirer terminal list`"
            .to_owned())
    }
}

impl TerminalName {
    /// The terminal's id.
    ///
    /// # Errors
    /// [`NotFound`] if no terminal has the short code, or several have it; those of the store.
    pub fn find(&self, institution: &mut Institution) -> anyhow::Result<TerminalId> {
        let code = match self {
            Self::Id(id) => return Ok(*id),
            Self::ShortCode(code) => code,
        };
        let named = |terminal: &RegisteredTerminal| terminal.id.short_code() == code;
        let terminals = institution.terminals()?;
        let matching: Vec<_> = terminals.into_iter().filter(named).collect();
        match matching.as_slice() {
            [terminal] => Ok(terminal.id),
            [] => {
                let message = format!(
                    "there is no terminal with the short code {code}; see `florin-acquirer \
                     terminal list`"
                );
                Err(NotFound(message).into())
            }
            several => {
                let ids: Vec<_> = several.iter().map(|terminal| terminal.id.to_string()).collect();
                let ids = ids.join(", ");
                let message = format!(
                    "several terminals have the short code {code}: name one by \
                     its id: {ids}"
                );
                Err(NotFound(message).into())
            }
        }
    }
}

/// A card as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardName {
    Id(CardId),
    /// The last four digits of its id.
    Hint(String),
}

impl FromStr for CardName {
    type Err = String;

    /// Reads a whole id or a hint: any case, with or without hyphens and spaces, the hint with or
    /// without the dots that the list prints before it. The error does not repeat the text: it may
    /// be most of a card's id.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = plain(text.trim_start_matches(['…', '.'])).to_lowercase();
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if text.len() == 4 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Ok(Self::Hint(text));
        }
        Err("expected the hint of a card (the last 4 digits of its id) or its whole id (32 \
             hexadecimal digits); see `florin-acquirer card list`"
            .to_owned())
    }
}

impl CardName {
    /// The card's id.
    ///
    /// # Errors
    /// [`NotFound`] if no card has the hint, or several have it; those of the store.
    pub fn find(&self, institution: &mut Institution) -> anyhow::Result<CardId> {
        let hint = match self {
            Self::Id(id) => return Ok(*id),
            Self::Hint(hint) => hint,
        };
        let named = |card: &IssuedCard| card.id.hint() == *hint;
        let matching: Vec<_> = institution.cards()?.into_iter().filter(named).collect();
        let message = match matching.as_slice() {
            [card] => return Ok(card.id),
            [] => format!("there is no card with the hint {hint}; see `florin-acquirer card list`"),
            several => format!(
                "{} cards have the hint {hint}; name one by its whole id, from `florin-acquirer \
                 card list --full`",
                several.len()
            ),
        };
        Err(NotFound(message).into())
    }
}

/// Where the server listens unless it is told otherwise.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The address to listen on: an IP address and a port, `localhost` and a port, or a port alone.
///
/// # Errors
/// A message with what to write instead.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(LOOPBACK, port));
    }
    let host = text.trim_matches(['[', ']']);
    let advice = if let Ok(address) = host.parse::<IpAddr>() {
        format!("the port is missing; write {}", SocketAddr::new(address, 7443))
    } else if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
        format!("write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port} for all networks")
    } else if text.contains("://") {
        "write the address and the port alone, such as 127.0.0.1:7443".to_owned()
    } else {
        "expected an IP address of this machine and a port, such as 127.0.0.1:7443; a port is 0 to \
         65535"
            .to_owned()
    };
    Err(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_read_in_any_case() {
        for text in ["EUR", "eur", " Eur "] {
            assert_eq!(currency(text).unwrap().code(), "EUR");
        }
        assert!(currency("EURO").unwrap_err().to_string().contains("`EURO`"));
    }

    #[test]
    fn amounts_are_taken_as_people_write_them_or_told_what_to_write() {
        let euro = "EUR".parse().unwrap();
        for text in ["2.50", "2,50", "2.5", "2.50 EUR", "€2.50", "eur 2,5"] {
            assert_eq!(amount(text, euro, "--limit").unwrap().minor(), 250, "{text}");
        }
        for (text, told) in [
            ("0", "more than 0"),
            ("-1", "minus sign"),
            ("2.505", "2 decimals"),
            ("2.50 USD", "expected an amount in EUR"),
            ("much", "such as `2.50 EUR`"),
        ] {
            let told_here = amount(text, euro, "--limit").unwrap_err().to_string();
            assert!(told_here.starts_with("--limit: ") && told_here.contains(told), "{told_here}");
        }
        assert_eq!(amount_or_zero("0.00", euro, "--balance").unwrap(), None);
        assert_eq!(amount_or_zero("1", euro, "--balance").unwrap().unwrap().minor(), 100);
        assert!(amount_or_zero("-1", euro, "--balance").is_err());
    }

    #[test]
    fn terminals_are_named_by_their_ids_or_short_codes() {
        let id = TerminalName::Id("QS6NFXPZ86".parse().unwrap());
        for text in ["QS6NFXPZ86", "qs6nfxpz86", "QS6N-FXPZ-86", " qs6n fxpz 86 "] {
            assert_eq!(text.parse(), Ok(id.clone()), "{text}");
        }
        assert_eq!("pz86".parse(), Ok(TerminalName::ShortCode("PZ86".to_owned())));
        assert_eq!("plO6".parse(), Ok(TerminalName::ShortCode("P106".to_owned())));
        for text in ["", "QS6", "QS6NFXPZ8", "QS6NFXPZ866", "QS6NFXPZ8!", "ääää"] {
            let told = text.parse::<TerminalName>().unwrap_err();
            assert!(told.contains("terminal list"), "{text}: {told}");
        }
    }

    #[test]
    fn cards_are_named_by_their_hints_or_whole_ids() {
        let whole = "0123456789abcdef0123456789abcdef";
        let id = CardName::Id(whole.parse().unwrap());
        for text in [whole, &whole.to_uppercase(), "01234567-89ab-cdef-0123-456789abcdef"] {
            assert_eq!(text.parse(), Ok(id.clone()), "{text}");
        }
        for text in ["cdef", "CDEF", "…cdef", "...cdef"] {
            assert_eq!(text.parse(), Ok(CardName::Hint("cdef".to_owned())), "{text}");
        }
        for text in ["", "cde", "xyzw", "0123456789abcdef"] {
            let told = text.parse::<CardName>().unwrap_err();
            assert!(told.contains("card list") && !told.contains("0123"), "{text}: {told}");
        }
    }

    #[test]
    fn the_address_to_listen_on_is_taken_or_told_what_to_write() {
        for (text, address) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("7443", "127.0.0.1:7443"),
            ("localhost:7443", "127.0.0.1:7443"),
            ("[::1]:7443", "[::1]:7443"),
            (" 0.0.0.0:7443", "0.0.0.0:7443"),
        ] {
            assert_eq!(listen_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for (text, told) in [
            ("", "such as 127.0.0.1:7443"),
            ("192.0.2.1", "192.0.2.1:7443"),
            ("::1", "[::1]:7443"),
            (":7443", "0.0.0.0:7443"),
            ("https://127.0.0.1:7443", "the port alone"),
            ("bank.example:7443", "IP address of this machine"),
            ("99999", "0 to 65535"),
        ] {
            let told_here = listen_address(text).unwrap_err();
            assert!(told_here.contains(told), "{text}: {told_here}");
        }
    }
}
