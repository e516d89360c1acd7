"""One line of metrics.jsonl as the hosted product tells it: an event's message and `data` tree, a checkpoint's metrics.

The product used two families of names over time; both are written (see runs.metric_names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANY_GRADER = ("other_error", "sample_parse_error", "invalid_variable_error")
BY_TYPE = {
    "python": ("python_grader_server_error", "python_grader_runtime_error"),
    "score_model": ("model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error"),
    "label_model": ("model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error"),
}
LEGACY = (
    "train_mean_reward", "full_valid_mean_reward", "full_valid_mean_parse_error", "reasoning_tokens_mean",
    "valid_reasoning_tokens_mean", "completion_tokens_mean", "valid_completion_tokens_mean", "mean_unresponsive_rewards",
    "train_loss", "learning_rate", "grad_norm", "entropy", "trained_tokens", "truncated_fraction", "num_ungraded",
    "valid_reward_low", "valid_reward_high", "valid_n",
)  # fmt: skip
CHECKPOINT = (
    "step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy", "full_valid_loss",
    "full_valid_mean_token_accuracy", "train_reward_mean", "train_mean_reward", "valid_reward_mean", "full_valid_mean_reward",
    "full_valid_mean_parse_error", "completion_tokens_mean", "reasoning_tokens_mean", "valid_reasoning_tokens_mean",
    "valid_reward_low", "valid_reward_high", "valid_n",
)  # fmt: skip
Row = Mapping[str, Any]


def is_judged(row: Row) -> bool:
    """Whether the step's held-out evaluation is in the row."""
    return any(row.get(name) is not None for name in ("valid_reward_mean", "full_valid_loss"))


def message(row: Row, total_steps: int) -> str:
    """`Step 10/20 , train mean reward=0.42, full validation mean reward=0.68, full validation mean parse error=0.00`."""
    named = (
        ("train_mean_reward", "train mean reward"),
        ("full_valid_mean_reward", "full validation mean reward"),
        ("full_valid_mean_parse_error", "full validation mean parse error"),
    )
    if "train_mean_reward" not in row and "valid_reward_mean" not in row:
        named = (("train_loss", "training loss"), ("valid_loss", "validation loss"), ("full_valid_loss", "full validation loss"))
        said = [f"{words}={row[name]:.2f}" for name, words in named if row.get(name) is not None]
        return f"Step {row['step']}/{total_steps}: {', '.join(said)}"
    said = [f"{words}={row[name]:.2f}" for name, words in named if row.get(name) is not None]
    return ", ".join([f"Step {row['step']}/{total_steps} ", *said])


def data(row: Row, total_steps: int, grader: Mapping[str, Any] | None) -> dict[str, Any]:
    """The event's `data`. `grader` is the job's definition; None for methods without one, whose row is flat already."""
    flat: dict[str, Any] = {"step": row["step"], "total_steps": total_steps}
    if grader is None:
        return flat | {name: value for name, value in row.items() if not name.endswith("_seconds")}
    kinds = [(name, _type(part)) for name, part in _parts(grader)]
    top = {"name": str(grader.get("name") or grader.get("type") or "grader"), "type": _type(grader)}
    return {
        **flat,
        "scores": {
            "train_reward_mean": row.get("train_reward_mean"),
            "valid_reward_mean": row.get("valid_reward_mean"),
            "graders": [{"name": name, "type": kind, **_part_scores(row, name, single=len(kinds) == 1)} for name, kind in kinds],
        },
        "usage": {"samples": _samples(row), "graders": _usage(row, grader)},
        "errors": {"graders": [{**top, **_errors(row, {kind for _, kind in kinds})}]},
        "timing": {
            "step": {
                "eval": row.get("eval_seconds"),
                **{name: row.get(f"{name}_seconds") for name in ("sampling", "training", "full_iteration")},
            },
            "graders": [{**top, **{f"{w}_execution_latency_mean": row.get(f"{w}_grading_seconds_mean") for w in ("train", "valid")}}],
        },
        **{name: row[name] for name in LEGACY if row.get(name) is not None},
        "model_graders_token_usage": token_usage(row),
    }


def checkpoint_metrics(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in CHECKPOINT if row.get(name) is not None}


def error_columns(row: Row, grader: Mapping[str, Any]) -> dict[str, Any]:
    """`errors/graders/<name>/train_other_error_count` and its kin, for the result file."""
    name = str(grader.get("name") or grader.get("type") or "grader")
    return {f"errors/graders/{name}/{key}": value for key, value in _errors(row, {_type(part) for _, part in _parts(grader)}).items()}


def token_usage(row: Row) -> dict[str, dict[str, int]]:
    """Judge's model -> tokens; `eval_` is the older name of validation here."""
    usage: dict[str, dict[str, int]] = {}
    for name, value in row.items():
        if name.startswith("judges/"):
            _, _, rest = name.partition("/")
            model, _, column = rest.rpartition("/")
            usage.setdefault(model, {})[column.replace("valid_", "eval_", 1)] = value
    return usage


def _parts(grader: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, definition) of what is scored apart: a multi grader's parts, else the grader itself."""
    inner = grader.get("graders")
    if grader.get("type") == "multi" and isinstance(inner, Mapping) and not isinstance(inner.get("type"), str):
        return [(str(key), part) for key, part in inner.items()]
    return [(str(grader.get("name") or grader.get("type") or "grader"), grader)]


def _type(grader: Mapping[str, Any]) -> str:
    return str(grader.get("type"))


def _part_scores(row: Row, name: str, *, single: bool) -> dict[str, Any]:
    found = {}
    for when in ("train", "valid"):
        key = f"{when}_reward_mean"
        found[key] = row.get(f"graders/{name}/{key}", row.get(key) if single else None)
    return found


def _samples(row: Row) -> dict[str, Any]:
    return {
        "train_reasoning_tokens_mean": row.get("reasoning_tokens_mean"),
        "train_reasoning_tokens_count": row.get("num_rollouts"),
        "valid_reasoning_tokens_mean": row.get("valid_reasoning_tokens_mean"),
        "valid_reasoning_tokens_count": row.get("valid_num_grades"),
    }


def _usage(row: Row, grader: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a judge among the parts; tokens are means over the step's rollouts."""
    usage, found = token_usage(row), []
    for name, part in _parts(grader):
        if _type(part) not in ("score_model", "label_model"):
            continue
        tokens = usage.get(str(part.get("model")), {})
        entry: dict[str, Any] = {"name": name, "type": _type(part), "model": part.get("model")}
        for when, column in (("train", "train"), ("valid", "eval")):
            count = row.get(f"{when}_num_grades")
            for kind in ("prompt_tokens", "completion_tokens"):
                total = tokens.get(f"{column}_{kind}")
                entry[f"{when}_{kind}_mean"] = total / count if total is not None and count else None
                entry[f"{when}_{kind}_count"] = count if total is not None else None
        found.append(entry)
    return found


def _errors(row: Row, kinds: set[str]) -> dict[str, Any]:
    flags = [*ANY_GRADER, *dict.fromkeys(flag for kind in sorted(kinds) for flag in BY_TYPE.get(kind, ()))]
    found: dict[str, Any] = {}
    for when in ("train", "valid"):
        graded = row.get(f"{when}_num_grades")
        counts = {flag: row.get(f"{when}_{flag}_count", 0) for flag in flags}
        known = {f"{when}_{flag}_count" for flag in flags}
        counts["other_error"] += sum(v for k, v in row.items() if k.startswith(when) and k.endswith("_error_count") and k not in known)
        for flag, count in counts.items():
            found[f"{when}_{flag}_mean"] = count / graded if graded else None
            found[f"{when}_{flag}_count"] = count if graded else None
    return found
