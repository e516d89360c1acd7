"""Whatever fits the document of the serving process, and much that does not, gets an answer: never a 500, always OpenAI's envelope.

The API's own document says only "an object" for these bodies, so its fuzzing does not come this far.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from pinetune.serving.process import create_process_app
from pinetune.settings import Settings
from pinetune.store import Store

EXAMPLES = 25  # of each mode for each operation
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the tool's and its HTTP client's own
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_nothing_is_a_500(tmp_path: Path, mode: GenerationMode) -> None:
    wrong: list[str] = []
    asked = 0
    headers = {"Authorization": "Bearer secret", "x-pinetune-project": "proj_default"}
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        document = schemathesis.openapi.from_asgi("/openapi.json", create_process_app(store, "secret"), headers=headers)
        for found in document.get_all_operations():
            operation = found.ok()

            @QUIET
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Case) -> None:
                nonlocal asked
                asked += 1
                try:
                    reply = case.call(headers=headers)
                except Exception as error:  # what the application raised comes through the tool's transport
                    wrong.append(f"{type(error).__name__}: {error} {case.as_curl_command()[:1000]}")
                    return
                if reply.status_code >= 500:
                    wrong.append(f"{reply.status_code} {case.as_curl_command()[:1000]} {reply.text[:300]}")
                elif reply.status_code >= 400 and set(reply.json().get("error", ())) != {"message", "type", "param", "code"}:
                    wrong.append(f"no envelope: {case.as_curl_command()[:1000]} {reply.text[:300]}")

            with contextlib.suppress(Unsatisfiable):  # an operation without input cannot be asked wrongly
                ask()
    assert wrong == []
    assert asked > EXAMPLES
