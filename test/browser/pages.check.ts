import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startLoad } from '../support/clients/load.ts';
import { JSON_TYPE } from '../support/clients/otlp-client.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { type Browser, type Page, screenshotPath, type Size, startBrowser } from './browser.ts';

/* `npm run browser:check`: the pages of the admin port in a real browser. Its screenshots are for people to look at. */

const DESKTOP: Size = { width: 1280, height: 900 };
const PHONE: Size = { width: 390, height: 844 };
const CHARTS = 8;

let browser: Browser;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser?.close());

interface Visit {
  readonly page: Page;
  /** Errors of the console and of scripts. */
  readonly errors: readonly string[];
  /** Origins that were asked for something. */
  readonly origins: ReadonlySet<string>;
}

async function visit(url: string, viewport: Size, colorScheme: 'light' | 'dark' = 'light'): Promise<Visit> {
  const isPhone = viewport === PHONE;
  const page = await browser.newPage({ viewport, colorScheme, isMobile: isPhone, hasTouch: isPhone });
  const errors: string[] = [];
  const origins = new Set<string>();
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) origins.add(new URL(request.url()).origin);
  });
  await page.goto(url);
  return { page, errors, origins };
}

function text(page: Page, selector: string): Promise<string> {
  return page.evaluate<string>(`document.querySelector(${JSON.stringify(selector)}).innerText`);
}

/** Matches a text that holds these parts in this order. */
function inOrder(...parts: readonly RegExp[]): RegExp {
  return new RegExp(parts.map(({ source }) => source).join('[^]*'));
}

/** Wider than the window: one would have to scroll sideways. */
function overflowPx(page: Page): Promise<number> {
  return page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth');
}

describe('the status page in local mode', () => {
  let directory: string;
  let collector: Collector;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'browser-'));
    const [clickhousePort] = await freePorts(1);
    collector = await startCollector({
      program: 'local',
      env: { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(clickhousePort) },
    });
    await until(() => collector.output().includes('Ctrl-C stops both'), 'the instructions are printed');
  });
  afterAll(async () => {
    await collector.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test('shows a newcomer where to send, and a curl that works as it is', async () => {
    const { page, errors } = await visit(collector.adminUrl, DESKTOP);
    await until(async () => (await text(page, '#traces')).includes('None yet. Send one'), 'the page waits for a trace');
    expect(await text(page, '#addresses')).toBe(
      `OTLP/HTTP\n${collector.url}/v1/traces\nOpenTelemetry SDKs\nOTEL_EXPORTER_OTLP_ENDPOINT=${collector.url}`,
    );
    await page.screenshot({ path: screenshotPath('nothing-yet'), fullPage: true });

    const command = await text(page, '#curl');
    expect(command).not.toContain('Authorization');
    await page.locator('#copy').click();
    expect(await page.evaluate<string>('getSelection().toString()')).toBe(command);
    expect(await text(page, '#copy')).toBe('Copied');
    expect(execFileSync('bash', ['-c', command], { stdio: ['ignore', 'pipe', 'ignore'] }).toString()).toMatch(/^HTTP\/1.1 200/);
    await until(async () => (await page.locator('#trace .span').count()) === 1, 'the span shows');

    await page.locator('#trace .span').click();
    await until(async () => (await page.locator('.details').count()) === 1, 'its attributes show');
    expect(await text(page, '.details')).toMatch(/Attributes[^]*hello\n+world[^]*Resource[^]*service\.name\n+hello/);
    await until(async () => !(await page.evaluate<boolean>('document.querySelector("#try").open')), 'the curl folds away');
    expect(errors).toEqual([]);
    await page.screenshot({ path: screenshotPath('first-trace'), fullPage: true });
    await page.close();
  });

  test('shows the spans of a trace, and what is stored of each', async () => {
    await collector.send(checkout(), JSON_TYPE);
    const { page, errors } = await visit(collector.adminUrl, DESKTOP);
    const row = page.locator('#list .item', { hasText: 'query Checkout' });
    await until(async () => (await row.count()) === 1, 'the trace is listed');
    await row.click();
    await until(async () => (await page.locator('#trace .span').count()) === 4, 'the four spans show');

    expect(await page.locator('#trace .name').allTextContents()).toEqual([
      'query Checkout',
      'graphql.parse',
      'subgraph products',
      '<b>reviews</b>',
    ]);
    const bars = await Promise.all([0, 1, 2, 3].map(async (index) => (await page.locator('#trace .bar').nth(index).boundingBox())!));
    expect(bars[2].x).toBeGreaterThan(bars[1].x);
    expect(bars[0].width).toBeGreaterThan(bars[2].width);
    expect(await page.locator('#trace .bar.failed').count()).toBe(1);

    const failed = page.locator('#trace .span').nth(3);
    await failed.click();
    await until(async () => (await page.locator('.details').count()) === 1, 'the details show');
    expect(await text(page, '.details')).toMatch(
      inOrder(
        /Message\n+reviews did not answer/,
        /http\.url\n+http:\/\/reviews\/<i>/,
        /Event after 70 ms: exception\n+exception\.type\n+TimeoutError/,
        /service\.name\n+gateway/,
      ),
    );
    await page.screenshot({ path: screenshotPath('details'), fullPage: true });
    await failed.click();
    expect(await page.locator('.details').count()).toBe(0);
    expect(await page.locator('main i:not(.key), main b b').count()).toBe(0);
    expect(errors).toEqual([]);
    await page.close();
  });

  test('lists failed traces and the slowest by themselves', async () => {
    await collector.send(
      checkout({ traceId: 'aa000000000000000000000000000001', name: 'query Slow', slower: 20, failed: false }),
      JSON_TYPE,
    );
    const { page, errors } = await visit(collector.adminUrl, DESKTOP);
    const names = () =>
      page.evaluate<string[]>(`[...document.querySelectorAll('#list .item > :first-child')].map(({ innerText }) => innerText)`);
    await until(async () => (await names()).length === 3, 'all traces are listed');
    // Newest first.
    expect((await names()).at(-1)).toBe('query Slow');
    expect((await names()).toSorted()).toEqual(['my first span', 'query Checkout', 'query Slow']);
    expect(await page.locator('#filters button').allTextContents()).toEqual(['All 3', 'Failed 1', 'Slowest']);
    await page.locator('#filters button').nth(1).click();
    expect(await names()).toEqual(['query Checkout']);
    await page.locator('#filters button').nth(2).click();
    expect(await names()).toEqual(['query Slow', 'query Checkout', 'my first span']);
    expect(errors).toEqual([]);
    await page.close();
  });

  test('on a phone, no name is cut off, and a tap shows the attributes', async () => {
    const name = `query ${'AVeryLongNameOfAnOperation'.repeat(5)}`;
    await collector.send(checkout({ traceId: 'aa000000000000000000000000000002', name }), JSON_TYPE);
    const { page, errors } = await visit(collector.adminUrl, PHONE);
    const row = page.locator('#list .item', { hasText: name });
    await until(async () => (await row.count()) === 1, 'the trace is listed');
    await row.tap();
    await until(async () => (await text(page, '#trace')).includes(name), 'its spans show');
    await page.locator('#trace .span').nth(3).tap();
    await until(async () => (await page.locator('.details').count()) === 1, 'the details show');
    expect(await cutOff(page)).toEqual([]);
    expect(await overflowPx(page)).toBe(0);
    await page.screenshot({ path: screenshotPath('phone-details'), fullPage: true });
    expect(errors).toEqual([]);
    await page.close();
  });

  test.each([
    ['desktop-light', DESKTOP, 'light'],
    ['desktop-dark', DESKTOP, 'dark'],
    ['phone-light', PHONE, 'light'],
    ['phone-dark', PHONE, 'dark'],
  ] as const)(
    '%s: every figure is there, every line is drawn, nothing is cut off, nothing comes from elsewhere',
    async (name, viewport, colorScheme) => {
      const { page, errors, origins } = await visit(collector.adminUrl, viewport, colorScheme);
      const load = startLoad(collector.url, { senders: 4, pauseMs: 20 });
      await collector.send('{', JSON_TYPE);
      await until(async () => (await figures(page)).every(({ figure }) => figure !== '–'), 'every chart has its figures');
      await until(
        async () => (await page.locator('#charts path').count()) > CHARTS && (await linesWithPoints(page)) >= CHARTS,
        'the lines are drawn',
      );
      await load.stop();

      expect(await page.locator('#charts .card').count()).toBe(CHARTS);
      expect(await text(page, '#condition')).toBe('Ready');
      expect(await text(page, '#components')).toMatch(
        /ClickHouse [^]*Up[^]*Authentication[^]*DISABLE_AUTH[^]*Disk buffer[^]*OK[^]*Dead letters[^]*None/,
      );
      const totals = await text(page, '#totals');
      expect(totals).toMatch(
        /^[\d,]+\nspans accepted\n[\d,]+\nspans stored\n0\nspans rejected\n0\nspans to retry\n\d+\nrequests refused\n/,
      );
      expect(totals).toMatch(/\d\nrequests refused\n\d+\ninserts\n0\nfailed inserts\n[\d,.]+\nrows per insert$/);
      expect(await text(page, '#refusals')).toMatch(/400[^]*malformed/);
      expect(await overflowPx(page)).toBe(0);
      expect(await cutOff(page)).toEqual([]);
      expect(await contrasts(page)).toEqual([]);
      expect(errors).toEqual([]);
      expect([...origins]).toEqual([collector.adminUrl]);
      await page.screenshot({ path: screenshotPath(name), fullPage: true });
      await page.close();
    },
  );

  test('pointing at a chart shows the figures of that moment', async () => {
    const { page } = await visit(collector.adminUrl, DESKTOP);
    await until(async () => (await linesWithPoints(page)) > 0, 'the lines are drawn');
    await page.locator('#charts svg').first().hover();
    expect(await text(page, '#charts .card')).toMatch(/ ago/);
    await page.close();
  });
});

test('with authentication on, the curl has the headers that are needed, and no secret', async () => {
  const [grpcPort] = await freePorts(1);
  const secret = 'a-secret-that-no-page-shows';
  await using collector = await startCollector({
    env: {
      DISABLE_AUTH: 'false',
      HIVE_OTEL_AUTH_ENDPOINT: 'http://127.0.0.1:1/otel-auth',
      GRPC_PORT: String(grpcPort),
      CLICKHOUSE_PASSWORD: secret,
    },
  });
  const { page, errors } = await visit(collector.adminUrl, PHONE, 'dark');
  await until(async () => (await page.locator('#addresses dt').count()) === 4, 'the addresses show');
  expect(await text(page, '#addresses')).toContain(`127.0.0.1:${grpcPort}`);
  expect(await text(page, '#addresses')).toMatch(
    /Headers\nAuthorization: Bearer <access token>\nX-Hive-Target-Ref: <organization\/project\/target>$/,
  );
  expect(await text(page, '#curl')).toMatch(/-H "Authorization: Bearer \$TOKEN" \\\n {2}-H "X-Hive-Target-Ref: \$TARGET" \\\n/);
  expect(await page.evaluate<string>('document.documentElement.innerHTML')).not.toContain(secret);
  expect(await page.evaluate<boolean>('document.querySelector("#traces").hidden')).toBe(true);
  expect(await overflowPx(page)).toBe(0);
  await page.screenshot({ path: screenshotPath('phone-auth'), fullPage: true });
  expect(errors).toEqual([]);
  await page.close();
});

test('the status page says that ClickHouse is down, why, and when it is back', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector({ clickhouse });
  const { page, errors } = await visit(collector.adminUrl, PHONE);
  await until(async () => (await text(page, '#condition')) === 'Ready', 'the page is live');
  await clickhouse.kill();
  await collector.send(checkout(), JSON_TYPE);
  await until(
    async () => /Not ready: ClickHouse is not available/.test(await text(page, '#condition')),
    'the page says that nothing is taken',
  );
  expect(await text(page, '#components')).toMatch(/Down since [^]*ECONNREFUSED/);
  expect(await overflowPx(page)).toBe(0);
  await page.screenshot({ path: screenshotPath('clickhouse-down'), fullPage: true });
  await clickhouse.restart();
  await until(async () => (await text(page, '#condition')) === 'Ready', 'the page says that spans are taken again');
  expect(errors).toEqual([]);

  await collector.stop();
  await until(async () => /Shutting down|No connection/.test(await text(page, '#condition')), 'the page says that the collector has gone');
  await page.close();
});

describe('the flame graph', () => {
  let clickhouse: TestClickHouse;
  let collector: Collector;
  beforeAll(async () => {
    clickhouse = await startClickHouse({ systemLogs: false });
    collector = await startCollector({ clickhouse });
  });
  afterAll(async () => {
    await collector[Symbol.asyncDispose]();
    await clickhouse[Symbol.asyncDispose]();
  });

  async function profile(viewport: Size, colorScheme: 'light' | 'dark'): Promise<Visit> {
    const load = startLoad(collector.url, { senders: 16, tracesPerRequest: 20 });
    const visited = await visit(`${collector.adminUrl}/debug/pprof/flamegraph?seconds=3`, viewport, colorScheme);
    await load.stop();
    return visited;
  }
  test('pointing shows a share, a click zooms, a search marks, and all of it can be undone', async () => {
    const { page, errors } = await profile(DESKTOP, 'light');
    const main = page.locator('g[data-name="main"]');
    const found = () => page.locator('g.found').count();
    expect(await widthOf(page, 'all')).toBeCloseTo(
      await page.evaluate<number>('document.documentElement.getBoundingClientRect().width'),
      0,
    );
    await page.screenshot({ path: screenshotPath('flamegraph'), fullPage: false });

    await main.hover();
    expect(await details(page)).toMatch(/^main — \d+\.\d+ %, \d+\.\d+ s, \d+ samples$/);
    const before = await widthOf(page, 'main');
    const narrow = await page.evaluate<string>(
      `[...document.querySelectorAll('g[data-d="2"]')].find((g) => g.dataset.w > 0.05 && g.dataset.w < 0.9).dataset.name`,
    );
    await page
      .locator(`g[data-d="2"][data-name=${JSON.stringify(narrow)}]`)
      .first()
      .click();
    expect(await widthOf(page, narrow)).toBeCloseTo(await widthOf(page, 'all'), 0);
    expect(await page.locator('g.hidden').count()).toBeGreaterThan(0);
    await page.screenshot({ path: screenshotPath('flamegraph-zoomed'), fullPage: false });
    await page.locator('#all').click();
    expect(await widthOf(page, 'main')).toBeCloseTo(before, 0);

    await page.keyboard.press('Control+f');
    expect(await page.evaluate<string>('document.activeElement.id')).toBe('search');
    await page.locator('#search').fill('transcode');
    expect(await found()).toBeGreaterThan(0);
    expect(await details(page)).toMatch(/^Found: \d+\.\d+ %/);
    await page.screenshot({ path: screenshotPath('flamegraph-search'), fullPage: false });
    await page.locator('#search').fill('(');
    expect(await details(page)).toMatch(/regular expression/i);
    await page.locator('#search').fill('');
    expect(await found()).toBe(0);
    expect(errors).toEqual([]);
    await page.close();
  });

  test('on a phone, boxes are as wide as the screen, large enough to tap, and their names to read; dark where the phone is', async () => {
    const { page, errors } = await profile(PHONE, 'dark');
    expect(await page.evaluate<number>('innerWidth')).toBe(PHONE.width);
    expect(await widthOf(page, 'all')).toBeCloseTo(PHONE.width, 0);
    expect(await overflowPx(page)).toBe(0);
    const box = (await page.locator('g[data-name="main"] rect').first().boundingBox())!;
    expect(box.height).toBeGreaterThanOrEqual(24);
    expect(await page.evaluate<number>(`parseFloat(getComputedStyle(document.querySelector('g text')).fontSize)`)).toBeGreaterThanOrEqual(
      12,
    );
    await page.screenshot({ path: screenshotPath('flamegraph-phone'), fullPage: false });

    await page.locator('g[data-name="main"]').tap();
    expect(await details(page)).toMatch(/^main — /);
    expect(await widthOf(page, 'main')).toBeCloseTo(PHONE.width, 0);
    await page.evaluate('scrollTo(0, 200)');
    await until(async () => Math.abs((await page.locator('#head').boundingBox())!.y) < 1, 'the head stays in sight');
    expect(await contrasts(page)).toEqual([]);
    await page.screenshot({ path: screenshotPath('flamegraph-phone-zoomed'), fullPage: false });
    expect(errors).toEqual([]);
    await page.close();
  });
});

test.each([
  ['profiles', DESKTOP, 'light'],
  ['profiles-phone', PHONE, 'dark'],
] as const)('%s: the index of profiles leads to each of them', async (name, viewport, colorScheme) => {
  await using collector = await startCollector();
  const { page, errors } = await visit(`${collector.adminUrl}/debug/pprof/`, viewport, colorScheme);
  expect(await page.evaluate<string[]>(`[...document.links].map(({ pathname }) => pathname)`)).toEqual(
    ['flamegraph', 'profile', 'heap', 'allocs', 'stats'].map((path) => `/debug/pprof/${path}`),
  );
  expect(await overflowPx(page)).toBe(0);
  expect(await contrasts(page)).toEqual([]);
  await page.screenshot({ path: screenshotPath(name), fullPage: true });
  expect(errors).toEqual([]);
  await page.close();
});

/** Of the first box of a function. */
function widthOf(page: Page, name: string): Promise<number> {
  return page.evaluate<number>(
    `Number([...document.querySelectorAll('g[data-x]')].find((g) => g.dataset.name === ${JSON.stringify(name)})
      .querySelector('rect').getAttribute('width'))`,
  );
}

function details(page: Page): Promise<string | null> {
  return page.locator('#details').textContent();
}

interface Figure {
  readonly title: string;
  readonly figure: string;
}

function figures(page: Page): Promise<Figure[]> {
  return page.evaluate<Figure[]>(
    `[...document.querySelectorAll('#charts .card')].flatMap((card) =>
      [...card.querySelectorAll('b')].map((b) => ({ title: card.querySelector('h2').innerText, figure: b.innerText })))`,
  );
}

function linesWithPoints(page: Page): Promise<number> {
  return page.evaluate<number>(
    `[...document.querySelectorAll('#charts path')].filter((path) => path.getAttribute('d')?.includes('L')).length`,
  );
}

/** Texts that can hardly be told from what is behind them: less than 4.5 to 1 (WCAG 2.2, 1.4.3). What is half transparent is left out. */
function contrasts(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(`(() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => channels(color).slice(0, 3).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
      .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
      if (element.tagName === 'text') return getComputedStyle(element.parentElement.querySelector('rect')).fill;
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (channels(color)[3] !== 0) return color;
      }
      return getComputedStyle(document.documentElement).backgroundColor;
    };
    return [...document.querySelectorAll('body *, text, foreignObject *')]
      .filter((element) => element.checkVisibility() && !element.closest('.outer, .stale, :disabled'))
      .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
      .flatMap((element) => {
        const style = getComputedStyle(element);
        const [high, low] = [light(element.tagName === 'text' ? style.fill : style.color), light(behind(element))].sort((a, b) => b - a);
        const ratio = (high + 0.05) / (low + 0.05);
        return ratio < 4.5 ? [ratio.toFixed(1) + ' ' + element.outerHTML.slice(0, 120)] : [];
      });
  })()`);
}

/** Texts that do not fit into their element. */
function cutOff(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(`[...document.querySelectorAll('main *:not(svg, svg *)')]
    .filter((element) => element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1)
    .map((element) => element.outerHTML.slice(0, 200))`);
}

interface Checkout {
  readonly traceId?: string;
  readonly name?: string;
  readonly failed?: boolean;
  /** How many times as long as usual it takes. */
  readonly slower?: number;
}

/** A trace as a gateway sends it: four spans, the last of which fails. */
function checkout({
  traceId = '5b8efff798038103d269b633813fc60c',
  name = 'query Checkout',
  failed = true,
  slower = 1,
}: Checkout = {}): string {
  const startMs = Date.now() - 500 - 1_000 * slower;
  const span = (number: number, parent: number, spanName: string, fromMs: number, untilMs: number, rest: object = {}) => ({
    traceId,
    spanId: `eee19b7ec3c1b17${number}`,
    ...(parent > 0 && { parentSpanId: `eee19b7ec3c1b17${parent}` }),
    name: spanName,
    kind: 2,
    startTimeUnixNano: `${startMs + fromMs * slower}000000`,
    endTimeUnixNano: `${startMs + untilMs * slower}000000`,
    ...rest,
  });
  const failure = {
    status: { code: 2, message: 'reviews did not answer' },
    attributes: texts({ 'http.url': 'http://reviews/<i>', 'hive.subgraph.name': 'reviews' }),
    events: [
      { name: 'exception', timeUnixNano: `${startMs + 201 * slower}000000`, attributes: texts({ 'exception.type': 'TimeoutError' }) },
    ],
  };
  const spans = [
    span(1, 0, name, 0, 210),
    span(2, 1, 'graphql.parse', 2, 6),
    span(3, 1, 'subgraph products', 20, 130),
    span(4, 1, '<b>reviews</b>', 131, 205, failed ? failure : {}),
  ];
  return JSON.stringify({ resourceSpans: [{ resource: { attributes: texts({ 'service.name': 'gateway' }) }, scopeSpans: [{ spans }] }] });
}

function texts(values: Readonly<Record<string, string>>): object[] {
  return Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } }));
}
