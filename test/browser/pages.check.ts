import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startLoad } from '../support/clients/load.ts';
import { JSON_TYPE } from '../support/clients/otlp-client.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { type Browser, type Page, screenshotPath, type Size, startBrowser } from './browser.ts';

/* `npm run browser:check`: the pages of the admin port in a real browser. Its screenshots are for people to look at. */

const DESKTOP: Size = { width: 1280, height: 900 };
const PHONE: Size = { width: 375, height: 812 };
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
  const page = await browser.newPage({ viewport, colorScheme });
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
    collector = await startCollector({ program: 'local', env: { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(clickhousePort) } });
    await until(() => collector.output().includes('Ctrl-C stops both'), 'the instructions are printed');
  });
  afterAll(async () => {
    await collector.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test('shows a newcomer the first trace as it comes', async () => {
    const { page, errors } = await visit(collector.adminUrl, DESKTOP);
    await until(async () => (await text(page, '#traces')).includes('None yet: send one'), 'the page waits for a trace');
    await collector.send(checkout(), JSON_TYPE);
    await until(async () => (await page.locator('.trace .span').count()) === 4, 'the four spans show');

    expect(await page.locator('.trace .span > :first-child').allTextContents()).toEqual(['query Checkout', 'graphql.parse', 'subgraph products', '<b>reviews</b>']);
    const bars = await Promise.all([0, 1, 2, 3].map(async (row) => (await page.locator('.trace .bar').nth(row).boundingBox())!));
    expect(bars[2].x).toBeGreaterThan(bars[1].x);
    expect(bars[0].width).toBeGreaterThan(bars[2].width);
    expect(await page.locator('.bar.failed').count()).toBe(1);
    expect(errors).toEqual([]);
    await page.screenshot({ path: screenshotPath('first-trace'), fullPage: true });
    await page.close();
  });

  test.each([
    ['desktop-light', DESKTOP, 'light'],
    ['desktop-dark', DESKTOP, 'dark'],
    ['phone-light', PHONE, 'light'],
    ['phone-dark', PHONE, 'dark'],
  ] as const)('%s: every figure is there, every line is drawn, nothing is cut off, nothing comes from elsewhere', async (name, viewport, colorScheme) => {
    const { page, errors, origins } = await visit(collector.adminUrl, viewport, colorScheme);
    const load = startLoad(collector.url, { senders: 4, pauseMs: 20 });
    await collector.send('{', JSON_TYPE);
    await until(async () => (await figures(page)).every(({ figure }) => figure !== '–'), 'every chart has its figures');
    await until(async () => (await page.locator('#charts path').count()) > CHARTS && (await linesWithPoints(page)) >= CHARTS, 'the lines are drawn');
    await load.stop();

    expect(await page.locator('#charts .card').count()).toBe(CHARTS);
    expect(await text(page, '#condition')).toBe('takes spans');
    expect(await text(page, '#parts')).toMatch(/ClickHouse [^]*takes inserts[^]*Auth[^]*DISABLE_AUTH[^]*Disk buffer[^]*in order[^]*Dead letters[^]*none/);
    expect(await text(page, '#refusals')).toMatch(/400[^]*malformed/);
    expect(await overflowPx(page)).toBe(0);
    expect(await cutOff(page)).toEqual([]);
    expect(errors).toEqual([]);
    expect([...origins]).toEqual([collector.adminUrl]);
    await page.screenshot({ path: screenshotPath(name), fullPage: true });
    await page.close();
  });

  test('pointing at a chart shows the figures of that moment', async () => {
    const { page } = await visit(collector.adminUrl, DESKTOP);
    await until(async () => (await linesWithPoints(page)) > 0, 'the lines are drawn');
    await page.locator('#charts svg').first().hover();
    expect(await text(page, '#charts .card')).toMatch(/ ago/);
    await page.close();
  });
});

test('the status page says that ClickHouse is down, why, and when it is back', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector({ clickhouse });
  const { page, errors } = await visit(collector.adminUrl, PHONE);
  await until(async () => (await text(page, '#condition')) === 'takes spans', 'the page is live');
  await clickhouse.kill();
  await collector.send(checkout(), JSON_TYPE);
  await until(async () => /refuses spans: ClickHouse is not available/.test(await text(page, '#condition')), 'the page says that nothing is taken');
  expect(await text(page, '#parts')).toMatch(/takes no inserts since [^]*ECONNREFUSED/);
  expect(await overflowPx(page)).toBe(0);
  await page.screenshot({ path: screenshotPath('clickhouse-down'), fullPage: true });
  await clickhouse.restart();
  await until(async () => (await text(page, '#condition')) === 'takes spans', 'the page says that spans are taken again');
  expect(errors).toEqual([]);

  await collector.stop();
  await until(async () => /shuts down|no connection/.test(await text(page, '#condition')), 'the page says that the collector has gone');
  await page.close();
});

test('the flame graph: pointing shows a share, a click zooms, a search marks, and all of it can be undone', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector({ clickhouse });
  const load = startLoad(collector.url, { senders: 16, tracesPerRequest: 20 });
  const { page, errors } = await visit(`${collector.adminUrl}/debug/pprof/flamegraph?seconds=3`, DESKTOP);
  await load.stop();
  const widthOf = (name: string) => page.evaluate<number>(`Number([...document.querySelectorAll('g[data-x]')].find((g) => g.dataset.name === ${JSON.stringify(name)}).querySelector('rect').getAttribute('width'))`);
  const main = page.locator('g[data-name="main"]');
  const details = () => page.locator('#details').textContent();
  const found = () => page.locator('g.found').count();
  await page.screenshot({ path: screenshotPath('flamegraph'), fullPage: false });

  await main.hover();
  expect(await details()).toMatch(/^main — \d+\.\d+ %, \d+\.\d+ s, \d+ samples$/);
  const before = await widthOf('main');
  const narrow = await page.evaluate<string>(`[...document.querySelectorAll('g[data-d="2"]')].find((g) => g.dataset.w > 0.05 && g.dataset.w < 0.9).dataset.name`);
  const box = page.locator(`g[data-d="2"][data-name=${JSON.stringify(narrow)}]`).first();
  await box.click();
  expect(await widthOf(narrow)).toBeCloseTo(1200, 0);
  expect(await page.locator('g.hidden').count()).toBeGreaterThan(0);
  await page.screenshot({ path: screenshotPath('flamegraph-zoomed'), fullPage: false });
  await page.locator('#all').click();
  expect(await widthOf('main')).toBeCloseTo(before, 0);
  expect(await page.locator('g.hidden').count()).toBe(0);

  let answer = 'transcode';
  page.on('dialog', (dialog) => void dialog.accept(answer));
  await page.locator('#search').click();
  expect(await found()).toBeGreaterThan(0);
  expect(await details()).toMatch(/^Found: \d+\.\d+ %/);
  await page.screenshot({ path: screenshotPath('flamegraph-search'), fullPage: false });
  answer = '(';
  await page.keyboard.press('Control+f');
  expect(await details()).toMatch(/regular expression/i);
  answer = '';
  await page.keyboard.press('Control+f');
  expect(await found()).toBe(0);
  expect(errors).toEqual([]);
  await page.close();
});

test('the index of profiles leads to each of them', async () => {
  await using collector = await startCollector();
  const { page, errors } = await visit(`${collector.adminUrl}/debug/pprof/`, PHONE);
  expect(await page.evaluate<string[]>(`[...document.links].map(({ pathname }) => pathname)`)).toEqual(['flamegraph', 'profile', 'heap', 'allocs', 'stats'].map((name) => `/debug/pprof/${name}`));
  expect(await overflowPx(page)).toBe(0);
  await page.screenshot({ path: screenshotPath('profiles'), fullPage: true });
  expect(errors).toEqual([]);
  await page.close();
});

interface Figure {
  readonly title: string;
  readonly figure: string;
}

function figures(page: Page): Promise<Figure[]> {
  return page.evaluate<Figure[]>(`[...document.querySelectorAll('#charts .card')].flatMap((card) => [...card.querySelectorAll('b')].map((b) => ({ title: card.querySelector('h2').innerText, figure: b.innerText })))`);
}

function linesWithPoints(page: Page): Promise<number> {
  return page.evaluate<number>(`[...document.querySelectorAll('#charts path')].filter((path) => path.getAttribute('d')?.includes('L')).length`);
}

/** Texts that do not fit into their element. Names of spans end in dots, on purpose. */
function cutOff(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(`[...document.querySelectorAll('main *:not(svg, svg *)')]
    .filter((element) => !element.closest('.trace') && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1)
    .map((element) => element.outerHTML.slice(0, 200))`);
}

/** A trace as a gateway sends it: four spans, one of which has failed. */
function checkout(): string {
  const startMs = Date.now() - 500;
  const traceId = '5b8efff798038103d269b633813fc60c';
  const span = (number: number, parent: number, name: string, fromMs: number, untilMs: number, failed = false) => ({
    traceId,
    spanId: `eee19b7ec3c1b17${number}`,
    ...(parent > 0 && { parentSpanId: `eee19b7ec3c1b17${parent}` }),
    name,
    kind: 2,
    startTimeUnixNano: `${startMs + fromMs}000000`,
    endTimeUnixNano: `${startMs + untilMs}000000`,
    ...(failed && { status: { code: 2 } }),
  });
  const spans = [span(1, 0, 'query Checkout', 0, 210), span(2, 1, 'graphql.parse', 2, 6), span(3, 1, 'subgraph products', 20, 130), span(4, 1, '<b>reviews</b>', 131, 205, true)];
  return JSON.stringify({ resourceSpans: [{ resource: { attributes: [{ key: 'service.name', value: { stringValue: 'gateway' } }] }, scopeSpans: [{ spans }] }] });
}
