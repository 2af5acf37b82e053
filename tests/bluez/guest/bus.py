"""A small D-Bus client for the system bus, in Python's standard library alone.

busctl would do, but each call of it takes half a second in an emulated machine, and it cannot stay:
what lasts as long as its caller does (a scan, an advertisement) needs a connection that is kept."""

import os
import re
import socket
import struct
import threading

SOCKET = "/run/dbus/system_bus_socket"
METHOD_CALL, ERROR = 1, 3
# Asking a daemon that is down whether it is down must not have the bus start it.
NO_AUTO_START = 2
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
HEADER_SIGNATURES = {
    PATH: "o",
    INTERFACE: "s",
    MEMBER: "s",
    DESTINATION: "s",
    SIGNATURE: "g",
    REPLY_SERIAL: "u",
}
NUMBERS = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
ALIGNMENT = {
    "y": 1,
    "n": 2,
    "q": 2,
    "i": 4,
    "u": 4,
    "b": 4,
    "x": 8,
    "t": 8,
    "d": 8,
    "s": 4,
    "o": 4,
    "g": 1,
    "v": 1,
    "a": 4,
    "(": 8,
    "{": 8,
}


class BusError(Exception):
    """An answer that is an error: `name` is D-Bus's (org.bluez.Error.Failed), the text whatever
    came with it."""

    def __init__(self, name, text):
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name


def first_type(signature):
    """The length of the first complete type in a signature."""
    if signature[0] == "a":
        return 1 + first_type(signature[1:])
    if signature[0] in "({":
        position = 1
        while signature[position] not in ")}":
            position += first_type(signature[position:])
        return position + 1
    return 1


def types(signature):
    while signature:
        length = first_type(signature)
        yield signature[:length]
        signature = signature[length:]


class Writer:
    def __init__(self):
        self.data = bytearray()

    def align(self, size):
        self.data += bytes(-len(self.data) % size)

    def write(self, kind, value):
        code = kind[0]
        self.align(ALIGNMENT[code])
        if code in NUMBERS:
            self.data += struct.pack("<" + NUMBERS[code], value)
        elif code == "b":
            self.data += struct.pack("<I", bool(value))
        elif code in "so":
            text = value.encode()
            self.data += struct.pack("<I", len(text)) + text + b"\0"
        elif code == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif code == "v":
            inner, content = value  # a variant is written as (signature, value)
            self.write("g", inner)
            self.write(inner, content)
        elif code == "a":
            place = len(self.data)
            self.data += bytes(4)
            self.align(ALIGNMENT[kind[1]])
            start = len(self.data)
            for item in value.items() if kind[1] == "{" else value:
                self.write(kind[1:], item)
            struct.pack_into("<I", self.data, place, len(self.data) - start)
        else:
            for inner, item in zip(types(kind[1:-1]), value, strict=True):
                self.write(inner, item)


class Reader:
    def __init__(self, data, order):
        self.data = data
        self.order = order
        self.position = 0

    def align(self, size):
        self.position += -self.position % size

    def take(self, length):
        self.position += length
        return self.data[self.position - length : self.position]

    def read(self, kind):
        code = kind[0]
        self.align(ALIGNMENT[code])
        if code in NUMBERS or code == "b":
            form = self.order + NUMBERS.get(code, "I")
            value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
            return bool(value) if code == "b" else value
        if code in "so":
            text = self.take(self.read("u")).decode("utf-8", "replace")
            self.take(1)
            return text
        if code == "g":
            text = self.take(self.take(1)[0]).decode()
            self.take(1)
            return text
        if code == "v":
            return self.read(self.read("g"))
        if code == "a":
            length = self.read("u")
            self.align(ALIGNMENT[kind[1]])
            end = self.position + length
            if kind[1] == "y":
                return bytes(self.take(length))
            items = []
            while self.position < end:
                items.append(self.read(kind[1:]))
            return dict(items) if kind[1] == "{" else items
        return tuple(self.read(inner) for inner in types(kind[1:-1]))


class Bus:
    """One connection to the system bus. What was made through it (a scan) ends with close()."""

    def __init__(self, seconds=30):
        self._lock = threading.Lock()
        self._serial = 0
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        self._socket.connect(SOCKET)
        self._socket.sendall(
            b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n"
        )
        answer = self._line()
        if not answer.startswith(b"OK"):
            raise BusError("authentication", answer.decode("utf-8", "replace"))
        self._socket.sendall(b"BEGIN\r\n")
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def _more(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the bus closed the connection")
        self._buffer += data

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _message(self):
        while len(self._buffer) < 16:
            self._more()
        order = "<" if self._buffer[:1] == b"l" else ">"
        body_length, fields_length = struct.unpack_from(order + "I4xI", self._buffer, 4)
        header_length = 16 + fields_length + (-fields_length % 8)
        while len(self._buffer) < header_length + body_length:
            self._more()
        header = Reader(self._buffer[:header_length], order)
        header.position = 12
        fields = dict(header.read("a(yv)"))
        body = Reader(self._buffer[header_length : header_length + body_length], order)
        kind = self._buffer[1]
        self._buffer = self._buffer[header_length + body_length :]
        return kind, fields, [body.read(inner) for inner in types(fields.get(SIGNATURE, ""))]

    def call(self, destination, path, interface, member, signature="", *values):
        """Calls a method; what it returned: None, the value, or a tuple of them. Variants are given
        as (signature, value)."""
        with self._lock:
            self._serial += 1
            body = Writer()
            for kind, value in zip(types(signature), values, strict=True):
                body.write(kind, value)
            fields = {PATH: path, INTERFACE: interface, MEMBER: member, DESTINATION: destination}
            if signature:
                fields[SIGNATURE] = signature
            message = Writer()
            for kind, value in zip(
                "yyyyuu",
                (ord("l"), METHOD_CALL, NO_AUTO_START, 1, len(body.data), self._serial),
                strict=True,
            ):
                message.write(kind, value)
            message.write(
                "a(yv)",
                [(code, (HEADER_SIGNATURES[code], value)) for code, value in fields.items()],
            )
            message.align(8)
            self._socket.sendall(message.data + body.data)
            while True:
                kind, fields, returned = self._message()
                if fields.get(REPLY_SERIAL) != self._serial:
                    continue  # a signal, as NameAcquired; nobody here waits for one
                if kind == ERROR:
                    raise BusError(
                        fields[ERROR_NAME],
                        returned[0] if returned and isinstance(returned[0], str) else "",
                    )
                return tuple(returned) if len(returned) > 1 else (returned[0] if returned else None)

    def get(self, destination, path, interface, name):
        return self.call(
            destination, path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, name
        )

    def set(self, destination, path, interface, name, signature, value):
        self.call(
            destination,
            path,
            "org.freedesktop.DBus.Properties",
            "Set",
            "ssv",
            interface,
            name,
            (signature, value),
        )

    def owner(self, name):
        """The connection that owns a name; None if nobody does."""
        try:
            return self.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "GetNameOwner",
                "s",
                name,
            )
        except BusError:
            return None

    def close(self):
        self._socket.close()


def object_name(text):
    """A unit's object path at systemd, which writes what is no letter or digit as _XX."""
    return re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):02x}", text)
