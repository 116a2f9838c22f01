"""What things may be called, wherever a name is taken."""

from __future__ import annotations

import re

# An app: in configuration, metadata, addresses and cookies alike.
APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
