"""`pinetune data ...`: files written, figures printed, one JSON object for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pinetune.cli.data import data_app
from pinetune.data.rows import load_rows, write_rows
from pinetune.errors import DataError


def run(*args: str | Path) -> str:
    result = CliRunner().invoke(data_app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def write_genes(path: Path, *genes: Any) -> Path:
    write_rows(path, [{"messages": [{"role": "user", "content": f"{path.stem} {i}"}], "gene": gene} for i, gene in enumerate(genes)])
    return path


def test_split_writes_disjoint_files_that_check_accepts(tmp_path: Path) -> None:
    source = write_genes(tmp_path / "all.jsonl", *[f"G{i % 8}" for i in range(40)])
    out = tmp_path / "parts"
    report = json.loads(run("split", source, "--by", "gene", "--valid", "6", "--test", "3", "--max-per-group", "3", "--out", out, "--json"))
    assert [(Path(part["file"]).name, part["rows"], part["num_groups"]) for part in report["parts"]] == [
        ("train.jsonl", 15, 5),
        ("valid.jsonl", 6, 2),
        ("test.jsonl", 3, 1),
    ]
    assert report["left_out"] == {"over_cap": 16, "trimmed": 0}
    assert [len(load_rows(out / name)) for name in ("train.jsonl", "valid.jsonl", "test.jsonl")] == [15, 6, 3]
    checked = json.loads(run("check", out / "train.jsonl", out / "valid.jsonl", "--answer-field", "gene", "--json"))
    assert checked["overlap"] == {"rows_with_shared_answers": 0, "same_prompts": 0}
    shown = run("split", source, "--by", "gene", "--valid", "6", "--out", out)
    assert "train.jsonl    30" in shown
    assert "left out: 0 rows over the cap per group, 4 of groups cut to fit" in shown


def test_split_never_overwrites_its_source(tmp_path: Path) -> None:
    source = write_genes(tmp_path / "train.jsonl", "A", "B", "C")
    with pytest.raises(DataError, match="would overwrite its own source; choose another --out"):
        run("split", source, "--by", "gene", "--valid", "1")
    assert len(load_rows(source)) == 3


def test_check_refuses_overlap_and_names_both_files(tmp_path: Path) -> None:
    train, valid = write_genes(tmp_path / "t.jsonl", "A", "B"), write_genes(tmp_path / "v.jsonl", "b")
    with pytest.raises(DataError, match=f"{valid}:1: same as {train}:2"):
        run("check", train, valid, "--answer-field", "gene")
    shown = run("check", train, valid, "--answer-field", "gene", "--allow-answer-overlap")
    assert "overlap: 1 row with shared answers, 0 with the same prompt" in shown


def test_check_wants_the_told_field_in_every_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t.jsonl:1: answer: the answer field is missing \(and 1 more rows\)"):
        run("check", write_genes(tmp_path / "t.jsonl", "A", "B"), "--answer-field", "answer")


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    source = write_genes(tmp_path / "all.jsonl", "A", "B", "C")
    with pytest.raises(DataError, match=r"all.jsonl/train.jsonl: cannot be written \(.*\); choose another place"):
        run("split", source, "--by", "gene", "--valid", "1", "--out", source)


def test_rare_rows_and_phenopackets(tmp_path: Path) -> None:
    cases = [{"id": f"c{i}", "gene": f"G{i % 5}", "present": [{"id": "HP:1", "label": "Seizure"}]} for i in range(10)]
    write_rows(tmp_path / "cases.jsonl", cases)
    assert "10 rows" in run("rare-rows", tmp_path / "cases.jsonl", "--out", tmp_path / "rows.jsonl")
    assert [row.item["reference_answer"] for row in load_rows(tmp_path / "rows.jsonl")] == [case["gene"] for case in cases]

    packets = tmp_path / "packets"
    packets.mkdir()
    for case in cases:
        genomic = {"interpretationStatus": "CAUSATIVE", "gene": {"symbol": case["gene"]}}
        features = [{"type": finding} for finding in case["present"]]
        body = {"id": case["id"], "phenotypicFeatures": features, "interpretations": [{"diagnosis": {"genomicInterpretations": [genomic]}}]}
        (packets / f"{case['id']}.json").write_text(json.dumps(body))
    (packets / "odd.json").write_text("{}")
    report = json.loads(run("phenopackets", packets, "--out", tmp_path / "made", "--json"))
    assert (report["cases"], report["skipped"]) == (10, {"not a phenopacket": {"count": 1, "names": ["odd.json"]}})
    assert [part["rows"] for part in report["parts"]] == [8, 2]
    shown = run("phenopackets", packets, "--out", tmp_path / "made", "--valid", "4")
    assert "skipped 1: not a phenopacket: odd.json" in shown
    genes = [{row.item["reference_answer"] for row in load_rows(tmp_path / "made" / f"{part}.jsonl")} for part in ("train", "valid")]
    assert [len(side) for side in genes] == [3, 2]
    assert not genes[0] & genes[1]
