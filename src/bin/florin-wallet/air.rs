//! The air that the command line asks for: Bluetooth, or a Unix socket in its place. It chooses no
//! machine.

#[cfg(unix)]
use std::time::Duration;

use florin::bluetooth::{Central, CentralLink, FoundTerminal};
#[cfg(unix)]
use florin::domain::TerminalId;
#[cfg(unix)]
use florin::link::{AirAddress, SocketPhoneLink};
use florin::link::{PhoneLink, PhoneLinkError};
#[cfg(unix)]
use tokio::time::Instant;

use crate::arguments::RadioArguments;
use crate::radio_error::RadioError;

/// What BlueZ and phones agree on.
#[cfg(unix)]
const ATT_MTU: usize = 517;
/// How long to wait before a socket that nobody listens on is tried again, in milliseconds.
#[cfg(unix)]
const RETRY_INTERVAL_MS: u64 = 100;
/// How long a connection is tried, in milliseconds: a radio, too, needs seconds to notice that a
/// machine is gone.
#[cfg(unix)]
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Where machines are looked for.
#[derive(Debug, Clone)]
pub enum Air {
    Bluetooth(Central),
    /// A socket: one machine, if it listens.
    #[cfg(unix)]
    Socket(AirAddress),
}

/// A machine in reach.
#[derive(Debug, Clone)]
pub struct Machine {
    /// None until it is known.
    pub short_code: Option<String>,
    /// In dBm; none where there is no radio, or it does not tell.
    pub rssi_dbm: Option<i16>,
    /// It says that it takes no payments now. Over a socket this is known only once connected.
    pub is_out_of_service: bool,
    at: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Bluetooth(FoundTerminal),
    #[cfg(unix)]
    Socket,
}

impl Air {
    /// The air of the command line.
    pub async fn open(arguments: RadioArguments) -> Result<Self, RadioError> {
        #[cfg(unix)]
        if let Some(address) = arguments.air {
            return Ok(Self::Socket(address));
        }
        Ok(Self::Bluetooth(Central::open(arguments.adapter.as_deref()).await?))
    }

    /// The adapter's name, or the socket's address.
    pub fn name(&self) -> String {
        match self {
            Self::Bluetooth(central) => central.adapter_name().to_owned(),
            #[cfg(unix)]
            Self::Socket(address) => address.to_string(),
        }
    }

    /// Whether there is only one machine, named with the air: then no signal strength is needed to
    /// choose it.
    pub fn is_one_machine(&self) -> bool {
        match self {
            Self::Bluetooth(_) => false,
            #[cfg(unix)]
            Self::Socket(_) => true,
        }
    }

    /// Looks for `scan_ms` milliseconds; the machines in reach, strongest first. With a short code
    /// it returns as soon as a machine of that code was found.
    pub async fn scan(
        &self,
        scan_ms: u64,
        short_code: Option<&str>,
    ) -> Result<Vec<Machine>, RadioError> {
        match self {
            Self::Bluetooth(central) => {
                let found = central.scan(scan_ms, short_code).await?;
                let found = found.into_iter().map(|terminal| Machine {
                    short_code: terminal.short_code.clone(),
                    rssi_dbm: terminal.rssi_dbm,
                    is_out_of_service: terminal.is_out_of_service,
                    at: Place::Bluetooth(terminal),
                });
                Ok(found.collect())
            }
            #[cfg(unix)]
            Self::Socket(address) => {
                let time_limit = Duration::from_millis(scan_ms);
                let found =
                    tokio::time::timeout(time_limit, wait_for_machine(address, short_code)).await;
                Ok(found.into_iter().collect())
            }
        }
    }

    /// Connects to a machine that was found.
    pub async fn connect(&self, found: &Machine) -> Result<AirLink, RadioError> {
        match (self, &found.at) {
            (Self::Bluetooth(central), Place::Bluetooth(terminal)) => {
                Ok(AirLink::Bluetooth(Box::new(central.connect(terminal).await?)))
            }
            #[cfg(unix)]
            (Self::Socket(address), Place::Socket) => {
                let end = Instant::now() + Duration::from_millis(CONNECT_TIMEOUT_MS);
                loop {
                    match SocketPhoneLink::connect(address, ATT_MTU).await {
                        Ok(link) => return Ok(AirLink::Socket(link)),
                        Err(error) if Instant::now() > end => return Err(error.into()),
                        Err(_) => {
                            tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await
                        }
                    }
                }
            }
            #[cfg(unix)]
            (Self::Bluetooth(_), Place::Socket) | (Self::Socket(_), Place::Bluetooth(_)) => {
                Err(PhoneLinkError::Unusable(
                    "the machine was found by other means than it is connected to".into(),
                )
                .into())
            }
        }
    }

    /// Waits until every connection that was ended is down.
    pub async fn wait_disconnected(&self) {
        match self {
            Self::Bluetooth(central) => central.wait_for_disconnections().await,
            #[cfg(unix)]
            Self::Socket(_) => {}
        }
    }
}

/// Tries until a machine listens: one that is being started listens soon.
#[cfg(unix)]
async fn wait_for_machine(address: &AirAddress, short_code: Option<&str>) -> Machine {
    loop {
        if let Ok(link) = SocketPhoneLink::connect(address, ATT_MTU).await
            && let Ok(terminal_id) = link.info().terminal_id.parse::<TerminalId>()
            && short_code.is_none_or(|code| code == terminal_id.short_code())
        {
            let short_code = Some(terminal_id.short_code().to_owned());
            return Machine {
                short_code,
                rssi_dbm: None,
                is_out_of_service: false,
                at: Place::Socket,
            };
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

/// A connection through [`Air`].
#[derive(Debug)]
pub enum AirLink {
    Bluetooth(Box<CentralLink>),
    #[cfg(unix)]
    Socket(SocketPhoneLink),
}

impl PhoneLink for AirLink {
    fn value_octets_max(&self) -> usize {
        match self {
            Self::Bluetooth(link) => link.value_octets_max(),
            #[cfg(unix)]
            Self::Socket(link) => link.value_octets_max(),
        }
    }

    async fn write(&mut self, value: Vec<u8>) -> Result<(), PhoneLinkError> {
        match self {
            Self::Bluetooth(link) => link.write(value).await,
            #[cfg(unix)]
            Self::Socket(link) => link.write(value).await,
        }
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        match self {
            Self::Bluetooth(link) => link.next_value().await,
            #[cfg(unix)]
            Self::Socket(link) => link.next_value().await,
        }
    }

    async fn subscribe_again(&mut self) -> Result<(), PhoneLinkError> {
        match self {
            Self::Bluetooth(link) => link.subscribe_again().await,
            #[cfg(unix)]
            Self::Socket(link) => link.subscribe_again().await,
        }
    }

    async fn disconnect(&mut self) {
        match self {
            Self::Bluetooth(link) => link.disconnect().await,
            #[cfg(unix)]
            Self::Socket(link) => link.disconnect().await,
        }
    }
}
