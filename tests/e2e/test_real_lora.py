"""LoRA adapters as models of their own: one engine serves the bare model and its adapters by their public names."""

from collections.abc import Iterator

import pytest
from real_router import RealRouter, Up

from demo import vocabulary

SAID = " " + " ".join(vocabulary.WORDS[:6])
ADAPTERS = ["llamacpp-loud", "vllm-loud", "org/loud:2"]


@pytest.fixture(scope="module")
def router(installed: None, up: Up) -> Iterator[RealRouter]:  # noqa: ARG001
    with up("lora.yaml") as running:
        running.wait_ready()
        yield running


def said(router: RealRouter, model: str) -> str:
    answer = router.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "x"}], max_tokens=6, temperature=0
    )
    assert answer.model == model
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("model", ["llamacpp-chat", "vllm-chat"])
def test_the_bare_model_is_as_it_was(router: RealRouter, model: str) -> None:
    assert said(router, model) == SAID


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_changes_what_is_said_and_answers_by_its_name(router: RealRouter, adapter: str) -> None:
    base = "llamacpp-chat" if adapter.startswith("llamacpp") else "vllm-chat"
    loud = said(router, adapter)
    assert loud not in ("", SAID)
    assert said(router, base) == SAID
    assert said(router, adapter) == loud


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_stream_has_the_adapters_name_in_every_chunk(router: RealRouter, adapter: str) -> None:
    stream = router.client.chat.completions.create(
        model=adapter, messages=[{"role": "user", "content": "x"}], max_tokens=3, temperature=0, stream=True
    )
    assert {chunk.model for chunk in stream} == {adapter}


def test_adapters_are_listed_as_models(router: RealRouter) -> None:
    listed = {model.id for model in router.client.models.list()}
    assert {"vllm-chat", *ADAPTERS} <= listed
