import { expect, test } from 'vitest';
import { SentenceReader } from '../support/oracle/sentences.ts';

/* What faq.test.ts leans on: a line of the log is found however it is written. */

const logged = (code: string, more: Readonly<Record<string, string>> = {}) => new SentenceReader({ 'a.ts': code, ...more }).logged();

test.each([
  ['a string', `logger.warn('one')`, ['one']],
  ['an object', `this.logger.error({ size, msg: 'one' }, 'Context')`, ['one']],
  ['a template', 'logger.log({ msg: `one of ${many.length} and ${`more ${x}`}` })', ['one of … and …']],
  ['a branch', `logger.log(isLate ? 'one' : { msg: isEarly ? "two" : \`three\` })`, ['one', 'two', 'three']],
  ['a default', `logger.log({ msg: text ?? 'one' }); function f() { const text = 'two'; }`, undefined],
  ['a sum', `logger.log('one ' + (is ? 'and two' : 'and three') + \` of \${n}\`)`, ['one and two of …', 'one and three of …']],
  ['a constant', `const ONE = 'one'; function write() { logger.log(ONE); }`, ['one']],
  ['the nearest constant', `const text = 'one'; function write() { const text = 'two'; { logger.log(text); } }`, ['two']],
  ['an object made before', `const line = { msg: 'one' } as const; logger.debug(line)`, ['one']],
  ['msg alone', `const msg = 'one'; logger.debug({ msg })`, ['one']],
  [
    'a parameter',
    `function write(logger: Logger, text: string) { logger.warn({ msg: text }) }
    write(this.logger, 'one'); write(LOGGER, is ? 'two' : 'three')`,
    ['one', 'two', 'three'],
  ],
  ['a parameter that is left out', `function write(text = 'one') { logger.warn(text) } write(); write('two')`, ['one', 'two']],
  ['a method', `class A { say(text: string) { this.logger[this.level]({ msg: text }) } } a.b.say('one')`, ['one']],
  ['a field', `class A { private readonly text = 'one'; say() { logger.fatal(this.text) } }`, ['one']],
  ['a loop', `for (const line of lines) logger.log(line)`, undefined],
  ['a variable that changes', `function f() { let text = 'one'; text = 'two'; logger.log(text) }`, undefined],
  ['no log', `console.error('one'); Math.log(2); response.end('two')`, []],
] as const)('%s', (_, code, texts) => {
  const found = logged(code);
  if (texts === undefined) expect(found.unknown).toHaveLength(1);
  else expect(found).toEqual({ texts, unknown: [] });
});

test('a constant of another file, and a field that the constructor sets', () => {
  const line = `export class Line { constructor(logger: Logger, level: Level, sentence: string) { this.sentence = sentence }
    write() { this.logger[this.level]({ ...this.latest, msg: this.sentence }) } }`;
  const lines = `class A { line = new Line(this.logger, 'warn', 'one'); other = new Line(new Logger('A'), 'warn', TWO, 10) }`;
  expect(logged(lines, { 'b.ts': line, 'c.ts': `export const TWO = 'two'` })).toEqual({ texts: ['one', 'two'], unknown: [] });
});

test('the last argument of an error, but its options', () => {
  const first = "throw new AError('reason', `one ${x} of ${y}.${z}`, { cause })";
  const sources = new SentenceReader({ 'a/a.ts': first, 'b/b.ts': `new BError('two'); new AError('three. Run: ALTER')` });
  expect(sources.errors(['AError']).texts).toEqual(['one … of …', 'three. Run: …']);
  expect(sources.errors(['AError', 'BError'], 'b/').texts).toEqual(['two', 'three. Run: …']);
});

test('what functions of a type return and collect', () => {
  const code = `function a(): Warning[] { if (is) return [\`one \${x}\`, ...more]; return losses.map((loss) => \`two \${loss}\`) }
    async function b(): Promise<Warning[]> { list.push('three', ...(await more())); return list }
    function c(): Other[] { return ['four'] }`;
  expect(new SentenceReader({ 'a.ts': code }).returned('Warning')).toEqual({ texts: ['one …', 'two …', 'three'], unknown: [] });
});
