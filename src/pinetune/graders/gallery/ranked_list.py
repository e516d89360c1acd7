"""Ranked list: 1.0 for the right answer in first place, 0.7 in second, 0.7^(rank-1) down to the last paid place.

The answer is one JSON object, {"answers": ["TSC2", "TSC1"]}; a code fence or prose around it is forgiven. Ways to win
without knowing score 0: an entry named twice, a list that is too long, several objects. A reference that is a list
accepts each of its entries.
"""

from typing import Any

from pinetune.graders.gallery.reading import accepted, answer_object, folded, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right entry, or a list of entries that count as right
LIST_FIELD = "answers"  # key of the list in the model's JSON answer
DECAY = 0.7  # what each place further down multiplies the grade by
LAST_PAID_RANK = 10  # places below this one score 0
MAX_LENGTH = 50  # longer lists score 0
MAX_CHARS = 20_000  # longer answers score 0


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    right = {folded(str(value)) for value in accepted(item[ANSWER_FIELD])}
    ranked = ranked_entries(sample)
    rank = next((place for place, entry in enumerate(ranked, 1) if entry in right), None)
    return float(DECAY ** (rank - 1)) if rank is not None and rank <= LAST_PAID_RANK else 0.0


def ranked_entries(sample: dict[str, Any]) -> list[str]:
    """The entries in order, or none where the answer is no fair ranked list."""
    answer = answer_object(sample)
    entries = answer.get(LIST_FIELD) if answer is not None and not overlong(sample, MAX_CHARS) else None
    if not isinstance(entries, list) or len(entries) > MAX_LENGTH or not all(isinstance(entry, str) for entry in entries):
        return []
    ranked = [folded(entry) for entry in entries]
    return ranked if len(set(ranked)) == len(ranked) else []
