//! How long the cryptography of one payment takes on this machine, party by party. It is part of
//! the payment, but not of the floor.

use std::time::Duration;

use florin::credential::{PayloadType, SealedCommand, SealingKey, SigningKey};
use florin::domain::OfferDigest;
use florin::protocol::{ChannelKey, Initiator, accept};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::timing::{median, milliseconds};

const ROUNDS: usize = 15;

/// The median of each step in milliseconds, by its name.
pub fn measure() -> anyhow::Result<Value> {
    let key = SigningKey::from_scalar(&[1; 32])?;
    let verifying = key.verifying_key();
    let sealing = SealingKey::from_octets([2; 32]);
    let sealing_public = sealing.public_key();
    let channel_key = ChannelKey::from_octets([3; 32]);
    let digest = OfferDigest([4; 32]);
    let signed = key.sign(PayloadType::CardCommand, vec![5; 100]);
    let sealed: SealedCommand = sealing_public.seal(&[6; 100], &digest, [7; 32])?;
    let (_, hello) = Initiator::start(&[8; 8], [9; 32])?;
    let answer = |_: &[u8]| Ok(vec![10; 240]);
    let (_, answered) = accept(&hello, &channel_key, [11; 32], answer)?;

    let mut steps = Map::new();
    let mut step = |name: &str, work: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<()> {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            work()?;
            times.push(begin.elapsed());
        }
        steps.insert(name.into(), milliseconds(median(&mut times)).into());
        Ok(())
    };
    step("phone: first handshake message", &|| {
        Initiator::start(&[8; 8], [9; 32])?;
        Ok(())
    })?;
    step("terminal: its answer", &|| {
        accept(&hello, &channel_key, [11; 32], answer)?;
        Ok(())
    })?;
    step("phone: both ends of the handshake", &|| {
        let (initiator, _) = Initiator::start(&[8; 8], [9; 32])?;
        initiator.finish(&answered).map_err(|(_, error)| error)?;
        Ok(())
    })?;
    step("a signature", &|| {
        key.sign(PayloadType::CardCommand, vec![5; 100]);
        Ok(())
    })?;
    step("a verification", &|| Ok(verifying.verify(PayloadType::CardCommand, &signed)?))?;
    step("phone: sealing", &|| {
        sealing_public.seal(&[6; 100], &digest, [7; 32])?;
        Ok(())
    })?;
    step("institution: opening", &|| {
        sealing.open(&sealed, &digest)?;
        Ok(())
    })?;
    Ok(Value::Object(steps))
}
