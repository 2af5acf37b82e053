//! What the operating system says of an error, for people: without Rust's number for it.

use std::io;

/// `No such file or directory`, not `No such file or directory (os error 2)`. The message that
/// holds it names the file, and what was to be done with it.
pub fn io_error_text(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    match number.and_then(|number| text.strip_suffix(&number)) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_left_out_and_every_other_word_stays() {
        let absent = std::fs::read("/nowhere/at/all").unwrap_err();
        assert_eq!(io_error_text(&absent), "No such file or directory");
        assert_eq!(io_error_text(&io::Error::other("a cable is loose")), "a cable is loose");
    }
}
