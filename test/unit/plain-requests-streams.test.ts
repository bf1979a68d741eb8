import { test, vi } from 'vitest';
import { expectSameAnswers, expectStoredIsAnswered } from '../support/clients/plain-requests.ts';

// As in a Node whose sockets can't be read into the same memory.
vi.mock('../../src/runtime/reused-reads.ts', () => ({ readReused: () => false }));

test('600 random connections are answered the same when they are read as streams', { timeout: 120_000 }, () => expectSameAnswers(1, 600));

test('what 600 random connections store is what they are answered, when they are read as streams', { timeout: 240_000 }, () =>
  expectStoredIsAnswered(1, 600),
);
