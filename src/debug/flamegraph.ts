import { flamegraphScript } from './flamegraph-script.ts';
import type { Recording } from './profiler.service.ts';
import { pseudoFrame, type Frame } from './stack.ts';

/*
 * The flame graph: an SVG that needs nothing else.
 *
 *   ┌──────────────────────────────────────────────┐
 *   │ all                                          │
 *   ├───────────────────────────────┬──────────────┤
 *   │ main                          │ transcoder 1 │   a row of threads,
 *   ├──────────────────┬────────────┼──────────────┤
 *   │ onParserExecute… │ process…   │ (anonymous)  │   then who calls whom, downwards.
 *   └──────────────────┴────────────┴──────────────┘
 *
 * A box is as wide as its share of the time. Each is a <g> with a <title>, which is what pointing at it shows; the
 * script lays the boxes out anew for a zoom, from the attributes x, w (share of the whole, 0 to 1) and d (row).
 */

const WIDTH = 1200;
const ROW = 17;
const TOP = 48;
/** Of a letter. */
const LETTER = 6.6;
/** Smaller boxes are left out: a share of the whole that is a tenth of a pixel. */
const MIN_SHARE = 0.1 / WIDTH;

interface Box {
  readonly frame: Frame;
  readonly children: Map<string, Box>;
  amount: number;
  samples: number;
}

/** Draws a recording of processor time. */
export function flamegraph(recording: Recording): string {
  const root = tree(recording);
  const boxes: string[] = [];
  const rows = draw(root, 0, 0, Math.max(1, root.amount), boxes);
  const height = TOP + (rows + 1) * ROW;
  const seconds = (recording.tookMs / 1000).toFixed(1);
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" style="width: 100%; height: auto" font-family="monospace" font-size="11">
<title>Flame graph</title>
<link xmlns="http://www.w3.org/1999/xhtml" rel="icon" href="data:,"/>
<style>
  g { cursor: pointer } g:hover rect { stroke: #000 } g.found rect { fill: #c6f } g.hidden { display: none } text { pointer-events: none }
  .button { cursor: pointer; fill: #06c; pointer-events: auto }
</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="4" y="16" font-size="14">Processor time over ${seconds} s, from ${new Date(recording.startedAtMs).toISOString()}</text>
<text x="4" y="34" id="details">Point at a box, click to zoom.</text>
<text x="${WIDTH - 150}" y="16" id="all" class="button">Zoom out</text>
<text x="${WIDTH - 70}" y="16" id="search" class="button">Search</text>
${boxes.join('\n')}
<script><![CDATA[${flamegraphScript({ width: WIDTH, letter: LETTER })}]]></script>
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

/** @returns the last row drawn */
function draw({ frame, children, amount, samples }: Box, row: number, before: number, total: number, boxes: string[]): number {
  const share = amount / total;
  if (share < MIN_SHARE) return 0;
  const title = `${frame.name} — ${(share * 100).toFixed(2)} %, ${(amount / 1e9).toFixed(3)} s, ${samples} samples${frame.file === '' ? '' : `, ${frame.file}:${frame.startLine}`}`;
  const x = before / total;
  const y = TOP + row * ROW;
  boxes.push(
    `<g data-x="${x.toFixed(6)}" data-w="${share.toFixed(6)}" data-d="${row}" data-name="${escapeXml(frame.name)}"><title>${escapeXml(title)}</title>` +
      `<rect x="${(x * WIDTH).toFixed(1)}" y="${y}" width="${(share * WIDTH).toFixed(1)}" height="${ROW - 1}" rx="1" fill="${colour(frame)}"/>` +
      `<text x="${(x * WIDTH + 3).toFixed(1)}" y="${y + 12}">${escapeXml(shortened(frame.name, share * WIDTH))}</text></g>`,
  );
  let last = row;
  let at = before;
  for (const child of [...children.values()].sort((a, b) => b.amount - a.amount)) {
    last = Math.max(last, draw(child, row + 1, at, total, boxes));
    at += child.amount;
  }
  return last;
}

/** As much of a name as fits. The script does the same. */
function shortened(name: string, width: number): string {
  const letters = Math.floor((width - 6) / LETTER);
  if (letters < 3) return '';
  return name.length <= letters ? name : `${name.slice(0, letters - 1)}…`;
}

/** Ours stand out from packages, Node's own and what is no JavaScript. */
function colour({ file }: Frame): string {
  if (file === '') return '#ddd';
  if (file.startsWith('node:')) return '#b8d8a8';
  return file.includes('node_modules/') ? '#f5d98b' : '#f5a25d';
}

/** For text and attributes. What XML can't hold becomes a question mark. */
function escapeXml(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/gu, '\u{FFFD}')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
