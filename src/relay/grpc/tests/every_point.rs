//! "Was it sent?", asked at every point of an exchange: after each octet that the server reads or
//! writes, and after each that the network carries, the connection is closed, reset, or goes
//! silent.
//!
//! What holds everywhere is in [`check_answer`]: the relay says "not sent" only where the server
//! got no octet of the request, and takes the institution's answer only where the server gave it
//! whole. The server notes what it got; the relay's answer is checked against that, never against
//! how long something took.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::*;

/// How many exchanges run at once.
const AT_ONCE: usize = 48;
/// How long a question has first where the other side goes silent, in milliseconds. Doubled where
/// the server did not get to its point within it.
const SILENCE_TIMEOUT_MS: u64 = 300;
/// Longer than anything here can take; who waits longer hangs.
const HANG: Duration = Duration::from_secs(120);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_OCTETS: usize = 9;
/// The server's first words: SETTINGS, with nothing in it.
const SETTINGS: [u8; FRAME_HEADER_OCTETS] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Frame types and flags of HTTP/2 (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the other side does when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Says goodbye in TLS, then closes.
    Farewell,
    /// Closes in TCP alone.
    Close,
    /// Resets the TCP connection.
    Reset,
    /// Stays, and says nothing any more.
    Silence,
}

const ENDINGS: [Ending; 4] = [Ending::Farewell, Ending::Close, Ending::Reset, Ending::Silence];

/// How far a server goes, and what it does then.
#[derive(Clone, Debug)]
struct Script {
    /// How many octets of its SETTINGS it says.
    speaks: usize,
    /// How many octets it reads within TLS; less where the request is whole before.
    reads: usize,
    /// What it says then.
    says: Vec<u8>,
    /// What that is worth.
    reply: Reply,
    ending: Ending,
}

/// What a server says, taken as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Nothing,
    Approval,
    Refusal,
}

impl Script {
    /// Reads all of the request, answers nothing, goes silent.
    fn listener() -> Self {
        Self {
            speaks: SETTINGS.len(),
            reads: usize::MAX,
            says: Vec::new(),
            reply: Reply::Nothing,
            ending: Ending::Silence,
        }
    }
}

/// What a server got and gave, over all its connections.
#[derive(Debug, Default)]
struct Notes {
    spoke: bool,
    request_octets: usize,
    request_is_whole: bool,
    approved: bool,
    refused: bool,
    /// It did all that its script says.
    is_through: bool,
    /// All that it read over its last connection.
    read: Vec<u8>,
}

#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Notes>>);

impl Notebook {
    fn open(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of what was read belongs to requests, which a server could act on, and how many
/// requests are whole. A frame belongs to one as soon as its type is read, the fourth octet.
fn requests_in(read: &[u8]) -> (usize, usize) {
    let (mut octets, mut whole) = (0, 0);
    let mut rest = read.get(PREFACE.len()..).unwrap_or_default();
    while let Some([length_high, length_middle, length_low, kind]) = rest.first_chunk() {
        let length = u32::from_be_bytes([0, *length_high, *length_middle, *length_low]) as usize;
        let (frame, after) = rest.split_at((FRAME_HEADER_OCTETS + length).min(rest.len()));
        if matches!(*kind, HEADERS | DATA) {
            octets += frame.len();
            let is_there = frame.len() == FRAME_HEADER_OCTETS + length;
            whole += usize::from(is_there && frame[4] & END_STREAM != 0);
        }
        rest = after;
    }
    (octets, whole)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut octets = vec![length[1], length[2], length[3], kind, flags];
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// Headers as HPACK writes them without a table (RFC 7541): `:status: 200` and gRPC's content type.
fn answer_headers() -> Vec<u8> {
    [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat()
}

fn grpc_status(code: &str) -> Vec<u8> {
    [&[0x00, 11][..], b"grpc-status", &[u8::try_from(code.len()).unwrap()], code.as_bytes()]
        .concat()
}

/// An approval on this stream: headers, message, trailers.
fn approval(stream: u32) -> Vec<u8> {
    let message = framed(&institution_api::GetTransactionResponse {
        transaction: Some(transaction(institution_api::TransactionState::Approved, 0)),
    });
    [
        frame(HEADERS, END_HEADERS, stream, &answer_headers()),
        frame(DATA, 0, stream, &message),
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &grpc_status("0")),
    ]
    .concat()
}

/// PERMISSION_DENIED on stream 1, in headers alone.
fn refusal() -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[answer_headers(), grpc_status("7")].concat())
}

fn rst_stream(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &code.to_be_bytes())
}

fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

/// Plays the script over one connection, until all is over.
async fn play(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    script: Script,
    notebook: Notebook,
    over: watch::Receiver<bool>,
) {
    let _ = tcp.set_nodelay(true);
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    let mut stream = BufReader::new(stream);
    if say(&mut stream, &SETTINGS[..script.speaks], || {
        if script.speaks > 0 {
            notebook.open().spoke = true;
        }
    })
    .await
    .is_err()
    {
        return;
    }
    notebook.open().read.clear();
    loop {
        let read_count = {
            let mut notes = notebook.open();
            let (octets, whole) = requests_in(&notes.read);
            notes.request_octets = notes.request_octets.max(octets);
            notes.request_is_whole |= whole > 0;
            if whole > 0 {
                break;
            }
            notes.read.len()
        };
        if read_count >= script.reads {
            break;
        }
        // One by one: what was not asked for was not read.
        match stream.read_u8().await {
            Ok(octet) => notebook.open().read.push(octet),
            Err(_) => return,
        }
    }
    let said = say(&mut stream, &script.says, || match script.reply {
        Reply::Nothing => {}
        Reply::Approval => notebook.open().approved = true,
        Reply::Refusal => notebook.open().refused = true,
    })
    .await;
    if said.is_err() {
        return;
    }
    notebook.open().is_through = true;
    end(stream.into_inner(), script.ending, over).await;
}

/// Writes; `noted` is called first, since the other side may act on it at once.
async fn say<S: AsyncWrite + Unpin>(
    stream: &mut S,
    octets: &[u8],
    noted: impl FnOnce(),
) -> io::Result<()> {
    noted();
    if octets.is_empty() {
        return Ok(());
    }
    stream.write_all(octets).await?;
    stream.flush().await
}

async fn end(mut stream: TlsStream<TcpStream>, ending: Ending, mut over: watch::Receiver<bool>) {
    match ending {
        Ending::Farewell => {
            let _ = stream.shutdown().await;
        }
        Ending::Close => {
            let _ = stream.get_mut().0.shutdown().await;
        }
        Ending::Reset => {
            let _ = stream.get_ref().0.set_zero_linger();
            return;
        }
        Ending::Silence => {}
    }
    // A socket that is dropped with unread octets in it resets; a closed one stays, so that it is
    // only closed.
    let _ = over.wait_for(|over| *over).await;
}

/// A place to listen at, with a task for each connection. [`Listening::finish`] waits for all of
/// them.
struct Listening {
    port: u16,
    over: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listening {
    async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream, watch::Receiver<bool>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, is_over) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut ended = is_over.clone();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { break };
                        connections.spawn(serve(stream, is_over.clone()));
                    }
                    _ = ended.wait_for(|over| *over) => break,
                }
            }
            while connections.join_next().await.is_some() {}
        });
        Self { port, over, task }
    }

    async fn finish(self) {
        let _ = self.over.send(true);
        timeout(HANG, self.task).await.expect("a connection's task never ends").unwrap();
    }
}

async fn scripted(script: Script, acceptor: TlsAcceptor) -> (Listening, Notebook) {
    let notebook = Notebook::default();
    let notes = notebook.clone();
    let listening = Listening::start(move |tcp, over| {
        play(tcp, acceptor.clone(), script.clone(), notes.clone(), over)
    })
    .await;
    (listening, notebook)
}

/// Which way the network carries octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToTerminal,
}

/// A network that carries so many octets one way and then fails.
#[derive(Clone, Copy, Debug)]
struct Cut {
    way: Way,
    octets: usize,
    ending: Ending,
}

/// Carries a connection to the server until the cut. The server gets all that was carried and then
/// the end: what it could read, it reads.
async fn carry(
    terminal: TcpStream,
    server_port: u16,
    cut: Cut,
    carried: Arc<[AtomicUsize; 2]>,
    mut over: watch::Receiver<bool>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { return };
    let _ = (terminal.set_nodelay(true), server.set_nodelay(true));
    let (mut from_terminal, mut to_terminal) = terminal.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let limit = |way| if cut.way == way { cut.octets } else { usize::MAX };
    {
        let up = copy(&mut from_terminal, &mut to_server, limit(Way::ToServer), &carried[0]);
        let down = copy(&mut from_server, &mut to_terminal, limit(Way::ToTerminal), &carried[1]);
        tokio::pin!(up, down);
        // Whoever comes to its limit or its end first ends both.
        tokio::select! {
            () = &mut up => {}
            () = &mut down => {}
        }
    }
    let _ = to_server.shutdown().await;
    match cut.ending {
        // The network knows nothing of TLS.
        Ending::Farewell | Ending::Close => {
            let _ = to_terminal.shutdown().await;
        }
        Ending::Reset => {
            if let Ok(terminal) = from_terminal.reunite(to_terminal) {
                let _ = terminal.set_zero_linger();
            }
            // And the server's side stays until it has read what it got.
            let _ = over.wait_for(|over| *over).await;
            return;
        }
        Ending::Silence => {}
    }
    let _ = over.wait_for(|over| *over).await;
}

async fn copy(
    source: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl AsyncWrite + Unpin),
    limit: usize,
    carried: &AtomicUsize,
) {
    let mut buffer = [0; 4096];
    let mut left = limit;
    while left > 0 {
        let room = left.min(buffer.len());
        let Ok(count @ 1..) = source.read(&mut buffer[..room]).await else { return };
        if sink.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        left -= count;
        carried.fetch_add(count, Ordering::Relaxed);
    }
}

fn authorisation() -> InstitutionRequest {
    InstitutionRequest::Authorise {
        transaction_id: id(),
        offer: vec![1; 20],
        offer_age_ms: 5,
        sealed_command: vec![2; 20],
        sequence: 1,
    }
}

/// The rules. Nothing else is asked of the relay, and nothing less.
fn check_answer(point: &str, notes: &Notes, answer: &InstitutionAnswer) {
    let claim = format!("{point}: the server noted {notes:?}; the relay says {answer:?}");
    match answer {
        InstitutionAnswer::NotSent { .. } => {
            assert_eq!(
                notes.request_octets, 0,
                "the server has read of a request that was not sent; {claim}"
            );
        }
        InstitutionAnswer::Unanswered { .. } => {
            assert!(
                notes.spoke,
                "nothing can have been sent before the server has spoken; {claim}"
            );
        }
        InstitutionAnswer::Transaction { .. } => {
            assert!(notes.approved, "nobody approved; {claim}")
        }
        InstitutionAnswer::Refused { .. } => assert!(notes.refused, "nobody refused; {claim}"),
    }
}

/// How often each answer was given.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    not_sent: usize,
    unanswered: usize,
    transactions: usize,
    refused: usize,
}

impl Counts {
    fn add(&mut self, answer: &InstitutionAnswer) {
        match answer {
            InstitutionAnswer::NotSent { .. } => self.not_sent += 1,
            InstitutionAnswer::Unanswered { .. } => self.unanswered += 1,
            InstitutionAnswer::Transaction { .. } => self.transactions += 1,
            InstitutionAnswer::Refused { .. } => self.refused += 1,
        }
    }
}

fn timeout_for(ending: Ending) -> u64 {
    match ending {
        Ending::Silence => SILENCE_TIMEOUT_MS,
        Ending::Farewell | Ending::Close | Ending::Reset => 10_000,
    }
}

/// One question to one server. Its time is doubled until the server has got to its point.
async fn ask_scripted(script: Script, credentials: &Credentials) -> (InstitutionAnswer, Notes) {
    let mut timeout_ms = timeout_for(script.ending);
    loop {
        let (server, notebook) =
            scripted(script.clone(), acceptor(credentials, &credentials.root_pem)).await;
        let relay = relay_to(server.port, credentials);
        let asking = timeout(HANG, relay.ask(authorisation(), timeout_ms));
        let answer = asking.await.expect("the question never ends");
        drop(relay);
        server.finish().await;
        let notes = std::mem::take(&mut *notebook.open());
        check_answer(&format!("{script:?}"), &notes, &answer);
        if notes.is_through {
            return (answer, notes);
        }
        assert!(timeout_ms < 60_000, "the server never gets there: {script:?}, {notes:?}");
        timeout_ms *= 2;
    }
}

/// Asks once for each script, many at once.
async fn ask_each(
    scripts: impl IntoIterator<Item = Script>,
) -> Vec<(Script, InstitutionAnswer, Notes)> {
    let credentials = Arc::new(credentials());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for script in scripts {
        let (credentials, places) = (Arc::clone(&credentials), Arc::clone(&places));
        asking.spawn(async move {
            let _place = places.acquire().await;
            let (answer, notes) = ask_scripted(script.clone(), &credentials).await;
            (script, answer, notes)
        });
    }
    asking.join_all().await
}

fn count<'answers>(answers: impl IntoIterator<Item = &'answers InstitutionAnswer>) -> Counts {
    let mut counts = Counts::default();
    answers.into_iter().for_each(|answer| counts.add(answer));
    counts
}

/// What the terminal says to a server that listens to the end, and where the frames in it end.
async fn whole_request() -> (Vec<u8>, Vec<usize>) {
    let (_, notes) = ask_scripted(Script::listener(), &credentials()).await;
    assert!(notes.request_is_whole && notes.request_octets > 100, "{notes:?}");
    let mut ends = vec![PREFACE.len()];
    while let Some(header) =
        notes.read.get(ends[ends.len() - 1]..).and_then(|rest| rest.first_chunk::<9>())
    {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        ends.push(ends[ends.len() - 1] + FRAME_HEADER_OCTETS + length);
    }
    assert_eq!(ends.last(), Some(&notes.read.len()));
    (notes.read, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_after_any_octet_that_it_reads() {
    let (request, _) = whole_request().await;
    let scripts = (0..=request.len())
        .flat_map(|reads| ENDINGS.map(|ending| Script { reads, ending, ..Script::listener() }));
    let answers = ask_each(scripts).await;
    assert_eq!(answers.len(), 4 * (request.len() + 1));
    let mut whole = 0;
    for (script, answer, notes) in &answers {
        whole += usize::from(notes.request_is_whole);
        if notes.request_octets > 0 {
            assert!(
                matches!(answer, InstitutionAnswer::Unanswered { .. }),
                "{script:?}: {answer:?}"
            );
        }
    }
    assert!(whole >= ENDINGS.len(), "{whole}");
    let counts = count(answers.iter().map(|(_, answer, _)| answer));
    assert_eq!((counts.transactions, counts.refused), (0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_within_its_first_words() {
    let scripts = (0..=SETTINGS.len()).flat_map(|speaks| {
        let reads = if speaks == 0 { vec![0] } else { vec![0, usize::MAX] };
        reads.into_iter().flat_map(move |reads| {
            ENDINGS.map(|ending| Script { speaks, reads, ending, ..Script::listener() })
        })
    });
    for (script, answer, notes) in ask_each(scripts).await {
        let is_not_sent = matches!(answer, InstitutionAnswer::NotSent { .. });
        assert!(is_not_sent || script.speaks > 0, "{script:?}: {answer:?}");
        assert!(!is_not_sent || !notes.request_is_whole, "{script:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_after_any_octet_of_its_answer() {
    for (whole, reply) in [(approval(1), Reply::Approval), (refusal(), Reply::Refusal)] {
        let scripts = (0..=whole.len()).flat_map(|said| {
            ENDINGS.map(|ending| Script {
                says: whole[..said].to_vec(),
                reply: if said == whole.len() { reply } else { Reply::Nothing },
                ending,
                ..Script::listener()
            })
        });
        let answers = ask_each(scripts).await;
        for (script, answer, notes) in &answers {
            assert!(notes.request_is_whole);
            if script.says.len() < whole.len() {
                assert!(
                    matches!(answer, InstitutionAnswer::Unanswered { .. }),
                    "{script:?}: {answer:?}"
                );
            }
        }
        let counts = count(answers.iter().map(|(_, answer, _)| answer));
        assert_eq!(counts.not_sent, 0, "{counts:?}");
        // A reset may overtake the answer, a short time run out before it; a farewell or a close
        // may not.
        assert!(counts.transactions + counts.refused >= 2, "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_resets_the_stream_or_sends_the_terminal_away() {
    let (_, ends) = whole_request().await;
    // Every code that HTTP/2 has, and one that it has not. REFUSED_STREAM is 7: HTTP/2 says that
    // nothing was done, and so it may be; but it is not proof enough to say "not sent" of what
    // a server has read.
    let resets = (0..=14).map(rst_stream);
    let farewells = [0, 1, 0x7fff_ffff]
        .into_iter()
        .flat_map(|last| (0..=14).map(move |code| goaway(last, code)));
    let messages: Vec<Vec<u8>> = resets.chain(farewells).collect();
    let scripts = messages.iter().flat_map(|says| {
        ends.iter().flat_map(move |reads| {
            [Ending::Close, Ending::Silence].map(|ending| Script {
                reads: *reads,
                says: says.clone(),
                ending,
                ..Script::listener()
            })
        })
    });
    let answers = ask_each(scripts).await;
    assert_eq!(answers.len(), 60 * ends.len() * 2);
    for (script, answer, notes) in &answers {
        if notes.request_is_whole {
            assert!(
                matches!(answer, InstitutionAnswer::Unanswered { .. }),
                "{script:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_in_good_order_still_answers() {
    let says = [goaway(1, 0), approval(1)].concat();
    let script =
        Script { says, reply: Reply::Approval, ending: Ending::Farewell, ..Script::listener() };
    let (answer, _) = ask_scripted(script, &credentials()).await;
    assert!(matches!(answer, InstitutionAnswer::Transaction { .. }), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_requests_the_one_above_the_last_processed_is_unanswered() {
    let credentials = credentials();
    let acceptor = acceptor(&credentials, &credentials.root_pem);
    let server = Listening::start(move |tcp, over| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let mut stream = BufReader::new(stream);
            say(&mut stream, &SETTINGS, || {}).await.unwrap();
            let mut read = Vec::new();
            while requests_in(&read).1 < 2 {
                read.push(stream.read_u8().await.unwrap());
            }
            say(&mut stream, &[goaway(1, 0), approval(1)].concat(), || {}).await.unwrap();
            end(stream.into_inner(), Ending::Close, over).await;
        }
    })
    .await;
    let relay = relay_to(server.port, &credentials);
    let (first, second) =
        tokio::join!(relay.ask(authorisation(), 10_000), relay.ask(authorisation(), 10_000));
    drop(relay);
    server.finish().await;
    let counts = count([&first, &second]);
    assert_eq!(
        counts,
        Counts { transactions: 1, unanswered: 1, ..Counts::default() },
        "{first:?}, {second:?}"
    );
}

/// One question over a network that fails.
async fn ask_over(cut: Cut, credentials: &Credentials) -> (InstitutionAnswer, Notes, [usize; 2]) {
    let script = Script { says: approval(1), reply: Reply::Approval, ..Script::listener() };
    let (server, notebook) = scripted(script, acceptor(credentials, &credentials.root_pem)).await;
    let carried: Arc<[AtomicUsize; 2]> = Arc::default();
    let (server_port, counters) = (server.port, Arc::clone(&carried));
    let network = Listening::start(move |tcp, over| {
        carry(tcp, server_port, cut, Arc::clone(&counters), over)
    })
    .await;
    let relay = relay_to(network.port, credentials);
    let asking = timeout(HANG, relay.ask(authorisation(), timeout_for(cut.ending)));
    let answer = asking.await.expect("the question never ends");
    drop(relay);
    network.finish().await;
    server.finish().await;
    let notes = std::mem::take(&mut *notebook.open());
    check_answer(&format!("{cut:?}"), &notes, &answer);
    (answer, notes, [carried[0].load(Ordering::Relaxed), carried[1].load(Ordering::Relaxed)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_fails_after_any_octet_either_way() {
    let credentials = Arc::new(credentials());
    let endless = Cut { way: Way::ToServer, octets: usize::MAX, ending: Ending::Close };
    let (answer, notes, carried) = ask_over(endless, &credentials).await;
    assert!(
        matches!(answer, InstitutionAnswer::Transaction { .. }) && notes.request_is_whole,
        "{answer:?}"
    );
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for (way, length) in [(Way::ToServer, carried[0]), (Way::ToTerminal, carried[1])] {
        assert!(length > 500, "{way:?} {length}");
        for octets in 0..=length {
            // Each octet with one of the endings: within a TLS record, all octets are alike.
            let ending = [Ending::Close, Ending::Reset, Ending::Silence][octets % 3];
            let (credentials, places) = (Arc::clone(&credentials), Arc::clone(&places));
            asking.spawn(async move {
                let _place = places.acquire().await;
                ask_over(Cut { way, octets, ending }, &credentials).await
            });
        }
    }
    let answers = asking.join_all().await;
    let counts = count(answers.iter().map(|(answer, ..)| answer));
    // The handshake is more than half of all octets; the request has some hundred, the answer too.
    assert!(counts.not_sent > 500 && counts.unanswered > 100 && counts.refused == 0, "{counts:?}");
}
