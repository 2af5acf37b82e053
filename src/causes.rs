//! An error with its causes on one line, each said once.

use std::error::Error;

/// The error's message and those of its causes, joined by colons.
///
/// Many errors repeat their cause in their own message. Such a cause, and what is below it, is
/// left out: the error above has said what it wants to say of it.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_message = cause.to_string();
        if message.contains(&cause_message) {
            break;
        }
        message = format!("{message}: {cause_message}");
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Plain {
        message: &'static str,
        source: Option<Box<Plain>>,
    }

    fn chain(messages: &[&'static str]) -> Plain {
        let source = (messages.len() > 1).then(|| Box::new(chain(&messages[1..])));
        Plain { message: messages[0], source }
    }

    #[test]
    fn causes_are_said_once() {
        for (messages, expected) in [
            (&["a file"][..], "a file"),
            (&["no wallet", "no directory", "denied"], "no wallet: no directory: denied"),
            (&["cannot open x: denied", "denied"], "cannot open x: denied"),
            (&["the journal: full", "full", "code 13: full"], "the journal: full"),
            (&["it", "run `florin enrol`", "run `florin enrol`"], "it: run `florin enrol`"),
        ] {
            assert_eq!(with_causes(&chain(messages)), expected);
        }
        assert_eq!(with_causes(&io::Error::other(chain(&["a", "b"]))), "a: b");
    }
}
