"""Importers: phenopackets and compact cases become RFT rows, and nothing odd in them stops an import or leaks an answer."""

from __future__ import annotations

import copy
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinetune.data.case_report import INSTRUCTIONS, names
from pinetune.data.compact import AGE, BOTH, LEAK, NO_FINDINGS, TWICE, from_compact_row, read_compact
from pinetune.data.jsonl import Complaints
from pinetune.data.phenopackets import _Skip, import_phenopackets, to_compact
from pinetune.data.rows import to_row
from pinetune.errors import DataError

RARE = Path(__file__).parents[3] / "shared" / "data" / "rare"
needs_real_cases = pytest.mark.skipif(not RARE.exists(), reason="the real cases (../shared/data/rare) are not on this machine")


def feature(number: int, label: str, **more: Any) -> dict[str, Any]:
    return {"type": {"id": f"HP:{number:07d}", "label": label}, **more}


def packet(**changes: Any) -> dict[str, Any]:
    """A solved case of the invented gene ABC1, as phenopacket-store writes them."""
    made: dict[str, Any] = {
        "id": "PMID_1_patient_1",
        "subject": {"id": "patient 1", "sex": "FEMALE", "timeAtLastEncounter": {"age": {"iso8601duration": "P7Y"}}},
        "phenotypicFeatures": [
            feature(1, "Seizure", onset={"age": {"iso8601duration": "P1Y"}}, modifiers=[{"label": "Severe"}]),
            feature(2, "Ataxia"),
            feature(3, "Ptosis", excluded=True),
        ],
        "interpretations": [
            {
                "progressStatus": "SOLVED",
                "diagnosis": {
                    "disease": {"id": "OMIM:1", "label": "ABC1-related ataxia"},
                    "genomicInterpretations": [
                        {
                            "interpretationStatus": "CAUSATIVE",
                            "variantInterpretation": {"variationDescriptor": {"geneContext": {"symbol": "ABC1"}}},
                        }
                    ],
                },
            }
        ],
        "diseases": [{"term": {"id": "OMIM:1", "label": "ABC1-related ataxia"}, "onset": {"ontologyClass": {"label": "Infantile onset"}}}],
        "metaData": {"phenopacketSchemaVersion": "2.0.2", "externalReferences": [{"id": "PMID:1"}]},
    }
    return {**made, **changes}


def write_packets(folder: Path, **packets: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in packets.items():
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"{name}.json").write_bytes(raw)
    return folder


REPORT = (
    "A 7-year-old girl was assessed for a suspected genetic disorder. Symptoms began in infancy. "
    "Clinical findings included seizure and ataxia. Looked for and not found: ptosis."
)


def test_a_packet_becomes_a_row(tmp_path: Path) -> None:
    imported = import_phenopackets(write_packets(tmp_path / "p", a=packet()))
    (item,) = imported.items
    assert item["messages"] == [{"role": "user", "content": f"{REPORT}\n\n{INSTRUCTIONS}"}]
    assert {key: value for key, value in item.items() if key != "messages"} == {
        "reference_answer": "ABC1",
        "case_id": "pp-6d7b9187fc",
        "sex": "female",
        "age": "P7Y",
        "onset": "Infantile onset",
        "present": [{"id": "HP:0000001", "label": "Seizure"}, {"id": "HP:0000002", "label": "Ataxia"}],
        "excluded": [{"id": "HP:0000003", "label": "Ptosis"}],
        "disease": {"id": "OMIM:1", "label": "ABC1-related ataxia"},
        "source_id": "PMID_1_patient_1",
        "pmid": "PMID:1",
    }
    assert (imported.skipped, imported.notes) == ((), {})


def test_a_release_zip_and_its_folder_give_the_same_rows(tmp_path: Path) -> None:
    folder = write_packets(tmp_path / "p", b=packet(id="b"), a=packet(id="a"), **{"._a": b"\x00"})
    (folder / "notes.txt").write_text("not a packet")
    archive = tmp_path / "release.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("b", "a"):
            file.write(folder / f"{name}.json", f"0.1.25/ABC1/{name}.json")
        file.writestr("__MACOSX/x.json", "{")
        file.writestr("0.1.25/README.md", "hello")
    assert import_phenopackets(archive).items == import_phenopackets(folder).items
    assert [item["source_id"] for item in import_phenopackets(archive).items] == ["a", "b"]


def causative(*symbols: str | None, status: Any = "CAUSATIVE") -> list[dict[str, Any]]:
    genes = [
        {"interpretationStatus": status, "variantInterpretation": {"variationDescriptor": {"geneContext": {"symbol": s}}}} for s in symbols
    ]
    return [{"diagnosis": {"genomicInterpretations": genes}}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packet(interpretations=[]), "no causative gene"),
        (packet(interpretations=causative("ABC1", status="CANDIDATE")), "no causative gene"),
        (packet(interpretations=causative("ABC1", "ABC2")), "more than one causative gene"),
        (packet(interpretations=causative("ABC1", None)), "a causative variant without gene symbol"),
        (packet(phenotypicFeatures=[feature(1, "Ptosis", excluded=True)]), NO_FINDINGS),
        (packet(phenotypicFeatures=[feature(1, "Low ABC1 activity")]), NO_FINDINGS),
        (packet(metaData={"phenopacketSchemaVersion": "1.0.0"}), "a phenopacket of schema version 1; convert it to version 2"),
        ({"proband": packet()}, "a family or cohort message, not a phenopacket"),
        ({"hello": 1}, "not a phenopacket"),
        ([packet()], "not a JSON object"),
        (b"", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b"\xff\xfe\x00", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"phenotypicFeatures": "\\ud800"}', "not a JSON object"),
    ],
)
def test_a_packet_that_gives_no_row_is_named_with_the_reason(tmp_path: Path, content: Any, reason: str) -> None:
    folder = write_packets(tmp_path / "p", good=packet(id="good"), odd=content)
    imported = import_phenopackets(folder)
    assert len(imported.items) == 1
    assert [name for name, _ in imported.skipped] == ["odd.json"]
    assert imported.reasons() == {reason: 1}


def test_the_same_packet_twice_counts_once(tmp_path: Path) -> None:
    imported = import_phenopackets(write_packets(tmp_path / "p", a=packet(), b=packet(), c=packet(id="other")))
    assert (len(imported.items), imported.skipped) == (2, (("b.json", "the same packet id and gene as an earlier file"),))


def test_damaged_members_of_a_zip_are_skipped(tmp_path: Path) -> None:
    archive = tmp_path / "release.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.json", json.dumps(packet()))
        file.writestr("b.json", json.dumps(packet(id="MARKER")))
    archive.write_bytes(archive.read_bytes().replace(b"MARKER", b"BROKEN", 1))
    imported = import_phenopackets(archive)
    assert (len(imported.items), imported.skipped) == (1, (("b.json", "cannot be unpacked (BadZipFile)"),))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda at: at, "no such folder or zip; check the path"),
        (lambda at: write_packets(at), "no .json files in it; name a folder or zip of phenopackets"),
        (lambda at: write_packets(at, a={"x": 1}), r"none of its 1 JSON files gives a case \(not a phenopacket: 1\)"),
        (lambda at: write_packets(at, a=packet()) / "a.json", "neither a folder nor a readable zip"),
    ],
)
def test_a_source_without_cases_is_refused(tmp_path: Path, make: Callable[[Path], Path], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        import_phenopackets(make(tmp_path / "p"))


@pytest.mark.parametrize(
    ("time", "age"),
    [
        ({"age": {"iso8601duration": "P7Y"}}, "P7Y"),
        ({"ageRange": {"start": {"iso8601duration": "P2Y"}, "end": {"iso8601duration": "P4Y"}}}, "P2Y/P4Y"),
        ({"ageRange": {"start": {"iso8601duration": "P2Y"}, "end": {"iso8601duration": "P2Y"}}}, "P2Y"),
        ({"age_range": {"start": {"iso8601duration": "P2Y"}}}, "P2Y"),
        ({"ontologyClass": {"id": "HP:0003593", "label": "Infantile onset"}}, "Infantile onset"),
        ({"gestationalAge": {"weeks": 32, "days": 2}}, "gestation P32W2D"),
        ({"gestationalAge": {"weeks": 32}}, "gestation P32W"),
        ({"timestamp": "2020-01-01T00:00:00Z"}, None),
        ("P7Y", None),
        (None, None),
    ],
)
def test_forms_of_age_and_onset(time: Any, age: str | None) -> None:
    case = to_compact(packet(subject={"sex": "MALE", "timeAtLastEncounter": time}, diseases=[{"onset": time}]))
    assert (case["age"], case["onset"], case["sex"]) == (age, age, "male")


def test_snake_case_and_numeric_enums_are_protobuf_json_too() -> None:
    snake = {
        "id": "x",
        "subject": {"sex": 2, "time_at_last_encounter": {"age": {"iso8601duration": "P1Y"}}},
        "phenotypic_features": [feature(1, "Seizure")],
        "interpretations": [{"diagnosis": {"genomic_interpretations": [{"interpretation_status": 4, "gene": {"symbol": "ABC1"}}]}}],
    }
    case = to_compact(snake)
    assert (case["gene"], case["sex"], case["age"], case["present"]) == ("ABC1", "male", "P1Y", [{"id": "HP:0000001", "label": "Seizure"}])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(packet())[1:]), odd=st.sampled_from([None, 0, -1.5, True, "", "x", [], [None], {}, {"x": []}, [[]]]))
def test_any_value_anywhere_in_a_packet_gives_a_case_or_a_reason(place: tuple[Any, ...], odd: Any) -> None:
    changed = copy.deepcopy(packet())
    here: Any = changed
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = odd
    try:
        case = to_compact(changed)
    except _Skip as reason:
        assert str(reason)
    else:
        from_compact_row(case)


def compact(**changes: Any) -> dict[str, Any]:
    made = {
        "id": "c1",
        "source_id": "s",
        "sex": "male",
        "onset": None,
        "age": "P3Y",
        "gene": "ABC1",
        "disease": {"id": "OMIM:1", "label": "Odd disease"},
    }
    return {**made, "present": [{"id": "HP:1", "label": "Seizure"}], "excluded": [], "pmid": None, **changes}


def write_compact(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def test_findings_are_merged_and_counted(tmp_path: Path) -> None:
    fever, seizure, low = {"id": "HP:2", "label": "Fever"}, {"id": "HP:1", "label": "Seizure"}, {"id": "HP:3", "label": "Low ABC1 level"}
    row = compact(
        present=[seizure, fever, seizure, low], excluded=[fever, {"id": "HP:4", "label": "Odd disease of the skin"}], onset="Odd onset"
    )
    imported = read_compact(write_compact(tmp_path / "c.jsonl.gz", row, compact(id="c2", present=[low])))
    (item,) = imported.items
    assert (item["present"], item["excluded"], item["onset"]) == ([seizure, fever], [], None)
    assert imported.notes == {TWICE: 1, BOTH: 1, AGE: 1, LEAK: 3}
    assert imported.skipped == (("line 2", NO_FINDINGS),)


def test_malformed_compact_cases_are_named(tmp_path: Path) -> None:
    rows = [
        compact(gene=""),
        compact(present=None),
        compact(excluded=["x"]),
        compact(age=7),
        {"messages": []},
        compact(disease={"label": 1}),
    ]
    path = write_compact(tmp_path / "c.jsonl.gz", *rows)
    with pytest.raises(DataError) as caught:
        read_compact(path)
    starts = [":1: gene: missing", ":2: present: null", ":3: excluded[0]: not a finding", ":4: age: a number"]
    starts += [":5: messages: this is an RFT row", ":5: present: null", ":6: disease.label: a number"]
    assert len(caught.value.complaints) == len(starts)
    for complaint, start in zip(caught.value.complaints, starts, strict=True):
        assert complaint.removeprefix(str(path)).startswith(start)


@needs_real_cases
@pytest.mark.parametrize(("name", "rows"), [("demo_train", 1100), ("demo_valid", 200)])
def test_real_rows_never_show_the_gene_the_disease_or_the_source(name: str, rows: int) -> None:
    imported = read_compact(RARE / f"{name}.jsonl.gz")
    assert len(imported.items) == rows
    complaints = Complaints(name)
    for i, item in enumerate(imported.items):
        assert to_row(item, i, i + 1, complaints) is not None
        text = item["messages"][0]["content"]
        hidden = [
            item["reference_answer"],
            item["disease"]["label"],
            item["source_id"],
            item["pmid"],
            item["case_id"],
            item["disease"]["id"],
        ]
        assert [word for word in hidden if names(text, word)] == []
    assert complaints.total == 0
    assert len({item["messages"][0]["content"] for item in imported.items}) > 0.98 * rows


@needs_real_cases
def test_real_packets_give_the_same_rows_as_the_compact_cases() -> None:
    imported = import_phenopackets(RARE / "raw-sample.zip")
    assert (len(imported.items), imported.skipped, imported.notes) == (260, (), {})
    compact_items = {item["case_id"]: item for name in ("dev_pool", "demo_valid") for item in read_compact(RARE / f"{name}.jsonl.gz").items}
    assert [item["case_id"] for item in imported.items if item != compact_items[item["case_id"]]] == []
