"""What the sidecar takes, and how long things last: every limit and duration has its place here."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)
    if match is None:
        raise ValueError(
            f'{value!r} is not a duration: give seconds, or a string like "15s", "10m"'
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*(B|KiB|MiB|GiB)?\s*", value)
    if match is None:
        raise ValueError(f'{value!r} is not a size: give bytes, or "64KiB", "4MiB"')
    return int(match[1]) * _SIZES[match[2] or "B"]


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Group(BaseModel):
    """A group of settings."""

    # Input is hidden so that no message of an error can carry a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Limits(Group):
    """What the sidecar takes. Sizes are bytes of UTF-8, `_chars` are code points."""

    max_text_bytes: Bytes = 256 * 1024
    max_block_bytes: Bytes = 64 * 1024
    max_action_bytes: Bytes = 64 * 1024
    max_data_bytes: Bytes = 1024 * 1024
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_title_chars: Count = 200
    max_status_chars: Count = 1_000
    max_detail_chars: Count = 4_000
    max_identity_chars: Count = 200
    max_key_chars: Count = 256
    max_block_id_chars: Count = 128
    max_action_name_chars: Count = 128
    waiting_messages: Count = 100
    pending_tasks: Count = 10_000
    # Files: each, those of one message, what one person has uploaded and not used yet.
    max_file_bytes: Bytes = 100 * 1024 * 1024
    max_attachments: Count = 20
    unused_file_bytes: Bytes = 1024 * 1024 * 1024
    # Uploads that are being read at once: of all people, and of one; of all handlers, and of one
    # invocation.
    uploads: Count = 64
    uploads_per_user: Count = 8
    handler_uploads: Count = 64
    uploads_per_invocation: Count = 8
    # Files that are being sent at once: by signed addresses to all, and to one network; and over
    # gRPC.
    downloads: Count = 256
    downloads_per_network: Count = 32
    channel_downloads: Count = 256
    # Prompts: of one invocation at once, and what each is made of.
    open_prompts: Count = 100
    max_prompt_chars: Count = 4_000
    max_accept_chars: Count = 1_000
    max_label_chars: Count = 80
    max_options: Count = 100
    max_option_chars: Count = 200
    max_alt_chars: Count = 1_000
    history_messages: Count = 50
    history_bytes: Bytes = 512 * 1024
    page_size: Count = 50
    max_page_size: Count = 200
    page_bytes: Bytes = 1024 * 1024
    batch_bytes: Bytes = 1024 * 1024
    commands_in_flight: Count = 4_096
    bytes_in_flight: Bytes = 16 * 1024 * 1024
    stream_window_bytes: Bytes = 1024 * 1024
    # Of one invocation at once: the text of open streams is held in memory.
    open_streams: Count = 100
    default_concurrency: Count = 64
    max_concurrency: Count = 1_000
    # The HTTP side: a request's body, connections in all, event streams of one person at once.
    max_body_bytes: Bytes = 2 * 1024 * 1024
    # Of bodies that are being read, beyond the first 8 KiB of each; a quarter for one address.
    bodies_in_flight: Bytes = 64 * 1024 * 1024
    connections: Count = 10_000
    followers_per_user: Count = 100
    # Rates of people who are not spoken for by a trusted channel; of guests, by their address.
    messages_per_minute: Count = 120
    sessions_per_minute: Count = 60
    guests_per_minute: Count = 60
    # Renaming, stopping and deleting.
    changes_per_minute: Count = 240
    uploads_per_minute: Count = 120
    # Asked of data and endpoint handlers, and what these may answer.
    requests_per_minute: Count = 600
    max_response_bytes: Bytes = 2 * 1024 * 1024

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.page_size > self.max_page_size:
            raise ValueError("page_size is above max_page_size")
        if self.bodies_in_flight < 4 * self.max_body_bytes:
            raise ValueError("bodies_in_flight must hold 4 bodies of max_body_bytes")
        # An item travels alone where it exceeds a batch, but never exceeds a gRPC message.
        largest = max(self.max_text_bytes, self.max_block_bytes, self.batch_bytes, self.page_bytes)
        if self.max_message_bytes < max(largest, self.max_data_bytes + self.history_bytes) + 65_536:
            raise ValueError(
                "max_message_bytes must exceed text, block, batch and page, and data with history,"
                " by 64 KiB"
            )
        return self


class Timing(Group):
    """How long things last, in seconds, or as strings like "15s", "10m", "24h"."""

    beat_interval: Seconds = 3.0
    lease_term: Seconds = 15.0
    fresh_beat: Seconds = 6.0
    # The protocol promises an end of a lease at most 1 s after its term.
    sweep_interval: Annotated[Seconds, Field(le=1.0)] = 1.0
    turn_deadline: Seconds = 600.0
    stop_grace: Seconds = 10.0
    # What a data or endpoint handler has to answer a request.
    request_deadline: Seconds = 30.0
    max_attempts: Count = 3
    drain_grace: Seconds = 30.0
    # The protocol promises a checkpoint at least every 250 ms or 4 KiB.
    checkpoint_interval: Annotated[Seconds, Field(le=0.25)] = 0.25
    checkpoint_bytes: Annotated[Bytes, Field(le=4096)] = 4096
    # The protocol promises a follower a sign of life at least every 15 s.
    follow_beat: Annotated[Seconds, Field(le=15.0)] = 15.0
    request_retention: Seconds = 24 * 3600.0
    # After how long without an event a session is closed; 0: never.
    session_ttl: Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)] = 0.0
    # Tasks and ticks without a session, after their end.
    task_retention: Seconds = 30 * 86_400.0
    # A prompt's: where none is asked for, and the longest.
    prompt_timeout: Seconds = 300.0
    max_prompt_timeout: Seconds = 30 * 86_400.0
    # An upload's; how long a file waits to be used; how long its signed address is good.
    upload_timeout: Seconds = 3600.0
    unused_file_retention: Seconds = 24 * 3600.0
    file_url_ttl: Seconds = 7 * 86_400.0
    # What the HTTP side waits for: a request's head, its body, the next request of a connection,
    # and a reader that does not read.
    head_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0
    keep_alive: Seconds = 75.0
    write_timeout: Seconds = 60.0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.beat_interval < self.fresh_beat <= self.lease_term:
            raise ValueError("needs beat_interval < fresh_beat <= lease_term")
        return self
