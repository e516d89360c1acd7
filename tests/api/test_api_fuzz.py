"""Whatever fits the OpenAPI document, and much that does not, gets an answer: as documented, never a 500, every error OpenAI's envelope.

The same examples each time (`derandomize`), without a deadline: it fails by a change, never by chance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from api_server import PATIENCE, Service, job_body, service_on
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

EXAMPLES = 15  # of each mode for each of about fifty operations
AS_DOCUMENTED = [content_type_conformance, response_schema_conformance, status_code_conformance]
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@contextlib.contextmanager
def noting(wrong: list[str], case: Case) -> Iterator[None]:
    try:
        yield
    except FailureGroup as breaches:
        wrong.append(f"not as documented: {case.as_curl_command()[:2000]} {breaches.exceptions}")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_on(tmp_path_factory.mktemp("fuzzed")) as running:
        with running.http() as http:
            file = http.post("/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", b"{}")}).json()
            http.post("/fine_tuning/jobs", json=job_body(file["id"]))
        yield running


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the tool's and its HTTP client's own
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_nothing_is_a_500(fuzzed: Service, mode: GenerationMode) -> None:
    with fuzzed.http() as http:
        document = schemathesis.openapi.from_dict(http.get(f"{fuzzed.url}/openapi.json").json())
    wrong: list[str] = []
    asked = 0
    for found in document.get_all_operations():
        operation = found.ok()

        @QUIET
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            nonlocal asked
            asked += 1
            reply = case.call(base_url=fuzzed.url, timeout=PATIENCE)
            down = reply.status_code == 503 and reply.json()["error"]["code"] == "serving_unavailable"
            if reply.status_code >= 500 and not down:
                wrong.append(f"{reply.status_code} {case.as_curl_command()[:2000]} {reply.text[:500]}")
            elif reply.status_code < 300:
                with noting(wrong, case):
                    case.validate_response(reply, checks=AS_DOCUMENTED)
            elif reply.status_code >= 400 and set(reply.json()["error"]) != {"message", "type", "param", "code"}:
                wrong.append(f"no envelope: {case.as_curl_command()[:2000]} {reply.text[:500]}")

        with contextlib.suppress(Unsatisfiable):  # an operation without input cannot be asked wrongly
            ask()
    assert wrong == []
    assert asked > 300
    assert Path(fuzzed.settings.home / "pinetune.db").exists()
