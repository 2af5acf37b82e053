//! What deploy/florin-dbus.conf allows and what it denies, on a private bus with the rules of a
//! system bus: BlueZ is a stand-in there, and so is another service of root.
//!
//! The connections belong to different users, so this needs root: `tests/run integration` sees to
//! that.

#![cfg(all(feature = "terminal", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dbus::channel::{Channel, MatchingReceiver, Sender};
use dbus::message::{MatchRule, MessageType};
use dbus::{Message, blocking::SyncConnection};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

const TIMEOUT: Duration = Duration::from_secs(20);
const ROOT: u32 = 0;
/// Stands in for the user `florin`, whom this machine need not have. Both are in every Debian.
const FLORIN: (u32, &str) = (65_534, "nobody");
/// Some other user.
const OTHER: u32 = 1;
const BLUEZ: &str = "org.bluez";
const ROOT_ONLY: &str = "org.example.RootOnly";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The default rules of /usr/share/dbus-1/system.conf, as far as they matter here, and the rules of
/// BlueZ's bluetooth.conf. With a policy of the other service that lets only root call it.
const SYSTEM_BUS: &str = r#"
<policy context="default">
  <allow user="*"/>
  <deny own="*"/>
  <deny send_type="method_call"/>
  <allow send_type="signal"/>
  <allow send_requested_reply="true" send_type="method_return"/>
  <allow send_requested_reply="true" send_type="error"/>
  <allow receive_type="method_call"/>
  <allow receive_type="method_return"/>
  <allow receive_type="error"/>
  <allow receive_type="signal"/>
  <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
</policy>
<policy user="root">
  <allow own="org.bluez"/>
  <allow send_destination="org.bluez"/>
  <allow send_interface="org.bluez.GattCharacteristic1"/>
  <allow send_interface="org.bluez.GattDescriptor1"/>
  <allow send_interface="org.bluez.LEAdvertisement1"/>
  <allow send_interface="org.freedesktop.DBus.ObjectManager"/>
  <allow send_interface="org.freedesktop.DBus.Properties"/>
</policy>
<policy user="root">
  <allow own="org.example.RootOnly"/>
  <allow send_destination="org.example.RootOnly"/>
</policy>
"#;

/// What BlueZ's bluetooth.conf says where every user may call it, as on Debian.
const BLUEZ_FOR_ALL: &str =
    r#"<policy context="default"><allow send_destination="org.bluez"/></policy>"#;

/// What it says where nobody may, but by another rule.
const BLUEZ_FOR_NOBODY: &str =
    r#"<policy context="default"><deny send_destination="org.bluez"/></policy>"#;

fn policy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/florin-dbus.conf");
    fs::read_to_string(path).unwrap()
}

/// A private bus. It ends when this is dropped.
struct Bus {
    daemon: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Bus {
    /// With the policy of deploy/florin-dbus.conf after other rules.
    fn start(other_rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Other users connect to the socket in it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (_, user) = FLORIN;
        let rules = policy().replace("user=\"florin\"", &format!("user=\"{user}\""));
        fs::create_dir(directory.path().join("system.d")).unwrap();
        fs::write(directory.path().join("system.d/florin.conf"), rules).unwrap();
        let configuration = directory.path().join("bus.conf");
        fs::write(
            &configuration,
            format!(
                "<busconfig><listen>unix:path={0}/bus</listen><auth>EXTERNAL</auth>\
                 {SYSTEM_BUS}{other_rules}<includedir>{0}/system.d</includedir></busconfig>",
                directory.path().display()
            ),
        )
        .unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            // It names each call that it denies.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon of the Debian package dbus-daemon");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:path="), "no address but {address:?}");
        Self { daemon, address: address.trim().to_owned(), _directory: directory }
    }

    /// A connection of this user.
    fn connect(&self, user: u32) -> SyncConnection {
        let [root, user] = [ROOT, user].map(Uid::from_raw);
        // Of this thread alone. The bus asks the kernel who connects.
        set_thread_res_uid(root, user, root).expect("root: see tests/run");
        let channel = Channel::open_private(&self.address).and_then(|mut channel| {
            channel.register()?;
            Ok(channel)
        });
        set_thread_res_uid(root, root, root).unwrap();
        channel.unwrap().into()
    }

    /// A service of this user, which answers every call. Returns its name.
    fn serve(&self, user: u32, name: Option<&'static str>) -> String {
        let connection = self.connect(user);
        if let Some(name) = name {
            connection.request_name(name, false, true, false).unwrap();
        }
        let own = name.map_or_else(|| connection.unique_name().to_string(), str::to_owned);
        connection.start_receive(
            MatchRule::new_method_call(),
            Box::new(|call, connection| connection.send(call.method_return()).is_ok()),
        );
        thread::spawn(move || while connection.process(TIMEOUT).is_ok() {});
        own
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Whether the bus passes the call on, and the answer to it back.
fn may_call(connection: &SyncConnection, to: &str, interface: &str, member: &str) -> bool {
    let call = Message::new_method_call(to, "/", interface, member).unwrap();
    match connection.channel().send_with_reply_and_block(call, TIMEOUT) {
        Ok(_) => true,
        Err(error) => {
            let name = error.name().unwrap_or_default();
            assert_eq!(name, "org.freedesktop.DBus.Error.AccessDenied", "{error}");
            false
        }
    }
}

#[test]
fn every_rule_names_its_destination_and_is_for_the_user_florin() {
    let policy = policy();
    let rules: Vec<&str> = policy
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("<allow") || line.starts_with("<deny"))
        .collect();
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(rule.contains("send_destination=\"org.bluez\""), "{rule}");
    }
    assert_eq!(policy.matches("<policy ").count(), 1);
    assert!(policy.contains("<policy user=\"florin\">"));
}

#[test]
#[ignore = "needs root: tests/run integration"]
fn florin_may_call_what_it_needs_of_bluez_and_nothing_of_another_service() {
    for other_rules in ["", BLUEZ_FOR_ALL, BLUEZ_FOR_NOBODY] {
        let bus = Bus::start(other_rules);
        bus.serve(ROOT, Some(BLUEZ));
        bus.serve(ROOT, Some(ROOT_ONLY));
        let florin = bus.connect(FLORIN.0);
        let root = bus.connect(ROOT);
        for (interface, member) in [
            (OBJECT_MANAGER, "GetManagedObjects"),
            (PROPERTIES, "GetAll"),
            (PROPERTIES, "Set"),
            ("org.bluez.Adapter1", "RemoveDevice"),
            ("org.bluez.Device1", "Disconnect"),
            ("org.bluez.GattManager1", "RegisterApplication"),
            ("org.bluez.LEAdvertisingManager1", "RegisterAdvertisement"),
        ] {
            assert!(may_call(&florin, BLUEZ, interface, member), "{interface}.{member}");
        }
        for (interface, member) in [
            ("org.bluez.AgentManager1", "RequestDefaultAgent"),
            ("org.bluez.ProfileManager1", "RegisterProfile"),
            ("org.bluez.Network1", "Connect"),
        ] {
            assert!(!may_call(&florin, BLUEZ, interface, member), "{interface}.{member}");
        }
        for (interface, member) in [
            (PROPERTIES, "Set"),
            (PROPERTIES, "Get"),
            (OBJECT_MANAGER, "GetManagedObjects"),
            (ROOT_ONLY, "PowerOff"),
            ("org.bluez.Adapter1", "RemoveDevice"),
        ] {
            assert!(!may_call(&florin, ROOT_ONLY, interface, member), "{interface}.{member}");
            assert!(may_call(&root, ROOT_ONLY, interface, member), "{interface}.{member}, of root");
        }
        assert!(florin.request_name(BLUEZ, false, true, false).is_err(), "nor is it BlueZ");
    }
}

#[test]
#[ignore = "needs root: tests/run integration"]
fn bluetoothd_may_call_florins_objects_and_hears_its_signals_and_nobody_else_may_call_them() {
    for other_rules in ["", BLUEZ_FOR_ALL, BLUEZ_FOR_NOBODY] {
        let bus = Bus::start(other_rules);
        let florin = bus.serve(FLORIN.0, None);
        let bluetoothd = bus.connect(ROOT);
        bluetoothd.request_name(BLUEZ, false, true, false).unwrap();
        let other = bus.connect(OTHER);
        for (interface, member) in [
            ("org.bluez.GattCharacteristic1", "WriteValue"),
            ("org.bluez.LEAdvertisement1", "Release"),
            (OBJECT_MANAGER, "GetManagedObjects"),
            (PROPERTIES, "GetAll"),
        ] {
            assert!(may_call(&bluetoothd, &florin, interface, member), "{interface}.{member}");
            assert!(
                !may_call(&other, &florin, interface, member),
                "{interface}.{member}, of another"
            );
        }

        let (heard_sender, heard) = mpsc::channel();
        bluetoothd.add_match_no_cb("type='signal',member='PropertiesChanged'").unwrap();
        bluetoothd.start_receive(
            MatchRule::new().with_type(MessageType::Signal).with_member("PropertiesChanged"),
            Box::new(move |_, _| heard_sender.send(()).is_ok()),
        );
        let signal = Message::new_signal("/", PROPERTIES, "PropertiesChanged").unwrap();
        bus.connect(FLORIN.0).send(signal).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while heard.try_recv().is_err() {
            assert!(Instant::now() < deadline, "no signal came");
            bluetoothd.process(Duration::from_millis(100)).unwrap();
        }
    }
}
