"""The Capsule sidecar."""
