"""What the network computes in, by what is asked for and what the processor can do."""

from collections.abc import Iterator

import pytest
import torch

from asr.training import losses
from asr.training.config import ConfigError, OptimisationConfig
from asr.training.losses import in_bf16, precision

CPU = torch.device("cpu")


@pytest.fixture(params=[False, True], ids=["without", "with"])
def able(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether the processor computes in bf16, as torch says of it."""
    has = {"avx2": True, "avx512_bf16": request.param, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    losses._computes_bf16.cache_clear()
    yield request.param
    losses._computes_bf16.cache_clear()


def test_by_default_the_processor_decides(able: bool) -> None:
    assert in_bf16(OptimisationConfig(), CPU) == able
    assert not in_bf16(OptimisationConfig(precision="fp32"), CPU)


def test_bf16_that_is_asked_for_is_had_or_refused(able: bool) -> None:
    options = OptimisationConfig(precision="bf16")
    if not able:
        with pytest.raises(ConfigError, match="leave it at auto, which takes fp32"):
            precision(options, CPU)
        return
    with precision(options, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
