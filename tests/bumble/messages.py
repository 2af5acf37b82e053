"""The messages of proto/, encoded and decoded: the .proto files are read as they stand, so no
generated code can be stale."""

import pathlib
import re
from types import SimpleNamespace

NUMBER_KINDS = ("uint32", "uint64", "fixed64", "bool")
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5


class Malformed(Exception):
    """Octets that are not what they should be."""


def _proto_directory():
    for parent in pathlib.Path(__file__).resolve().parents:
        if (parent / "proto" / "florin").is_dir():
            return parent / "proto"
    raise FileNotFoundError("no proto/florin above this file")


def _read_schemas():
    """{message name: {field number: field}}, and the names of enumerations."""
    schemas, enumerations = {}, {}
    for path in sorted(_proto_directory().rglob("*.proto")):
        text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
        for kind, name, body in re.findall(
            r"\b(message|enum)\s+(\w+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", text
        ):
            if name in schemas or name in enumerations:
                raise ValueError(f"two definitions of {name}")
            if kind == "enum":
                enumerations[name] = {
                    int(number): value for value, number in re.findall(r"(\w+)\s*=\s*(\d+)", body)
                }
                continue
            members = "".join(re.findall(r"oneof\s+\w+\s*\{([^}]*)\}", body))
            fields = {}
            for repeated, of, field, number in re.findall(
                r"(repeated\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body
            ):
                in_oneof = re.search(rf"\b{field}\s*=", members) is not None
                fields[int(number)] = SimpleNamespace(
                    number=int(number),
                    name=field,
                    of=of,
                    repeated=bool(repeated),
                    in_oneof=in_oneof,
                )
            schemas[name] = fields
    return schemas, enumerations


SCHEMAS, ENUMERATIONS = _read_schemas()


def _varint(number):
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _read_varint(octets, position):
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(octets):
            raise Malformed("a number is cut off")
        number |= (octets[position] & 0x7F) << shift
        position += 1
        if octets[position - 1] < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, position
    raise Malformed("a number has more than ten octets")


def _is_number(field):
    return field.of in NUMBER_KINDS or field.of in ENUMERATIONS


def _encode_one(field, value):
    if field.of == "fixed64":
        return _varint(field.number << 3 | FIXED_64) + int(value).to_bytes(8, "little")
    if _is_number(field):
        return _varint(field.number << 3 | VARINT) + _varint(int(value))
    if field.of == "string":
        value = value.encode()
    elif isinstance(value, dict):
        value = encode(field.of, **value)
    return _varint(field.number << 3 | LENGTH) + _varint(len(value)) + value


def encode(name, /, **values):
    """A message's octets. A message within is given as a dictionary, or encoded already."""
    octets = b""
    for number, field in sorted(SCHEMAS[name].items()):
        value = values.pop(field.name, None)
        if value is None:
            continue
        if field.repeated and _is_number(field):
            packed = b"".join(_varint(int(one)) for one in value)
            if packed:
                octets += _varint(number << 3 | LENGTH) + _varint(len(packed)) + packed
        elif field.repeated:
            octets += b"".join(_encode_one(field, one) for one in value)
        # Defaults are left out; a member of a oneof says by its presence which one it is.
        elif field.in_oneof or field.of in SCHEMAS or value:
            octets += _encode_one(field, value)
    if values:
        raise ValueError(f"{name} has no {', '.join(values)}")
    return octets


def _default(field):
    if field.repeated:
        return []
    if _is_number(field):
        return False if field.of == "bool" else 0
    return {"string": "", "bytes": b""}.get(field.of)


def _number(field, number):
    # A number that is too large stays too large: cut to 32 bits, it might be in its range.
    return number != 0 if field.of == "bool" else number


def _raw_fields(octets):
    """(number, wire type, value) of each field."""
    position = 0
    while position < len(octets):
        key, position = _read_varint(octets, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise Malformed("a field with number 0")
        if wire_type == VARINT:
            value, position = _read_varint(octets, position)
        elif wire_type in (LENGTH, FIXED_32, FIXED_64):
            size = {FIXED_32: 4, FIXED_64: 8}.get(wire_type)
            if size is None:
                size, position = _read_varint(octets, position)
            value = octets[position : position + size]
            position += size
            if position > len(octets):
                raise Malformed("a field is cut off")
        else:
            raise Malformed(f"wire type {wire_type}")
        yield number, wire_type, value


def decode(name, octets):
    """A message: an object with every field, and `which`, the name of the member of its oneof that
    is there."""
    schema = SCHEMAS[name]
    message = SimpleNamespace(
        which=None, **{field.name: _default(field) for field in schema.values()}
    )
    inner = {}
    for number, wire_type, value in _raw_fields(octets):
        field = schema.get(number)
        # Unknown fields are ignored, and so is a known number in a shape that is not its own.
        if field is None or wire_type == FIXED_32:
            continue
        if field.of == "fixed64":
            if wire_type == FIXED_64:
                setattr(message, field.name, int.from_bytes(value, "little"))
            continue
        if wire_type == FIXED_64:
            continue
        if _is_number(field):
            if wire_type == LENGTH and field.repeated:
                position = 0
                while position < len(value):
                    one, position = _read_varint(value, position)
                    getattr(message, field.name).append(_number(field, one))
                continue
            if wire_type != VARINT:
                continue
            found = _number(field, value)
        elif wire_type != LENGTH:
            continue
        elif field.of == "string":
            try:
                found = value.decode()
            except UnicodeDecodeError as error:
                raise Malformed(f"{field.name} is no UTF-8") from error
        elif field.of == "bytes":
            found = value
        elif field.repeated:
            found = decode(field.of, value)
        else:
            # A message that comes in parts is joined, as protobuf has it: parts of encodings are
            # encodings.
            if field.in_oneof and message.which != field.name:
                inner.pop(field.name, None)
            inner[field.name] = inner.get(field.name, b"") + value
            found = decode(field.of, inner[field.name])
        if field.repeated:
            getattr(message, field.name).append(found)
            continue
        if field.in_oneof:
            if message.which not in (None, field.name):
                setattr(message, message.which, None)
            message.which = field.name
        setattr(message, field.name, found)
    return message
