//! Which machine to connect to, and the connections to it.

use std::time::Duration;

use florin::wallet::Connector;
use serde_json::json;
use tokio::time::Instant;

use crate::air::{Air, AirLink, Machine};
use crate::arguments::WhichTerminal;
use crate::keyboard::typed_line;
use crate::nearest::{NotClear, nearest};
use crate::radio_error::RadioError;
use crate::screen::{Screen, Style};

/// How long to listen before the nearest is chosen or all are listed, in milliseconds: several
/// advertisements of each.
const LISTEN_MS: u64 = 3_000;

/// Which machine is meant.
#[derive(Debug, Clone)]
pub enum Target {
    /// With this short code.
    ShortCode(String),
    /// The one that is clearly the nearest. If none is, the person is asked.
    Nearest,
    Ask,
}

impl Target {
    /// As the command line says; if it says nothing, `otherwise`.
    pub fn new(which: &WhichTerminal, otherwise: Self) -> Self {
        if let Some(link) = &which.link {
            Self::ShortCode(link.terminal_id.short_code().to_owned())
        } else if let Some(code) = &which.code {
            Self::ShortCode(code.clone())
        } else if which.nearest {
            Self::Nearest
        } else {
            otherwise
        }
    }
}

/// Makes connections to one machine. Looks for it once; later connections go to the same one.
#[derive(Debug)]
pub struct Radio {
    air: Air,
    target: Target,
    wait_ms: u64,
    screen: Screen,
    chosen: Option<Machine>,
}

impl Radio {
    /// A radio that looks for `target` for `wait_ms` milliseconds at most.
    pub fn new(air: Air, target: Target, wait_ms: u64, screen: Screen) -> Self {
        Self { air, target, wait_ms, screen, chosen: None }
    }

    async fn choose(&self) -> Result<Machine, RadioError> {
        let end = Instant::now() + Duration::from_millis(self.wait_ms);
        let with = match &self.target {
            Target::ShortCode(code) => format!(" with the code {code}"),
            Target::Nearest | Target::Ask => String::new(),
        };
        self.screen.event(json!({ "event": "searching", "adapter": self.air.name() }));
        self.screen
            .say(&self.screen.styled(Style::Faint, &format!("Looking for a machine{with} ...")));
        loop {
            let left_ms = u64::try_from(end.saturating_duration_since(Instant::now()).as_millis())
                .unwrap_or(0);
            if left_ms == 0 {
                return Err(RadioError::NotFound { with, waited_ms: self.wait_ms });
            }
            let (scan_ms, short_code) = match &self.target {
                Target::ShortCode(code) => (left_ms, Some(code.as_str())),
                Target::Nearest | Target::Ask => (left_ms.min(LISTEN_MS), None),
            };
            let mut found = self.air.scan(scan_ms, short_code).await?;
            if found.is_empty() {
                continue;
            }
            let chosen = match self.target {
                Target::ShortCode(_) => found.swap_remove(0),
                Target::Nearest => match self.nearest(&found) {
                    Ok(index) => found.swap_remove(index),
                    Err(why) => {
                        self.screen
                            .say(&format!("It is not clear which machine you stand at: {why}."));
                        self.ask(found).await?
                    }
                },
                Target::Ask => self.ask(found).await?,
            };
            if chosen.is_out_of_service {
                return Err(RadioError::OutOfService(code_of(&chosen).to_owned()));
            }
            return Ok(chosen);
        }
    }

    fn nearest(&self, found: &[Machine]) -> Result<usize, NotClear> {
        if self.air.is_one_machine() {
            return Ok(0);
        }
        nearest(&found.iter().map(|machine| machine.rssi_dbm).collect::<Vec<_>>())
    }

    async fn ask(&self, mut found: Vec<Machine>) -> Result<Machine, RadioError> {
        list(&self.screen, &found);
        let question = format!("Which one? [1-{}] ", found.len());
        let answer = typed_line(&question).await.ok_or(RadioError::NotChosen)?;
        let number: usize = answer.trim().parse().map_err(|_| RadioError::NotChosen)?;
        if (1..=found.len()).contains(&number) {
            Ok(found.swap_remove(number - 1))
        } else {
            Err(RadioError::NotChosen)
        }
    }
}

impl Connector for Radio {
    type Link = AirLink;
    type Error = RadioError;

    async fn connect(&mut self) -> Result<AirLink, RadioError> {
        let terminal = match &self.chosen {
            Some(terminal) => terminal.clone(),
            None => self.choose().await?,
        };
        let code = terminal.short_code.clone();
        self.screen.event(
            json!({ "event": "connecting", "short_code": code, "rssi_dbm": terminal.rssi_dbm }),
        );
        let link = self.air.connect(&terminal).await?;
        self.screen.event(json!({ "event": "connected" }));
        self.chosen = Some(terminal);
        Ok(link)
    }
}

fn code_of(terminal: &Machine) -> &str {
    terminal.short_code.as_deref().unwrap_or("????")
}

/// Prints machines in reach, with numbers from 1.
pub fn list(screen: &Screen, found: &[Machine]) {
    for (index, terminal) in found.iter().enumerate() {
        screen.event(json!({
            "event": "terminal",
            "short_code": terminal.short_code,
            "rssi_dbm": terminal.rssi_dbm,
            "is_out_of_service": terminal.is_out_of_service,
        }));
        let code = code_of(terminal);
        let strength =
            terminal.rssi_dbm.map_or_else(|| "unknown".to_owned(), |rssi| format!("{rssi} dBm"));
        let state = if terminal.is_out_of_service { "  out of service" } else { "" };
        screen.say(&format!(
            "{:>3}  {}  {strength}{state}",
            index + 1,
            screen.styled(Style::Strong, code)
        ));
    }
}
