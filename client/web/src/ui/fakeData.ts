/** What the made-up chat says. */
export const ANSWER = `Sure. A **lease** is a promise with an end: whoever holds it may act until it runs out.

## Why it ends

1. The holder may die without a word.
2. The network may keep it from saying so.
3. Somebody else has to be able to go on.

\`\`\`python
async def renew(lease: Lease) -> None:
    """Renews a lease until it is lost."""
    while not lease.lost:
        await lease.renew(seconds=30)
        await asyncio.sleep(10)  # a third of its time
\`\`\`

| Holder | Ends | State |
|---|---:|---|
| worker-1 | 30 s | active |
| worker-2 | 12 s | *expiring* |

> Time is not the same everywhere: leave a margin for clocks that run apart.

See [the paper](https://example.com/leases) for more, or ask me about \`fencing tokens\`.`;

export const SHORT =
  "Hello! I am here to help. Ask me anything, or type `help` to see what I can do.";

export const TITLES = [
  "Leases and fencing tokens",
  "Holiday in Lisbon",
  "Why does my build take so long on a machine with only two cores?",
  "",
  "Budget 2026",
  "Letter to the landlord",
  "Regex for dates",
  "Recipe: lentil soup",
  "A very_long_identifier_that_does_not_break_anywhere_and_goes_on",
  "Haiku",
  "Tests that cannot fail",
  "Plan for Monday",
];

// biome-ignore-start lint/security/noSecrets: a picture
/** A hill under a sun: a picture of 96 by 54, as data. */
export const PICTURE = [
  "data:image/png;base64,",
  "iVBORw0KGgoAAAANSUhEUgAAAGAAAAA2AgMAAABFIXRBAAAACVBMVEXc6+fzx3sMal2eMtWiAAAAvElEQVR42uWQux",
  "HDMAxDHd6lUe8lNEVGSBHuo1FU8jBl9LFiUSa7pApLgMIDtW3/Nw9H39kxmO0nN+anadyZX18ydmb+NcO9w73c/6vl",
  "d5O3lh2dxDECHCPCgQA2hAAx2wWgQyivCHTIWqLoHbKUoGpI35AV0SA0WBOiQSJ076ZX5RM5IapC46VClPQAqKxhpI",
  "jRYmaX1bGg2eeIZk+zIM7JGnHJwnWSjTiygmHARhxZll7xZBpwEBUfbUPecFr9yWIO2WsAAAAASUVORK5CYII=",
].join("");
// biome-ignore-end lint/security/noSecrets: a picture
