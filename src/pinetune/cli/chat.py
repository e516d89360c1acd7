"""`pinetune chat MODEL`: ask a model, see its thinking (dim) and its answer."""

from __future__ import annotations

from rich.console import Console
from rich.prompt import Prompt as Ask

from pinetune.models.names import find_model
from pinetune.records import Completion, Row, Sampler, SamplingParams


def chat_command(model: str, message: str | None, max_tokens: int, temperature: float, seed: int) -> None:
    """Answer one message, or talk until an empty line or end of input."""
    from pinetune.models.load import load_model
    from pinetune.sampling.local import LocalSampler

    source = find_model(model)
    console = Console()
    sampler = LocalSampler(load_model(source))
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    if message is not None:
        _show(_answer(sampler, [{"role": "user", "content": message}], params, seed), console)
        return
    console.print(f"[dim]{model}. An empty line ends the talk.[/dim]")
    history: list[dict[str, str]] = []
    while text := _read(console):
        history.append({"role": "user", "content": text})
        completion = _answer(sampler, history, params, seed + len(history))
        _show(completion, console)
        history.append({"role": "assistant", "content": completion.answer})


def _answer(sampler: Sampler, messages: list[dict[str, str]], params: SamplingParams, seed: int) -> Completion:
    prompt = sampler.render(Row(index=0, messages=tuple(messages), item={}))
    return next(sampler.sample([prompt], 1, params, [[seed]]))[2]


def _read(console: Console) -> str:
    try:
        return Ask.ask("[bold]you[/bold]", console=console, default="", show_default=False).strip()
    except EOFError:
        return ""


def _show(completion: Completion, console: Console) -> None:
    if completion.reasoning:
        console.print(completion.reasoning.strip(), style="dim", markup=False, highlight=False)
    cut = "" if completion.finish == "stop" else " [cut off: --max-tokens is higher with more room]"
    console.print(completion.answer.strip() + cut, markup=False, highlight=False)
