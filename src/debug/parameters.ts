import type { PipeTransform } from '@nestjs/common';
import { integer, type Values, type Variable } from '../config/variable.ts';
import { badParameters } from './refusals.ts';

type Parameters = Readonly<Record<string, Variable<unknown>>>;

const seconds = integer({ min: 1, max: 60, fallback: 10, unit: 's', help: 'How long the profile is taken.' });
const frequency = integer({
  min: 1,
  max: 1_000,
  fallback: 99,
  unit: 'Hz',
  help: 'How often each thread is sampled. V8 rounds the time between samples up to whole milliseconds.',
});

export const heapParameters = { seconds };
export const cpuParameters = { seconds, frequency };
export type HeapParameters = Values<typeof heapParameters>;
export type CpuParameters = Values<typeof cpuParameters>;

/** Validates the query of a URL with the same types as the environment variables. */
export class ParametersPipe<P extends Parameters> implements PipeTransform<Readonly<Record<string, unknown>>, Values<P>> {
  private readonly parameters: P;

  constructor(parameters: P) {
    this.parameters = parameters;
  }

  /** Parses the query. @throws BadRequestException that lists all problems */
  transform(query: Readonly<Record<string, unknown>>): Values<P> {
    const problems = Object.keys(query)
      .filter((name) => !Object.hasOwn(this.parameters, name))
      .map((name) => `${name} is not known here. Allowed: ${Object.keys(this.parameters).join(', ')}.`);
    const values: Record<string, unknown> = {};
    for (const [name, { schema, allowed, fallback }] of Object.entries(this.parameters)) {
      const given = query[name];
      const parsed = schema.safeParse(given);
      if (given === undefined) values[name] = fallback;
      else if (parsed.success) values[name] = parsed.data;
      else problems.push(`${name} is ${JSON.stringify(given)}. Allowed: ${allowed}.`);
    }
    if (problems.length > 0) throw badParameters(problems);
    return values as Values<P>;
  }
}
