//! The settings of the GATT service.

use crate::domain::TerminalId;
use crate::protocol::{Info, VERSION};

/// The adapter to use, and the terminal to present to phones.
#[derive(Debug, Clone)]
pub struct PeripheralSettings {
    /// The adapter's name, such as `hci0`. Without a name, the first adapter is used.
    pub adapter: Option<String>,
    /// Goes into the characteristic `info` and the advertised name.
    pub terminal_id: TerminalId,
}

impl PeripheralSettings {
    /// The value of the characteristic `info`.
    pub(super) fn info(&self) -> Vec<u8> {
        Info {
            versions: vec![u32::from(VERSION)],
            terminal_id: self.terminal_id.to_string(),
            capabilities: 0,
        }
        .encode()
    }
}
