"""Supervised training: masks, packing and rate by hand; a tiny model learns texts by heart."""

from __future__ import annotations

import random
from itertools import islice

import pytest
import torch

from pinetune.models.load import LoadedModel, loaded_from
from pinetune.training.forward import PolicyForward
from pinetune.training.sft import (
    Document,
    SftReport,
    SftSettings,
    by_tokens,
    document_backward,
    num_trained,
    shuffled_batches,
    train_sft,
    trained_positions,
)
from tests.tiny_models import make_model, make_tokenizer


def tiny() -> LoadedModel:
    return loaded_from(make_model(), make_tokenizer())


def documents(num: int = 12) -> list[Document]:
    rng = random.Random(0)
    texts = [tuple(rng.randrange(300) for _ in range(rng.randrange(3, 40))) for _ in range(num)]
    return [Document(ids, tuple(i % 3 != 1 for i in range(len(ids)))) for ids in texts]


def test_loss_and_gradient_equal_plain_cross_entropy() -> None:
    loaded, texts = tiny(), documents()
    total = sum(num_trained(d) for d in texts)
    forward = PolicyForward(loaded.model)
    loss = document_backward(forward, texts, total)
    forward.finish()
    packed = torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])
    loaded.model.zero_grad()
    plain = torch.zeros(())
    for ids, mask in texts:
        logprobs = loaded.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        picked = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        plain = plain - (picked * torch.tensor(mask[1:])).sum() / total
    plain.backward()
    expected = torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert float((packed - expected).norm() / expected.norm()) < 1e-5


def test_packed_and_padded_texts_agree() -> None:
    loaded = tiny()
    texts = [d.token_ids for d in documents()]
    trained = [trained_positions(d) for d in documents()]
    with torch.no_grad():
        ways = [
            PolicyForward(loaded.model, packed=p, fused=f).documents(texts, trained)
            for p, f in ((True, True), (True, False), (False, False))
        ]
    assert all(float((way - ways[2]).abs().max()) < 1e-5 for way in ways)


def test_the_first_token_is_never_counted() -> None:
    assert num_trained(Document((1, 2, 3))) == 2
    assert num_trained(Document((1, 2, 3), (True, False, True))) == 1


def test_rate_rises_and_falls() -> None:
    settings = SftSettings(steps=12, learning_rate=1.0, final_rate=0.1, warmup_steps=2)
    assert [settings.rate(step) for step in (0, 1, 2, 7, 12)] == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1])


def test_a_pass_shows_every_document_once_in_its_own_order() -> None:
    texts = documents(20)
    total = sum(len(d.token_ids) for d in texts)
    batches = shuffled_batches(texts, SftSettings(batch_tokens=total))
    first, second = islice(batches, 2)
    assert sorted(first) == sorted(second) == sorted(texts)
    assert first != second
    assert all(sum(len(d.token_ids) for d in part) <= 60 for part in by_tokens(texts, 60))
    with pytest.raises(ValueError, match="no document"):
        next(shuffled_batches([Document((1, 2), (True, False))], SftSettings()))


@pytest.mark.slow
def test_a_tiny_model_learns_its_texts_by_heart() -> None:
    loaded, texts, reports = tiny(), documents(6), list[SftReport]()
    last = train_sft(loaded, texts, SftSettings(steps=80, learning_rate=1e-2, batch_tokens=100), reports.append)
    assert reports[0].loss > 5
    assert last < 0.5
    assert [r.step for r in reports] == list(range(1, 81))
