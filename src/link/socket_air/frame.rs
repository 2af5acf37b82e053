//! Frames on a stream of octets: a length, and as many octets. Their content is not interpreted.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::VALUE_OCTETS_MAX;

/// The size of the length before each frame, in octets.
const LENGTH_OCTETS: usize = 2;

/// Reads frames. Buffers at most two frames of the longest size.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    reader: R,
    buffered: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffered: Vec::new() }
    }

    /// The next frame; none if the other side has closed the stream after a whole frame.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The stream's errors; [`io::ErrorKind::InvalidData`] for a frame that is too long,
    /// [`io::ErrorKind::UnexpectedEof`] for half a frame.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.take_buffered()? {
                return Ok(Some(frame));
            }
            self.buffered.reserve(LENGTH_OCTETS + VALUE_OCTETS_MAX);
            if self.reader.read_buf(&mut self.buffered).await? == 0 {
                let is_whole = self.buffered.is_empty();
                return if is_whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take_buffered(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((length, rest)) = self.buffered.split_first_chunk::<LENGTH_OCTETS>() else {
            return Ok(None);
        };
        let octets = usize::from(u16::from_be_bytes(*length));
        if octets > VALUE_OCTETS_MAX {
            let detail =
                format!("a frame of {octets} octets; at most {VALUE_OCTETS_MAX} are allowed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        if rest.len() < octets {
            return Ok(None);
        }
        let frame = rest[..octets].to_vec();
        self.buffered.drain(..LENGTH_OCTETS + octets);
        Ok(Some(frame))
    }
}

/// Writes one frame.
///
/// # Errors
/// The stream's errors; [`io::ErrorKind::InvalidData`] for a frame that is too long.
pub(super) async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> io::Result<()> {
    let length =
        u16::try_from(frame.len()).ok().filter(|length| usize::from(*length) <= VALUE_OCTETS_MAX);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let mut octets = Vec::with_capacity(LENGTH_OCTETS + frame.len());
    octets.extend_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(frame);
    writer.write_all(&octets).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_whole_in_pieces_of_any_size() {
        let mut octets = Vec::new();
        let frames = [vec![], vec![7; 20], vec![9; 512], vec![1]];
        for frame in &frames {
            write_frame(&mut octets, frame).await.unwrap();
        }
        for piece_octets in [1, 2, 3, 100, 600, octets.len()] {
            let (mut sender, receiver) = tokio::io::duplex(piece_octets);
            let sent = octets.clone();
            tokio::spawn(async move { sender.write_all(&sent).await });
            let mut reader = FrameReader::new(receiver);
            for frame in &frames {
                assert_eq!(
                    reader.next().await.unwrap().as_ref(),
                    Some(frame),
                    "pieces of {piece_octets}"
                );
            }
            assert_eq!(reader.next().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_partial_frame_and_a_frame_that_is_too_long_are_errors() {
        for (octets, kind) in [
            (&[0, 3, 1][..], io::ErrorKind::UnexpectedEof),
            (&[0], io::ErrorKind::UnexpectedEof),
            (&[2, 1, 0], io::ErrorKind::InvalidData),
            (&[0xff, 0xff], io::ErrorKind::InvalidData),
        ] {
            assert_eq!(
                FrameReader::new(octets).next().await.unwrap_err().kind(),
                kind,
                "{octets:?}"
            );
        }
        assert!(write_frame(&mut Vec::new(), &[0; 513]).await.is_err());
    }
}
