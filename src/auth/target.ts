import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import type { RequestTrace } from '../tracing/request-trace.ts';

/** Whose spans these are. */
export interface Target {
  /** The id Hive knows the target by; every row carries it as `hive.target_id`. */
  readonly id: string;
}

/** A request that AuthGuard has let through. */
export interface AuthenticatedRequest extends FastifyRequest {
  target: Target;
  /** Undefined if it is not traced. */
  trace: RequestTrace | undefined;
}

/** The parameter of a handler that is the target of the request. */
export const Target = createParamDecorator((_: unknown, context: ExecutionContext): Target => {
  return context.switchToHttp().getRequest<AuthenticatedRequest>().target;
});
