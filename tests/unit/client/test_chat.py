"""History in the form of chat models."""

from __future__ import annotations

from capsule_client import Attachment, Message, UserInfo
from capsule_client.chat import chat_messages


def user(text: str, *attachments: Attachment) -> Message:
    return Message(text, "user", attachments=attachments)


def app(text: str, *, interrupted: bool = False) -> Message:
    return Message(text, "app", interrupted=interrupted)


def test_neighbours_of_one_role_are_merged_with_a_blank_line() -> None:
    assert chat_messages([app("Hello."), user("a"), user("b"), app("c"), app("d"), user("e")]) == [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c\n\nd"},
        {"role": "user", "content": "e"},
    ]


def test_interrupted_text_takes_part_and_an_empty_message_does_not() -> None:
    messages = [user("a"), app("", interrupted=True), user("b"), app("half", interrupted=True)]
    assert chat_messages(messages) == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "half"},
    ]


def test_attachments_are_named_in_the_content() -> None:
    picture = Attachment("cat.png", "image/png", "http://x", 2048, "f1")
    unknown = Attachment("notes", "", "http://x", 3, "f2")
    assert chat_messages([user("look", picture, unknown), user("", picture)]) == [
        {
            "role": "user",
            "content": "look\n\n[Attachment: cat.png (image/png, 2 KiB)]\n"
            "[Attachment: notes (unknown type, 3 bytes)]\n\n"
            "[Attachment: cat.png (image/png, 2 KiB)]",
        }
    ]


def test_cls_builds_typed_messages() -> None:
    class Typed:
        def __init__(self, *, role: str, content: str) -> None:
            self.pair = (role, content)

    assert [one.pair for one in chat_messages([user("a")], Typed)] == [("user", "a")]


def test_the_owner_is_the_organisation_or_the_user() -> None:
    assert UserInfo("u1").owner_id == "u1"
    assert UserInfo("u1", org_id="acme").owner_id == "org:acme"
