//! One phone's connection to the dishonest terminal: fragments and channel, by the protocol's own
//! parts.

use florin::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, MessageKind,
    Reassembler, VALUE_OCTETS_MIN, accept,
};
use florin::terminal::Identity;

/// One phone's connection.
#[derive(Default)]
pub struct Phone {
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    channel: Option<Channel>,
    value_octets_max: usize,
    offer: Vec<u8>,
    answer: Vec<Vec<u8>>,
}

impl Phone {
    /// Takes a value. Returns the message that it completes. A hello is answered with `offer`.
    pub fn receive(
        &mut self,
        value: &[u8],
        value_octets_max: usize,
        identity: &Identity,
        offer: Vec<u8>,
    ) -> anyhow::Result<Option<FromPhone>> {
        self.value_octets_max = value_octets_max.max(VALUE_OCTETS_MIN);
        let tag = FragmentTag::of_value(value).unwrap_or_default();
        let Some((kind, message)) = self.reassembler.put(value)? else { return Ok(None) };
        match (kind, &mut self.channel) {
            (MessageKind::Handshake, _) => {
                self.fragmenter = Fragmenter::new(tag);
                self.offer = offer;
                let (channel, reply) =
                    accept(&message, &identity.channel_key, crate::random()?, |payload| {
                        Hello::decode(payload)?;
                        let answer = HelloAnswer {
                            certificate: identity.certificate_octets.clone(),
                            first: FromTerminal::Offer(self.offer.clone()),
                        };
                        Ok(answer.encode())
                    })?;
                self.channel = Some(channel);
                self.answer =
                    self.fragmenter.cut(MessageKind::Handshake, &reply, self.value_octets_max)?;
                Ok(None)
            }
            (MessageKind::Sealed, Some(channel)) => {
                Ok(Some(FromPhone::decode(&channel.open(&message)?)?))
            }
            (MessageKind::Sealed | MessageKind::PlainError, _) => Ok(None),
        }
    }

    /// The offer that the phone was shown.
    pub fn offer(&self) -> &[u8] {
        &self.offer
    }

    /// The values of the answer to a hello, once.
    pub fn take_answer(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.answer)
    }

    /// The values of a message.
    pub fn encode(&mut self, message: &FromTerminal) -> anyhow::Result<Vec<Vec<u8>>> {
        let Some(channel) = &mut self.channel else { return Ok(Vec::new()) };
        let sealed = channel.seal(&message.encode())?;
        Ok(self.fragmenter.cut(MessageKind::Sealed, &sealed, self.value_octets_max)?)
    }
}
