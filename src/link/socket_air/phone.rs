//! The phone's side of one connection over a Unix socket.

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{FrameReader, write_frame};
use super::{AirAddress, value_octets_max};
use crate::link::{PhoneLink, PhoneLinkError};
use crate::protocol::Info;

/// One connection to a terminal that was started with `--air`. Dropping it ends the connection.
#[derive(Debug)]
pub struct SocketPhoneLink {
    info: Info,
    values: FrameReader<OwnedReadHalf>,
    writer: Option<OwnedWriteHalf>,
    value_octets_max: usize,
}

impl SocketPhoneLink {
    /// Connects with this ATT MTU, 23 to 517.
    ///
    /// # Errors
    /// [`PhoneLinkError::Lost`] if no terminal listens there, or it closes the connection;
    /// [`PhoneLinkError::Unusable`] if another program listens there, or the MTU is impossible.
    pub async fn connect(address: &AirAddress, att_mtu: usize) -> Result<Self, PhoneLinkError> {
        let value_octets_max = value_octets_max(att_mtu).ok_or_else(|| {
            PhoneLinkError::Unusable(format!("{att_mtu} is not an ATT MTU from 23 to 517"))
        })?;
        let stream = UnixStream::connect(address.path()).await.map_err(|error| {
            PhoneLinkError::Lost(format!("no terminal listens on {address} ({error})"))
        })?;
        let (reader, mut writer) = stream.into_split();
        let mut values = FrameReader::new(reader);
        let first = next_value(&mut values).await?;
        let info = Info::decode(&first).map_err(|_| {
            PhoneLinkError::Unusable(format!(
                "the program that listens on {address} is not a terminal"
            ))
        })?;
        write_frame(&mut writer, &(att_mtu as u16).to_be_bytes())
            .await
            .map_err(|error| lost(&error))?;
        Ok(Self { info, values, writer: Some(writer), value_octets_max })
    }

    /// What the terminal says about itself in its characteristic `info`.
    pub fn info(&self) -> &Info {
        &self.info
    }
}

impl PhoneLink for SocketPhoneLink {
    fn value_octets_max(&self) -> usize {
        self.value_octets_max
    }

    async fn write(&mut self, value: Vec<u8>) -> Result<(), PhoneLinkError> {
        let Some(writer) = &mut self.writer else {
            return Err(PhoneLinkError::Lost("disconnected".into()));
        };
        if value.len() > self.value_octets_max {
            let detail = format!(
                "the value has {} octets; this link carries at most {}",
                value.len(),
                self.value_octets_max
            );
            return Err(PhoneLinkError::Unusable(detail));
        }
        write_frame(writer, &value).await.map_err(|error| lost(&error))
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        if self.writer.is_none() {
            return Err(PhoneLinkError::Lost("disconnected".into()));
        }
        next_value(&mut self.values).await
    }

    async fn disconnect(&mut self) {
        // The terminal sees the end of the stream.
        self.writer = None;
    }
}

async fn next_value(values: &mut FrameReader<OwnedReadHalf>) -> Result<Vec<u8>, PhoneLinkError> {
    let value = values.next().await.map_err(|error| lost(&error))?;
    value.ok_or_else(|| PhoneLinkError::Lost("the terminal closed it".into()))
}

fn lost(error: &std::io::Error) -> PhoneLinkError {
    PhoneLinkError::Lost(error.to_string())
}
