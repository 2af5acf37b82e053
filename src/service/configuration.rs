//! The service's configuration: TOML, read once at the start (deploy/florin.toml shows every key).
//!
//! What is wrong is named with its file, line, column and key, and what was expected. Files that
//! other parties wrote, and the enrolment, are read elsewhere.

use std::fmt;
use std::fs;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::relay::InstitutionAddress;
use crate::terminal::{DispensePolicy, Settings};
use crate::till::TillAddress;

/// Where the configuration is, where nothing is said.
pub const CONFIGURATION_PATH: &str = "/etc/florin/florin.toml";
/// Where the till API listens, where nothing is said.
pub const TILL_ADDRESS: &str = "unix:/run/florin/till.sock";
const STATE_DIRECTORY: &str = "/var/lib/florin";
/// In the state directory.
pub(super) const JOURNAL_FILE: &str = "journal.sqlite";
/// The longest configuration that is read, in octets.
const FILE_OCTETS_MAX: u64 = 64 * 1024;

/// Everything that an operator can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Where the enrolment and the journal are.
    pub state_directory: PathBuf,
    /// The Bluetooth adapter; the first if none.
    pub adapter: Option<String>,
    /// Where the till API listens.
    pub till_address: TillAddress,
    /// The institution; the one of the enrolment if none.
    pub institution: Option<InstitutionAddress>,
    /// How the engine behaves.
    pub settings: Settings,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            state_directory: STATE_DIRECTORY.into(),
            adapter: None,
            till_address: TillAddress::Unix(TILL_ADDRESS.trim_start_matches("unix:").into()),
            institution: None,
            settings: Settings::default(),
        }
    }
}

/// Where in a file something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// With its table: `till.listen`. Empty where no key is meant.
    pub key: String,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too long to be a configuration.
    #[error("{} is longer than {FILE_OCTETS_MAX} octets: it is no configuration", .0.display())]
    TooLong(PathBuf),
    /// Something in it is wrong.
    #[error("{}:{place}: {problem}", .path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What, and what was expected.
        problem: String,
    },
}

impl fmt::Display for Place {
    /// Prints `3:9: till.listen`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)?;
        if self.key.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.key) }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    terminal: TerminalTable,
    bluetooth: BluetoothTable,
    till: TillTable,
    institution: InstitutionTable,
    payments: PaymentsTable,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct TerminalTable {
    state_directory: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BluetoothTable {
    adapter: Option<Spanned<String>>,
    phones_max: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct TillTable {
    listen: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct InstitutionTable {
    url: Option<Spanned<String>>,
    request_timeout_ms: Option<Spanned<i64>>,
    retry_backoff_min_ms: Option<Spanned<i64>>,
    retry_backoff_max_ms: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PaymentsTable {
    valid_for_s: Option<Spanned<i64>>,
    authorisation_timeout_ms: Option<Spanned<i64>>,
    open_max: Option<Spanned<i64>>,
    dispense_timeout_s: Option<Spanned<i64>>,
    dispense_policy: Option<Spanned<String>>,
    escalate_after_s: Option<Spanned<i64>>,
}

/// What each number may be. The reasons are in deploy/florin.toml.
const PHONES: RangeInclusive<i64> = 1..=64;
const REQUEST_TIMEOUT_MS: RangeInclusive<i64> = 1_000..=60_000;
const RETRY_BACKOFF_MIN_MS: RangeInclusive<i64> = 100..=60_000;
const RETRY_BACKOFF_MAX_MS: RangeInclusive<i64> = 1_000..=3_600_000;
const VALID_FOR_S: RangeInclusive<i64> = 1..=3_600;
const AUTHORISATION_TIMEOUT_MS: RangeInclusive<i64> = 1_000..=60_000;
const OPEN_PAYMENTS: RangeInclusive<i64> = 1..=100_000;
const DISPENSE_TIMEOUT_S: RangeInclusive<i64> = 10..=86_400;
const ESCALATE_AFTER_S: RangeInclusive<i64> = 60..=31_536_000;

impl Configuration {
    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.state_directory.join(JOURNAL_FILE)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let unreadable =
            |source| ConfigurationError::Unreadable { path: path.to_path_buf(), source };
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_OCTETS_MAX {
            return Err(ConfigurationError::TooLong(path.to_path_buf()));
        }
        Self::parse(&fs::read_to_string(path).map_err(unreadable)?, path)
    }

    /// As [`Configuration::read`], from a text; `path` is for the errors.
    ///
    /// # Errors
    /// [`ConfigurationError::Wrong`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigurationError> {
        let source = Source { text, path };
        let tables: Tables = toml::from_str(text)
            .map_err(|error| source.wrong(error.span().unwrap_or(0..0), error.message()))?;
        let default = Self::default();
        let known = default.settings;
        let dispense_timeout_s: u64 = source.number(
            tables.payments.dispense_timeout_s,
            DISPENSE_TIMEOUT_S,
            known.dispense_timeout_ms / 1000,
        )?;
        let dispense_policy =
            source.parsed(tables.payments.dispense_policy, |text| match text {
                "reverse" => Ok(DispensePolicy::Reverse),
                "hold" => Ok(DispensePolicy::Hold),
                _ => Err("expected `reverse` or `hold`".to_owned()),
            })?;
        let settings = Settings {
            dispense_timeout_ms: dispense_timeout_s * 1000,
            dispense_policy: dispense_policy.unwrap_or(known.dispense_policy),
            escalate_after_s: source.number(
                tables.payments.escalate_after_s,
                ESCALATE_AFTER_S,
                known.escalate_after_s,
            )?,
            phones_max: source.number(tables.bluetooth.phones_max, PHONES, known.phones_max)?,
            request_timeout_ms: source.number(
                tables.institution.request_timeout_ms,
                REQUEST_TIMEOUT_MS,
                known.request_timeout_ms,
            )?,
            retry_backoff_min_ms: source.number(
                tables.institution.retry_backoff_min_ms,
                RETRY_BACKOFF_MIN_MS,
                known.retry_backoff_min_ms,
            )?,
            retry_backoff_max_ms: source.number(
                tables.institution.retry_backoff_max_ms.clone(),
                RETRY_BACKOFF_MAX_MS,
                known.retry_backoff_max_ms,
            )?,
            valid_for_s: source.number(
                tables.payments.valid_for_s,
                VALID_FOR_S,
                known.valid_for_s,
            )?,
            authorisation_timeout_ms: source.number(
                tables.payments.authorisation_timeout_ms,
                AUTHORISATION_TIMEOUT_MS,
                known.authorisation_timeout_ms,
            )?,
            open_max: source.number(tables.payments.open_max, OPEN_PAYMENTS, known.open_max)?,
            ..known
        };
        if settings.retry_backoff_max_ms < settings.retry_backoff_min_ms {
            let span = tables.institution.retry_backoff_max_ms.map_or(0..0, |value| value.span());
            return Err(source.wrong(
                span,
                format!(
                    "expected at least institution.retry_backoff_min_ms, which is {}",
                    settings.retry_backoff_min_ms
                ),
            ));
        }
        let state_directory = source.parsed(tables.terminal.state_directory, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("`{text}` is not an absolute path"))
            }
        })?;
        let adapter = source.parsed(tables.bluetooth.adapter, |text| {
            let is_name = text.strip_prefix("hci").is_some_and(|number| {
                !number.is_empty()
                    && number.len() <= 3
                    && number.bytes().all(|octet| octet.is_ascii_digit())
            });
            if is_name {
                Ok(text.to_owned())
            } else {
                Err(format!("`{text}` is no adapter; expected `hci0` or the like"))
            }
        })?;
        let parse_till =
            |text: &str| text.parse::<TillAddress>().map_err(|error| error.to_string());
        let parse_url =
            |text: &str| text.parse::<InstitutionAddress>().map_err(|error| error.to_string());
        Ok(Self {
            state_directory: state_directory.unwrap_or(default.state_directory),
            adapter,
            till_address: source
                .parsed(tables.till.listen, parse_till)?
                .unwrap_or(default.till_address),
            institution: source.parsed(tables.institution.url, parse_url)?,
            settings,
        })
    }
}

/// Resolves the address of the till API, for the programs that talk to it: `flag` if given, else
/// what the configuration says, else the default.
///
/// A configuration that is named must be readable. The one at [`CONFIGURATION_PATH`] may be absent,
/// or closed to this account, but what can be read of it must be right.
///
/// # Errors
/// [`ConfigurationError`].
pub fn till_address(
    flag: Option<TillAddress>,
    configuration: Option<&Path>,
) -> Result<TillAddress, ConfigurationError> {
    resolve_till_address(flag, configuration, Path::new(CONFIGURATION_PATH))
}

fn resolve_till_address(
    flag: Option<TillAddress>,
    named: Option<&Path>,
    default_path: &Path,
) -> Result<TillAddress, ConfigurationError> {
    if let Some(address) = flag {
        return Ok(address);
    }
    let configuration = match (Configuration::read(named.unwrap_or(default_path)), named) {
        (Err(ConfigurationError::Unreadable { source, .. }), None)
            if source.kind() != io::ErrorKind::InvalidData =>
        {
            Configuration::default()
        }
        (read, _) => read?,
    };
    Ok(configuration.till_address)
}

/// The text that is read, to say where in it something is.
struct Source<'text> {
    text: &'text str,
    path: &'text Path,
}

impl Source<'_> {
    fn wrong(&self, span: Range<usize>, problem: impl Into<String>) -> ConfigurationError {
        let problem = problem.into().replace('\n', "; ").trim_end_matches("; ").to_owned();
        ConfigurationError::Wrong {
            path: self.path.to_path_buf(),
            place: place(self.text, span.start),
            problem,
        }
    }

    /// The value, in its range; `default` if there is none.
    fn number<N: TryFrom<i64>>(
        &self,
        value: Option<Spanned<i64>>,
        range: RangeInclusive<i64>,
        default: N,
    ) -> Result<N, ConfigurationError> {
        let Some(value) = value else { return Ok(default) };
        let span = value.span();
        let number = Some(value.into_inner()).filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
            self.wrong(
                span,
                format!("expected a whole number from {} to {}", range.start(), range.end()),
            )
        })
    }

    fn parsed<T>(
        &self,
        value: Option<Spanned<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigurationError> {
        let Some(value) = value else { return Ok(None) };
        parse(value.get_ref()).map(Some).map_err(|problem| self.wrong(value.span(), problem))
    }
}

/// Where the octet at `offset` is: its line and column, and the key of that line with the table
/// above it.
fn place(text: &str, offset: usize) -> Place {
    let offset =
        (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.starts_with('#'));
    let table = text[..line_start].lines().rev().find_map(|line| {
        let line = line.trim();
        line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(table, _)| table.trim())
    });
    let key = match (table, key) {
        (Some(table), Some(key)) => format!("{table}.{key}"),
        (None, Some(key)) => key.to_owned(),
        (_, None) => String::new(),
    };
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
        Configuration::parse(text, Path::new("florin.toml"))
    }

    #[test]
    fn the_example_file_is_the_default_written_out() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/florin.toml");
        assert_eq!(Configuration::read(&path).unwrap(), Configuration::default());
        // And so it is with every key that it shows switched on.
        let text = fs::read_to_string(&path).unwrap();
        let switched_on: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") && !rest.contains(". ") => format!("{rest}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();
        let configuration = Configuration::parse(&switched_on, &path).unwrap();
        assert_eq!(configuration.settings, Settings::default());
        assert_eq!(configuration.adapter.as_deref(), Some("hci0"));
        assert!(configuration.institution.is_some());
        for key in [
            "state_directory",
            "adapter",
            "phones_max",
            "listen",
            "url",
            "request_timeout_ms",
            "retry_backoff_min_ms",
            "retry_backoff_max_ms",
            "valid_for_s",
            "authorisation_timeout_ms",
            "open_max",
            "dispense_timeout_s",
            "dispense_policy",
            "escalate_after_s",
        ] {
            assert!(
                switched_on.lines().any(|line| line.starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(parse("").unwrap(), Configuration::default());
    }

    #[test]
    fn what_is_said_counts() {
        let configuration = parse(
            "[terminal]\nstate_directory = \"/srv/florin\"\n[bluetooth]\nadapter = \"hci1\"\n\
             [till]\nlisten = \"127.0.0.1:8411\"\n[institution]\nurl = \"https://bank.example\"\n\
             [payments]\nvalid_for_s = 60\nopen_max = 10\n",
        )
        .unwrap();
        assert_eq!(configuration.state_directory, Path::new("/srv/florin"));
        assert_eq!(configuration.adapter.as_deref(), Some("hci1"));
        assert_eq!(configuration.till_address.to_string(), "127.0.0.1:8411");
        assert_eq!(configuration.institution.unwrap().to_string(), "https://bank.example");
        assert_eq!((configuration.settings.valid_for_s, configuration.settings.open_max), (60, 10));
    }

    #[test]
    fn what_is_wrong_is_placed_named_and_explained() {
        for (text, start, words) in [
            (
                "[till]\nlisten = \"0.0.0.0:8411\"\n",
                "florin.toml:2:10: till.listen: ",
                "other machines",
            ),
            ("[till]\n\nlisten = 7\n", "florin.toml:3:10: till.listen: ", "expected a string"),
            ("[till]\nlissen = \"x\"\n", "florin.toml:2:1: till.lissen: ", "expected `listen`"),
            ("[tiil]\n", "florin.toml:1:", "expected one of `terminal`, `bluetooth`"),
            (
                "[payments]\nvalid_for_s = 0\n",
                "florin.toml:2:15: payments.valid_for_s: ",
                "1 to 3600",
            ),
            (
                "[payments]\nvalid_for_s = \"60\"\n",
                "florin.toml:2:15: payments.valid_for_s: ",
                "expected i64",
            ),
            ("[payments]\nopen_max = 1\nopen_max = 2\n", "florin.toml:3:", "duplicate"),
            (
                "[institution]\nurl = \"http://bank\"\n",
                "florin.toml:2:7: institution.url: ",
                "https://host",
            ),
            (
                "[bluetooth]\n  adapter = \"eth0\"\n",
                "florin.toml:2:13: bluetooth.adapter: ",
                "hci0",
            ),
            (
                "[terminal]\nstate_directory = \"x\"\n",
                "florin.toml:2:19: terminal.state_directory: ",
                "absolute",
            ),
            (
                "[institution]\nretry_backoff_max_ms = 1000\nretry_backoff_min_ms = 2000\n",
                "florin.toml:2:20: ",
                "2000",
            ),
            (
                "[payments]\ndispense_policy = \"ask\"\n",
                "florin.toml:2:19: payments.dispense_policy: ",
                "`hold`",
            ),
            ("[till\n", "florin.toml:1:", ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{text:?} gave {error}");
            assert!(error.contains(words), "{text:?} gave {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_said_so() {
        let error = Configuration::read(Path::new("/nowhere/florin.toml")).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/florin.toml") && error.contains("No such file"),
            "{error}"
        );
    }

    #[test]
    fn the_till_address_is_the_flags_else_the_configurations_else_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let configured = file("configured.toml", b"[till]\nlisten = \"127.0.0.1:8411\"\n");
        let malformed = file("malformed.toml", b"[till\n");
        let not_text = file("not-text.toml", b"\xff");
        let silent = file("silent.toml", b"");
        let absent = directory.path().join("absent.toml");
        // As a directory, it exists and cannot be read, whoever runs the test.
        let unreadable = directory.path().to_path_buf();
        let resolve = |flag: Option<&str>, named: Option<&Path>, default_path: &Path| {
            resolve_till_address(flag.map(|text| text.parse().unwrap()), named, default_path)
                .map(|address| address.to_string())
        };

        let flag = Some("127.0.0.1:1");
        assert_eq!(resolve(flag, Some(&malformed), &malformed).unwrap(), "127.0.0.1:1");
        assert_eq!(resolve(None, Some(&configured), &malformed).unwrap(), "127.0.0.1:8411");
        assert_eq!(resolve(None, None, &configured).unwrap(), "127.0.0.1:8411");
        for default_path in [&silent, &absent, &unreadable] {
            assert_eq!(resolve(None, None, default_path).unwrap(), TILL_ADDRESS);
        }
        for wrong in [&malformed, &not_text] {
            assert!(resolve(None, Some(wrong), &configured).is_err(), "{}", wrong.display());
            assert!(resolve(None, None, wrong).is_err(), "{}", wrong.display());
        }
        for named in [&absent, &unreadable] {
            assert!(resolve(None, Some(named), &configured).is_err(), "{}", named.display());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_placed_error_at_worst(text: String, tail: String) {
            let _ = parse(&text);
            let _ = parse(&format!("[till]\nlisten = {tail}"));
            for offset in 0..text.len() + 2 {
                let _ = place(&text, offset);
            }
        }
    }
}
