"""Quotes that must occur in the source: the share of the answer's citations that the row's source text really holds.

The answer is {"quotes": ["..."]}, or a text with the citations in quotation marks. White space, case and the shape of
quotation marks do not count. Too short, too long, repeated and overlapping quotes count as wrong. Where the row also
has a passage to find (ANSWER_FIELD), half of a quote must lie in it.
"""

import re
from difflib import SequenceMatcher
from typing import Any

from pinetune.graders.gallery.reading import accepted, answer_object, folded, overlong

SOURCE_FIELD = "source"  # field of the row: the text that is cited
ANSWER_FIELD = "reference_answer"  # field of the row: the passage to find, or a list of them; a row may lack it
QUOTES_FIELD = "quotes"  # key of the list of quotes in the model's JSON answer
MIN_CHARS = 15  # shorter quotes occur anywhere
MAX_QUOTE_CHARS = 600  # longer quotes copy instead of citing
MAX_QUOTES = 10  # more quotes score 0
MAX_SHARE = 0.6  # without a passage to find: a quote that is a larger share of the source copies instead of citing
OVERLAP = 0.5  # share of a quote that must lie, in one piece, in the passage to find
MAX_CHARS = 20_000  # longer answers score 0

MARKS = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "’": "'", "‘": "'"})


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    source = plain(str(item[SOURCE_FIELD]))
    quotes = [] if overlong(sample, MAX_CHARS) else quotes_of(sample)
    if not quotes or len(quotes) > MAX_QUOTES:
        return 0.0
    passages = [plain(str(passage)) for passage in accepted(item[ANSWER_FIELD])] if item.get(ANSWER_FIELD) else []
    most = MAX_QUOTE_CHARS if passages else min(MAX_QUOTE_CHARS, MAX_SHARE * len(source))
    taken: list[tuple[int, int]] = []
    right = 0
    for quote in quotes:
        start = source.find(quote) if MIN_CHARS <= len(quote) <= most else -1
        end = start + len(quote)
        free = start >= 0 and not any(start < other_end and end > other for other, other_end in taken)
        if free and (not passages or any(overlaps(quote, passage) for passage in passages)):
            taken.append((start, end))
            right += 1
    return right / len(quotes)


def quotes_of(sample: dict[str, Any]) -> list[str]:
    answer = answer_object(sample)
    if answer is None:
        text = (sample.get("output_text") or "").translate(MARKS)
        return [plain(quote) for quote in re.findall(r'"([^"\n]+)"', text)]
    quotes = answer.get(QUOTES_FIELD)
    quotes = [quotes] if isinstance(quotes, str) else quotes
    return [plain(str(quote)) for quote in quotes] if isinstance(quotes, list) else []


def overlaps(quote: str, passage: str) -> bool:
    match = SequenceMatcher(None, quote, passage, autojunk=False).find_longest_match()
    return match.size >= OVERLAP * len(quote)


def plain(text: str) -> str:
    return folded(text.translate(MARKS)).strip(" .\"'")
