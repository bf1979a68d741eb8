/*
 * Line charts as SVG, one below the other, each:
 *
 *   title
 *   max ┤
 *       │  ●───●───●──●     on a logarithmic x, steps of the same factor are of the same width
 *     0 ┼──────────────     y starts at 0: what looks flat is flat
 *         1   10  100
 */

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Panel {
  readonly title: string;
  /** What the axes show, with units. */
  readonly x: string;
  readonly xScale: 'linear' | 'logarithmic';
  readonly y: string;
  readonly lines: readonly Line[];
}

const WIDTH = 640;
const HEIGHT = 240;
const PLOT = { left: 70, right: WIDTH - 110, top: 44, bottom: HEIGHT - 52 };
const COLORS = ['#2563eb', '#ea580c', '#16a34a', '#9333ea'];

/** All panels as one SVG document. */
export function chart(panels: readonly Panel[]): string {
  const height = HEIGHT * panels.length;
  const drawn = panels.map((panel, index) => `<g transform="translate(0 ${index * HEIGHT})">\n${draw(panel)}\n</g>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ` +
      `font-family="system-ui, sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

function draw({ title, x, xScale, y, lines }: Panel): string {
  const scale = xScale === 'linear' ? Number : Math.log;
  const xs = [...new Set(lines.flatMap(({ points }) => points.map(([value]) => value)))].toSorted((one, other) => one - other);
  const top = roundUp(Math.max(...lines.flatMap(({ points }) => points.map(([, value]) => value))));
  const [least, most] = [scale(xs[0]), scale(xs[xs.length - 1])];
  const atX = (value: number) => PLOT.left + ((scale(value) - least) / (most - least || 1)) * (PLOT.right - PLOT.left);
  const atY = (value: number) => PLOT.bottom - (value / top) * (PLOT.bottom - PLOT.top);
  return [
    text(PLOT.left, 24, title, 'font-weight="600"'),
    ...[0, top / 2, top].flatMap((value) => [
      `<path d="M${PLOT.left} ${fixed(atY(value))}H${PLOT.right}" stroke="#ddd"/>`,
      text(PLOT.left - 8, atY(value) + 4, String(value), 'text-anchor="end"'),
    ]),
    ...xs.map((value) => text(atX(value), PLOT.bottom + 18, String(value), 'text-anchor="middle"')),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 38, x, 'text-anchor="middle" fill="#666"'),
    text(
      18,
      (PLOT.top + PLOT.bottom) / 2,
      y,
      `text-anchor="middle" fill="#666" transform="rotate(-90 18 ${(PLOT.top + PLOT.bottom) / 2})"`,
    ),
    ...lines.flatMap(({ name, points }, index) => {
      const color = COLORS[index % COLORS.length];
      const places = points.map(([px, py]) => [atX(px), atY(py)] as const);
      const corners = places.map(([px, py]) => `${fixed(px)},${fixed(py)}`).join(' ');
      return [
        `<polyline points="${corners}" fill="none" stroke="${color}" stroke-width="2"/>`,
        ...places.map(([px, py]) => `<circle cx="${fixed(px)}" cy="${fixed(py)}" r="3" fill="${color}"/>`),
        text(PLOT.right + 10, places[places.length - 1][1] + 4, name, `fill="${color}"`),
      ];
    }),
  ].join('\n');
}

/** Rounds up to 1, 2 or 5 times a power of ten. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${fixed(x)}" y="${fixed(y)}" ${attributes}>${escaped}</text>`;
}

function fixed(value: number): string {
  return value.toFixed(1);
}
