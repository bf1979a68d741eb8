import { pagePolicy } from '../http/page-policy.ts';
import { flamegraphScript, ROW, shortened, TOP, WIDTH } from './flamegraph-script.ts';
import type { Recording } from './profiler.service.ts';
import { pseudoFrame, type Frame } from './stack.ts';

/*
 * The flame graph: a self-contained SVG.
 *
 *   ┌──────────────────────────────────────────────┐
 *   │ all                                          │
 *   ├───────────────────────────────┬──────────────┤
 *   │ main                          │ transcoder 1 │   one row of threads,
 *   ├──────────────────┬────────────┼──────────────┤
 *   │ onParserExecute… │ process…   │ (anonymous)  │   then callees below their callers
 *   └──────────────────┴────────────┴──────────────┘
 *
 * The width of a box is its share of the time. Each box is a <g> with a <title>, which the browser shows as a tooltip. The script
 * lays out the boxes for the window and for each zoom, from x and w (fractions of the whole, 0 to 1) and d (row).
 */

/** Smaller boxes are omitted: a tenth of a pixel, as a fraction of the whole. */
const MIN_SHARE = 0.1 / WIDTH;

const STYLE = `
  :root { color-scheme: light dark; background: #fff; width: 100%; display: block; font: 12px ui-monospace, Menlo, Consolas, monospace }
  :root, button { -webkit-tap-highlight-color: transparent }
  g { cursor: pointer } g:hover rect { stroke: #1b2230 } g.hidden { display: none } g.outer { opacity: .55 }
  text { fill: #1b1b1b; pointer-events: none }
  .own { fill: #f5a25d } .package { fill: #f5d98b } .node { fill: #b8d8a8 } .native { fill: #dadde3 } g.found rect { fill: #c98bff }
  #head { background: #fff; color: #1b2230; padding: 8px; box-sizing: border-box; border-bottom: 1px solid #dfe3ea; line-height: 1.4 }
  #head div { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center }
  #head b { flex: 1; min-width: 16em; font-size: 14px }
  #head input, #head button { font: inherit; padding: 3px 8px }
  #head #details { height: 1.4em; overflow: hidden; overflow-wrap: anywhere; margin: 6px 0 0; display: block }
  #head i { display: inline-block; width: 10px; height: 10px; margin-right: 5px; border-radius: 2px }
  i.own { background: #f5a25d } i.package { background: #f5d98b } i.node { background: #b8d8a8 } i.native { background: #dadde3 }
  @media (max-width: 700px) { #head #details { height: 4.2em } #head input { flex: 1; font-size: 16px } #head button { font-size: 14px } }
  @media (prefers-color-scheme: dark) {
    :root, #head { background: #10141a; color: #e6e9ef } #head { border-color: #2c3440 }
    text { fill: #f4f5f8 } g:hover rect { stroke: #fff }
    .own { fill: #94511b } .package { fill: #6f5a16 } .node { fill: #34612b } .native { fill: #3d4656 } g.found rect { fill: #8138c4 }
    i.own { background: #94511b } i.package { background: #6f5a16 } i.node { background: #34612b } i.native { background: #3d4656 }
  }
`;

/** The Content-Security-Policy of a flame graph. */
export const flamegraphPolicy = pagePolicy({ script: flamegraphScript, style: STYLE });

interface Box {
  readonly frame: Frame;
  readonly children: Map<string, Box>;
  amount: number;
  samples: number;
}

/** Draws a recording of CPU time as an SVG. */
export function flamegraph(recording: Recording): string {
  const root = tree(recording);
  const boxes: string[] = [];
  const rows = draw(root, 0, 0, Math.max(1, root.amount), boxes);
  const height = TOP + (rows + 1) * ROW;
  const seconds = (recording.tookMs / 1000).toFixed(1);
  const startedAt = new Date(recording.startedAtMs)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z/, ' UTC');
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}">
<title>Flame graph</title>
<meta xmlns="http://www.w3.org/1999/xhtml" name="viewport" content="width=device-width, initial-scale=1"/>
<link xmlns="http://www.w3.org/1999/xhtml" rel="icon" href="data:,"/>
<style>${STYLE}</style>
${boxes.join('\n')}
<foreignObject id="frame" width="100%" height="${TOP}">
<div xmlns="http://www.w3.org/1999/xhtml" id="head">
<div><b>CPU time over ${seconds} s, from ${startedAt}</b>
<input id="search" type="search" placeholder="Search functions" aria-label="Search functions (regular expression)"/>
<button id="all" type="button">Zoom out</button></div>
<div>${KINDS.map(({ style, name }) => `<span><i class="${style}"></i>${name}</span>`).join('\n')}</div>
<p id="details">Point at a box to see its share; click to zoom in.</p>
</div>
</foreignObject>
<script><![CDATA[${flamegraphScript}]]></script>
</svg>
`;
}

function tree({ threads }: Recording): Box {
  const root = box(pseudoFrame('all'));
  for (const { thread, stacks } of threads) {
    for (const { stack, amount, samples } of stacks) {
      let at = root;
      add(at, amount, samples);
      for (const frame of [pseudoFrame(thread), ...stack.toReversed()]) {
        const key = `${frame.file}:${frame.startLine}:${frame.name}`;
        let child = at.children.get(key);
        if (child === undefined) at.children.set(key, (child = box(frame)));
        at = child;
        add(at, amount, samples);
      }
    }
  }
  return root;
}

function box(frame: Frame): Box {
  return { frame, children: new Map(), amount: 0, samples: 0 };
}

function add(to: Box, amount: number, samples: number): void {
  to.amount += amount;
  to.samples += samples;
}

/** Appends the SVG of a box and of those below it. @returns the last row drawn */
function draw({ frame, children, amount, samples }: Box, row: number, before: number, total: number, boxes: string[]): number {
  const share = amount / total;
  if (share < MIN_SHARE) return 0;
  const source = frame.file === '' ? '' : `, ${frame.file}:${frame.startLine}`;
  const title = `${frame.name} — ${(share * 100).toFixed(2)} %, ${(amount / 1e9).toFixed(3)} s, ${samples} samples${source}`;
  const x = before / total;
  const y = TOP + row * ROW;
  boxes.push(
    `<g data-x="${x.toFixed(6)}" data-w="${share.toFixed(6)}" data-d="${row}" data-name="${escapeXml(frame.name)}">` +
      `<title>${escapeXml(title)}</title>` +
      `<rect x="${(x * WIDTH).toFixed(1)}" y="${y}" width="${(share * WIDTH).toFixed(1)}" height="${ROW - 1}" ` +
      `rx="1" class="${styleOf(frame)}"/>` +
      `<text x="${(x * WIDTH + 4).toFixed(1)}" y="${y + 13}">${escapeXml(shortened(frame.name, share * WIDTH))}</text></g>`,
  );
  let last = row;
  let at = before;
  for (const child of [...children.values()].sort((a, b) => b.amount - a.amount)) {
    last = Math.max(last, draw(child, row + 1, at, total, boxes));
    at += child.amount;
  }
  return last;
}

/** The kinds of functions, each with its color. */
const KINDS = [
  { style: 'own', name: 'collector' },
  { style: 'package', name: 'packages' },
  { style: 'node', name: 'Node' },
  { style: 'native', name: 'not JavaScript' },
] as const;

function styleOf({ file }: Frame): (typeof KINDS)[number]['style'] {
  if (file === '') return 'native';
  if (file.startsWith('node:')) return 'node';
  return file.includes('node_modules/') ? 'package' : 'own';
}

/** Escapes text for XML text and attributes. Control characters, and others that XML does not allow, become U+FFFD. */
function escapeXml(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/gu, '\u{FFFD}')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
