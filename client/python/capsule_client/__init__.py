"""The Capsule client."""
