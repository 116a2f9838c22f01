"""The chunks of the common SDKs, as the SDKs document them."""

from __future__ import annotations

from types import SimpleNamespace as Thing
from typing import Any

import pytest

from capsule_client.chunks import is_cumulative, text_of


def openai_chat(content: str | None) -> Thing:
    return Thing(
        id="c1",
        object="chat.completion.chunk",
        choices=[Thing(index=0, delta=Thing(role="assistant", content=content))],
        usage=None,
    )


def anthropic_delta(**delta: Any) -> Thing:
    return Thing(type="content_block_delta", index=0, delta=Thing(**delta))


def langchain(content: Any) -> Thing:
    return Thing(
        type="AIMessageChunk", content=content, additional_kwargs={}, response_metadata={}, id="r1"
    )


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ("", ""),
        (openai_chat("Hel"), "Hel"),
        (openai_chat(None), ""),
        (Thing(choices=[], usage=Thing(total_tokens=3)), ""),
        (Thing(choices=[Thing(delta=None)]), ""),
        (Thing(type="response.output_text.delta", delta="lo", item_id="i"), "lo"),
        (Thing(type="response.created", response=Thing()), ""),
        (Thing(type="response.output_text.done", text="whole"), ""),
        (Thing(type="response.function_call_arguments.delta", delta='{"a"'), ""),
        (anthropic_delta(type="text_delta", text="Hi"), "Hi"),
        (anthropic_delta(type="input_json_delta", partial_json="{"), ""),
        (anthropic_delta(type="thinking_delta", thinking="hm"), ""),
        (Thing(type="message_start", message=Thing(content=[])), ""),
        (Thing(type="content_block_start", content_block=Thing(type="text", text="")), ""),
        (Thing(type="text", text="Hi", snapshot="Hi"), ""),
        (Thing(type="message_stop"), ""),
        (langchain("chunk"), "chunk"),
        (langchain(""), ""),
        (langchain([{"type": "text", "text": "a", "index": 0}, "b"]), "ab"),
        (langchain([{"type": "tool_use", "name": "f"}, {"type": "text", "text": "c"}]), "c"),
        (Thing(text="gemini", candidates=[Thing()], usage_metadata=None), "gemini"),
        (Thing(text=None, candidates=[]), ""),
    ],
)
def test_the_text_of_a_chunk(chunk: Any, text: str) -> None:
    assert text_of(chunk) == text


@pytest.mark.parametrize("chunk", [1, b"bytes", {"choices": []}, object(), ("a", "b"), ["a"]])
def test_an_unknown_chunk_is_a_type_error_that_names_its_type(chunk: Any) -> None:
    with pytest.raises(TypeError, match=type(chunk).__name__):
        text_of(chunk)


@pytest.mark.parametrize("kind", ["error", "response.failed"])
def test_a_failure_that_the_model_reports_is_not_passed_over(kind: str) -> None:
    with pytest.raises(RuntimeError, match="overloaded"):
        text_of(Thing(type=kind, error="overloaded"))


def test_the_streams_of_baml_are_cumulative() -> None:
    stream = type("BamlStream", (), {"__module__": "baml_py.stream"})()
    other = type("BamlStream", (), {"__module__": "elsewhere"})()
    assert is_cumulative(stream)
    assert not is_cumulative(other)
    assert not is_cumulative(["a"])
