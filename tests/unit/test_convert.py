"""An outcome is never lost for what its handler says of the error."""

from __future__ import annotations

from capsule_protocol.v1 import handler_service_pb2
from capsule_sidecar.rpc import convert


def test_an_outcome_is_stripped_of_what_cannot_be_stored() -> None:
    outcome = convert.outcome(
        handler_service_pb2.Outcome(
            invocation_id="inv_1",
            attempt=1,
            status=handler_service_pb2.OUTCOME_STATUS_FAILED,
            reference_id="not a reference",
            error_type="Odd\0Error" + "r" * 300,
        )
    )
    assert outcome.reference_id == ""
    assert outcome.error_type.startswith("OddError")
    assert len(outcome.error_type) == 200
