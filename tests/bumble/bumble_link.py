"""The phone's radio: Google's Bumble on a controller of its own. docs/protocol.md, sections 2 and
3."""

import asyncio
import contextlib
import socket

# Python built without BlueZ's headers lacks them; Bumble asks for them by name.
if not hasattr(socket, "AF_BLUETOOTH"):
    socket.AF_BLUETOOTH = 31
if not hasattr(socket, "BTPROTO_HCI"):
    socket.BTPROTO_HCI = 1

# Bumble's modules look for those names when they are loaded.
from bumble import core, gatt, hci  # noqa: E402
from bumble.device import Device, Peer  # noqa: E402
from bumble.transport import open_transport  # noqa: E402

SERVICE = core.UUID("f1079a00-5a1e-4d7c-9c1b-3e6f0c7d8a01")
INBOX = core.UUID("f1079a01-5a1e-4d7c-9c1b-3e6f0c7d8a01")
OUTBOX = core.UUID("f1079a02-5a1e-4d7c-9c1b-3e6f0c7d8a01")
INFO = core.UUID("f1079a03-5a1e-4d7c-9c1b-3e6f0c7d8a01")

ATT_HEADER_OCTETS = 3
# docs/protocol.md, section 4
WRITTEN_OCTETS_MAX = 508
QUIET_S = 4
SERVICE_LISTS = (
    core.AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    core.AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
)


# bluetoothd crashes over a value whose sender has disconnected before it came to it: 5.62 to 5.82
# at least.
LAST_VALUE_S = 0.3


class Lost(Exception):
    """The link is gone, or nothing came over it in time."""


class NotFound(Lost):
    """No advertisement of the terminal."""


def _name(data):
    return data.get(core.AdvertisingData.COMPLETE_LOCAL_NAME)


def _offers_payments(data):
    return any(SERVICE in services for kind in SERVICE_LISTS for services in data.get_all(kind))


class Connection:
    """A connection whose outbox is subscribed to."""

    def __init__(self, peer, with_response):
        self._peer = peer
        self._with_response = with_response
        self._values = asyncio.Queue()
        self._inbox = None
        self._configuration = None
        self.info = None
        peer.connection.on(
            peer.connection.EVENT_DISCONNECTION, lambda reason: self._values.put_nowait(None)
        )

    @property
    def value_octets(self):
        return min(self._peer.gatt_client.mtu - ATT_HEADER_OCTETS, WRITTEN_OCTETS_MAX)

    async def prepare(self, mtu, read_info):
        if mtu > 23:
            await self._peer.request_mtu(mtu)
        services = await self._peer.discover_service(SERVICE)
        if len(services) != 1:
            raise Lost(f"{len(services)} payment services")
        await services[0].discover_characteristics()
        found = {
            characteristic.uuid: characteristic for characteristic in services[0].characteristics
        }
        missing = [str(uuid) for uuid in (INBOX, OUTBOX, INFO) if uuid not in found]
        if missing:
            raise Lost(f"no characteristic {' '.join(missing)}")
        self._inbox = found[INBOX]
        if read_info:
            self.info = await found[INFO].read_value()
        await self._peer.subscribe(found[OUTBOX], self._values.put_nowait)
        self._configuration = found[OUTBOX].get_descriptor(
            gatt.GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR
        )

    async def write(self, values):
        try:
            for value in values:
                await self._inbox.write_value(value, with_response=self._with_response)
        except (core.BaseBumbleError, asyncio.CancelledError) as error:
            raise Lost(str(error)) from error

    async def next_value(self, seconds):
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            left = end - loop.time()
            if left <= 0:
                raise Lost(f"nothing came in {seconds} s")
            try:
                value = await asyncio.wait_for(self._values.get(), min(left, QUIET_S))
                break
            except TimeoutError:
                await self._subscribe_again()
        if value is None:
            raise Lost("the terminal is out of reach")
        return value

    async def _subscribe_again(self):
        """docs/protocol.md, section 4: Silence."""
        try:
            for octets in (b"\x00\x00", b"\x01\x00"):
                await self._configuration.write_value(octets, with_response=True)
        except (core.BaseBumbleError, asyncio.CancelledError) as error:
            raise Lost(str(error)) from error

    async def close(self):
        await asyncio.sleep(LAST_VALUE_S)
        with contextlib.suppress(core.BaseBumbleError, asyncio.CancelledError):
            await self._peer.connection.disconnect()


def read_fairly(source):
    """Bumble reads a socket until it is empty. On a slow machine advertisements come as fast as it
    reads them, and it never ends."""
    if not hasattr(source, "recv_until_would_block"):
        return

    def receive_one():
        with contextlib.suppress(BlockingIOError):
            source.parser.feed_data(source.socket.recv(4096))

    loop = asyncio.get_running_loop()
    loop.remove_reader(source.socket.fileno())
    loop.add_reader(source.socket.fileno(), receive_one)


class Radio:
    """The controller, as Bumble names it: "hci-socket:1" is hci1, which must be down for the
    kernel."""

    def __init__(self, device):
        self._device = device

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, controller):
        async with await open_transport(controller) as transport:
            read_fairly(transport.source)
            # A new address each time, as phones do.
            address = hci.Address.generate_static_address()
            device = Device.with_hci("phone", address, transport.source, transport.sink)
            await device.power_on()
            yield cls(device)
            with contextlib.suppress(core.BaseBumbleError):
                await device.power_off()

    async def find(self, short_code, seconds=30):
        """The address of the terminal with that short code."""
        found = asyncio.get_running_loop().create_future()

        def on_advertisement(advertisement):
            # The name is in the scan response: before that has come there is nothing to tell
            # terminals apart by.
            data = advertisement.data
            if (
                _offers_payments(data)
                and _name(data) == f"Florin {short_code}"
                and not found.done()
            ):
                found.set_result(advertisement.address)

        self._device.on(Device.EVENT_ADVERTISEMENT, on_advertisement)
        await self._device.start_scanning(active=True, filter_duplicates=True)
        try:
            return await asyncio.wait_for(found, seconds)
        except TimeoutError:
            raise NotFound(f"no terminal {short_code} in {seconds} s") from None
        finally:
            self._device.remove_listener(Device.EVENT_ADVERTISEMENT, on_advertisement)
            await self._device.stop_scanning()

    async def connect(self, address, mtu, with_response, read_info):
        try:
            connection = Connection(
                Peer(await self._device.connect(address, timeout=20)), with_response
            )
        except (core.BaseBumbleError, asyncio.CancelledError) as error:
            raise Lost(str(error)) from error
        try:
            await connection.prepare(mtu, read_info)
        except (core.BaseBumbleError, asyncio.CancelledError, Lost) as error:
            # Or the next attempt would be a second connection beside this one, which no controller
            # takes well.
            await connection.close()
            raise Lost(str(error)) from error
        return connection
