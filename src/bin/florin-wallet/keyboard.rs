//! Questions to the person at the keyboard.

use std::io::{self, Write};

/// Asks on standard error, so that standard output holds only what was asked for. Returns a line
/// from standard input; none at its end, or if it cannot be read.
pub async fn typed_line(question: &str) -> Option<String> {
    let _ = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|octets| (octets, line))
    });
    match read.await {
        Ok(Ok((octets, line))) if octets > 0 => Some(line),
        Ok(_) | Err(_) => None,
    }
}
