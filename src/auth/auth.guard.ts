import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { AuthService } from './auth.service.ts';
import type { AuthenticatedRequest, Target } from './target.ts';

/** Lets a request through once its target is known. Reads two headers and nothing of the body. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(private readonly auth: AuthService) {}

  /** @throws Refusal as AuthService.authenticate does */
  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    const target = this.auth.authenticateHeaders(request.headers);
    return target instanceof Promise ? target.then((found) => letThrough(request, found)) : letThrough(request, target);
  }
}

function letThrough(request: AuthenticatedRequest, target: Target): true {
  request.target = target;
  return true;
}
