import { test, vi } from 'vitest';
import { expectSameAnswers } from '../support/whole-requests.ts';

// As in a Node whose sockets can't be read into the same memory.
vi.mock('../../src/server/reused-reads.ts', () => ({ readReused: () => false }));

test('600 random connections are answered the same when they are read as streams', { timeout: 120_000 }, () => expectSameAnswers(1, 600));
