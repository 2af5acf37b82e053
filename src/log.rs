//! The log of the three programs: to standard error, by level and module.
//!
//! What may be in it is everybody's own business: no secret, no card data.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How the lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter says nothing that can be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is no log filter ({detail}); expected a level, or levels per module: info,florin::relay=debug"
)]
pub struct LogFilterError {
    filter: String,
    detail: String,
}

/// Starts to log. `filter` is a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or
/// several with modules, joined by commas. The second call in a process does nothing.
///
/// # Errors
/// [`LogFilterError`].
pub fn start_log(filter: &str, form: LogForm) -> Result<(), LogFilterError> {
    // Not the crate's own EnvFilter: its regular expressions are a megabyte of a terminal's binary.
    let targets: Targets = filter.parse().map_err(|error| LogFilterError {
        filter: filter.to_owned(),
        detail: format!("{error}"),
    })?;
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
    Ok(())
}
