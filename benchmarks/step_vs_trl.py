"""One GRPO step, ours and TRL's GRPOTrainer in turn: same model, prompts, lengths, precision, one optimizer update each.

    python benchmarks/step_vs_trl.py [--sizes 4m 37m] [--shapes short long] [--precisions float32 bfloat16] [--steps 5]

Needs TRL in the environment it runs in (benchmarks/README.md). Each side is a process of its own that holds its model and waits;
the parent asks them for one step after the other, so both see the same noise of the machine. Random weights and a tokenizer of whole
words; the stop token lies outside the vocabulary, so every completion has exactly its 64 tokens on both sides.

Prints a table: seconds a step (medians), the ratio, peak memory of each process, our split into sampling and training, and our time
over the arithmetic floor: the floating-point operations the step needs at least (prompts once per group, completions once forward,
the packed tokens forward and backward, logits on completion tokens only) over the matrix-product rate measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

NEW_TOKENS = 64
SIZES: dict[str, dict[str, int]] = {
    "4m": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
           "vocab_size": 4096},
    "37m": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
            "vocab_size": 24000},
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """How many prompts of about how many tokens, and how many samples of each."""

    prompts: int
    prompt_tokens: int
    samples: int

    def prompt_lengths(self) -> list[int]:
        """Within 7% of the nominal length: real prompts differ, and padding has to be paid by whoever pads."""
        rng = random.Random(0)
        spread = self.prompt_tokens // 15
        return [self.prompt_tokens + rng.randint(-spread, spread) for _ in range(self.prompts)]


SHAPES = {"short": Shape(8, 150, 8), "long": Shape(4, 450, 16), "tiny": Shape(2, 30, 4)}


# ---- the model both sides open


def write_model(folder: Path, size: str) -> int:
    """Save a random Qwen3-type model with its tokenizer; return the number of its parameters."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    vocab_size = SIZES[size]["vocab_size"]
    torch.manual_seed(0)
    logging.disable_progress_bar()
    config = Qwen3Config(head_dim=64, tie_word_embeddings=True, max_position_embeddings=2048, **SIZES[size])
    config.eos_token_id = config.pad_token_id = config.bos_token_id = None
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(vocab_size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<never>",  # gets the id after the last one the model can say
        pad_token="w0",  # TRL runs the padding through the model, so it must be a token the model has
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    ).save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def prompts_of(shape: Shape, step: int, vocab_size: int) -> list[str]:
    """Fresh random prompts for each step, the same on both sides."""
    rng = random.Random(step)
    return [" ".join(f"w{rng.randrange(vocab_size)}" for _ in range(length)) for length in shape.prompt_lengths()]


def reward_of(token_ids: Any) -> float:
    """Some spread, for nothing: the share of even tokens."""
    return sum(int(t) % 2 == 0 for t in token_ids) / len(token_ids)


# ---- the two sides; each answers one JSON line per step


def serve_ours(folder: Path, size: str, shape: Shape, precision: str, out: TextIO) -> None:
    from pinetune.models.load import load_model
    from pinetune.records import Grade, Group, Rollout, Row, SamplingParams
    from pinetune.sampling.local import LocalSampler
    from pinetune.training.advantages import group_mean
    from pinetune.training.learner import GrpoLearner
    from pinetune.training.pack import batch_to_samples
    from pinetune.training.settings import LearnerSettings

    loaded = load_model(folder, device="cpu", dtype="float32")
    sampler = LocalSampler(loaded)
    learner = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-6, warmup_steps=1, bfloat16=precision == "bfloat16"))
    params = SamplingParams(max_tokens=NEW_TOKENS)
    send(out, {"ready": memory_mb()})

    def step(number: int) -> dict[str, float]:
        began = time.perf_counter()
        texts = prompts_of(shape, number, SIZES[size]["vocab_size"])
        rows = [Row(i, ({"role": "user", "content": text},), {}) for i, text in enumerate(texts)]
        prompts = [sampler.render(row) for row in rows]
        seeds = [[number * 10_000 + p * 100 + s for s in range(shape.samples)] for p in range(shape.prompts)]
        rollouts: list[list[Rollout]] = [[] for _ in rows]
        for p, s, completion in sampler.sample(prompts, shape.samples, params, seeds):
            assert len(completion.token_ids) == NEW_TOKENS
            # All end at the limit here; TRL trains them, so do we ("length" would be masked out).
            finished = replace(completion, finish="stop")
            rollouts[p].append(Rollout(p, s, seeds[p][s], finished, Grade("ok", reward_of(completion.token_ids))))
        sampled = time.perf_counter()
        groups = [Group(row, prompt, tuple(group)) for row, prompt, group in zip(rows, prompts, rollouts, strict=True)]
        report = learner.step(batch_to_samples(groups, group_mean))
        sampler.refresh()
        assert not report.skipped and report.trained_tokens == shape.prompts * shape.samples * NEW_TOKENS
        ended = time.perf_counter()
        return {
            "seconds": ended - began, "sampling": sampled - began, "training": ended - sampled, "gap": report.metrics["logprob_gap_max"]
        }  # fmt: skip

    number = 0
    while read_command():
        send(out, step(number))
        number += 1
    mkl, onednn = product_rates()
    send(out, {"peak": memory_mb(), "default_rate": mkl, "best_rate": max(mkl, onednn)})


def serve_trl(folder: Path, size: str, shape: Shape, precision: str, out: TextIO) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.utils import logging
    from trl import GRPOConfig, GRPOTrainer

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [text for step in range(200) for text in prompts_of(shape, step, SIZES[size]["vocab_size"])]

    class Turns(TrainerCallback):
        """Waits for the parent's word before each step and tells it the time after."""

        began = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                send(out, {"ready": memory_mb()})
            control.should_training_stop = False
            if not read_command():
                send(out, {"peak": memory_mb()})
                os._exit(0)
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            send(out, {"seconds": time.perf_counter() - self.began})

    def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        assert all(len(ids) == NEW_TOKENS for ids in completion_ids)
        return [reward_of(ids) for ids in completion_ids]

    config = GRPOConfig(output_dir=tempfile.mkdtemp(), bf16=precision == "bfloat16", **trl_settings(shape))
    GRPOTrainer(
        model=model, processing_class=tokenizer, reward_funcs=reward, args=config, train_dataset=Dataset.from_dict({"prompt": rows}),
        callbacks=[Turns()],
    ).train()  # fmt: skip


def trl_settings(shape: Shape) -> dict[str, Any]:
    """The fastest honest settings we know: one pass over all samples, nothing recomputed, nothing logged, no reference model,
    the fused optimizer, no padding to multiples."""
    return {
        "per_device_train_batch_size": shape.prompts * shape.samples,
        "gradient_accumulation_steps": 1,
        "num_generations": shape.samples,
        "max_completion_length": NEW_TOKENS,
        "num_iterations": 1,
        "beta": 0.0,
        "temperature": 1.0,
        "top_k": 0,
        "scale_rewards": False,
        "loss_type": "dapo",
        "epsilon_high": 0.28,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "adam_beta2": 0.95,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "use_cpu": True,
        "shuffle_dataset": False,
        "pad_to_multiple_of": None,
        "max_steps": 150,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


SIDES = {"ours": serve_ours, "trl": serve_trl}


def send(out: TextIO, message: dict[str, float]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def read_command() -> bool:
    """True = one more step."""
    return sys.stdin.readline().strip() == "step"


def memory_mb() -> float:
    """Most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def product_rates(n: int = 2048, repeats: int = 8) -> tuple[float, float]:
    """GFLOP/s of a float32 matrix product: torch's default, and the one our linear layers use."""
    import torch

    from pinetune.models.linear import fast_linear

    a, b = torch.randn(n, n), torch.randn(n, n)
    rates = []
    with torch.no_grad():
        for product in (lambda: a @ b.t(), lambda: fast_linear(a, b)):
            seconds = []
            for _ in range(repeats):
                began = time.perf_counter()
                product()
                seconds.append(time.perf_counter() - began)
            rates.append(2 * n**3 / min(seconds) / 1e9)
    return rates[0], rates[1]


# ---- the arithmetic


def step_gflop(size: str, shape: Shape) -> float:
    """Floating-point operations one step cannot do without, in 1e9. A backward pass costs twice its forward."""
    c = SIZES[size]
    head_dim, layers, heads, kv_heads = 64, c["num_hidden_layers"], c["num_attention_heads"], c["num_key_value_heads"]
    per_layer = c["hidden_size"] * head_dim * (2 * heads + 2 * kv_heads) + 3 * c["hidden_size"] * c["intermediate_size"]
    lengths = shape.prompt_lengths()
    completions = shape.prompts * shape.samples
    tokens = sum(lengths) + completions * (NEW_TOKENS - 1)  # the last token is only ever predicted
    linear = 2.0 * layers * per_layer * tokens
    logits = 2.0 * c["vocab_size"] * c["hidden_size"] * completions * NEW_TOKENS
    keys = sum(n * (n + 1) / 2 for n in lengths)
    keys += sum(shape.samples * sum(n + t + 1 for t in range(NEW_TOKENS - 1)) for n in lengths)
    attention = 4.0 * layers * heads * head_dim * keys
    forward = linear + logits + attention
    return (forward + 3 * forward) / 1e9  # sampling is one forward, training a forward and a backward


# ---- the parent


class Side:
    """A worker process; stdout carries its answers, stderr goes to a log that is shown when it dies."""

    def __init__(self, name: str, folder: Path, size: str, shape: str, precision: str) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, __file__, "--serve", name, str(folder), size, shape, precision]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.setup_mb = self.read()["ready"]

    def read(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.name} died:\n{self.log.read()[-3000:]}")
        return dict(json.loads(line))

    def ask(self, command: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()


def compare(size: str, shape: str, precision: str, steps: int, warmup: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), size)
        sides = [Side(side, Path(name), size, shape, precision) for side in SIDES]
        answers: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
        for _ in range(warmup + steps):
            for side in sides:
                answers[side.name].append(side.ask("step"))
        ends = {side.name: side.ask("stop") for side in sides}
    ours, trl = (answers[side][warmup:] for side in ("ours", "trl"))
    gflop = step_gflop(size, SHAPES[shape])
    seconds = median(ours, "seconds")
    return {
        "case": f"{size} {shape} {precision}",
        "trl": median(trl, "seconds"),
        "ours": seconds,
        "sampling": median(ours, "sampling"),
        "training": median(ours, "training"),
        "ratio": median(trl, "seconds") / seconds,
        "trl_mb": ends["trl"]["peak"],
        "ours_mb": ends["ours"]["peak"],
        "trl_added": ends["trl"]["peak"] - sides[1].setup_mb,
        "ours_added": ends["ours"]["peak"] - sides[0].setup_mb,
        "gflop": gflop,
        "floor_default": seconds / (gflop / ends["ours"]["default_rate"]),
        "floor_best": seconds / (gflop / ends["ours"]["best_rate"]),
        "rates": (ends["ours"]["default_rate"], ends["ours"]["best_rate"]),
        "gap": max(a["gap"] for a in ours),
    }


def median(answers: list[dict[str, float]], field: str) -> float:
    return statistics.median(answer[field] for answer in answers)


HEADER = (
    "| case | TRL s | ours s | TRL / ours | sampling s | training s | TRL peak MB (added) | ours peak MB (added) | memory ours / TRL "
    "| GFLOP | over floor | over floor of the faster product |"
)


def table_row(r: dict[str, Any]) -> str:
    return (
        f"| {r['case']} | {r['trl']:.2f} | {r['ours']:.2f} | **{r['ratio']:.2f}x** | {r['sampling']:.2f} | {r['training']:.2f} "
        f"| {r['trl_mb']:.0f} ({r['trl_added']:.0f}) | {r['ours_mb']:.0f} ({r['ours_added']:.0f}) | {r['ours_mb'] / r['trl_mb']:.2f} "
        f"| {r['gflop']:.0f} | {r['floor_default']:.2f} (at {r['rates'][0]:.0f} GFLOP/s) | {r['floor_best']:.2f} (at {r['rates'][1]:.0f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A GRPO step of Pinetune and of TRL's GRPOTrainer, in turn.")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--shapes", nargs="+", default=["short", "long"], choices=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    arguments = parser.parse_args()
    print(HEADER + "\n|" + "---|" * 12, flush=True)
    for size in arguments.sizes:
        for shape in arguments.shapes:
            for precision in arguments.precisions:
                print(table_row(compare(size, shape, precision, arguments.steps, arguments.warmup)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        answers, sys.stdout = sys.stdout, sys.stderr  # libraries print; the parent must read answers only
        warnings.simplefilter("ignore")
        SIDES[sys.argv[2]](Path(sys.argv[3]), sys.argv[4], SHAPES[sys.argv[5]], sys.argv[6], answers)
    else:
        main()
