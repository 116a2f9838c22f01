"""Everything that lasts: the log, the work queue, open streams, session data, request ids."""
