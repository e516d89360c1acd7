"""The model card of a bundle, in Hugging Face's form: what it is, what it was trained on, the evidence, its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pinetune.transfer.sources import Subject

Json = Mapping[str, Any]
SETTINGS = (
    "steps", "n_epochs", "batch_size", "group_size", "learning_rate", "advantage", "loss", "kl_coefficient", "lora_rank", "lora_alpha",
    "max_tokens", "thinking_budget", "reasoning_effort",
)  # fmt: skip
METHODS = {
    "reinforcement": "Reinforcement fine-tuning (GRPO): several answers to a prompt, each graded; what led to better ones became likelier",
    "supervised": "Supervised fine-tuning on the assistant's messages of the rows",
    "dpo": "Direct preference optimisation on pairs of a preferred and a non-preferred answer",
}  # fmt: skip


def model_card(subject: Subject) -> str:
    """Markdown with a YAML head. A claim stands in it only with its interval and n."""
    sections = {
        "Evidence": _evidence, "Data": _data, "How it was trained": _training, "Limits": _limits, "Use": _use, "License": _license,
    }  # fmt: skip
    parts = [_head(subject), f"# {subject.name}", _what(subject)]
    parts += [f"## {title}\n\n{section(subject)}" for title, section in sections.items()]
    return "\n\n".join(parts) + "\n"


def _head(subject: Subject) -> str:
    """`base_model` only where it can be a hub id: the hub refuses other names."""
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if subject.model.count("/") == 1:
        lines.append(f"base_model: {json.dumps(subject.model)}")
    tags = ["pinetune", *(["reinforcement-fine-tuning", "grpo"] if subject.method == "reinforcement" else [subject.method])]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what(subject: Subject) -> str:
    text = f"`{subject.model}` tuned by Pinetune, job `{subject.id}` ({subject.status}), seed {subject.seed}."
    if subject.weights is None and subject.adapter is None:
        text += " **The weights are not part of this bundle**: they were not in reach where it was made."
    return text


def _evidence(subject: Subject) -> str:
    """The held-out table with 95% intervals, the paired difference, and the verdict in words."""
    summary = subject.summary
    if not summary:
        curve = [
            (row["step"], row["valid_reward_mean"]) for row in subject.metrics if isinstance(row.get("valid_reward_mean"), int | float)
        ]
        if not curve:
            return "No held-out comparison of this model with its base is at hand, so nothing here shows that it is better."
        best = max(curve, key=lambda point: point[1])
        return (
            f"On the validation rows the mean reward was {curve[0][1]:.3f} at step {curve[0][0]} and {best[1]:.3f} at step {best[0]}, "
            f"the best of {len(curve)} evaluations. No interval is at hand for these figures, and the best of several flatters: "
            "they show no gain by themselves."
        )
    metrics = list(summary["tuned"])
    lines = [f"| held-out, n = {summary['n']} | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for who in ("base", "ranker", "tuned"):
        if summary.get(who):
            lines.append(f"| {who} | " + " | ".join(_cell(summary[who][metric]) for metric in metrics) + " |")
    if summary.get("tuned_minus_base"):
        lines.append("| tuned - base, paired | " + " | ".join(_cell(summary["tuned_minus_base"][metric], "+") for metric in metrics) + " |")
    return "\n".join([*lines, "", f"Brackets are 95% intervals. {summary.get('verdict', '')}".rstrip()])


def _cell(number: Json, sign: str = "") -> str:
    low, high = number["ci95"]
    text = f"{number['value']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{text}, p = {number['p_value']:.2g}" if "p_value" in number else text


def _data(subject: Subject) -> str:
    """By hash and size: the rows themselves are not part of the bundle."""
    lines = ["| file | name | bytes | sha256 |", "|---|---|---|---|"]
    for role, found in (subject.provenance.get("data_files") or {}).items():
        size = f"{found['bytes']:,}" if found.get("bytes") is not None else "gone"
        lines.append(f"| {role} | {_in_table(found.get('name'))} | {size} | `{found.get('sha256') or 'gone'}` |")
    grader = subject.provenance.get("grader") or {}
    tail = f"\n\nGrader: `{grader.get('type')}`, definition in `grader.json`, sha256 `{grader.get('sha256')}`." if subject.grader else ""
    return "\n".join(lines) + tail


def _training(subject: Subject) -> str:
    known = [f"{name} {subject.config[name]}" for name in SETTINGS if subject.config.get(name) not in (None, "", 0, 0.0)]
    versions = (subject.provenance.get("versions") or {}).items()
    tokens = f" Tokens trained on: {subject.trained_tokens:,}." if subject.trained_tokens else ""
    best = (subject.summary or {}).get("best_step")
    kept = f" The weights are those of step {best} of {(subject.summary or {}).get('steps')}, chosen by held-out reward." if best else ""
    return (
        f"{METHODS.get(subject.method, subject.method)}.{kept}{tokens}\n\n"
        f"Settings: {', '.join(known) or 'see config.json'}. All of them: `training/config.json`; every step: `training/metrics.jsonl`.\n\n"
        f"Made with {', '.join(f'{name} {version}' for name, version in versions)}."
    )


def _limits(subject: Subject) -> str:
    lines = [
        "- The figures hold for rows like those held out, graded by this grader. A grader sees what it was written to see, and a "
        "model learns to please it: read answers before you rely on them.",
        "- What the base cannot do or gets wrong elsewhere, this model has inherited; nothing was tested outside the task.",
    ]
    if (subject.summary or {}).get("shown_to_be") in ("unclear", "worse"):
        lines.insert(0, "- It is **not shown to be better** than its base.")
    if (subject.summary or {}).get("overlap_of_answers"):
        lines.append(f"- {subject.summary['overlap_of_answers']} held-out rows have an answer that training rewards too.")  # type: ignore[index]
    for report in subject.held_out:
        if report.get("num_ungraded"):
            lines.append(f"- {report['name']}: {report['num_ungraded']} answers could not be graded and are left out.")
    lines += [f"- {_in_table(event['message'])}" for event in subject.events if event.get("level") == "warn"][:10]
    return subject.plain("\n".join(lines))


def _use(subject: Subject) -> str:
    if subject.weights is None:
        return "There is nothing to load here; train again from the files that the hashes name."
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("model")\nmodel = AutoModelForCausalLM.from_pretrained("model")\n'
        'messages = [{"role": "user", "content": "..."}]\n'
        'ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)\n'
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=512)[0]))\n```"
    )


def _license(subject: Subject) -> str:
    return (
        f"The weights derive from `{subject.model}`: its license applies to them, and often asks for attribution or sets limits of use. "
        "Look it up, add it to the head of this card (`license:`), and check that the training data may be used so before you share "
        "the model."
    )


def _in_table(text: Any) -> str:
    return " ".join(str(text or "-").replace("|", "\\|").split())
