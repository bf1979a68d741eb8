import { BadRequestException, HttpException, HttpStatus, NotFoundException, NotImplementedException } from '@nestjs/common';

/* The error answers of this folder's endpoints. */

export const badParameters = (problems: readonly string[]) => new BadRequestException(problems.join(' '));
export const profilingOff = () => new NotFoundException('Profiling is off (ENABLE_PROFILING=false).');
export const nodeTooOld = () => new NotImplementedException(`Profiles need Node 26.1 or later; this is ${process.version}.`);
export const alreadyProfiling = () =>
  new HttpException(
    'Another profile is running, and only one can run at a time. Retry when it is done, or close its connection to end it.',
    HttpStatus.TOO_MANY_REQUESTS,
  );
/** Never sent: the connection is closed. */
export const senderGone = () => new HttpException('The client closed the connection.', 499);
