"""`pinetune grader test`: the bench on a grader and a dataset file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pinetune.cli.grader_input import AsJson, GraderFile, Unsafe, read_grader
from pinetune.cli.grader_services import grader_services
from pinetune.errors import UserError
from pinetune.records import Grader

ROWS, ROWS_WITH_A_JUDGE = 20, 5  # a row costs about 35 grades; with a judge each of them is paid for
JUDGES_AT_ONCE = 8

Price = Annotated[
    str | None, typer.Option(metavar="IN,OUT", help="Money per million prompt and completion tokens of the judge: adds the cost.")
]
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
    price: Price = None,
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
    with grader_services(source, grader_file) as services:

        def built(repeat: int = 0) -> Grader:
            return source.build(unsafe_python=unsafe_python_graders, services=services(repeat))

        options = BenchOptions(
            num_rows=rows or (ROWS_WITH_A_JUDGE if judged else ROWS),
            threshold=threshold,
            seed=seed,
            answer_field=answer_field,
            answer_template=answer_template,
            definition=source.definition,
            schema=source.schema,
            labelled=read_labelled(labels, found) if labels else (),
            repeats=repeats,
            again=built if judged else None,
            workers=JUDGES_AT_ONCE if judged else 1,
            prices=_prices(price) if price else None,
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


def _prices(text: str) -> tuple[float, float]:
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--price {text}: write two numbers, as --price 2.50,10: prompt and completion tokens, per million") from None
    return prompt, completion
