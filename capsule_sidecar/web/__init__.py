"""The HTTP face: routes, live events and the chat page."""
