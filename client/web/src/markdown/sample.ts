/** Texts for the tests: an answer as models write them, and pieces that Markdown may be made of. */

export const ANSWER = `# Deploying the service

Here is **what you need** to do, in *three* steps; see [the guide](https://example.com/guide) or
<https://example.com/auto> for \`more\` details.

1. Install the tools:

   \`\`\`bash
   npm ci
   # then
   npm run build
   \`\`\`

2. Check the **settings**
   - [x] the port
   - [ ] the *host* name
     - nested \`code\` item
3. Run it

> Note: quotes may hold **bold** text
> over several lines.
>
> - and lists

| Name | Value | Note |
| :--- | ----: | :--: |
| port | 7480 | \`default\` |
| host | **localhost** | with \\| pipe |

## Code

\`\`\`python
def main(argv: list[str]) -> int:
    """Doc **not bold**."""

    return len(argv) * 2
\`\`\`

Some closing words with ~~struck~~ text, a reference [link][ref] and a footnote-like [1] mark.
Snake_case_names and 2 * 3 * 4 stay as they are; AT&T &amp; co too.

***

Final line with an image: ![a chart](/files/chart.png) done.

[ref]: https://example.com/ref "The title"
`;

export const PIECES: readonly string[] = [
  "a",
  "b c",
  "\n",
  "\n\n",
  "\n\n\n",
  " ",
  "  ",
  "    ",
  "\t",
  "\r\n",
  "\r",
  "- ",
  "* ",
  "+ ",
  "1. ",
  "2) ",
  "10. ",
  "- [ ] ",
  "- [x] x",
  "# ",
  "## h\n",
  "#",
  "> ",
  ">",
  "```",
  "```js\n",
  "~~~",
  "~~~~\n",
  "`",
  "``",
  "**",
  "*",
  "_",
  "__",
  "~~",
  "~",
  "[",
  "]",
  "(",
  ")",
  "[a]",
  "[a]: /u",
  "[b]: <x> 'y'\n",
  "[a][b]",
  "[x](http://y)",
  "![i](/p)",
  "<div>",
  "</div>\n",
  "<b>",
  "<!--",
  "-->",
  "<script>",
  "</script>",
  "<?",
  "?>",
  "<![CDATA[",
  "]]>",
  "<details>\n",
  "<custom-tag>\n",
  "---",
  "===",
  "***\n",
  "---\n",
  "|",
  "a|b",
  "| a | b |\n",
  "|---|---|\n",
  "-|-\n",
  "\\",
  "\\\n",
  "&amp;",
  "&#65;",
  "&",
  "http://a.b",
  "www.a.b",
  "x@y.zz",
  "é",
  "\u{1F600}",
  "\u202e",
  "\u200b",
  "1",
  "text\n",
  "more text",
  "\n- b\n\n  c\n",
  "\n    code\n",
  "\n> q\nlazy\n",
  "\n\n- x\n- y\n",
  "\n```\ncode\n\nmore\n```\n",
];
