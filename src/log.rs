//! The log of every program: to standard error, filtered by level and module.
//!
//! Nothing secret and no card data may be logged.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    Text,
    /// One JSON object a line.
    Json,
}

/// Which lines are logged: a level, or levels for modules, or nothing said (an empty text).
#[derive(Debug, Clone, PartialEq)]
pub struct LogFilter(Option<Targets>);

/// Why a text is not a log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// The level is not one.
    #[error(
        "`{0}` is not a log level; the levels are off, error, warn, info, debug and trace, alone \
         or for a module, as in `info,florin::relay=debug` (option --log, environment variable \
         RUST_LOG)"
    )]
    Level(String),
    /// The name before `=` cannot be a module.
    #[error(
        "`{0}` is not a module; expected a name such as `florin::relay`, as in \
         `info,florin::relay=debug` (option --log, environment variable RUST_LOG)"
    )]
    Module(String),
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    /// Reads `info`, or `info,florin::relay=debug`. A module without a level is refused: a level
    /// with a slip would read as a module, and silence everything else.
    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        // Not the crate's own EnvFilter: its regular expressions are a megabyte of a terminal's
        // binary.
        let mut targets = Targets::new();
        for directive in text.split(',').map(str::trim) {
            let level = |level: &str| match level.parse::<LevelFilter>() {
                Ok(read) if !level.is_empty() => Ok(read),
                Ok(_) | Err(_) => Err(LogFilterError::Level(shortened(level))),
            };
            targets = match directive.split_once('=') {
                None => targets.with_default(level(directive)?),
                Some((module, _)) if !is_module(module) => {
                    return Err(LogFilterError::Module(shortened(module)));
                }
                Some((module, text)) => targets.with_target(module, level(text)?),
            };
        }
        Ok(Self(Some(targets)))
    }
}

fn is_module(name: &str) -> bool {
    name.split("::").all(|part| {
        !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What `--help` says of the option `--log`. `default` says which level holds where nothing is
/// given.
pub fn log_help(default: &str) -> String {
    format!(
        "What to log to standard error: a level (off, error, warn, info, debug, trace), or one for \
         each module as in `info,florin::relay=debug` [default: {default}]"
    )
}

/// Starts to log: what `filter` says, or else everything from the level `default` on. The second
/// call in a process does nothing.
pub fn start_log(filter: Option<LogFilter>, default: LevelFilter, form: LogForm) {
    let targets = filter
        .and_then(|LogFilter(targets)| targets)
        .unwrap_or_else(|| Targets::new().with_default(default));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // systemd stamps every line itself.
    let is_stamped = std::env::var_os("JOURNAL_STREAM").is_some();
    let has_colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = match form {
        LogForm::Json => lines.json().boxed(),
        LogForm::Text if is_stamped => lines.with_ansi(false).without_time().boxed(),
        LogForm::Text => lines.with_ansi(has_colours).boxed(),
    };
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_of_modules() {
        for text in
            ["info", "WARN", "off", "info,florin::relay=debug", "florin=trace, hyper=off", "", " "]
        {
            text.parse::<LogFilter>().unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_would_silence_everything_by_a_slip_is_refused_and_says_what_is_allowed() {
        for (text, named) in [
            ("inof", "`inof`"),
            ("info,florin::relay", "`florin::relay`"),
            ("info,florin::relay=debgu", "`debgu`"),
            ("info,", "``"),
            ("=debug", "``"),
            ("info,florin-core=debug", "`florin-core`"),
            ("florin[span]=debug", "`florin[span]`"),
        ] {
            let error = text.parse::<LogFilter>().unwrap_err().to_string();
            assert!(error.starts_with(named) && error.contains("florin::relay=debug"), "{error}");
        }
    }
}
