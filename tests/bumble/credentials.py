"""Who vouches for what: signatures, keyring, certificate, card command, seal; docs/protocol.md,
section 7."""

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import noise
from displayed_text import NotDisplayed, check_displayed
from messages import ENUMERATIONS, decode, encode

TYPE = "application/vnd.florin.%s.v1"
KEY_ID_OCTETS = 8
SEC1_OCTETS = 65
SUITE = 1
SEAL_INFORMATION = b"florin card-command v1"
PURPOSES = {
    name.removeprefix("KEY_PURPOSE_").lower(): number
    for number, name in ENUMERATIONS["KeyPurpose"].items()
}


class NotValid(Exception):
    """A credential that must not be believed."""


class UnknownKey(NotValid):
    """The keyring lacks the key. A newer keyring may have it."""


def digest(octets):
    return hashlib.sha256(octets).digest()


# Signatures


def pre_authentication_encoding(kind, body):
    kind = (TYPE % kind).encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def _private_key(private):
    return ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())


def card_public_key(private):
    """SEC1, uncompressed."""
    numbers = _private_key(private).public_key().public_numbers()
    return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def sign(private, kind, body):
    try:
        algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    except (
        TypeError,
        UnsupportedAlgorithm,
    ):  # an older library signs with randomness, which is as good
        algorithm = ec.ECDSA(hashes.SHA256())
    r, s = decode_dss_signature(
        _private_key(private).sign(pre_authentication_encoding(kind, body), algorithm)
    )
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def verify(public, kind, body, signature):
    if len(signature) != 64:
        raise NotValid(f"a signature of {len(signature)} octets")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        key.verify(
            encode_dss_signature(r, s),
            pre_authentication_encoding(kind, body),
            ec.ECDSA(hashes.SHA256()),
        )
    except (InvalidSignature, ValueError) as error:
        raise NotValid(f"the signature of the {kind} is wrong") from error


# Keyring


def _is_of_its_kind(key):
    if key.purpose == PURPOSES["sealing"]:
        return len(key.public_key) == noise.KEY_OCTETS and not noise.is_low_order(key.public_key)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.public_key)
    except ValueError:
        return False
    return len(key.public_key) == SEC1_OCTETS


class Keyring:
    """The institution's keys, vouched for by its root key."""

    def __init__(self, encoded, root_public):
        signed = decode("Signed", encoded)
        if signed.key_id != digest(root_public)[:KEY_ID_OCTETS]:
            raise NotValid("the keyring is signed by another root key")
        verify(root_public, "keyring", signed.body, signed.signature)
        self._keyring = decode("Keyring", signed.body)
        self._check_keys()
        self.issued_at_unix_s = self._keyring.issued_at_unix_s

    def _check_keys(self):
        try:
            check_displayed(self._keyring.institution_name, 1, 64)
        except NotDisplayed as error:
            raise NotValid(f"the name of the institution: {error}") from error
        purposes = set(PURPOSES.values()) - {0}
        known = [key for key in self._keyring.keys if key.purpose in purposes]
        if {key.purpose for key in known} != purposes:
            raise NotValid("the keyring has no key for one of its purposes")
        if len({key.public_key for key in known}) != len(known):
            raise NotValid("a key is in the keyring twice")
        for key in known:
            if key.key_id != digest(key.public_key)[:KEY_ID_OCTETS]:
                raise NotValid("a key of the keyring has another id")
            if not _is_of_its_kind(key):
                raise NotValid("a key of the keyring is not of its kind")

    def open(self, purpose, kind, encoded, now_unix_s):
        """The body of a `Signed`, if a key of that purpose signed it."""
        signed = decode("Signed", encoded)
        for key in self._keyring.keys:
            if (key.purpose, key.key_id) == (PURPOSES[purpose], signed.key_id):
                if now_unix_s > key.not_after_unix_s:
                    raise UnknownKey(f"the time of the key of this {kind} has run out")
                verify(key.public_key, kind, signed.body, signed.signature)
                return signed.body
        raise UnknownKey(f"the keyring has no key for this {kind}")

    def sealing_key(self, now_unix_s):
        keys = [
            key
            for key in self._keyring.keys
            if key.purpose == PURPOSES["sealing"] and key.not_after_unix_s >= now_unix_s
        ]
        if not keys:
            raise NotValid("the keyring has no sealing key that is good now")
        return max(keys, key=lambda key: key.not_after_unix_s).public_key


# Seal: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305

_KEM = b"KEM" + (0x0020).to_bytes(2, "big")
_HPKE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))


def _extract(suite, salt, label, secret):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")


def _expand(suite, key, label, information, octets):
    """Of at most 32 octets: one round of HKDF-Expand is enough for all that is needed here."""
    labelled = octets.to_bytes(2, "big") + b"HPKE-v1" + suite + label + information
    return hmac.digest(key, labelled + b"\1", "sha256")[:octets]


def derive_key(material):
    """DeriveKeyPair of the key encapsulation: the private key."""
    return _expand(_KEM, _extract(_KEM, b"", b"dkp_prk", material), b"sk", b"", 32)


def _hpke_cipher(secret, encapsulated, recipient, information):
    shared = _expand(
        _KEM,
        _extract(_KEM, b"", b"eae_prk", secret),
        b"shared_secret",
        encapsulated + recipient,
        32,
    )
    base_mode = b"\0"
    context = (
        base_mode
        + _extract(_HPKE, b"", b"psk_id_hash", b"")
        + _extract(_HPKE, b"", b"info_hash", information)
    )
    key = _extract(_HPKE, shared, b"secret", b"")
    return ChaCha20Poly1305(_expand(_HPKE, key, b"key", context, 32)), _expand(
        _HPKE, key, b"base_nonce", context, 12
    )


def hpke_seal(recipient, information, associated, plaintext, ephemeral):
    """(encapsulated key, ciphertext)."""
    encapsulated = noise.public_key(ephemeral)
    cipher, nonce = _hpke_cipher(
        noise.agree(ephemeral, recipient), encapsulated, recipient, information
    )
    return encapsulated, cipher.encrypt(nonce, plaintext, associated)


def hpke_open(private, encapsulated, information, associated, ciphertext):
    """The institution's side, for tests of the phone."""
    recipient = noise.public_key(private)
    cipher, nonce = _hpke_cipher(
        noise.agree(private, encapsulated), encapsulated, recipient, information
    )
    return cipher.decrypt(nonce, ciphertext, associated)


# Card command


def card_command(card_id, private, offer_digest, counter, holder_verification):
    """The signed command, encoded: what is sealed."""
    body = encode(
        "CardCommand",
        card_id=card_id,
        offer_digest=offer_digest,
        counter=counter,
        holder_verification=holder_verification,
    )
    return encode("Signed", body=body, signature=sign(private, "card-command", body))


def sealed_command(sealing_public, offer_digest, plaintext, ephemeral):
    encapsulated, ciphertext = hpke_seal(
        sealing_public, SEAL_INFORMATION, offer_digest, plaintext, ephemeral
    )
    return encode(
        "SealedCommand",
        suite=SUITE,
        key_id=digest(sealing_public)[:KEY_ID_OCTETS],
        encapsulated_key=encapsulated,
        ciphertext=ciphertext,
    )


def enrolment_proof(private, code):
    return sign(private, "card-enrolment", code.replace("-", "").upper().encode())
