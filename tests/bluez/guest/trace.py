"""Records everything between the kernel and the controllers, in btmon's format: `btmon --read FILE`
shows it.

btmon itself would do, but it decodes whatever it records, which costs an emulated processor a lot,
and BlueZ 5.66's crashes over ATT frames of a controller that has gone, which is what this bed is
about: the trace would end where it gets interesting."""

import ctypes
import os
import select
import socket
import struct
import threading

AF_BLUETOOTH = 31
BTPROTO_HCI = 1
NO_DEVICE = 0xFFFF
CHANNEL_MONITOR = 2
SO_TIMESTAMP = 29
SO_RCVBUFFORCE = 33
# btsnoop counts microseconds from the year 0; this is 1970.
EPOCH = 0x00E03AB44A676000 - 946_684_800_000_000
FORMAT_MONITOR = 2001


class Trace:
    """Records from its making until stop()."""

    def __init__(self, path):
        self._file = open(path, "wb", buffering=0)
        self._file.write(b"btsnoop\0" + struct.pack(">II", 1, FORMAT_MONITOR))
        self._socket = socket.socket(
            AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        # Python's own bind knows no channels.
        address = struct.pack("=HHH", AF_BLUETOOTH, NO_DEVICE, CHANNEL_MONITOR)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), "cannot listen to the kernel's Bluetooth monitor")
        self._socket.setblocking(False)
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def _record(self):
        while True:
            ready, _, _ = select.select([self._socket, self._end_read], [], [])
            records = []
            while (record := self._next()) is not None:
                records.append(record)
            if records:
                # In one go: each write is a round trip to the host.
                self._file.write(b"".join(records))
            elif self._end_read in ready:
                return

    def _next(self):
        try:
            message, ancillary, _, _ = self._socket.recvmsg(4096, 64)
        except BlockingIOError:
            return None
        seconds, microseconds = struct.unpack("=qq", ancillary[0][2][:16])
        opcode, index, length = struct.unpack_from("<HHH", message)
        time = EPOCH + seconds * 1_000_000 + microseconds
        return struct.pack(">IIIIQ", length, length, index << 16 | opcode, 0, time) + message[6:]

    def stop(self):
        if self._thread.is_alive():
            os.write(self._end_write, b"x")
            self._thread.join(10)
        self._file.close()
        self._socket.close()
