//! The running GATT service: one loop that passes events from BlueZ to the driver, and commands
//! from the driver to BlueZ.

use std::time::Duration;

use bluer::gatt::CharacteristicWriter;
use bluer::gatt::local::{ApplicationHandle, CharacteristicControl, CharacteristicControlEvent};
use bluer::{Adapter, Address, DeviceEvent, DeviceProperty, Session};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::adapter::{connected_phones, find_adapter, is_phone, power_cycle, power_on};
use super::advertising::Advertising;
use super::answer_timeout::with_answer_timeout;
use super::bluez_session::BlueZSession;
use super::bluez_version::BlueZVersion;
use super::bus_watch::{BusEvent, BusWatch, ConnectedDevice};
use super::fault::RadioFault;
use super::gatt_database::{InboxWrite, application};
use super::notification_socket::NotificationSocket;
use super::phones::{Phones, SendOutcome};
use super::settings::PeripheralSettings;
use crate::link::{LinkCommand, LinkEvent, RecoveryAction, att};
use crate::terminal::{AdvertisingPace, PhoneAddress, PhoneId};

/// How many inputs may wait for the loop. The loop never waits for a phone, so they are few.
const INPUTS_MAX: usize = 1024;
/// How many places of the event queue are kept free of values, for events that must be delivered in
/// any case.
const EVENTS_RESERVED: usize = 128;
/// How many values one phone may have in the event queue while there is hardly any room: as many as
/// the longest command takes at the smallest MTU. Only phones with more are disconnected.
const QUEUED_VALUES_FAIR_SHARE: u32 = 128;
/// How long a phone gets to receive the last values before it is disconnected: some intervals of a
/// slow connection, since BlueZ does not report when a notification has left.
const DISCONNECT_DELAY: Duration = Duration::from_millis(500);
/// How long BlueZ gets to disconnect a phone; after that, the phone counts as gone.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often each phone's connection is checked, in case BlueZ removed it without a signal.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What BlueZ's callbacks and the watching tasks report to the loop.
enum Input {
    Wrote(InboxWrite),
    Connected { address: Address },
    SocketClosed { address: Address, number: u64 },
    Disconnected { address: Address, phone: PhoneId },
}

/// The service as it is registered with BlueZ. Dropping it removes it.
pub(super) struct Service {
    adapter: Adapter,
    advertising: Advertising,
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    outbox_control: CharacteristicControl,
    phones: Phones,
    _application: ApplicationHandle,
}

impl Service {
    /// Registers the GATT database with BlueZ over this session, and advertisements over the
    /// registrar. `action` is the recovery action after the previous fault. Must run, with
    /// everything that the service does later, on the session's own thread.
    pub(super) async fn start(
        session: &Session,
        registrar: BlueZSession,
        settings: &PeripheralSettings,
        pace: AdvertisingPace,
        next_phone: u64,
        action: Option<RecoveryAction>,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<Self, RadioFault> {
        let adapter = find_adapter(session, settings.adapter.as_deref()).await?;
        let bluez = prepare(&adapter, action, events).await?;
        let (input_sender, inputs) = mpsc::channel(INPUTS_MAX);
        let write_sender = input_sender.clone();
        let (application, outbox_control) =
            application(settings.info(), bluez.keeps_requested_handles(), move |write| {
                write_sender.try_send(Input::Wrote(write)).is_ok()
            });
        let registering = async {
            with_answer_timeout(adapter.serve_gatt_application(application)).await?.map_err(
                |error| RadioFault::of(&error, adapter.name(), "registering the GATT service"),
            )
        };
        // The service is registered first; no phone connects so quickly that it could miss it.
        let advertising = Advertising::start(
            registrar,
            adapter.clone(),
            settings.terminal_id,
            pace,
            events.clone(),
        );
        // The watch of the bus reports everybody who connects from now on.
        let connected = connected_phones(&adapter);
        let (application, advertising, connected) =
            tokio::try_join!(biased; registering, advertising, connected)?;
        for address in connected {
            let _ = input_sender.try_send(Input::Connected { address });
        }
        Ok(Self {
            adapter,
            advertising,
            inputs,
            input_sender,
            outbox_control,
            phones: Phones::new(next_phone, bluez.has_socket_per_phone()),
            _application: application,
        })
    }

    pub(super) fn adapter_name(&self) -> &str {
        self.adapter.name()
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        self.advertising.pace()
    }

    pub(super) fn next_phone(&self) -> u64 {
        self.phones.next_phone()
    }

    /// Serves phones until the link is dropped (`Ok`) or a fault ends it. Then it reports every
    /// phone as disconnected.
    pub(super) async fn run(
        &mut self,
        bus: &mut BusWatch,
        events: &mpsc::Sender<LinkEvent>,
        commands: &mut mpsc::Receiver<LinkCommand>,
    ) -> Result<(), RadioFault> {
        let ended = self.serve(bus, events, commands).await;
        for phone in self.phones.ids() {
            let _ = events.send(LinkEvent::Disconnected { phone }).await;
        }
        ended
    }

    async fn serve(
        &mut self,
        bus: &mut BusWatch,
        events: &mpsc::Sender<LinkEvent>,
        commands: &mut mpsc::Receiver<LinkCommand>,
    ) -> Result<(), RadioFault> {
        loop {
            tokio::select! {
                // The order matters: a subscription is handled before a write that came after it.
                // Writes come last, so that a phone that floods does not keep others waiting.
                biased;
                event = bus.next() => match event {
                    BusEvent::BlueZLost => return Err(RadioFault::BlueZRestarted),
                    BusEvent::Changed => self.advertising.check(),
                    BusEvent::DeviceConnected(device) => self.check_device(device),
                },
                fault = self.advertising.failure() => return Err(fault),
                control = self.outbox_control.next() => match control {
                    Some(CharacteristicControlEvent::Notify(writer)) => {
                        self.subscribed(writer, events).await;
                    }
                    Some(CharacteristicControlEvent::Write(_)) => {}
                    None => return Err(RadioFault::BlueZRestarted),
                },
                command = commands.recv() => match command {
                    Some(LinkCommand::Notify { phone, value }) => self.notify(phone, value),
                    Some(LinkCommand::Disconnect { phone }) => self.disconnect(phone),
                    Some(LinkCommand::Advertise(pace)) => self.advertising.set_pace(pace),
                    None => return Ok(()),
                },
                // The service keeps a sender itself, so the channel never closes.
                Some(input) = self.inputs.recv() => self.handle(input, events).await,
            }
        }
    }

    async fn handle(&mut self, input: Input, events: &mpsc::Sender<LinkEvent>) {
        match input {
            Input::Wrote(write) => self.wrote(write, events).await,
            Input::Connected { address } => {
                let _ = self.phone_at(address, events).await;
            }
            Input::SocketClosed { address, number } => self.phones.remove_socket(address, number),
            Input::Disconnected { address, phone } => {
                if self.phones.remove(address, phone) {
                    let _ = events.send(LinkEvent::Disconnected { phone }).await;
                    self.advertising.refresh();
                }
            }
        }
    }

    /// A phone has subscribed to the outbox.
    async fn subscribed(&mut self, writer: CharacteristicWriter, events: &mpsc::Sender<LinkEvent>) {
        let address = writer.device_address();
        if let Some(phone) = self.phone_at(address, events).await {
            self.phones.record_use(phone);
        }
        let number = self.phones.next_socket_number();
        let inputs = self.input_sender.clone();
        let socket = NotificationSocket::start(writer, async move {
            let _ = inputs.send(Input::SocketClosed { address, number }).await;
        });
        match socket {
            Ok(socket) => self.phones.add_socket(address, number, socket),
            Err(error) => tracing::warn!(%error, "a notification socket could not be taken over"),
        }
    }

    /// A device has connected: finds out whether it is a phone on this adapter.
    fn check_device(&self, ConnectedDevice { adapter, address }: ConnectedDevice) {
        if adapter != self.adapter.name() {
            return;
        }
        let (adapter, inputs) = (self.adapter.clone(), self.input_sender.clone());
        tokio::spawn(async move {
            let Ok(device) = adapter.device(address) else { return };
            if is_phone(&device).await {
                let _ = inputs.send(Input::Connected { address }).await;
            }
        });
    }

    /// A phone has written to the inbox.
    async fn wrote(&mut self, write: InboxWrite, events: &mpsc::Sender<LinkEvent>) {
        let InboxWrite { address, mtu, value } = write;
        let Some(phone) = self.phone_at(address, events).await else { return };
        self.phones.record_use(phone);
        if events.capacity() == events.max_capacity() {
            self.phones.reset_queued();
        }
        self.phones.count_queued(phone);
        let room = events.capacity();
        if room < EVENTS_RESERVED {
            // The driver is behind. What is in the queue is kept.
            if let Some(flooding) = self.phones.most_queued(QUEUED_VALUES_FAIR_SHARE) {
                tracing::warn!(
                    phone = ?flooding,
                    "too many values of the phone wait: it is disconnected"
                );
                self.disconnect(flooding);
            }
            if room < EVENTS_RESERVED / 2 {
                self.disconnect(phone);
            }
            if self.phones.is_disconnecting(phone) {
                return;
            }
        }
        let value_octets_max = att::value_octets_max(usize::from(mtu));
        let _ = events.send(LinkEvent::Wrote { phone, value_octets_max, value }).await;
    }

    /// The phone at this address; a new one is reported as connected. None if the phone is being
    /// disconnected.
    async fn phone_at(
        &mut self,
        address: Address,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Option<PhoneId> {
        let (adapter, inputs) = (&self.adapter, &self.input_sender);
        let watch = |phone| watch_connection(adapter.clone(), address, phone, inputs.clone());
        let (phone, is_new) = self.phones.get_or_add(address, watch)?;
        if is_new {
            tracing::debug!(?phone, "a phone is connected");
            let address = Some(PhoneAddress(address.0));
            let _ = events.send(LinkEvent::Connected { phone, address }).await;
            // So that the next phone finds the terminal.
            self.advertising.refresh();
        }
        Some(phone)
    }

    fn notify(&mut self, phone: PhoneId, value: Vec<u8>) {
        match self.phones.send(phone, value) {
            SendOutcome::Queued | SendOutcome::NotConnected => {}
            SendOutcome::QueueFull => {
                tracing::warn!(?phone, "the phone takes no notifications: it is disconnected");
                self.disconnect(phone);
            }
        }
    }

    fn disconnect(&mut self, phone: PhoneId) {
        let (adapter, inputs) = (self.adapter.clone(), self.input_sender.clone());
        self.phones.begin_disconnection(phone, |address, has_used_service| {
            tokio::spawn(async move {
                sleep(DISCONNECT_DELAY).await;
                let disconnecting = disconnect_device(&adapter, address, has_used_service);
                match timeout(DISCONNECT_TIMEOUT, disconnecting).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(?phone, %error, "the phone was not disconnected");
                    }
                    Err(_) => {
                        tracing::debug!(?phone, "BlueZ has not disconnected the phone in time");
                    }
                }
                let _ = inputs.send(Input::Disconnected { address, phone }).await;
            })
        });
    }
}

/// Powers the adapter on, or power-cycles it if that is the recovery action, and reads BlueZ's
/// version meanwhile: a phone waits for the sum of all calls to BlueZ.
async fn prepare(
    adapter: &Adapter,
    action: Option<RecoveryAction>,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<BlueZVersion, RadioFault> {
    let powering = async {
        match action {
            Some(RecoveryAction::PowerCycle) => power_cycle(adapter).await.map(|()| false),
            Some(_) | None => power_on(adapter).await,
        }
    };
    let (was_off, bluez) = tokio::join!(powering, BlueZVersion::read(adapter));
    if was_off? {
        let reason = format!("the Bluetooth adapter {} was off", adapter.name());
        let _ =
            events.send(LinkEvent::Recovering { action: RecoveryAction::PowerOn, reason }).await;
    }
    tracing::debug!(?bluez, "BlueZ answers");
    Ok(bluez)
}

/// Disconnects a phone. A device that has never used the service may have been paired with the
/// machine since it connected; then it stays connected.
async fn disconnect_device(
    adapter: &Adapter,
    address: Address,
    has_used_service: bool,
) -> bluer::Result<()> {
    // A device that BlueZ does not know any more has disconnected.
    let Ok(device) = adapter.device(address) else { return Ok(()) };
    if has_used_service || is_phone(&device).await { device.disconnect().await } else { Ok(()) }
}

/// Starts a task that reports the end of the phone's connection.
fn watch_connection(
    adapter: Adapter,
    address: Address,
    phone: PhoneId,
    inputs: mpsc::Sender<Input>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = wait_for_disconnection(&adapter, address).await {
            tracing::debug!(?phone, %error, "the phone's connection cannot be watched any more");
        }
        let _ = inputs.send(Input::Disconnected { address, phone }).await;
    })
}

async fn wait_for_disconnection(adapter: &Adapter, address: Address) -> bluer::Result<()> {
    let device = adapter.device(address)?;
    // The events are requested before the state, so that no change is missed between the two.
    let mut events = Box::pin(device.events().await?);
    while device.is_connected().await? {
        let disconnected = async {
            while let Some(DeviceEvent::PropertyChanged(property)) = events.next().await {
                if matches!(property, DeviceProperty::Connected(false)) {
                    return;
                }
            }
        };
        if timeout(CONNECTION_CHECK_INTERVAL, disconnected).await.is_ok() {
            return Ok(());
        }
    }
    Ok(())
}
