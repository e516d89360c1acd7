"""Bundles: they open with plain transformers, say what they hold, and say nothing about the machine they were made on."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_server import GRADER

from pinetune.errors import UserError
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import provenance
from pinetune.store import DEFAULT_PROJECT, NewEvent, NewJob, NewModel, Store
from pinetune.transfer.bundle import merge_adapter, write_bundle
from pinetune.transfer.card import model_card
from pinetune.transfer.sources import from_run, from_store

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

ROWS = b'{"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}\n'
METHOD = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}


def number(value: float, low: float, high: float, **more: float) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], **more}


SUMMARY = {
    "base": {"reward": number(0.25, 0.2, 0.3)}, "ranker": None, "tuned": {"reward": number(0.5, 0.4, 0.6)},
    "n": 240, "steps": 60, "best_step": 40,
    "overlap_of_answers": 0, "tuned_minus_base": {"reward": number(0.25, 0.1, 0.4, p_value=0.0009)}, "shown_to_be": "better",
    "verdict": "The reward rose from 0.25 to 0.50.",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base, and an adapter on it whose effect can be seen."""
    import torch
    from tiny_models import save_tiny

    from pinetune.models.export import save_adapter, save_merged
    from pinetune.models.load import LoraSettings, load_model

    home = tmp_path_factory.mktemp("weights")
    base = save_tiny(home / "tiny-base")
    loaded = load_model(base, device="cpu", lora=LoraSettings(rank=4), seed=1)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return {"base": base, "model": save_merged(loaded, home / "model"), "adapter": save_adapter(loaded, home / "adapter")}


@pytest.fixture
def run(tmp_path: Path, trained: dict[str, Path]) -> Callable[..., RunFolder]:
    """A finished run folder as `pinetune run` leaves it."""
    import shutil

    def make(path: Path, adapter: bool = True) -> RunFolder:
        folder, data = RunFolder(path), tmp_path / "rows.jsonl"
        data.write_bytes(ROWS)
        body = {"model": str(trained["base"]), "training_file": str(data), "method": METHOD, "seed": 7}
        folder.write_job({"body": body, "resolved": {"seed": 7, "steps": 60, "group_size": 8, "learning_rate": 1e-5}, "sha256": "x"})
        folder.write_provenance(provenance(model=str(trained["base"]), data_files={"training_file": data}, grader=GRADER, seed=7))
        folder.append_event("info", f"New fine-tuned model created: {folder.model}")
        folder.append_event("warn", "Rewards differ little")
        folder.put_metrics(1, {"train_reward_mean": 0.25, "valid_reward_mean": float("nan")})
        folder.write_summary(SUMMARY)
        folder.write_report(f"<p>{folder.path}</p>")
        folder.write_chart("reward", b"png")
        folder.evals.mkdir()
        (folder.evals / "final-tuned.json").write_text(json.dumps({"name": "tuned", "num_ungraded": 3, "groups": ["secret rows"]}))
        shutil.copytree(trained["model"], folder.model)
        if adapter:
            shutil.copytree(trained["adapter"], folder.adapter)
        return folder

    return make


def finished_job(store: Store, model: NewModel, folder: Path | None) -> str:
    file = store.files.create(DEFAULT_PROJECT, "fine-tune", "my rows.jsonl", ROWS)
    endpoint = {"type": "endpoint", "url": "http://x", "headers": {"Authorization": "Bearer sk-secret"}}
    method = {"type": "reinforcement", "reinforcement": {"grader": endpoint}}
    body = {"model": "tiny-base", "training_file": file.id, "method": method}
    job = store.jobs.create(NewJob(DEFAULT_PROJECT, "tiny-base", "reinforcement", body, file.id, 7))
    store.jobs.validated(store.leases.claim("w", 1e6)[1])  # type: ignore[index]
    lease = store.leases.claim("w", 1e6)[1]  # type: ignore[index]
    store.jobs.update(lease, hyperparameters={"batch_size": 8}, folder=None if folder is None else str(folder))
    store.events.append(lease, [NewEvent("Step 1/60 , train mean reward=0.25", type="metrics", key="step-1")])
    store.events.put_metrics(lease, 0, {"valid_reward_mean": 0.25})
    store.events.put_metrics(lease, 1, {"valid_reward_mean": 0.5})
    store.checkpoints.add(lease, 1, NewModel("full", "/somewhere"), {"train_mean_reward": 0.25})
    result = store.files.create(DEFAULT_PROJECT, "fine-tune-results", "step_metrics.csv", b"step\n1\n")
    store.jobs.succeed(lease, model, 4321, [result.id])
    return job.id


def test_a_run_folder_as_a_bundle_opens_anywhere(tmp_path: Path, run: Callable[..., RunFolder], trained: dict[str, Path]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run(tmp_path / "runs" / "mine")
    out = write_bundle(from_run(folder.path), tmp_path / "bundle")
    ids = torch.arange(20).unsqueeze(0)
    tuned = AutoModelForCausalLM.from_pretrained(out / "model")(input_ids=ids).logits
    base = AutoModelForCausalLM.from_pretrained(trained["base"])
    assert not torch.allclose(tuned, base(input_ids=ids).logits, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a name that it will lose
        adapted = PeftModel.from_pretrained(base, out / "adapter")
    torch.testing.assert_close(adapted(input_ids=ids).logits, tuned, rtol=0, atol=2e-5)
    assert AutoTokenizer.from_pretrained(out / "model").chat_template
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {
        "README.md", "bundle.json", "job.json", "grader.json", "provenance.json", "training/config.json", "training/metrics.jsonl",
        "training/events.jsonl", "evidence/summary.json", "evidence/held_out.json", "evidence/report.html", "evidence/report/reward.png",
        "model/README.md", "adapter/README.md", "adapter/adapter_model.safetensors",
    } <= names  # fmt: skip
    described = json.loads((out / "bundle.json").read_text())["files"]
    assert set(described) == names - {"bundle.json"}
    for name, facts in described.items():
        content = (out / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_nothing_in_a_bundle_names_a_place_on_this_machine(tmp_path: Path, run: Callable[..., RunFolder]) -> None:
    out = write_bundle(from_run(run(tmp_path / "mine").path), tmp_path / "bundle")
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert str(tmp_path.parent) not in path.read_text(errors="replace"), path
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-base"
    job = json.loads((out / "job.json").read_text())
    assert (job["model"], job["training_file"], job["seed"]) == ("tiny-base", "rows.jsonl", 7)
    assert "secret rows" not in (out / "evidence" / "held_out.json").read_text()
    assert json.loads((out / "training" / "metrics.jsonl").read_text())["valid_reward_mean"] is None  # NaN is not JSON


def test_a_stored_job_as_a_zip(target: Store, tmp_path: Path, trained: dict[str, Path]) -> None:
    location = target.folders.publish(trained["model"], "m")
    id = finished_job(target, NewModel("full", location), None)
    out = write_bundle(from_store(target, id), tmp_path / "out.zip")
    with zipfile.ZipFile(out) as packed:
        assert packed.testzip() is None
        names = set(packed.namelist())
        provenance = json.loads(packed.read("provenance.json"))
        grader, card = json.loads(packed.read("grader.json")), packed.read("README.md").decode()
        assert packed.read("training/results.csv") == b"step\n1\n"
        checkpoints, events = json.loads(packed.read("training/checkpoints.json")), packed.read("training/events.jsonl").decode()
    assert "model/model.safetensors" in names and "model/published.json" not in names
    assert provenance["data_files"]["training_file"]["sha256"] == hashlib.sha256(ROWS).hexdigest()
    assert grader["headers"] == {"Authorization": "***"}
    assert checkpoints[0]["step"] == 1 and "folder" not in checkpoints[0] and "Step 1/60" in events
    assert "was 0.250 at step 0 and 0.500 at step 1, the best of 2 evaluations. No interval is at hand" in card
    again = write_bundle(from_store(target, id), tmp_path / "again.zip")
    assert again.read_bytes() == out.read_bytes()


def test_a_stored_adapter_is_merged_where_only_it_is_at_hand(target: Store, tmp_path: Path, trained: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    id = finished_job(target, NewModel("adapter", target.folders.publish(trained["adapter"], "a")), None)
    out = write_bundle(from_store(target, id), tmp_path / "bundle", merge=merge_adapter)
    ids = torch.arange(20).unsqueeze(0)
    merged, expected = (AutoModelForCausalLM.from_pretrained(f)(input_ids=ids).logits for f in (out / "model", trained["model"]))
    torch.testing.assert_close(merged, expected, rtol=0, atol=2e-5)
    assert (out / "adapter" / "adapter_config.json").is_file()


def test_the_card_tells_the_evidence_with_its_intervals(tmp_path: Path, run: Callable[..., RunFolder]) -> None:
    card = model_card(from_run(run(tmp_path / "mine", adapter=False).path))
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- pinetune\n")
    for line in (
        "| held-out, n = 240 | reward |",
        "| base | 0.250 [0.200, 0.300] |",
        "| tuned | 0.500 [0.400, 0.600] |",
        "| tuned - base, paired | +0.250 [+0.100, +0.400], p = 0.0009 |",
        "The weights are those of step 40 of 60, chosen by held-out reward.",
        f"| training_file | rows.jsonl | {len(ROWS)} | `{hashlib.sha256(ROWS).hexdigest()}` |",
        "Settings: steps 60, group_size 8, learning_rate 1e-05.",
        "- tuned: 3 answers could not be graded and are left out.",
        "- Rewards differ little",
        "The weights derive from `tiny-base`: its license applies to them",
    ):
        assert line in card, line
    assert "base_model:" not in card  # a folder's name is no hub id


def test_what_cannot_be_exported_says_why(target: Store, tmp_path: Path, run: Callable[..., RunFolder]) -> None:
    with pytest.raises(UserError, match="no job ftjob-none here"):
        from_store(target, "ftjob-none")
    file = target.files.create(DEFAULT_PROJECT, "fine-tune", "r.jsonl", ROWS)
    body = {"model": "m", "training_file": file.id, "method": METHOD}
    job = target.jobs.create(NewJob(DEFAULT_PROJECT, "m", "reinforcement", body, file.id, 1))
    with pytest.raises(UserError, match="is validating_files; export it when it has ended"):
        from_store(target, job.id)
    target.jobs.cancel(job.id)
    target.files.delete(file.id)
    out = write_bundle(from_store(target, job.id), tmp_path / "bundle")
    assert "**The weights are not part of this bundle**" in (out / "README.md").read_text() and not (out / "model").exists()
    assert "| training_file | - | gone | `gone` |" in (out / "README.md").read_text()
    with pytest.raises(UserError, match="exists; choose another --out"):
        write_bundle(from_store(target, job.id), out)
    with pytest.raises(UserError, match="no run folder"):
        from_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
