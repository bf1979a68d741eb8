import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';

/** Whose spans these are. */
export interface Target {
  /** The id Hive knows the target by; every row carries it as `hive.target_id`. */
  readonly id: string;
}

/** A request that AuthGuard has let through. */
export interface AuthenticatedRequest extends FastifyRequest {
  target: Target;
}

/** The parameter that takes the target AuthGuard found out. */
export const Target = createParamDecorator(
  (_: unknown, context: ExecutionContext): Target => context.switchToHttp().getRequest<AuthenticatedRequest>().target,
);
