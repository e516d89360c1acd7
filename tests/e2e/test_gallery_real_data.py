"""Gallery graders on real rows: the reference answer earns 1, and no answer that knows nothing wins."""

from __future__ import annotations

import pytest

from benchmarks.grader_gallery import CASES, DATA, run


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_bench_passes_the_gallery(name: str) -> None:
    case = CASES[name]
    if not (DATA / f"{case.file}.jsonl.gz").is_file():
        pytest.skip(f"needs the shared data folder beside the repository ({case.file}.jsonl.gz)")
    report = run(case, 5)
    assert report.passed()
    assert report.probe("reference").mean == 1.0
    assert all(probe.drop < 1e-9 for probe in report.probes if probe.kind == "same")
    assert max(probe.mean or 0.0 for probe in report.probes if probe.kind == "gaming") <= 0.4
