"""An eval's item_schema is a stranger's: what it may not do to the server."""

from __future__ import annotations

from pinetune.evals.cases import RowSchema, check_schema


def schema(**field: object) -> RowSchema:
    return RowSchema({"properties": {"item": {"type": "object", "properties": {"code": {"type": "string", **field}}}}})


def test_a_pattern_is_searched_for_as_json_schema_says() -> None:
    rows = schema(pattern="[A-Z][0-9]{2}")
    assert rows.fault({"code": "see E11 there"}) is None
    assert rows.fault({"code": "e11"}) == ("item.code", "'e11' does not match '[A-Z][0-9]{2}'")


def test_a_pattern_that_would_take_years_is_given_up() -> None:
    found = schema(pattern="^(a|a)+$").fault({"code": "a" * 60 + "!"})
    assert found is not None
    assert found[0] == "item.code" and "takes too long on this text" in found[1]


def test_patterns_that_cannot_be_limited_or_read_are_refused_when_the_eval_is_made() -> None:
    assert check_schema({"type": "object", "patternProperties": {"^a": {}}}) == (
        "patternProperties cannot be limited in time and is not supported; name the properties"
    )
    assert check_schema({"properties": {"code": {"pattern": "("}}}) == "properties.code.pattern: '(' is not a 'regex'"
