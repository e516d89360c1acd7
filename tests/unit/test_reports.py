"""The report of a finished run: the words are exact, the page is safe and self-contained, the pictures are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pinetune.evals.evaluate import build_report
from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row
from pinetune.reports.charts import numbers_chart, reward_chart, thinking_chart
from pinetune.reports.evidence import Evidence, cautions, difference_text, gather, outcome, p_text, ranker_verdict, verdict, with_interval
from pinetune.reports.examples import pick
from pinetune.reports.style import DARK, LIGHT
from pinetune.reports.summary import summarise
from pinetune.reports.write import write_report
from pinetune.runs.folder import RunFolder

PNG = b"\x89PNG\r\n\x1a\n"
ATTACK = '<script>alert("1")</script><img src=http://evil.example/x.png onerror=x>'


def report(step: int, name: str, answer: Callable[[int], tuple[str, float]], num_rows: int = 60, question: str = "case") -> EvalReport:
    """One sample a row; `answer(i)` gives row i's answer text and reward. Row i's right answer is G<i>."""
    groups = []
    for i in range(num_rows):
        text, reward = answer(i)
        row = Row(i, ({"role": "user", "content": f"{question} {i}"},), {"reference_answer": f"G{i}"})
        completion = Completion((1, 2, 3), (-0.1,) * 3, (False,) * 3, "stop", text, f"thinking of {i}", 2)
        groups.append(Group(row, Prompt((1,)), (Rollout(i, 0, i, completion, Grade("ok", reward)),)))
    return build_report(step, name, groups, None, 1.0)


def lists(share: float) -> Callable[[int], tuple[str, float]]:
    """Right gene first in the first `share` of 60 rows, second elsewhere."""
    return lambda i: (json.dumps({"genes": [f"G{i}", "X"] if i < 60 * share else ["X", f"G{i}"]}), 1.0 if i < 60 * share else 0.7)


def evidence(base: EvalReport, tuned: EvalReport, ranker: EvalReport | None = None, **changes: Any) -> Evidence:
    told: dict[str, Any] = {
        "curve": [
            {"step": 0, "valid_reward_mean": 0.2},
            *({"step": s, "train_reward_mean": 0.5} for s in range(1, 41)),
            {"step": 41, "train_reward_mean": 0.5, "valid_reward_mean": 0.6},
        ],
        "model": "tiny",
        "held_out": "",
        "overlap_of_answers": 0,
        "seconds": 61.0,
        "step_chosen_on_these_rows": True,
        "answer_field": None,
        "list_field": None,
        "cluster_by_answer": True,
    }
    return gather(base=base, tuned=tuned, ranker=ranker, **{**told, **changes})


def test_a_clear_gain_is_said_in_one_sentence() -> None:
    found = evidence(report(0, "base", lists(0.25)), report(40, "tuned", lists(0.75)), held_out="held-out cases of genes never trained on")
    base, tuned = found.base.metrics["top1"], found.tuned.metrics["top1"]
    assert outcome(found) == "better"
    assert verdict(found) == (
        f"Top-1 rose from 25% [{100 * base.low:.0f}–{100 * base.high:.0f}] to 75% [{100 * tuned.low:.0f}–{100 * tuned.high:.0f}] "
        "on 60 held-out cases of genes never trained on (paired p < 0.001)."
    )


def test_no_gain_and_a_small_gain_are_not_called_better() -> None:
    same = evidence(report(0, "base", lists(0.5)), report(40, "tuned", lists(0.5)))
    assert outcome(same) == "unclear"
    assert verdict(same).startswith("The tuned model is not shown to be better: top-1 went from 50% ")
    assert "rows whose answers never occur in training" in verdict(same) and "paired p = 1.00" in verdict(same)
    # 9 of 60 rows more, none lost: the paired test sees it (p = 2 / 2^9), the two intervals overlap
    small = evidence(report(0, "base", lists(0.5)), report(40, "tuned", lists(0.65)))
    assert outcome(small) == "unclear"
    assert verdict(small).startswith("The tuned model is not clearly shown to be better: top-1 went from 50% ")
    assert "paired p = 0.0039" in verdict(small) and "the two intervals overlap" in verdict(small)


def test_a_loss_is_called_worse_and_the_ranker_is_weighed() -> None:
    found = evidence(report(0, "base", lists(0.9)), report(40, "tuned", lists(0.5)), report(0, "ranker", lists(0.8)))
    assert outcome(found) == "worse"
    assert verdict(found).startswith("The tuned model is worse: top-1 fell from 90% ")
    assert "has 80% [" in ranker_verdict(found) and "the tuned model is behind it (−30.0 points [" in ranker_verdict(found)
    equal = evidence(report(0, "base", lists(0.2)), report(40, "tuned", lists(0.5)), report(0, "ranker", lists(0.5)))
    assert "is not shown to differ from it" in ranker_verdict(equal)
    assert ranker_verdict(replace(equal, ranker=None)) == ""


def test_numbers_in_words() -> None:
    interval = Interval(0.684, 0.617, 0.738, 225)
    assert with_interval(interval, "top1") == "68% [62–74]" and with_interval(interval, "top5", 1) == "68.4% [61.7–73.8]"
    assert with_interval(interval, "reward") == "0.68 [0.62–0.74]"
    assert difference_text(Interval(-0.02, -0.1, 0.06, 9), "top1") == "−2.0 points [−10.0, +6.0]"
    assert [p_text(p) for p in (0.00005, 0.0123, 0.5)] == ["p < 0.001", "p = 0.012", "p = 0.50"]


def test_cautions_are_said_when_they_apply() -> None:
    def all_of(found: Evidence) -> str:
        return "\n".join(cautions(found))

    few = evidence(report(0, "base", lists(0.2), 20), report(41, "tuned", lists(0.9), 20), overlap_of_answers=3)
    assert "3 of the held-out rows have an answer that training rewards too" in all_of(few)
    assert "best of 2 evaluations on these same rows" in all_of(few)
    assert "The last step was the best one" in all_of(few) and "20 rows are few" in all_of(few)
    kept = evidence(report(0, "base", lists(0.2)), report(0, "tuned", lists(0.2)))
    assert cautions(kept) == ["No step did better on held-out rows than the base model, so the base weights were kept."]
    tuned = replace(report(20, "tuned", lists(0.9)), num_ungraded=2, truncated_fraction=0.25)
    clean = evidence(report(0, "base", lists(0.2)), tuned, step_chosen_on_these_rows=False)
    assert cautions(clean) == [
        "tuned: 2 of 60 answers could not be graded and are left out.",
        "tuned: 25% of answers hit the token limit before they ended.",
    ]


def test_examples_are_the_first_of_their_kind() -> None:
    def answers(right: set[int]) -> Callable[[int], tuple[str, float]]:
        return lambda i: (json.dumps({"genes": [f"G{i}" if i in right else "X"]}), float(i in right))

    found = evidence(report(0, "base", answers({1, 4, 5}), 8), report(9, "tuned", answers({1, 3, 4, 6}), 8))
    examples, turned = pick(found)
    assert [(e.title.split(":")[0], e.row.row.index) for e in examples] == [("Learned", 3), ("Lost", 5), ("Still wrong", 0)]
    assert (turned.learned, turned.lost, turned.both, turned.neither) == (2, 1, 2, 3)
    everything, turned = pick(evidence(report(0, "base", lists(1.0)), report(9, "tuned", lists(1.0))))
    assert everything == [] and turned.both == 60


def test_summary_has_the_promised_shape() -> None:
    found = evidence(report(0, "base", lists(0.25)), report(40, "tuned", lists(0.75)), report(0, "ranker", lists(0.5)))
    summary = json.loads(json.dumps(summarise(found)))
    for name in ("base", "ranker", "tuned"):
        assert set(summary[name]) == {"top1", "top5", "topmax", "mrr", "reward"}
        assert all(v["ci95"][0] <= v["value"] <= v["ci95"][1] for v in summary[name].values())
    assert (summary["base"]["top1"]["value"], summary["tuned"]["top1"]["value"], summary["tuned"]["top5"]["value"]) == (0.25, 0.75, 1.0)
    assert (summary["n"], summary["overlap_of_answers"], summary["steps"], summary["best_step"]) == (60, 0, 41, 40)
    assert (summary["seconds"], summary["model"], summary["shown_to_be"]) == (61.0, "tiny", "better")
    assert summary["tuned_minus_base"]["top1"]["value"] == 0.5 and summary["tuned_minus_base"]["top1"]["p_value"] < 0.001
    assert summary["tuned_minus_ranker"]["top1"]["value"] == 0.25


def test_a_job_without_ranked_lists_reports_its_reward() -> None:
    found = evidence(report(0, "base", lambda i: ("no", 0.1)), report(9, "tuned", lambda i: ("yes", 0.1 + 0.8 * (i % 2))))
    assert found.metrics == ["reward"] and summarise(found)["ranker"] is None and summarise(found)["tuned_minus_ranker"] is None
    assert verdict(found).startswith("Reward rose from 0.10 [")
    examples, _ = pick(found)
    assert [(e.title.split(":")[0], e.row.row.index) for e in examples] == [("Learned", 1), ("Still wrong", 0)]


def test_a_model_folder_is_called_by_its_name() -> None:
    one = report(0, "base", lambda i: ("no", 0.1))
    names = {"/home/me/models/tiny/": "tiny", "./tiny": "tiny", "org/tiny": "org/tiny", "tiny": "tiny"}
    assert {model: evidence(one, one, model=model).model for model in names} == names


def test_charts_are_png_the_same_each_time_and_differ_by_theme() -> None:
    curve = [{"step": 0, "valid_reward_mean": 0.2, "valid_reward_low": 0.1, "valid_reward_high": 0.3}]
    curve += [{"step": s, "train_reward_mean": 0.3, "reasoning_tokens_mean": 5.0} for s in (1, 2)]
    light = reward_chart(curve, LIGHT, best_step=0)
    assert light.startswith(PNG) and light == reward_chart(curve, LIGHT, best_step=0) != reward_chart(curve, DARK, best_step=0)
    assert thinking_chart(curve, LIGHT).startswith(PNG) and thinking_chart([], LIGHT).startswith(PNG)
    base, tuned = report(0, "base", lists(0.25)), report(9, "tuned", lists(0.75))
    assert numbers_chart(base, tuned, None, LIGHT) != numbers_chart(base, tuned, report(0, "ranker", lists(0.5)), LIGHT)


class Resources(HTMLParser):
    """Everything a browser would fetch or run, and the text it would show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("ranked", [True, False])
def test_the_page_is_self_contained_and_escapes_everything(tmp_path: Path, ranked: bool) -> None:
    def answer(right: bool) -> Callable[[int], tuple[str, float]]:
        names = [ATTACK, "G0"] if not right else ["G0", ATTACK]
        return lambda i: (json.dumps({"genes": [n.replace("G0", f"G{i}") for n in names]}) if ranked else ATTACK, float(right))

    run = RunFolder(tmp_path)
    run.write_job({"model": ATTACK})
    run.write_provenance(
        {"model": ATTACK, "data_files": {"training_file": {"name": ATTACK, "sha256": "ab12"}}, "grader": {"sha256": "cd34"}}
    )
    run.append_event("warn", f"beware {ATTACK}")
    if ranked:  # the other run has no curve at all
        run.put_metrics(1, {"train_reward_mean": 0.5, "reasoning_tokens_mean": 2.0})
    summary = write_report(
        run,
        base=report(0, "base", answer(False), 12, question=ATTACK),
        tuned=report(5, "tuned", answer(True), 12, question=ATTACK),
        ranker=report(0, "ranker", answer(False), 12, question=ATTACK) if ranked else None,
        model=ATTACK,
        seconds=10.0,
        warnings=["mind the gap"],
    )
    page = run.report_file.read_text()
    resources = Resources(page)
    assert len(resources.fetched) == (6 if ranked else 2) and all(url.startswith("data:image/png;base64,") for url in resources.fetched)
    assert "script" not in resources.tags and "link" not in resources.tags and resources.tags.count("img") == (3 if ranked else 1)
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert summary["verdict"] in resources.text and summary == run.read_summary()
    for shown in ("mind the gap", f"beware {ATTACK}", "ab12", "cd34", "thinking of 0", f"{ATTACK} 0"):
        assert shown in resources.text
    drawn = sorted(path.name for path in run.charts.iterdir())
    assert drawn == (["numbers.png", "reward.png", "thinking.png"] if ranked else ["numbers.png"])
    assert all((run.charts / name).read_bytes().startswith(PNG) for name in drawn)
