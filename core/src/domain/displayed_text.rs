//! The one rule for text that people are shown: what a till, an institution or an operator may
//! write, and what a phone takes. docs/protocol.md, section "What the phone must check", states it.
//!
//! The rule goes by properties of Unicode, so that nothing invisible and nothing that repaints the
//! text beside it reaches the screen on which a person consents.

use std::ops::RangeInclusive;

use unicode_properties::{
    GeneralCategory as Category, GeneralCategoryGroup as Group, UnicodeEmoji,
    UnicodeGeneralCategory,
};

/// The most marks that do not take room of their own (accents) on one base.
pub const MARKS_PER_BASE_MAX: usize = 2;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const TEXT_SELECTOR: char = '\u{fe0e}';
const EMOJI_SELECTOR: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// Why people cannot be shown a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisplayedTextError {
    /// Too long, or empty where it must not be.
    #[error("expected {} to {} octets of UTF-8, got {got}", expected.start(), expected.end())]
    Length {
        /// How many octets it may have.
        expected: RangeInclusive<usize>,
        /// How many octets it has.
        got: usize,
    },
    /// One character is at fault.
    #[error("U+{:04X} (character {position}) {fault}", u32::from(*character))]
    Character {
        character: char,
        /// Counted in code points from 1.
        position: usize,
        fault: CharacterFault,
    },
}

/// What is wrong with a character at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CharacterFault {
    /// A control character, also one that breaks a line.
    #[error("is a control character")]
    Control,
    /// A format character, or one that is not seen.
    #[error("is invisible or changes how the text around it is shown")]
    Invisible,
    /// A space or line break other than U+0020.
    #[error("is a space or line break of another kind; the only space is U+0020")]
    Separator,
    /// The text begins or ends with a space.
    #[error("is a space at the beginning or the end")]
    OuterSpace,
    /// Nobody knows what it looks like.
    #[error("is no character that Unicode assigns")]
    Unassigned,
    /// A mark with nothing to stand on.
    #[error("is a mark without a character to stand on")]
    LoneMark,
    /// One mark more than [`MARKS_PER_BASE_MAX`].
    #[error("is the third mark or a later one on one character; two are the most")]
    ManyMarks,
    /// A joiner or a selector at a place where no writing needs it.
    #[error("joins or selects nothing here, so it is invisible")]
    Misplaced,
}

/// Checks that people can be shown this text, which may have so many octets of UTF-8.
///
/// # Errors
/// [`DisplayedTextError`]: the first fault.
pub fn check_displayed_text(
    text: &str,
    octets: RangeInclusive<usize>,
) -> Result<(), DisplayedTextError> {
    if !octets.contains(&text.len()) {
        return Err(DisplayedTextError::Length { expected: octets, got: text.len() });
    }
    let at_fault = |position: usize, character, fault| {
        Err(DisplayedTextError::Character { character, position: position + 1, fault })
    };
    if text.starts_with(' ') {
        return at_fault(0, ' ', CharacterFault::OuterSpace);
    }
    for (position, (character, fault)) in judged(text).into_iter().enumerate() {
        if let Some(fault) = fault {
            return at_fault(position, character, fault);
        }
    }
    if text.ends_with(' ') {
        return at_fault(text.chars().count() - 1, ' ', CharacterFault::OuterSpace);
    }
    Ok(())
}

/// The text with U+FFFD for every character that people cannot be shown: for text of another party
/// that has to be shown in any case.
pub fn displayable(text: &str) -> String {
    let shown = |(character, fault): (char, Option<CharacterFault>)| match fault {
        Some(_) => char::REPLACEMENT_CHARACTER,
        None => character,
    };
    judged(text).into_iter().map(shown).collect()
}

/// Every character with what is wrong with it.
fn judged(text: &str) -> Vec<(char, Option<CharacterFault>)> {
    let mut judged = Vec::with_capacity(text.len());
    let mut place = Place::default();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        place.next = characters.peek().copied();
        let fault = place.fault(character);
        place.advance(character, fault);
        judged.push((character, fault));
    }
    judged
}

/// What stands around a character.
#[derive(Default)]
struct Place {
    previous: Option<char>,
    next: Option<char>,
    /// Whether there is a character that a mark can stand on.
    has_base: bool,
    /// The marks on it so far.
    marks: usize,
}

impl Place {
    fn fault(&self, character: char) -> Option<CharacterFault> {
        let needs = |is_needed: bool| (!is_needed).then_some(CharacterFault::Misplaced);
        match character {
            ' ' => None,
            ZERO_WIDTH_NON_JOINER => needs(self.is_inside_joining_script()),
            ZERO_WIDTH_JOINER => needs(self.is_inside_joining_script() || self.is_between_emoji()),
            TEXT_SELECTOR | EMOJI_SELECTOR => needs(self.is_after_selectable()),
            other if is_blank(other) => Some(CharacterFault::Invisible),
            other => self.fault_of_category(other),
        }
    }

    /// By the category of a character that is none of the exceptions.
    fn fault_of_category(&self, character: char) -> Option<CharacterFault> {
        let category = character.general_category();
        let is_private = matches!(category, Category::PrivateUse | Category::Surrogate);
        if category == Category::Control {
            Some(CharacterFault::Control)
        } else if category == Category::Format {
            Some(CharacterFault::Invisible)
        } else if is_separator(category) {
            Some(CharacterFault::Separator)
        } else if category == Category::Unassigned || is_private {
            Some(CharacterFault::Unassigned)
        } else if is_mark(character) && !self.has_base {
            Some(CharacterFault::LoneMark)
        } else if takes_no_room(character) && self.marks >= MARKS_PER_BASE_MAX {
            Some(CharacterFault::ManyMarks)
        } else {
            None
        }
    }

    fn advance(&mut self, character: char, fault: Option<CharacterFault>) {
        // Joiners and selectors leave the base as it is.
        if takes_no_room(character) && !is_selector(character) {
            self.marks += 1;
        } else if !is_mark(character) && !is_selector(character) {
            self.has_base = fault.is_none() && character != ' ';
            self.marks = 0;
        }
        self.previous = Some(character);
    }

    /// Between two letters or marks of a script that writes with joiners.
    fn is_inside_joining_script(&self) -> bool {
        self.previous.is_some_and(is_of_joining_script)
            && self.next.is_some_and(is_of_joining_script)
    }

    fn is_between_emoji(&self) -> bool {
        let is_end = |character| character == EMOJI_SELECTOR || is_emoji(character);
        self.previous.is_some_and(is_end) && self.next.is_some_and(is_emoji)
    }

    /// After an emoji, or inside a keycap: a digit, the selector, U+20E3.
    fn is_after_selectable(&self) -> bool {
        let is_keycap =
            |character| matches!(character, '0'..='9' | '#' | '*') && self.next == Some(KEYCAP);
        self.previous.is_some_and(|character| is_emoji(character) || is_keycap(character))
    }
}

fn is_selector(character: char) -> bool {
    matches!(character, ZERO_WIDTH_NON_JOINER | ZERO_WIDTH_JOINER | TEXT_SELECTOR | EMOJI_SELECTOR)
}

fn is_separator(category: Category) -> bool {
    matches!(
        category,
        Category::SpaceSeparator | Category::LineSeparator | Category::ParagraphSeparator
    )
}

/// Stands on the character before it.
fn is_mark(character: char) -> bool {
    matches!(character.general_category_group(), Group::Mark)
}

/// A mark that takes no room of its own.
fn takes_no_room(character: char) -> bool {
    let category = character.general_category();
    matches!(category, Category::NonspacingMark | Category::EnclosingMark)
}

fn is_emoji(character: char) -> bool {
    !character.is_ascii() && character.is_emoji_char()
}

/// The scripts from Arabic to Myanmar, Khmer, Mongolian, and the historic ones of India.
fn is_of_joining_script(character: char) -> bool {
    let is_letter = matches!(character.general_category_group(), Group::Letter);
    let is_in_range = matches!(
        character,
        '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{11000}'..='\u{11fff}'
    );
    is_in_range && (is_letter || is_mark(character))
}

/// Not seen, though its general category is that of something that is seen: what has the property
/// `Default_Ignorable_Code_Point`, and four signs that are blank by their meaning.
fn is_blank(character: char) -> bool {
    matches!(
        character,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2065}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{e0000}'..='\u{e0fff}'
            // Braille without a dot, a note without a head, and hieroglyphs' blanks.
            | '\u{2800}'
            | '\u{1d159}'
            | '\u{13441}'..='\u{13442}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{LineItem, Offer, OfferParts, TransactionId, UnixTime, check_merchant_name};
    use super::*;
    use crate::credential::{Keyring, SigningKey, TerminalCertificate};
    use crate::protocol::ChannelKey;
    use crate::terminal::fixtures;

    fn fault(text: &str) -> Option<(char, usize, CharacterFault)> {
        match check_displayed_text(text, 0..=1000) {
            Ok(()) => None,
            Err(DisplayedTextError::Character { character, position, fault }) => {
                Some((character, position, fault))
            }
            Err(error @ DisplayedTextError::Length { .. }) => panic!("{error}"),
        }
    }

    #[test]
    fn what_people_write_is_taken() {
        for text in [
            "",
            "Kiosk",
            "Café au lait, 2 × 1,50 €",
            "Cafe\u{301}",
            "Ti\u{302}\u{301}nh",
            "קפה",
            "قهوة",
            "می\u{200c}خواهم",
            "ज\u{93c}ि\u{902}दगी",
            "क\u{94d}\u{200d}ष",
            "ක\u{dca}\u{200d}රී",
            "র\u{200d}\u{9cd}যা",
            "กาแฟเย็น",
            "喫茶店",
            "🦀☕\u{fe0f}",
            "👩\u{200d}🍳",
            "❤\u{fe0f}\u{200d}🔥",
            "👍🏽",
            "🇩🇪",
            "1\u{fe0f}\u{20e3}",
            "a  b",
        ] {
            assert_eq!(fault(text), None, "{text}");
            assert_eq!(displayable(text), text);
        }
    }

    #[test]
    fn the_fault_names_the_character_and_its_place() {
        use CharacterFault as Fault;
        for (text, character, position, expected) in [
            ("a\u{7}b", '\u{7}', 2, Fault::Control),
            ("a\nb", '\n', 2, Fault::Control),
            ("2.50 \u{202e}50", '\u{202e}', 6, Fault::Invisible),
            ("\u{ad}", '\u{ad}', 1, Fault::Invisible),
            ("\u{feff}Kiosk", '\u{feff}', 1, Fault::Invisible),
            ("\u{3164}", '\u{3164}', 1, Fault::Invisible),
            ("\u{2800}", '\u{2800}', 1, Fault::Invisible),
            ("a\u{34f}", '\u{34f}', 2, Fault::Invisible),
            ("🏴\u{e0067}", '\u{e0067}', 2, Fault::Invisible),
            ("葛\u{e0100}", '\u{e0100}', 2, Fault::Invisible),
            ("a\u{fe00}", '\u{fe00}', 2, Fault::Invisible),
            ("a\u{a0}b", '\u{a0}', 2, Fault::Separator),
            ("a\u{2028}b", '\u{2028}', 2, Fault::Separator),
            ("株\u{3000}", '\u{3000}', 2, Fault::Separator),
            (" a", ' ', 1, Fault::OuterSpace),
            ("a ", ' ', 2, Fault::OuterSpace),
            ("   ", ' ', 1, Fault::OuterSpace),
            ("a\u{e000}", '\u{e000}', 2, Fault::Unassigned),
            ("a\u{378}", '\u{378}', 2, Fault::Unassigned),
            ("\u{301}a", '\u{301}', 1, Fault::LoneMark),
            ("a \u{301}", '\u{301}', 3, Fault::LoneMark),
            ("a\u{301}\u{302}\u{303}", '\u{303}', 4, Fault::ManyMarks),
            ("Ki\u{200d}osk", '\u{200d}', 3, Fault::Misplaced),
            ("Ki\u{200c}osk", '\u{200c}', 3, Fault::Misplaced),
            ("می\u{200c}", '\u{200c}', 3, Fault::Misplaced),
            ("می\u{200c}\u{200c}خ", '\u{200c}', 3, Fault::Misplaced),
            ("🦀\u{200d}", '\u{200d}', 2, Fault::Misplaced),
            ("a\u{fe0f}", '\u{fe0f}', 2, Fault::Misplaced),
            ("2\u{fe0f}50", '\u{fe0f}', 2, Fault::Misplaced),
            ("☕\u{fe0f}\u{fe0f}", '\u{fe0f}', 3, Fault::Misplaced),
        ] {
            assert_eq!(fault(text), Some((character, position, expected)), "{text:?}");
        }
    }

    #[test]
    fn the_words_name_what_a_person_has_to_remove() {
        let told = |text| check_displayed_text(text, 1..=8).unwrap_err().to_string();
        assert_eq!(
            told("a\u{202e}b"),
            "U+202E (character 2) is invisible or changes how the text around it is shown"
        );
        assert_eq!(told(""), "expected 1 to 8 octets of UTF-8, got 0");
        assert_eq!(told("123456789"), "expected 1 to 8 octets of UTF-8, got 9");
    }

    #[test]
    fn nothing_that_unicode_hides_is_shown() {
        for character in '\0'..=char::MAX {
            let hides = matches!(
                character.general_category(),
                Category::Control
                    | Category::Format
                    | Category::LineSeparator
                    | Category::ParagraphSeparator
                    | Category::PrivateUse
                    | Category::Unassigned
            );
            if hides || is_blank(character) {
                for text in [format!("{character}"), format!("a{character}b")] {
                    assert!(fault(&text).is_some(), "U+{:04X}", u32::from(character));
                }
            }
        }
    }

    /// A text of characters that are often at fault, or any.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ a\u{300}-\u{303}\u{a0}\u{200b}-\u{200f}\u{202e}\u{3164}\u{fe0f}ی☕]{0,6}",
            ".{0,12}",
        ]
    }

    fn offer_with(change: impl FnOnce(&mut OfferParts)) -> bool {
        let item = LineItem { name: "Coffee".into(), quantity: 1, amount_minor: 1 };
        let mut parts = OfferParts {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: "0123456789".parse().unwrap(),
            merchant_name: "Kiosk".into(),
            amount: "2.50 EUR".parse().unwrap(),
            valid_for_s: 60,
            nonce: [2; 16],
            reference: String::new(),
            items: vec![item],
            capture_after_dispense: false,
        };
        change(&mut parts);
        Offer::new(parts).is_ok()
    }

    fn is_certified(merchant_id: &str, merchant_name: &str) -> bool {
        let certificate = TerminalCertificate {
            terminal_id: "0123456789".parse().unwrap(),
            merchant_id: merchant_id.into(),
            merchant_name: merchant_name.into(),
            channel_key: ChannelKey::from_octets([3; 32]).public_key(),
            not_before: UnixTime { seconds: 0 },
            not_after: UnixTime { seconds: 1 },
        };
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        TerminalCertificate::read_unverified(&certificate.sign(&key)).is_ok()
    }

    fn names_an_institution(name: &str) -> bool {
        let keyring = Keyring { institution_name: name.into(), ..fixtures::keyring() };
        let signed = keyring.sign(&fixtures::root_key());
        Keyring::verify(&signed, &fixtures::root_key().verifying_key()).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_place_takes_the_same_texts(text in text()) {
            let takes = |octets| check_displayed_text(&text, octets).is_ok();
            prop_assert_eq!(
                offer_with(|parts| parts.merchant_name.clone_from(&text)), takes(1..=40)
            );
            prop_assert_eq!(offer_with(|parts| parts.reference.clone_from(&text)), takes(0..=64));
            prop_assert_eq!(
                offer_with(|parts| parts.items[0].name.clone_from(&text)), takes(1..=64)
            );
            prop_assert_eq!(check_merchant_name(&text).is_ok(), takes(1..=40));
            prop_assert_eq!(is_certified("m", &text), takes(1..=40));
            prop_assert_eq!(is_certified(&text, "Kiosk"), takes(1..=32));
            prop_assert_eq!(names_an_institution(&text), takes(1..=64));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_of_any_text_has_no_faulty_character(text: String) {
            let shown = displayable(&text);
            prop_assert!(judged(&shown).iter().all(|(_, fault)| fault.is_none()), "{shown:?}");
            prop_assert_eq!(shown.chars().count(), text.chars().count());
            prop_assert_eq!(displayable(&shown), shown);
        }

        #[test]
        fn what_passes_is_shown_as_it_is(
            text in "[ a\u{300}-\u{303}\u{200b}-\u{200f}\u{fe0f}ی1\u{20e3}☕❤]{0,8}"
        ) {
            if check_displayed_text(&text, 0..=1000).is_ok() {
                prop_assert_eq!(displayable(&text), text);
            } else {
                let is_outer = text.starts_with(' ') || text.ends_with(' ');
                prop_assert!(is_outer || displayable(&text) != text);
            }
        }
    }
}
