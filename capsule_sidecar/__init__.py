"""The Capsule sidecar: a durable gRPC runtime for conversational apps."""

from importlib.metadata import version as _version

__version__ = _version("capsule-sidecar")
