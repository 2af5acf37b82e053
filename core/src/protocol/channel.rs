//! The encrypted channel: `Noise_NX_25519_ChaChaPoly_SHA256` (Noise Protocol Framework, revision
//! 34).
//!
//! The phone is the initiator and anonymous; the terminal is the responder and proves its static
//! key. One round trip. The prologue is [`PROLOGUE_PREFIX`] and the version octet, the payloads
//! carry the versions that each side speaks, and all of it goes into the keys: whoever alters a
//! version on the way breaks the handshake.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

use super::{MESSAGE_OCTETS_MAX, ProtocolError, VERSION, WireError};

const NOISE_NAME: &str = "Noise_NX_25519_ChaChaPoly_SHA256";
const PROLOGUE_PREFIX: &[u8] = b"florin payment ";
const MATCHING_CODE_PREFIX: &[u8] = b"florin matching code";
const MATCHING_COMMITMENT_PREFIX: &[u8] = b"florin matching commitment";
/// Octets of an X25519 public key.
const PUBLIC_KEY_OCTETS: usize = 32;
/// Octets of a ChaCha20-Poly1305 tag.
const TAG_OCTETS: usize = 16;

/// The hash of the whole handshake: equal on both sides, and only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeHash(pub [u8; 32]);

/// The phone's share of the matching code: 16 random octets, new for each hello.
///
/// The hello commits to it and the channel reveals it. So nobody in between can choose a key, or a
/// nonce, that leads to a code of a channel that stands already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchingNonce(pub [u8; 16]);

impl MatchingNonce {
    /// Returns the commitment: the first 16 octets of SHA-256 over a prefix and the nonce.
    pub fn commitment(&self) -> MatchingCommitment {
        let digest =
            Sha256::new().chain_update(MATCHING_COMMITMENT_PREFIX).chain_update(self.0).finalize();
        let mut octets = [0; 16];
        octets.copy_from_slice(&digest[..16]);
        MatchingCommitment(octets)
    }
}

/// What the hello says of the matching nonce: 16 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchingCommitment(pub [u8; 16]);

/// Six decimal digits that both screens can show, so that a person can see that this phone talks to
/// this machine.
pub fn matching_code(hash: &HandshakeHash, nonce: &MatchingNonce) -> String {
    let digest = Sha256::new()
        .chain_update(MATCHING_CODE_PREFIX)
        .chain_update(hash.0)
        .chain_update(nonce.0)
        .finalize();
    let number = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    format!("{:06}", number % 1_000_000)
}

/// The terminal's static key pair (X25519). Prints nothing of itself.
pub struct ChannelKey(SecretBox<[u8; 32]>);

impl ChannelKey {
    /// Makes the key pair from 32 random octets.
    pub fn from_octets(octets: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(octets)))
    }

    /// Returns the private key, 32 octets, for the terminal's own key file.
    pub fn expose_octets(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// Returns the public key, 32 octets.
    pub fn public_key(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*self.0.expose_secret()))
            .to_bytes()
    }
}

impl Clone for ChannelKey {
    fn clone(&self) -> Self {
        Self::from_octets(*self.expose_octets())
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ChannelKey")
    }
}

/// Gives snow the ephemeral key that the caller drew: randomness is an input here.
struct SeededResolver([u8; 32]);

/// Hands out the seed, once.
struct Seed(Option<[u8; 32]>);

impl Random for Seed {
    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.take().ok_or(snow::Error::Rng)?;
        let source = seed.get(..destination.len()).ok_or(snow::Error::Rng)?;
        destination.copy_from_slice(source);
        Ok(())
    }
}

/// X25519 that refuses a public key of low order: everybody knows the secret that such a key agrees
/// on, which is zero (RFC 7748, section 6.1). Noise leaves the check to the protocol.
struct Contributory(Box<dyn Dh>);

impl Dh for Contributory {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, private_key: &[u8]) {
        self.0.set(private_key);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(random)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, public_key: &[u8], secret: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(public_key, secret)?;
        let length = self.dh_len();
        // Folded over all octets, so that the time does not depend on the secret.
        let secret = secret.get(..length).ok_or(snow::Error::Dh)?;
        if secret.iter().fold(0, |all, octet| all | octet) == 0 {
            return Err(snow::Error::Dh);
        }
        Ok(())
    }

    fn dh_len(&self) -> usize {
        self.0.dh_len()
    }
}

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seed(Some(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let inner = DefaultResolver.resolve_dh(choice)?;
        Some(Box::new(Contributory(inner)))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn handshake_failed(detail: impl ToString) -> ProtocolError {
    ProtocolError::new(WireError::HandshakeFailed, detail)
}

fn prologue(version: u8) -> Vec<u8> {
    [PROLOGUE_PREFIX, &[version]].concat()
}

fn builder(ephemeral: [u8; 32]) -> Result<snow::Builder<'static>, ProtocolError> {
    let parameters = NOISE_NAME.parse().map_err(handshake_failed)?;
    Ok(snow::Builder::with_resolver(parameters, Box::new(SeededResolver(ephemeral))))
}

fn hash_of(state: &snow::HandshakeState) -> Result<HandshakeHash, ProtocolError> {
    let octets =
        state.get_handshake_hash().try_into().map_err(|_| handshake_failed("no handshake hash"))?;
    Ok(HandshakeHash(octets))
}

/// The version octet in front of a handshake message.
///
/// # Errors
/// [`WireError::HandshakeFailed`] if the message is empty; [`WireError::VersionUnsupported`] if the
/// version is not [`VERSION`].
pub fn peek_version(message: &[u8]) -> Result<u8, ProtocolError> {
    match message.first() {
        None => Err(handshake_failed("an empty handshake message")),
        Some(&VERSION) => Ok(VERSION),
        Some(other) => Err(ProtocolError::new(
            WireError::VersionUnsupported,
            format!("version {other}, expected {VERSION}"),
        )),
    }
}

/// What a phone has after the answer: the channel, the terminal's static key as the handshake
/// proved it, and the answer's payload.
pub type Answered = (Channel, [u8; 32], Vec<u8>);

/// The phone's side between its hello and the answer.
pub struct Initiator(Box<snow::HandshakeState>);

impl Initiator {
    /// Starts a handshake: returns the state and the first message. `ephemeral` is 32 fresh random
    /// octets.
    ///
    /// # Errors
    /// [`WireError::HandshakeFailed`] if the payload is too long.
    pub fn start(hello: &[u8], ephemeral: [u8; 32]) -> Result<(Self, Vec<u8>), ProtocolError> {
        let prologue = prologue(VERSION);
        let mut state = builder(ephemeral)?
            .prologue(&prologue)
            .and_then(snow::Builder::build_initiator)
            .map_err(handshake_failed)?;
        // snow wants room for a tag even where none is written yet.
        let mut message = vec![0; 1 + PUBLIC_KEY_OCTETS + hello.len() + TAG_OCTETS];
        message[0] = VERSION;
        let length = state.write_message(hello, &mut message[1..]).map_err(handshake_failed)?;
        message.truncate(1 + length);
        Ok((Self(Box::new(state)), message))
    }

    /// Takes the answer. On an error the state is as before: a phone on a BlueZ that leaks
    /// notifications may have been handed an answer that was for another.
    ///
    /// # Errors
    /// [`WireError::HandshakeFailed`] if the message is not an answer to this hello.
    pub fn finish(mut self, message: &[u8]) -> Result<Answered, (Self, ProtocolError)> {
        let mut payload = vec![0; message.len()];
        let result = peek_version(message).and_then(|_| {
            self.0.read_message(&message[1..], &mut payload).map_err(handshake_failed)
        });
        let length = match result {
            Ok(length) => length,
            Err(error) => return Err((self, error)),
        };
        payload.truncate(length);
        let Some(terminal_key) =
            self.0.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok())
        else {
            return Err((self, handshake_failed("the answer holds no static key")));
        };
        let hash = match hash_of(&self.0) {
            Ok(hash) => hash,
            Err(error) => return Err((self, error)),
        };
        match (*self.0).into_transport_mode() {
            Ok(transport) => {
                Ok((Channel { transport: Box::new(transport), hash }, terminal_key, payload))
            }
            // There is no state left to give back but a fresh failure.
            Err(error) => {
                debug_assert!(false, "a handshake is over after its second message: {error}");
                Err((Self::spent(), handshake_failed(error)))
            }
        }
    }

    /// Returns a state that refuses every message.
    fn spent() -> Self {
        #[allow(clippy::unwrap_used)] // The name is a constant that the tests parse.
        let state = snow::Builder::new(NOISE_NAME.parse().unwrap()).build_initiator().unwrap();
        Self(Box::new(state))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Initiator")
    }
}

/// The terminal's side: reads a first message and, given what to answer, writes the second.
///
/// `answer` gets the hello's payload and returns the answer's. `ephemeral` is 32 fresh random
/// octets.
///
/// # Errors
/// [`WireError::HandshakeFailed`] or [`WireError::VersionUnsupported`] for a message that is no
/// hello, and what `answer` returns.
pub fn accept(
    message: &[u8],
    static_key: &ChannelKey,
    ephemeral: [u8; 32],
    answer: impl FnOnce(&[u8]) -> Result<Vec<u8>, ProtocolError>,
) -> Result<(Channel, Vec<u8>), ProtocolError> {
    let version = peek_version(message)?;
    let prologue = prologue(version);
    let mut state = builder(ephemeral)?
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(static_key.expose_octets()))
        .and_then(snow::Builder::build_responder)
        .map_err(handshake_failed)?;
    let mut hello = vec![0; message.len()];
    let length = state.read_message(&message[1..], &mut hello).map_err(handshake_failed)?;
    hello.truncate(length);
    let payload = answer(&hello)?;
    let mut reply = vec![0; 1 + 2 * PUBLIC_KEY_OCTETS + 2 * TAG_OCTETS + payload.len()];
    reply[0] = version;
    let length = state.write_message(&payload, &mut reply[1..]).map_err(handshake_failed)?;
    reply.truncate(1 + length);
    let hash = hash_of(&state)?;
    let transport = state.into_transport_mode().map_err(handshake_failed)?;
    Ok((Channel { transport: Box::new(transport), hash }, reply))
}

/// An open channel. Messages are numbered inside; a lost, doubled or reordered one does not open.
pub struct Channel {
    transport: Box<snow::TransportState>,
    hash: HandshakeHash,
}

impl Channel {
    /// Encrypts a message for the other side.
    ///
    /// # Errors
    /// [`WireError::MessageTooLong`] if it has more octets than [`MESSAGE_OCTETS_MAX`] less the
    /// tag.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let too_long = |detail: String| ProtocolError::new(WireError::MessageTooLong, detail);
        if plaintext.len() + TAG_OCTETS > MESSAGE_OCTETS_MAX {
            return Err(too_long(format!("{} octets", plaintext.len())));
        }
        let mut message = vec![0; plaintext.len() + TAG_OCTETS];
        let length = self
            .transport
            .write_message(plaintext, &mut message)
            .map_err(|error| too_long(error.to_string()))?;
        message.truncate(length);
        Ok(message)
    }

    /// Decrypts a message of the other side. After an error the channel stands where it stood.
    ///
    /// # Errors
    /// [`WireError::ChannelFailed`] if it does not open.
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let mut plaintext = vec![0; message.len()];
        let length = self
            .transport
            .read_message(message, &mut plaintext)
            .map_err(|error| ProtocolError::new(WireError::ChannelFailed, error))?;
        plaintext.truncate(length);
        Ok(plaintext)
    }

    /// Returns the hash of the handshake that opened the channel.
    pub fn handshake_hash(&self) -> &HandshakeHash {
        &self.hash
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Channel")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::low_order_keys;

    fn handshake() -> (Channel, Channel) {
        let key = ChannelKey::from_octets([3; 32]);
        let (initiator, hello) = Initiator::start(b"hello", [1; 32]).unwrap();
        let (terminal, answer) = accept(&hello, &key, [2; 32], |payload| {
            assert_eq!(payload, b"hello");
            Ok(b"answer".to_vec())
        })
        .unwrap();
        let (phone, proved, payload) = initiator.finish(&answer).unwrap();
        assert_eq!(payload, b"answer");
        assert_eq!(proved, key.public_key());
        (phone, terminal)
    }

    #[test]
    fn both_sides_agree_on_keys_and_matching_code() {
        let (mut phone, mut terminal) = handshake();
        assert_eq!(phone.handshake_hash(), terminal.handshake_hash());
        let nonce = MatchingNonce([7; 16]);
        let code = matching_code(phone.handshake_hash(), &nonce);
        assert_eq!(code.len(), 6);
        assert_eq!(matching_code(terminal.handshake_hash(), &nonce), code);
        assert_ne!(matching_code(terminal.handshake_hash(), &MatchingNonce([8; 16])), code);
        assert_ne!(nonce.commitment(), MatchingNonce([8; 16]).commitment());
        for text in [&b"one"[..], b"", b"three"] {
            let message = phone.seal(text).unwrap();
            assert_eq!(terminal.open(&message).unwrap(), text);
            let message = terminal.seal(text).unwrap();
            assert_eq!(phone.open(&message).unwrap(), text);
        }
    }

    #[test]
    fn replayed_lost_and_altered_messages_do_not_open() {
        let (mut phone, mut terminal) = handshake();
        let first = phone.seal(b"first").unwrap();
        let second = phone.seal(b"second").unwrap();
        assert_eq!(terminal.open(&second).unwrap_err().wire, WireError::ChannelFailed);
        terminal.open(&first).unwrap();
        assert!(terminal.open(&first).is_err());
        let mut altered = second.clone();
        altered[0] ^= 1;
        assert!(terminal.open(&altered).is_err());
        assert_eq!(terminal.open(&second).unwrap(), b"second");
    }

    #[test]
    fn an_altered_version_or_hello_breaks_the_handshake() {
        let key = ChannelKey::from_octets([3; 32]);
        let (_, mut hello) = Initiator::start(b"hello", [1; 32]).unwrap();
        hello[0] = 2;
        let refused = accept(&hello, &key, [2; 32], |_| Ok(Vec::new())).unwrap_err();
        assert_eq!(refused.wire, WireError::VersionUnsupported);

        let (initiator, mut hello) = Initiator::start(b"hello", [1; 32]).unwrap();
        let last = hello.len() - 1;
        hello[last] ^= 1;
        let (_, answer) = accept(&hello, &key, [2; 32], |_| Ok(Vec::new())).unwrap();
        let (_, error) = initiator.finish(&answer).unwrap_err();
        assert_eq!(error.wire, WireError::HandshakeFailed);
    }

    #[test]
    fn keys_of_low_order_are_refused_on_both_sides() {
        let key = ChannelKey::from_octets([3; 32]);
        for low in low_order_keys() {
            let (initiator, mut hello) = Initiator::start(b"hello", [1; 32]).unwrap();
            let (_, mut answer) = accept(&hello, &key, [2; 32], |_| Ok(Vec::new())).unwrap();
            // The phone's ephemeral key.
            hello[1..33].copy_from_slice(&low);
            let refused = accept(&hello, &key, [2; 32], |_| Ok(Vec::new())).unwrap_err();
            assert_eq!(refused.wire, WireError::HandshakeFailed);
            assert!(refused.detail.contains("diffie-hellman"), "{refused}");
            // The terminal's ephemeral key.
            answer[1..33].copy_from_slice(&low);
            let (_, refused) = initiator.finish(&answer).unwrap_err();
            assert_eq!(refused.wire, WireError::HandshakeFailed);
            assert!(refused.detail.contains("diffie-hellman"), "{refused}");
        }
    }

    /// A terminal that shows another static key than it has.
    struct Impostor([u8; 32], [u8; 32]);

    impl CryptoResolver for Impostor {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            Some(Box::new(Seed(Some(self.0))))
        }

        fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
            Some(Box::new(Shown { inner: DefaultResolver.resolve_dh(choice)?, shown: self.1 }))
        }

        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            DefaultResolver.resolve_hash(choice)
        }

        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            DefaultResolver.resolve_cipher(choice)
        }
    }

    /// A key pair that shows `shown`, of low order, and agrees on the zero that the other side
    /// gets.
    struct Shown {
        inner: Box<dyn Dh>,
        shown: [u8; 32],
    }

    impl Dh for Shown {
        fn name(&self) -> &'static str {
            self.inner.name()
        }

        fn pub_len(&self) -> usize {
            self.inner.pub_len()
        }

        fn priv_len(&self) -> usize {
            self.inner.priv_len()
        }

        fn set(&mut self, private_key: &[u8]) {
            self.inner.set(private_key);
        }

        fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
            self.inner.generate(random)
        }

        fn pubkey(&self) -> &[u8] {
            // Only the static key is a false one.
            if self.inner.privkey() == [7; 32] { &self.shown } else { self.inner.pubkey() }
        }

        fn privkey(&self) -> &[u8] {
            self.inner.privkey()
        }

        fn dh(&self, public_key: &[u8], secret: &mut [u8]) -> Result<(), snow::Error> {
            if self.inner.privkey() == [7; 32] {
                secret[..32].fill(0);
                return Ok(());
            }
            self.inner.dh(public_key, secret)
        }
    }

    #[test]
    fn a_terminal_with_a_static_key_of_low_order_is_no_terminal() {
        for low in low_order_keys() {
            let (initiator, hello) = Initiator::start(b"hello", [1; 32]).unwrap();
            let mut state = snow::Builder::with_resolver(
                NOISE_NAME.parse().unwrap(),
                Box::new(Impostor([2; 32], low)),
            )
            .prologue(&prologue(VERSION))
            .and_then(|builder| builder.local_private_key(&[7; 32]))
            .and_then(snow::Builder::build_responder)
            .unwrap();
            let mut payload = [0; 64];
            state.read_message(&hello[1..], &mut payload).unwrap();
            let mut answer = vec![VERSION; 256];
            let length = state.write_message(b"answer", &mut answer[1..]).unwrap();
            answer.truncate(1 + length);
            let (_, refused) = initiator.finish(&answer).unwrap_err();
            assert_eq!(refused.wire, WireError::HandshakeFailed);
            assert!(refused.detail.contains("diffie-hellman"), "{refused}");
        }
    }

    #[test]
    fn an_answer_for_another_phone_leaves_the_handshake_standing() {
        let key = ChannelKey::from_octets([3; 32]);
        let (initiator, hello) = Initiator::start(b"mine", [1; 32]).unwrap();
        let (_, other_hello) = Initiator::start(b"other", [9; 32]).unwrap();
        let (_, other_answer) = accept(&other_hello, &key, [2; 32], |_| Ok(Vec::new())).unwrap();
        let (_, answer) = accept(&hello, &key, [4; 32], |_| Ok(b"yours".to_vec())).unwrap();
        let (initiator, _) = initiator.finish(&other_answer).unwrap_err();
        let (_, _, payload) = initiator.finish(&answer).unwrap();
        assert_eq!(payload, b"yours");
    }

    proptest! {
        #[test]
        fn any_octets_are_a_named_error_at_worst(octets: Vec<u8>) {
            let key = ChannelKey::from_octets([3; 32]);
            let _ = accept(&octets, &key, [2; 32], |_| Ok(Vec::new()));
            let (initiator, _) = Initiator::start(b"", [1; 32]).unwrap();
            prop_assert!(initiator.finish(&octets).is_err());
            let (mut phone, _) = handshake();
            prop_assert!(phone.open(&octets).is_err());
        }
    }
}
