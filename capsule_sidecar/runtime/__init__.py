"""What the sidecar does: conversations, reply streams, the dispatcher, the hub."""
