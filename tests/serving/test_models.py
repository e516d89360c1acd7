"""Models and embeddings through the official client; adapters on one base; what is loaded, unloaded and refused."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from openai.types import CreateEmbeddingResponse, Model
from tiny_models import save_tiny

from pinetune.models.export import save_adapter
from pinetune.models.load import LoraSettings, load_model
from pinetune.serving.app import FolderDirectory
from pinetune.serving.directory import ServedModel

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

HI: Any = [{"role": "user", "content": "Which gene?"}]


def answer(client: OpenAI, model: str, **body: Any) -> str | None:
    given = {"max_tokens": 12, "temperature": 0, **body}
    return client.chat.completions.create(model=model, messages=HI, **given).choices[0].message.content


def test_models_are_listed_and_retrieved_by_ids_with_slashes_and_colons(client: OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == ["pinetune-mini", "test/tiny:v1", "test/llama:v1", "test/open:v1", "broken"]
    model = client.models.retrieve("test/tiny:v1")
    Model.model_validate(model.model_dump(), strict=True)
    assert (model.id, model.object, model.created, model.owned_by) == ("test/tiny:v1", "model", 1700000000, "pinetune")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("ft:none:org::1")
    assert caught.value.code == "model_not_found"


def test_a_deleted_model_is_gone(new_server: Any, folders: Path) -> None:
    with new_server(FolderDirectory([ServedModel("ft:a/b:org::1", str(folders / "tiny"))])) as (client, _):
        assert answer(client, "ft:a/b:org::1") is not None
        assert client.models.delete("ft:a/b:org::1").model_dump() == {"id": "ft:a/b:org::1", "deleted": True, "object": "model"}
        for call in (client.models.delete, client.models.retrieve):
            with pytest.raises(openai.NotFoundError):
                call("ft:a/b:org::1")
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete("pinetune-mini")


def test_embeddings_are_unit_vectors_the_same_in_both_encodings(client: OpenAI) -> None:
    texts = ["Which gene?", "Which gene could cause this?", "Which gene?"]
    reply = client.embeddings.create(model="test/tiny:v1", input=texts)  # the client asks for base64 by itself
    CreateEmbeddingResponse.model_validate(reply.model_dump(), strict=True)
    vectors = [one.embedding for one in reply.data]
    assert [len(vector) for vector in vectors] == [32, 32, 32]
    assert all(math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-5) for vector in vectors)
    assert vectors[0] == vectors[2] != vectors[1]
    plain = client.embeddings.create(model="test/tiny:v1", input=texts[1], encoding_format="float", dimensions=32)
    assert plain.data[0].embedding == pytest.approx(vectors[1], abs=1e-6)


def test_embeddings_are_the_mean_of_the_last_states(client: OpenAI, folders: Path) -> None:
    loaded = load_model(folders / "tiny")
    ids = loaded.tokenizer.encode("A patient")
    states = loaded.base.model(torch.tensor([ids])).last_hidden_state[0].detach().mean(dim=0)
    for given in ("A patient", ids, [ids]):
        reply = client.embeddings.create(model="test/tiny:v1", input=given)
        assert reply.data[0].embedding == pytest.approx((states / states.norm()).tolist(), abs=1e-5)
        assert reply.usage.prompt_tokens == len(ids)


@pytest.mark.parametrize(("body", "param"), [({"dimensions": 8}, "dimensions"), ({"input": ""}, "input"), ({"input": [[99999]]}, "input")])
def test_embeddings_refuse_clearly(client: OpenAI, body: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": "test/tiny:v1", "input": "x", **body})
    assert caught.value.param == param


@pytest.fixture(scope="module", params=["fused", "generic"])
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    """A base and two adapters, for the fused decoder (merged copies) and for modules in place."""
    home = tmp_path_factory.mktemp("adapted")
    extra = {} if request.param == "fused" else {"hidden_act": "gelu"}
    base = str(save_tiny(home / "base", seed=6, **extra))
    models = [ServedModel("base", base)]
    for i, name in enumerate(("red", "blue")):
        loaded = load_model(base, lora=LoraSettings(rank=4), seed=i)
        torch.manual_seed(i)
        for key, parameter in loaded.model.named_parameters():
            if "lora_B" in key:
                parameter.data.normal_(std=0.3)
        models.append(ServedModel(name, base, adapter=str(save_adapter(loaded, home / name))))
    return models


def test_adapters_share_one_base_and_answer_as_they_do_alone(new_server: Any, adapted: list[ServedModel]) -> None:
    from pinetune.records import Row, SamplingParams
    from pinetune.sampling.local import LocalSampler

    expected = {}
    for model in adapted:
        sampler = LocalSampler(load_model(model.adapter or model.base))
        params = SamplingParams(max_tokens=12, temperature=0.0, thinking_budget=9)
        expected[model.id] = next(sampler.sample([sampler.render(Row(0, tuple(HI), {}))], 1, params, [[0]]))[2].answer
    assert len(set(expected.values())) == 3
    with new_server(FolderDirectory(adapted)) as (client, service):
        for order in (["red", "base", "blue"], ["blue", "red", "base"]):
            assert [answer(client, name) for name in order] == [expected[name] for name in order]
        found: dict[str, str | None] = {}
        threads = [threading.Thread(target=lambda n=name: found.update({n: answer(client, n)})) for name in expected]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected
        assert len(service.engine.pool._bases) == 1
        vectors = [tuple(client.embeddings.create(model=name, input="x").data[0].embedding) for name in expected]
        assert len(set(vectors)) == 3


def test_a_broken_adapter_leaves_the_others_alive(new_server: Any, adapted: list[ServedModel], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["nothing"], "r": 4}')
    other = load_model(save_tiny(tmp_path / "other", hidden_size=48), lora=LoraSettings(rank=4))
    folders = {"bad": tmp_path, "none": tmp_path / "none", "wider": save_adapter(other, tmp_path / "v1.2")}
    broken = [ServedModel(name, adapted[0].base, str(folder)) for name, folder in folders.items()]
    with new_server(FolderDirectory([*adapted, *broken])) as (client, _):
        for order in (list(folders), list(reversed(folders))):  # first on a bare base, then beside a good adapter
            for name in order:
                with pytest.raises(openai.BadRequestError) as caught:
                    answer(client, name)
                assert caught.value.code == "model_not_loadable" and str(tmp_path) not in caught.value.message
            assert len({answer(client, name) for name in ("red", "blue", "base")}) == 3


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clocked(new_server: Any, folders: Path) -> Iterator[Any]:
    clock = Clock()
    two = [ServedModel(name, str(folders / name)) for name in ("tiny", "llama")]
    size = 2 * max(path.stat().st_size for name in ("tiny", "llama") for path in (folders / name).glob("*.safetensors"))
    with new_server(FolderDirectory(two), clock=clock, idle_seconds=60.0, memory_bytes=int(1.5 * size)) as (client, service):
        yield client, service, clock


def loaded_models(service: Any) -> list[str]:
    from concurrent.futures import Future

    answer: Future[list[str]] = Future()
    service.engine.tell(lambda: answer.set_result([ready.served.id for ready in service.engine.pool.models()]))
    return answer.result()


def test_idle_models_are_unloaded_and_come_back(clocked: Any, caplog: pytest.LogCaptureFixture) -> None:
    client, service, clock = clocked
    with caplog.at_level(logging.INFO, logger="pinetune.serving"):
        first = answer(client, "tiny")
        assert loaded_models(service) == ["tiny"]
        clock.now = 61.0
        loaded_models(service)  # a tick passes
        assert loaded_models(service) == []
        assert answer(client, "tiny") == first
    said = " | ".join(record.getMessage() for record in caplog.records)
    assert "loading tiny from" in said and "loaded tiny in" in said and "unloaded tiny: idle for 1 minutes" in said


def test_the_least_recently_used_goes_when_memory_is_short(clocked: Any) -> None:
    client, service, clock = clocked
    answer(client, "tiny")
    clock.now = 1.0
    answer(client, "llama")
    assert loaded_models(service) == ["llama"]


def test_a_model_that_can_never_fit_is_refused(new_server: Any, folders: Path) -> None:
    with new_server(FolderDirectory([ServedModel("tiny", str(folders / "tiny"))]), memory_bytes=1000) as (client, _):
        with pytest.raises(openai.InternalServerError) as caught:
            answer(client, "tiny")
        assert caught.value.status_code == 503 and caught.value.code == "insufficient_memory"
