"""Noise_NX_25519_ChaChaPoly_SHA256 (revision 34), both roles; docs/protocol.md, section 5."""

import copy
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NAME = b"Noise_NX_25519_ChaChaPoly_SHA256"
KEY_OCTETS = 32
TAG_OCTETS = 16


class DoesNotOpen(Exception):
    """Not meant for this channel, or altered on its way. Nothing of the state has changed."""


def public_key(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private, public):
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:  # the all-zero secret
        raise DoesNotOpen(str(error)) from error


def is_low_order(public):
    """Whether every private key agrees on the same secret with this key."""
    try:
        agree(bytes(31) + b"\x40", public)
    except DoesNotOpen:
        return True
    return False


class Cipher:
    """One direction's key with its counter."""

    def __init__(self, key):
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def _nonce(self):
        return bytes(4) + self._count.to_bytes(8, "little")

    def seal(self, plaintext, associated=b""):
        sealed = self._cipher.encrypt(self._nonce(), plaintext, associated)
        self._count += 1
        return sealed

    def open(self, sealed, associated=b""):
        try:
            plaintext = self._cipher.decrypt(self._nonce(), sealed, associated)
        except (InvalidTag, ValueError) as error:
            raise DoesNotOpen("the tag is wrong") from error
        # Only what opened is counted: a stray message must not put the directions out of step.
        self._count += 1
        return plaintext


class Symmetric:
    """Chaining key, hash and cipher of a handshake."""

    def __init__(self, prologue):
        self.hash = NAME.ljust(hashlib.sha256().digest_size, b"\0")
        self._chaining_key = self.hash
        self._key = None
        self._count = 0
        self.mix_hash(prologue)

    def mix_hash(self, octets):
        self.hash = hashlib.sha256(self.hash + octets).digest()

    def _expand(self, secret):
        extracted = hmac.digest(self._chaining_key, secret, "sha256")
        first = hmac.digest(extracted, b"\1", "sha256")
        return first, hmac.digest(extracted, first + b"\2", "sha256")

    def mix_key(self, secret):
        self._chaining_key, self._key = self._expand(secret)
        self._count = 0

    def _cipher(self):
        cipher = Cipher(self._key)
        cipher._count = self._count  # pylint: disable=protected-access
        self._count += 1
        return cipher

    def seal(self, plaintext):
        sealed = self._cipher().seal(plaintext, self.hash) if self._key else plaintext
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed):
        plaintext = self._cipher().open(sealed, self.hash) if self._key else sealed
        self.mix_hash(sealed)
        return plaintext

    def split(self):
        return tuple(Cipher(key) for key in self._expand(b""))


class Channel:
    """What a finished handshake leaves."""

    def __init__(self, sending, receiving, handshake_hash):
        self.seal = sending.seal
        self.open = receiving.open
        self.handshake_hash = handshake_hash


class Initiator:
    """The phone's side: write the first message, read the second."""

    def __init__(self, prologue, ephemeral):
        self._ephemeral = ephemeral
        self._symmetric = Symmetric(prologue)

    def write(self, payload):
        public = public_key(self._ephemeral)
        self._symmetric.mix_hash(public)
        return public + self._symmetric.seal(payload)

    def read(self, message):
        """(payload, the other's static key, channel). May be tried again with another message where
        it raises."""
        symmetric = copy.copy(self._symmetric)
        ephemeral, rest = message[:KEY_OCTETS], message[KEY_OCTETS:]
        sealed_static, sealed_payload = (
            rest[: KEY_OCTETS + TAG_OCTETS],
            rest[KEY_OCTETS + TAG_OCTETS :],
        )
        if len(sealed_payload) < TAG_OCTETS:
            raise DoesNotOpen("too short")
        symmetric.mix_hash(ephemeral)
        symmetric.mix_key(agree(self._ephemeral, ephemeral))
        static = symmetric.open(sealed_static)
        symmetric.mix_key(agree(self._ephemeral, static))
        payload = symmetric.open(sealed_payload)
        sending, receiving = symmetric.split()
        return payload, static, Channel(sending, receiving, symmetric.hash)


class Responder:
    """The terminal's side, for tests of the phone."""

    def __init__(self, prologue, ephemeral, static):
        self._ephemeral, self._static = ephemeral, static
        self._symmetric = Symmetric(prologue)
        self._other = None

    def read(self, message):
        self._other = message[:KEY_OCTETS]
        self._symmetric.mix_hash(self._other)
        return self._symmetric.open(message[KEY_OCTETS:])

    def write(self, payload):
        """(message, channel)."""
        public = public_key(self._ephemeral)
        self._symmetric.mix_hash(public)
        self._symmetric.mix_key(agree(self._ephemeral, self._other))
        message = public + self._symmetric.seal(public_key(self._static))
        self._symmetric.mix_key(agree(self._static, self._other))
        message += self._symmetric.seal(payload)
        receiving, sending = self._symmetric.split()
        return message, Channel(sending, receiving, self._symmetric.hash)
