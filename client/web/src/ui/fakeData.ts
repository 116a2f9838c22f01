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

const SHAPES = [
  '<rect width="480" height="270" fill="#dcebe7"/>',
  '<circle cx="360" cy="80" r="36" fill="#f3c77b"/>',
  // biome-ignore lint/security/noSecrets: a path, not a secret
  '<path d="M0 270l140-150 90 90 70-60 180 120z" fill="#0c6a5d"/>',
];

/** A picture of 480 by 270 made of text, as data. */
export const PICTURE = `data:image/svg+xml,${encodeURIComponent(
  `<svg xmlns="http://www.w3.org/2000/svg" width="480" height="270">${SHAPES.join("")}</svg>`,
)}`;
