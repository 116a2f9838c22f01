"""Who is asking: tokens and what they reach."""
