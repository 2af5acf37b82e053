"""What the phone keeps, as JSON files: the card, and beside it each payment. Stored durably before
anything is sent."""

import dataclasses
import json
import os
import pathlib

from phone import Card, Payment

__all__ = ["Card", "Payment", "load", "load_payment", "save", "save_payment"]


def _write(path, thing):
    """The whole file or none of it, also when the power fails."""
    path = pathlib.Path(path)
    fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    text = json.dumps(
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in fields.items()
        },
        indent=2,
    )
    aside = path.with_suffix(".new")
    with open(
        os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _read(path, kind):
    values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    octets = {field.name for field in dataclasses.fields(kind) if field.type in (bytes, "bytes")}
    return kind(
        **{
            name: bytes.fromhex(value) if name in octets else value
            for name, value in values.items()
        }
    )


def load(path):
    return _read(path, Card)


def save(path, card):
    _write(path, card)


def _payment_path(card_path, transaction_id):
    return pathlib.Path(card_path).with_suffix(f".{transaction_id.hex()}.payment")


def load_payment(card_path, transaction_id):
    return _read(_payment_path(card_path, transaction_id), Payment)


def save_payment(card_path, payment):
    _write(_payment_path(card_path, payment.transaction_id), payment)
