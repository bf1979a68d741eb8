import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import type { RequestTrace } from '../tracing/request-trace.ts';

/** The Hive target that spans belong to. */
export interface Target {
  /** The target's id in Hive. Every row has it as the attribute `hive.target_id`. */
  readonly id: string;
}

/** A request that AuthGuard has accepted. */
export interface AuthenticatedRequest extends FastifyRequest {
  target: Target;
  /** Undefined if it is not traced. */
  trace: RequestTrace | undefined;
}

/** Parameter decorator: the target that AuthGuard has set. */
export const Target = createParamDecorator(
  (_: unknown, context: ExecutionContext): Target => context.switchToHttp().getRequest<AuthenticatedRequest>().target,
);
