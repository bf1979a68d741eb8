import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { SelfTracing } from '../tracing/self-tracing.ts';
import { Authenticator } from './authenticator.ts';
import type { AuthenticatedRequest, Target } from './target.ts';

/**
 * Nest guard: authenticates a request by two of its headers and sets `request.target`. It reads nothing of the body, and starts
 * the trace of a request that is sampled.
 */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly auth: Authenticator,
    private readonly tracing: SelfTracing,
  ) {}

  /** @throws Refusal as Authenticator.authenticateHeaders does */
  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const http = context.switchToHttp();
    const request = http.getRequest<AuthenticatedRequest>();
    request.trace = this.tracing.tracer?.request(request.raw, http.getResponse<FastifyReply>().raw);
    request.trace?.step('authenticate');
    const target = this.auth.authenticateHeaders(request.headers);
    return target instanceof Promise ? target.then((found) => letThrough(request, found)) : letThrough(request, target);
  }
}

function letThrough(request: AuthenticatedRequest, target: Target): true {
  request.target = target;
  return true;
}
