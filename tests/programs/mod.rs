//! The real programs, set up as their owners would: an institution, an enrolled terminal, a wallet
//! with a card.
//!
//! Each set has a directory of its own and an institution port of its own, so sets run side by
//! side.

#![allow(dead_code)]

mod preload;
pub mod storage_fault;
pub mod wall_clock;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use florin::link::AirAddress;
use florin::till::{TillAddress, TillClient};
use serde_json::Value;

use storage_fault::StorageFault;
use wall_clock::WallClock;

/// How long anything may take before a test gives up, in seconds: a busy machine is slow, a hung
/// one for ever.
pub const TIMEOUT_S: u64 = 120;
/// Institutions listen from here on: below the range from which Linux takes ports for connections
/// (from 32768), so that nobody takes one between two starts.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;
const SIGKILL: i32 = 9;

/// One set of parties.
#[derive(Debug)]
pub struct Programs {
    directory: PathBuf,
    port: u16,
}

impl Programs {
    /// Makes an institution with an account of 1,000,000.00 EUR, enrols a terminal and a card.
    /// Nothing runs afterwards.
    pub fn set_up(directory: &Path) -> Self {
        let programs = Self { directory: directory.to_owned(), port: free_port() };
        programs.institution(&["init", "--name", "Example Bank", "--host-name", "localhost"]);
        let balance = ["--balance", "1000000.00"];
        programs.institution(
            &[&["account", "create", "--name", "Alice", "--currency", "EUR"], &balance[..]]
                .concat(),
        );
        let card = programs.institution(&["card", "add", "--account", "1", "--limit", "50.00"]);
        let machine = ["--merchant-id", "kiosk-1", "--merchant-name", "Corner Kiosk"];
        let terminal = programs.institution(&[&["terminal", "add"], &machine[..]].concat());
        let (card_code, terminal_code) =
            (card["code"].as_str().unwrap(), terminal["code"].as_str().unwrap());

        programs.write_configuration();
        let institution = programs.start_institution(None);
        let (url, root) = (programs.institution_url(), programs.bank().join("root.pem"));
        done(&mut programs.enrol_terminal(&programs.state(), terminal_code));
        let mut enrol = programs.wallet(&["enrol", "--institution", &url, "--root"]);
        done(enrol.arg(&root).arg(card_code));
        institution.stop();
        programs
    }

    /// `florin enrol` into this state directory.
    pub fn enrol_terminal(&self, state: &Path, code: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command
            .args(["enrol", "--institution", &self.institution_url(), "--root"])
            .arg(self.bank().join("root.pem"));
        command.arg("--state-directory").arg(state).arg(code).stdin(Stdio::null());
        command
    }

    /// The same parties in another directory, with another port.
    pub fn copy_to(&self, directory: &Path) -> Self {
        copy_directory(&self.directory, directory);
        let programs = Self { directory: directory.to_owned(), port: free_port() };
        programs.write_configuration();
        programs
    }

    /// The terminal once more in another directory, at the same institution: a copy, with the same
    /// identity.
    pub fn beside(&self, directory: &Path) -> Self {
        copy_directory(&self.directory, directory);
        let programs = Self { directory: directory.to_owned(), port: self.port };
        programs.write_configuration();
        programs
    }

    fn write_configuration(&self) {
        let text = format!(
            "[terminal]\nstate_directory = \"{}\"\nvolatile_state = \"allow\"\n\
             [till]\nlisten = \"{}\"\n\
             [institution]\nurl = \"{}\"\n\
             retry_backoff_min_ms = 100\nretry_backoff_max_ms = 1000\n",
            self.state().display(),
            self.till_address(),
            self.institution_url()
        );
        fs::write(self.configuration(), text).unwrap();
    }

    /// The institution's directory.
    pub fn bank(&self) -> PathBuf {
        self.directory.join("bank")
    }

    /// The terminal's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The terminal's journal.
    pub fn journal(&self) -> PathBuf {
        self.state().join("journal.sqlite")
    }

    /// The wallet's directory.
    pub fn wallet_directory(&self) -> PathBuf {
        self.directory.join("wallet")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("florin.toml")
    }

    fn institution_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The terminal's short code, as the sticker on the machine shows it.
    pub fn short_code(&self) -> String {
        let id = self.institution(&["terminal", "list"])["terminal"].as_str().unwrap().to_owned();
        id[id.len() - 4..].to_owned()
    }

    /// Where the till API listens.
    pub fn till_address(&self) -> TillAddress {
        TillAddress::Unix(self.directory.join("till.sock"))
    }

    /// A till.
    pub fn till(&self) -> TillClient {
        TillClient::new(self.till_address())
    }

    /// Where phones are.
    pub fn air_address(&self) -> AirAddress {
        format!("unix:{}/air.sock", self.directory.display()).parse().unwrap()
    }

    /// Starts `florin serve`. It may not be ready yet, or never get there where a fault was
    /// ordered.
    pub fn start_terminal(&self, fault: Option<&StorageFault>) -> Running {
        Running::start("florin serve", self.terminal(), fault)
    }

    /// As [`Programs::start_terminal`], with a wall clock of its own.
    pub fn start_terminal_by(&self, clock: &WallClock) -> Running {
        let mut command = self.terminal();
        clock.put_under(&mut command);
        Running::start("florin serve", command, None)
    }

    /// `florin doctor`.
    pub fn florin_doctor(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(["doctor", "--configuration"]).arg(self.configuration());
        command
    }

    fn terminal(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(["serve", "--configuration"]).arg(self.configuration());
        command.args(["--air", &self.air_address().to_string()]);
        command
    }

    /// As [`Programs::start_institution`], with a wall clock of its own.
    pub fn start_institution_by(&self, clock: &WallClock) -> Running {
        let mut command = self.institution_server();
        clock.put_under(&mut command);
        Self::listening(Running::start("florin-acquirer serve", command, None))
    }

    fn institution_server(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin-acquirer"));
        command.args(["serve", "--directory"]).arg(self.bank());
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]).stdout(Stdio::piped());
        command
    }

    fn listening(mut running: Running) -> Running {
        let mut line = String::new();
        BufReader::new(running.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening"), "the institution said {line:?}: {}", running.log());
        running
    }

    /// Starts `florin-acquirer serve`; without a fault it is ready on return.
    pub fn start_institution(&self, fault: Option<&StorageFault>) -> Running {
        let running = Running::start("florin-acquirer serve", self.institution_server(), fault);
        if fault.is_none() { Self::listening(running) } else { running }
    }

    /// `florin-wallet` with these words.
    pub fn wallet(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin-wallet"));
        command.arg("--directory").arg(self.wallet_directory()).args(words).stdin(Stdio::null());
        command
    }

    /// `florin` with these words, as a till.
    pub fn florin(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(words).args(["--till", &self.till_address().to_string()]).stdin(Stdio::null());
        command
    }

    /// `florin` with these words, as an operator beside the service.
    pub fn florin_with_configuration(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(words).arg("--configuration").arg(self.configuration()).stdin(Stdio::null());
        command
    }

    /// Runs `florin-acquirer` with these words; its first JSON line.
    pub fn institution(&self, words: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin-acquirer"));
        let output = done(command.args(words).arg("--json").arg("--directory").arg(self.bank()));
        serde_json::from_slice(output.stdout.split(|octet| *octet == b'\n').next().unwrap())
            .unwrap()
    }
}

/// Runs a command that succeeds.
pub fn done(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Tries it until it gives something.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(TIMEOUT_S);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited {TIMEOUT_S} s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody else of this process has got, and nobody else listens on.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", FIRST_PORT + offset)).is_ok() {
            return FIRST_PORT + offset;
        }
    }
    panic!("no port is free");
}

/// A process, and what it logs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Running {
    /// Starts it with its log in a file.
    pub fn start(name: &'static str, mut command: Command, fault: Option<&StorageFault>) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        if let Some(fault) = fault {
            command.envs(fault.environment());
        }
        command.stdin(Stdio::null()).stderr(log.reopen().unwrap());
        Self { name, child: command.spawn().unwrap(), log }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(self.name, || self.child.try_wait().unwrap())
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        self.log.reopen().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Tells it to stop, as systemd would.
    pub fn ask_to_stop(&self) {
        done(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
    }

    /// Stops it, and makes sure that it ended well.
    pub fn stop(mut self) {
        self.ask_to_stop();
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}: {}", self.name, self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process was killed with SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

/// Copies files and directories, with their permissions; no sockets.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_directory(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    pass_for_the_store_itself(to);
}

/// An institution's store that was copied by a test is no restored one: the note beside it is told
/// of the new file.
fn pass_for_the_store_itself(directory: &Path) {
    let (store, note) = (directory.join("institution.sqlite"), directory.join("serving.json"));
    let (Ok(store), Ok(text)) = (fs::metadata(store), fs::read_to_string(&note)) else { return };
    let Ok(mut json) = serde_json::from_str::<Value>(&text) else { return };
    json["store_inode"] = store.ino().into();
    fs::write(note, json.to_string()).unwrap();
}

/// Puts a directory back to what another one holds.
pub fn replace_directory(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy_directory(from, to);
}
