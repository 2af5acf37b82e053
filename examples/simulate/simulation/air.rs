//! The air: values that pass over connections. Within a connection nothing is lost and nothing
//! overtakes; what fails is the connection, and then everything after that value is lost.

use florin::terminal::PhoneId;

use super::event::{Event, FromAir};
use super::fault::FaultKind;
use super::link::Connection;
use super::stage::Stage;

/// The longest a side takes to see that a connection is gone, in milliseconds: supervision
/// time-outs go to 32 s.
const SUPERVISION_MS_MAX: u64 = 20_000;

impl Stage {
    /// Connects a phone with the terminal's process of that number.
    pub fn connect(&mut self, phone: usize, boot: u64) -> (PhoneId, usize) {
        self.link.last += 1;
        let connection = PhoneId(self.link.last);
        let value_octets_max = [20, 97, 182, 244, 512, 512][self.link.dice.below(6) as usize];
        let up_ms = self.now_ms + self.link.dice.between(1, 20);
        let entry = Connection {
            phone,
            value_octets_max,
            boot,
            up_ms,
            down_ms: self.now_ms,
            is_broken: false,
        };
        self.link.connections.insert(connection, entry);
        self.at(up_ms, Event::ToMachine { connection, what: FromAir::Connected });
        (connection, value_octets_max)
    }

    /// A phone writes. It cannot know whether that arrives.
    pub fn phone_writes(&mut self, connection: PhoneId, value: Vec<u8>) {
        self.deliver_to_machine(connection, FromAir::Value(value));
    }

    fn deliver_to_machine(&mut self, connection: PhoneId, what: FromAir) {
        if !self.link.is_whole(connection) {
            return;
        }
        if self.fault(FaultKind::LinkBreaks).is_some() {
            return self.break_link(connection);
        }
        let delay_ms = self.link.dice.between(1, 15);
        let Some(entry) = self.link.connections.get_mut(&connection) else { return };
        entry.up_ms = entry.up_ms.max(self.now_ms + delay_ms);
        let at_ms = entry.up_ms;
        self.at(at_ms, Event::ToMachine { connection, what });
    }

    /// The terminal notifies a phone.
    pub fn machine_notifies(&mut self, connection: PhoneId, value: Vec<u8>) {
        if !self.link.is_whole(connection) || self.fault(FaultKind::ValueDropped).is_some() {
            return;
        }
        if self.fault(FaultKind::LinkBreaks).is_some() {
            return self.break_link(connection);
        }
        let delay_ms = self.link.dice.between(1, 15);
        let Some(entry) = self.link.connections.get_mut(&connection) else { return };
        entry.down_ms = entry.down_ms.max(self.now_ms + delay_ms);
        let (phone, at_ms) = (entry.phone, entry.down_ms);
        self.at(at_ms, Event::ToPhone { connection, phone, value });
    }

    /// Nothing passes any more; each side sees it in its time.
    pub fn break_link(&mut self, connection: PhoneId) {
        let phone_ms = self.link.dice.magnitude(1, SUPERVISION_MS_MAX);
        let machine_ms = self.link.dice.magnitude(1, SUPERVISION_MS_MAX);
        let Some(entry) = self.link.connections.get_mut(&connection) else { return };
        if std::mem::replace(&mut entry.is_broken, true) {
            return;
        }
        let phone = entry.phone;
        self.after(phone_ms, Event::PhoneLinkLost { connection, phone });
        self.after(machine_ms, Event::ToMachine { connection, what: FromAir::Disconnected });
    }

    /// The phone disconnects, after what it wrote.
    pub fn phone_disconnects(&mut self, connection: PhoneId) {
        self.deliver_to_machine(connection, FromAir::Disconnected);
    }

    /// The terminal disconnects a phone, after what it notified.
    pub fn machine_disconnects(&mut self, connection: PhoneId) {
        let Some(entry) = self.link.connections.get(&connection).filter(|entry| !entry.is_broken)
        else {
            return;
        };
        let (phone, at_ms) = (entry.phone, entry.down_ms.max(self.now_ms));
        self.at(at_ms, Event::PhoneLinkLost { connection, phone });
        self.after(1, Event::ToMachine { connection, what: FromAir::Disconnected });
    }

    /// The terminal's process is gone, and with it every connection.
    pub fn machine_is_gone(&mut self) {
        let lost: Vec<(PhoneId, usize)> = std::mem::take(&mut self.link.connections)
            .into_iter()
            .filter(|(_, entry)| !entry.is_broken)
            .map(|(connection, entry)| (connection, entry.phone))
            .collect();
        for (connection, phone) in lost {
            let delay_ms = self.link.dice.magnitude(1, SUPERVISION_MS_MAX);
            self.after(delay_ms, Event::PhoneLinkLost { connection, phone });
        }
    }
}
