"""`pinetune grader test`: the bench on a grader and a dataset file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinetune.cli.grader_input import AsJson, GraderFile, Unsafe, read_grader
from pinetune.cli.grader_services import grader_services
from pinetune.errors import UserError
from pinetune.records import Grader

if TYPE_CHECKING:
    from pinetune.bench.options import Price
    from pinetune.judges.settings import JudgeSettings

ROWS, ROWS_WITH_A_JUDGE = 20, 5  # a row costs about 35 grades; with a judge each of them is paid for
JUDGES_AT_ONCE = 8

PriceText = Annotated[str | None, typer.Option(metavar="IN,OUT", help="US dollars per million prompt and completion tokens of the judge.")]
Field = Annotated[str | None, typer.Option(help="Field of the reference answer (a dotted path); default: found by its usual names.")]
TEMPLATE_HELP = 'How a right answer is written, as \'{"genes": ["{{ item.reference_answer }}"]}\'; default: found by trying.'
TemplateText = Annotated[str | None, typer.Option("--answer-template", help=TEMPLATE_HELP)]


def test(
    grader_file: GraderFile,
    data: Annotated[Path, typer.Option(help="Rows to test on (RFT JSONL with reference answers).")],
    labels: Annotated[Path | None, typer.Option(help="Answers judged by experts: item, answer and label (0..1) a line.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to sample; default 20, with a judge 5.")] = None,
    threshold: Annotated[float, typer.Option(help="A gaming probe must not score higher on average.")] = 0.5,
    answer_field: Field = None,
    answer_template: TemplateText = None,
    repeats: Annotated[int, typer.Option(min=2, help="Judges: grades of the same answer, for the spread.")] = 5,
    seed: Annotated[int, typer.Option(help="Fixes the sample of rows and the wrong answers.")] = 0,
    price: PriceText = None,
    unsafe_python_graders: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Test a grader before it trains anything: known answers in, findings out. Exit code 1 when it can be gamed."""
    from pinetune.bench.keys import asks_a_judge
    from pinetune.bench.labels import read_labelled
    from pinetune.bench.options import BenchOptions
    from pinetune.bench.run import bench
    from pinetune.bench.text import as_text
    from pinetune.data.rows import load_rows

    source = read_grader(grader_file)
    found = load_rows(data, max_rows=None)
    judged = asks_a_judge(source.definition)
    with grader_services(source, grader_file) as judging:

        def built(repeat: int = 0) -> Grader:
            return source.build(unsafe_python=unsafe_python_graders, services=judging.services(repeat))

        options = BenchOptions(
            num_rows=rows or (ROWS_WITH_A_JUDGE if judged else ROWS),
            threshold=threshold,
            seed=seed,
            answer_field=answer_field or source.own.get("answer_field"),
            answer_template=answer_template,
            definition=source.definition,
            schema=source.schema,
            labelled=read_labelled(labels, found) if labels else (),
            repeats=repeats,
            again=built if judged else None,
            workers=JUDGES_AT_ONCE if judged else 1,
            price=_price(price, source.definition, judging.settings),
            told=_tell if sys.stderr.isatty() and not as_json else lambda _: None,
        )
        grader = built()
        try:
            report = bench(grader, found, options, file=str(data))
        finally:
            grader.close()
            options.told("")
    typer.echo(json.dumps(report.as_json(), ensure_ascii=False) if as_json else as_text(report))
    if not report.passed():
        raise typer.Exit(1)


def _tell(doing: str) -> None:
    """One line on the terminal, written over by the next; the report goes to standard output."""
    sys.stderr.write(f"\r\033[K{doing}")
    sys.stderr.flush()


def _price(text: str | None, definition: Mapping[str, Any], settings: JudgeSettings) -> Price | None:
    """By --price, else by the job's judge_prices where they name every judge."""
    from pinetune.judges.settings import Price as TokenPrice
    from pinetune.loop.judging import judges_of

    if text is not None:
        try:
            prompt, completion = (float(part) for part in text.split(","))
        except ValueError:
            raise UserError(f"--price {text}: write two numbers, as --price 2.50,10: prompt and completion tokens, per million") from None
        return lambda _, used: TokenPrice(prompt, completion).of(used)
    known = {model: price for name in judges_of(definition) for model in (name, settings.resolve(name)) if (price := settings.price(name))}
    if not known or any(settings.price(name) is None for name in judges_of(definition)):
        return None
    only = next(iter(known.values()))  # a server may name its model otherwise
    return lambda model, used: known.get(model, only).of(used)
