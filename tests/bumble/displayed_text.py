"""Which text a phone shows: docs/protocol.md, section 9."""

import re
import unicodedata

MARKS_MAX = 2
NON_JOINER, JOINER = "\u200c", "\u200d"
SELECTORS = "\ufe0e\ufe0f"
KEYCAP = "\u20e3"
# Default-ignorable, and blank by meaning, though the category says otherwise.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff\U0001d159\U00013441\U00013442]"
)
JOINING_SCRIPTS = re.compile("[\u0600-\u109f\u1780-\u18af\U00011000-\U00011fff]")


class NotDisplayed(Exception):
    """Names the character and its place."""


def _is_of_joining_script(character):
    return bool(JOINING_SCRIPTS.match(character)) and unicodedata.category(character)[0] in "LM"


def _is_emoji(character):
    # Python has no table of emoji. Those beyond ASCII are signs, but for a few letters and marks of
    # punctuation that this phone does not know.
    return character > "\u007f" and unicodedata.category(character) in ("So", "Sk", "Sm", "Po")


def _is_misplaced(before, character, after):
    inside = before and after and _is_of_joining_script(before) and _is_of_joining_script(after)
    if character == NON_JOINER:
        return not inside
    if character == JOINER:
        between = before and after and (before in SELECTORS or _is_emoji(before))
        return not (inside or between and _is_emoji(after))
    keycap = before and before in "0123456789#*" and after == KEYCAP
    return not (before and (_is_emoji(before) or keycap))


def _fault(text, place, base, marks):
    character = text[place]
    category = unicodedata.category(character)
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if character in NON_JOINER + JOINER + SELECTORS:
        return "joins or selects nothing" if _is_misplaced(before, character, after) else None
    if BLANK.match(character) or category in ("Cc", "Cf"):
        return "is not seen"
    # What a later version of Unicode assigned is not known here, and taken: Cn.
    if category in ("Zl", "Zp", "Co", "Cs") or category == "Zs" and character != " ":
        return "is no such space or character"
    if category[0] == "M" and not base:
        return "stands on nothing"
    if category in ("Mn", "Me") and marks >= MARKS_MAX:
        return "is a mark too many"
    return None


def check_displayed(text, least, most):
    """Raises NotDisplayed unless a person can be shown this text of `least` to `most` octets."""
    if not least <= len(text.encode()) <= most:
        raise NotDisplayed(f"{len(text.encode())} octets")
    if text != text.strip(" "):
        raise NotDisplayed("a space at the beginning or the end")
    base, marks = False, 0
    for place, character in enumerate(text):
        why = _fault(text, place, base, marks)
        if why:
            raise NotDisplayed(f"U+{ord(character):04X} (character {place + 1}) {why}")
        if character in NON_JOINER + JOINER + SELECTORS:
            continue
        category = unicodedata.category(character)
        if category in ("Mn", "Me"):
            marks += 1
        elif category != "Mc":
            base, marks = character != " ", 0
