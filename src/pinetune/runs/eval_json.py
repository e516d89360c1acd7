"""An EvalReport as JSON and back, exactly: what is read equals what was written, every rollout included."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row


def encode_report(report: EvalReport) -> dict[str, Any]:
    return {
        "step": report.step,
        "name": report.name,
        "reward": asdict(report.reward),
        "metrics": {name: asdict(interval) for name, interval in report.metrics.items()},
        "num_ungraded": report.num_ungraded,
        "completion_tokens_mean": report.completion_tokens_mean,
        "reasoning_tokens_mean": report.reasoning_tokens_mean,
        "truncated_fraction": report.truncated_fraction,
        "seconds": report.seconds,
        "groups": [encode_group(group) for group in report.groups],
    }


def decode_report(data: dict[str, Any]) -> EvalReport:
    return EvalReport(
        **{
            **data,
            "reward": Interval(**data["reward"]),
            "metrics": {name: Interval(**interval) for name, interval in data["metrics"].items()},
            "groups": tuple(decode_group(group) for group in data["groups"]),
        }
    )


def encode_group(group: Group) -> dict[str, Any]:
    row = group.row
    # An item usually holds the messages already: half the file, so they are not written twice.
    repeated = row.item.get("messages") == list(row.messages)
    return {
        "row": {
            "index": row.index,
            "line": row.line,
            "item": dict(row.item),
            "messages": None if repeated else [dict(message) for message in row.messages],
            "tools": [dict(tool) for tool in row.tools],
        },
        "prompt": {"token_ids": list(group.prompt.token_ids), "thinking_open": group.prompt.thinking_open},
        "rollouts": [encode_rollout(rollout) for rollout in group.rollouts],
    }


def decode_group(data: dict[str, Any]) -> Group:
    row, prompt = data["row"], data["prompt"]
    messages = row["item"]["messages"] if row["messages"] is None else row["messages"]
    return Group(
        row=Row(row["index"], tuple(messages), row["item"], tuple(row["tools"]), row["line"]),
        prompt=Prompt(tuple(prompt["token_ids"]), prompt["thinking_open"]),
        rollouts=tuple(decode_rollout(rollout) for rollout in data["rollouts"]),
    )


def encode_rollout(rollout: Rollout) -> dict[str, Any]:
    completion, grade = rollout.completion, rollout.grade
    return {
        "row_index": rollout.row_index,
        "sample_index": rollout.sample_index,
        "seed": rollout.seed,
        "completion": {
            "token_ids": list(completion.token_ids),
            "logprobs": list(completion.logprobs),
            "forced_at": [t for t, forced in enumerate(completion.forced) if forced],  # few
            "finish": completion.finish,
            "answer": completion.answer,
            "reasoning": completion.reasoning,
            "reasoning_tokens": completion.reasoning_tokens,
        },
        "grade": {
            "status": grade.status,
            "value": grade.value,
            "explanation": grade.explanation,
            "error_kind": grade.error_kind,
            "parts": dict(grade.parts),
            "seconds": grade.seconds,
        },
    }


def decode_rollout(data: dict[str, Any]) -> Rollout:
    fields = dict(data["completion"])
    forced_at = set(fields.pop("forced_at"))
    fields["token_ids"], fields["logprobs"] = tuple(fields["token_ids"]), tuple(fields["logprobs"])
    completion = Completion(forced=tuple(t in forced_at for t in range(len(fields["token_ids"]))), **fields)
    return Rollout(data["row_index"], data["sample_index"], data["seed"], completion, Grade(**data["grade"]))
