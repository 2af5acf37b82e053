//! The service's configuration: TOML, read once at the start (deploy/florin.toml shows every key).
//!
//! A mistake is named with its file, line, column and key, and with what was expected. Files that
//! other parties wrote, and the enrolment, are read elsewhere.

use std::fs;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::toml_place::{Place, place};
use crate::io_error_text::io_error_text;
use crate::relay::InstitutionAddress;
use crate::terminal::{DispensePolicy, Settings};
use crate::till::TillAddress;

/// Where the configuration is unless `--configuration` names another file.
pub const CONFIGURATION_PATH: &str = "/etc/florin/florin.toml";
/// Where the till API listens unless the configuration says otherwise.
pub const TILL_ADDRESS: &str = "unix:/run/florin/till.sock";
const STATE_DIRECTORY: &str = "/var/lib/florin";
/// The journal's name in the state directory.
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

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error(
        "cannot read the configuration {}: {}; check that it is there and that this user may read \
         it",
        path.display(),
        io_error_text(source)
    )]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{} is longer than {FILE_OCTETS_MAX} octets, so it cannot be a configuration",
        .0.display()
    )]
    TooLong(PathBuf),
    /// Something in it is wrong.
    #[error("{}:{place}: {problem}", .path.display())]
    Wrong {
        path: PathBuf,
        place: Place,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

/// Values are read as they are, so that what was expected can be said in words for people.
type Entry = Option<Spanned<Value>>;

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
#[serde(deny_unknown_fields, default, expecting = "a table, as in `[terminal]`")]
struct TerminalTable {
    state_directory: Entry,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table, as in `[bluetooth]`")]
struct BluetoothTable {
    adapter: Entry,
    phones_max: Entry,
    hold_off_max_s: Entry,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table, as in `[till]`")]
struct TillTable {
    listen: Entry,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table, as in `[institution]`")]
struct InstitutionTable {
    url: Entry,
    request_timeout_ms: Entry,
    retry_backoff_min_ms: Entry,
    retry_backoff_max_ms: Entry,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table, as in `[payments]`")]
struct PaymentsTable {
    valid_for_s: Entry,
    authorisation_timeout_ms: Entry,
    open_max: Entry,
    dispense_timeout_s: Entry,
    dispense_policy: Entry,
    escalate_after_s: Entry,
}

/// What each number may be. The reasons are in deploy/florin.toml.
const PHONES: RangeInclusive<i64> = 1..=64;
const HOLD_OFF_MAX_S: RangeInclusive<i64> = 0..=3_600;
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
        let settings = source.settings(&tables)?;
        Ok(Self {
            state_directory: source
                .text(&tables.terminal.state_directory, state_directory)?
                .unwrap_or(default.state_directory),
            adapter: source.text(&tables.bluetooth.adapter, adapter)?,
            till_address: source
                .text(&tables.till.listen, |text| text.parse().map_err(|error| message_of(&error)))?
                .unwrap_or(default.till_address),
            institution: source.text(&tables.institution.url, |text| {
                text.parse().map_err(|error| message_of(&error))
            })?,
            settings,
        })
    }
}

fn message_of(error: &dyn std::error::Error) -> String {
    error.to_string()
}

fn state_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("`{text}` is not an absolute path")) }
}

fn adapter(text: &str) -> Result<String, String> {
    let is_name = text.strip_prefix("hci").is_some_and(|number| {
        !number.is_empty()
            && number.len() <= 3
            && number.bytes().all(|octet| octet.is_ascii_digit())
    });
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not the name of an adapter; expected `hci0` or the like"))
    }
}

fn dispense_policy(text: &str) -> Result<DispensePolicy, String> {
    match text {
        "reverse" => Ok(DispensePolicy::Reverse),
        "hold" => Ok(DispensePolicy::Hold),
        _ => Err("expected `reverse` or `hold`".to_owned()),
    }
}

/// Resolves the address of the till API, for the programs that talk to it: `flag` if given, else
/// what the configuration says, else the default.
///
/// A configuration that is named must be readable. The one at [`CONFIGURATION_PATH`] may be absent
/// or unreadable to this user; if it can be read, it must be right.
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

/// The text that is read, to locate mistakes in it.
struct Source<'text> {
    text: &'text str,
    path: &'text Path,
}

impl Source<'_> {
    fn settings(&self, tables: &Tables) -> Result<Settings, ConfigurationError> {
        let Tables { bluetooth, institution, payments, .. } = tables;
        let default = Settings::default();
        let dispense_timeout_s: u64 = self.number(
            &payments.dispense_timeout_s,
            DISPENSE_TIMEOUT_S,
            default.dispense_timeout_ms / 1000,
        )?;
        let dispense_policy = self.text(&payments.dispense_policy, dispense_policy)?;
        let hold_off_max_s: u64 =
            self.number(&bluetooth.hold_off_max_s, HOLD_OFF_MAX_S, default.hold_off_max_ms / 1000)?;
        let (retry_backoff_min_ms, retry_backoff_max_ms) = self.retry_backoff_ms(institution)?;
        Ok(Settings {
            dispense_timeout_ms: dispense_timeout_s * 1000,
            dispense_policy: dispense_policy.unwrap_or(default.dispense_policy),
            escalate_after_s: self.number(
                &payments.escalate_after_s,
                ESCALATE_AFTER_S,
                default.escalate_after_s,
            )?,
            phones_max: self.number(&bluetooth.phones_max, PHONES, default.phones_max)?,
            hold_off_max_ms: hold_off_max_s * 1000,
            request_timeout_ms: self.number(
                &institution.request_timeout_ms,
                REQUEST_TIMEOUT_MS,
                default.request_timeout_ms,
            )?,
            retry_backoff_min_ms,
            retry_backoff_max_ms,
            valid_for_s: self.number(&payments.valid_for_s, VALID_FOR_S, default.valid_for_s)?,
            authorisation_timeout_ms: self.number(
                &payments.authorisation_timeout_ms,
                AUTHORISATION_TIMEOUT_MS,
                default.authorisation_timeout_ms,
            )?,
            open_max: self.number(&payments.open_max, OPEN_PAYMENTS, default.open_max)?,
            ..default
        })
    }

    /// The shortest and the longest wait, which must not be the wrong way round.
    fn retry_backoff_ms(
        &self,
        institution: &InstitutionTable,
    ) -> Result<(u64, u64), ConfigurationError> {
        let default = Settings::default();
        let min_ms = self.number(
            &institution.retry_backoff_min_ms,
            RETRY_BACKOFF_MIN_MS,
            default.retry_backoff_min_ms,
        )?;
        let max_ms = self.number(
            &institution.retry_backoff_max_ms,
            RETRY_BACKOFF_MAX_MS,
            default.retry_backoff_max_ms,
        )?;
        if max_ms < min_ms {
            let span = institution.retry_backoff_max_ms.as_ref().map_or(0..0, Spanned::span);
            let problem =
                format!("expected at least institution.retry_backoff_min_ms, which is {min_ms}");
            return Err(self.wrong(span, problem));
        }
        Ok((min_ms, max_ms))
    }

    fn wrong(&self, span: Range<usize>, problem: impl Into<String>) -> ConfigurationError {
        let problem = problem.into().replace('\n', "; ").trim_end_matches("; ").to_owned();
        ConfigurationError::Wrong {
            path: self.path.to_path_buf(),
            place: place(self.text, span.start),
            problem,
        }
    }

    /// The number, in its range; `default` if there is none.
    fn number<N: TryFrom<i64>>(
        &self,
        entry: &Entry,
        range: RangeInclusive<i64>,
        default: N,
    ) -> Result<N, ConfigurationError> {
        let Some(entry) = entry else { return Ok(default) };
        let number = entry.get_ref().as_integer().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
            self.wrong(
                entry.span(),
                format!("expected a whole number from {} to {}", range.start(), range.end()),
            )
        })
    }

    /// What `parse` makes of the text; none if there is none.
    fn text<T>(
        &self,
        entry: &Entry,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigurationError> {
        let Some(entry) = entry else { return Ok(None) };
        let text = entry.get_ref().as_str().ok_or("expected a string in quotes".to_owned());
        text.and_then(parse).map(Some).map_err(|problem| self.wrong(entry.span(), problem))
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
            "hold_off_max_s",
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
                "expected a whole number from 1 to 3600",
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
                "florin.toml:2:24: ",
                "2000",
            ),
            (
                "[payments]\ndispense_policy = \"ask\"\n",
                "florin.toml:2:19: payments.dispense_policy: ",
                "`hold`",
            ),
            ("till = 5\n", "florin.toml:1:8: till: ", "expected a table, as in `[till]`"),
            ("[till]\nlisten = [1]\n", "florin.toml:2:10: till.listen: ", "expected a string"),
            ("[till\n", "florin.toml:1:", ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{text:?} gave {error}");
            assert!(error.contains(words), "{text:?} gave {error}");
            assert!(!error.contains('\n'), "{error}");
            for word_of_the_source in ["i64", "struct ", "enum ", "Spanned", "Option"] {
                assert!(!error.contains(word_of_the_source), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_said_so() {
        let error = Configuration::read(Path::new("/nowhere/florin.toml")).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/florin.toml") && error.contains("No such file"),
            "{error}"
        );
        assert!(!error.contains("os error"), "{error}");
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
        }
    }
}
