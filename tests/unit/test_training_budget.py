"""How many tokens a micro-batch may hold on which machine."""

from pathlib import Path

from tiny_models import save_tiny

from pinetune.models.load import load_model
from pinetune.training.budget import activation_bytes, default_token_budget, fitting_tokens

GIB = 1024**3


def test_a_small_machine_gets_a_smaller_micro_batch_and_a_large_one_the_usual() -> None:
    assert fitting_tokens(2_500_000, 8 * GIB, 4096) == 8 * GIB // 4 // 2_500_000 == 858
    assert fitting_tokens(2_500_000, 64 * GIB, 4096) == 4096


def test_no_machine_gets_less_than_one_answer() -> None:
    assert fitting_tokens(10**9, GIB, 4096) == 256


def test_a_tiny_model_gets_the_usual_number_on_any_machine(tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(tmp_path / "tiny")), device="cpu", dtype="float32")
    config = loaded.base.config
    expected = config.num_hidden_layers * (12 * config.hidden_size + 3 * config.intermediate_size) * 4
    assert activation_bytes(loaded) == expected
    assert default_token_budget(loaded) == 4096
