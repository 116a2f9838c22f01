"""What text a chunk of a model's stream carries, told by its documented attributes alone.

No SDK is imported: a chunk is recognised by what its SDK documents of it.
"""

from __future__ import annotations

from typing import Any

_MISSING: Any = object()

# Events of Anthropic's stream, raw and of its helper, that carry no text of their own. The helper's
# `text` repeats what the raw `content_block_delta` before it carried.
_ANTHROPIC_WITHOUT_TEXT = frozenset(
    (
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_stop",
        "ping",
        "text",
        "input_json",
        "citation",
        "thinking",
        "signature",
    )
)


def text_of(chunk: Any) -> str:
    """Returns the text that a chunk of a model's stream adds; empty where it adds none.

    Takes `str`, `None`, and the chunks of OpenAI (chat completions and responses), Anthropic
    (messages), LangChain and Google GenAI. Raises TypeError, naming its type, for anything else,
    and RuntimeError for an event by which the model says that it failed.
    """
    if type(chunk) is str:
        return chunk
    if chunk is None:
        return ""
    if isinstance(chunk, str):
        return str.__str__(chunk)
    for shape in (_of_event, _of_choices, _of_content, _of_text):
        text = shape(chunk)
        if text is not _MISSING:
            return text or ""
    raise TypeError(
        f"a chunk of type {type(chunk).__module__}.{type(chunk).__qualname__} carries no text "
        "that is known here; pipe strings instead"
    )


def is_cumulative(stream: Any) -> bool:
    """Whether the stream is of a type whose every item is the whole text so far: BAML's."""
    kind = type(stream)
    return kind.__module__.partition(".")[0] == "baml_py" and kind.__name__ in (
        "BamlStream",
        "BamlSyncStream",
    )


def _of_event(chunk: Any) -> Any:
    """OpenAI responses and Anthropic messages: events told apart by `type`."""
    kind = getattr(chunk, "type", None)
    if type(kind) is not str:
        return _MISSING
    if kind == "content_block_delta":
        delta = chunk.delta
        return delta.text if getattr(delta, "type", "") == "text_delta" else ""
    if kind == "response.output_text.delta":
        return chunk.delta
    if kind in ("error", "response.failed"):
        detail = getattr(chunk, "error", None) or getattr(chunk, "message", None)
        raise RuntimeError(f"the model's stream reported {kind}: {detail or 'no detail'}")
    if kind.startswith("response.") or kind in _ANTHROPIC_WITHOUT_TEXT:
        return ""
    return _MISSING


def _of_choices(chunk: Any) -> Any:
    """OpenAI chat completions: `choices[0].delta.content`."""
    choices = getattr(chunk, "choices", _MISSING)
    if not isinstance(choices, list | tuple):
        return _MISSING
    if not choices:
        return ""  # the last chunk of a stream with usage
    delta = getattr(choices[0], "delta", None)
    content = getattr(delta, "content", None)
    return content if content is None or isinstance(content, str) else _MISSING


def _of_content(chunk: Any) -> Any:
    """LangChain message chunks: `content`, a string or a list of parts."""
    content = getattr(chunk, "content", _MISSING)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return _MISSING
    return "".join(_of_part(part) for part in content)


def _of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") == "text":
        text = part.get("text")
        return text if isinstance(text, str) else ""
    return ""


def _of_text(chunk: Any) -> Any:
    """Google GenAI: `text`, None where a chunk has none."""
    text = getattr(chunk, "text", _MISSING)
    return text if text is None or isinstance(text, str) else _MISSING
