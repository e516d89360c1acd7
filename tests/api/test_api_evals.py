"""Evals through the official client: create, list, update, delete, runs on rows that bring their answers, output items."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from api_server import GRADER, Service
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.eval_create_response import EvalCreateResponse
from openai.types.evals import RunRetrieveResponse
from openai.types.evals.runs import OutputItemListResponse

from pinetune.evals.places import Places
from pinetune.graders.options import Services
from pinetune.worker.eval_runs import EvalRunner

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}, "required": ["answer"]}
EXACT = {"type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}", "operation": "eq"}
LIKE = {"type": "text_similarity", "name": "like", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
LIKE |= {"evaluation_metric": "fuzzy_match", "pass_threshold": 0.8}
ROWS = [
    {"item": {"question": "2+2?", "answer": "4"}, "sample": {"output_text": "4"}},
    {"item": {"question": "capital of France?", "answer": "Paris"}, "sample": {"output_text": "paris"}},
    {"item": {"question": "1+1?", "answer": "2"}, "sample": {"output_text": "eleven"}},
]


@pytest.fixture
def work(service: Service) -> Callable[[], None]:
    """Run everything that is queued, as the worker does, to the end."""
    runner = EvalRunner(service.store, service.settings, "w", threading.Event(), places=Places(), services=Services)

    def until_done() -> None:
        while runner.one():
            pass

    return until_done


def new_eval(client: OpenAI, *criteria: dict[str, Any], **changes: Any) -> Any:
    config = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
    body = {"name": "sums", "data_source_config": config, "testing_criteria": list(criteria or (EXACT, LIKE)), **changes}
    return client.evals.create(**body)


def jsonl(rows: list[dict[str, Any]]) -> Any:
    return {"type": "jsonl", "source": {"type": "file_content", "content": rows}}


def fits(shape: Any, raw: dict[str, Any]) -> None:
    """Strictly by the client's types, but for the nulls that the hosted API sends although its types know none."""
    filled = json.loads(json.dumps(raw))
    for holder in (filled, filled.get("sample") or {}):
        for name, stand_in in (("error", {"code": "", "message": ""}), ("per_model_usage", []), ("per_testing_criteria_results", [])):
            if name in holder and holder[name] is None:
                holder[name] = stand_in
        for name in ("max_completion_tokens", "seed", "temperature", "top_p"):
            if name in holder and holder[name] is None:
                holder[name] = 0
    shape.model_validate(filled, strict=True)


def test_create_echoes_what_was_understood(client: OpenAI, http: httpx.Client) -> None:
    made = new_eval(client, {**EXACT, "operation": "neq"}, LIKE, metadata={"team": "a"})
    assert made.id.startswith("eval_") and (made.name, made.metadata) == ("sums", {"team": "a"})
    raw = http.get(f"/evals/{made.id}").json()
    fits(EvalCreateResponse, raw)
    exact, like = raw["testing_criteria"]
    assert exact["operation"] == "ne"
    assert exact["id"].startswith("exact-") and len(exact["id"]) == len("exact-") + 36
    assert like["pass_threshold"] == 0.8
    schema = raw["data_source_config"]["schema"]
    assert (schema["type"], schema["properties"]["item"], schema["required"]) == ("object", SCHEMA, ["item", "sample"])
    assert http.post("/evals", json={"data_source_config": {"type": "logs"}, "testing_criteria": [EXACT]}).status_code == 201


@pytest.mark.parametrize("kind", ["logs", "stored_completions"])
def test_other_sources_have_a_schema_of_item_and_sample(client: OpenAI, kind: Any) -> None:
    made = new_eval(client, EXACT, data_source_config={"type": kind, "metadata": {"usecase": "chatbot"}})
    config: Any = made.data_source_config
    assert (config.type, config.metadata, config.schema_["required"]) == (kind, {"usecase": "chatbot"}, ["item", "sample"])


def test_a_jsonl_run_grades_rows_as_they_are(client: OpenAI, http: httpx.Client, lenient: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client)
    run = lenient.evals.runs.create(made.id, name="first", data_source=jsonl(ROWS), metadata={"k": "v"})
    assert (run.status, run.per_model_usage, run.per_testing_criteria_results, run.error) == ("queued", None, None, None)
    assert run.id.startswith("evalrun_") and run.result_counts.total == 0
    work()
    raw = http.get(f"/evals/{made.id}/runs/{run.id}").json()
    fits(RunRetrieveResponse, raw)
    assert (raw["status"], raw["name"], raw["model"], raw["metadata"], raw["error"]) == ("completed", "first", "", {"k": "v"}, None)
    assert raw["result_counts"] == {"total": 3, "errored": 0, "failed": 2, "passed": 1}
    exact, like = (criterion.id for criterion in made.testing_criteria)
    assert raw["per_testing_criteria_results"] == [
        {"testing_criteria": exact, "passed": 1, "failed": 2, "errored": 0},
        {"testing_criteria": like, "passed": 2, "failed": 1, "errored": 0},
    ]
    assert (raw["per_model_usage"], raw["data_source"]) == ([], jsonl(ROWS))

    items = http.get(f"/evals/{made.id}/runs/{run.id}/output_items").json()
    for item in items["data"]:
        fits(OutputItemListResponse, item)
    assert [item["status"] for item in items["data"]] == ["pass", "fail", "fail"]
    assert [item["datasource_item_id"] for item in items["data"]] == [0, 1, 2]
    first = items["data"][0]
    assert first["datasource_item"] == ROWS[0]["item"]
    assert first["results"] == [
        {"name": exact, "type": "string-check-grader", "score": 1.0, "passed": True, "sample": None},
        {"name": like, "type": "text-similarity-grader", "score": 1.0, "passed": True, "sample": None},
    ]
    assert first["sample"]["output"] == [{"role": "assistant", "content": "4"}]
    assert (items["first_id"], items["last_id"], items["has_more"]) == (first["id"], items["data"][2]["id"], False)
    one = lenient.evals.runs.output_items.retrieve(first["id"], eval_id=made.id, run_id=run.id)
    assert one.object == "eval.run.output_item" and one.run_id == run.id


def test_output_items_are_paged_ordered_and_filtered(client: OpenAI, lenient: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client, EXACT)
    rows = [{"item": {"answer": str(i)}, "sample": {"output_text": str(i % 3)}} for i in range(25)]
    run = lenient.evals.runs.create(made.id, data_source=jsonl(rows))
    work()
    first = lenient.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert (len(first.data), first.has_more) == (20, True)
    everything = list(lenient.evals.runs.output_items.list(run.id, eval_id=made.id, limit=7))
    assert [item.datasource_item_id for item in everything] == list(range(25))
    backwards = lenient.evals.runs.output_items.list(run.id, eval_id=made.id, order="desc", limit=2)
    assert [item.datasource_item_id for item in backwards.data] == [24, 23]
    passed = lenient.evals.runs.output_items.list(run.id, eval_id=made.id, status="pass")
    assert [item.datasource_item_id for item in passed.data] == [0, 1, 2]
    failed = lenient.evals.runs.output_items.list(run.id, eval_id=made.id, status="fail", limit=100)
    assert len(failed.data) == 22


def test_what_cannot_be_graded_is_errored_not_failed(client: OpenAI, lenient: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client, EXACT)
    rows = [{"item": {"answer": "4"}, "sample": {"output_text": "4"}}, {"item": {"answer": "5"}}]
    run = lenient.evals.runs.create(made.id, data_source=jsonl(rows))
    work()
    done = lenient.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (done.status, done.result_counts.to_dict()) == ("completed", {"total": 2, "errored": 1, "failed": 0, "passed": 1})
    missing = lenient.evals.runs.output_items.list(run.id, eval_id=made.id).data[1]
    assert (missing.status, missing.results[0].passed, missing.sample.output) == ("error", False, [])
    assert missing.results[0].error["code"] == "invalid_variable_error"  # type: ignore[attr-defined]


def test_a_run_without_a_single_grade_has_failed(client: OpenAI, lenient: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client, {**EXACT, "reference": "{{ item.gold }}"})
    run = lenient.evals.runs.create(made.id, data_source=jsonl(ROWS))
    work()
    done = lenient.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (done.status, done.result_counts.errored, done.error.code) == ("failed", 3, "all_items_errored")
    assert "item.gold" in done.error.message


def test_rows_of_a_file_are_checked_with_line_numbers(lenient: OpenAI, client: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client, EXACT)
    good = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    bad = b'{"item": {"answer": "4"}}\n{"item": {"question": "no answer"}}\n{"sample": {}}\n'
    files = [lenient.files.create(file=(name, raw), purpose="evals") for name, raw in (("good.jsonl", good), ("bad.jsonl", bad))]
    runs = [
        lenient.evals.runs.create(made.id, data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}}) for file in files
    ]
    work()
    done = [lenient.evals.runs.retrieve(run.id, eval_id=made.id) for run in runs]
    assert [run.status for run in done] == ["completed", "failed"]
    assert done[0].result_counts.passed == 1
    assert "bad.jsonl:2: item: 'answer' is a required property" in done[1].error.message
    assert "bad.jsonl:3: item: missing" in done[1].error.message


@pytest.mark.parametrize("line", [b"not json", b"{}", b'{"item": 7}', b"\xff\x00\x1b[2J", b"[" * 200])
def test_ten_thousand_rows_of_garbage(lenient: OpenAI, service: Service, work: Callable[[], None], line: bytes) -> None:
    made = new_eval(lenient, EXACT)
    file = lenient.files.create(file=("my rows.jsonl", (line + b"\n") * 10_000), purpose="evals")
    run = lenient.evals.runs.create(made.id, data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}})
    work()
    done = lenient.evals.runs.retrieve(run.id, eval_id=made.id)
    assert (done.status, done.result_counts.total, done.error.code) == ("failed", 0, "invalid_run")
    assert done.error.message.startswith("my rows.jsonl:1: ") and len(done.error.message) <= 4000
    assert str(service.settings.home) not in done.error.message and "\x1b" not in done.error.message


def test_evals_are_listed_updated_and_deleted(client: OpenAI, lenient: OpenAI, http: httpx.Client) -> None:
    made = [new_eval(client, EXACT, name=f"list {i}") for i in range(3)]
    ids = [item.id for item in lenient.evals.list(limit=100)]
    assert [ids.index(item.id) for item in made] == sorted(ids.index(item.id) for item in made)
    changed = client.evals.update(made[0].id, name="renamed", metadata={"a": "b"})
    assert (changed.name, changed.metadata) == ("renamed", {"a": "b"})
    newest = client.evals.list(order="desc", order_by="updated_at", limit=1)
    assert [item.id for item in newest.data] == [made[0].id] and newest.has_more
    page = http.get("/evals", params={"after": made[0].id, "limit": 1}).json()
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", made[1].id, made[1].id)
    gone = client.evals.delete(made[2].id)
    assert (gone.deleted, gone.eval_id, gone.object) == (True, made[2].id, "eval.deleted")
    with pytest.raises(NotFoundError):
        client.evals.retrieve(made[2].id)


def test_runs_are_listed_canceled_by_both_urls_and_deleted(
    client: OpenAI, lenient: OpenAI, http: httpx.Client, work: Callable[[], None]
) -> None:
    made = new_eval(client, EXACT)
    runs = [lenient.evals.runs.create(made.id, data_source=jsonl(ROWS)) for _ in range(3)]
    newer = lenient.evals.runs.cancel(runs[0].id, eval_id=made.id)
    older = http.post(f"/evals/{made.id}/runs/{runs[1].id}", headers={"Content-Type": "application/json"}).json()
    assert (newer.status, older["status"]) == ("canceled", "canceled")
    work()
    assert [run.status for run in lenient.evals.runs.list(made.id)] == ["canceled", "canceled", "completed"]
    assert [run.id for run in lenient.evals.runs.list(made.id, status="completed")] == [runs[2].id]
    assert [run.id for run in lenient.evals.runs.list(made.id, order="desc", limit=1).data] == [runs[2].id]
    with pytest.raises(BadRequestError, match="completed"):
        lenient.evals.runs.cancel(runs[2].id, eval_id=made.id)
    gone = client.evals.runs.delete(runs[2].id, eval_id=made.id)
    assert (gone.deleted, gone.object, gone.run_id) == (True, "eval.run.deleted", runs[2].id)
    with pytest.raises(NotFoundError):
        lenient.evals.runs.retrieve(runs[2].id, eval_id=made.id)


BAD_EVALS = [
    ({"testing_criteria": []}, "testing_criteria"),
    ({"testing_criteria": [EXACT, {**EXACT, "operation": "eqq"}]}, "testing_criteria[1].operation"),
    ({"testing_criteria": [{**EXACT, "input": "{{ answer }}"}]}, "testing_criteria[0].input"),
    ({"testing_criteria": [{"type": "nope"}]}, "testing_criteria[0].type"),
    ({"data_source_config": {"type": "nope"}}, "data_source_config"),
    ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema"),
    ({"data_source_config": {"type": "custom", "item_schema": {"type": "objekt"}}}, "data_source_config.item_schema"),
    ({"data_source_config": {"type": "custom", "item_schema": {"$ref": "http://x/y"}}}, "data_source_config.item_schema"),
    ({"data_source_config": {"type": "custom", "item_schema": {"pattern": "("}}}, "data_source_config.item_schema"),
    ({"nmae": "x"}, "nmae"),
]


@pytest.mark.parametrize(("change", "param"), BAD_EVALS)
def test_bad_evals_are_400(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    body = {"data_source_config": {"type": "custom", "item_schema": SCHEMA}, "testing_criteria": [EXACT], **change}
    reply = http.post("/evals", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


FROM = {"type": "file_content", "content": [{"item": {"answer": "4"}}]}
WRONG = {"type": "file_content", "content": [{"item": {"answer": 4}}]}
ASKED = {"type": "completions", "source": FROM, "model": "pinetune-mini"}
REFERENCE = {"type": "item_reference", "item_reference": "messages"}
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "{{ question }}"}]}
BAD_RUNS = [
    ({"type": "nope"}, "data_source"),
    ({"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}, "data_source.source.id"),
    ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
    ({"type": "jsonl", "source": WRONG}, "data_source.source.content[0].item.answer"),
    ({"type": "completions", "source": FROM}, "data_source.model"),
    ({**ASKED, "model": "no-such"}, "data_source.model"),
    ({**ASKED, "sampling_params": {"temperature": 3}}, "data_source.sampling_params.temperature"),
    ({**ASKED, "input_messages": REFERENCE}, "data_source.input_messages.item_reference"),
    ({**ASKED, "type": "responses", "input_messages": TEMPLATE}, "data_source.input_messages.template[0].content"),
]


@pytest.mark.parametrize(("source", "param"), BAD_RUNS)
def test_bad_runs_are_400(client: OpenAI, http: httpx.Client, source: dict[str, Any], param: str) -> None:
    made = new_eval(client, EXACT)
    reply = http.post(f"/evals/{made.id}/runs", json={"data_source": source})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


def test_a_jobs_grader_is_a_criterion_as_it_is(lenient: OpenAI, work: Callable[[], None]) -> None:
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"a": EXACT, "b": LIKE},
        "calculate_output": "0.5 * a + 0.5 * b",
        "pass_threshold": 0.9,
    }
    made = lenient.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}},
        testing_criteria=[multi],  # type: ignore[list-item]
    )
    run = lenient.evals.runs.create(made.id, data_source=jsonl(ROWS))
    work()
    items = lenient.evals.runs.output_items.list(run.id, eval_id=made.id).data
    assert [item.status for item in items] == ["pass", "fail", "fail"]
    assert items[0].results[0].parts == {"a": 1.0, "b": 1.0}  # type: ignore[attr-defined]


def test_another_projects_are_not_found(service: Service, client: OpenAI, http: httpx.Client) -> None:
    other = service.store.projects.create("stranger").id
    hidden = service.store.evals.create(other, {"data_source_config": {"type": "logs"}, "testing_criteria": [GRADER]})
    assert http.get(f"/evals/{hidden.id}").status_code == 404
    assert http.post(f"/evals/{hidden.id}/runs", json={"data_source": jsonl(ROWS)}).status_code == 404


def test_metrics_and_comparison_of_runs(client: OpenAI, lenient: OpenAI, http: httpx.Client, work: Callable[[], None]) -> None:
    made = new_eval(client, EXACT)
    rows = [[{"item": {"answer": str(i)}, "sample": {"output_text": str(i % most)}} for i in range(8)] for most in (2, 8)]
    first, second = (lenient.evals.runs.create(made.id, data_source=jsonl(each)).id for each in rows)
    assert http.get(f"/pinetune/evals/{made.id}/runs/{first}/metrics").status_code == 400
    work()
    found = http.get(f"/pinetune/evals/{made.id}/runs/{first}/metrics").json()
    assert (found["num_rows"], found["num_errored"], found["metrics"]["exact score"]["value"]) == (8, 0, 0.25)
    assert found["metrics"]["passed"]["low"] < 0.25 < found["metrics"]["passed"]["high"]
    both = http.get("/pinetune/evals/compare", params={"first": first, "second": second}).json()
    passed = both["metrics"]["passed"]
    assert (passed["first"], passed["second"], passed["difference"]["value"], passed["difference"]["n"]) == (0.25, 1.0, 0.75, 8)
    assert passed["p_value"] == 2 / 2**6 and 0 < passed["smallest_difference"] < 1
    assert (found["num_clusters"], both["num_clusters"], both["graded_differently"]) == (8, 8, [])
    assert http.get("/pinetune/evals/compare", params={"first": first, "second": "evalrun_none"}).status_code == 404


def test_criteria_of_one_name_and_two_definitions_are_named_in_a_comparison(
    client: OpenAI, lenient: OpenAI, http: httpx.Client, work: Callable[[], None]
) -> None:
    runs = []
    for definition in (EXACT, {**EXACT, "operation": "ilike"}):
        made = new_eval(client, definition)
        rows = [{"item": {"answer": str(i % 2)}, "sample": {"output_text": "1"}} for i in range(4)]
        runs.append(lenient.evals.runs.create(made.id, data_source=jsonl(rows)).id)
    work()
    both = http.get("/pinetune/evals/compare", params={"first": runs[0], "second": runs[1]}).json()
    assert (both["num_rows"], both["num_clusters"], both["graded_differently"]) == (4, 2, ["exact"])


def test_the_report_s_address_leads_to_a_page(client: OpenAI, http: httpx.Client, lenient: OpenAI, work: Callable[[], None]) -> None:
    made = new_eval(client, EXACT, LIKE, name="<b>sums</b>")
    rows = [{"item": {"question": f"row {i}?", "answer": str(i)}, "sample": {"output_text": "<script>1</script>"}} for i in range(54)]
    run = lenient.evals.runs.create(made.id, name="long & wide", data_source=jsonl([*rows, ROWS[0], {"item": {"answer": "5"}}]))
    assert "queued" in http.get(run.report_url).text  # before there is anything to show, too
    work()
    address = lenient.evals.runs.retrieve(run.id, eval_id=made.id).report_url
    assert [address] == [other.report_url for other in lenient.evals.runs.list(made.id)] == [run.report_url]
    page = http.get(address)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"] and "sandbox" in page.headers["content-security-policy"]
    assert "long &amp; wide" in page.text and "&lt;b&gt;sums&lt;/b&gt;" in page.text and "<script" not in page.text
    assert "56 answers: 1 passed, 54 failed, 1 that" in page.text
    assert "<td>passed</td><td>0.018</td>" in page.text and page.text.count("<article>") == 50
    (more,) = [link for link in re.findall(r'href="([^"]*)"', page.text) if "after" in link]
    rest = http.get(address + html.unescape(more)).text
    assert rest.count("<article>") == 6 and "could not be graded (" in rest
    passed = http.get(address, params={"status": "pass"}).text
    assert passed.count("<article>") == 1 and "2+2?" in passed
    assert http.get(f"/pinetune/evals/{made.id}/runs/evalrun_none/report").json()["error"]["param"] is None
    assert http.get(f"/pinetune/evals/{made.id}/runs/{run.id}/report", params={"after": "x"}).json()["error"]["param"] == "after"


def test_evals_brought_over_are_shown_as_they_came(service: Service, http: httpx.Client) -> None:
    strange = {"type": "future_grader", "name": "x", "wonders": 1}
    made = service.store.evals.create("proj_default", {"data_source_config": {"type": "logs"}, "testing_criteria": [strange, GRADER]})
    shown = http.get(f"/evals/{made.id}").json()["testing_criteria"]
    assert shown[0] == {"id": "x", **strange}
    assert shown[1]["id"] == "exact"


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"properties": {"a": {"$ref": "#/nowhere"}}, "required": ["a"]}])
def test_a_schema_that_leads_nowhere_is_a_fault_of_the_row(client: OpenAI, http: httpx.Client, schema: dict[str, Any]) -> None:
    made = new_eval(client, EXACT, data_source_config={"type": "custom", "item_schema": schema})
    reply = http.post(f"/evals/{made.id}/runs", json={"data_source": jsonl([{"item": {"a": 1}}])})
    assert reply.status_code == 400 and "item_schema cannot be applied" in reply.json()["error"]["message"]
